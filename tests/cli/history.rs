//! `runbook history`, and what else looks back for a while.

use crate::harness::Project;

const GOOD: &str = "runbook(#{ title: \"good\" });\ncheck(\"fine\", || true);";

#[test]
fn a_look_back_before_all_time_shows_everything() {
    let done = Project::new().runbook("good", GOOD).command(["run", "good"]).succeeds();
    let done = done.then(["history", "--since", "4400000d"]).succeeds().says("good");
    let done = done.then(["audit", "list", "--since", "4400000d"]).succeeds();
    let _ = done.then(["incident", "list", "--since", "4400000d"]).succeeds();
}
