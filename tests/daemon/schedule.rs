//! What the daemon has run by itself: when, once, and not when somebody says so.

use runbook::model::{Reason, RunState, Tick, TickOutcome, Trigger};
use runbook::store::{Filter, Sqlite, StateDir, Store, TickFilter, Ticks};

use super::{GATED, project, read, there, write};
use crate::harness::sink::Sink;
use crate::harness::{Project, note, wait_until};

/// Says so in a file, each time.
const COUNTS: &str = r#"
runbook(#{ title: "t", allow: #{ fs: #{ read: ["DIR"], write: ["DIR"] } } });
step("count", #{ idempotent: "count" }, || fs::append("DIR/count", "x\n"));
"#;

/// A system with this text.
fn shop(project: Project, text: &str) -> Project {
    project.file("runbooks/systems/shop.toml", &format!("title = \"Shop\"\ncode = \"SH\"\n{text}\n"))
}

fn store(project: &Project) -> Sqlite {
    Sqlite::open(&StateDir::open(&project.state()).unwrap().database()).unwrap()
}

fn ticks(project: &Project) -> Vec<Tick> {
    store(project).ticks(&TickFilter::default()).unwrap()
}

fn started(project: &Project) -> Vec<Tick> {
    ticks(project).into_iter().filter(|tick| matches!(tick.outcome, TickOutcome::Started { .. })).collect()
}

/// The ticks that did not start for this reason.
fn left_out(project: &Project, reason: Reason) -> usize {
    ticks(project).iter().filter(|tick| tick.outcome.cause().is_some_and(|cause| cause.reason == reason)).count()
}

/// How many runs schedules have in this state; all of theirs without one.
fn runs(project: &Project, state: Option<RunState>) -> usize {
    let filter = Filter { states: state.into_iter().collect(), ..Filter::default() };
    store(project).list(&filter).unwrap().iter().filter(|run| store(project).run(run.id).unwrap().trigger == Trigger::Schedule).count()
}

#[test]
fn what_is_due_runs_and_its_tick_says_so() {
    let project = shop(project(&[("test", COUNTS)]), "[schedules.test]\ncron = \"* * * * * *\"\n");
    let daemon = project.serve();
    wait_until("it ran twice", || runs(&project, Some(RunState::Succeeded)) >= 2);
    let done = project.command(["status"]).succeeds().says("1 schedule of shop, next shop/test 2");
    daemon.stop();
    for tick in started(&done.project) {
        let TickOutcome::Started { run: number } = tick.outcome else { unreachable!() };
        let run = store(&done.project).run(tick.id).unwrap();
        assert_eq!((run.run, run.trigger, run.system.as_deref(), run.by.as_str()), (number, Trigger::Schedule, Some("shop"), "schedule"));
        assert!(run.started >= tick.due);
    }
    let _ = done.then(["audit", "verify"]).succeeds();
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the daemon of the test lives by the clock of the machine")]
fn a_moment_that_was_is_no_moment_for_the_next_daemon() {
    let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(15);
    let project = shop(project(&[("test", COUNTS)]), &format!("[schedules.test]\nat = \"{}\"\n", soon.strftime("%Y-%m-%dT%H:%M:%SZ")));
    let daemon = project.serve();
    wait_until("it ran", || runs(&project, Some(RunState::Succeeded)) == 1);
    daemon.stop();
    let daemon = project.serve();
    daemon.stop();
    assert_eq!((read(&project, "count").as_str(), ticks(&project).len()), ("x\n", 1));
}

#[test]
fn systems_that_are_no_files_here_run_nothing_unless_they_are_named() {
    let project = Project::new().runbook("test", COUNTS);
    let daemon = project.serve();
    let done = project.command(["status", "--json"]).succeeds();
    assert_eq!(done.json()["daemon"]["schedules"]["count"], 0);
    let project = done.project.file("runbook.toml", "daemon.systems = [\"ai-notebook\"]\n");
    daemon.signal("HUP");
    wait_until("it is live", || project.daemon_log().contains("settings were read again"));
    // Its databases are not here, nor are its secrets.
    let done = project.command(["status", "--json"]).exits(1);
    let schedules = done.json()["daemon"]["schedules"].clone();
    assert_eq!(schedules["systems"], serde_json::json!(["ai-notebook"]));
    assert!(schedules["count"].as_u64().unwrap() > 5, "{schedules}");
}

#[test]
fn a_run_that_is_longer_than_its_period_keeps_the_next_ones_out() {
    let text = "[schedules.test]\ncron = \"* * * * * *\"\nparams = { name = \"a\" }\n";
    let project = shop(project(&[("test", GATED)]), text);
    let _daemon = project.serve();
    wait_until("moments were left out", || left_out(&project, Reason::Overlap) >= 2);
    assert_eq!((started(&project).len(), runs(&project, None)), (1, 1));
    write(&project, "a.go");
    wait_until("the next one ran", || runs(&project, Some(RunState::Succeeded)) >= 2);
}

#[test]
fn a_run_is_replaced_by_the_next_one() {
    let text = "[schedules.test]\ncron = \"* * * * * *\"\noverlap = \"replace\"\nparams = { name = \"a\" }\n";
    let project = shop(project(&[("test", GATED)]), text);
    let _daemon = project.serve();
    wait_until("two were replaced", || runs(&project, Some(RunState::Cancelled)) >= 2);
    assert!(there(&project, "a.undone") && !there(&project, "a.ended"));
}

#[test]
fn schedules_are_read_again_and_one_that_is_wrong_silences_no_other() {
    let project = shop(project(&[("test", COUNTS)]), "");
    let daemon = project.serve();
    let project = shop(project, "[schedules.test]\ncron = \"* * * * * *\"\n");
    daemon.signal("HUP");
    wait_until("it runs", || there(&project, "count"));
    // The file of the system is broken: what it had stays due. Another one is new, and in order.
    let project = shop(project, "[schedules.test]\ncron = \"60 * * * *\"\n")
        .file("runbooks/systems/blog.toml", "title = \"Blog\"\ncode = \"BL\"\n[schedules.test]\nevery = \"1s\"\n");
    daemon.signal("HUP");
    wait_until("the new one runs", || started(&project).iter().any(|tick| tick.schedule == "blog/test"));
    // What was due is not forgotten: its moments say why nothing runs.
    wait_until("the old one says why", || left_out(&project, Reason::Refused) >= 2);
    let _ = project.command(["status"]).exits(1).says("2 schedules of blog, shop").says("60");
}

#[test]
fn while_everything_is_paused_nothing_starts_by_itself() {
    let text = "[schedules.test]\ncron = \"* * * * * *\"\noverlap = \"queue\"\nparams = { name = \"a\" }\n\
                [schedules.other]\ncron = \"* * * * * *\"\n";
    let project = shop(project(&[("test", GATED), ("other", COUNTS)]), text).file("runbook.toml", "limits.runs = 1\n");
    let daemon = project.serve();
    wait_until("one runs and others wait", || there(&project, "a.begun") && ticks(&project).len() > 3);
    let done = project.command(["schedule", "pause", "--all", "--reason", "the shop moves"]).succeeds();
    let had = done.project.path().join("work/count");
    let counted = || std::fs::read_to_string(&had).unwrap_or_default().len();
    let (before, begun) = (counted(), runs(&done.project, Some(RunState::Succeeded)));
    // The place becomes free, and nothing takes it.
    write(&done.project, "a.go");
    wait_until("what went on has ended", || runs(&done.project, Some(RunState::Succeeded)) == begun + 1);
    wait_until("moments are left out", || left_out(&done.project, Reason::Paused) >= 2);
    let done = done.then(["status"]).succeeds().says("paused by maya");
    daemon.kill();
    let daemon = done.project.serve();
    let (again, skipped) = (runs(&done.project, Some(RunState::Running)), left_out(&done.project, Reason::Paused));
    wait_until("more are left out", || left_out(&done.project, Reason::Paused) >= skipped + 2);
    assert_eq!((counted(), again, runs(&done.project, Some(RunState::Succeeded))), (before, 0, begun + 1));
    // What a person asks for runs.
    let done = done.then(["run", "test", "-p", "name=b", "--detach"]).succeeds();
    wait_until("it runs", || there(&done.project, "b.begun"));
    write(&done.project, "b.go");
    wait_until("it has ended", || there(&done.project, "b.ended"));
    let done = done.then(["schedule", "resume", "--all"]).succeeds();
    wait_until("it goes on", || counted() > before);
    daemon.stop();
    let _ = done.then(["audit", "verify"]).succeeds();
}

#[test]
fn people_hear_once_that_it_fails_and_once_that_it_is_well_again() {
    let sink = Sink::new();
    let text = r#"
runbook(#{ title: "t", allow: #{ fs: #{ read: ["DIR"], write: ["DIR"] } } });
step("look", #{ idempotent: "look" }, || if !fs::exists("DIR/well") { throw "the shop is closed"; });
"#;
    let system = format!(
        "[schedules.test]\ncron = \"* * * * * *\"\n[routes]\ncritical = [\"ops\"]\n[contacts.ops]\nkind = \"webhook\"\nurl = \"{}\"\n",
        sink.url("webhook")
    );
    let project = shop(project(&[("test", text)]), &system);
    let _daemon = project.serve();
    wait_until("it failed again and again", || runs(&project, Some(RunState::Failed)) >= 3);
    wait_until("people are told", || !sink.accepted("webhook").is_empty());
    write(&project, "well");
    wait_until("it was well again and again", || runs(&project, Some(RunState::Succeeded)) >= 3);
    wait_until("people are told", || sink.accepted("webhook").len() >= 2);
    std::fs::remove_file(project.path().join("work/well")).unwrap();
    wait_until("people are told", || sink.accepted("webhook").len() >= 3);
    let told = sink.accepted("webhook");
    let subjects: Vec<&str> = told.iter().filter_map(|message| message["json"]["subject"].as_str()).collect();
    assert_eq!(subjects.len(), 3, "{told:?}");
    assert_eq!(subjects, ["[sev2] Shop: test failed", "[sev2 recovered] Shop: test failed", "[sev2] Shop: test failed"]);
    assert!(told[0].to_string().contains("the shop is closed"));
}

#[test]
fn what_can_not_start_is_said_by_its_tick_and_to_people() {
    let sink = Sink::new();
    let system = format!(
        "[schedules.test]\ncron = \"* * * * * *\"\n[routes]\ncritical = [\"ops\"]\n[contacts.ops]\nkind = \"webhook\"\nurl = \"{}\"\n",
        sink.url("webhook")
    );
    let project = shop(project(&[("test", "runbook(#{ title: \"b\" }); nothing_of_this_name();")]), &system);
    let _daemon = project.serve();
    wait_until("its ticks say so", || left_out(&project, Reason::Refused) >= 3);
    wait_until("people are told", || !sink.accepted("webhook").is_empty());
    let told = sink.accepted("webhook");
    assert_eq!(told.len(), 1);
    assert!(told[0].to_string().contains("nothing_of_this_name"), "{told:?}");
    assert_eq!(runs(&project, None), 0);
}

/// Kills at random moments: each tick has exactly one run, or says why it has none. `RUNBOOK_KILLS=100` is the full
/// measure.
#[test]
fn a_tick_has_one_run_whenever_the_daemon_is_killed() {
    let kills: u64 = std::env::var("RUNBOOK_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(8);
    let each = |name: &str| {
        format!("[schedules.{name}]\nrunbook = \"test\"\ncron = \"* * * * * *\"\noverlap = \"allow\"\ncatch_up = \"all(5)\"\n")
    };
    let text: String = ["a", "b", "c", "d"].map(each).concat();
    let project = shop(project(&[("test", COUNTS)]), &text).file("runbook.toml", "limits.runs = 20\n");
    let mut daemon = project.serve();
    let mut random = 88_172_645_463_325_252_u64;
    for _ in 0..kills {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        // The moment of the kill is chance; nothing is waited for.
        std::thread::sleep(std::time::Duration::from_millis(random % 1500));
        daemon.kill();
        daemon = project.serve();
    }
    // Nothing new is due from here on; what has its run goes on.
    let project = shop(project, "");
    daemon.signal("HUP");
    wait_until("everything has ended", || {
        let open = [RunState::Queued, RunState::Running, RunState::Interrupted].map(|state| runs(&project, Some(state)));
        open == [0, 0, 0] && store(&project).pending_ticks().unwrap().is_empty()
    });
    daemon.stop();
    let (ticks, store) = (ticks(&project), store(&project));
    let mut with_run = 0;
    for tick in &ticks {
        match (store.run(tick.id), &tick.outcome) {
            (Ok(run), TickOutcome::Started { run: number }) => {
                assert_eq!(run.run, *number);
                with_run += 1;
            }
            (found, outcome) => assert!(found.is_err() && outcome.cause().is_some(), "{tick:?}: {found:?}"),
        }
    }
    assert_eq!(with_run, runs(&project, None));
    note(&format!("{kills} kills, {} ticks, {with_run} runs", ticks.len()));
}
