//! Whom to tell, and how soon.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::Span;

/// A severity of the system's own scale.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Severity {
    /// The system's own name for it, as in `P0`.
    pub label: String,
    /// What it means.
    pub meaning: String,
    /// How soon someone must respond.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub respond: Option<Span>,
    /// How soon it must be resolved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolve: Option<Span>,
    /// When it goes to the next person, unresolved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub escalate: Option<Span>,
}

/// A channel that reaches people.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Contact {
    /// Mail by SMTP.
    Email {
        /// The addresses it goes to.
        to: Vec<String>,
        /// The address it comes from.
        from: String,
        /// `smtps://user@host:465`, `smtp://host:587` (STARTTLS required), `smtp+plain://host:25` (no TLS, said openly).
        server: String,
        /// The password of the server, as `${secret:NAME}`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        password: Option<String>,
        /// A file with the authorities to trust, when not the machine's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ca: Option<String>,
        /// The most messages per minute.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        per_minute: Option<u32>,
        /// The contact that gets what this one can not deliver.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fallback: Option<String>,
    },
    /// A Slack-compatible webhook.
    Slack {
        /// The address, usually `${secret:NAME}`.
        url: String,
        /// The most messages per minute.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        per_minute: Option<u32>,
        /// The contact that gets what this one can not deliver.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fallback: Option<String>,
    },
    /// A DingTalk robot.
    Dingtalk {
        /// The address with its access token, usually `${secret:NAME}`.
        url: String,
        /// The signing secret, as `${secret:NAME}`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        secret: Option<String>,
        /// The mobile numbers to call out when it is critical.
        #[serde(default)]
        mobiles: Vec<String>,
        /// The most messages per minute; the robot blocks for ten minutes after 20.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        per_minute: Option<u32>,
        /// The contact that gets what this one can not deliver.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fallback: Option<String>,
    },
    /// A webhook of one's own: a JSON object with `text` and the message.
    Webhook {
        /// The address.
        url: String,
        /// More headers; values may be secrets.
        #[serde(default)]
        headers: BTreeMap<String, String>,
        /// The most messages per minute.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        per_minute: Option<u32>,
        /// The contact that gets what this one can not deliver.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fallback: Option<String>,
    },
    /// Text messages by an HTTP gateway.
    Sms {
        /// The address of the gateway.
        url: String,
        /// The numbers.
        to: Vec<String>,
        /// More headers; values may be secrets.
        #[serde(default)]
        headers: BTreeMap<String, String>,
        /// The JSON body, with `{to}` and `{text}`; `{"to": "{to}", "text": "{text}"}` when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        body: Option<Value>,
        /// The most messages per minute.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        per_minute: Option<u32>,
        /// The contact that gets what this one can not deliver.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fallback: Option<String>,
    },
    /// Someone who is told by a person: listed, never sent to.
    Person {
        /// Who.
        who: String,
        /// How to reach them.
        #[serde(default)]
        reach: String,
    },
}

impl Contact {
    /// The contact that gets what this one can not deliver.
    pub fn fallback(&self) -> Option<&String> {
        match self {
            Self::Email { fallback, .. }
            | Self::Slack { fallback, .. }
            | Self::Dingtalk { fallback, .. }
            | Self::Webhook { fallback, .. }
            | Self::Sms { fallback, .. } => fallback.as_ref(),
            Self::Person { .. } => None,
        }
    }
}
