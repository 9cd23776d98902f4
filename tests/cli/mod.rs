//! Commands, as a user types them.

mod cancel;
mod completions;
mod config;
mod docs;
mod doctor;
mod init;
mod log;
mod new;
mod run;
mod secret;
