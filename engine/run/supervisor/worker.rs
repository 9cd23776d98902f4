//! The process that evaluates the script.

use std::io::{BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::mpsc::SyncSender;

use super::{Message, Supervisor};
use crate::error::{Error, Kind, Result};
use crate::host::{Mode, RunInfo, kill_descendants};
use crate::run::process::{Children, children, sweep, workers};
use crate::run::protocol::{Carried, Job, ToWorker, receive, send};

/// A process that has loaded everything and waits for what to run.
#[derive(Debug)]
pub struct Worker {
    pub(in crate::run) process: Child,
    /// Whether what else this process has for children was left by it.
    pub(super) alone: bool,
}

impl Worker {
    /// Starts one from this binary. It takes as long to load as everything that comes before the run,
    /// so this is best done first.
    ///
    /// # Errors
    ///
    /// `bug`, when it can not be started.
    pub fn start(binary: &Path) -> Result<Self> {
        use std::os::unix::process::CommandExt;
        // A subreaper inherits what a killed worker leaves behind; without it, process groups must do.
        if children() != Children::OfAnother {
            let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
        }
        // Nobody sweeps between its start and the note that it is one.
        let mut workers = workers();
        let process = Command::new(binary)
            .arg("__worker")
            .env_clear()
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| Error::because(Kind::Bug, format_args!("the worker `{}` can not be started", binary.display()), &error))?;
        workers.insert(process.id());
        Ok(Self { process, alone: true })
    }

    pub(super) fn kill(&mut self) {
        // Beside other workers, or in another program, its orphans could not be told from other children: they go
        // before it.
        if (children() == Children::OfAnother || !self.alone) && matches!(self.process.try_wait(), Ok(None)) {
            kill_descendants(self.process.id());
        }
        // It may have ended by itself in between.
        let _ = self.process.kill();
    }

    pub(super) fn end(&mut self) {
        self.kill();
        let _ = self.process.wait();
    }
}

/// A run that does not come about leaves no process.
impl Drop for Worker {
    fn drop(&mut self) {
        self.end();
        workers().remove(&self.process.id());
    }
}

/// Ends what a worker left behind, which this process inherits.
pub(super) fn end_orphans() {
    match children() {
        Children::OfOneRun => drop(kill_descendants(std::process::id())),
        Children::OfManyRuns => sweep(),
        Children::OfAnother => {}
    }
}

pub(super) fn listen(output: &mut BufReader<impl Read>, sender: &SyncSender<Message>) {
    loop {
        let message = match receive(output) {
            Ok(Some(message)) => Message::Worker(message),
            Ok(None) => Message::Gone,
            Err(error) => Message::Broken(error),
        };
        let last = !matches!(message, Message::Worker(_));
        if sender.send(message).is_err() || last {
            return;
        }
    }
}

/// What a dying process says: its first lines tell why.
pub(super) fn read_last_words(stderr: ChildStderr) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut words = Vec::new();
        let mut stderr = stderr;
        // What is over the limit is read and dropped, so that the worker does not block.
        let _ = stderr.by_ref().take(64 << 10).read_to_end(&mut words);
        let _ = std::io::copy(&mut stderr, &mut std::io::sink());
        String::from_utf8_lossy(&words).into_owned()
    })
}

impl Supervisor<'_> {
    pub(super) fn send_job(&mut self) -> Result<()> {
        let script = &self.request.script;
        let directory = self.state.work(self.run.run);
        let clock = self.request.answers.as_ref().map(|answers| answers.now());
        let started = clock.unwrap_or(self.run.started);
        let job = Job {
            run: RunInfo { id: self.run.id, number: self.run.run, runbook: self.run.runbook.clone(), started, directory },
            name: script.name.clone(),
            path: script.path.clone(),
            text: script.text.clone(),
            modules: script.modules.clone(),
            params: self.request.params.clone(),
            system: self.request.system.clone(),
            system_name: self.request.system.name.clone(),
            mode: if clock.is_some() { Mode::Test } else { Mode::Apply },
            clock,
            before: Vec::new(),
            plan: self.request.plan.as_ref().map(|plan| Carried {
                steps: plan.steps.clone(),
                unknown: plan.unknown.clone(),
                fingerprints: plan
                    .fingerprints
                    .iter()
                    .filter(|(name, _)| *name != "host")
                    .map(|(name, id)| (name.clone(), id.clone()))
                    .collect(),
            }),
            permissions: self.request.permissions.clone(),
            secrets: self.request.secrets.clone(),
            limits: self.request.limits,
            recalled: std::mem::take(&mut self.journal.recalled),
            takes_back: self.compensation.is_some(),
            protected: self.request.protected.clone(),
        };
        self.tell_worker(&ToWorker::Job(Box::new(job)));
        Ok(())
    }

    /// A worker that is gone is noticed by the end of its output.
    pub(super) fn tell_worker(&mut self, message: &ToWorker) {
        if let Some(input) = &mut self.input {
            let _ = send(input, message);
        }
    }
}
