//! Commands, as a user types them.

mod run;
