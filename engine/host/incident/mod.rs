//! `incident::`: the incidents of the system, by the one function that decides what becomes of them and
//! who hears of it.
//!
//! The supervisor alone has them; this module asks it. Those of other systems can neither be seen nor changed.

use std::collections::BTreeMap;

use rhai::plugin::*;
use serde::Deserialize;

use crate::error::{Error, Kind};
use crate::host::watched::{ALL, Opening, WatchQuestion, ask, data, tell};
use crate::host::{Call, Function, HostModule, Moment, RhaiResultOf};
use crate::model::Effect;

/// The module `incident`.
pub const MODULE: HostModule = HostModule {
    name: "incident",
    summary: "the incidents of the system: found, opened, noted, acknowledged, ended, repaired by its policies, and what was learnt",
    build: || exported_module!(api),
    functions: &[
        Function::read("list").needs_fixed("incidents", "read", ALL).options::<ListOptions>(),
        Function::read("get").needs_fixed("incidents", "read", ALL),
        Function::read("report").needs_fixed("incidents", "read", ALL),
        Function::effect("open", "the severity and the title").needs_fixed("incidents", "open", ALL),
        Function::effect("recovered", "the incident").needs_fixed("incidents", "resolve", ALL),
        Function::effect("note", "the incident and the text").needs_fixed("incidents", "note", ALL),
        Function::effect("learn", "the incident and what was learnt").needs_fixed("incidents", "note", ALL).options::<Learnt>(),
        Function::effect("ack", "the incident").needs_fixed("incidents", "ack", ALL),
        Function::effect("resolve", "the incident").needs_fixed("incidents", "resolve", ALL),
        Function::effect("escalate", "the incident and why").needs_fixed("incidents", "escalate", ALL),
        Function::read("repairs").needs_fixed("incidents", "read", ALL).options::<RepairOptions>(),
        Function::effect("reserve", "the policy and the incident").needs_fixed("incidents", "repair", ALL).options::<RepairOptions>(),
        Function::effect("conclude", "the repair").needs_fixed("incidents", "repair", ALL),
        Function::effect("prove", "look whether repairs have helped").needs_fixed("incidents", "repair", ALL),
        Function::effect("pass", "look at the clocks of all that is open").needs_fixed("incidents", "escalate", ALL),
    ],
};

/// The longest text of a moment.
const LONGEST: usize = 16 << 10;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ListOptions {
    open: bool,
    since: Option<Moment>,
    limit: u32,
}

impl Default for ListOptions {
    fn default() -> Self {
        Self { open: true, since: None, limit: 100 }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RepairOptions {
    observe: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Learnt {
    impact: Option<String>,
    cause: Option<String>,
    repair: Option<String>,
    prevention: Option<String>,
}

#[export_module]
mod api {
    use rhai::{Dynamic, Map};

    use super::{RepairOptions, changed, concluded, learnt, listed, number_of, opened, passed, proved, text_of};
    use crate::host::watched::{WatchQuestion, ask};
    use crate::host::{Call, RhaiResultOf};

    /// The incidents of the system, the newest first.
    ///
    /// ```rhai
    /// let open = incident::list(#{ open: true, limit: 10 });
    /// open.filter(|one| one.state == "resolved") == []
    /// ```
    ///
    /// Options: `open` (only those that are not over; true when absent), `since` (only those opened then or later: a time, or how
    /// long ago), `limit` (100 when absent). Returns a list of what `incident::get` returns.
    #[rhai_fn(name = "list", return_raw, volatile)]
    pub fn list_with(native: NativeCallContext, options: Map) -> RhaiResultOf<Dynamic> {
        listed(&Call::new(&native, "incident::list")?, options)
    }

    /// The incidents of the system that are not over.
    #[rhai_fn(return_raw, volatile)]
    pub fn list(native: NativeCallContext) -> RhaiResultOf<Dynamic> {
        list_with(native, Map::new())
    }

    /// One incident of the system; nothing when there is none of this number.
    ///
    /// ```rhai
    /// incident::get(999999) == ()
    /// ```
    ///
    /// Returns `number`, `title`, `severity` (`sev1` to `sev5`), `label` (the system's word for it), `state` (`open`, `acknowledged`,
    /// `resolved`), `source` (`rule`, `silence`, `run`, `runbook`, `webhook` or `person`), `name` (of that rule, runbook, alarm or person), `labels`,
    /// `service`, `value`, `flapping`, `because` (the number of the incident that is the reason), `calm` (since when all has been well),
    /// `told` (whether people were), `held` (the end of the maintenance window for which they are not), `opened`, `seen`, `count`, `age_s`,
    /// `acknowledged` and `resolved` (`at` and `by`), `overdue` (the clocks that
    /// ran out), `clocks` (`respond`, `escalate`, `resolve`: when each runs out), `timeline` (`at`, `what`, `by`, `text`, `run`) and
    /// `findings` (`impact`, `cause`, `repair`, `prevention`).
    #[rhai_fn(return_raw, volatile)]
    pub fn get(native: NativeCallContext, number: i64) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "incident::get")?;
        let number = number_of(&call, number)?;
        ask(&call, WatchQuestion::Incident { number })
    }

    /// The root-cause report of an incident, in Markdown and the language of the system, filled in as far as is known.
    ///
    /// ```rhai
    /// let kind = "";
    /// try { kind = type_of(incident::report(999999)); } catch (error) { kind = error.kind; }
    /// kind == "not_found" || kind == "()"
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn report(native: NativeCallContext, number: i64) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "incident::report")?;
        let number = number_of(&call, number)?;
        ask(&call, WatchQuestion::Postmortem { number })
    }

    /// Says that something is not as it should be. Said again of the same, it is the same incident.
    ///
    /// ```rhai
    /// let opened = incident::open(#{ title: "no orders for an hour", severity: "sev3", labels: #{ shop: "north" } });
    /// opened == () || opened.state == "open"
    /// ```
    ///
    /// The map: `title` and `severity` are needed; `source` says what it comes from and with `labels` which incident it is: nothing for this
    /// runbook, `"person"` for whoever started the run, `#{ rule: NAME }` or `#{ silence: NAME }` for a rule of the system; `service`,
    /// `value`, `text`. People hear of it by the route of the severity, once; nobody does when it is because of another incident. A
    /// service that the system does not have is `not_found`. Returns the incident, as `incident::get`.
    #[rhai_fn(return_raw, volatile)]
    pub fn open(native: NativeCallContext, about: Map) -> RhaiResultOf<Dynamic> {
        opened(&Call::new(&native, "incident::open")?, about)
    }

    /// Says that all is well again. It is over when that lasts; people hear so then.
    ///
    /// ```rhai,lab
    /// let opened = incident::open(#{ title: "a test", severity: "sev5" });
    /// incident::recovered(opened.number).calm != ()
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn recovered(native: NativeCallContext, number: i64) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "incident::recovered")?;
        let number = number_of(&call, number)?;
        changed(&call, "incident::recovered", number, "well again", WatchQuestion::Recovered { number, value: None })
    }

    /// Adds a moment to the timeline: what sort of moment, and what is to be said of it.
    ///
    /// ```rhai,lab
    /// let opened = incident::open(#{ title: "a test", severity: "sev5" });
    /// incident::note(opened.number, "recovery", "restarted it").timeline.some(|one| one.what == "recovery" && one.run != ())
    /// ```
    ///
    /// The moment carries the number of the run. The same, said twice by a run, is said once. Of an incident that is over nothing
    /// changes. Returns the incident.
    #[rhai_fn(return_raw, volatile)]
    pub fn note(native: NativeCallContext, number: i64, kind: &str, text: &str) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "incident::note")?;
        let (number, text) = (number_of(&call, number)?, text_of(&call, text)?);
        let kind = text_of(&call, kind)?;
        let words = format!("{kind}: {text}");
        changed(&call, "incident::note", number, &words, WatchQuestion::Note { number, kind, text })
    }

    /// Keeps what was learnt with the incident, for its report; what is not given stays as it is.
    ///
    /// ```rhai,lab
    /// let opened = incident::open(#{ title: "a test", severity: "sev5" });
    /// incident::learn(opened.number, #{ cause: "a full disk" }).findings.cause == "a full disk"
    /// ```
    ///
    /// Takes `impact`, `cause`, `repair` and `prevention`. Returns the incident.
    #[rhai_fn(return_raw, volatile)]
    pub fn learn(native: NativeCallContext, number: i64, findings: Map) -> RhaiResultOf<Dynamic> {
        learnt(&Call::new(&native, "incident::learn")?, number, findings)
    }

    /// Says that whoever started the run takes care of it.
    ///
    /// ```rhai,lab
    /// let opened = incident::open(#{ title: "a test", severity: "sev5" });
    /// incident::ack(opened.number, "looking").state == "acknowledged"
    /// ```
    ///
    /// Said again by the same it changes nothing. Returns the incident.
    #[rhai_fn(return_raw, volatile)]
    pub fn ack(native: NativeCallContext, number: i64, text: &str) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "incident::ack")?;
        let (number, text) = (number_of(&call, number)?, text_of(&call, text)?);
        changed(&call, "incident::ack", number, "acknowledged", WatchQuestion::Acknowledge { number, text })
    }

    /// Ends an incident. Who heard of it hears of its end.
    ///
    /// ```rhai,lab
    /// let opened = incident::open(#{ title: "a test", severity: "sev5" });
    /// incident::resolve(opened.number, "done").state == "resolved"
    /// ```
    ///
    /// One that is over stays as it is. Returns the incident.
    #[rhai_fn(return_raw, volatile)]
    pub fn resolve(native: NativeCallContext, number: i64, text: &str) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "incident::resolve")?;
        let (number, text) = (number_of(&call, number)?, text_of(&call, text)?);
        changed(&call, "incident::resolve", number, "resolved", WatchQuestion::Resolve { number, text })
    }

    /// Hands an incident to the next person, whatever its clocks say.
    ///
    /// ```rhai,lab
    /// let opened = incident::open(#{ title: "a test", severity: "sev5" });
    /// incident::escalate(opened.number, "it did not help").timeline.some(|one| one.what == "escalated")
    /// ```
    ///
    /// Handed on for the same reason twice by a run, it is handed on once. Returns the incident.
    #[rhai_fn(return_raw, volatile)]
    pub fn escalate(native: NativeCallContext, number: i64, why: &str) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "incident::escalate")?;
        let (number, text) = (number_of(&call, number)?, text_of(&call, why)?);
        let words = format!("to the next person: {text}");
        changed(&call, "incident::escalate", number, &words, WatchQuestion::Escalate { number, text })
    }

    /// What the repair policies of the system say to what is open: each rule is asked again, of the stored samples, just now.
    ///
    /// ```rhai
    /// incident::repairs().filter(|one| one.decision == "act") == []
    /// ```
    ///
    /// Options: `observe` (whether policies that act only watch; false when absent). Returns a list, by incident and policy: `incident`,
    /// `title`, `rule` (or what else opened it), `labels`, `policy` (`()` when none is about it), `runbook`, `params` (of that runbook, with the
    /// `service` it is for), `decision` (`act`, `observe`, `skip` or `escalate`), `target` (a service, or `machine`; `()` for none) and
    /// `reason` (why not; `()` otherwise). Nothing is counted: `incident::reserve` does.
    #[rhai_fn(name = "repairs", return_raw, volatile)]
    pub fn repairs_with(native: NativeCallContext, options: Map) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "incident::repairs")?;
        let RepairOptions { observe } = call.options(options)?;
        ask(&call, WatchQuestion::Repairs { observe })
    }

    /// What the repair policies of the system say, as they are written.
    #[rhai_fn(return_raw, volatile)]
    pub fn repairs(native: NativeCallContext) -> RhaiResultOf<Dynamic> {
        repairs_with(native, Map::new())
    }

    /// Writes a repair down before it is made: it counts from now on, whatever becomes of this run. What the policy says is asked
    /// again, together with the count, so that two never make one repair.
    ///
    /// ```rhai,lab
    /// let kind = "";
    /// try { incident::reserve("nothing", 1, #{}); } catch (error) { kind = error.kind; }
    /// kind == "not_found"
    /// ```
    ///
    /// Options: `observe`. Returns `policy`, `decision`, `target`, `reason`, `runbook`, `params` and `repair`: its number when it is to be
    /// made now, which `incident::conclude` wants when that is over; `()` when nothing is. `observe` is noted with the incident, `escalate`
    /// hands it to the next person, each once. A run that asks again, after a crash, gets the repair it has already.
    #[rhai_fn(name = "reserve", return_raw, volatile)]
    pub fn reserve_with(native: NativeCallContext, policy: &str, incident: i64, options: Map) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "incident::reserve")?;
        let (number, RepairOptions { observe }) = (number_of(&call, incident)?, call.options(options)?);
        let question = WatchQuestion::Reserve { policy: policy.to_owned(), incident: number, observe };
        changed(&call, "incident::reserve", number, &format!("a repair by the policy `{policy}`"), question)
    }

    /// Writes a repair down before it is made, as the policy says.
    #[rhai_fn(return_raw, volatile)]
    pub fn reserve(native: NativeCallContext, policy: &str, incident: i64) -> RhaiResultOf<Dynamic> {
        reserve_with(native, policy, incident, Map::new())
    }

    /// Says that a repair that this run counted is over, and by which run it was made: 0 when by none, which counts as a try that failed.
    /// Whether it helped, the rule says.
    ///
    /// ```rhai,lab
    /// let kind = "";
    /// try { incident::conclude(999999, 0, "it could not be started"); } catch (error) { kind = error.kind; }
    /// kind == "not_found"
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn conclude(native: NativeCallContext, repair: i64, run: i64, text: &str) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "incident::conclude")?;
        let (repair, run, text) = (number_of(&call, repair)?, number_of(&call, run)?, text_of(&call, text)?);
        concluded(&call, repair, run, text)
    }

    /// Looks at repairs that were made: one has helped when its rule fires no more, and has not when it still does 5 minutes later.
    ///
    /// ```rhai
    /// incident::prove();
    /// true
    /// ```
    ///
    /// Those of the daemon are looked at, too, and one whose run was killed is over with that run. Returns the repairs of a week: `repair`,
    /// `policy`, `target`, `incident`, `at`, `run`, `ended`, `state` (`trying`, `helped`, `failed`, `escalated`, `observed`); `()` in a plan.
    #[rhai_fn(return_raw, volatile)]
    pub fn prove(native: NativeCallContext) -> RhaiResultOf<Dynamic> {
        proved(&Call::new(&native, "incident::prove")?)
    }

    /// Lets time go by for all that is open: clocks that ran out are told, what has been well for long enough is over.
    ///
    /// ```rhai
    /// incident::pass();
    /// true
    /// ```
    ///
    /// The daemon does so by itself; without it a runbook does. Returns the incidents that are open then; `()` in a plan.
    #[rhai_fn(return_raw, volatile)]
    pub fn pass(native: NativeCallContext) -> RhaiResultOf<Dynamic> {
        passed(&Call::new(&native, "incident::pass")?)
    }
}

fn listed(call: &Call<'_>, options: rhai::Map) -> RhaiResultOf<Dynamic> {
    let ListOptions { open, since, limit } = call.options(options)?;
    let since = since.map(|since| since.resolve(call.ctx().now())).transpose().map_err(|error| call.fail(error))?;
    ask(call, WatchQuestion::Incidents { open, since, limit: limit.clamp(1, 1000) })
}

fn opened(call: &Call<'_>, about: rhai::Map) -> RhaiResultOf<Dynamic> {
    call.permit_any("incidents", "open")?;
    let opening: Opening = data(&Dynamic::from_map(about), "this is no incident").map_err(|error| call.fail(error))?;
    if opening.title.trim().is_empty() || opening.title.contains('\n') || opening.title.len() > LONGEST || opening.text.len() > LONGEST {
        return Err(call.fail(Error::new(Kind::Invalid, "the title is no line of text").hint("say in one line what is wrong")));
    }
    let word = crate::model::Urgency::Severity(opening.severity).name();
    let effect = Effect::new("incident::open", opening.title.clone(), format!("open an incident of {word}: {}", opening.title));
    tell(call, effect, WatchQuestion::Open(opening))
}

fn learnt(call: &Call<'_>, number: i64, findings: rhai::Map) -> RhaiResultOf<Dynamic> {
    let number = number_of(call, number)?;
    let Learnt { impact, cause, repair, prevention } = call.options(findings)?;
    let given = [("impact", impact), ("cause", cause), ("repair", repair), ("prevention", prevention)];
    let findings: BTreeMap<String, String> =
        given.into_iter().filter_map(|(name, text)| text.map(|text| (name.to_owned(), text))).collect();
    for text in findings.values() {
        text_of(call, text)?;
    }
    let words: Vec<&str> = findings.keys().map(String::as_str).collect();
    changed(call, "incident::learn", number, &words.join(", "), WatchQuestion::Learn { number, findings: findings.clone() })
}

fn passed(call: &Call<'_>) -> RhaiResultOf<Dynamic> {
    tell(call, Effect::new("incident::pass", "incidents", "look at the clocks of all that is open"), WatchQuestion::Pass)
}

fn concluded(call: &Call<'_>, repair: u64, run: u64, text: String) -> RhaiResultOf<Dynamic> {
    let effect = Effect::new("incident::conclude", format!("repair {repair}"), format!("repair {repair}: {text}"));
    tell(call, effect, WatchQuestion::Conclude { repair, run: Some(run).filter(|run| *run > 0), text })
}

fn proved(call: &Call<'_>) -> RhaiResultOf<Dynamic> {
    tell(call, Effect::new("incident::prove", "repairs", "look whether repairs have helped"), WatchQuestion::Prove)
}

fn changed(call: &Call<'_>, function: &str, number: u64, words: &str, question: WatchQuestion) -> RhaiResultOf<Dynamic> {
    tell(call, Effect::new(function, format!("#{number}"), format!("incident #{number}: {words}")), question)
}

fn number_of(call: &Call<'_>, number: i64) -> RhaiResultOf<u64> {
    u64::try_from(number).map_err(|_| call.fail(Error::new(Kind::Invalid, format!("{number} is no number of an incident"))))
}

fn text_of(call: &Call<'_>, text: &str) -> RhaiResultOf<String> {
    if text.len() > LONGEST {
        return Err(call.fail(Error::new(Kind::Limit, format!("the text is {} bytes long, and {LONGEST} are kept", text.len()))));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::host::testing::Bench;
    use crate::host::{Mode, OpeningSource, Question, Secrets};
    use crate::model::{EventKind, Severity};

    #[test]
    fn an_incident_is_opened_as_an_effect_and_asked_of_the_supervisor() {
        let bench = Bench::new(json!({ "incidents": ["open"] }));
        drop(
            bench
                .eval(r#"incident::open(#{ title: "no orders", severity: "sev2", source: #{ rule: "Orders" }, labels: #{ shop: "a" } })"#)
                .unwrap(),
        );
        let [Question::Watch(WatchQuestion::Open(opening))] = &bench.recorder.questions()[..] else { panic!("not asked") };
        assert_eq!((opening.severity, &opening.source), (Severity::Sev2, &OpeningSource::Rule("Orders".to_owned())));
        let effects = bench.recorder.events();
        assert!(effects.iter().any(|event| matches!(event, EventKind::Effect { effect, .. } if effect.summary.contains("no orders"))));
    }

    #[test]
    fn a_plan_tells_and_asks_for_nothing_that_is_done() {
        let bench = Bench::with(json!({ "incidents": ["note", "ack"] }), crate::model::System::default(), Secrets::default(), Mode::Plan);
        drop(bench.eval(r#"incident::note(3, "note", "seen"); incident::ack(3, "")"#).unwrap());
        assert!(bench.recorder.questions().is_empty());
        assert_eq!(bench.recorder.events().iter().filter(|event| matches!(event, EventKind::Effect { .. })).count(), 2);
    }

    #[test]
    fn each_verb_is_granted_alone() {
        let bench = Bench::new(json!({ "incidents": ["note"] }));
        drop(
            bench.eval(r#"incident::get(3); incident::list(); incident::note(3, "a", "b"); incident::learn(3, #{ cause: "x" })"#).unwrap(),
        );
        for script in [
            r#"incident::open(#{ title: "a", severity: "sev2" })"#,
            r#"incident::ack(3, "")"#,
            r#"incident::resolve(3, "")"#,
            "incident::recovered(3)",
            "incident::pass()",
        ] {
            assert_eq!(bench.error(script).kind, Kind::Denied, "{script}");
        }
        for (script, said) in [
            (r#"incident::note(-3, "a", "b")"#, "-3 is no number"),
            (r#"incident::learn(3, #{ causes: "x" })"#, "unknown option `causes`"),
            (r#"incident::list(#{ opened: true })"#, "unknown option `opened`"),
        ] {
            assert!(bench.error(script).message.contains(said), "{script}");
        }
    }
}
