//! `runbook show`.

use crate::harness::Project;

#[test]
fn the_range_of_a_parameter_is_told_as_one_types_it() {
    let runbook = r#"runbook(#{ title: "t", params: #{ window: #{ type: "duration", def: "1h", min: "1m", max: "7d" } } });"#;
    let done = Project::new().runbook("a", runbook).command(["show", "a"]).succeeds();
    let _ = done.says("default 1h").says("(1m..7d)");
}
