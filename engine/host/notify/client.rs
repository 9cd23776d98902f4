//! One message to one contact: the real answer of the channel, and what to do when it said no.

use std::time::Duration;

use serde::Serialize;

use crate::error::{Error, Kind};
use crate::host::Secrets;
use crate::host::notify::{dingtalk, email, slack, sms, webhook, words};
use crate::host::secrets::MASK;
use crate::model::system::Contact;
use crate::model::{Message, Span};

/// A channel has this long to accept a connection.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A channel has this long for everything.
pub(super) const TOTAL_TIMEOUT: Duration = Duration::from_secs(20);

/// What a channel said when it accepted a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Receipt {
    /// One line of its answer, and who was left out if anyone was.
    pub detail: String,
}

/// Why a channel did not accept a message, and what to do now.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// Why. Never holds a secret, a path or a query of the contact's address.
    pub error: Error,
    /// Whether to try again.
    pub retry: Retry,
}

/// Whether a message that was not accepted is worth another try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// The channel said when.
    After(Duration),
    /// With the usual back-off.
    Later,
    /// It would fail in the same way: the contact is set up wrongly, or the channel is gone.
    Never,
}

impl Refusal {
    /// Worth another try.
    pub(super) fn later(kind: Kind, message: impl Into<String>) -> Self {
        Self { error: Error::new(kind, message), retry: Retry::Later }
    }

    /// Worth another try after this long.
    pub(super) fn after(wait: Duration, message: impl Into<String>) -> Self {
        Self { error: Error::new(Kind::Refused, message), retry: Retry::After(wait) }
    }

    /// Not worth another try.
    pub(super) fn never(kind: Kind, message: impl Into<String>) -> Self {
        Self { error: Error::new(kind, message).permanent(), retry: Retry::Never }
    }

    /// Adds what to do next.
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.error = self.error.hint(hint);
        self
    }

    /// Names the channel it is about.
    pub(super) fn target(mut self, target: impl Into<String>) -> Self {
        self.error = self.error.target(target);
        self
    }
}

impl From<Error> for Refusal {
    /// What fails before anything is sent fails again: a secret that is not set, a wrong address.
    fn from(error: Error) -> Self {
        Self { error: error.permanent(), retry: Retry::Never }
    }
}

/// What would be sent, for people to look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Preview {
    /// The kind of channel: `email`, `slack`, `dingtalk`, `webhook`, `sms`.
    pub kind: &'static str,
    /// Who it goes to; empty where the address itself says it.
    pub to: Vec<String>,
    /// The subject or title.
    pub subject: String,
    /// The body as the channel gets it; JSON for webhooks.
    pub body: String,
}

/// Sends a message now and waits for the answer, for at most 20 s.
///
/// Accepted means that the channel took the responsibility, which is all that can be known. When the
/// answer was lost the message may have arrived; [`Message::id`] is the same at the next try.
///
/// # Errors
///
/// As the channel answered; a [`Contact::Person`] is never sent to.
pub async fn deliver(contact: &Contact, message: &Message, secrets: &Secrets) -> Result<Receipt, Refusal> {
    deliver_within(TOTAL_TIMEOUT, contact, message, secrets).await
}

/// [`deliver`] with a time limit of one's own.
pub(super) async fn deliver_within(limit: Duration, contact: &Contact, message: &Message, secrets: &Secrets) -> Result<Receipt, Refusal> {
    let sent = async {
        match contact {
            Contact::Email { to, from, server, password, ca, .. } => {
                let relay = email::Relay::read(server, password.as_deref(), ca.as_deref(), secrets)?;
                email::deliver(&relay, from, to, message).await
            }
            Contact::Slack { url, .. } => slack::deliver(&secrets.reveal(url)?, message).await,
            Contact::Dingtalk { url, secret, mobiles, .. } => {
                let secret = secret.as_deref().map(|secret| secrets.reveal(secret)).transpose()?;
                dingtalk::deliver(&secrets.reveal(url)?, secret.as_deref(), mobiles, message).await
            }
            Contact::Webhook { url, headers, .. } => {
                let headers = super::http::headers(headers, secrets)?;
                webhook::deliver(&secrets.reveal(url)?, headers, message).await
            }
            Contact::Sms { url, to, headers, body, .. } => {
                let headers = super::http::headers(headers, secrets)?;
                sms::deliver(&secrets.reveal(url)?, headers, to, body.as_ref(), message).await
            }
            Contact::Person { who, .. } => {
                Err(Refusal::never(Kind::Invalid, format!("`{}` is told by a person, not by a message", words::line(who))))
            }
        }
    };
    let answer = tokio::time::timeout(limit, sent).await.unwrap_or_else(|_| {
        Err(Refusal::later(Kind::Timeout, format!("no answer within {}", Span(limit))).hint("the message may have arrived all the same"))
    });
    match answer {
        Ok(receipt) => Ok(Receipt { detail: masked(&receipt.detail, secrets) }),
        Err(mut refusal) => {
            refusal.error.message = masked(&refusal.error.message, secrets);
            Err(refusal)
        }
    }
}

/// What [`deliver`] would send, without addresses that hold tokens and with secrets masked.
pub fn preview(contact: &Contact, message: &Message, secrets: &Secrets) -> Preview {
    let (kind, to, body) = match contact {
        Contact::Email { to, .. } => ("email", to.clone(), words::body(message)),
        Contact::Slack { .. } => ("slack", Vec::new(), slack::text(message)),
        Contact::Dingtalk { mobiles, .. } => ("dingtalk", mobiles.clone(), dingtalk::text(message, mobiles)),
        Contact::Webhook { .. } => ("webhook", Vec::new(), webhook::body(message).to_string()),
        Contact::Sms { to, .. } => ("sms", to.clone(), sms::text(message)),
        Contact::Person { who, .. } => ("person", vec![who.clone()], words::body(message)),
    };
    Preview { kind, to, subject: masked(&words::subject(message), secrets), body: masked(&body, secrets) }
}

/// The kind of channel of a contact, in a word.
pub fn kind_of(contact: &Contact) -> &'static str {
    match contact {
        Contact::Email { .. } => "email",
        Contact::Slack { .. } => "slack",
        Contact::Dingtalk { .. } => "dingtalk",
        Contact::Webhook { .. } => "webhook",
        Contact::Sms { .. } => "sms",
        Contact::Person { .. } => "person",
    }
}

/// A text without the values of secrets; shorter ones would blank out ordinary words.
pub(super) fn masked(text: &str, secrets: &Secrets) -> String {
    let values = secrets.iter().map(|(_, value)| value).filter(|value| value.len() >= 4);
    values.fold(text.to_owned(), |text, value| text.replace(value, MASK))
}

/// One answer for several recipients who were tried one by one: accepted if anyone got it.
///
/// Trying again would reach those who have it a second time, so who was left out is named instead.
pub(super) fn together(answers: Vec<(&str, Result<Receipt, Refusal>)>) -> Result<Receipt, Refusal> {
    let all = answers.len();
    let mut accepted = Vec::new();
    let mut refused: Vec<(&str, Refusal)> = Vec::new();
    for (name, answer) in answers {
        match answer {
            Ok(receipt) => accepted.push(receipt),
            Err(refusal) => refused.push((name, refusal)),
        }
    }
    match accepted.into_iter().next() {
        Some(receipt) if refused.is_empty() => Ok(receipt),
        Some(receipt) => {
            let left_out: Vec<String> = refused.iter().map(|(name, refusal)| format!("`{name}`: {}", refusal.error.message)).collect();
            let count = all - refused.len();
            Ok(Receipt { detail: format!("{}; accepted for {count} of {all}, not for {}", receipt.detail, left_out.join(", ")) })
        }
        None => {
            let hopeful = refused.iter().position(|(_, refusal)| refusal.retry != Retry::Never).unwrap_or(0);
            let none = || ("", Refusal::never(Kind::Invalid, "the contact has no recipients"));
            Err(refused.into_iter().nth(hopeful).unwrap_or_else(none).1)
        }
    }
}
