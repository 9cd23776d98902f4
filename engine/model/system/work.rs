//! What is done to a system: releases, schedules, repairs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::Span;

/// How it is released.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Release {
    /// The source directory.
    pub directory: String,
    /// Images by service.
    pub images: BTreeMap<String, String>,
    /// How many releases stay.
    pub keep: Option<u32>,
    /// The command that migrates the database.
    pub migrate: Vec<String>,
    /// Everything else, by name.
    pub options: BTreeMap<String, Value>,
}

/// An item of a checklist: who or what answers it. A person does when neither `run` nor `newest` is there.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Item {
    /// What has to be done, in the words of the system's people.
    pub text: String,
    /// The runbook that is run for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// The parameters of that run.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub params: BTreeMap<String, Value>,
    /// The runbook whose newest recorded run answers it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub newest: Option<String>,
    /// How long ago that run may have ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within: Option<Span>,
    /// The contact whose task it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// What may be repaired without asking, and how often.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Remediation {
    /// The runbook that repairs.
    pub runbook: String,
    /// The rules or metrics that call for it.
    pub when: Vec<String>,
    /// The services it may act on; no others.
    pub services: Vec<String>,
    /// `observe` records what it would do, `act` does it.
    pub mode: RemediationMode,
    /// How long the alarm must hold first.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    pub hold: Option<Span>,
    /// How long it leaves a service alone after acting on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cooldown: Option<Span>,
    /// How often it acts within `per`; after that it is a person's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<u32>,
    /// The time the budget is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per: Option<Span>,
    /// Whether it also acts while a maintenance window is open.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub in_maintenance: bool,
    /// The parameters of the run.
    pub params: BTreeMap<String, Value>,
}

/// Whether a remediation acts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RemediationMode {
    /// It records what it would do.
    #[default]
    Observe,
    /// It does it.
    Act,
}
