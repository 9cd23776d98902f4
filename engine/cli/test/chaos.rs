//! `runbook test --chaos`: a runbook fails at each of its steps, and is killed at each, to see what stays and what
//! is done again.
//!
//! Each time is a process of its own, since one that is killed tells nothing; what happened is read from its record,
//! which is in a directory that goes away. The world is the one that the runbook is pointed at, or that of a case.

use std::cell::Cell;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;

use crate::cli::app::App;
use crate::cli::office::Office;
use crate::cli::report::visible;
use crate::cli::run::{passes_the_check, this_binary};
use crate::cli::terminal::{BAD, DIM, GOOD, STRONG, WARN, styled, table};
use crate::cli::test::seen::{Seen, left, look, twice};
use crate::cli::test::trial::{self, Throwaway};
use crate::cli::test::{Args, Test, read_one};
use crate::config::{Problems, Right};
use crate::error::{Error, Kind, Result};
use crate::model::{Danger, Event, Header, ParamType, Run, RunState};
use crate::run::{Faults, Notes, Supervisor, Worker, recover};
use crate::store::audit::{Action, audited};
use crate::store::{Filter, Sqlite, StateDir, Store, find};
use crate::words;

/// How often to look whether a run is over.
const LOOK: Duration = Duration::from_millis(20);
/// How many looks apart it is asked whether a run waits for people.
const WAITS: u32 = 25;

/// One process of many: a part of what `--chaos` does with a case.
#[derive(Debug, Default, clap::Args)]
pub(super) struct Scene {
    #[arg(long, hide = true, value_enum)]
    scene: Option<Act>,
    #[arg(long, hide = true)]
    fail_at: Option<String>,
    #[arg(long, hide = true)]
    crash_after: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Act {
    Run,
    Resume,
}

/// Where a run is cut off.
#[derive(Debug, Clone, Copy)]
enum Cut {
    Before,
    In,
    After,
}

impl Cut {
    /// The event after which it is killed.
    fn event(self, key: &str) -> String {
        let word = match self {
            Self::Before => "step-started",
            Self::In => "work",
            Self::After => "step-ended",
        };
        format!("{word}:{key}")
    }
}

/// What came of a step that failed, or of a run that was killed and went on.
#[derive(Debug, PartialEq, Serialize)]
#[serde(tag = "verdict", content = "what", rename_all = "kebab-case")]
enum Verdict {
    /// Nothing had been changed.
    Nothing,
    /// All that had been changed was taken back.
    TakenBack,
    /// The script caught the error and went on.
    WentOn,
    /// This was changed and stays.
    Left(Vec<String>),
    /// These compensations failed.
    UndoFailed(Vec<String>),
    /// Everything was done once.
    Once,
    /// The step was done again, as it says that it may.
    Again,
    /// This was done again.
    Twice(Vec<String>),
    /// A person has to say whether the step was done.
    Asks,
    /// The run did not come to its end, for this reason.
    Unfinished(String),
    /// The step did not come this time.
    NotReached,
}

impl Verdict {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Left(_) | Self::UndoFailed(_) | Self::Twice(_) | Self::Unfinished(_) => 1,
            Self::Asks | Self::NotReached => 3,
            _ => 0,
        }
    }

    fn in_words(&self) -> String {
        match self {
            Self::Nothing => "nothing to take back".to_owned(),
            Self::TakenBack => "all taken back".to_owned(),
            Self::WentOn => "went on".to_owned(),
            Self::Left(what) => format!("{} left", words::count(what.len(), "change")),
            Self::UndoFailed(_) => "not taken back".to_owned(),
            Self::Once => "once".to_owned(),
            Self::Again => "again, as it may".to_owned(),
            Self::Twice(_) => "twice".to_owned(),
            Self::Asks => "asks a person".to_owned(),
            Self::Unfinished(_) => "not finished".to_owned(),
            Self::NotReached => "did not come".to_owned(),
        }
    }

    /// What to do about it, where something is to be done.
    fn advice(&self, key: &str, column: &str) -> Option<String> {
        let list = |what: &[String]| what.iter().map(|one| visible(one)).collect::<Vec<_>>().join(", ");
        Some(match self {
            Self::Left(what) => format!("when `{key}` fails, this stays: {}     an `undo` before its step takes it back", list(what)),
            Self::UndoFailed(why) => format!("when `{key}` fails, it can not be taken back: {}", list(why)),
            Self::Twice(what) => format!("killed {column} `{key}`, this is done twice: {}     the step needs `verify`", list(what)),
            Self::Asks => format!("killed {column} `{key}`, it waits for a person     `verify` or `idempotent` spares them"),
            Self::Unfinished(why) => format!("killed {column} `{key}`, it does not finish: {}", visible(why)),
            Self::NotReached => format!("`{key}` did not come again: what the runbook does differs from run to run"),
            _ => return None,
        })
    }
}

/// What became of a step, each time.
#[derive(Serialize)]
struct Row {
    step: String,
    fails: Verdict,
    killed_before: Verdict,
    killed_in: Verdict,
    killed_after: Verdict,
}

impl Row {
    /// Each verdict, with how it came to it.
    fn verdicts(&self) -> [(&'static str, &Verdict); 4] {
        [("at", &self.fails), ("before", &self.killed_before), ("in", &self.killed_in), ("after", &self.killed_after)]
    }
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    runbook: &'a str,
    case: Option<&'a str>,
    exit_code: u8,
    steps: Vec<Row>,
}

pub(super) fn run(args: &Args, app: &App) -> Result<u8, Problems> {
    let [name] = args.names.as_slice() else {
        return Err(Error::new(Kind::Usage, "`--chaos` takes the name of one runbook").into());
    };
    if let Some(act) = args.scene.scene {
        return play(act, name, args, app);
    }
    let script = app.script(name)?;
    if !passes_the_check(&script, app) {
        return Ok(4);
    }
    let drill = Drill { name, args, header: &script.header, app, place: Throwaway::new()?, scenes: Cell::new(0) };
    let rows = match &args.case {
        Some(case) => {
            find_case(&read_one(name, app)?, case)?;
            drill.rows()?
        }
        None => {
            let system = app.system(args.system.as_deref())?.name;
            let store = drill.prepare(&system)?;
            let act = app.act(Action::Run, format!("chaos of {name} for {system}"), "");
            audited(&store, &act, || drill.rows())?
        }
    };
    let verdicts = || rows.iter().flat_map(Row::verdicts);
    let worst = |code| verdicts().any(|(_, verdict)| verdict.exit_code() == code);
    let exit_code = if worst(1) {
        1
    } else if worst(3) {
        3
    } else {
        0
    };
    if app.json {
        app.answer_json(&Report { runbook: name, case: args.case.as_deref(), exit_code, steps: rows })?;
    } else {
        app.terminal.answer(&shown(&rows, app));
    }
    Ok(exit_code)
}

fn shown(rows: &[Row], app: &App) -> String {
    let titles = ["STEP", "FAILS", "KILLED BEFORE IT", "KILLED IN IT", "KILLED AFTER IT"].map(|title| styled(DIM, title)).to_vec();
    let symbol = |verdict: &Verdict| match verdict.exit_code() {
        0 => app.terminal.symbol(GOOD, "✔", "ok"),
        3 => app.terminal.symbol(WARN, "▲", "!"),
        _ => app.terminal.symbol(BAD, "✖", "x"),
    };
    let mut lines = vec![titles];
    let mut advice = Vec::new();
    for row in rows {
        let cells = row.verdicts().map(|(_, verdict)| format!("{} {}", symbol(verdict), verdict.in_words()));
        lines.push([vec![styled(STRONG, visible(&row.step))], cells.to_vec()].concat());
        for (column, verdict) in row.verdicts() {
            advice.extend(verdict.advice(&visible(&row.step), column).map(|text| format!("{} {text}", symbol(verdict))));
        }
    }
    advice.dedup();
    if advice.is_empty() { table(&lines) } else { format!("{}\n\n{}", table(&lines), advice.join("\n")) }
}

/// How a runbook is run and gone on with, each time as a process that can be killed.
struct Drill<'a> {
    name: &'a str,
    args: &'a Args,
    header: &'a Header,
    app: &'a App,
    place: Throwaway,
    scenes: Cell<u32>,
}

/// A run that is over, with all below it.
struct Over {
    run: Run,
    seen: Vec<Seen>,
}

impl Drill<'_> {
    /// Asks before something is done for real, and takes over what the runbook has kept. Locks and secrets are the
    /// real ones.
    fn prepare(&self, system: &str) -> Result<Sqlite, Problems> {
        let app = self.app;
        if self.header.danger == Danger::Destructive {
            return Err(Error::new(Kind::NotStarted, format!("`{}` is destructive, and is not let fail for real", self.name))
                .hint("give it a test, and try that: `--chaos --case CASE`")
                .into());
        }
        if self.header.danger != Danger::None && !self.args.yes {
            confirm(self.name, system, app)?;
        }
        let (state, store) = app.store()?;
        app.permit(&store, Right::Run, self.name, Some(system))?;
        let mine = Sqlite::open(&self.place.state.database())?;
        let [kept, copy] = [&store, &mine].map(|store| Notes::new(store, self.name, system));
        for key in kept.keys("")? {
            if let Some(value) = kept.get(&key)? {
                copy.keep(&key, &value)?;
            }
        }
        for shared in ["locks", "secrets"] {
            let there = state.root().join(shared);
            let failed = |error: std::io::Error| Error::because(Kind::Store, format_args!("`{}`", there.display()), &error);
            if !there.exists() {
                StateDir::open(&there)?;
            }
            std::os::unix::fs::symlink(&there, self.place.state.root().join(shared)).map_err(failed)?;
        }
        Ok(store)
    }

    /// What becomes of each step.
    fn rows(&self) -> Result<Vec<Row>> {
        let plain = self.state()?;
        self.start(&plain, None)?;
        let first = self.last(&plain)?;
        if let Some(error) = first.run.error {
            return Err(error.context(format_args!("`{}` fails without anything going wrong on purpose", self.name)));
        }
        let steps: Vec<&Seen> = first.seen.iter().filter(|step| !step.undo).collect();
        if steps.is_empty() {
            return Err(Error::new(Kind::Usage, format!("`{}` has no steps, so there is nothing to cut off", self.name)));
        }
        self.app.terminal.say(&format!("{}: each fails once, and is killed three times", words::count(steps.len(), "step")));
        let row = |step: &Seen| {
            self.app.terminal.say(&styled(DIM, format!("  {}", visible(&step.key))));
            Ok(Row {
                step: step.key.clone(),
                fails: self.fail(step)?,
                killed_before: self.kill(Cut::Before, step, &first.seen)?,
                killed_in: self.kill(Cut::In, step, &first.seen)?,
                killed_after: self.kill(Cut::After, step, &first.seen)?,
            })
        };
        steps.into_iter().map(row).collect()
    }

    /// The record of a scene: a new one for each where the world has no memory either.
    fn state(&self) -> Result<StateDir> {
        if self.args.case.is_none() {
            return Ok(self.place.state.clone());
        }
        let scene = self.scenes.replace(self.scenes.get() + 1);
        StateDir::open(&self.place.root().join(scene.to_string()))
    }

    /// Lets a step fail.
    fn fail(&self, step: &Seen) -> Result<Verdict> {
        let state = self.state()?;
        self.start(&state, Some(format!("--fail-at={}", step.key)))?;
        let over = self.last(&state)?;
        let came = over.seen.iter().any(|seen| seen.key == step.key && seen.fails_on_purpose());
        Ok(match (over.run.status, &over.run.error) {
            _ if !came => Verdict::NotReached,
            (RunState::NeedsAttention, _) => Verdict::Asks,
            (_, None) => Verdict::WentOn,
            (_, Some(_)) if over.seen.iter().any(|seen| seen.why_not_undone().is_some()) => {
                Verdict::UndoFailed(over.seen.iter().filter_map(Seen::why_not_undone).collect())
            }
            (_, Some(_)) => match left(&over.seen) {
                (0, _) => Verdict::Nothing,
                (_, left) if left.is_empty() => Verdict::TakenBack,
                (_, left) => Verdict::Left(left),
            },
        })
    }

    /// Kills the run at a step, and lets it go on.
    fn kill(&self, cut: Cut, step: &Seen, plain: &[Seen]) -> Result<Verdict> {
        let state = self.state()?;
        let was_killed = self.start(&state, Some(format!("--crash-after={}", cut.event(&step.key))))?;
        if !was_killed {
            return Ok(Verdict::NotReached);
        }
        self.go_on(&state)?;
        let over = self.last(&state)?;
        if over.run.status == RunState::NeedsAttention {
            return Ok(Verdict::Asks);
        }
        if let Some(error) = &over.run.error {
            return Ok(Verdict::Unfinished(error.message.clone()));
        }
        let (again, twice) = twice(plain, &over.seen);
        Ok(match (twice.is_empty(), again) {
            (false, _) => Verdict::Twice(twice),
            (true, true) => Verdict::Again,
            (true, false) => Verdict::Once,
        })
    }

    /// Runs it; whether it was killed.
    fn start(&self, state: &StateDir, fault: Option<String>) -> Result<bool> {
        if let Some(between) = &self.args.between {
            self.set_back(between, state)?;
        }
        let mut command = self.command(state)?;
        if let Some(case) = &self.args.case {
            command.args(["test", self.name, "--chaos", "--case", case, "--scene", "run"]).args(fault);
            return self.wait(command, state);
        }
        command.args(["run", self.name, "--yes"]).args(fault).args(self.system());
        for pair in &self.args.params.p {
            command.args(["-p", pair]);
        }
        if let Some(file) = &self.args.params.params {
            command.arg("--params").arg(file);
        }
        command.arg("--").args(&self.args.params.flags);
        self.wait(command, state)
    }

    /// Lets the newest run go on.
    fn go_on(&self, state: &StateDir) -> Result<()> {
        let mut command = self.command(state)?;
        if let Some(case) = &self.args.case {
            command.args(["test", self.name, "--chaos", "--case", case, "--scene", "resume"]);
            return self.wait(command, state).map(drop);
        }
        command.args(["resume", "last"]);
        // What is no secret is recorded.
        let is_secret = |pair: &str| {
            pair.split_once('=').and_then(|(key, _)| self.header.params.get(key)).is_some_and(|param| param.kind == ParamType::Secret)
        };
        for pair in self.args.params.p.iter().filter(|pair| is_secret(pair)) {
            command.args(["-p", pair]);
        }
        self.wait(command, state).map(drop)
    }

    /// Runs what makes the world as it was.
    fn set_back(&self, between: &str, state: &StateDir) -> Result<()> {
        let mut command = self.command(state)?;
        command.args(["run", between, "--yes"]).args(self.system());
        self.wait(command, state)?;
        match self.last(state)?.run.error {
            Some(error) => Err(error.context(format_args!("`{between}`, which runs in between"))),
            None => Ok(()),
        }
    }

    fn system(&self) -> Option<String> {
        self.args.system.as_ref().map(|system| format!("--system={system}"))
    }

    fn command(&self, state: &StateDir) -> Result<Command> {
        let mut command = Command::new(this_binary()?);
        command.arg("-C").arg(self.app.directory()).args(["--no-input", "--quiet"]);
        if let Some(config) = self.app.config() {
            command.arg("--config").arg(config);
        }
        command.env("RUNBOOK_STATE_DIR", state.root()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        Ok(command)
    }

    /// Waits for a process; whether it was killed. One in which people are asked would wait for long.
    fn wait(&self, mut command: Command, state: &StateDir) -> Result<bool> {
        let failed = |error: std::io::Error| Error::because(Kind::Bug, "this binary", &error);
        let mut process = command.spawn().map_err(failed)?;
        let said = process.stderr.take().map(|stderr| std::thread::spawn(move || std::io::read_to_string(stderr).unwrap_or_default()));
        let mut looks = 0_u32;
        let status = loop {
            if let Some(status) = process.try_wait().map_err(failed)? {
                break status;
            }
            looks = looks.wrapping_add(1);
            if looks.is_multiple_of(WAITS) && waits(state) {
                end(&mut process);
                return Err(Error::new(Kind::Usage, format!("`{}` asks people, who would have to answer each time", self.name))
                    .hint("give it a test that answers for them, and try that: `--chaos --case CASE`"));
            }
            std::thread::sleep(LOOK);
        };
        let said = said.and_then(|thread| thread.join().ok()).unwrap_or_default();
        match status.code() {
            // It did not begin, and has said why.
            Some(2 | 4 | 6 | 8 | 70) => {
                self.app.terminal.insist(&said);
                Err(Error::new(Kind::NotStarted, format!("`{}` could not be tried", self.name)))
            }
            _ => Ok(status.signal().is_some()),
        }
    }

    /// The newest run, with all below it.
    fn last(&self, state: &StateDir) -> Result<Over> {
        let store = Sqlite::open(&state.database())?;
        recover(&store)?;
        let run = store.run(find(&store, "last")?.id)?;
        let mut seen = Vec::new();
        look(&store, &run, "", &mut seen)?;
        Ok(Over { run, seen })
    }
}

fn waits(state: &StateDir) -> bool {
    let waiting = Filter { states: vec![RunState::Waiting], limit: 1, ..Filter::default() };
    let found = |path: &Path| Sqlite::open(path)?.list(&waiting);
    found(&state.database()).is_ok_and(|runs| !runs.is_empty())
}

fn end(process: &mut Child) {
    // It may have ended by itself in between.
    let _ = process.kill();
    let _ = process.wait();
}

/// Asks for the name of the target; never a bare `y`.
fn confirm(name: &str, system: &str, app: &App) -> Result<()> {
    let refused = |why: String| Error::new(Kind::NotStarted, why).hint("`--yes` leaves the question out; `--case CASE` touches nothing");
    if !app.origin().is_attended() {
        return Err(refused(format!("`{name}` interrupts something, and nobody can be asked")));
    }
    let target = if system.is_empty() { name } else { system };
    let typed: String = dialoguer::Input::new()
        .with_prompt(format!("{name} interrupts something, and would run many times. Type `{target}` to go on"))
        .allow_empty(true)
        .interact_text()
        .map_err(|error| refused(error.to_string()))?;
    if typed == target { Ok(()) } else { Err(refused(format!("`{typed}` is not `{target}`; nothing was done"))) }
}

fn find_case(test: &Test, name: &str) -> Result<usize, Problems> {
    let cases = &test.file.cases.case;
    cases.iter().position(|case| case.name == name).ok_or_else(|| {
        let names: Vec<&str> = cases.iter().map(|case| case.name.as_str()).collect();
        Error::new(Kind::Usage, format!("`{}` has no case `{name}`", test.runbook)).suggest(name, names).into()
    })
}

/// One part of a drill with a case: the only process that is killed.
fn play(act: Act, name: &str, args: &Args, app: &App) -> Result<u8, Problems> {
    let test = read_one(name, app)?;
    let index = find_case(&test, args.case.as_deref().unwrap_or_default())?;
    let case = &test.file.cases.case[index];
    let state = app.state()?;
    let store = Sqlite::open(&state.database())?;
    recover(&store)?;
    let mut request = trial::request(&test, index, trial::answers(&test, case).into(), &state, app)?;
    request.faults = Faults { fail_at: args.scene.fail_at.clone(), crash_after: args.scene.crash_after.clone(), repeat_steps: false };
    let desk = Office { app, state: &state, store: &store, yes: false };
    let worker = Worker::start(&this_binary()?)?;
    let supervisor = match act {
        Act::Run => {
            trial::keep(case, &request, &store)?;
            Supervisor::start(&store, &state, &desk, worker, request, None)?
        }
        Act::Resume => Supervisor::resume(&store, &state, &desk, worker, request, find(&store, "last")?.id, Vec::new())?,
    };
    supervisor.follow(&mut |_: &Run, _: &Event| {})?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_is_worse_than_what_asks() {
        let code = |verdict: Verdict| verdict.exit_code();
        assert_eq!(code(Verdict::Left(vec!["fs::write /a".to_owned()])), 1);
        assert_eq!((code(Verdict::Asks), code(Verdict::NotReached), code(Verdict::Again)), (3, 3, 0));
    }

    #[test]
    fn each_cut_is_an_event_of_the_step() {
        let cuts = [Cut::Before, Cut::In, Cut::After];
        assert_eq!(cuts.map(|cut| cut.event("run a/b")), ["step-started:run a/b", "work:run a/b", "step-ended:run a/b"]);
    }
}
