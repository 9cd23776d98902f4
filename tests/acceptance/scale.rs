//! Scaling a service of a real engine: replicas are made, become healthy, answer, and go again.

use serde_json::json;

use super::lab::Site;
use super::systems;
use crate::harness::wait_until;

const SCALE: &str = r#"
runbook(#{
    title: "scale",
    params: #{ service: #{ required: true }, to: #{ type: "int", required: true } },
    allow: #{ docker: ["scale:backend", "scale:app"] },
});
let name = params::service;
let scaled = step("scale", #{ verify: || service::state(name).running == params::to }, || service::scale(name, params::to));
let state = service::state(name);
check("all are healthy", || state.healthy == params::to && state.running == params::to);
output("created", scaled.created);
output("removed", scaled.removed);
"#;

#[test]
fn a_service_grows_and_shrinks_and_the_system_stays_well() {
    let Some(mut site) = Site::of(&systems::AI_HUB) else { return };
    site.adds("scale", SCALE);
    let grown = site.run("scale", &["service=backend", "to=3"]);
    assert_eq!(grown.code, 0, "{}", grown.stderr);
    assert_eq!(grown.answer["outputs"]["created"].as_array().unwrap().len(), 2, "{}", grown.answer);
    let look = site.look();
    assert_eq!(look.code, 0, "{:?}\n{}", look.findings(), look.stderr);
    let again = site.run("scale", &["service=backend", "to=3"]);
    assert_eq!((again.code, &again.answer["outputs"]["created"]), (0, &json!([])), "{}", again.stderr);
    let shrunk = site.run("scale", &["service=backend", "to=1"]);
    assert_eq!(shrunk.code, 0, "{}", shrunk.stderr);
    let mut removed = shrunk.answer["outputs"]["removed"].as_array().unwrap().clone();
    removed.reverse();
    assert_eq!(json!(removed), grown.answer["outputs"]["created"], "the last ones go first");
    // The proxy asks each second who is there, and waits two for one that is not.
    wait_until("the proxy has forgotten them", || site.look().code == 0);
}

/// Limits that are passed on a busy machine too; nothing changes a second time within the test.
const LIMITS: &str = "[scaling.app]\nmin = 1\nmax = 3\nstep = 1\nmetrics = [\"cpu\"]\nup = 5\ndown = 1\nfor = \"1h\"\ncooldown = \"1h\"";

#[test]
fn a_busy_service_gets_one_more_replica_once() {
    let Some(mut site) = Site::of(&systems::FOOTBALL) else { return };
    site.adds("scale", SCALE);
    site.amends(LIMITS);
    site.breaks("cpu", "");
    let busy = site.run("scale-auto", &["over=10s"]);
    let row = &busy.answer["outputs"]["replicas"]["rows"][0];
    assert_eq!((busy.code, &row["from"], &row["to"]), (0, &json!(1), &json!(2)), "{}", busy.stderr);
    let again = site.run("scale-auto", &["over=10s"]);
    let row = &again.answer["outputs"]["replicas"]["rows"][0];
    assert_eq!((again.code, &row["from"], &row["to"]), (0, &json!(2), &json!(2)), "{}", again.stderr);
    site.mend();
    assert_eq!(site.run("scale", &["service=app", "to=1"]).code, 0);
}
