//! Commands, as a user types them.

mod cancel;
mod chaos;
mod check;
mod completions;
mod config;
mod docs;
mod doctor;
mod explain;
mod history;
mod incident;
mod init;
mod locks;
mod log;
mod new;
mod register;
mod rules;
mod run;
mod schedule;
mod secret;
mod show;
mod test;
