//! What scripts ask of what is watched, and what they add to it: the samples, rules and incidents of one system.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::alarm::{Alarm, Alarms};
use super::drill::{Drill, Values, look};
use super::duty::Duty;
use super::incident::{Clocks, Happened, Report};
use super::remedy::{Cause, cause};
use super::rule::{Answer, Sources, fresh};
use super::sampler::with_jobs;
use super::trend::{Availability, Outlook, Trend};
use super::watch::{LOOK, SYSTEM};
use super::{news, postmortem, prometheus};
use crate::error::{Error, Kind, Result};
use crate::host::measure::Measured;
use crate::host::{Firing, MadeUp, Opening, OpeningSource, RulesQuestion, WatchQuestion};
use crate::model::system::Rule;
use crate::model::{
    Bucket, Curve, Deadline, Findings, Incident, IncidentState, Labels, Milestone, Reading, Sample, Selector, Series, Source, Span, Track,
};
use crate::store::{Changed, IncidentFilter, Samples, Which};

/// Samples are there as they came for a little longer; what is older is asked in spans.
const RAW: SignedDuration = SignedDuration::from_hours(47);
/// The length of the spans of a month, and of those of a year.
const MINUTES: Span = Span::secs(300);
const HOURS: Span = Span::secs(3600);
const MONTH: SignedDuration = SignedDuration::from_hours(30 * 24);

/// Where one run asks.
pub struct Desk<'a> {
    /// The incidents of its system.
    pub duty: Duty<'a>,
    /// The samples of its system.
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
        match question {
            WatchQuestion::Range { selector, from, to, step: None } => self.tracks(&selector, from, to),
            WatchQuestion::Range { selector, from, to, step: Some(step) } => self.curves(&selector, from, to, step),
            WatchQuestion::Last { selector, window } => self.each(&selector, window, now, |track| Ok(last(track, now))),
            WatchQuestion::Stats { selector, window } => self.each(&selector, window, now, |track| Ok(stats(track))),
            WatchQuestion::Trend { selector, window, limit, below, horizon } => {
                self.each(&selector, window, now, |track| Ok(trend(track, limit, below, signed(horizon))))
            }
            WatchQuestion::Availability { selector, window, target, holds } => self.availability(&selector, window, target, holds, now),
            WatchQuestion::Append { samples } => self.append(samples, now),
            WatchQuestion::Rules(asked) => self.rules(&asked, now),
            WatchQuestion::Expressions { rules } => self.expressions(rules),
            WatchQuestion::Incidents { open, since, limit } => {
                let filter = IncidentFilter { system: Some(self.duty.system.name.clone()), open, since, limit };
                Ok(self.duty.store.incidents(&filter)?.iter().map(|incident| self.incident(incident, now)).collect())
            }
            WatchQuestion::Incident { number } => Ok(self.found(number)?.map_or(Value::Null, |incident| self.incident(&incident, now))),
            WatchQuestion::Postmortem { number } => Ok(postmortem::report(self.duty.system, &self.one(number)?).into()),
            WatchQuestion::Open(opening) => self.open(opening, now),
            WatchQuestion::Recovered { number, value } => self.happened(number, &Happened::Recovered { value }, now),
            WatchQuestion::Note { number, kind, text } => self.note(number, kind, text, now),
            WatchQuestion::Acknowledge { number, text } => self.acknowledge(number, text, now),
            WatchQuestion::Resolve { number, text } => self.happened(number, &Happened::Resolved { by: self.who(), note: text }, now),
            WatchQuestion::Escalate { number, text } => self.escalate(number, text, now),
            WatchQuestion::Learn { number, findings } => self.learn(number, &findings, now),
            WatchQuestion::Pass => {
                self.duty.pass(now)?;
                Ok(self.duty.open()?.iter().map(|incident| self.incident(incident, now)).collect())
            }
        }
    }

    /// Who is behind what the run says.
    fn who(&self) -> String {
        if self.by.is_empty() { self.runbook.to_owned() } else { self.by.to_owned() }
    }
}

/// Samples.
impl Desk<'_> {
    /// The series of this system that are meant.
    fn own(&self, selector: &Selector) -> Selector {
        selector.and(SYSTEM, &self.duty.system.name)
    }

    fn selector(&self, text: &str) -> Result<Selector> {
        Ok(self.own(&text.parse()?))
    }

    fn tracks(&self, selector: &str, from: Timestamp, to: Timestamp) -> Result<Value> {
        let tracks = self.samples.tracks(&self.selector(selector)?, from, to)?;
        Ok(tracks
            .iter()
            .map(|track| named(&track.series, json!({ "samples": track.samples.iter().map(sample).collect::<Value>() })))
            .collect())
    }

    fn curves(&self, selector: &str, from: Timestamp, to: Timestamp, step: Span) -> Result<Value> {
        let curves = self.samples.curves(&self.selector(selector)?, from, to, step.0)?;
        Ok(curves
            .iter()
            .map(|curve| named(&curve.series, json!({ "samples": curve.buckets.iter().map(bucket).collect::<Value>() })))
            .collect())
    }

    /// Something of each series over a window; of a long one by the means of its spans.
    fn each(&self, selector: &str, window: Span, now: Timestamp, of: impl Fn(&Track) -> Result<Value>) -> Result<Value> {
        let from = before(now, signed(window));
        let selector = self.selector(selector)?;
        let tracks = match signed(window) <= RAW {
            true => self.samples.tracks(&selector, from, now)?,
            false => {
                self.samples.curves(&selector, from, now, spans(window).0)?.into_iter().map(|curve| means(curve, spans(window))).collect()
            }
        };
        tracks.iter().map(|track| Ok(named(&track.series, of(track)?))).collect()
    }

    fn availability(&self, selector: &str, window: Span, target: Option<f64>, holds: Span, now: Timestamp) -> Result<Value> {
        let from = before(now, signed(window));
        let selector = self.selector(selector)?;
        let told = |series: &Series, seen: Availability| {
            let budget = target.map(|target| seen.budget(target));
            let (allowed, left) = (budget.map(|budget| budget.0), budget.map(|budget| budget.1));
            named(
                series,
                json!({
                    "up_s": seen.up, "down_s": seen.down, "unknown_s": seen.unknown, "percent": seen.percent(),
                    "budget_s": allowed, "left_s": left,
                }),
            )
        };
        if signed(window) <= RAW {
            let tracks = self.samples.tracks(&selector, from, now)?;
            return Ok(tracks
                .iter()
                .map(|track| told(&track.series, Availability::of(&track.samples, from, now, signed(holds))))
                .collect());
        }
        let curves = self.samples.curves(&selector, from, now, spans(window).0)?;
        Ok(curves.iter().map(|curve| told(&curve.series, by_spans(&curve.buckets, spans(window), from, now))).collect())
    }

    fn append(&self, given: Vec<(Series, Option<f64>, Option<Timestamp>)>, now: Timestamp) -> Result<Value> {
        let mut batch = Vec::new();
        for (series, value, at) in given {
            let at = at.unwrap_or(now);
            let known_as = with_jobs(self.duty.system, vec![(series, value.into())]);
            let own = |(series, value): (Series, Reading)| (series.with(SYSTEM, &self.duty.system.name), Sample { at, value });
            batch.extend(known_as.into_iter().map(own));
        }
        let appended = self.samples.append(&batch)?;
        Ok(json!({ "kept": appended.kept, "known": appended.known, "refused": appended.refused }))
    }
}

/// Rules.
impl Desk<'_> {
    fn rules(&self, asked: &RulesQuestion, now: Timestamp) -> Result<Value> {
        let also = with_jobs(self.duty.system, asked.also.iter().map(|(series, value)| (series.clone(), (*value).into())).collect());
        let mut found = Vec::new();
        for (name, rule) in &asked.rules {
            let (answers, alarms) = match asked.made_up.is_empty() {
                true => self.stored(name, rule, &also, &asked.firing, now)?,
                false => tried(rule, asked)?,
            };
            let mut all: Vec<&Labels> = alarms.each().map(|(labels, _)| labels).collect();
            all.extend(answers.iter().filter(|(_, answer)| !matches!(answer, Answer::Gone(_))).map(|(labels, _)| labels));
            all.sort();
            all.dedup();
            found.extend(all.into_iter().map(|labels| self.standing(name, rule, labels, answers.get(labels), alarms.of(labels))));
        }
        Ok(found.into())
    }

    /// What a rule says of what is stored and what was measured just now: as if somebody had looked at it all
    /// the time that it has to hold or to be silent.
    fn stored(
        &self,
        name: &str,
        rule: &Rule,
        also: &Measured,
        firing: &[Firing],
        now: Timestamp,
    ) -> Result<(BTreeMap<Labels, Answer>, Alarms)> {
        let sources = Sources::of(rule)?;
        let step = SignedDuration::try_from(LOOK).unwrap_or_default();
        let held = rule.hold.map_or(SignedDuration::ZERO, signed);
        let silent = if rule.no_data.is_some() { fresh(rule) } else { SignedDuration::ZERO };
        let first = before(now, held.max(silent).saturating_add(step));
        let mut tracks = Vec::new();
        for selector in std::iter::once(&sources.series).chain(&sources.total) {
            let mut stored = self.samples.tracks(&self.own(selector), before(first, sources.reach), now)?;
            stored.iter_mut().for_each(|track| drop(track.series.labels.remove(SYSTEM)));
            for track in with(stored, selector, also, now) {
                if !tracks.contains(&track) {
                    tracks.push(track);
                }
            }
        }
        let mut alarms = Alarms::default();
        let mut at = first;
        while at < now {
            alarms.take(rule, &look(rule, &sources, &tracks, at), at);
            at = at.checked_add(step).unwrap_or(now);
        }
        let known = firing.iter().filter(|firing| firing.rule == name);
        let fired = known.map(|firing| {
            let alarm = alarms.of(&firing.labels);
            (firing.labels.clone(), Alarm { holds: Some(firing.since), fires: Some(firing.since), ..alarm })
        });
        // What fired in the look back fires now, unless it has ended since.
        let quiet = alarms.each().map(|(labels, alarm)| (labels.clone(), Alarm { fires: None, ..*alarm }));
        let mut alarms = Alarms::remembered(quiet.chain(fired).collect::<Vec<_>>());
        let answers = look(rule, &sources, &tracks, now);
        alarms.take(rule, &answers, now);
        Ok((answers, alarms))
    }

    fn standing(&self, name: &str, rule: &Rule, labels: &Labels, answer: Option<&Answer>, alarm: Alarm) -> Value {
        let (known, number) = match answer {
            Some(Answer::Beyond(number) | Answer::Between(number) | Answer::Within(number)) => (true, Some(*number)),
            Some(Answer::Idle) => (true, None),
            Some(Answer::Unknown(_) | Answer::Gone(_)) | None => (false, alarm.value),
        };
        let service = match cause(self.duty.system, rule, labels) {
            Cause::Service(service) => Some(service),
            _ => None,
        };
        json!({
            "rule": name, "labels": labels, "stands": alarm.standing(), "known": known, "idle": matches!(answer, Some(Answer::Idle)),
            "value": number, "holds": alarm.holds, "since": alarm.fires, "service": service,
            "summary": if rule.summary.is_empty() { name } else { &rule.summary },
        })
    }

    fn expressions(&self, rules: BTreeMap<String, Rule>) -> Result<Value> {
        let mut expressions = BTreeMap::new();
        let mut absent = BTreeMap::new();
        for (name, rule) in &rules {
            expressions.insert(name.clone(), prometheus::expression(name, rule)?);
            if rule.no_data.is_some() {
                absent.insert(name.clone(), prometheus::absence(rule)?);
            }
        }
        let system = self.duty.system;
        let own = crate::model::System { name: system.name.clone(), title: system.title.clone(), rules, ..Default::default() };
        Ok(json!({ "expressions": expressions, "absent": absent, "file": prometheus::render(&own)? }))
    }
}

/// Incidents.
impl Desk<'_> {
    /// The incident of this number, if it is one of the system.
    fn found(&self, number: u64) -> Result<Option<Incident>> {
        let found = self.duty.store.incident(Which::Number(number))?;
        Ok(found.filter(|incident| incident.system == self.duty.system.name))
    }

    fn one(&self, number: u64) -> Result<Incident> {
        let missing = || Error::new(Kind::NotFound, format!("{} has no incident #{number}", self.duty.system.name));
        self.found(number)?.ok_or_else(|| missing().hint("`runbook incident list --all` lists them"))
    }

    fn happened(&self, number: u64, happened: &Happened, now: Timestamp) -> Result<Value> {
        let before = self.one(number)?;
        let after = self.duty.happened(Which::Number(number), happened, now)?;
        Ok(self.incident(&after.unwrap_or(before), now))
    }

    fn open(&self, opening: Opening, now: Timestamp) -> Result<Value> {
        let system = self.duty.system;
        let rule = |name: String| match system.rules.contains_key(&name) {
            true => Ok(name),
            false => Err(Error::new(Kind::NotFound, format!("{} has no rule `{name}`", system.name)).suggest(&name, system.rules.keys())),
        };
        if let Some(service) = opening.service.as_ref().filter(|service| !system.services.each.contains_key(*service)) {
            let error = Error::new(Kind::NotFound, format!("{} has no service `{service}`", system.name));
            return Err(error.suggest(service, system.services.each.keys()));
        }
        let (source, is_ours) = match opening.source {
            OpeningSource::Runbook => (Source::Runbook(self.runbook.to_owned()), true),
            OpeningSource::Person => (Source::Person(self.who()), true),
            OpeningSource::Rule(name) => (Source::Rule(rule(name)?), false),
            OpeningSource::Silence(name) => (Source::Silence(rule(name)?), false),
        };
        let labels = match opening.labels {
            // Without anything that tells it from others, its title does.
            labels if labels.is_empty() && is_ours => Labels::from([("title".to_owned(), opening.title.clone())]),
            labels => labels,
        };
        let report = Report {
            system: system.name.clone(),
            source,
            labels,
            title: opening.title,
            severity: opening.severity,
            service: opening.service,
            value: opening.value,
            text: opening.text,
            because: None,
            run: self.number(),
        };
        let opened = self.duty.report(&report, now)?;
        let opened = opened.ok_or_else(|| Error::new(Kind::Bug, "an incident that was reported is not there"))?;
        Ok(self.incident(&opened, now))
    }

    fn note(&self, number: u64, kind: String, text: String, now: Timestamp) -> Result<Value> {
        let before = self.one(number)?;
        if self.has_said(&before, &kind, &text) {
            return Ok(self.incident(&before, now));
        }
        let moment = Milestone { at: now, what: kind, by: self.runbook.to_owned(), text, run: self.number() };
        self.happened(number, &Happened::Noted(moment), now)
    }

    fn acknowledge(&self, number: u64, text: String, now: Timestamp) -> Result<Value> {
        let before = self.one(number)?;
        let is_known = before.acknowledged.as_ref().is_some_and(|stamp| stamp.by == self.who());
        if before.state == IncidentState::Acknowledged && is_known {
            return Ok(self.incident(&before, now));
        }
        self.happened(number, &Happened::Acknowledged { by: self.who(), note: text }, now)
    }

    fn escalate(&self, number: u64, why: String, now: Timestamp) -> Result<Value> {
        let before = self.one(number)?;
        let started = before.timeline.iter().rfind(|moment| moment.what == "escalated").filter(|moment| moment.text == why);
        if started.is_some() {
            return Ok(self.incident(&before, now));
        }
        self.happened(number, &Happened::Handed { why }, now)
    }

    fn learn(&self, number: u64, given: &BTreeMap<String, String>, now: Timestamp) -> Result<Value> {
        let before = self.one(number)?;
        let or = |name: &str, old: &str| given.get(name).cloned().unwrap_or_else(|| old.to_owned());
        let learnt = |old: &Findings| Findings {
            impact: or("impact", &old.impact),
            cause: or("cause", &old.cause),
            repair: or("repair", &old.repair),
            prevention: or("prevention", &old.prevention),
        };
        let after = self.duty.store.change_incident(Which::Number(number), &mut |before, _| {
            let changed = before.filter(|before| learnt(&before.findings) != before.findings);
            Ok(changed.map(|before| Changed { incident: Incident { findings: learnt(&before.findings), ..before }, parcels: Vec::new() }))
        })?;
        Ok(self.incident(&after.unwrap_or(before), now))
    }

    /// Whether the run said this already: before a crash, or twice.
    fn has_said(&self, incident: &Incident, what: &str, text: &str) -> bool {
        let is_ours = |moment: &&Milestone| moment.run == self.number() && moment.what == what && moment.text == text;
        incident.timeline.iter().any(|moment| is_ours(&moment))
    }

    fn number(&self) -> Option<u64> {
        Some(self.run).filter(|run| *run > 0)
    }

    /// An incident as scripts see it: every key is there.
    fn incident(&self, incident: &Incident, now: Timestamp) -> Value {
        let clocks = Clocks(self.duty.system);
        let stamp = |stamp: &Option<crate::model::Stamp>| stamp.as_ref().map(|stamp| json!({ "at": stamp.at, "by": stamp.by }));
        let moment =
            |moment: &Milestone| json!({ "at": moment.at, "what": moment.what, "by": moment.by, "text": moment.text, "run": moment.run });
        let findings = &incident.findings;
        json!({
            "number": incident.number, "title": incident.title, "severity": incident.severity,
            "label": news::label(self.duty.system, incident.severity), "state": incident.state,
            "source": incident.source.kind(), "name": incident.source.name(), "labels": incident.labels, "service": incident.service,
            "value": incident.value, "flapping": incident.flapping, "because": incident.because, "calm": incident.calm,
            "told": incident.told, "opened": incident.opened, "seen": incident.seen, "count": incident.count,
            "age_s": now.duration_since(incident.opened).as_secs(),
            "acknowledged": stamp(&incident.acknowledged), "resolved": stamp(&incident.resolved), "overdue": incident.overdue,
            "clocks": {
                "respond": clocks.deadline(incident, Deadline::Respond), "escalate": clocks.deadline(incident, Deadline::Escalate),
                "resolve": clocks.deadline(incident, Deadline::Resolve),
            },
            "timeline": incident.timeline.iter().map(moment).collect::<Value>(),
            "findings": {
                "impact": findings.impact, "cause": findings.cause, "repair": findings.repair, "prevention": findings.prevention,
            },
        })
    }
}

fn signed(span: Span) -> SignedDuration {
    SignedDuration::try_from(span.0).unwrap_or(SignedDuration::MAX)
}

fn before(now: Timestamp, span: SignedDuration) -> Timestamp {
    now.checked_sub(span).unwrap_or(Timestamp::MIN)
}

/// The spans a long window is asked in.
fn spans(window: Span) -> Span {
    if signed(window) <= MONTH { MINUTES } else { HOURS }
}

fn named(series: &Series, mut about: Value) -> Value {
    let mut series = series.clone();
    series.labels.remove(SYSTEM);
    about["series"] = series.to_string().into();
    about["name"] = series.name.clone().into();
    about["labels"] = json!(series.labels);
    about
}

fn sample(sample: &Sample) -> Value {
    json!({ "at": sample.at, "value": sample.value.number() })
}

fn bucket(bucket: &Bucket) -> Value {
    json!({
        "at": bucket.at, "count": bucket.count, "unknown": bucket.unknown, "min": bucket.min.number(), "max": bucket.max.number(),
        "mean": bucket.mean.number(), "last": bucket.last.number(),
    })
}

/// A curve as samples in the middle of its spans.
fn means(curve: Curve, step: Span) -> Track {
    let middle = |at: Timestamp| at.checked_add(signed(step) / 2).unwrap_or(at);
    let samples = curve.buckets.iter().map(|bucket| Sample { at: middle(bucket.at), value: bucket.mean });
    Track { series: curve.series, samples: samples.collect() }
}

fn last(track: &Track, now: Timestamp) -> Value {
    let last = track.samples.last();
    json!({
        "at": last.map(|last| last.at), "value": last.and_then(|last| last.value.number()),
        "age_s": last.map(|last| now.duration_since(last.at).as_secs_f64()),
    })
}

#[expect(clippy::cast_precision_loss, reason = "a window has no 2^53 samples")]
fn stats(track: &Track) -> Value {
    let known: Vec<(Timestamp, f64)> =
        track.samples.iter().filter_map(|sample| sample.value.number().map(|number| (sample.at, number))).collect();
    let mut sorted: Vec<f64> = known.iter().map(|(_, number)| *number).collect();
    sorted.sort_by(f64::total_cmp);
    let sum: f64 = sorted.iter().sum();
    let count = sorted.len();
    let (increase, seconds) = increase(&known);
    json!({
        "count": count, "unknown": track.samples.len() - count,
        "avg": (count > 0).then(|| sum / count as f64), "sum": (count > 0).then_some(sum),
        "min": sorted.first(), "max": sorted.last(),
        "p50": quantile(&sorted, 0.5), "p95": quantile(&sorted, 0.95), "p99": quantile(&sorted, 0.99),
        "first": known.first().map(|(_, number)| *number),
        "last": track.samples.last().and_then(|sample| sample.value.number()),
        "increase": (seconds > 0.0).then_some(increase), "rate": (seconds > 0.0).then(|| increase / seconds),
    })
}

/// By how much a counter grew, over how many seconds; it begins at 0 again when what counts was started again.
fn increase(known: &[(Timestamp, f64)]) -> (f64, f64) {
    let grown = known.windows(2).map(|pair| if pair[1].1 < pair[0].1 { pair[1].1 } else { pair[1].1 - pair[0].1 }).sum();
    let seconds = known.first().zip(known.last()).map_or(0.0, |(first, last)| last.0.duration_since(first.0).as_secs_f64());
    (grown, seconds)
}

/// The smallest value that so many are not above.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place in the list")]
fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let place = (sorted.len() as f64 * share).ceil().max(1.0) as usize - 1;
    sorted.get(place).copied()
}

fn trend(track: &Track, limit: Option<f64>, below: bool, horizon: SignedDuration) -> Value {
    let line = Trend::of(&track.samples);
    let outlook = limit.map(|limit| line.map_or(Outlook::NotEnough, |line| line.outlook(limit, below, horizon)));
    let (at, hours) = match outlook {
        Some(Outlook::Reaches { at, hours, .. }) => (Some(at), Some(hours)),
        _ => (None, None),
    };
    json!({
        "per_hour": line.map(|line| line.per_hour), "now": line.map(|line| line.now), "r2": line.map(|line| line.r2),
        "count": line.map_or(track.samples.iter().filter(|sample| sample.value != Reading::Unknown).count(), |line| line.count),
        "unknown": track.samples.iter().filter(|sample| sample.value == Reading::Unknown).count(),
        "at": track.samples.last().map(|last| last.at),
        "outlook": outlook.map(|outlook| json!(outlook)["outlook"].clone()), "reaches_at": at, "hours": hours,
    })
}

/// How much of a time something was up, by spans: of each the share its numbers tell.
#[expect(clippy::cast_precision_loss, reason = "a span has no 2^53 samples")]
fn by_spans(buckets: &[Bucket], step: Span, from: Timestamp, to: Timestamp) -> Availability {
    let mut seen = Availability::default();
    for bucket in buckets {
        let end = bucket.at.checked_add(signed(step)).map_or(to, |end| end.min(to));
        let seconds = end.duration_since(bucket.at.max(from)).as_secs_f64().max(0.0);
        let known = bucket.count as f64 / (bucket.count + bucket.unknown).max(1) as f64;
        let up = bucket.mean.number().unwrap_or(0.0).clamp(0.0, 1.0);
        seen.up += seconds * known * up;
        seen.down += seconds * known * (1.0 - up);
    }
    seen.unknown = (to.duration_since(from).as_secs_f64() - seen.up - seen.down).max(0.0);
    seen
}

/// Tracks with what was measured at a moment and is not stored.
fn with(mut tracks: Vec<Track>, selector: &Selector, also: &Measured, now: Timestamp) -> Vec<Track> {
    for (series, value) in also.iter().filter(|(series, _)| selector.selects(series)) {
        let newest = Sample { at: now, value: *value };
        match tracks.iter_mut().find(|track| track.series == *series) {
            Some(track) => track.samples.push(newest),
            None => tracks.push(Track { series: series.clone(), samples: vec![newest] }),
        }
    }
    tracks
}

/// What a rule says of series that were made up.
fn tried(rule: &Rule, asked: &RulesQuestion) -> Result<(BTreeMap<Labels, Answer>, Alarms)> {
    let values = |made_up: &MadeUp| Values { series: made_up.series.clone(), values: made_up.values.clone() };
    let every = asked.every.unwrap_or(Span::secs(30));
    Drill { system: None, every, look: None, series: asked.made_up.iter().map(values).collect(), expect: Vec::new() }
        .try_one(rule, asked.at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::system::{RuleKind, Service, Services, Severity as Scale};
    use crate::model::{Severity, System};
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
            let duty = Duty { store: &self.store, system: &self.system, project: "/p" };
            Desk { duty, samples: &self.samples, by: "maya", runbook: "watchman", run: 7 }.answer(question, now)
        }

        #[track_caller]
        fn ask(&self, question: WatchQuestion, now: Timestamp) -> Value {
            self.try_ask(question, now).unwrap()
        }

        /// Samples of one series, `every` so many seconds.
        fn keep(&self, series: &str, every: i64, values: impl IntoIterator<Item = Option<f64>>) {
            let samples: Vec<(Series, Sample)> = (0..)
                .zip(values)
                .map(|(index, value)| {
                    (series.parse::<Series>().unwrap().with(SYSTEM, "shop"), Sample { at: after(every * index), value: value.into() })
                })
                .collect();
            self.samples.append(&samples).unwrap();
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
        let trend = WatchQuestion::Trend { selector: "ms".into(), window: HOURS, limit: Some(1.0), below: false, horizon: HOURS };
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
        let last = |selector: &str| room.ask(WatchQuestion::Last { selector: selector.into(), window: HOURS }, after(5));
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
}
