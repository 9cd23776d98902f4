//! Answers to what the worker asks: it has neither the store nor the outbox.

use serde_json::Value;

use super::Supervisor;
use crate::error::{Error, Kind, Result};
use crate::host::notify::kind_of;
use crate::host::{Access, Answer, Question, deleted_files, socket_owners};
use crate::model::system::Contact;
use crate::model::{Intent, Message as Notice, Parcel};
use crate::run::journal::{End, Past};
use crate::run::notes::Notes;
use crate::run::outbox;
use crate::run::protocol::{Reply, ToWorker};
use crate::store::{Filter, now};

/// A longer message is refused, whatever the worker let through.
const LONGEST_MESSAGE: usize = 4 << 20;

impl Supervisor<'_> {
    pub(super) fn is_for_the_test(&self, question: &Question) -> bool {
        self.request.answers.as_ref().is_some_and(|answers| answers.are_for(question))
    }

    pub(super) fn answer_by_test(&mut self, id: u64, question: Question) {
        let Some(answers) = &self.request.answers else { return };
        let reply = answers.answer(question).map(Reply::Answer);
        self.tell_worker(&ToWorker::Reply { id, reply });
    }

    pub(super) fn answer(&mut self, question: Question) -> Result<Answer> {
        let notes = Notes::new(self.store, &self.run.runbook, self.run.system.as_deref().unwrap_or_default());
        // The worker has asked for permission already; it is asked here again, since it may be hostile.
        let permit =
            |section: &str, verb: &str, object: &str| self.request.permissions.check(&Access::word(section, verb, object)).map(drop);
        match question {
            Question::Get { key } => {
                permit("store", "read", &key)?;
                Ok(notes.get(&key)?.map_or(Answer::Nothing, Answer::Value))
            }
            Question::Put { key, value } => {
                permit("store", "write", &key)?;
                notes.keep(&key, &self.redactor.value(value))?;
                Ok(Answer::Nothing)
            }
            Question::Keys { prefix } => {
                permit("store", "read", &prefix)?;
                Ok(Answer::Value(notes.keys(&prefix)?.into()))
            }
            Question::Keep { name, content } => {
                let artefact = self.state.keep(self.run.run, &name, self.redactor.text(&content).as_bytes())?;
                serde_json::to_value(artefact).map(Answer::Value).map_err(|error| Error::new(Kind::Bug, error.to_string()))
            }
            Question::History { runbook, limit } => {
                permit("runs", "read", &runbook)?;
                let filter =
                    Filter { runbook: Some(runbook), system: self.run.system.clone(), limit: limit.clamp(1, 1000), ..Filter::default() };
                serde_json::to_value(self.store.list(&filter)?).map(Answer::Value).map_err(|error| Error::new(Kind::Bug, error.to_string()))
            }
            Question::Send { contact, message } => {
                permit("notify", "send", &contact)?;
                self.post(&contact, message)
            }
            Question::Outbox => {
                permit("notify", "send", "outbox")?;
                self.standing()
            }
            Question::Doubt { key, error } => {
                let intent = Intent { key: key.clone(), ..Intent::default() };
                let past = self.doubtful.remove(&key).unwrap_or(Past { intent, started: now(), effects: Vec::new(), end: End::Open });
                Err(self.doubt(&past, Some(&error)))
            }
            Question::Watch(question) => self.watched.answer(self.store, self.state, &self.request, &self.redactor, self.run.run, question),
            Question::SocketOwners => {
                self.request.permissions.check(&Access::host("listeners", "localhost", 0))?;
                serde_json::to_value(socket_owners()).map(Answer::Value).map_err(|error| Error::new(Kind::Bug, error.to_string()))
            }
            Question::DeletedFiles { device, limit } => {
                permit("sys", "read", "processes")?;
                serde_json::to_value(deleted_files(device, limit)?)
                    .map(Answer::Value)
                    .map_err(|error| Error::new(Kind::Bug, error.to_string()))
            }
            Question::Call { .. } => Err(Error::new(Kind::Bug, "only a test answers calls")),
            Question::Person(_) => Err(Error::new(Kind::Bug, "people answer later")),
            Question::Flush => Err(Error::new(Kind::Bug, "a flush is answered when it is done")),
            Question::Run(_) => Err(Error::new(Kind::Bug, "a sub-run is answered when it is over")),
        }
    }

    /// Puts a message into the outbox; the identity of its parcel, or nothing when it was said already.
    fn post(&self, contact: &str, message: Value) -> Result<Answer> {
        let system = &self.request.system;
        match system.contacts.get(contact) {
            None => return Err(Error::new(Kind::NotFound, format!("system `{}` has no contact `{contact}`", system.name))),
            Some(person @ Contact::Person { .. }) => {
                return Err(Error::new(Kind::Invalid, format!("`{contact}` is a {} and gets no messages", kind_of(person))));
            }
            Some(_) => {}
        }
        let message = self.redactor.value(message);
        if message.to_string().len() > LONGEST_MESSAGE {
            return Err(Error::new(Kind::Limit, format!("the message is longer than {} MiB", LONGEST_MESSAGE >> 20)));
        }
        let message: Notice =
            serde_json::from_value(message).map_err(|error| Error::new(Kind::Invalid, format!("this is no message: {error}")))?;
        let message = Notice { id: None, ..message };
        let mut parcel = Parcel::new(uuid::Uuid::now_v7(), contact, &system.name, message, now());
        parcel.project.clone_from(&self.request.addresses.project);
        let posted = outbox::post(self.store, &parcel)?;
        Ok(if posted { Answer::Value(parcel.id.into()) } else { Answer::Nothing })
    }

    pub(super) fn standing(&self) -> Result<Answer> {
        let standing = outbox::standing(self.store)?;
        serde_json::to_value(standing).map(Answer::Value).map_err(|error| Error::new(Kind::Bug, error.to_string()))
    }
}
