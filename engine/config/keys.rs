//! Every key of `runbook.toml`, with its default: the one place where defaults stand.
//!
//! The defaults are read as the lowest layer of the settings, and the reference of the keys is made
//! from this table.

/// A key of `runbook.toml`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// Its dotted name; `NAME` stands for one of one's own.
    pub name: &'static str,
    /// What it holds.
    pub kind: KeyKind,
    /// What holds when no file says otherwise, as TOML; nothing when there is no default.
    pub default: Option<&'static str>,
    /// What it decides.
    pub help: &'static str,
}

/// What a key holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// Text.
    Text,
    /// A whole number.
    Int,
    /// `true` or `false`.
    Bool,
    /// `30s`, `2h`, `90d`.
    Duration,
    /// `256MiB`, `10GB`.
    Size,
    /// A list of texts.
    List,
    /// A table of lists, in the grammar of a header's `allow`.
    Permissions,
    /// A table of names and values.
    Table,
}

impl KeyKind {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Int => "whole number",
            Self::Bool => "true or false",
            Self::Duration => "duration",
            Self::Size => "size",
            Self::List => "list of texts",
            Self::Permissions => "permissions",
            Self::Table => "table of values",
        }
    }
}

const fn key(name: &'static str, kind: KeyKind, default: Option<&'static str>, help: &'static str) -> Key {
    Key { name, kind, default, help }
}

/// Every key, in the order of the reference.
pub const KEYS: &[Key] = {
    use KeyKind::{Bool, Duration, Int, List, Permissions, Size, Table, Text};
    &[
        key("default_system", Text, Some(r#""host""#), "The system of a run that names none."),
        key("language", Text, Some(r#""en""#), "The language of messages to people: `en` or `zh`."),
        key("runbooks", Text, Some(r#""runbooks""#), "The directory of the runbooks and of `systems/`, relative to this file."),
        key(
            "sandbox",
            Text,
            Some(r#""auto""#),
            "`auto` uses what the kernel offers, `strict` refuses to run when it offers too little, `off` uses nothing of it.",
        ),
        key("policy.allow", Permissions, None, "What runbooks may touch at most; what their headers ask for when absent."),
        key("policy.deny", Permissions, None, "What no runbook may touch, whatever else is allowed."),
        key("policy.attended.allow", Permissions, None, "What runbooks may touch at most; what their headers ask for when absent."),
        key("policy.attended.deny", Permissions, None, "What no runbook may touch, whatever else is allowed."),
        key("policy.unattended.allow", Permissions, None, "What runbooks may touch at most; what their headers ask for when absent."),
        key("policy.unattended.deny", Permissions, None, "What no runbook may touch, whatever else is allowed."),
        key(
            "policy.roles.NAME.members",
            List,
            None,
            "The accounts that have this role; `*` is everybody, `@program`, `@schedule`, `@rule` and `@hook` are what starts runs by itself.",
        ),
        key("policy.roles.NAME.runbooks", List, None, "The runbooks it is about; `*` stands for any characters."),
        key("policy.roles.NAME.systems", List, None, "The systems it is about; all when absent."),
        key(
            "policy.roles.NAME.may",
            List,
            None,
            "What they may do: `plan`, `run`, `approve`, `cancel`, and `manage` for secrets and the state.",
        ),
        key("policy.pin", Bool, Some("false"), "Whether a header that asks for more than was approved waits for a person."),
        key(
            "policy.approvals",
            Int,
            Some("0"),
            "How many people must approve the plan of a destructive runbook; with more than one, others than who asked.",
        ),
        key("policy.plan_valid", Duration, Some(r#""30m""#), "How long a plan and its approvals count."),
        key("limits.memory", Size, Some(r#""256MiB""#), "The memory of a worker, unless its header asks for another amount."),
        key("limits.timeout", Duration, Some(r#""1h""#), "How long a run may take, unless its header says otherwise."),
        key("limits.output", Size, Some(r#""16MiB""#), "The output that is kept of a run."),
        key("limits.processes", Int, Some("64"), "The processes of all programs a run started."),
        key("limits.program_memory", Size, Some(r#""2GiB""#), "The memory of all programs a run started, together."),
        key("limits.files", Int, Some("1024"), "The open files of a worker."),
        key("limits.runs", Int, Some("4"), "The runs the daemon has at the same time; more wait."),
        key("daemon.grace", Duration, Some(r#""30s""#), "How long steps under way may go on when the daemon is asked to stop."),
        key(
            "daemon.systems",
            List,
            None,
            "The systems it watches and whose schedules run; those that are files of the project when absent.",
        ),
        key(
            "daemon.look",
            Duration,
            Some(r#""15s""#),
            "How often rules are looked at; services are measured as often, endpoints and databases half as often.",
        ),
        key(
            "daemon.listen",
            Text,
            None,
            "Where its pages and hooks are, as in `127.0.0.1:9321`; nowhere when absent. Beyond this machine only with a token.",
        ),
        key("daemon.token", Text, None, "The secret that whoever looks at its pages has to show."),
        key(
            "daemon.heartbeat.url",
            Text,
            None,
            "What is asked for again and again as long as the daemon is well, for a monitor that misses it.",
        ),
        key("daemon.heartbeat.every", Duration, Some(r#""1m""#), "How often."),
        key("hooks.NAME.runbook", Text, None, "The runbook that a request to `/hooks/NAME` starts."),
        key("hooks.NAME.alerts", Text, None, "Whose alerts it makes incidents of, in place of a run: `alertmanager`."),
        key("hooks.NAME.system", Text, None, "Its system; the default one when absent."),
        key(
            "hooks.NAME.secret",
            Text,
            None,
            "The secret that the requests are signed with, or that Alertmanager shows; there is no hook without one.",
        ),
        key("hooks.NAME.params", Table, None, "The parameters of the run."),
        key("retention.runs", Duration, Some(r#""90d""#), "How long the record of a run stays."),
        key("retention.logs", Duration, Some(r#""30d""#), "How long the logs and artefacts of a run stay."),
        key("retention.samples", Duration, Some(r#""400d""#), "How long measured values stay, the older the coarser."),
        key("retention.keep_min", Int, Some("20"), "How many runs of each runbook stay whatever their age."),
        key("retention.quota", Size, Some(r#""5GiB""#), "The most the state should take; `runbook doctor` says when it takes more."),
        key("secrets.NAME.file", Text, None, "The secret is the text of this file, which must be readable by its owner only."),
        key("secrets.NAME.env", Text, None, "The secret is the value of this environment variable."),
        key("secrets.NAME.credential", Text, None, "The secret is this credential of systemd, from `$CREDENTIALS_DIRECTORY`."),
        key("secrets.NAME.command", List, None, "The secret is what this program prints; it is started without a shell."),
    ]
};

/// The defaults as a settings file.
pub(super) fn defaults() -> String {
    KEYS.iter().filter_map(|key| Some(format!("{} = {}\n", key.name, key.default?))).collect()
}
