//! The worker: evaluates one script and has its effects. It reads no file of the project, no
//! environment and no argument; what it may know comes over its standard input.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufReader, Stdin, Stdout};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rhai::Engine;
use rustix::process::{Resource, Rlimit, Signal, getpid, set_child_subreaper, set_parent_process_death_signal, setrlimit};
use serde_json::Value;

use crate::error::{Error, Kind, Result};
use crate::host::sandbox::{Grants, Sandbox};
use crate::host::{
    Answer, Ctx, Expected, Gate, Mode, Offspring, Permissions, Question, Recorder, Stop, StopReason, kill_descendants, plan,
};
use crate::model::{Effect, EventKind, Intent, Outcome};
use crate::run::process::{hide, resident};
use crate::run::protocol::{Carried, FromWorker, Job, Limits, Reply, ToWorker, receive, send};
use crate::run::sketch::Sketch;
use crate::script::{Compensation, Given, Language, Script, check_params, compensations, evaluate};

/// What the deepest script within the limits needs, with a wide margin: values nest too, and comparing
/// or dropping one recurses. Virtual until touched.
const STACK: usize = 256 << 20;

/// How often memory is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// How many looks apart the processes are counted, once a program was started: it takes longer.
const COUNT: u32 = 5;

/// The process `runbook __worker`. Returns its exit code.
pub fn main() -> u8 {
    // The supervisor still reads and records when this is done.
    Language::shared();
    let mut input = BufReader::new(std::io::stdin());
    let job = match receive::<ToWorker>(&mut input) {
        Ok(Some(ToWorker::Job(job))) => *job,
        Ok(_) => return 70,
        Err(error) => {
            // Nobody may be there to hear it.
            let _ = Line::default().say(&FromWorker::Over { error: Some(error), stopped: None });
            return 70;
        }
    };
    confine(job.limits);
    // A test touches nothing, so the kernel need allow nothing.
    let permissions = if job.mode == Mode::Test { Permissions::default() } else { job.permissions.clone() };
    let grants = Grants { run: job.run.clone(), system: job.system.clone(), permissions, protected: job.protected.clone() };
    let sandbox = match Sandbox::enter(job.limits.sandbox, grants) {
        Ok(sandbox) => sandbox,
        Err(error) => {
            // Nobody may be there to hear it.
            let _ = Line::default().say(&FromWorker::Over { error: Some(error), stopped: None });
            return 70;
        }
    };
    let stop = Arc::new(Stop::new(job.limits.time.map(|time| time.0)));
    let line = Arc::new(Line { room: AtomicU64::new(job.limits.output.0), ..Line::default() });
    listen(input, line.clone(), stop.clone());
    let limits = job.limits;
    let (script_line, script_stop) = (line.clone(), stop.clone());
    let (sender, ended) = channel();
    let script = std::thread::Builder::new().name("script".to_owned()).stack_size(STACK).spawn(move || {
        // The values of a script are dropped here, on the large stack.
        let ended = std::panic::catch_unwind(AssertUnwindSafe(|| work(job, sandbox, &script_line, &script_stop)));
        let panicked = || Error::new(Kind::Bug, "the worker panicked").hint("please report it with the runbook");
        // Whoever waits for it ends the process.
        let _ = sender.send(ended.unwrap_or_else(|_| (Some(panicked()), None)));
    });
    let ended = script.ok().and_then(|_| wait(&ended, limits, &stop));
    let (error, stopped) = ended.unwrap_or_else(|| (Some(Error::new(Kind::Limit, "limit: memory: no thread for the script")), None));
    kill_descendants(std::process::id());
    let left_out = line.left_out.load(Ordering::Relaxed);
    if left_out > 0 {
        // If nobody hears it, nobody hears the end either.
        let _ = line.say(&FromWorker::LeftOut(left_out));
    }
    match line.say(&FromWorker::Over { error, stopped }) {
        Ok(()) => 0,
        Err(_) => 70,
    }
}

/// What the process may use, and what ends it with its supervisor. What the kernel refuses is the
/// supervisor's to enforce from outside.
fn confine(limits: Limits) {
    hide();
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    let _ = set_child_subreaper(Some(getpid()));
    let cap = |resource: Resource, most: u64| {
        let _ = setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) });
    };
    cap(Resource::Nofile, limits.files);
    // Stacks and arenas are reserved, not used: room for them beyond the limit. It stops a single
    // allocation that nothing else could see coming.
    if !cfg!(debug_assertions) {
        cap(Resource::As, limits.memory.0 + (6 << 30));
    }
}

/// Why the script failed, and what stopped it; neither when it came to its end.
type Ended = (Option<Error>, Option<StopReason>);

fn work(job: Job, sandbox: Arc<Sandbox>, line: &Arc<Line>, stop: &Arc<Stop>) -> Ended {
    let grace = job.limits.grace;
    let modules = job.modules;
    let script = match Script::read(&job.name, &job.path, &job.text, |path| modules.get(path).cloned()) {
        Ok(script) => script,
        Err(error) => return (Some(error), None),
    };
    let given = job.params.into_iter().map(|(name, value)| (name, Given::Value(value))).collect();
    let system = crate::model::System { name: job.system_name, ..job.system };
    line.remember(job.recalled);
    let sketch = (job.mode == Mode::Plan).then(|| Arc::new(Sketch::new(line.clone())));
    let recorder: Arc<dyn Recorder> = match &sketch {
        Some(sketch) => sketch.clone(),
        None => line.clone(),
    };
    let ctx = Ctx::new(job.run, system, job.mode, job.permissions, job.secrets, recorder, stop.clone());
    if let Some(at) = job.clock {
        ctx.stop_clock(at);
    }
    ctx.protect(job.protected);
    ctx.confine(sandbox);
    plan::had(&ctx, job.before);
    if let Some(plan) = job.plan {
        ctx.expect(Expected::new(&plan.steps, plan.unknown.is_some(), plan.fingerprints));
    }
    let engine = match check_params(&script.header, &given) {
        Ok((_, params)) => Language::shared().engine(&ctx, &script, &params),
        Err(error) => return (Some(error), None),
    };
    let result = evaluate(&engine, &script);
    if let Some(sketch) = sketch {
        return (tell_plan(&ctx, &sketch, line, result, stop).err(), stop.reason());
    }
    let result = result.and_then(|()| ctx.expected().map_or(Ok(()), Expected::all));
    let stopped = if result.is_err() { stop.reason() } else { None };
    let error = result.err();
    if (error.is_some() || job.takes_back) && !matches!(stopped, Some(StopReason::Halted | StopReason::Lost)) {
        let undo = compensations(&ctx);
        let keys = undo.iter().map(|compensation| compensation.key.clone()).collect();
        let ended = error.clone();
        let asked = line.request(|id| FromWorker::CleaningUp { id, undo: keys, error: ended, stopped });
        if let Ok(Reply::TakeBack(keys)) = asked {
            if let Some(expected) = ctx.expected() {
                expected.lift();
            }
            take_back(&keys, &undo, &engine, stop, grace.0);
        }
    }
    (error, stopped)
}

/// Tells what the script would do. An end that only a plan comes to leaves the rest open.
fn tell_plan(ctx: &Ctx, sketch: &Sketch, line: &Line, result: Result<()>, stop: &Stop) -> Result<()> {
    let unknown = match result {
        Ok(()) => None,
        Err(error) => match plan::rest(ctx, &error).filter(|_| stop.reason().is_none()) {
            Some(why) => Some(why),
            None => return Err(error),
        },
    };
    let steps = plan::told(ctx, sketch.steps());
    let effects = steps.iter().flat_map(|step| &step.effects).map(|told| (told.effect.function.clone(), told.effect.target.clone()));
    let fingerprints = plan::fingerprints(ctx, effects);
    line.say(&FromWorker::Planned(Carried { steps, unknown, fingerprints }))
}

/// Runs the compensations in the order of these keys. One that fails is recorded, and the next one runs.
fn take_back(keys: &[String], undo: &[Compensation], engine: &Engine, stop: &Stop, grace: Duration) {
    stop.begin_cleanup(grace);
    for compensation in keys.iter().filter_map(|key| undo.iter().find(|compensation| compensation.key == *key)) {
        let done = compensation.run(engine);
        if done.is_err() && stop.reason().is_some() {
            return;
        }
    }
}

/// The line to the supervisor, and the questions that wait for an answer.
#[derive(Debug, Default)]
struct Line {
    next: AtomicU64,
    /// How much more output the log may take.
    room: AtomicU64,
    left_out: AtomicU64,
    out: Mutex<Option<Stdout>>,
    waiting: Mutex<HashMap<u64, Sender<Result<Reply>>>>,
    recalled: Mutex<BTreeMap<String, Value>>,
}

impl Line {
    fn say(&self, message: &FromWorker) -> Result<()> {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        send(out.get_or_insert_with(std::io::stdout), message)
    }

    fn request(&self, message: impl FnOnce(u64) -> FromWorker) -> Result<Reply> {
        let gone = || Error::new(Kind::Store, "the run lost its supervisor").permanent();
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(id, sender);
        self.say(&message(id))?;
        receiver.recv().map_err(|_| gone())?
    }

    fn answer(&self, id: u64, reply: Result<Reply>) {
        if let Some(waiting) = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&id) {
            // The thread that asked may be gone with its branch.
            let _ = waiting.send(reply);
        }
    }

    fn remember(&self, recalled: BTreeMap<String, Value>) {
        *self.recalled.lock().unwrap_or_else(PoisonError::into_inner) = recalled;
    }

    fn hang_up(&self) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Recorder for Line {
    fn begin(&self, intent: Intent) -> Result<Gate> {
        match self.request(|id| FromWorker::Begin { id, intent })? {
            Reply::Gate(gate) => Ok(gate),
            _ => Err(unexpected()),
        }
    }

    fn end(&self, key: &str, outcome: Outcome, duration_ms: u64) -> Result<()> {
        match self.request(|id| FromWorker::End { id, key: key.to_owned(), outcome, duration_ms })? {
            Reply::Recorded => Ok(()),
            _ => Err(unexpected()),
        }
    }

    fn effect(&self, key: &str, effect: Effect) -> Result<()> {
        match self.request(|id| FromWorker::Effect { id, key: key.to_owned(), effect })? {
            Reply::Recorded => Ok(()),
            _ => Err(unexpected()),
        }
    }

    fn recall(&self, key: &str) -> Option<Value> {
        self.recalled.lock().unwrap_or_else(PoisonError::into_inner).remove(key)
    }

    fn tell(&self, event: EventKind) -> Result<()> {
        if let EventKind::Log { text, .. } = &event {
            let length = text.len() as u64;
            // A flood ends here, not in the supervisor, which has others to follow.
            let room = self.room.load(Ordering::Relaxed);
            if length > room {
                self.left_out.fetch_add(length, Ordering::Relaxed);
                return Ok(());
            }
            self.room.store(room - length, Ordering::Relaxed);
        }
        self.say(&FromWorker::Tell(event))
    }

    fn ask(&self, question: Question) -> Result<Answer> {
        match self.request(|id| FromWorker::Ask { id, question })? {
            Reply::Answer(answer) => Ok(answer),
            _ => Err(unexpected()),
        }
    }
}

fn unexpected() -> Error {
    Error::new(Kind::Bug, "the supervisor answered something else")
}

/// Reads what the supervisor says, until it hangs up.
fn listen(mut input: BufReader<Stdin>, line: Arc<Line>, stop: Arc<Stop>) {
    std::thread::spawn(move || {
        loop {
            match receive(&mut input) {
                Ok(Some(ToWorker::Reply { id, reply })) => line.answer(id, reply),
                Ok(Some(ToWorker::Stop(reason))) => stop.stop(reason),
                Ok(Some(ToWorker::Job(_)) | None) | Err(_) => {
                    stop.stop(StopReason::Lost);
                    line.hang_up();
                    return;
                }
            }
        }
    });
}

/// Waits for the script to end, and stops it when it holds more memory than it may, or its programs are too many or too
/// large: a clean end, with the place in the script.
fn wait(ended: &Receiver<Ended>, limits: Limits, stop: &Stop) -> Option<Ended> {
    let me = std::process::id();
    let mut looks = 0_u32;
    loop {
        looks = looks.wrapping_add(1);
        if looks.is_multiple_of(COUNT)
            && let Some(reason) = too_much(&Offspring::of(me), limits)
        {
            stop.stop(reason);
            // Whoever waits for them may wait for long, and they may become more. What is taken back may start others.
            kill_descendants(me);
        }
        if resident(me).is_some_and(|bytes| bytes > limits.memory.0) {
            stop.stop(StopReason::Memory);
            return ended.recv().ok();
        }
        match ended.recv_timeout(LOOK) {
            Err(RecvTimeoutError::Timeout) => {}
            ended => return ended.ok(),
        }
    }
}

/// Why the programs of a run have to end.
fn too_much(programs: &Offspring, limits: Limits) -> Option<StopReason> {
    let most = usize::try_from(limits.processes).unwrap_or(usize::MAX);
    if programs.count() > most {
        return Some(StopReason::Processes);
    }
    programs.holds_more_than(limits.program_memory.0).then_some(StopReason::ProgramMemory)
}
