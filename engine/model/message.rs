//! A message to people, and the parcel that carries it to one contact.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::Level;

/// What people are told, whatever the channel.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Message {
    /// The identity of the parcel it travels in, the same at every attempt; set by the outbox. What
    /// makes a second copy recognisable when an answer was lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// One line that says what happened.
    pub subject: String,
    /// What happened, in plain text.
    pub text: String,
    /// The same in Markdown, for channels that show it. Its data was escaped by whoever wrote it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub markdown: Option<String>,
    /// The same in HTML, for mail. Its data was escaped by whoever wrote it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub html: Option<String>,
    /// How urgent it is.
    pub level: Urgency,
    /// Names and values below the text: service, host, value, since.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub facts: Vec<(String, String)>,
    /// The next command to type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// The language of the words around the text: `en` or `zh`.
    pub language: String,
    /// Messages with the same key say the same thing; they are sent once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dedupe: Option<String>,
}

/// How urgent a message is: the level of a check, or the severity of an incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Urgency {
    /// What a check answered.
    Level(Level),
    /// How severe an incident is.
    Severity(Severity),
}

/// How severe an incident is; each system has its own names for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Nothing works.
    Sev1,
    /// A main function does not work.
    Sev2,
    /// A part does not work.
    Sev3,
    /// An inconvenience.
    Sev4,
    /// A note.
    Sev5,
}

impl Severity {
    /// The one of this name, `sev1` to `sev5`.
    pub fn parse(name: &str) -> Option<Self> {
        match Urgency::parse(name) {
            Some(Urgency::Severity(severity)) => Some(severity),
            _ => None,
        }
    }
}

impl Default for Urgency {
    /// News, nothing to act on.
    fn default() -> Self {
        Self::Level(Level::Ok)
    }
}

impl Urgency {
    /// Every one, the most urgent first.
    pub const ALL: [Self; 9] = [
        Self::Severity(Severity::Sev1),
        Self::Level(Level::Critical),
        Self::Severity(Severity::Sev2),
        Self::Level(Level::Unknown),
        Self::Severity(Severity::Sev3),
        Self::Level(Level::Warning),
        Self::Severity(Severity::Sev4),
        Self::Severity(Severity::Sev5),
        Self::Level(Level::Ok),
    ];

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Level(level) => level.name(),
            Self::Severity(Severity::Sev1) => "sev1",
            Self::Severity(Severity::Sev2) => "sev2",
            Self::Severity(Severity::Sev3) => "sev3",
            Self::Severity(Severity::Sev4) => "sev4",
            Self::Severity(Severity::Sev5) => "sev5",
        }
    }

    /// The one of this name; a `recovery` is good news.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "recovery" => Some(Self::Level(Level::Ok)),
            _ => Self::ALL.into_iter().find(|urgency| urgency.name() == name),
        }
    }

    /// Whether people are called out of bed for it.
    pub fn is_critical(self) -> bool {
        matches!(self, Self::Level(Level::Critical) | Self::Severity(Severity::Sev1))
    }

    /// Its place in [`Self::ALL`]: smaller is more urgent.
    pub fn rank(self) -> usize {
        Self::ALL.iter().position(|other| *other == self).unwrap_or(Self::ALL.len())
    }
}

/// A message on its way to one contact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parcel {
    /// Its identity; identities of one contact sort in the order the parcels were made.
    pub id: String,
    /// The name of the contact.
    pub contact: String,
    /// The name of the system the contact belongs to.
    pub system: String,
    /// The directory of the project the system belongs to.
    #[serde(default)]
    pub project: String,
    /// What it carries.
    pub message: Message,
    /// What became of it.
    pub state: ParcelState,
    /// How often it was tried.
    #[serde(default)]
    pub attempts: u32,
    /// When it was put into the outbox.
    pub created: Timestamp,
    /// Not before then is it tried.
    pub due: Timestamp,
    /// Why the last try failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// The contacts it could not be delivered to before this one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub via: Vec<String>,
}

impl Parcel {
    /// A parcel that is due at once, for a system of no project.
    pub fn new(id: impl Into<String>, contact: impl Into<String>, system: impl Into<String>, message: Message, now: Timestamp) -> Self {
        Self {
            id: id.into(),
            contact: contact.into(),
            system: system.into(),
            project: String::new(),
            message,
            state: ParcelState::Queued,
            attempts: 0,
            created: now,
            due: now,
            last_error: None,
            via: Vec::new(),
        }
    }
}

/// One channel: a contact of a system.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Channel {
    /// The directory of the project the system belongs to: several projects keep one outbox, and each
    /// may have a system of the same name with other people.
    pub project: String,
    /// The name of the system.
    pub system: String,
    /// The name of the contact.
    pub contact: String,
}

impl Channel {
    /// The channel a parcel is for.
    pub fn of(parcel: &Parcel) -> Self {
        Self { project: parcel.project.clone(), system: parcel.system.clone(), contact: parcel.contact.clone() }
    }
}

/// What became of a parcel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ParcelState {
    /// It waits to be delivered.
    Queued,
    /// The channel accepted it.
    Delivered,
    /// It was given up; a person should know.
    Dead,
}

impl ParcelState {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Delivered => "delivered",
            Self::Dead => "dead",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_urgency_reads_as_a_level_or_a_severity() {
        let read = |text: &str| serde_json::from_str::<Urgency>(text).unwrap();
        assert_eq!(read(r#""critical""#), Urgency::Level(Level::Critical));
        assert_eq!(read(r#""sev2""#), Urgency::Severity(Severity::Sev2));
        for urgency in Urgency::ALL {
            assert_eq!(Urgency::parse(urgency.name()), Some(urgency));
            assert_eq!(serde_json::to_value(urgency).unwrap(), urgency.name());
        }
        assert_eq!(Urgency::parse("recovery"), Some(Urgency::default()));
        assert_eq!(Urgency::parse("loud"), None);
    }
}
