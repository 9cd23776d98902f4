//! The life of an incident: one function from what happened to what it is then, and what people hear.

use jiff::{SignedDuration, Timestamp};

use crate::model::system::Severity as Scale;
use crate::model::{Deadline, Held, Incident, IncidentState, Labels, Milestone, Severity, Source, Span, Stamp, System};

/// All has to be well for so long before people hear that it is over.
pub const SETTLE: SignedDuration = SignedDuration::from_secs(60);
/// The same for what comes and goes.
const SETTLE_FLAPPING: SignedDuration = SignedDuration::from_mins(10);
/// What breaks again so soon after its end is the same incident.
const REOPEN: SignedDuration = SignedDuration::from_mins(10);
/// So many turns within that time mean that it comes and goes.
const FLAPPING: usize = 6;
const FLAPPING_WITHIN: SignedDuration = SignedDuration::from_mins(10);
/// Who took care of it is reminded once a day.
const REMIND_ACKNOWLEDGED: SignedDuration = SignedDuration::from_hours(24);

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Happened {
    /// It is not as it should be. Said again, it is the same incident.
    Broke(Report),
    /// It is as it should be again.
    Recovered {
        /// The last measured value.
        value: Option<f64>,
    },
    /// Another incident is the reason for it.
    Because {
        /// The number of that one.
        number: u64,
    },
    /// The other incident is over.
    OnItsOwn,
    /// Someone takes care of it.
    Acknowledged {
        /// Who.
        by: String,
        /// What they say.
        note: String,
    },
    /// Someone says that it is over.
    Resolved {
        /// Who.
        by: String,
        /// What they say.
        note: String,
    },
    /// Something is to be remembered: a repair, a remark.
    Noted(Milestone),
    /// It goes to the next person, whatever the clocks say.
    Handed {
        /// Why.
        why: String,
    },
    /// Time went by.
    Passed,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The system.
    pub system: String,
    /// What reports it.
    pub source: Source,
    /// What tells it from others of the same source.
    pub labels: Labels,
    /// What it is, in one line.
    pub title: String,
    /// How severe it is.
    pub severity: Severity,
    /// The service it is about.
    pub service: Option<String>,
    /// The measured value.
    pub value: Option<f64>,
    /// What is to be said of it.
    pub text: String,
    /// The incident that is the reason for it.
    pub because: Option<u64>,
    /// The run that failed.
    pub run: Option<u64>,
}

impl Report {
    /// What makes two reports one incident.
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.system, &self.source, &self.labels)
    }
}

/// What makes two reports one incident.
pub fn fingerprint(system: &str, source: &Source, labels: &Labels) -> String {
    serde_json::json!([system, source, labels]).to_string()
}

/// What people hear of an incident.
#[derive(Debug, Clone, PartialEq)]
pub enum News {
    /// It is there.
    Opened,
    /// It is still there.
    Reminder,
    /// It goes to the next person.
    Escalated(String),
    /// It comes and goes.
    Flapping,
    /// It is over.
    Recovered,
}

/// The time limits of a system.
#[derive(Debug, Clone, Copy)]
pub struct Clocks<'a>(pub &'a System);

impl Clocks<'_> {
    fn scale(self, severity: Severity) -> Option<Scale> {
        let name = crate::model::Urgency::Severity(severity).name();
        self.0.severity.get(name).cloned()
    }

    /// When a clock of an incident runs out.
    pub fn deadline(self, incident: &Incident, deadline: Deadline) -> Option<Timestamp> {
        let scale = self.scale(incident.severity)?;
        let span: Span = match deadline {
            Deadline::Respond => scale.respond,
            Deadline::Escalate => scale.escalate,
            Deadline::Resolve => scale.resolve,
        }?;
        incident.clock.unwrap_or(incident.opened).checked_add(span.0).ok()
    }

    /// Until when people hear nothing of an incident, because there is maintenance. What takes longer than they have
    /// to respond is more than that.
    fn quiet_until(self, incident: &Incident, now: Timestamp) -> Option<Timestamp> {
        let until = self.0.maintenance_until(now)?;
        let until = self.deadline(incident, Deadline::Respond).map_or(until, |respond| respond.min(until));
        (until > now).then_some(until)
    }

    /// The clocks that ran out and were not told yet.
    fn overdue(self, incident: &Incident, now: Timestamp) -> Vec<Deadline> {
        let runs = |deadline: &Deadline| match deadline {
            Deadline::Respond => incident.state == IncidentState::Open,
            _ => incident.is_open(),
        };
        [Deadline::Respond, Deadline::Escalate, Deadline::Resolve]
            .into_iter()
            .filter(|deadline| !incident.overdue.contains(deadline) && runs(deadline))
            .filter(|deadline| self.deadline(incident, *deadline).is_some_and(|at| at <= now))
            .collect()
    }
}

/// How long people hear nothing of what is still there.
fn remind(incident: &Incident) -> SignedDuration {
    match (incident.state, incident.severity) {
        (IncidentState::Acknowledged, _) => REMIND_ACKNOWLEDGED,
        (_, Severity::Sev1) => SignedDuration::from_mins(30),
        (_, Severity::Sev2) => SignedDuration::from_hours(1),
        (_, Severity::Sev3) => SignedDuration::from_hours(4),
        (_, Severity::Sev4) => SignedDuration::from_hours(12),
        (_, Severity::Sev5) => REMIND_ACKNOWLEDGED,
    }
}

/// An incident after something happened, and what people hear of it; nothing when nothing is different.
///
/// `before` is the newest incident with the fingerprint, which may be over for long. What people hear
/// depends on it and on nothing else, so that the same things tell the same story, once.
pub fn step(before: Option<&Incident>, happened: &Happened, clocks: Clocks<'_>, now: Timestamp) -> Option<(Incident, Vec<News>)> {
    let open = before.filter(|incident| incident.is_open());
    let mut news = Vec::new();
    let incident = match (happened, open) {
        (Happened::Broke(report), Some(incident)) => broke(incident.clone(), report, now, &mut news),
        (Happened::Broke(report), None) => match before.filter(|old| is_recent(old, now)) {
            Some(old) => reopened(old.clone(), report, now, &mut news),
            None => opened(report, now),
        },
        (_, None) => return None,
        (Happened::Recovered { value }, Some(incident)) => recovered(incident.clone(), *value, now, &mut news)?,
        (Happened::Because { number }, Some(incident)) => because(incident.clone(), Some(*number), now)?,
        (Happened::OnItsOwn, Some(incident)) => because(incident.clone(), None, now)?,
        (Happened::Acknowledged { by, note }, Some(incident)) => acknowledged(incident.clone(), by, note, now),
        (Happened::Resolved { by, note }, Some(incident)) => {
            let stamp = Stamp { at: now, by: by.clone() };
            resolved(incident.clone(), stamp, note, &mut news)
        }
        (Happened::Noted(moment), Some(incident)) => {
            let mut incident = incident.clone();
            incident.note(moment.clone());
            incident
        }
        (Happened::Handed { why }, Some(incident)) => {
            let mut incident = incident.clone();
            incident.note(moment(now, "escalated", "", why));
            news.push(News::Escalated(why.clone()));
            incident
        }
        (Happened::Passed, Some(incident)) => incident.clone(),
    };
    let incident = settle(incident, now, &mut news);
    let incident = tell(incident, clocks, now, &mut news);
    let is_same = before.is_some_and(|before| *before == incident);
    (!is_same).then_some((incident, news))
}

fn moment(at: Timestamp, what: &str, by: &str, text: &str) -> Milestone {
    Milestone { at, what: what.to_owned(), by: by.to_owned(), text: text.to_owned(), run: None }
}

fn told_by(report: &Report, now: Timestamp, what: &str) -> Milestone {
    Milestone { run: report.run, ..moment(now, what, "", &report.text) }
}

/// Whether it is about a run that failed, of which the next one that succeeds is the proof.
fn is_run(incident: &Incident) -> bool {
    matches!(incident.source, Source::Run(_))
}

fn is_recent(old: &Incident, now: Timestamp) -> bool {
    old.resolved.as_ref().is_some_and(|stamp| now.duration_since(stamp.at) <= REOPEN)
}

fn opened(report: &Report, now: Timestamp) -> Incident {
    Incident {
        number: 0,
        fingerprint: report.fingerprint(),
        system: report.system.clone(),
        title: report.title.clone(),
        severity: report.severity,
        source: report.source.clone(),
        labels: report.labels.clone(),
        service: report.service.clone(),
        state: IncidentState::Open,
        flapping: false,
        because: report.because,
        told: false,
        held: None,
        clock: None,
        opened: now,
        seen: now,
        count: 1,
        calm: None,
        turns: vec![now],
        acknowledged: None,
        resolved: None,
        overdue: std::collections::BTreeSet::new(),
        last_told: None,
        messages: 0,
        value: report.value,
        timeline: vec![told_by(report, now, "opened")],
        findings: crate::model::Findings::default(),
    }
}

/// The same again: it is counted, and said when it had been well meanwhile.
fn broke(mut incident: Incident, report: &Report, now: Timestamp, news: &mut Vec<News>) -> Incident {
    incident.seen = now;
    incident.count += 1;
    incident.value = report.value.or(incident.value);
    if is_run(&incident) {
        // Each run says itself whether something else is the reason.
        incident = because(incident.clone(), report.because, now).unwrap_or(incident);
    }
    if incident.calm.take().is_some() {
        turn(&mut incident, now, news);
        incident.note(told_by(report, now, "broke again"));
    }
    incident
}

fn reopened(mut incident: Incident, report: &Report, now: Timestamp, news: &mut Vec<News>) -> Incident {
    incident.state = IncidentState::Open;
    (incident.resolved, incident.acknowledged, incident.told) = (None, None, false);
    incident.note(told_by(report, now, "reopened"));
    turn(&mut incident, now, news);
    broke(incident, report, now, news)
}

fn recovered(mut incident: Incident, value: Option<f64>, now: Timestamp, news: &mut Vec<News>) -> Option<Incident> {
    if incident.calm.is_some() {
        return None;
    }
    incident.calm = Some(now);
    incident.value = value.or(incident.value);
    turn(&mut incident, now, news);
    incident.note(moment(now, "well again", "", ""));
    Some(incident)
}

/// It changed sides. Too often within too short a time, and people hear that once, instead of each change.
fn turn(incident: &mut Incident, now: Timestamp, news: &mut Vec<News>) {
    incident.turns.push(now);
    incident.turns.retain(|at| now.duration_since(*at) <= FLAPPING_WITHIN);
    if incident.turns.len() >= FLAPPING && !incident.flapping {
        incident.flapping = true;
        incident.note(moment(now, "flapping", "", ""));
        news.push(News::Flapping);
    }
}

fn because(mut incident: Incident, number: Option<u64>, now: Timestamp) -> Option<Incident> {
    if incident.because == number {
        return None;
    }
    incident.because = number;
    let text = number.map_or_else(String::new, |number| format!("#{number}"));
    incident.note(moment(now, if number.is_some() { "because of" } else { "on its own" }, "", &text));
    Some(incident)
}

fn acknowledged(mut incident: Incident, by: &str, note: &str, now: Timestamp) -> Incident {
    incident.state = IncidentState::Acknowledged;
    incident.acknowledged.get_or_insert_with(|| Stamp { at: now, by: by.to_owned() });
    incident.last_told = Some(now);
    incident.note(moment(now, "acknowledged", by, note));
    incident
}

fn resolved(mut incident: Incident, stamp: Stamp, note: &str, news: &mut Vec<News>) -> Incident {
    incident.note(moment(stamp.at, "resolved", &stamp.by, note));
    incident.state = IncidentState::Resolved;
    incident.resolved = Some(stamp);
    (incident.calm, incident.flapping, incident.held) = (None, false, None);
    // Who never heard of it need not hear of its end.
    if incident.told {
        news.push(News::Recovered);
    }
    incident
}

/// What has been well for long enough is over, since it got well.
fn settle(incident: Incident, now: Timestamp, news: &mut Vec<News>) -> Incident {
    let needed = match incident.flapping {
        true => SETTLE_FLAPPING,
        false if is_run(&incident) => SignedDuration::ZERO,
        false => SETTLE,
    };
    match incident.calm {
        Some(calm) if incident.is_open() && now.duration_since(calm) >= needed => {
            let stamp = Stamp { at: calm, by: incident.source.name().to_owned() };
            resolved(incident, stamp, "", news)
        }
        _ => incident,
    }
}

/// Adds what the clocks say, and forgets what people need not hear.
fn tell(mut incident: Incident, clocks: Clocks<'_>, now: Timestamp, news: &mut Vec<News>) -> Incident {
    if !incident.is_open() {
        news.retain(|news| *news == News::Recovered);
        return told(incident, now, news);
    }
    if incident.because.is_some() {
        news.clear();
        return incident;
    }
    if let Some(until) = clocks.quiet_until(&incident, now) {
        return hold(incident, until, now, news);
    }
    // What got well is not chased; whether it stays so is known soon.
    if incident.calm.is_none() {
        release(&mut incident, now, news);
        if !incident.told && !incident.flapping {
            incident.told = true;
            news.push(News::Opened);
        }
        // Who comes and goes is told as that; a person looks at why, and no clock makes it more urgent.
        let overdue = if incident.flapping { Vec::new() } else { clocks.overdue(&incident, now) };
        if !overdue.is_empty() {
            let words: Vec<&str> = overdue.iter().map(|deadline| deadline_word(*deadline)).collect();
            incident.note(moment(now, "escalated", "", &words.join(", ")));
            incident.overdue.extend(overdue);
            news.push(News::Escalated(words.join(", ")));
        }
        let is_quiet = |at: Timestamp| now.duration_since(at) >= remind(&incident);
        if news.is_empty() && incident.last_told.is_some_and(is_quiet) {
            news.push(News::Reminder);
        }
    }
    told(incident, now, news)
}

/// People hear nothing for now: what they do not hear waits.
fn hold(mut incident: Incident, until: Timestamp, now: Timestamp, news: &mut Vec<News>) -> Incident {
    let is_news = !incident.told || !news.is_empty();
    let escalated = news.drain(..).filter_map(|news| if let News::Escalated(why) = news { Some(why) } else { None }).next_back();
    match &mut incident.held {
        Some(held) => {
            held.until = until;
            held.escalated = escalated.or(held.escalated.take());
        }
        None if is_news => {
            incident.note(moment(now, "held back", "", "in a maintenance window"));
            incident.held = Some(Held { until, escalated });
        }
        None => {}
    }
    incident
}

/// The quiet is over: what is still so is told now.
fn release(incident: &mut Incident, now: Timestamp, news: &mut Vec<News>) {
    let Some(held) = incident.held.take() else { return };
    if !incident.told {
        incident.clock = Some(now);
    }
    if incident.flapping && !news.contains(&News::Flapping) {
        news.push(News::Flapping);
    } else if !incident.told {
        news.insert(0, News::Opened);
    }
    incident.told = true;
    news.extend(held.escalated.map(News::Escalated));
}

fn told(mut incident: Incident, now: Timestamp, news: &[News]) -> Incident {
    if !news.is_empty() {
        incident.last_told = Some(now);
        incident.messages += news.len() as u64;
    }
    incident
}

fn deadline_word(deadline: Deadline) -> &'static str {
    match deadline {
        Deadline::Respond => "nobody responded in time",
        Deadline::Escalate => "it is time for the next person",
        Deadline::Resolve => "it was not resolved in time",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_795_000_000 + seconds).unwrap()
    }

    fn system() -> System {
        let scale = Scale {
            label: "P0".to_owned(),
            respond: Some(Span::secs(300)),
            escalate: Some(Span::secs(900)),
            resolve: Some(Span::secs(7200)),
            ..Scale::default()
        };
        System { name: "shop".to_owned(), severity: [("sev1".to_owned(), scale)].into(), ..System::default() }
    }

    fn report() -> Report {
        Report {
            system: "shop".to_owned(),
            source: Source::Rule("ServiceDown".to_owned()),
            labels: Labels::from([("job".to_owned(), "api".to_owned())]),
            title: "the API is down".to_owned(),
            severity: Severity::Sev1,
            service: Some("api".to_owned()),
            value: Some(0.0),
            text: String::new(),
            because: None,
            run: None,
        }
    }

    fn bad() -> Happened {
        Happened::Broke(report())
    }

    const GOOD: Happened = Happened::Recovered { value: None };

    fn by_maya(what: fn(String, String) -> Happened) -> Happened {
        what("maya".to_owned(), "on it".to_owned())
    }

    fn ack() -> Happened {
        by_maya(|by, note| Happened::Acknowledged { by, note })
    }

    fn end() -> Happened {
        by_maya(|by, note| Happened::Resolved { by, note })
    }

    /// What people hear and when, and the incident at the end.
    fn story(events: impl IntoIterator<Item = (i64, Happened)>) -> (Vec<(i64, News)>, Option<Incident>) {
        let (mut incident, mut heard, system): (Option<Incident>, _, _) = (None, Vec::new(), system());
        for (seconds, happened) in events {
            if let Some((next, news)) = step(incident.as_ref(), &happened, Clocks(&system), at(seconds)) {
                heard.extend(news.into_iter().map(|news| (seconds, news)));
                incident = Some(next);
            }
        }
        (heard, incident)
    }

    fn escalated(why: &str) -> News {
        News::Escalated(why.to_owned())
    }

    #[test]
    fn the_table_of_incidents() {
        use Happened::{Because, OnItsOwn, Passed};
        use IncidentState::{Acknowledged, Open, Resolved};
        use News::{Opened, Recovered, Reminder};
        let respond = || escalated("nobody responded in time");
        let next = || escalated("it is time for the next person");
        for (what, events, heard, state) in [
            ("it breaks", vec![(0, bad())], vec![(0, Opened)], Open),
            ("it breaks again and again", vec![(0, bad()), (1, bad()), (2, bad())], vec![(0, Opened)], Open),
            ("it gets well", vec![(0, bad()), (10, GOOD), (70, Passed)], vec![(0, Opened), (70, Recovered)], Resolved),
            ("it gets well for a moment", vec![(0, bad()), (10, GOOD), (40, bad()), (80, Passed)], vec![(0, Opened)], Open),
            ("nothing was wrong", vec![(0, GOOD), (1, Passed), (2, ack()), (3, end())], vec![], Resolved),
            ("nobody responds", vec![(0, bad()), (299, Passed), (300, Passed), (301, Passed)], vec![(0, Opened), (300, respond())], Open),
            ("someone responds", vec![(0, bad()), (200, ack()), (300, Passed)], vec![(0, Opened)], Acknowledged),
            (
                "someone responds and it goes on",
                vec![(0, bad()), (200, ack()), (900, Passed), (901, Passed)],
                vec![(0, Opened), (900, next())],
                Acknowledged,
            ),
            (
                "nobody looked at it for long",
                vec![(0, bad()), (1000, Passed)],
                vec![(0, Opened), (1000, escalated("nobody responded in time, it is time for the next person"))],
                Open,
            ),
            ("clocks rest while it is well", vec![(0, bad()), (290, GOOD), (310, Passed)], vec![(0, Opened)], Open),
            (
                "people are reminded",
                vec![(0, bad()), (300, Passed), (900, Passed), (2699, Passed), (2700, Passed), (2701, Passed)],
                vec![(0, Opened), (300, respond()), (900, next()), (2700, Reminder)],
                Open,
            ),
            ("a person ends it", vec![(0, bad()), (50, end())], vec![(0, Opened), (50, Recovered)], Resolved),
            ("it has ended already", vec![(0, bad()), (50, end()), (60, GOOD), (70, ack())], vec![(0, Opened), (50, Recovered)], Resolved),
            (
                "it breaks again soon after its end",
                vec![(0, bad()), (50, end()), (200, bad())],
                vec![(0, Opened), (50, Recovered), (200, Opened)],
                Open,
            ),
            (
                "another one is the reason",
                vec![(0, bad()), (1, Because { number: 7 }), (400, Passed), (500, GOOD), (600, Passed)],
                vec![(0, Opened), (600, Recovered)],
                Resolved,
            ),
            (
                "the other one is over and it is not",
                vec![(0, bad()), (1, Because { number: 7 }), (400, OnItsOwn)],
                vec![(0, Opened), (400, respond())],
                Open,
            ),
        ] {
            let (told, incident) = story(events);
            assert_eq!(told, heard, "{what}");
            assert_eq!(incident.map_or(Resolved, |incident| incident.state), state, "{what}");
        }
    }

    #[test]
    fn five_hundred_times_the_same_is_one_message_and_reminders_and_one_end() {
        let mut events: Vec<(i64, Happened)> = vec![(0, bad()), (10, ack())];
        events.extend((1..500).map(|index| (10 + index * 60, bad())));
        events.extend([(40_000, GOOD), (40_061, Happened::Passed), (40_070, Happened::Passed)]);
        let (heard, incident) = story(events);
        let incident = incident.unwrap();
        assert_eq!(incident.count, 500);
        let spoken: Vec<&News> = heard.iter().map(|(_, news)| news).collect();
        assert_eq!((spoken[0], *spoken.last().unwrap()), (&News::Opened, &News::Recovered));
        assert!(spoken[1..spoken.len() - 1].iter().all(|news| matches!(news, News::Escalated(_))), "{spoken:?}");
        assert_eq!(spoken.len(), 4, "{spoken:?}");
        assert_eq!(incident.resolved.unwrap().at, at(40_000), "it ended when it got well");
    }

    #[test]
    fn twenty_turns_in_ten_minutes_are_told_once() {
        let mut events = vec![(0, bad())];
        for turn in 1..=20 {
            events.push((turn * 30, if turn % 2 == 1 { GOOD } else { bad() }));
        }
        let (heard, incident) = story(events.clone());
        let flapping = heard.iter().filter(|(_, news)| *news == News::Flapping).count();
        assert_eq!((heard.len(), flapping, heard[0].1.clone()), (2, 1, News::Opened), "{heard:?}");
        assert!(incident.unwrap().flapping);
        events.extend([(601, GOOD), (900, Happened::Passed), (1300, Happened::Passed)]);
        let (heard, incident) = story(events);
        assert_eq!(heard.last(), Some(&(1300, News::Recovered)), "{heard:?}");
        assert!(!incident.unwrap().is_open());
    }

    #[test]
    fn what_was_never_told_ends_without_a_word() {
        let system = system();
        let (mut incident, _) = step(None, &bad(), Clocks(&system), at(0)).unwrap();
        (incident.told, incident.because) = (false, Some(7));
        let (incident, news) = step(Some(&incident), &end(), Clocks(&system), at(5)).unwrap();
        assert_eq!((incident.state, news), (IncidentState::Resolved, vec![]));
    }

    #[test]
    fn the_timeline_is_bounded_and_keeps_its_beginning() {
        let mut events = vec![(0, bad())];
        events.extend((0..500).map(|index| (index, Happened::Noted(moment(at(index), "note", "jo", &index.to_string())))));
        let timeline = story(events).1.unwrap().timeline;
        assert_eq!((timeline.len(), timeline[0].what.as_str(), timeline[199].text.as_str()), (200, "opened", "499"));
    }
}
