//! Questions to people: a run waits until enough of them said yes, one said no, or time is over.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::json;

use super::child::SubRun;
use super::{Supervisor, ToWorker};
use crate::error::{Error, Kind, Result};
use crate::host::{Answer, PersonQuestion};
use crate::model::{Approval, ApprovalVerdict, Asked, Event, EventKind, Run, hash_of, verdict};
use crate::run::protocol::Reply;
use crate::store::now;

/// How often to look for an answer.
const LOOK: Duration = Duration::from_millis(200);

/// A question of the worker that waits for a person.
pub(super) struct Waiting {
    id: u64,
    question: PersonQuestion,
    /// What people see of it, once it is its turn.
    asked: Option<Asked>,
    looked: Instant,
    /// The sub-run that starts with a yes; without one the yes is the answer.
    run: Option<Box<SubRun>>,
}

impl Supervisor<'_> {
    /// Takes a question. Branches may ask at the same time; people are asked one thing after the other.
    pub(super) fn ask_person(&mut self, id: u64, question: PersonQuestion) {
        self.persons.push_back(Waiting { id, question, asked: None, looked: Instant::now(), run: None });
    }

    /// Takes a question that has to be answered before a sub-run starts.
    pub(super) fn ask_person_for(&mut self, question: PersonQuestion, sub: SubRun) {
        let (id, run) = (sub.id, Some(Box::new(sub)));
        self.persons.push_back(Waiting { id, question, asked: None, looked: Instant::now(), run });
    }

    /// Asks the next question, and looks for its answer; a sub-run that may start now.
    pub(super) fn look_at_persons(&mut self, watch: &mut dyn FnMut(&Run, &Event)) -> Result<Option<SubRun>> {
        if self.stopping.is_some() {
            for waiting in std::mem::take(&mut self.persons) {
                self.answer_person(waiting.id, Err(Error::new(Kind::Cancelled, "the run was stopped while it waited for an answer")));
            }
            return Ok(None);
        }
        let Some(waiting) = self.persons.front_mut() else { return Ok(None) };
        if waiting.asked.is_some() && waiting.looked.elapsed() < LOOK {
            return Ok(None);
        }
        waiting.looked = Instant::now();
        let Some(asked) = waiting.asked.clone() else {
            let asked = self.asked(self.persons[0].question.clone());
            self.persons[0].asked = Some(asked.clone());
            self.event(EventKind::Asked(asked), watch)?;
            return self.commit().map(|()| None);
        };
        let said = self.store.approvals(&asked.hash)?;
        let answer = match verdict(&said, &asked.requester, &asked.approvers, asked.quorum, now()) {
            ApprovalVerdict::Approved => Ok(said),
            ApprovalVerdict::Denied => Err(denied(&asked, &said)),
            ApprovalVerdict::Open if asked.until <= now() => Err(expired(&asked)),
            ApprovalVerdict::Open => return Ok(None),
        };
        let (id, run) = self.persons.pop_front().map_or((0, None), |waiting| (waiting.id, waiting.run));
        let people = |said: &[Approval]| said.iter().filter(|said| said.approved).map(|said| said.by.clone()).collect::<Vec<_>>();
        let by = answer.as_deref().map(people).unwrap_or_default();
        self.event(EventKind::Answered { key: asked.key, approved: answer.is_ok(), by: by.clone() }, watch)?;
        self.commit()?;
        if let (Ok(_), Some(run)) = (&answer, run) {
            return Ok(Some(*run));
        }
        let reason = |said: Vec<Approval>| said.last().map(|said| said.reason.clone()).unwrap_or_default();
        self.answer_person(id, answer.map(|said| Answer::Value(json!({ "approved": true, "by": by, "reason": reason(said) }))));
        Ok(None)
    }

    /// The steps whose questions wait for an answer.
    pub(super) fn asked_in(&self) -> impl Iterator<Item = &str> {
        self.persons.iter().map(|waiting| waiting.question.key.as_str())
    }

    /// Nobody waits for the answers any more; a run that goes on asks again.
    pub(super) fn leave_persons(&mut self, why: &Error) {
        for waiting in std::mem::take(&mut self.persons) {
            self.answer_person(waiting.id, Err(why.clone()));
        }
    }

    fn answer_person(&mut self, id: u64, answer: Result<Answer>) {
        self.tell_worker(&ToWorker::Reply { id, reply: answer.map(Reply::Answer) });
    }

    fn asked(&self, question: PersonQuestion) -> Asked {
        let effects: Vec<_> = self.run.steps.iter().flat_map(|step| &step.effects).collect();
        let hash = hash_of(&json!({ "run": self.run.id, "question": question, "effects": effects, "asked": now() }));
        let expires = question.expires.signed();
        Asked {
            key: question.key,
            question: self.redactor.text(&question.question),
            hash,
            requester: self.request.origin.account.clone(),
            approvers: question.approvers,
            quorum: question.quorum.max(1),
            until: now().checked_add(expires).unwrap_or(Timestamp::MAX),
            reason: self.redactor.text(&question.reason),
        }
    }
}

fn denied(asked: &Asked, said: &[Approval]) -> Error {
    let no = said.iter().rev().find(|said| !said.approved);
    let who = no.map(|no| format!(" by {}: {}", no.by, no.reason)).unwrap_or_default();
    Error::new(Kind::Refused, format!("`{}` was denied{who}", asked.question)).permanent()
}

fn expired(asked: &Asked) -> Error {
    Error::new(Kind::Timeout, format!("`{}` was not answered in time, which is a no", asked.question)).permanent()
}
