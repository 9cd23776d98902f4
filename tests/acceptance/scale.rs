//! Scaling a service of a real engine: replicas are made, become healthy, answer, and go again.

use serde_json::json;

use super::lab::Site;
use super::systems;

const SCALE: &str = r#"
runbook(#{ title: "scale", params: #{ to: #{ type: "int", required: true } }, allow: #{ docker: ["scale:backend"] } });
let scaled = step("scale", #{ verify: || service::state("backend").running == params::to }, || service::scale("backend", params::to));
let state = service::state("backend");
check("all are healthy", || state.healthy == params::to && state.running == params::to);
output("created", scaled.created);
output("removed", scaled.removed);
"#;

#[test]
fn a_service_grows_and_shrinks_and_the_system_stays_well() {
    let Some(mut site) = Site::of(&systems::AI_HUB) else { return };
    site.adds("scale", SCALE);
    let grown = site.run("scale", &["to=3"]);
    assert_eq!(grown.code, 0, "{}", grown.stderr);
    assert_eq!(grown.answer["outputs"]["created"].as_array().unwrap().len(), 2, "{}", grown.answer);
    let look = site.look();
    assert_eq!(look.code, 0, "{:?}\n{}", look.findings(), look.stderr);
    let again = site.run("scale", &["to=3"]);
    assert_eq!((again.code, &again.answer["outputs"]["created"]), (0, &json!([])), "{}", again.stderr);
    let shrunk = site.run("scale", &["to=1"]);
    assert_eq!(shrunk.code, 0, "{}", shrunk.stderr);
    let mut removed = shrunk.answer["outputs"]["removed"].as_array().unwrap().clone();
    removed.reverse();
    assert_eq!(json!(removed), grown.answer["outputs"]["created"], "the last ones go first");
    assert_eq!(site.look().code, 0);
}
