//! What a script can ask of what is watched: samples, rules, incidents. The supervisor answers, since it
//! alone has the store; [`crate::monitor`] knows how.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::host::{Access, Answer, Call, Permissions, Question, RhaiResultOf, value};
use crate::model::system::Rule;
use crate::model::{Effect, Labels, Selector, Series, Severity, Span};

/// A question about what is watched, or a word about it. It is about the system of the run, and no other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum WatchQuestion {
    /// Samples as they came, or in spans of `step`.
    Range {
        /// Which series.
        selector: String,
        /// From then.
        from: Timestamp,
        /// Until then.
        to: Timestamp,
        /// The length of a span.
        step: Option<Span>,
    },
    /// What the samples of a window come to.
    Stats {
        /// Which series.
        selector: String,
        /// How far back.
        window: Span,
    },
    /// The newest sample of each series.
    Last {
        /// Which series.
        selector: String,
        /// How far back.
        window: Span,
    },
    /// Where series are going.
    Trend {
        /// Which series.
        selector: String,
        /// How far back.
        window: Span,
        /// What they should not reach.
        limit: Option<f64>,
        /// Whether small values are the bad ones.
        below: bool,
        /// How far ahead.
        horizon: Span,
    },
    /// How much of a time something was up.
    Availability {
        /// Which series; 0 is down.
        selector: String,
        /// How far back.
        window: Span,
        /// The per cent that are wanted.
        target: Option<f64>,
        /// How long a sample holds without another one.
        holds: Span,
    },
    /// Keep samples. Durable as samples are: a power cut may take the newest.
    Append {
        /// Each series with its value, nothing for unknown; of the moment of the question where none is given.
        samples: Vec<(Series, Option<f64>, Option<Timestamp>)>,
    },
    /// What rules say, after what they said before.
    Rules(RulesQuestion),
    /// Rules as Prometheus writes them: expressions by name, and a rule file.
    Expressions {
        /// The rules.
        rules: BTreeMap<String, Rule>,
    },
    /// Incidents, the newest first.
    Incidents {
        /// Only those that are not over.
        open: bool,
        /// Only those opened at or after this.
        since: Option<Timestamp>,
        /// At most so many.
        limit: u32,
    },
    /// One incident, with its clocks.
    Incident {
        /// Its number.
        number: u64,
    },
    /// What is known of an incident as a root-cause report, in the language of the system.
    Postmortem {
        /// Its number.
        number: u64,
    },
    /// Something is not as it should be.
    Open(Opening),
    /// All is well again.
    Recovered {
        /// The incident.
        number: u64,
        /// The last measured value.
        value: Option<f64>,
    },
    /// Something is to be remembered.
    Note {
        /// The incident.
        number: u64,
        /// What sort of moment it is.
        kind: String,
        /// What is to be said of it.
        text: String,
    },
    /// Whoever started the run takes care of it.
    Acknowledge {
        /// The incident.
        number: u64,
        /// What is to be said of it.
        text: String,
    },
    /// It is over.
    Resolve {
        /// The incident.
        number: u64,
        /// What is to be said of it.
        text: String,
    },
    /// It goes to the next person.
    Escalate {
        /// The incident.
        number: u64,
        /// Why.
        text: String,
    },
    /// What was learnt; what is not given stays as it is.
    Learn {
        /// The incident.
        number: u64,
        /// By `impact`, `cause`, `repair` and `prevention`.
        findings: BTreeMap<String, String>,
    },
    /// Look at the clocks of all that is open.
    Pass,
    /// What the repair policies of the system say to what fires; each rule is asked again now.
    Repairs {
        /// Whether all of them only watch.
        observe: bool,
    },
    /// Write a repair down before it is made, when the policy still says so.
    Reserve {
        /// The policy.
        policy: String,
        /// The incident it is for.
        incident: u64,
        /// Whether it only watches.
        observe: bool,
    },
    /// The run of a repair is over.
    Conclude {
        /// The number of the repair.
        repair: u64,
        /// The run; nothing when it could not be started.
        run: Option<u64>,
        /// What is to be said of it.
        text: String,
    },
    /// Look whether repairs that were made have helped.
    Prove,
}

/// What rules are asked.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RulesQuestion {
    /// The rules.
    pub rules: BTreeMap<String, Rule>,
    /// What was measured just now and is not stored yet; nothing for unknown.
    pub also: Vec<(Series, Option<f64>)>,
    /// Alarms that fired when they were last looked at.
    pub firing: Vec<Firing>,
    /// Series that were made up; those that are stored when there are none.
    pub made_up: Vec<MadeUp>,
    /// The time between two samples that were made up.
    pub every: Option<Span>,
    /// The moment, from the first sample that was made up.
    pub at: Option<Span>,
}

/// An alarm that fired.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Firing {
    /// The rule.
    pub rule: String,
    /// The labels it keeps apart.
    #[serde(default)]
    pub labels: Labels,
    /// Since when.
    pub since: Timestamp,
}

/// A series that was made up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MadeUp {
    /// Its name and labels.
    pub series: Series,
    /// Its samples: `1x10 0x20 ?x5`.
    pub values: String,
}

/// An incident as a script opens it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Opening {
    /// What it is, in one line.
    pub title: String,
    /// How severe it is.
    pub severity: Severity,
    /// What it comes from.
    #[serde(default)]
    pub source: OpeningSource,
    /// What tells it from others of the same source.
    #[serde(default)]
    pub labels: Labels,
    /// The service it is about.
    #[serde(default)]
    pub service: Option<String>,
    /// The measured value.
    #[serde(default)]
    pub value: Option<f64>,
    /// What is to be said of it.
    #[serde(default)]
    pub text: String,
}

/// What an incident comes from that a script opens.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OpeningSource {
    /// The runbook itself.
    #[default]
    Runbook,
    /// Whoever started the run.
    Person,
    /// A rule of the system that fires.
    Rule(String),
    /// A rule of the system that gets no answer.
    Silence(String),
}

impl WatchQuestion {
    /// Whether it changes nothing.
    pub fn is_read(&self) -> bool {
        matches!(
            self,
            Self::Range { .. }
                | Self::Stats { .. }
                | Self::Last { .. }
                | Self::Trend { .. }
                | Self::Availability { .. }
                | Self::Rules(_)
                | Self::Expressions { .. }
                | Self::Incidents { .. }
                | Self::Incident { .. }
                | Self::Postmortem { .. }
                | Self::Repairs { .. }
        )
    }

    /// What has to be granted, by section, verb and object; asked in the worker, and again by the supervisor.
    ///
    /// # Errors
    ///
    /// `invalid` for what is no selector.
    fn needs(&self) -> Result<Vec<(&'static str, &'static str, String)>> {
        let name = |selector: &str| selector.parse::<Selector>().map(|selector| selector.name);
        let one = |section, verb, object: String| Ok(vec![(section, verb, object)]);
        match self {
            Self::Range { selector, .. }
            | Self::Stats { selector, .. }
            | Self::Last { selector, .. }
            | Self::Trend { selector, .. }
            | Self::Availability { selector, .. } => one("samples", "read", name(selector)?),
            Self::Append { samples } => Ok(samples.iter().map(|(series, ..)| ("samples", "write", series.name.clone())).collect()),
            // What was made up is nobody's.
            Self::Rules(question) if !question.made_up.is_empty() => Ok(Vec::new()),
            Self::Rules(question) => {
                let selectors = question.rules.values().flat_map(|rule| std::iter::once(&rule.series).chain(&rule.total));
                selectors.map(|selector| Ok(("samples", "read", name(selector)?))).collect()
            }
            Self::Expressions { .. } => Ok(Vec::new()),
            Self::Incidents { .. } | Self::Incident { .. } | Self::Postmortem { .. } | Self::Repairs { .. } => {
                one("incidents", "read", ALL.to_owned())
            }
            Self::Open(_) => one("incidents", "open", ALL.to_owned()),
            Self::Note { .. } | Self::Learn { .. } => one("incidents", "note", ALL.to_owned()),
            Self::Acknowledge { .. } => one("incidents", "ack", ALL.to_owned()),
            Self::Recovered { .. } | Self::Resolve { .. } => one("incidents", "resolve", ALL.to_owned()),
            Self::Reserve { .. } | Self::Conclude { .. } | Self::Prove => one("incidents", "repair", ALL.to_owned()),
            Self::Escalate { .. } | Self::Pass => one("incidents", "escalate", ALL.to_owned()),
        }
    }

    /// Asks whether the permissions cover it.
    ///
    /// # Errors
    ///
    /// `denied`, naming the grant that is missing; `invalid` for what is no selector.
    pub fn permit(&self, permissions: &Permissions) -> Result<()> {
        self.needs()?.iter().try_for_each(|(section, verb, object)| permissions.check(&Access::word(section, verb, object)).map(drop))
    }
}

/// The incidents of the system are one thing: they are granted as a whole, verb by verb.
pub(super) const ALL: &str = "*";

/// Asks what is read.
pub(super) fn ask(call: &Call<'_>, question: WatchQuestion) -> RhaiResultOf<rhai::Dynamic> {
    question.permit(call.ctx().permissions()).map_err(|error| call.fail(error))?;
    let answer = call.ctx().recorder().ask(Question::Watch(question)).map_err(|error| call.fail(error))?;
    Ok(value::dynamic(&answer.into_value()))
}

/// Says what changes something; `planned` is the answer in a plan.
pub(super) fn tell(call: &Call<'_>, effect: Effect, question: WatchQuestion) -> RhaiResultOf<rhai::Dynamic> {
    question.permit(call.ctx().permissions()).map_err(|error| call.fail(error))?;
    let work = async { call.ctx().recorder().ask(Question::Watch(question)).map(Answer::into_value) };
    // Said again after a crash it changes nothing more: what it is about knows it.
    let answer = call.effect(effect.once(true), Value::Null, work)?;
    call.answer(&answer)
}

/// Data of a script as a type of ours.
pub(super) fn data<T: serde::de::DeserializeOwned>(given: &rhai::Dynamic, what: &str) -> Result<T> {
    let plain = value::plain(given)?;
    serde_json::from_value(plain).map_err(|error| Error::new(crate::error::Kind::Invalid, format!("{what}: {error}")))
}
