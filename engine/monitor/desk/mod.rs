//! What scripts ask of what is watched, and what they add to it: the samples, rules and incidents of one system.

mod incidents;
mod repairs;
mod rules;
mod samples;

use jiff::Timestamp;
use serde_json::Value;

use self::samples::Window;
use super::duty::Duty;
use super::own::Own;
use crate::error::Result;
use crate::host::WatchQuestion;
use crate::store::Samples;

/// Where one run asks.
pub struct Desk<'a> {
    /// The incidents of its system.
    pub duty: Duty<'a>,
    /// The samples of all systems.
    pub samples: &'a Samples,
    /// Who started it.
    pub by: &'a str,
    /// Its runbook.
    pub runbook: &'a str,
    /// Its number.
    pub run: u64,
}

impl Desk<'_> {
    /// Answers a question, or does what it says. What it says is durable when this returns.
    ///
    /// # Errors
    ///
    /// `invalid` for what is no selector or rule, `not_found` for an incident, rule or service that is not there,
    /// `limit` for too many samples, `store`.
    pub fn answer(&self, question: WatchQuestion, now: Timestamp) -> Result<Value> {
        let system = self.duty.system;
        let own = Own { samples: self.samples, system: &system.name };
        match question {
            WatchQuestion::Range { selector, from, to, step } => samples::range(own, &selector, from, to, step),
            WatchQuestion::Last { selector, window } => Window { own, selector: &selector, span: window, now }.last(),
            WatchQuestion::Stats { selector, window } => Window { own, selector: &selector, span: window, now }.stats(),
            WatchQuestion::Trend { selector, window, limit, below, horizon } => {
                Window { own, selector: &selector, span: window, now }.trend(limit, below, horizon)
            }
            WatchQuestion::Availability { selector, window, target, holds } => {
                Window { own, selector: &selector, span: window, now }.availability(target, holds)
            }
            WatchQuestion::Append { samples } => samples::append(own, system, samples, now),
            WatchQuestion::Rules(asked) => rules::ask(own, system, &asked, now),
            WatchQuestion::Expressions { rules } => rules::expressions(system, rules),
            WatchQuestion::Incidents { open, since, limit } => self.incidents(open, since, limit, now),
            WatchQuestion::Incident { number } => self.shown(number, now),
            WatchQuestion::Postmortem { number } => self.postmortem(number),
            WatchQuestion::Open(opening) => self.open(opening, now),
            WatchQuestion::Recovered { number, value } => self.recovered(number, value, now),
            WatchQuestion::Note { number, kind, text } => self.note(number, kind, text, now),
            WatchQuestion::Acknowledge { number, text } => self.acknowledge(number, text, now),
            WatchQuestion::Resolve { number, text } => self.resolve(number, text, now),
            WatchQuestion::Escalate { number, text } => self.escalate(number, text, now),
            WatchQuestion::Learn { number, findings } => self.learn(number, &findings, now),
            WatchQuestion::Pass => self.pass(now),
            WatchQuestion::Repairs { observe } => self.repairs(observe, now),
            WatchQuestion::Reserve { policy, incident, observe } => self.reserve(&policy, incident, observe, now),
            WatchQuestion::Conclude { repair, run, text } => self.conclude(repair, run, &text, now),
            WatchQuestion::Prove => self.prove(now),
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use serde_json::json;

    use super::*;
    use crate::error::Kind;
    use crate::host::{Firing, MadeUp, Opening, OpeningSource, RulesQuestion};
    use crate::model::system::{Remediation, RemediationMode, Rule, RuleKind, Service, Services, Severity as Scale};
    use crate::model::{Labels, Sample, Series, Severity, Span, System};
    use crate::monitor::repairs::Repairs;
    use crate::store::{Keep, Memory};

    fn start() -> Timestamp {
        Timestamp::from_second(1_795_000_000).unwrap()
    }

    fn after(seconds: i64) -> Timestamp {
        start() + SignedDuration::from_secs(seconds)
    }

    struct Room {
        store: Memory,
        samples: Samples,
        system: System,
    }

    impl Room {
        fn new() -> Self {
            let service = |needs: &[&str]| Service { needs: needs.iter().map(|name| (*name).to_owned()).collect(), ..Service::default() };
            let each = [("db".to_owned(), service(&[])), ("api".to_owned(), service(&["db"]))].into();
            let down = Rule { kind: RuleKind::Down, series: "up{job=\"shop-api\"}".into(), severity: "sev1".into(), ..Rule::default() };
            let scale = Scale { label: "P0".into(), respond: Some(Span::secs(300)), ..Scale::default() };
            let system = System {
                name: "shop".into(),
                title: "商店".into(),
                language: "zh".into(),
                timezone: "Asia/Shanghai".into(),
                services: Services { each, ..Services::default() },
                rules: [("Down".to_owned(), down)].into(),
                severity: [("sev1".to_owned(), scale)].into(),
                ..System::default()
            };
            Self { store: Memory::default(), samples: Samples::in_memory(Keep::default()).unwrap(), system }
        }

        fn try_ask(&self, question: WatchQuestion, now: Timestamp) -> Result<Value> {
            self.ask_as(7, question, now)
        }

        fn duty(&self) -> Duty<'_> {
            Duty { store: &self.store, system: &self.system, project: "/p" }
        }

        fn ask_as(&self, run: u64, question: WatchQuestion, now: Timestamp) -> Result<Value> {
            Desk { duty: self.duty(), samples: &self.samples, by: "maya", runbook: "watchman", run }.answer(question, now)
        }

        #[track_caller]
        fn ask(&self, question: WatchQuestion, now: Timestamp) -> Value {
            self.try_ask(question, now).unwrap()
        }

        /// Samples of one series, `every` so many seconds.
        fn keep(&self, series: &str, every: i64, values: impl IntoIterator<Item = Option<f64>>) {
            let series: Series = series.parse().unwrap();
            let sample = |(index, value): (i64, Option<f64>)| (series.clone(), Sample { at: after(every * index), value: value.into() });
            Own { samples: &self.samples, system: "shop" }.append((0..).zip(values).map(sample)).unwrap();
        }

        fn opened(&self, title: &str) -> u64 {
            let opening = Opening {
                title: title.into(),
                severity: Severity::Sev1,
                source: OpeningSource::Person,
                labels: Labels::new(),
                service: Some("api".into()),
                value: None,
                text: String::new(),
            };
            self.ask(WatchQuestion::Open(opening), start())["number"].as_u64().unwrap()
        }
    }

    fn stats_of(selector: &str, seconds: u64) -> WatchQuestion {
        WatchQuestion::Stats { selector: selector.into(), window: Span::secs(seconds) }
    }

    #[test]
    fn a_window_comes_to_what_its_numbers_say_and_unknown_is_none_of_them() {
        let room = Room::new();
        room.keep("ms{path=\"/\"}", 10, (1..=100).map(|number| Some(f64::from(number))).chain([None]));
        let found = &room.ask(stats_of("ms", 1000), after(1000))[0];
        let numbers =
            ["count", "unknown", "avg", "min", "max", "sum", "p50", "p95", "p99", "first"].map(|key| found[key].as_f64().unwrap());
        assert_eq!(numbers, [100.0, 1.0, 50.5, 1.0, 100.0, 5050.0, 50.0, 95.0, 99.0, 1.0]);
        assert_eq!((&found["last"], &found["labels"]["path"]), (&Value::Null, &"/".into()));
    }

    #[test]
    fn a_series_without_a_number_has_no_average_and_no_trend() {
        let room = Room::new();
        room.keep("ms", 10, [None, None]);
        let found = &room.ask(stats_of("ms", 1000), after(20))[0];
        assert!(["avg", "min", "max", "sum", "p95", "rate", "last"].iter().all(|key| found[*key].is_null()), "{found}");
        let trend = WatchQuestion::Trend {
            selector: "ms".into(),
            window: Span::secs(3600),
            limit: Some(1.0),
            below: false,
            horizon: Span::secs(3600),
        };
        let found = &room.ask(trend, after(20))[0];
        assert_eq!((&found["outlook"], &found["per_hour"], &found["unknown"]), (&"not-enough".into(), &Value::Null, &2.into()));
    }

    #[test]
    fn a_counter_that_begins_again_still_grows() {
        let room = Room::new();
        room.keep("c", 10, [10.0, 40.0, 5.0, 35.0].map(Some));
        let found = &room.ask(stats_of("c", 1000), after(30))[0];
        assert_eq!((found["increase"].as_f64(), found["rate"].as_f64()), (Some(65.0), Some(65.0 / 30.0)));
    }

    #[test]
    fn a_line_reaches_its_limit_in_the_time_it_takes() {
        let room = Room::new();
        // 60 to 72 % in 6 hours: 90 in 9 more.
        room.keep("disk", 300, (0..=72).map(|index| Some(60.0 + f64::from(index) / 6.0)));
        let now = after(72 * 300);
        let asked = |limit| WatchQuestion::Trend {
            selector: "disk".into(),
            window: Span::secs(6 * 3600),
            limit,
            below: false,
            horizon: Span::secs(86400),
        };
        let found = &room.ask(asked(Some(90.0)), now)[0];
        assert_eq!(found["outlook"], "reaches");
        assert!((found["hours"].as_f64().unwrap() - 9.0).abs() < 0.01, "{found}");
        assert_eq!(room.ask(asked(Some(500.0)), now)[0]["outlook"], "safe");
        assert_eq!(room.ask(asked(None), now)[0]["outlook"], Value::Null);
    }

    #[test]
    fn availability_counts_what_is_known_and_long_times_by_spans() {
        let room = Room::new();
        // Three days, each minute; one hour of the first day down, and one unknown.
        let value = |minute: i32| match minute {
            60..120 => Some(0.0),
            180..240 => None,
            _ => Some(1.0),
        };
        room.keep("endpoint_up", 60, (0..3 * 1440).map(value));
        let now = after(3 * 86400);
        let asked = |seconds, target| WatchQuestion::Availability {
            selector: "endpoint_up".into(),
            window: Span::secs(seconds),
            target,
            holds: Span::secs(120),
        };
        let day = &room.ask(asked(86400, Some(99.9)), now)[0];
        assert_eq!((day["percent"].as_f64(), day["down_s"].as_f64()), (Some(100.0), Some(0.0)));
        assert!((day["left_s"].as_f64().unwrap() - 86.4).abs() < 0.001);
        let all = &room.ask(asked(3 * 86400, Some(99.9)), now)[0];
        assert!(
            (all["down_s"].as_f64().unwrap() - 3600.0).abs() < 301.0 && (all["unknown_s"].as_f64().unwrap() - 3600.0).abs() < 301.0,
            "{all}"
        );
        assert!(all["left_s"].as_f64().unwrap() < 0.0);
    }

    #[test]
    fn a_service_is_kept_under_the_jobs_the_rules_know_it_by() {
        let room = Room::new();
        let kept =
            room.ask(WatchQuestion::Append { samples: vec![("service_up{service=\"api\"}".parse().unwrap(), Some(0.0), None)] }, start());
        assert_eq!(kept["kept"], 2);
        let last = |selector: &str| room.ask(WatchQuestion::Last { selector: selector.into(), window: Span::secs(3600) }, after(5));
        assert_eq!(last("up{job=\"shop-api\"}")[0]["value"], 0.0);
        assert_eq!(last("service_up")[0]["age_s"], 5.0);
        assert_eq!(last("nothing"), json!([]));
    }

    fn high(hold: u64) -> Rule {
        Rule {
            series: "cpu".into(),
            above: Some(80.0),
            clear: Some(70.0),
            hold: Some(Span::secs(hold)),
            no_data: Some(Span::secs(300)),
            ..Rule::default()
        }
    }

    fn rules(rule: Rule, also: Option<Option<f64>>, firing: Option<Timestamp>) -> WatchQuestion {
        WatchQuestion::Rules(RulesQuestion {
            rules: [("High".to_owned(), rule)].into(),
            also: also.into_iter().map(|value| (Series::new("cpu"), value)).collect(),
            firing: firing.into_iter().map(|since| Firing { rule: "High".into(), labels: Labels::new(), since }).collect(),
            ..RulesQuestion::default()
        })
    }

    #[test]
    fn a_look_now_and_then_sees_how_long_something_held() {
        let room = Room::new();
        room.keep("cpu", 60, [50.0, 90.0, 90.0, 90.0].map(Some));
        let at = |hold, seconds| room.ask(rules(high(hold), Some(Some(91.0)), None), after(seconds))[0].clone();
        assert_eq!(at(150, 200)["stands"], "pending");
        let fires = at(120, 200);
        assert_eq!((&fires["stands"], &fires["value"], &fires["known"]), (&"firing".into(), &91.0.into(), &true.into()));
    }

    #[test]
    fn what_fired_goes_on_until_it_is_back_at_the_level_that_ends_it() {
        let room = Room::new();
        let is = |value: f64, firing| room.ask(rules(high(60), Some(Some(value)), firing), after(200))[0]["stands"].clone();
        assert_eq!(is(75.0, Some(start())), "firing");
        assert_eq!(is(75.0, None), "quiet");
        assert_eq!(is(69.0, Some(start())), "quiet");
    }

    #[test]
    fn what_can_not_be_measured_is_not_known_and_after_a_time_no_data() {
        let room = Room::new();
        room.keep("cpu", 30, (0..40).map(|index| (index < 20).then_some(10.0)));
        let at = |seconds| room.ask(rules(high(60), Some(None), None), after(seconds))[0].clone();
        assert_eq!((&at(660)["stands"], &at(660)["known"]), (&"quiet".into(), &false.into()));
        assert_eq!((&at(1170)["stands"], &at(1170)["known"]), (&"no-data".into(), &false.into()));
        let nothing = Room::new();
        let found = nothing.ask(rules(high(60), None, None), start());
        assert_eq!((found.as_array().unwrap().len(), &found[0]["stands"]), (1, &"no-data".into()));
    }

    #[test]
    fn made_up_series_are_judged_to_their_end() {
        let room = Room::new();
        let asked = |at: Option<Span>| {
            WatchQuestion::Rules(RulesQuestion {
                rules: [("High".to_owned(), high(60))].into(),
                made_up: vec![MadeUp { series: Series::new("cpu"), values: "50x5 90x10".into() }],
                at,
                ..RulesQuestion::default()
            })
        };
        assert_eq!(room.ask(asked(None), start())[0]["stands"], "firing");
        assert_eq!(room.ask(asked(Some(Span::secs(120))), start())[0]["stands"], "quiet");
    }

    #[test]
    fn an_incident_is_one_however_often_it_is_said() {
        let room = Room::new();
        let number = room.opened("no orders");
        assert_eq!(room.opened("no orders"), number);
        assert_ne!(room.opened("no mail"), number);
        let note = || WatchQuestion::Note { number, kind: "recovery".into(), text: "restarted".into() };
        let times = |found: &Value| found["timeline"].as_array().unwrap().iter().filter(|one| one["text"] == "restarted").count();
        room.ask(note(), after(1));
        let found = room.ask(note(), after(2));
        assert_eq!((times(&found), &found["timeline"][1]["run"]), (1, &7.into()));
        let ack = || WatchQuestion::Acknowledge { number, text: String::new() };
        let first = room.ask(ack(), after(3));
        assert_eq!((&first["acknowledged"]["by"], &first["label"]), (&"maya".into(), &"P0".into()));
        assert_eq!(room.ask(ack(), after(4))["timeline"], first["timeline"]);
        assert_eq!(first["clocks"]["respond"], after(300).to_string());
    }

    #[test]
    fn what_was_learnt_is_in_the_report_in_the_words_of_the_system() {
        let room = Room::new();
        let number = room.opened("no orders");
        room.ask(WatchQuestion::Resolve { number, text: "done".into() }, after(60));
        let learnt = [("cause".to_owned(), "a full disk".to_owned())].into();
        let found = room.ask(WatchQuestion::Learn { number, findings: learnt }, after(61));
        assert_eq!((&found["findings"]["cause"], &found["state"]), (&"a full disk".into(), &"resolved".into()));
        let report = room.ask(WatchQuestion::Postmortem { number }, after(62));
        assert!(report.as_str().unwrap().contains("故障根因分析报告") && report.as_str().unwrap().contains("a full disk"));
    }

    #[test]
    fn incidents_of_another_system_are_not_there() {
        let mut room = Room::new();
        let number = room.opened("no orders");
        room.system.name = "other".into();
        assert_eq!(room.ask(WatchQuestion::Incident { number }, start()), Value::Null);
        assert_eq!(room.ask(WatchQuestion::Incidents { open: true, since: None, limit: 10 }, start()), json!([]));
        for question in [WatchQuestion::Postmortem { number }, WatchQuestion::Resolve { number, text: String::new() }] {
            assert_eq!(room.try_ask(question, start()).unwrap_err().kind, Kind::NotFound);
        }
    }

    #[test]
    fn an_incident_is_about_a_service_and_a_rule_there_is() {
        let room = Room::new();
        let opening = |service: Option<&str>, source| Opening {
            title: "t".into(),
            severity: Severity::Sev1,
            source,
            labels: Labels::new(),
            service: service.map(str::to_owned),
            value: None,
            text: String::new(),
        };
        for opening in [opening(Some("apii"), OpeningSource::Runbook), opening(None, OpeningSource::Rule("Dow".into()))] {
            let error = room.try_ask(WatchQuestion::Open(opening), start()).unwrap_err();
            assert_eq!((error.kind, error.hints.len()), (Kind::NotFound, 1), "{error}");
        }
        let opened = room.ask(WatchQuestion::Open(opening(Some("api"), OpeningSource::Rule("Down".into()))), start());
        assert_eq!((&opened["source"], &opened["name"]), (&"rule".into(), &"Down".into()));
    }

    /// The shop, whose API is down for ten minutes and may be restarted once.
    fn down() -> (Room, u64) {
        let mut room = Room::new();
        let policy = Remediation {
            runbook: "recover-service".into(),
            when: vec!["Down".into()],
            services: vec!["api".into()],
            mode: RemediationMode::Act,
            budget: Some(1),
            ..Remediation::default()
        };
        room.system.remediation = [("service".to_owned(), policy)].into();
        room.keep("up{job=\"shop-api\"}", 15, (0..=40).map(|_| Some(0.0)));
        let opening = Opening {
            title: "the API is down".into(),
            severity: Severity::Sev1,
            source: OpeningSource::Rule("Down".into()),
            labels: [("job".to_owned(), "shop-api".to_owned())].into(),
            service: Some("api".into()),
            value: Some(0.0),
            text: String::new(),
        };
        let number = room.ask(WatchQuestion::Open(opening), start())["number"].as_u64().unwrap();
        (room, number)
    }

    fn reserve(incident: u64) -> WatchQuestion {
        WatchQuestion::Reserve { policy: "service".into(), incident, observe: false }
    }

    #[test]
    fn a_run_and_the_watch_count_together() {
        let (room, number) = down();
        let asked = |run, seconds| room.ask_as(run, reserve(number), after(seconds)).unwrap();
        let conclude = |repair| WatchQuestion::Conclude { repair, run: Some(12), text: "it ran".into() };
        assert_eq!(room.ask(WatchQuestion::Repairs { observe: false }, after(60))[0]["decision"], "act");
        let got = asked(7, 60);
        assert_eq!((&got["decision"], &got["target"], &got["repair"]), (&"act".into(), &"api".into(), &1.into()));
        assert_eq!(asked(7, 61), got, "asked again after a crash, it is the same repair");
        assert_eq!((&asked(8, 61)["decision"], &asked(8, 61)["reason"]), (&"skip".into(), &"a repair is under way".into()));
        // A daemon that begins does not take it for one that was never started.
        Repairs { duty: room.duty() }.cut_off(after(62)).unwrap();
        assert_eq!(asked(8, 63)["reason"], "a repair is under way");
        assert_eq!(room.ask_as(8, conclude(1), after(64)).unwrap_err().kind, Kind::Conflict);
        room.ask(conclude(1), after(65));
        room.ask(conclude(1), after(66));
        assert_eq!(room.ask(WatchQuestion::Prove, after(67))[0]["state"], "trying");
        assert_eq!(room.ask(WatchQuestion::Prove, after(365))[0]["state"], "failed");
        assert_eq!(asked(9, 370)["decision"], "escalate");
        assert_eq!(asked(9, 371)["reason"], "given up: it is a person's now");
        let found = room.ask(WatchQuestion::Incident { number }, after(372));
        let times = |text: &str| found["timeline"].as_array().unwrap().iter().filter(|one| one["text"] == text).count();
        let seen = ["recover-service: tried 1 times in 1h", "it ran", "it did not help"].map(times);
        assert_eq!(seen, [1, 1, 1], "{found:#}");
    }

    #[test]
    fn a_run_that_was_killed_with_its_repair_leaves_one_that_is_over() {
        let (room, number) = down();
        // Nobody knows of a run 7 any more.
        assert_eq!(room.ask(reserve(number), after(60))["decision"], "act");
        room.ask(WatchQuestion::Prove, after(61));
        assert_eq!(room.ask(WatchQuestion::Prove, after(361))[0]["state"], "failed");
    }

    #[test]
    fn what_is_over_or_nobodys_is_repaired_by_nobody() {
        let (room, number) = down();
        let other = room.opened("no orders");
        assert_eq!(room.ask(reserve(other), after(60))["reason"], "the policy is not about it");
        let all = room.ask(WatchQuestion::Repairs { observe: true }, after(60));
        let decided: Vec<&Value> = all.as_array().unwrap().iter().map(|one| &one["decision"]).collect();
        assert_eq!((decided, &all[1]["policy"]), (vec![&Value::from("observe"), &"skip".into()], &Value::Null));
        room.ask(WatchQuestion::Resolve { number, text: String::new() }, after(61));
        assert_eq!(room.ask(reserve(number), after(62))["reason"], "it is over");
        let unknown = WatchQuestion::Reserve { policy: "services".into(), incident: number, observe: false };
        assert_eq!(room.try_ask(unknown, after(62)).unwrap_err().kind, Kind::NotFound);
    }
}
