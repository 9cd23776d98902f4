//! What operators see: the runbooks against five real systems, each broken in every way the lab knows.
//!
//! The lab is brought up by `tests/run`. Without it these tests are not run, and say so.

mod check_metrics;
mod health;
pub(crate) mod lab;
mod logs;
mod machine;
mod notices;
mod postgres;
mod recover_database;
mod recover_disk;
mod recover_machine;
mod recover_service;
mod renew_certificate;
mod scale;
pub(crate) mod systems;
mod unattended;

/// A test for each system of the lab. Neighbours in the order of names are of different systems, which do not wait for each other.
macro_rules! in_every_system {
    ($($(#[$meta:meta])* fn $name:ident($site:ident) $body:block)+) => { $(
        mod $name {
            use super::*;

            fn body($site: &mut Site) $body

            fn run(system: &'static systems::System) {
                if let Some(mut site) = Site::of(system) {
                    body(&mut site);
                }
            }

            #[test]
            fn ai_hub() {
                run(&systems::AI_HUB);
            }

            #[test]
            fn ai_notebook() {
                run(&systems::AI_NOTEBOOK);
            }

            #[test]
            fn education() {
                run(&systems::EDUCATION);
            }

            #[test]
            fn fin_pre_assist() {
                run(&systems::FIN_PRE_ASSIST);
            }

            #[test]
            fn football() {
                run(&systems::FOOTBALL);
            }
        }
    )+ };
}
use in_every_system;

#[test]
fn the_lab_is_up_or_this_says_that_it_is_not() {
    let Some(lab) = lab::lab() else { return };
    assert!(lab.state.join("ca/ca.pem").exists(), "RUNBOOK_LAB_STATE does not name the lab's directory: {}", lab.state.display());
}
