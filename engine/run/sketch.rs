//! What a planning worker writes down: steps that would be taken, answers of checks, nothing durable.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::json;

use crate::error::{Error, Kind, Result};
use crate::host::{Answer, Gate, Question, Recorder};
use crate::model::{Effect, EventKind, Intent, Level, Outcome, Plan, PlannedStep};
use crate::script::hash;

/// The steps of a plan so far. Questions go to the supervisor.
pub(super) struct Sketch {
    line: Arc<dyn Recorder>,
    steps: Mutex<Vec<PlannedStep>>,
}

impl Sketch {
    pub(super) fn new(line: Arc<dyn Recorder>) -> Self {
        Self { line, steps: Mutex::default() }
    }

    /// Takes what was sketched.
    pub(super) fn steps(&self) -> Vec<PlannedStep> {
        std::mem::take(&mut self.steps.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn push(&self, step: PlannedStep) {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner).push(step);
    }
}

impl Recorder for Sketch {
    fn begin(&self, intent: Intent) -> Result<Gate> {
        // Another try of a step is no other step.
        if intent.attempt <= 1 {
            self.push(PlannedStep { key: intent.key, name: intent.name, level: None, effects: Vec::new(), unknown: None, run: None });
        }
        Ok(Gate::Go)
    }

    fn end(&self, _: &str, _: Outcome, _: u64) -> Result<()> {
        Ok(())
    }

    fn effect(&self, _: &str, _: Effect) -> Result<()> {
        Ok(())
    }

    fn tell(&self, event: EventKind) -> Result<()> {
        if let EventKind::Checked(check) = event {
            // What is measured differs each time; whether it would pass is what a plan can say.
            let unknown = (check.level == Level::Unknown).then_some(check.detail);
            let key = format!("check {}", check.name);
            self.push(PlannedStep { key, name: check.name, level: Some(check.level), effects: Vec::new(), unknown, run: None });
        }
        Ok(())
    }

    fn ask(&self, question: Question) -> Result<Answer> {
        match question {
            // Files are kept with a run, and there is none.
            Question::Keep { name, content } => Ok(Answer::Value(json!({ "name": name, "size": content.len(), "sha256": hash(&content) }))),
            Question::Get { .. }
            | Question::Keys { .. }
            | Question::History { .. }
            | Question::Outbox
            | Question::SocketOwners
            | Question::DeletedFiles { .. } => self.line.ask(question),
            Question::Watch(about) if about.is_read() => self.line.ask(Question::Watch(about)),
            Question::Run(order) => {
                let key = order.key.clone();
                let answer = self.line.ask(Question::Run(order))?;
                let plan: Plan = serde_json::from_value(answer.clone().into_value())
                    .map_err(|error| Error::new(Kind::Bug, format!("the plan of a sub-run can not be read: {error}")))?;
                let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
                for step in steps.iter_mut().filter(|step| step.key == key) {
                    step.run = Some(Box::new(plan.clone()));
                }
                Ok(answer)
            }
            question => Err(Error::new(Kind::Bug, format!("a plan asked for something that is done: {question:?}"))),
        }
    }
}
