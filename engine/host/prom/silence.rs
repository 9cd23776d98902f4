//! Silences of Alertmanager: made once by each step, over by themselves, or ended before.

use std::collections::BTreeMap;

use hyper::Method;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::client::Server;
use crate::error::{Error, Kind, Result};
use crate::host::http::Content;
use crate::model::Span;

const LASTS: Span = Span::secs(3600);
/// A silence that outlives whoever made it hides what nobody remembers.
const LONGEST: Span = Span::secs(30 * 24 * 3600);

/// How long alerts are silent, and why.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct SilenceOptions {
    #[serde(rename = "for")]
    lasts: Option<Span>,
    comment: Option<String>,
    by: Option<String>,
    pub(super) timeout: Option<Span>,
}

/// The labels alerts are silenced by.
pub(super) type Matchers = BTreeMap<String, Matcher>;

/// What the value of a label has to be.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub(super) enum Matcher {
    Is(String),
    Other(Comparison),
}

/// A comparison that is spelled out, so that a value from elsewhere is never read as one.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Comparison {
    Matches(String),
    IsNot(String),
    MatchesNot(String),
}

/// A silence as it is asked for.
pub(super) struct Silence {
    matchers: Vec<Value>,
    /// In the notation of Alertmanager, for people.
    shown: String,
    starts: Timestamp,
    ends: Timestamp,
    comment: String,
    by: String,
}

/// A silence as it was made.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Made {
    id: String,
    ends: Option<Timestamp>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Known {
    id: String,
    comment: String,
    ends_at: Option<Timestamp>,
    status: State,
}

#[derive(Deserialize)]
struct State {
    state: String,
}

impl Silence {
    /// The silence these matchers and options ask for.
    pub(super) fn of(server: &Server, matchers: &Matchers, options: SilenceOptions) -> Result<Self> {
        if matchers.is_empty() {
            return Err(Error::new(Kind::Invalid, "there is no matcher, expected at least one: everything would be silent")
                .hint("write it like `#{ alertname: \"HighCPU\" }`"));
        }
        if let Some(label) = matchers.keys().find(|label| !is_label(label)) {
            return Err(Error::new(Kind::Invalid, format!("`{}` can be no label", label.escape_debug())));
        }
        let lasts = options.lasts.unwrap_or(LASTS);
        if lasts.0.is_zero() || lasts > LONGEST {
            return Err(Error::new(
                Kind::Invalid,
                format!("the silence would last {lasts}, expected more than nothing and at most {LONGEST}"),
            ));
        }
        let starts = server.ctx().now();
        let ends = starts.checked_add(lasts.signed()).map_err(|error| Error::because(Kind::Invalid, "`for`", &error))?;
        let run = server.ctx().run();
        let each = matchers.iter().map(|(label, matcher)| matcher.parts(label));
        let (matchers, shown): (Vec<_>, Vec<_>) = each.unzip();
        Ok(Self {
            matchers,
            shown: shown.join(", "),
            starts,
            ends,
            comment: options.comment.unwrap_or_else(|| format!("made by {}, run {}", run.runbook, run.number)),
            by: options.by.unwrap_or_else(|| "runbook".to_owned()),
        })
    }

    /// What a plan says.
    pub(super) fn in_words(&self, name: &str) -> String {
        let ends = self.ends.duration_since(self.starts);
        let lasts = Span(ends.unsigned_abs());
        format!("{name}: silence {{{}}} for {lasts}", self.shown)
    }

    /// What a plan assumes was made.
    pub(super) fn planned(&self) -> Made {
        Made { id: String::new(), ends: Some(self.ends) }
    }

    /// Makes it, unless this step has made it before.
    pub(super) async fn make(self, server: &Server, key: &str) -> Result<Made> {
        #[derive(Deserialize)]
        struct Answer {
            #[serde(rename = "silenceID")]
            id: String,
        }
        // Alertmanager keeps a comment as it is, and so it remembers the step.
        let comment = format!("{} [{key}]", self.comment);
        let known: Vec<Known> = server.get(&["api", "v2", "silences"]).await?;
        if let Some(made) = known.into_iter().find(|known| known.comment == comment && known.status.state != "expired") {
            return Ok(Made { id: made.id, ends: made.ends_at });
        }
        let body = json!({
            "matchers": self.matchers, "startsAt": self.starts, "endsAt": self.ends, "createdBy": self.by, "comment": comment,
        });
        let Answer { id } = server.data(Method::POST, &["api", "v2", "silences"], Content::Json(body)).await?;
        Ok(Made { id, ends: Some(self.ends) })
    }
}

impl Matcher {
    /// As Alertmanager takes it, and as people write it.
    fn parts(&self, label: &str) -> (Value, String) {
        let (value, is_regex, is_equal, sign) = match self {
            Self::Is(value) => (value, false, true, "="),
            Self::Other(Comparison::Matches(value)) => (value, true, true, "=~"),
            Self::Other(Comparison::IsNot(value)) => (value, false, false, "!="),
            Self::Other(Comparison::MatchesNot(value)) => (value, true, false, "!~"),
        };
        let matcher = json!({ "name": label, "value": value, "isRegex": is_regex, "isEqual": is_equal });
        (matcher, format!("{label}{sign}{value:?}"))
    }
}

/// Ends a silence; false when it was over already.
pub(super) async fn end(server: &Server, id: &str) -> Result<bool> {
    let known: Known = server.get(&["api", "v2", "silence", id]).await.map_err(|error| match error.kind {
        Kind::NotFound => Error { message: format!("there is no silence `{id}`"), ..error },
        _ => error,
    })?;
    if known.status.state == "expired" {
        return Ok(false);
    }
    server.send(Method::DELETE, &["api", "v2", "silence", id], Content::Nothing).await.map(|_| true)
}

/// Refuses what can be no silence before anybody is asked.
pub(super) fn identified(id: &str) -> Result<()> {
    let is_id = id.len() == 36 && id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    if is_id {
        return Ok(());
    }
    Err(Error::new(Kind::Invalid, format!("`{}` is no silence, expected the `id` that `prom::silence` returns", id.escape_debug())))
}

fn is_label(text: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    text.bytes().next().is_some_and(letter) && text.bytes().all(|byte| letter(byte) || byte.is_ascii_digit())
}
