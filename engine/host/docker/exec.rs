//! Commands in containers: an argument list, both streams, no shell, no terminal.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bollard::container::LogOutput;
use bollard::exec::{CreateExecOptions, StartExecOptions, StartExecResults};
use futures_util::{Stream, StreamExt};
use rustix::fd::OwnedFd;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::containers::Found;
use super::engine::{Docker, QUICK, failed, within};
use crate::error::{Error, Kind, Result};
use crate::host::SecretText;
use crate::model::{Size, Span};

/// How to run a command.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ExecOptions {
    pub(super) user: Option<String>,
    pub(super) env: BTreeMap<String, SecretText>,
    pub(super) workdir: Option<String>,
    pub(super) stdin: Option<SecretText>,
    pub(super) timeout: Option<Span>,
    pub(super) max_bytes: Option<Size>,
    pub(super) encoding: Encoding,
}

/// How bytes are written in texts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Encoding {
    #[default]
    Text,
    Base64,
}

/// A command with its secrets opened. Never printed.
pub(super) struct Command {
    pub(super) argv: Vec<String>,
    pub(super) env: Vec<String>,
    pub(super) stdin: Option<Vec<u8>>,
    pub(super) user: Option<String>,
    pub(super) workdir: Option<String>,
    pub(super) timeout: Duration,
    pub(super) max_bytes: usize,
    pub(super) encoding: Encoding,
}

/// What a command answered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Output {
    /// Nothing in a plan, which runs nothing.
    pub(super) exit_code: Option<i64>,
    pub(super) stdout: String,
    pub(super) stderr: String,
    pub(super) truncated: bool,
}

const TIMEOUT: Span = Span::secs(60);
const MAX_BYTES: Size = Size(1 << 20);
const SUMMARY_CHARS: usize = 160;

impl Command {
    /// The command these options describe; `env` and `stdin` are opened already.
    pub(super) fn new(argv: Vec<String>, options: &ExecOptions, env: Vec<String>, stdin: Option<String>) -> Result<Self> {
        let invalid = |message: String| Err(Error::new(Kind::Invalid, message));
        match argv.first() {
            None => return invalid("the command is empty".to_owned()),
            Some(program) if program.is_empty() || program.starts_with('-') => {
                return invalid(format!("`{program}` is not the name of a program"));
            }
            Some(_) => {}
        }
        if argv.iter().chain(&env).any(|text| text.contains('\0')) {
            return invalid("an argument contains a zero byte".to_owned());
        }
        let stdin = match (stdin, options.encoding) {
            (Some(text), Encoding::Base64) => match BASE64_STANDARD.decode(text.trim()) {
                Ok(bytes) => Some(bytes),
                Err(error) => return invalid(format!("`stdin` is not base64: {error}")),
            },
            (stdin, _) => stdin.map(String::into_bytes),
        };
        Ok(Self {
            argv,
            env,
            stdin,
            user: options.user.clone(),
            workdir: options.workdir.clone(),
            timeout: options.timeout.unwrap_or(TIMEOUT).0,
            max_bytes: usize::try_from(options.max_bytes.unwrap_or(MAX_BYTES).0).unwrap_or(usize::MAX),
            encoding: options.encoding,
        })
    }

    /// The command on one line, for people.
    pub(super) fn in_words(&self) -> String {
        let line = self.argv.join(" ");
        match line.char_indices().nth(SUMMARY_CHARS) {
            Some((end, _)) => format!("{}…", &line[..end]),
            None => line,
        }
    }
}

/// The replica that runs a command for a service: the first that runs.
pub(super) fn first_running<'f>(name: &str, found: &'f [Found]) -> Result<&'f Found> {
    found.iter().find(|container| container.state == "running").ok_or_else(|| {
        let states: Vec<String> = found.iter().map(Found::in_words).collect();
        Error::new(Kind::Conflict, format!("no command can run in `{name}`: {}", states.join(", "))).target(name).hint("start it first")
    })
}

/// Both streams of a command, each capped.
#[derive(Default)]
struct Streams {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    truncated: bool,
}

impl Streams {
    fn push(&mut self, piece: &LogOutput, most: usize) {
        let into = if matches!(piece, LogOutput::StdErr { .. }) { &mut self.stderr } else { &mut self.stdout };
        let bytes = piece.as_ref();
        let room = most.saturating_sub(into.len()).min(bytes.len());
        into.extend_from_slice(&bytes[..room]);
        self.truncated |= room < bytes.len();
    }

    fn finish(self, exit_code: Option<i64>, encoding: Encoding) -> Output {
        let text = |bytes: &[u8]| match encoding {
            Encoding::Text => String::from_utf8_lossy(bytes).into_owned(),
            Encoding::Base64 => BASE64_STANDARD.encode(bytes),
        };
        Output { exit_code, stdout: text(&self.stdout), stderr: text(&self.stderr), truncated: self.truncated }
    }
}

impl Docker {
    /// Runs a command in a container and waits for it.
    ///
    /// The engine has no call that ends a command. When this process may, it kills it by its
    /// identity on this machine, also when the wait is given up; otherwise the error says that it
    /// may still run.
    pub(super) async fn exec(&self, found: &Found, command: Command) -> Result<Output> {
        let what = format!("a command in `{}`", found.name);
        let client = self.client().await?;
        let created = CreateExecOptions {
            attach_stdin: Some(command.stdin.is_some()),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            tty: Some(false),
            env: (!command.env.is_empty()).then(|| command.env.clone()),
            cmd: Some(command.argv.clone()),
            user: command.user.clone(),
            working_dir: command.workdir.clone(),
            ..CreateExecOptions::default()
        };
        let refused = |error| failed(&what, error).target(&found.name);
        let id = within(QUICK, &what, async { client.create_exec(&found.id, created).await.map_err(refused) }).await?.id;
        let options = StartExecOptions::default();
        let started = within(QUICK, &what, async { client.start_exec(&id, Some(options)).await.map_err(refused) }).await?;
        let StartExecResults::Attached { output, input } = started else {
            return Err(Error::new(Kind::Bug, format!("{what}: started without its output")).target(&found.name));
        };
        let mut running = None;
        let exchange = exchange(output, input, command.stdin.as_deref(), command.max_bytes);
        let watch = async {
            running = self.process(&id, found).await;
            std::future::pending().await
        };
        let outcome = tokio::select! {
            outcome = tokio::time::timeout(command.timeout, exchange) => outcome,
            never = watch => never,
        };
        let Ok(streams) = outcome else {
            return Err(out_of_time(&command, found, running.is_some_and(Process::kill)));
        };
        let streams = streams.map_err(|error| refused(error).context("the output broke off"))?;
        let exit_code = self.exit_code(&id).await?;
        running.iter_mut().for_each(Process::forget);
        self.explain(&command, found, streams.finish(exit_code, command.encoding))
    }

    /// The engine reports a program it could not start as an exit code of the command.
    fn explain(&self, command: &Command, found: &Found, output: Output) -> Result<Output> {
        let is_runtime = output.stdout.contains("OCI runtime exec failed") || output.stderr.contains("OCI runtime exec failed");
        match output.exit_code {
            Some(126 | 127) if is_runtime => Err(Error::new(
                Kind::NotFound,
                format!("`{}` can not be started in `{}`: {}", command.argv[0], found.name, output.stdout.trim()),
            )
            .target(&found.name)
            .hint("name a program that is in the image; a shell's own words are none")),
            _ => Ok(output),
        }
    }

    /// The exit code, which the engine knows a moment after the streams end.
    async fn exit_code(&self, id: &str) -> Result<Option<i64>> {
        let client = self.client().await?;
        within(QUICK, "the exit code of a command", async {
            loop {
                let seen = client.inspect_exec(id).await.map_err(|error| failed("the exit code of a command", error))?;
                if seen.running != Some(true) {
                    return Ok(seen.exit_code);
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await
    }

    /// The process of a command, when the engine and it are on this machine. The engine knows it a
    /// moment after the command was started.
    async fn process(&self, id: &str, found: &Found) -> Option<Process> {
        if !self.address().starts_with("unix://") {
            return None;
        }
        let client = self.client().await.ok()?;
        loop {
            let seen = client.inspect_exec(id).await.ok()?;
            match seen.pid {
                Some(pid @ 1..) => return Process::open(i32::try_from(pid).ok()?, &found.id),
                _ if seen.exit_code.is_some() => return None,
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }
}

async fn exchange(
    mut output: Pin<Box<dyn Stream<Item = Result<LogOutput, bollard::errors::Error>> + Send>>,
    mut input: Pin<Box<dyn AsyncWrite + Send>>,
    stdin: Option<&[u8]>,
    most: usize,
) -> Result<Streams, bollard::errors::Error> {
    let write = async {
        if let Some(bytes) = stdin {
            // A command that does not want its input closes it; that is no failure.
            let _ = input.write_all(bytes).await;
            let _ = input.shutdown().await;
        }
        // Closing it early would end the connection, and with it the output.
        input
    };
    let read = async {
        let mut streams = Streams::default();
        while let Some(piece) = output.next().await {
            streams.push(&piece?, most);
        }
        Ok(streams)
    };
    let (_input, streams) = tokio::join!(write, read);
    streams
}

fn out_of_time(command: &Command, found: &Found, killed: bool) -> Error {
    let (outcome, hint) = if killed {
        ("and was killed", "give it more time with `timeout`; what it started itself may still run")
    } else {
        ("and may still run", "the docker engine can not end a command; look for it with `docker top`, or restart the container")
    };
    let limit = Span(command.timeout);
    Error::new(Kind::Timeout, format!("`{}` in `{}` took longer than {limit}, {outcome}", command.argv[0], found.name))
        .target(&found.name)
        .hint(hint)
}

/// A process in a container, held by a handle that never means another one. Killed when dropped.
struct Process(Option<OwnedFd>);

impl Process {
    /// The process, when it is one of that container on this machine.
    fn open(pid: i32, container: &str) -> Option<Self> {
        let handle = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
        // Asked after opening: if the number was used again meanwhile, the container does not fit.
        let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        (!container.is_empty() && groups.contains(container)).then_some(Self(Some(handle)))
    }

    fn kill(mut self) -> bool {
        self.0.take().is_some_and(|handle| pidfd_send_signal(&handle, Signal::KILL).is_ok())
    }

    fn forget(&mut self) {
        self.0 = None;
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(handle) = self.0.take() {
            // It may be over already; nobody is left to hear of it.
            let _ = pidfd_send_signal(&handle, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_beyond_the_cap_is_cut_and_that_is_said() {
        let mut streams = Streams::default();
        streams.push(&LogOutput::StdOut { message: "12345".into() }, 4);
        streams.push(&LogOutput::StdErr { message: "1".into() }, 4);
        let output = streams.finish(Some(0), Encoding::Text);
        assert_eq!((output.stdout.as_str(), output.stderr.as_str(), output.truncated), ("1234", "1", true));
    }

    #[test]
    fn bytes_that_are_no_text_survive_in_base64() {
        let mut streams = Streams::default();
        streams.push(&LogOutput::StdOut { message: vec![0xff, 0x00, b'\n'].into() }, 100);
        assert_eq!(streams.finish(Some(0), Encoding::Base64).stdout, "/wAK");
    }

    #[test]
    fn a_command_needs_a_program() {
        for argv in [vec![], vec![String::new()], vec!["-c".to_owned()], vec!["a\0b".to_owned()]] {
            assert!(Command::new(argv, &ExecOptions::default(), Vec::new(), None).is_err());
        }
    }
}
