//! The one integration-test binary. Each module is about one thing; `harness` is what they share.

mod cli;
mod harness;
mod hostile;
mod tidy;
