//! `[policy]`: what runs may touch, and who may do what.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::node::Node;
use crate::error::{Error, Kind, Result};
use crate::model::{Origin, Span, Trigger};
use crate::words::{either, is_like};

/// What runbooks may touch, and who may do what.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// What runbooks may touch at most; what their headers ask for when absent.
    pub allow: Option<BTreeMap<String, Value>>,
    /// What no runbook may touch, whatever else is allowed.
    pub deny: BTreeMap<String, Value>,
    /// What holds beside that for runs a person watches over.
    pub attended: Caps,
    /// What holds beside that for runs nobody watches over.
    pub unattended: Caps,
    /// Who may do what; without any, everybody may do everything.
    pub roles: BTreeMap<String, Role>,
    /// Whether a header that asks for more than was approved waits for a person.
    pub pin: bool,
    /// How many people must approve the plan of a destructive runbook; with more than one, others than who asked.
    pub approvals: u32,
    /// How long a plan and its approvals count.
    pub plan_valid: Span,
}

/// What runs may touch that are attended, or those that are not.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Caps {
    /// What runbooks may touch at most; what their headers ask for when absent.
    pub allow: Option<BTreeMap<String, Value>>,
    /// What no runbook may touch, whatever else is allowed.
    pub deny: BTreeMap<String, Value>,
}

/// What some may do.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Role {
    /// The accounts that have this role; `*` is everybody, `@program`, `@schedule`, `@rule` and `@hook` are what starts runs by itself.
    pub members: Vec<String>,
    /// The runbooks it is about; `*` stands for any characters.
    pub runbooks: Vec<String>,
    /// The systems it is about; all when absent.
    pub systems: Option<Vec<String>>,
    /// What they may do: `plan`, `run`, `approve`, `cancel`, and `manage` for secrets and the state.
    pub may: Vec<Right>,
}

/// What needs a right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Right {
    /// To see what a run would change.
    Plan,
    /// To run, run again or resume; whoever may run may plan.
    Run,
    /// To say yes or no to plans, questions and permissions.
    Approve,
    /// To stop a run.
    Cancel,
    /// To change secrets and the state, which are of no one runbook.
    Manage,
}

impl Right {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plan => "plan",
            Self::Run => "run",
            Self::Approve => "approve",
            Self::Cancel => "cancel",
            Self::Manage => "manage",
        }
    }

    fn is_given_by(self, given: &[Self]) -> bool {
        given.contains(&self) || self == Self::Plan && given.contains(&Self::Run)
    }
}

impl Policy {
    /// What holds beside `allow` and `deny`, and its name.
    pub fn caps(&self, attended: bool) -> (&'static str, &Caps) {
        if attended { ("policy.attended", &self.attended) } else { ("policy.unattended", &self.unattended) }
    }

    /// Decides whether whoever is behind it may do this to a runbook and a system; the only place that does. The right to
    /// `manage` is about no runbook.
    ///
    /// # Errors
    ///
    /// `not_started`, with who may.
    pub fn permit(&self, origin: &Origin, right: Right, runbook: &str, system: &str) -> Result<()> {
        let giving: Vec<&Role> = self.roles.values().filter(|role| role.gives(right, runbook, system)).collect();
        if self.roles.is_empty() || giving.iter().any(|role| role.has(origin)) {
            return Ok(());
        }
        let what = match right {
            Right::Manage => "manage secrets and the state".to_owned(),
            right => format!("{} `{runbook}`{}", right.name(), if system.is_empty() { String::new() } else { format!(" for `{system}`") }),
        };
        let members: BTreeSet<&String> = giving.iter().flat_map(|role| &role.members).collect();
        let members: Vec<&String> = members.into_iter().collect();
        let who = if members.is_empty() { "nobody may".to_owned() } else { format!("{} may", either(&members)) };
        Err(Error::new(Kind::NotStarted, format!("{origin} may not {what}"))
            .code("RB3205")
            .hint(format!("{who}: see `[policy.roles]` in runbook.toml")))
    }
}

impl Role {
    fn gives(&self, right: Right, runbook: &str, system: &str) -> bool {
        let is_meant = |patterns: &[String], name: &str| patterns.iter().any(|pattern| is_like(pattern, name));
        let is_about = || is_meant(&self.runbooks, runbook) && self.systems.as_ref().is_none_or(|systems| is_meant(systems, system));
        right.is_given_by(&self.may) && (right == Right::Manage || is_about())
    }

    fn has(&self, origin: &Origin) -> bool {
        self.members.iter().any(|member| match member.strip_prefix('@') {
            Some(source) => source == origin.trigger.name(),
            None => origin.person().is_some_and(|account| member == "*" || member == account),
        })
    }
}

/// What may be a member behind an `@`.
const SOURCES: [Trigger; 4] = [Trigger::Program, Trigger::Schedule, Trigger::Rule, Trigger::Hook];

/// Tells what is wrong with the roles.
pub(super) fn check_roles(root: &Node, roles: &BTreeMap<String, Role>, problems: &mut Vec<Error>) {
    let sources: Vec<String> = SOURCES.iter().map(|source| format!("@{}", source.name())).collect();
    for (name, role) in roles {
        let mut wrong = |path: &[&str], error: Error| {
            let place = [&["policy", "roles", name], path].concat();
            let node = root.at(&place).or_else(|| root.at(&place[..3])).unwrap_or(root);
            // A value that is of the wrong type stands at nothing here; that was told already.
            if !problems.iter().any(|told| told.at.as_ref() == Some(&node.place)) {
                problems.push(error.at(node.place.clone()));
            }
        };
        for (index, member) in role.members.iter().enumerate().filter(|(_, member)| member.starts_with('@')) {
            if !sources.contains(member) {
                let error = Error::new(Kind::Config, format!("`policy.roles.{name}.members`: found `{member}`"));
                wrong(&["members", &index.to_string()], error.suggest(member, &sources));
            }
        }
        // What is empty stands for nothing, never for everything.
        let is_about_runs = role.may.iter().any(|right| *right != Right::Manage);
        for (key, is_missing) in
            [("members", role.members.is_empty()), ("may", role.may.is_empty()), ("runbooks", is_about_runs && role.runbooks.is_empty())]
        {
            let written = root.at(&["policy", "roles", name, key]).is_some_and(|node| !node.children().is_empty());
            // What was written and could not be read was told already.
            if is_missing && !written {
                let error = Error::new(Kind::Config, format!("`policy.roles.{name}` has no `{key}`"));
                wrong(&[key], if key == "runbooks" { error.hint("write `[\"*\"]` for all") } else { error });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(text: &str) -> Policy {
        toml::from_str(text).unwrap()
    }

    fn origin(trigger: Trigger, account: &str) -> Origin {
        Origin { trigger, account: account.to_owned() }
    }

    #[test]
    fn without_roles_everybody_may_do_everything() {
        assert!(Policy::default().permit(&origin(Trigger::Schedule, "root"), Right::Manage, "", "").is_ok());
    }

    #[test]
    fn a_role_gives_what_it_says_to_whom_it_says_and_nothing_else() {
        let policy = policy(
            r#"[roles.operator]
            members = ["maya"]
            runbooks = ["check-*", "restart"]
            systems = ["shop"]
            may = ["run", "cancel"]
            [roles.night]
            members = ["@schedule"]
            runbooks = ["backup"]
            may = ["run"]
            [roles.lead]
            members = ["jo"]
            runbooks = ["*"]
            may = ["approve", "manage"]"#,
        );
        let maya = origin(Trigger::Command, "maya");
        let may = |origin: &Origin, right, runbook, system| policy.permit(origin, right, runbook, system).is_ok();
        for (right, runbook, system, expected) in [
            (Right::Run, "check-disk", "shop", true),
            (Right::Plan, "restart", "shop", true),
            (Right::Cancel, "restart", "shop", true),
            (Right::Run, "check-disk", "bank", false),
            (Right::Run, "restart-all", "shop", false),
            (Right::Run, "backup", "shop", false),
            (Right::Approve, "restart", "shop", false),
            (Right::Manage, "", "", false),
        ] {
            assert_eq!(may(&maya, right, runbook, system), expected, "{right:?} {runbook} {system}");
        }
        let night = origin(Trigger::Schedule, "maya");
        assert!(may(&night, Right::Run, "backup", "bank") && !may(&night, Right::Run, "restart", "shop"));
        assert!(!may(&origin(Trigger::Rule, "jo"), Right::Approve, "backup", "shop"));
        assert!(may(&origin(Trigger::Program, "jo"), Right::Manage, "", ""));
        let error = policy.permit(&maya, Right::Approve, "backup", "shop").unwrap_err();
        assert_eq!((error.kind, error.message.as_str()), (Kind::NotStarted, "maya may not approve `backup` for `shop`"));
        assert_eq!(error.hints, ["`jo` may: see `[policy.roles]` in runbook.toml"]);
        let error = policy.permit(&night, Right::Cancel, "backup", "").unwrap_err();
        assert_eq!((error.message.as_str(), error.hints[0].starts_with("nobody may")), ("a schedule may not cancel `backup`", true));
    }
}
