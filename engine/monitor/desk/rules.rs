//! What scripts ask of rules.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::error::Result;
use crate::host::measure::Measured;
use crate::host::{Firing, MadeUp, RulesQuestion};
use crate::model::system::Rule;
use crate::model::{Labels, Sample, Span, System, Track};
use crate::monitor::alarm::{Alarm, Alarms};
use crate::monitor::drill::{Drill, Values};
use crate::monitor::own::Own;
use crate::monitor::prometheus;
use crate::monitor::remedy::{Cause, cause};
use crate::monitor::rule::{Answer, Sources, fresh, look};
use crate::monitor::sampler::with_jobs;
use crate::monitor::watch::LOOK;

/// What rules say, and where their alarms stand.
pub(super) fn ask(own: Own<'_>, system: &System, asked: &RulesQuestion, now: Timestamp) -> Result<Value> {
    let also = with_jobs(system, asked.also.iter().map(|(series, value)| (series.clone(), (*value).into())).collect());
    let mut found = Vec::new();
    for (name, rule) in &asked.rules {
        let (answers, alarms) = match asked.made_up.is_empty() {
            true => stored(own, rule, &also, asked.firing.iter().filter(|firing| firing.rule == *name), now)?,
            false => tried(rule, asked)?,
        };
        let mut all: Vec<&Labels> = alarms.each().map(|(labels, _)| labels).collect();
        all.extend(answers.iter().filter(|(_, answer)| !matches!(answer, Answer::Gone(_))).map(|(labels, _)| labels));
        all.sort();
        all.dedup();
        found.extend(all.into_iter().map(|labels| standing(system, name, rule, labels, answers.get(labels), alarms.of(labels))));
    }
    Ok(found.into())
}

/// Rules as Prometheus writes them.
pub(super) fn expressions(system: &System, rules: BTreeMap<String, Rule>) -> Result<Value> {
    let mut expressions = BTreeMap::new();
    let mut absent = BTreeMap::new();
    for (name, rule) in &rules {
        expressions.insert(name.clone(), prometheus::expression(name, rule)?);
        if rule.no_data.is_some() {
            absent.insert(name.clone(), prometheus::absence(rule)?);
        }
    }
    let own = System { name: system.name.clone(), title: system.title.clone(), rules, ..Default::default() };
    Ok(json!({ "expressions": expressions, "absent": absent, "file": prometheus::render(&own)? }))
}

/// What a rule says of what is stored and what was measured just now: as if somebody had looked at it all
/// the time that it has to hold or to be silent.
pub(super) fn stored<'f>(
    own: Own<'_>,
    rule: &Rule,
    also: &Measured,
    firing: impl Iterator<Item = &'f Firing>,
    now: Timestamp,
) -> Result<(BTreeMap<Labels, Answer>, Alarms)> {
    let sources = Sources::of(rule)?;
    let step = Span(LOOK).signed();
    let held = rule.hold.map_or(SignedDuration::ZERO, Span::signed);
    let silent = if rule.no_data.is_some() { fresh(rule) } else { SignedDuration::ZERO };
    let first = now.checked_sub(held.max(silent).saturating_add(step)).unwrap_or(Timestamp::MIN);
    let tracks = with(own.of_rule(&sources, first, now)?, &sources, also, now);
    let past = Alarms::of_looks(rule, &sources, &tracks, first, now, step);
    let fired = firing.map(|firing| {
        let alarm = past.of(&firing.labels);
        // It held for its time before it fired.
        let holds = alarm.holds.map_or(firing.since, |holds| holds.min(firing.since));
        (firing.labels.clone(), Alarm { holds: Some(holds), fires: Some(firing.since), ..alarm })
    });
    // What fired in the look back fires now, unless it has ended since.
    let quiet = past.each().map(|(labels, alarm)| (labels.clone(), Alarm { fires: None, ..*alarm }));
    let mut alarms = Alarms::remembered(quiet.chain(fired).collect::<Vec<_>>());
    let answers = look(rule, &sources, &tracks, now);
    alarms.take(rule, &answers, now);
    Ok((answers, alarms))
}

fn standing(system: &System, name: &str, rule: &Rule, labels: &Labels, answer: Option<&Answer>, alarm: Alarm) -> Value {
    let (known, number) = match answer {
        Some(Answer::Beyond(number) | Answer::Between(number) | Answer::Within(number)) => (true, Some(*number)),
        Some(Answer::Idle) => (true, None),
        Some(Answer::Unknown(_) | Answer::Gone(_)) | None => (false, alarm.value),
    };
    let service = match cause(system, rule, labels) {
        Cause::Service(service) => Some(service),
        _ => None,
    };
    json!({
        "rule": name, "labels": labels, "stands": alarm.standing(), "known": known, "idle": matches!(answer, Some(Answer::Idle)),
        "value": number, "holds": alarm.holds, "since": alarm.fires, "service": service,
        "summary": if rule.summary.is_empty() { name } else { &rule.summary },
    })
}

/// Tracks with what was measured at a moment and is not stored.
fn with(mut tracks: Vec<Track>, sources: &Sources, also: &Measured, now: Timestamp) -> Vec<Track> {
    let is_meant = |series| sources.series.selects(series) || sources.total.as_ref().is_some_and(|total| total.selects(series));
    for (series, value) in also.iter().filter(|(series, _)| is_meant(series)) {
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
