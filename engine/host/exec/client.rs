//! Programs as child processes: started once, drained, timed, and ended with all they started.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use crate::error::{Error, Kind, Result};
use crate::host::SecretText;
use crate::host::exec::program::Program;
use crate::host::exec::secret_files::SecretFiles;
use crate::host::sandbox::Sandbox;
use crate::model::{Size, Span};

/// How to start programs.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RunOptions {
    pub(super) stdin: Option<SecretText>,
    pub(super) cwd: Option<String>,
    pub(super) env: BTreeMap<String, SecretText>,
    pub(super) secret_files: BTreeMap<String, Content>,
    pub(super) timeout: Option<Span>,
    max_output: Option<Size>,
    ok_codes: Option<Vec<i32>>,
}

/// What stands in a secret file.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "a secret, or a list of texts and secrets")]
pub(super) enum Content {
    /// This.
    One(SecretText),
    /// These, one behind the other.
    Joined(Vec<SecretText>),
}

impl Content {
    pub(super) fn parts(&self) -> &[SecretText] {
        match self {
            Self::One(part) => std::slice::from_ref(part),
            Self::Joined(parts) => parts,
        }
    }
}

const TIMEOUT: Span = Span::secs(60);
const OUTPUT: Size = Size(1 << 20);
/// Between asking a program to end and ending it.
const GRACE: Duration = Duration::from_secs(5);

/// What became of a program.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub(super) struct Ended {
    code: Option<i32>,
    signal: Option<i32>,
    stdout: String,
    stderr: String,
    ok: bool,
    truncated: bool,
    duration_ms: u64,
}

/// What became of programs that were joined by pipes.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub(super) struct PipeEnded {
    stages: Vec<Ended>,
    stdout: String,
    ok: bool,
    truncated: bool,
    duration_ms: u64,
}

/// A program with its arguments.
pub(super) struct Stage {
    pub(super) program: Program,
    pub(super) arguments: Vec<String>,
}

/// Programs that are ready to start, the output of each going to the next.
pub(super) struct Pipeline {
    pub(super) stages: Vec<Stage>,
    pub(super) stdin: Option<String>,
    pub(super) cwd: PathBuf,
    pub(super) env: BTreeMap<String, String>,
    /// Variable and content.
    pub(super) secret_files: BTreeMap<String, String>,
    /// Where those are written.
    pub(super) private: PathBuf,
    pub(super) timeout: Span,
    pub(super) max_output: u64,
    pub(super) ok_codes: Vec<i32>,
    pub(super) sandbox: Option<Arc<Sandbox>>,
}

impl RunOptions {
    /// The limits, with their defaults.
    pub(super) fn limits(&self) -> (Span, u64, Vec<i32>) {
        let ok_codes = self.ok_codes.clone().unwrap_or_else(|| vec![0]);
        (self.timeout.unwrap_or(TIMEOUT), self.max_output.unwrap_or(OUTPUT).0, ok_codes)
    }
}

/// Runs one program.
///
/// # Errors
///
/// `remote` for a code that is not fine, `timeout` after its time; none of it is left then.
pub(super) async fn run(pipeline: Pipeline) -> Result<Ended> {
    let mut ended = all(pipeline).await?;
    ended.pop().ok_or_else(|| Error::new(Kind::Invalid, "there is no program to run"))
}

/// Runs programs joined by pipes. Each of them has to end well.
///
/// # Errors
///
/// As [`run`], naming the first that failed.
pub(super) async fn pipe(pipeline: Pipeline) -> Result<PipeEnded> {
    let stages = all(pipeline).await?;
    let last = stages.last().cloned().unwrap_or_default();
    let duration_ms = stages.iter().map(|stage| stage.duration_ms).max().unwrap_or_default();
    Ok(PipeEnded { ok: stages.iter().all(|stage| stage.ok), truncated: last.truncated, stdout: last.stdout, duration_ms, stages })
}

async fn all(mut pipeline: Pipeline) -> Result<Vec<Ended>> {
    let _there_until_the_end = SecretFiles::write(&pipeline.secret_files, &pipeline.private, &mut pipeline.env)?;
    let names: Vec<String> = pipeline.stages.iter().map(|stage| stage.program.path.display().to_string()).collect();
    let (timeout, ok_codes) = (pipeline.timeout, pipeline.ok_codes.clone());
    let started = Instant::now();
    let mut running = start(pipeline)?;
    let Ok(ended) = tokio::time::timeout(timeout.0, running.outcome(started)).await else {
        running.end().await;
        return Err(Error::new(Kind::Timeout, format!("`{}` did not end within {timeout}", names.join(" | ")))
            .hint("raise `timeout`; it was ended with all it started")
            .target(names.join(" | ")));
    };
    let mut ended = ended?;
    for (each, name) in ended.iter_mut().zip(&names) {
        each.ok = each.code.is_some_and(|code| ok_codes.contains(&code));
        if !each.ok {
            return Err(failed(name, each));
        }
    }
    Ok(ended)
}

/// The processes of a call, in one group. Dropped before they ended, the group is killed.
struct Running {
    group: Group,
    children: Vec<Child>,
    stdin: Option<String>,
    max_output: u64,
}

struct Group(Option<Pid>);

impl Group {
    fn signal(&self, signal: Signal) {
        if let Some(leader) = self.0 {
            // It fails when all of them are gone, which is what is wanted.
            let _ = kill_process_group(leader, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

fn start(pipeline: Pipeline) -> Result<Running> {
    let last = pipeline.stages.len().saturating_sub(1);
    let mut running = Running { group: Group(None), children: Vec::new(), stdin: pipeline.stdin, max_output: pipeline.max_output };
    let mut input = if running.stdin.is_some() { Stdio::piped() } else { Stdio::null() };
    for (index, stage) in pipeline.stages.iter().enumerate() {
        let name = stage.program.path.display().to_string();
        let failed =
            |error: std::io::Error| Error::new(Kind::Refused, format!("`{name}` could not be started: {error}")).target(name.clone());
        let (output, next) = match index == last {
            true => (Stdio::piped(), Stdio::null()),
            false => std::io::pipe().map(|(reader, writer)| (writer.into(), reader.into())).map_err(failed)?,
        };
        let mut command = Command::new(stage.program.executed()?);
        command.arg0(&stage.program.path).args(&stage.arguments).env_clear().envs(&pipeline.env).current_dir(&pipeline.cwd);
        command.stdin(std::mem::replace(&mut input, next)).stdout(output).stderr(Stdio::piped()).kill_on_drop(true);
        command.process_group(running.group.0.map_or(0, |leader| leader.as_raw_nonzero().get()));
        let child = match &pipeline.sandbox {
            Some(sandbox) => sandbox.spawn(command, stage.program.has_host_power),
            None => command.spawn(),
        };
        let child = child.map_err(failed)?;
        if running.group.0.is_none() {
            running.group.0 = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        }
        running.children.push(child);
    }
    Ok(running)
}

impl Running {
    /// Feeds, drains and waits, all at once: a full pipe would stop a program for ever.
    async fn outcome(&mut self, started: Instant) -> Result<Vec<Ended>> {
        let fed = feed(self.children.first_mut().and_then(|child| child.stdin.take()), self.stdin.take());
        let max = self.max_output;
        let group = &self.group;
        let waits = self.children.iter_mut().map(|child| wait(child, group, max, started));
        let ((), ended) = tokio::join!(fed, futures_util::future::join_all(waits));
        let ended = ended.into_iter().collect::<Result<Vec<_>>>()?;
        // All are reaped, so the number of the group may soon be someone else's.
        self.group.0 = None;
        Ok(ended)
    }

    /// Asks them to end, and ends them.
    async fn end(&mut self) {
        self.group.signal(Signal::TERM);
        let gone = async {
            for child in &mut self.children {
                let _ = child.wait().await;
            }
        };
        // The group is killed when this is dropped, with those that outlived the leader.
        let _ = tokio::time::timeout(GRACE, gone).await;
    }
}

async fn feed(stdin: Option<tokio::process::ChildStdin>, text: Option<String>) {
    if let (Some(mut stdin), Some(text)) = (stdin, text) {
        // A program may end without reading all of its input.
        let _ = stdin.write_all(text.as_bytes()).await;
    }
}

async fn wait(child: &mut Child, group: &Group, max: u64, started: Instant) -> Result<Ended> {
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let drained = async { tokio::join!(drain(stdout, max), drain(stderr, max)) };
    let mut drained = std::pin::pin!(drained);
    let lost = |error: std::io::Error| Error::because(Kind::Remote, "a program could not be waited for", &error);
    let (status, (stdout, stderr)) = tokio::select! {
        output = &mut drained => (child.wait().await.map_err(lost)?, output),
        status = child.wait() => {
            let status = status.map_err(lost)?;
            // What it left running in its group may hold the pipes open; it had its time.
            match tokio::time::timeout(GRACE, &mut drained).await {
                Ok(output) => (status, output),
                Err(_) => {
                    group.signal(Signal::KILL);
                    (status, tokio::time::timeout(GRACE, &mut drained).await.unwrap_or_default())
                }
            }
        }
    };
    Ok(Ended::new(status, stdout, stderr, started))
}

impl PipeEnded {
    /// What a plan goes on with: programs that ended well and said nothing.
    pub(super) fn planned() -> Self {
        Self { ok: true, ..Self::default() }
    }
}

impl Ended {
    /// What a plan goes on with: a program that ended well and said nothing.
    pub(super) fn planned() -> Self {
        Self { ok: true, ..Self::default() }
    }

    fn new(status: ExitStatus, stdout: Drained, stderr: Drained, started: Instant) -> Self {
        use std::os::unix::process::ExitStatusExt;
        Self {
            code: status.code(),
            signal: status.signal(),
            stdout: String::from_utf8_lossy(&stdout.bytes).into_owned(),
            stderr: String::from_utf8_lossy(&stderr.bytes).into_owned(),
            ok: true,
            truncated: stdout.is_truncated || stderr.is_truncated,
            duration_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        }
    }
}

#[derive(Default)]
struct Drained {
    bytes: Vec<u8>,
    is_truncated: bool,
}

/// Reads to the end and keeps the beginning.
async fn drain(output: Option<impl AsyncRead + Unpin>, max: u64) -> Drained {
    let mut drained = Drained::default();
    let Some(mut output) = output else { return drained };
    let max = usize::try_from(max).unwrap_or(usize::MAX);
    let mut block = vec![0; 64 << 10];
    while let Ok(length @ 1..) = output.read(&mut block).await {
        let kept = length.min(max - drained.bytes.len());
        drained.bytes.extend_from_slice(&block[..kept]);
        drained.is_truncated |= kept < length;
    }
    drained
}

fn failed(name: &str, ended: &Ended) -> Error {
    const LINES: usize = 20;
    let how = match (ended.code, ended.signal) {
        (Some(code), _) => format!("ended with code {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended".to_owned(),
    };
    let lines: Vec<&str> = ended.stderr.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = lines.last().map(|line| format!(": {}", line.trim())).unwrap_or_default();
    let error = Error::new(Kind::Remote, format!("`{name}` {how}{last}")).target(name);
    match lines.len() {
        0 | 1 => error,
        all => error.hint(format!("it said:\n{}", lines[all.saturating_sub(LINES)..].join("\n"))),
    }
}
