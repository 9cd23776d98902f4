//! Where incidents are kept and told: the pure parts, brought together with the store.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::incident::{Clocks, Happened, Report, step};
use super::news::parcels;
use crate::error::Result;
use crate::model::{Incident, Source, System};
use crate::store::{Changed, IncidentFilter, Store, Which};

/// The incidents of one system.
#[derive(Clone, Copy)]
pub struct Duty<'a> {
    /// Where they are kept.
    pub store: &'a dyn Store,
    /// The system, for its clocks, its people and its language.
    pub system: &'a System,
    /// The directory of the project, which says whose contacts are meant.
    pub project: &'a str,
}

impl Duty<'_> {
    /// Something is not as it should be. The incident it belongs to, told as its state says.
    ///
    /// # Errors
    ///
    /// `store`; nothing is kept and nobody told then.
    pub fn report(&self, report: &Report, now: Timestamp) -> Result<Option<Incident>> {
        let because = match report.because {
            Some(number) => Some(number),
            None => self.reason(report.service.as_deref(), &self.open()?),
        };
        let report = Report { because, ..report.clone() };
        self.happened(Which::Fingerprint(&report.fingerprint()), &Happened::Broke(report.clone()), now)
    }

    /// Something happened to an incident, which is kept with what people hear of it, or neither.
    ///
    /// # Errors
    ///
    /// `store`; nothing changed then.
    pub fn happened(&self, which: Which<'_>, happened: &Happened, now: Timestamp) -> Result<Option<Incident>> {
        self.store.change_incident(which, &mut |before, next| {
            let Some((mut incident, news)) = step(before.as_ref(), happened, Clocks(self.system), now) else { return Ok(None) };
            if incident.number == 0 {
                incident.number = next;
            }
            let parcels = parcels(self.system, self.project, &incident, &news, now);
            Ok(Some(Changed { incident, parcels }))
        })
    }

    /// Lets time go by: looks at the clocks of all that is open, and at what is because of what.
    ///
    /// # Errors
    ///
    /// `store`.
    pub fn pass(&self, now: Timestamp) -> Result<()> {
        let open = self.open()?;
        for incident in &open {
            let which = Which::Number(incident.number);
            let others: Vec<Incident> = open.iter().filter(|other| other.number != incident.number).cloned().collect();
            match (incident.because, self.reason(incident.service.as_deref(), &others)) {
                (None, Some(number)) => self.happened(which, &Happened::Because { number }, now)?,
                // Whether it is on its own, the next run says.
                (Some(number), None) if !matches!(incident.source, Source::Run(_)) && !open.iter().any(|other| other.number == number) => {
                    self.happened(which, &Happened::OnItsOwn, now)?
                }
                _ => self.happened(which, &Happened::Passed, now)?,
            };
        }
        Ok(())
    }

    /// What is open, the oldest first.
    ///
    /// # Errors
    ///
    /// `store`.
    pub fn open(&self) -> Result<Vec<Incident>> {
        let filter = IncidentFilter { system: Some(self.system.name.clone()), open: true, ..IncidentFilter::default() };
        let mut open = self.store.incidents(&filter)?;
        open.reverse();
        Ok(open)
    }

    /// The incident of a service that this one needs, itself or through others.
    fn reason(&self, service: Option<&str>, open: &[Incident]) -> Option<u64> {
        let needed = needs(self.system, service?);
        let is_reason = |incident: &&Incident| {
            incident.calm.is_none()
                && incident.because.is_none()
                && incident.service.as_ref().is_some_and(|service| needed.contains(service.as_str()))
        };
        open.iter().find(is_reason).map(|incident| incident.number)
    }
}

/// All services that a service needs, itself left out.
pub fn needs<'s>(system: &'s System, service: &str) -> BTreeSet<&'s str> {
    let of = |name: &str| system.services.each.get(name).map(|service| service.needs.as_slice()).unwrap_or_default();
    let (mut found, mut left) = (BTreeSet::new(), of(service).iter().collect::<Vec<_>>());
    while let Some(name) = left.pop() {
        if name != service && found.insert(name.as_str()) {
            left.extend(of(name));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::system::{Contact, Maintenance, Service, Services, Severity as Scale};
    use crate::model::{IncidentState, Labels, Severity, Span};
    use crate::store::{Incidents, Memory, Sqlite, StateDir};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_795_000_000 + seconds).unwrap()
    }

    fn webhook() -> Contact {
        Contact::Webhook { url: "http://sink.example".to_owned(), headers: Default::default(), per_minute: None, fallback: None }
    }

    fn shop(language: &str) -> System {
        let service = |needs: &[&str]| Service { needs: needs.iter().map(|name| (*name).to_owned()).collect(), ..Service::default() };
        let each = [("db", service(&[])), ("api", service(&["db"])), ("web", service(&["api"]))];
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let scale = |label: &str, respond| Scale { label: label.to_owned(), respond: Some(Span::secs(respond)), ..Scale::default() };
        System {
            name: "shop".to_owned(),
            title: "Shop".to_owned(),
            language: language.to_owned(),
            timezone: "Asia/Shanghai".to_owned(),
            services: Services { each: each.map(|(name, service)| (name.to_owned(), service)).into(), ..Services::default() },
            severity: [("sev1".to_owned(), scale("P0", 300)), ("sev3".to_owned(), scale("P2", 900))].into(),
            contacts: [
                ("chat".to_owned(), webhook()),
                ("mail".to_owned(), webhook()),
                ("phone".to_owned(), Contact::Person { who: "maya".to_owned(), reach: "ext. 12".to_owned() }),
            ]
            .into(),
            routes: [
                ("sev1".to_owned(), names(&["phone", "chat", "mail"])),
                ("sev3".to_owned(), names(&["mail"])),
                ("recovery".to_owned(), names(&["chat"])),
            ]
            .into(),
            ..System::default()
        }
    }

    fn down(service: &str, severity: Severity) -> Report {
        Report {
            system: "shop".to_owned(),
            source: Source::Rule("ServiceDown".to_owned()),
            labels: Labels::from([("service".to_owned(), service.to_owned())]),
            title: format!("{service} is down"),
            severity,
            service: Some(service.to_owned()),
            value: Some(0.0),
            text: String::new(),
            because: None,
            run: None,
        }
    }

    fn subjects(store: &dyn Store) -> Vec<(String, String)> {
        store.queued().unwrap().into_iter().map(|parcel| (parcel.contact, parcel.message.subject)).collect()
    }

    fn heard(contact: &str, subject: &str) -> (String, String) {
        (contact.to_owned(), subject.to_owned())
    }

    #[test]
    fn a_thing_that_breaks_five_hundred_times_is_told_once_and_its_end_once() {
        let (store, system) = (Memory::default(), shop("zh"));
        let duty = Duty { store: &store, system: &system, project: "/srv" };
        for second in 0..500 {
            let incident = duty.report(&down("api", Severity::Sev1), at(second / 2)).unwrap().unwrap();
            assert_eq!(incident.number, 1);
            duty.pass(at(second / 2)).unwrap();
        }
        let recovered = Happened::Recovered { value: Some(1.0) };
        duty.happened(Which::Number(1), &recovered, at(250)).unwrap();
        duty.pass(at(311)).unwrap();
        duty.pass(at(400)).unwrap();
        let expected = [
            heard("chat", "[P0] Shop：api is down"),
            heard("mail", "[P0] Shop：api is down"),
            heard("chat", "[P0 已恢复] Shop：api is down"),
        ];
        assert_eq!(subjects(&store), expected);
        let parcel = &store.queued().unwrap()[0];
        assert_eq!((parcel.project.as_str(), parcel.message.next.as_deref()), ("/srv", Some("runbook incident ack 1")));
        let fact = |name: &str| parcel.message.facts.iter().find(|(fact, _)| fact == name).map(|(_, value)| value.as_str());
        assert_eq!((fact("电话通知"), fact("服务")), (Some("maya ext. 12"), Some("api")));
        assert_eq!(fact("开始时间"), Some("2026-11-18 19:06:40 CST"));
    }

    #[test]
    fn what_needs_the_thing_that_broke_is_not_told() {
        let (store, system) = (Memory::default(), shop("en"));
        let duty = Duty { store: &store, system: &system, project: "" };
        duty.report(&down("db", Severity::Sev1), at(0)).unwrap();
        duty.report(&down("web", Severity::Sev1), at(1)).unwrap();
        assert_eq!(subjects(&store), [heard("chat", "[P0] Shop: db is down"), heard("mail", "[P0] Shop: db is down")]);
        assert_eq!(duty.open().unwrap()[1].because, Some(1));
        // The reason goes, what needs it stays: now it is told.
        duty.happened(Which::Number(1), &Happened::Resolved { by: "jo".to_owned(), note: String::new() }, at(10)).unwrap();
        duty.pass(at(11)).unwrap();
        assert_eq!(subjects(&store)[3..], [heard("chat", "[P0] Shop: web is down"), heard("mail", "[P0] Shop: web is down")]);
    }

    #[test]
    fn an_incident_nobody_answers_goes_up() {
        let (store, system) = (Memory::default(), shop("en"));
        let duty = Duty { store: &store, system: &system, project: "" };
        duty.report(&down("api", Severity::Sev3), at(0)).unwrap();
        assert_eq!(subjects(&store), [heard("mail", "[P2] Shop: api is down")]);
        duty.pass(at(899)).unwrap();
        duty.pass(at(900)).unwrap();
        duty.pass(at(901)).unwrap();
        assert_eq!(subjects(&store)[1..], [heard("mail", "[P2 escalated] Shop: api is down")], "there is no route for sev2");
        let mut wider = system.clone();
        wider.routes.insert("sev2".to_owned(), vec!["chat".to_owned()]);
        let duty = Duty { system: &wider, ..duty };
        duty.report(&down("db", Severity::Sev3), at(1000)).unwrap();
        duty.happened(Which::Number(2), &Happened::Handed { why: "tried 3 times in 15m".to_owned() }, at(1001)).unwrap();
        let told = subjects(&store);
        assert!(told.contains(&heard("chat", "[P2 escalated] Shop: db is down")), "{told:?}");
    }

    /// The shop, whose people are left alone from 19:00 to 20:00: until 3200 s after the beginning.
    fn in_maintenance() -> System {
        let maintenance =
            Maintenance { window: Some("0 19 * * *".parse().unwrap()), hold: Some(Span::secs(3600)), ..Maintenance::default() };
        System { maintenance, ..shop("en") }
    }

    #[test]
    fn what_is_over_before_its_maintenance_window_is_told_to_nobody() {
        let (store, system) = (Memory::default(), in_maintenance());
        let duty = Duty { store: &store, system: &system, project: "" };
        let held = duty.report(&down("api", Severity::Sev1), at(0)).unwrap().unwrap();
        assert_eq!(held.held.map(|held| held.until), Some(at(300)), "sev1 is to be responded to in five minutes");
        assert!(!held.told && held.timeline.iter().any(|moment| moment.what == "held back"));
        for second in (15..240).step_by(15) {
            duty.pass(at(second)).unwrap();
        }
        duty.happened(Which::Number(1), &Happened::Recovered { value: None }, at(240)).unwrap();
        for second in [300, 3200, 7200] {
            duty.pass(at(second)).unwrap();
        }
        assert_eq!(subjects(&store), []);
        let over = store.incident(Which::Number(1)).unwrap().unwrap();
        assert_eq!((over.state, over.held), (IncidentState::Resolved, None));
    }

    #[test]
    fn what_outlasts_its_maintenance_window_is_told_then_and_its_clocks_run_from_there() {
        let (store, system) = (Memory::default(), in_maintenance());
        let duty = Duty { store: &store, system: &system, project: "" };
        duty.report(&down("db", Severity::Sev1), at(3000)).unwrap();
        duty.happened(Which::Number(1), &Happened::Handed { why: "tried 3 times".to_owned() }, at(3010)).unwrap();
        duty.pass(at(3199)).unwrap();
        assert_eq!(subjects(&store), []);
        for second in [3200, 3215, 3499] {
            duty.pass(at(second)).unwrap();
        }
        let told = ["[P0] Shop: db is down", "[P0 escalated] Shop: db is down"];
        assert_eq!(subjects(&store), told.map(|subject| ["chat", "mail"].map(|contact| heard(contact, subject))).concat());
        duty.pass(at(3500)).unwrap();
        assert_eq!(subjects(&store).len(), 6, "nobody responded within the five minutes since they heard of it");
    }

    #[test]
    fn what_takes_longer_than_people_have_to_respond_is_told_also_in_a_maintenance_window() {
        let (store, system) = (Memory::default(), in_maintenance());
        let duty = Duty { store: &store, system: &system, project: "" };
        duty.report(&down("db", Severity::Sev1), at(0)).unwrap();
        duty.pass(at(299)).unwrap();
        assert_eq!(subjects(&store), []);
        for second in [300, 315, 599] {
            duty.pass(at(second)).unwrap();
        }
        assert_eq!(subjects(&store), ["chat", "mail"].map(|contact| heard(contact, "[P0] Shop: db is down")));
        duty.pass(at(600)).unwrap();
        assert_eq!(subjects(&store).len(), 4, "nobody responded within the five minutes since they heard of it");
    }

    #[test]
    fn who_heard_of_it_before_the_maintenance_window_hears_of_its_end_in_it() {
        let (store, system) = (Memory::default(), in_maintenance());
        let duty = Duty { store: &store, system: &system, project: "" };
        duty.report(&down("api", Severity::Sev3), at(-600)).unwrap();
        duty.pass(at(200)).unwrap();
        assert_eq!(subjects(&store), [heard("mail", "[P2] Shop: api is down")]);
        assert!(store.incident(Which::Number(1)).unwrap().unwrap().held.is_none());
        duty.happened(Which::Number(1), &Happened::Resolved { by: "jo".to_owned(), note: String::new() }, at(250)).unwrap();
        assert_eq!(subjects(&store)[1..], [heard("chat", "[P2 recovered] Shop: api is down")]);
    }

    #[test]
    fn two_who_report_the_same_at_once_make_one_incident() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::open(&directory.path().join("state")).unwrap();
        let system = shop("en");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let store = Sqlite::open(&state.database()).unwrap();
                    let duty = Duty { store: &store, system: &system, project: "" };
                    for second in 0..25 {
                        duty.report(&down("api", Severity::Sev1), at(second)).unwrap();
                    }
                });
            }
        });
        let store = Sqlite::open(&state.database()).unwrap();
        let incidents = store.incidents(&IncidentFilter::default()).unwrap();
        assert_eq!((incidents.len(), incidents[0].count, incidents[0].state), (1, 100, IncidentState::Open));
        assert_eq!(subjects(&store).len(), 2);
    }

    #[test]
    fn a_report_is_filled_in_as_far_as_the_record_knows() {
        let (store, system) = (Memory::default(), shop("zh"));
        let duty = Duty { store: &store, system: &system, project: "" };
        duty.report(&down("api", Severity::Sev1), at(0)).unwrap();
        duty.happened(Which::Number(1), &Happened::Acknowledged { by: "maya".to_owned(), note: "on it".to_owned() }, at(60)).unwrap();
        duty.happened(Which::Number(1), &Happened::Resolved { by: "maya".to_owned(), note: "restarted".to_owned() }, at(600)).unwrap();
        let incident = store.incidents(&IncidentFilter::default()).unwrap().remove(0);
        let text = super::super::postmortem::report(&system, &incident);
        for part in [
            "# 故障根因分析报告：api is down",
            "**故障级别**：P0",
            "**持续时长**：10m",
            "maya：restarted",
            "## 4. 根本原因\n\n（待补充）",
            "**用户影响**：（待补充）",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        let english = super::super::postmortem::report(&shop("en"), &incident);
        assert!(english.contains("- **acknowledged**: 2026-11-18 19:07:40 CST (maya)"), "{english}");
    }
}
