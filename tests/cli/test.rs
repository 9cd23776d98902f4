//! `runbook test`.

use crate::harness::Project;

const RESTART: &str = r#"
runbook(#{
    title: "Restart what does not run",
    params: #{ name: #{ def: "web" }, token: #{ type: "secret" } },
    allow: #{ docker: ["inspect:*", "restart:*"], fs: #{ read: ["/srv"], write: ["/srv"] }, exec: ["/bin/echo"], store: ["write:*"] },
});
let state = docker::inspect(params::name).state;
log(`it is ${state}`);
if state != "running" {
    step("restart", || docker::restart(params::name));
    step("note", || fs::write("/srv/restarted", time::now()));
    store::put("restarts", store::get_or("restarts", 0) + 1);
}
wait("1h");
check("it runs", || docker::inspect(params::name).state == "running");
output("at", time::now());
"#;

fn project(cases: &str) -> Project {
    Project::new().runbook("revive", RESTART).file("runbooks/revive.test.toml", cases)
}

const STOPPED: &str = r#"
[[case]]
name = "what stopped is restarted"
now = 2026-11-21T08:30:00Z
stored = { restarts = 2 }

[[case.answer]]
call = "docker::inspect"
with = ["web"]
returns = { state = "exited" }

[[case.answer]]
call = "docker::inspect"
with = ["web"]
returns = { state = "running" }

[case.expect]
status = "succeeded"
exit_code = 0
checks = { "it runs" = "ok" }
steps = { restart = "succeeded" }
effects = ["docker::restart web", "fs::write /srv/restarted", "store::put restarts"]
stored = { restarts = 3 }
log = ["it is exited"]
"#;

#[test]
fn a_case_passes_when_everything_is_as_expected() {
    let done = project(STOPPED).command(["test"]).succeeds();
    let _ = done.says("PASS [").says("revive: what stopped is restarted").talks("1 case: 1 passed, 0 failed");
}

#[test]
fn nothing_is_touched() {
    let done = project(STOPPED).command(["test", "--json"]).succeeds();
    let json = done.json();
    let at = &json["cases"][0]["run"]["outputs"]["at"];
    assert!(at.as_str().unwrap().starts_with("2026-11-21T09:30:00"), "an hour was waited for, by the clock of the case: {at}");
    assert!(!done.project.state().exists(), "the record of the user is not there");
    assert!(!std::path::Path::new("/srv/restarted").exists());
}

#[test]
fn a_read_without_an_answer_fails_the_case_and_shows_what_to_add() {
    let done = project("[[case]]\nname = \"a\"\n").command(["test", "revive"]).exits(1);
    let done = done.says("FAIL").says("[[case.answer]]").says("call = \"docker::inspect\"").says("with = [\"web\"]");
    // No `try` and no check turns it into something else.
    let caught = "runbook(#{ title: \"t\", allow: #{ sys: [\"*\"] } }); try { sys::load(); } catch (e) { log(\"caught\"); } check(\"a\", || sys::load());";
    let done =
        done.project.runbook("caught", caught).file("runbooks/caught.test.toml", "[[case]]\nname = \"a\"\n[case.expect]\nerror = {}\n");
    let _ = done.command(["test", "caught"]).exits(1).says("call = \"sys::load\"");
}

#[test]
fn what_differs_is_told_line_by_line() {
    let cases = STOPPED
        .replace("\"it runs\" = \"ok\"", "\"it runs\" = \"critical\", \"it rnus\" = \"ok\"")
        .replace("[\"docker::restart web\", ", "[\"docker::restart web\", \"docker::stop web\", ")
        .replace("it is exited", "it is gone");
    let done = project(&cases).command(["test"]).exits(1);
    let done =
        done.says("check `it runs`: found ok, expected critical").says("check `it rnus`: found it was not asked; there are `it runs`");
    let _ = done.says("- docker::stop web").says("  fs::write /srv/restarted").says("a line `it is gone`").talks("0 passed, 1 failed");
}

#[test]
fn an_error_nobody_expects_fails_a_case_whatever_its_status() {
    let thrown = "[[case]]\nname = \"a\"\n[[case.answer]]\ncall = \"docker::inspect\"\nthrows = { kind = \"not_found\", message = \"no such thing\" }\n[case.expect]\nstatus = \"failed\"\n";
    let done = project(thrown).command(["test"]).exits(1).says("no such thing").says("runbooks/revive.rhai:7");
    let expected = format!("{thrown}error = {{ kind = \"not_found\", message = \"no such*\" }}\n");
    let _ = done.project.file("runbooks/revive.test.toml", &expected).command(["test"]).succeeds();
}

#[test]
fn mistakes_in_the_file_have_a_place_and_a_hint() {
    let wrong = |cases: &str| project(cases).command(["test"]).exits(2);
    let _ = wrong("[[case]]\nname = \"a\"\n[case.expect]\nstaus = \"failed\"\n").talks("revive.test.toml:4:1").talks("`status`");
    let _ = wrong("[[case]]\nname = \"a\"\n[[case.answer]]\ncall = \"docker::inspct\"\n")
        .talks("test.toml:4:8")
        .talks("did you mean `docker::inspect`?");
    let _ = wrong("[[case]]\nname = \"a\"\n[[case.answer]]\ncall = \"time::now\"\n").talks("`now`");
    let _ = wrong("[[case]]\nname = \"a\"\nparams = { nmae = \"x\" }\n").talks("did you mean `name`?").talks("test.toml:3");
    let _ = wrong("system = \"hots\"\n[[case]]\nname = \"a\"\n").talks("did you mean `host`?").talks("test.toml:1");
}

#[test]
fn an_answer_that_nothing_asks_for_fails_its_case() {
    let more = format!("{STOPPED}\n[[case.answer]]\ncall = \"sys::load\"\n");
    let _ = project(&more).command(["test"]).exits(1).says("answer to `sys::load`");
    let shared = format!("[[answer]]\ncall = \"sys::load\"\n{STOPPED}");
    let _ = project(&shared).command(["test"]).succeeds();
}

#[test]
fn a_change_whose_answer_decides_has_to_be_answered() {
    let text = "runbook(#{ title: \"t\", allow: #{ exec: [\"/bin/echo\"] } });\nlet said = step(\"say\", || exec::run([\"/bin/echo\", \"a\"]));\nlog(`${said}`);\nif said.stdout == \"a\" { log(\"yes\"); }";
    let done = Project::new().runbook("say", text).file("runbooks/say.test.toml", "[[case]]\nname = \"a\"\n").command(["test"]).exits(1);
    let done = done.says("which the test does not say").says("call = \"exec::run\"").says("with = [[\"/bin/echo\", \"a\"]]");
    let answered = "[[case]]\nname = \"a\"\n[[case.answer]]\ncall = \"exec::run\"\nreturns = { stdout = \"a\" }\n[case.expect]\nlog = [\"yes\"]\neffects = [\"exec::run /bin/echo a\"]\n";
    let _ = done.project.file("runbooks/say.test.toml", answered).command(["test"]).succeeds();
}

#[test]
fn permissions_and_options_hold_in_a_test() {
    let run = |body: &str| {
        let text = format!(
            "runbook(#{{ title: \"t\", allow: #{{ fs: #{{ read: [\"/srv\"] }}, docker: [\"logs:*\"] }} }});\nlet path = \"/etc/\" + \"x\";\n{body}"
        );
        let cases =
            "[[case]]\nname = \"a\"\n[[answer]]\ncall = \"fs::read\"\nreturns = \"x\"\n[[answer]]\ncall = \"docker::logs\"\nreturns = []\n";
        Project::new().runbook("look", &text).file("runbooks/look.test.toml", cases).command(["test"]).exits(1)
    };
    let _ = run("fs::read(path);").says("`read` on `/etc/x` is not allowed");
    let _ = run("let options = #{}; options.tial = 3; docker::logs(\"web\", options);").says("unknown option `tial`");
}

#[test]
fn people_and_other_runs_are_answered_too() {
    let text = "runbook(#{ title: \"t\", allow: #{ runs: [\"backup\"] } });\nlet said = ask(\"go on?\");\nlog(`${said.by[0]} says yes`);\nlet done = run(\"backup\", #{ keep: 7 });\noutput(\"set\", done.outputs.set);";
    let project = Project::new().runbook("both", text).file("runbooks/both.test.toml", "[[case]]\nname = \"a\"\n");
    let done = project.command(["test"]).exits(1).says("call = \"ask\"").says("approved = true");
    let cases = "[[case]]\nname = \"a\"\n[[case.answer]]\ncall = \"ask\"\nreturns = { approved = true, by = [\"jo\"] }\n[[case.answer]]\ncall = \"run\"\nwith = [\"backup\", { keep = 7 }]\nreturns = { outputs = { set = \"x\" } }\n[case.expect]\nstatus = \"succeeded\"\nlog = [\"jo says yes\"]\noutputs = { set = \"x\" }\n";
    let done = done.project.file("runbooks/both.test.toml", cases).command(["test"]).succeeds();
    let no = "[[case]]\nname = \"a\"\n[[case.answer]]\ncall = \"ask\"\nthrows = { kind = \"refused\", message = \"not tonight\" }\n[case.expect]\nerror = { kind = \"refused\", message = \"*not tonight\" }\n";
    let _ = done.project.file("runbooks/both.test.toml", no).command(["test"]).succeeds();
}

#[test]
fn where_there_is_no_test_nothing_passes() {
    let done = Project::new().runbook("a", "runbook(#{ title: \"t\" });").command(["test"]).exits(2).talks("there are no tests");
    let done = done.then(["test", "a"]).exits(2).talks("runbooks/a.test.toml").talks("[[case]]");
    let done = done.project.file("runbooks/a.test.toml", "[[case]]\nname = \"it ends\"\n").command(["test", "--filter", "x"]).exits(2);
    let done =
        done.then(["test", "a", "-p", "x=1"]).exits(2).talks("stand in the cases").project.command(["test", "--filter", "x"]).exits(2);
    let done = done.talks("no case has `x`").then(["test", "--filter", "ends"]).succeeds();
    let broken = done.project.runbook("a", "runbook(#{ title: \"t\" });\nlgo(1);");
    let _ = broken.command(["test"]).exits(4).talks("unknown function `lgo`");
}

#[test]
fn the_built_in_runbooks_pass_their_tests() {
    let done = Project::new().command(["test", "--builtin", "--json"]).succeeds();
    let json = done.json();
    let runbooks: std::collections::BTreeSet<&str> =
        json["cases"].as_array().unwrap().iter().map(|case| case["runbook"].as_str().unwrap()).collect();
    assert!(["check-health", "check-logs", "notify"].iter().all(|name| runbooks.contains(name)), "{runbooks:?}");
    assert_eq!(json["failed"], 0);
}
