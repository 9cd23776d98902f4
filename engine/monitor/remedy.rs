//! Whether something is repaired without asking: a pure decision, and what limits it.
//!
//! In doubt nothing is done: a target that is not exactly one of those allowed, a cause nobody knows, a
//! selector that came back empty. What is done is counted before it is done, so that no crash gives more.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::model::system::{Remediation, RemediationMode, Rule, RuleKind, System};
use crate::model::{Labels, Repair, RepairState, Span};

/// The target of what is about no service.
pub const MACHINE: &str = "machine";
/// The target of what would be done to too many.
const MANY: &str = "many";
/// That there are too many is said again after so long.
const MANY_TOLD: SignedDuration = SignedDuration::from_hours(1);
/// How often, when the policy does not say.
const BUDGET: u32 = 3;
const PER: Span = Span::secs(3600);
/// The first wait after a try, when the policy does not say; it doubles with each.
const BACK_OFF: Span = Span::secs(10);
/// Services that were acted on within this count together.
const BLAST: SignedDuration = SignedDuration::from_mins(10);
/// After a repair ended it may take so long until it is known to have helped.
const PROVE: SignedDuration = SignedDuration::from_mins(5);

/// What an alarm is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// A service of the system.
    Service(String),
    /// The machine: the runbook finds the culprit among the services that are allowed.
    Machine,
    /// Nobody knows.
    Unknown,
}

/// An alarm that asks for a repair.
#[derive(Debug, Clone)]
pub struct Case {
    /// Its incident.
    pub incident: u64,
    /// What it is about.
    pub cause: Cause,
    /// Since when it fires; nothing when, asked again just now, it does not.
    pub fires: Option<Timestamp>,
    /// Whether it comes and goes.
    pub flapping: bool,
    /// The incident that is the reason for it.
    pub because: Option<u64>,
}

/// What the decision is made with.
#[derive(Debug, Clone)]
pub struct Conditions<'a> {
    /// Now.
    pub now: Timestamp,
    /// Why nothing happens by itself at the moment.
    pub paused: Option<&'a str>,
    /// Whether a maintenance window of the system is open.
    pub in_maintenance: bool,
    /// The repairs of the system, the oldest first.
    pub repairs: &'a [Repair],
    /// How many services the system has.
    pub services: usize,
}

/// What is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "decision", rename_all = "kebab-case")]
pub enum Decision {
    /// The runbook of the policy runs.
    Act {
        /// On what.
        target: String,
    },
    /// It would, and the policy only watches.
    Observe {
        /// On what.
        target: String,
    },
    /// Nothing.
    Skip {
        /// Why.
        reason: String,
    },
    /// From here on it is a person's; said once.
    Escalate {
        /// On what it would have been.
        target: String,
        /// Why.
        reason: String,
    },
}

fn skip(reason: impl Into<String>) -> Decision {
    Decision::Skip { reason: reason.into() }
}

/// Whether and on what a policy acts.
pub fn decide(name: &str, policy: &Remediation, case: &Case, given: &Conditions<'_>) -> Decision {
    if let Some(why) = given.paused {
        return skip(format!("paused: {why}"));
    }
    if given.in_maintenance && !policy.in_maintenance {
        return skip("in a maintenance window");
    }
    let Some(fires) = case.fires else { return skip("it is well again") };
    if case.flapping {
        return skip("it comes and goes");
    }
    if let Some(number) = case.because {
        return skip(format!("it is because of incident #{number}"));
    }
    if given.now.duration_since(fires) < policy.hold.unwrap_or_default().signed() {
        return skip("not for long enough yet");
    }
    let target = match target(policy, &case.cause) {
        Ok(target) => target,
        Err(reason) => return escalate(name, case, given, String::new(), reason),
    };
    let tries: Vec<&Repair> = given.repairs.iter().filter(|repair| repair.policy == name && repair.target == target).collect();
    if tries.iter().any(|repair| repair.state == RepairState::Trying) {
        return skip("a repair is under way");
    }
    if is_given_up(name, case, given, &target) {
        return skip("given up: it is a person's now");
    }
    let per = policy.per.unwrap_or(PER).signed();
    // Those for the same incident count however long ago: it is still there.
    let is_recent = |repair: &Repair| repair.incident == case.incident || given.now.duration_since(repair.at) < per;
    let recent: Vec<&Repair> = tries.into_iter().filter(|repair| counts(repair) && is_recent(repair)).collect();
    let budget = policy.budget.unwrap_or(BUDGET);
    if recent.len() >= budget as usize {
        let per = policy.per.unwrap_or(PER);
        return escalate(name, case, given, target, format!("tried {budget} times in {per}"));
    }
    if let Some(last) = recent.last()
        && given.now.duration_since(last.ended.unwrap_or(last.at)) < back_off(policy, recent.len())
    {
        return skip("it was tried a moment ago");
    }
    if policy.mode == RemediationMode::Observe {
        let is_known = given.repairs.iter().any(|repair| {
            repair.state == RepairState::Observed
                && (repair.policy.as_str(), &repair.target, repair.incident) == (name, &target, case.incident)
        });
        return if is_known { skip("it only watches, and said so") } else { Decision::Observe { target } };
    }
    let acted: BTreeSet<&str> = given
        .repairs
        .iter()
        .filter(|repair| counts(repair) && given.now.duration_since(repair.at) < BLAST)
        .map(|repair| repair.target.as_str())
        .collect();
    let most = (given.services / 10).max(1);
    if !acted.contains(target.as_str()) && acted.len() >= most {
        let reason =
            format!("{} of {} services were acted on within 10 minutes: more is no fault of one service", acted.len(), given.services);
        let is_told = |repair: &Repair| {
            repair.state == RepairState::Escalated && repair.target == MANY && given.now.duration_since(repair.at) < MANY_TOLD
        };
        // One word for all of them: what is ill is the watch, or what they have in common.
        return if given.repairs.iter().any(is_told) { skip(reason) } else { Decision::Escalate { target: MANY.to_owned(), reason } };
    }
    Decision::Act { target }
}

/// The one thing a policy may act on for this cause.
fn target(policy: &Remediation, cause: &Cause) -> Result<String, String> {
    match cause {
        Cause::Service(service) if policy.services.iter().any(|allowed| allowed == service) => {
            let is_name = !service.is_empty() && !service.contains(['*', '?', ',', ' ', '/']);
            if is_name { Ok(service.clone()) } else { Err(format!("`{service}` is not the name of one service")) }
        }
        Cause::Service(service) => Err(format!("`{service}` is not among the services it may act on")),
        Cause::Machine => Ok(MACHINE.to_owned()),
        Cause::Unknown => Err("the cause is not known".to_owned()),
    }
}

/// Whether a repair was one, and no note that there was none.
fn counts(repair: &Repair) -> bool {
    !matches!(repair.state, RepairState::Escalated | RepairState::Observed)
}

/// It stays given up while its incident is open: otherwise the budget would come back, and with it the loop.
fn is_given_up(name: &str, case: &Case, given: &Conditions<'_>, target: &str) -> bool {
    given.repairs.iter().any(|repair| {
        repair.state == RepairState::Escalated
            && (repair.policy.as_str(), repair.target.as_str(), repair.incident) == (name, target, case.incident)
    })
}

fn escalate(name: &str, case: &Case, given: &Conditions<'_>, target: String, reason: String) -> Decision {
    if is_given_up(name, case, given, &target) {
        return skip(reason);
    }
    Decision::Escalate { target, reason }
}

/// How long after a number of tries the next one is made: twice as long each time, an hour at most.
fn back_off(policy: &Remediation, tries: usize) -> SignedDuration {
    let first = policy.cooldown.unwrap_or(BACK_OFF).0;
    let most = Duration::from_secs(3600).max(first);
    let doubled = first.saturating_mul(1 << (tries - 1).min(16));
    Span(doubled.min(most)).signed()
}

/// What the decision leaves in the store, when it leaves something.
pub fn noted(decision: &Decision, system: &str, policy: &str, incident: u64, now: Timestamp) -> Option<Repair> {
    let (target, state) = match decision {
        Decision::Act { target } => (target, RepairState::Trying),
        Decision::Observe { target } => (target, RepairState::Observed),
        Decision::Escalate { target, .. } => (target, RepairState::Escalated),
        Decision::Skip { .. } => return None,
    };
    Some(Repair {
        number: 0,
        system: system.to_owned(),
        policy: policy.to_owned(),
        target: target.clone(),
        incident,
        at: now,
        run: None,
        ended: None,
        state,
    })
}

/// What is known of a repair whose run has ended: whether it helped; nothing while that may still show.
pub fn proven(repair: &Repair, fires: bool, now: Timestamp) -> Option<RepairState> {
    let ended = repair.ended?;
    match fires {
        false => Some(RepairState::Helped),
        true if now.duration_since(ended) >= PROVE => Some(RepairState::Failed),
        true => None,
    }
}

/// The policies that a rule calls for, by name.
pub fn policies<'s>(system: &'s System, rule: &'s str) -> impl Iterator<Item = (&'s String, &'s Remediation)> {
    system.remediation.iter().filter(move |(_, policy)| policy.when.iter().any(|when| when == rule))
}

/// What a rule that fires for these labels is about.
///
/// The rule's own word comes first, then a label that names exactly one service: as it is, or with what
/// the system is called before it. What says that something is down is never about the machine.
pub fn cause(system: &System, rule: &Rule, labels: &Labels) -> Cause {
    let services = || system.services.each.keys();
    let named = [rule.service.as_ref(), labels.get("service")].into_iter().flatten().next();
    if let Some(name) = named {
        return if services().any(|service| service == name) { Cause::Service(name.clone()) } else { Cause::Unknown };
    }
    let is_meant = |value: &str, service: &str| {
        value == service || value.strip_suffix(service).is_some_and(|before| before.len() > 1 && before.ends_with(['-', '_', '.']))
    };
    for value in ["job", "container", "unit", "name"].into_iter().filter_map(|label| labels.get(label)) {
        let meant: Vec<&String> = services().filter(|service| is_meant(value, service)).collect();
        match meant[..] {
            [] => {}
            [service] => return Cause::Service(service.clone()),
            _ => return Cause::Unknown,
        }
    }
    if rule.kind == RuleKind::Down { Cause::Unknown } else { Cause::Machine }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::system::{Service, Services};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_795_000_000 + seconds).unwrap()
    }

    fn policy() -> Remediation {
        Remediation {
            runbook: "recover-service".to_owned(),
            services: ["api", "web", "worker"].map(str::to_owned).to_vec(),
            mode: RemediationMode::Act,
            hold: Some(Span::secs(60)),
            budget: Some(3),
            per: Some(Span::secs(900)),
            ..Remediation::default()
        }
    }

    fn case() -> Case {
        Case { incident: 1, cause: Cause::Service("api".to_owned()), fires: Some(at(-60)), flapping: false, because: None }
    }

    fn given(repairs: &[Repair], seconds: i64) -> Conditions<'_> {
        Conditions { now: at(seconds), paused: None, in_maintenance: false, repairs, services: 3 }
    }

    fn repair(target: &str, seconds: i64, state: RepairState) -> Repair {
        let act = Decision::Act { target: target.to_owned() };
        Repair { ended: Some(at(seconds)), state, ..noted(&act, "shop", "service", 1, at(seconds)).unwrap() }
    }

    fn act() -> Decision {
        Decision::Act { target: "api".to_owned() }
    }

    #[test]
    fn the_table_of_decisions() {
        let services = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let about = |cause: Cause| Case { cause, ..case() };
        let service = |name: &str| about(Cause::Service(name.to_owned()));
        let tries = |state| vec![repair("api", -700, state), repair("api", -500, state), repair("api", -300, state)];
        let table = [
            ("it is due", policy(), case(), vec![], act()),
            ("it heals before it is acted on", policy(), Case { fires: None, ..case() }, vec![], skip("it is well again")),
            ("it comes and goes", policy(), Case { flapping: true, ..case() }, vec![], skip("it comes and goes")),
            ("another one is the reason", policy(), Case { because: Some(7), ..case() }, vec![], skip("it is because of incident #7")),
            ("one sample", policy(), Case { fires: Some(at(-59)), ..case() }, vec![], skip("not for long enough yet")),
            ("under way", policy(), case(), vec![repair("api", -30, RepairState::Trying)], skip("a repair is under way")),
            ("a moment ago", policy(), case(), vec![repair("api", -5, RepairState::Failed)], skip("it was tried a moment ago")),
            (
                "longer after two",
                policy(),
                case(),
                vec![repair("api", -60, RepairState::Failed), repair("api", -15, RepairState::Failed)],
                skip("it was tried a moment ago"),
            ),
            ("again", policy(), case(), vec![repair("api", -60, RepairState::Failed)], act()),
            (
                "it was tried often enough",
                policy(),
                case(),
                tries(RepairState::Failed),
                Decision::Escalate { target: "api".to_owned(), reason: "tried 3 times in 15m".to_owned() },
            ),
            (
                "success counts too",
                policy(),
                case(),
                tries(RepairState::Helped),
                Decision::Escalate { target: "api".to_owned(), reason: "tried 3 times in 15m".to_owned() },
            ),
            (
                "others have their own budget",
                policy(),
                case(),
                vec![
                    repair("web", -800, RepairState::Failed),
                    repair("web", -700, RepairState::Failed),
                    repair("web", -650, RepairState::Failed),
                ],
                act(),
            ),
            (
                "it only watches",
                Remediation { mode: RemediationMode::Observe, ..policy() },
                case(),
                vec![],
                Decision::Observe { target: "api".to_owned() },
            ),
            (
                "it only watches and said so",
                Remediation { mode: RemediationMode::Observe, ..policy() },
                case(),
                vec![repair("api", -900, RepairState::Observed)],
                skip("it only watches, and said so"),
            ),
            ("the machine", policy(), about(Cause::Machine), vec![], Decision::Act { target: MACHINE.to_owned() }),
        ];
        for (what, policy, case, repairs, expected) in table {
            assert_eq!(decide("service", &policy, &case, &given(&repairs, 0)), expected, "{what}");
        }
        // What is not exactly one allowed service is never acted on.
        for (allowed, case) in [
            (services(&["api"]), about(Cause::Unknown)),
            (services(&["api"]), service("db")),
            (services(&["api"]), service("")),
            (services(&["api"]), service("*")),
            (services(&[]), service("api")),
            (services(&[]), service("")),
            (services(&[""]), service("")),
            (services(&["*"]), service("*")),
            (services(&["*"]), service("api")),
            (services(&["api", "web"]), service("api,web")),
            (services(&["api,web"]), service("api,web")),
        ] {
            let decision = decide("service", &Remediation { services: allowed.clone(), ..policy() }, &case, &given(&[], 0));
            assert!(matches!(decision, Decision::Escalate { .. }), "{allowed:?} {case:?}: {decision:?}");
        }
        let paused = Conditions { paused: Some("by jo: freeze"), ..given(&[], 0) };
        assert_eq!(decide("service", &policy(), &case(), &paused), skip("paused: by jo: freeze"));
    }

    #[test]
    fn in_a_maintenance_window_only_a_policy_that_may_acts() {
        let given = Conditions { in_maintenance: true, ..given(&[], 0) };
        assert_eq!(decide("service", &policy(), &case(), &given), skip("in a maintenance window"));
        let unknown = Case { cause: Cause::Unknown, ..case() };
        assert_eq!(decide("service", &policy(), &unknown, &given), skip("in a maintenance window"), "nobody is called either");
        assert_eq!(decide("service", &Remediation { in_maintenance: true, ..policy() }, &case(), &given), act());
    }

    /// Asks every second; each repair ends a second later and does not help.
    fn loop_of(policy: &Remediation, seconds: i64) -> (Vec<i64>, Vec<i64>) {
        let (mut repairs, mut acts, mut escalations): (Vec<Repair>, _, _) = (Vec::new(), Vec::new(), Vec::new());
        for second in 0..seconds {
            for repair in &mut repairs {
                if repair.state == RepairState::Trying {
                    (repair.ended, repair.state) = (Some(at(second)), RepairState::Failed);
                }
            }
            let decision = decide("service", policy, &case(), &given(&repairs, second));
            match decision {
                Decision::Act { .. } => acts.push(second),
                Decision::Escalate { .. } => escalations.push(second),
                _ => {}
            }
            // Every look begins with what the store holds: a kill between two of them changes nothing.
            repairs.extend(noted(&decision, "shop", "service", 1, at(second)));
        }
        (acts, escalations)
    }

    #[test]
    fn a_crash_loop_is_restarted_three_times_and_told_once() {
        let (acts, escalations) = loop_of(&policy(), 24 * 3600);
        assert_eq!((acts.len(), escalations.len()), (3, 1), "{acts:?} {escalations:?}");
        assert!(acts[2] < 900);
        let slow = Remediation { cooldown: Some(Span::secs(200)), ..policy() };
        let (acts, escalations) = loop_of(&slow, 24 * 3600);
        assert_eq!(acts, [0, 201, 602]);
        assert_eq!(escalations.len(), 1);
    }

    #[test]
    fn when_all_are_ill_few_are_acted_on_and_people_are_told() {
        let names: Vec<String> = (0..50).map(|index| format!("s{index}")).collect();
        let wide = Remediation { services: names.clone(), ..policy() };
        let (mut repairs, mut escalations) = (Vec::new(), 0);
        for second in 0..300 {
            for (incident, name) in (1..).zip(&names) {
                let case = Case { incident, cause: Cause::Service(name.clone()), ..case() };
                let given = Conditions { services: 50, ..given(&repairs, second) };
                let decision = decide("service", &wide, &case, &given);
                escalations += usize::from(matches!(decision, Decision::Escalate { .. }));
                let noted = noted(&decision, "shop", "service", incident, at(second));
                repairs.extend(noted.map(|repair| Repair {
                    ended: Some(at(second)),
                    state: if repair.state == RepairState::Trying { RepairState::Failed } else { repair.state },
                    ..repair
                }));
            }
        }
        let acted: BTreeSet<&str> = repairs.iter().filter(|repair| counts(repair)).map(|repair| repair.target.as_str()).collect();
        assert_eq!((acted.len(), escalations), (5, 1 + 5));
        let small = Conditions { services: 3, ..given(&[], 0) };
        assert_eq!(decide("service", &policy(), &case(), &small), act());
        let one = [repair("web", -30, RepairState::Helped)];
        assert!(matches!(decide("service", &policy(), &case(), &given(&one, 0)), Decision::Escalate { .. }));
    }

    #[test]
    fn a_repair_is_proven_by_the_rule_and_not_by_its_run() {
        let tried = Repair { state: RepairState::Trying, ..repair("api", 0, RepairState::Trying) };
        assert_eq!(proven(&tried, true, at(10)), None);
        assert_eq!(proven(&tried, false, at(10)), Some(RepairState::Helped));
        assert_eq!(proven(&tried, true, at(300)), Some(RepairState::Failed));
        assert_eq!(proven(&Repair { ended: None, ..tried }, false, at(10)), None);
    }

    #[test]
    fn the_cause_is_one_service_the_machine_or_nobody_knows() {
        let names = ["backend", "frontend", "end"];
        let each = names.map(|name| (name.to_owned(), Service::default())).into();
        let system = System { services: Services { each, ..Services::default() }, ..System::default() };
        let down = Rule { kind: RuleKind::Down, ..Rule::default() };
        let of = |rule: &Rule, label: &str, value: &str| cause(&system, rule, &Labels::from([(label.to_owned(), value.to_owned())]));
        let backend = Cause::Service("backend".to_owned());
        assert_eq!(of(&down, "job", "aihub-backend"), backend);
        assert_eq!(of(&down, "container", "backend"), backend);
        assert_eq!(of(&down, "job", "other"), Cause::Unknown);
        assert_eq!(of(&down, "job", "-backend"), Cause::Unknown);
        assert_eq!(of(&Rule::default(), "instance", "a"), Cause::Machine);
        assert_eq!(of(&down, "service", "nothing"), Cause::Unknown);
        assert_eq!(of(&Rule { service: Some("backend".to_owned()), ..down }, "job", "x-frontend"), backend);
    }
}
