//! The one integration-test binary. Each module is about one thing; `harness` is what they share.

#![expect(clippy::unwrap_used, reason = "a test that meets what it does not expect has failed")]

mod acceptance;
mod checklist;
mod cli;
mod containment;
mod daemon;
mod denied;
mod diagnostics;
mod docs;
mod embed;
mod harness;
mod hostile;
mod integrity;
mod outbox;
mod pages;
mod permissions;
mod plan;
mod policy;
mod rebinding;
mod resume;
mod runbooks;
mod scaling;
mod secrets;
mod security;
mod subruns;
mod tidy;
