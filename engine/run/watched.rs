//! What a run asks of what is watched, answered with the store of the one who supervises it.

use crate::error::{Error, Kind, Result};
use crate::host::{Answer, WatchQuestion};
use crate::monitor::desk::Desk;
use crate::monitor::duty::Duty;
use crate::run::redact::Redactor;
use crate::run::supervisor::Request;
use crate::store::{Keep, Samples, StateDir, Store, now};

/// The samples that a run asks of. Their file is opened by the first question that needs it, and once.
#[derive(Debug, Default)]
pub(super) struct Watched {
    samples: Option<(Place, Samples)>,
}

/// Where samples are.
#[derive(Debug, PartialEq)]
enum Place {
    File,
    /// Nowhere: who only looks leaves no file.
    Memory,
}

impl Watched {
    /// Answers, or does what is said. The worker has asked for permission already; it is asked here again, since
    /// it may be hostile. `run` is 0 while planning.
    pub(super) fn answer(
        &mut self,
        store: &dyn Store,
        state: &StateDir,
        request: &Request,
        redactor: &Redactor,
        run: u64,
        question: WatchQuestion,
    ) -> Result<Answer> {
        question.permit(&request.permissions)?;
        let question = masked(redactor, &question)?;
        let samples = self.samples(state, &question)?;
        let duty = Duty { store, system: &request.system, project: &request.addresses.project };
        Desk { duty, samples, by: &request.by, runbook: &request.script.name, run }.answer(question, now()).map(Answer::Value)
    }

    fn samples(&mut self, state: &StateDir, question: &WatchQuestion) -> Result<&Samples> {
        let file = state.samples();
        let place = if file.exists() || !question.is_read() { Place::File } else { Place::Memory };
        // Once it was open it is the one, also when its name is gone.
        let held = self.samples.take().filter(|(held, _)| *held == Place::File || *held == place);
        let (_, samples) = match held {
            Some(held) => self.samples.insert(held),
            None => {
                let samples =
                    if place == Place::File { Samples::open(&file, Keep::default()) } else { Samples::in_memory(Keep::default()) };
                self.samples.insert((place, samples?))
            }
        };
        Ok(samples)
    }
}

fn masked(redactor: &Redactor, question: &WatchQuestion) -> Result<WatchQuestion> {
    let read = |error: serde_json::Error| Error::new(Kind::Bug, format!("a question does not survive masking: {error}"));
    serde_json::from_value(redactor.value(serde_json::to_value(question).map_err(read)?)).map_err(read)
}
