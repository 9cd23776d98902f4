//! From answers to alarms: what has to hold for a time, and what ends it.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::rule::{Answer, Sources, fresh, look};
use crate::model::system::Rule;
use crate::model::{Labels, Span, Track};

/// How one rule stands for the series with some labels.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Alarm {
    /// Since when its condition holds.
    pub holds: Option<Timestamp>,
    /// Since when it fires.
    pub fires: Option<Timestamp>,
    /// Since when there is no answer.
    pub unknown: Option<Timestamp>,
    /// Since when that is an alarm of its own.
    pub silent: Option<Timestamp>,
    /// The last number.
    pub value: Option<f64>,
}

/// Where an alarm stands, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// All is well, or nothing can be said yet.
    Quiet,
    /// The condition holds, not long enough yet.
    Pending,
    /// It fires.
    Firing,
    /// There has been no answer for too long.
    NoData,
}

/// What changed for people.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Turn {
    /// It fires from now on.
    Fired(f64),
    /// It is over.
    Cleared(Option<f64>),
    /// There has been no answer for too long.
    Silent,
    /// There are answers again.
    Heard,
}

impl Alarm {
    /// Where it stands. Silence comes before what was last known.
    pub fn standing(&self) -> Standing {
        match self {
            Self { silent: Some(_), .. } => Standing::NoData,
            Self { fires: Some(_), .. } => Standing::Firing,
            Self { holds: Some(_), .. } => Standing::Pending,
            _ => Standing::Quiet,
        }
    }

    /// Whether it has to be remembered.
    fn is_at_rest(&self) -> bool {
        Self { value: None, ..*self } == Self::default()
    }

    /// The alarm after an answer, and what people should know.
    ///
    /// Only an answer ends an alarm: neither silence nor too little traffic says that all is well.
    #[must_use]
    pub fn next(mut self, rule: &Rule, answer: Answer, now: Timestamp) -> (Self, Vec<Turn>) {
        let mut turns = Vec::new();
        if let Answer::Unknown(since) = answer {
            self.go_silent(rule, since.unwrap_or(now), now, &mut turns);
            return (self, turns);
        }
        if let Answer::Gone(since) = answer {
            self.go_silent(rule, since, now, &mut turns);
            return (self, turns);
        }
        self.unknown = None;
        if self.silent.take().is_some() {
            turns.push(Turn::Heard);
        }
        match answer {
            Answer::Beyond(value) => {
                self.value = Some(value);
                let since = *self.holds.get_or_insert(now);
                let hold = rule.hold.map_or(SignedDuration::ZERO, Span::signed);
                if self.fires.is_none() && now.duration_since(since) >= hold {
                    self.fires = Some(now);
                    turns.push(Turn::Fired(value));
                }
            }
            Answer::Within(value) => {
                (self.value, self.holds) = (Some(value), None);
                if self.fires.take().is_some() {
                    turns.push(Turn::Cleared(Some(value)));
                }
            }
            Answer::Between(value) => {
                self.value = Some(value);
                self.holds = self.holds.filter(|_| self.fires.is_some());
            }
            _ => self.holds = self.holds.filter(|_| self.fires.is_some()),
        }
        (self, turns)
    }

    fn go_silent(&mut self, rule: &Rule, since: Timestamp, now: Timestamp, turns: &mut Vec<Turn>) {
        let since = *self.unknown.get_or_insert(since);
        if rule.no_data.is_some() && self.silent.is_none() && now.duration_since(since) >= fresh(rule) {
            self.silent = Some(now);
            turns.push(Turn::Silent);
        }
    }
}

/// The alarms of one rule, by the labels it keeps apart.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Alarms(BTreeMap<Labels, Alarm>);

impl Alarms {
    /// Alarms that were firing when they were last known, so that their end is noticed.
    pub fn remembered(alarms: impl IntoIterator<Item = (Labels, Alarm)>) -> Self {
        Self(alarms.into_iter().collect())
    }

    /// The alarms of a rule that was looked at from one moment to another, both included, and told nobody.
    pub fn of_looks(rule: &Rule, sources: &Sources, tracks: &[Track], from: Timestamp, to: Timestamp, step: SignedDuration) -> Self {
        let mut alarms = Self::default();
        let mut at = from;
        while at <= to {
            alarms.take(rule, &look(rule, sources, tracks, at), at);
            let Ok(next) = at.checked_add(step) else { break };
            at = next;
        }
        alarms
    }

    /// Those that are not at rest.
    pub fn each(&self) -> impl Iterator<Item = (&Labels, &Alarm)> {
        self.0.iter()
    }

    /// The one with these labels.
    pub fn of(&self, labels: &Labels) -> Alarm {
        self.0.get(labels).copied().unwrap_or_default()
    }

    /// Takes in the answers of one moment; returns what people should know.
    ///
    /// A series that has ended is nobody's business unless it was in alarm. When none is left, the rule
    /// as a whole is without an answer, which stands under no labels.
    pub fn take(&mut self, rule: &Rule, answers: &BTreeMap<Labels, Answer>, now: Timestamp) -> Vec<(Labels, Turn)> {
        let mut turns = Vec::new();
        let is_alive = answers.values().any(|answer| !matches!(answer, Answer::Gone(_)));
        let nobody = Labels::new();
        let mut step = |alarms: &mut BTreeMap<Labels, Alarm>, labels: &Labels, answer: Answer| {
            let (alarm, changed) = alarms.get(labels).copied().unwrap_or_default().next(rule, answer, now);
            turns.extend(changed.into_iter().map(|turn| (labels.clone(), turn)));
            if alarm.is_at_rest() && !answers.contains_key(labels) {
                alarms.remove(labels);
            } else {
                alarms.insert(labels.clone(), alarm);
            }
        };
        for (labels, answer) in answers {
            let is_watched = self.0.get(labels).is_some_and(|alarm| !alarm.is_at_rest());
            match answer {
                Answer::Gone(_) if !is_watched => drop(self.0.remove(labels)),
                _ => step(&mut self.0, labels, *answer),
            }
        }
        let missing: Vec<Labels> = self.0.keys().filter(|labels| !answers.contains_key(*labels)).cloned().collect();
        for labels in missing {
            if self.0.get(&labels).is_some_and(Alarm::is_at_rest) {
                self.0.remove(&labels);
                continue;
            }
            match labels == nobody && is_alive {
                true => step(&mut self.0, &labels, Answer::Idle),
                false if labels != nobody => step(&mut self.0, &labels, Answer::Unknown(None)),
                false => {}
            }
        }
        if !is_alive {
            let ended = answers.values().filter_map(|answer| if let Answer::Gone(at) = answer { Some(*at) } else { None }).max();
            if !answers.contains_key(&nobody) || !self.0.contains_key(&nobody) {
                step(&mut self.0, &nobody, Answer::Unknown(ended));
            }
        }
        turns
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Span;
    use crate::model::system::RuleKind;

    fn start() -> Timestamp {
        Timestamp::from_second(1_795_000_000).unwrap()
    }

    fn rule() -> Rule {
        Rule {
            kind: RuleKind::Value,
            above: Some(80.0),
            clear: Some(70.0),
            hold: Some(Span::secs(60)),
            no_data: Some(Span::secs(120)),
            ..Rule::default()
        }
    }

    const HIGH: Answer = Answer::Beyond(90.0);
    const MIDDLE: Answer = Answer::Between(75.0);
    const LOW: Answer = Answer::Within(50.0);
    const LOST: Answer = Answer::Unknown(None);

    /// One answer every 30 s: what changed, and where it stands at the end.
    fn tell(answers: &[Answer]) -> (Vec<(usize, Turn)>, Standing) {
        let (mut alarm, mut turns) = (Alarm::default(), Vec::new());
        for (index, answer) in answers.iter().enumerate() {
            let now = start() + SignedDuration::from_secs(30 * i64::try_from(index).unwrap());
            let (next, changed) = alarm.next(&rule(), *answer, now);
            alarm = next;
            turns.extend(changed.into_iter().map(|turn| (index, turn)));
        }
        (turns, alarm.standing())
    }

    #[test]
    fn the_table_of_alarms() {
        use Standing::{Firing, NoData, Pending, Quiet};
        use Turn::{Cleared, Fired, Heard, Silent};
        let fired = (2, Fired(90.0));
        for (answers, turns, standing) in [
            (vec![LOW, LOW], vec![], Quiet),
            (vec![HIGH, HIGH], vec![], Pending),
            (vec![HIGH, HIGH, HIGH, HIGH], vec![fired], Firing),
            // Once below its limit, it begins anew.
            (vec![HIGH, LOW, HIGH, HIGH], vec![], Pending),
            (vec![HIGH, MIDDLE, HIGH, HIGH], vec![], Pending),
            (vec![HIGH, Answer::Idle, HIGH, HIGH], vec![], Pending),
            // Hysteresis.
            (vec![HIGH, HIGH, HIGH, MIDDLE, MIDDLE], vec![fired], Firing),
            (vec![HIGH, HIGH, HIGH, MIDDLE, LOW], vec![fired, (4, Cleared(Some(50.0)))], Quiet),
            // Nothing that can be said ends nothing.
            (vec![HIGH, HIGH, HIGH, Answer::Idle], vec![fired], Firing),
            (vec![HIGH, HIGH, HIGH, LOST, LOST], vec![fired], Firing),
            (vec![HIGH, HIGH, HIGH, LOST, LOST, LOST, LOST, LOST], vec![fired, (7, Silent)], NoData),
            (vec![HIGH, HIGH, HIGH, LOST, LOST, LOST, LOST, LOST, HIGH], vec![fired, (7, Silent), (8, Heard)], Firing),
            (
                vec![HIGH, HIGH, HIGH, LOST, LOST, LOST, LOST, LOST, LOW],
                vec![fired, (7, Silent), (8, Heard), (8, Cleared(Some(50.0)))],
                Quiet,
            ),
            // A gap does not stop the clock of what goes on after it, and does not fire by itself.
            (vec![HIGH, LOST, LOST], vec![], Pending),
            (vec![HIGH, LOST, HIGH], vec![fired], Firing),
            // Silence has its own clock.
            (vec![LOW, LOST, LOST, LOST, LOST], vec![], Quiet),
            (vec![LOW, LOST, LOST, LOST, LOST, LOST], vec![(5, Silent)], NoData),
            (vec![LOW, LOST, LOST, LOST, LOW, LOST, LOST], vec![], Quiet),
        ] {
            assert_eq!(tell(&answers), (turns, standing), "{answers:?}");
        }
    }

    fn labelled(instance: &str) -> Labels {
        Labels::from([("instance".to_owned(), instance.to_owned())])
    }

    #[test]
    fn a_rule_without_any_series_is_silent_as_a_whole_and_heard_again() {
        let mut alarms = Alarms::default();
        let at = |seconds| start() + SignedDuration::from_secs(seconds);
        assert_eq!(alarms.take(&rule(), &BTreeMap::new(), at(0)), []);
        assert_eq!(alarms.take(&rule(), &BTreeMap::new(), at(119)), []);
        assert_eq!(alarms.take(&rule(), &BTreeMap::new(), at(120)), [(Labels::new(), Turn::Silent)]);
        assert_eq!(alarms.take(&rule(), &BTreeMap::new(), at(150)), []);
        let back = BTreeMap::from([(labelled("a"), LOW)]);
        assert_eq!(alarms.take(&rule(), &back, at(180)), [(Labels::new(), Turn::Heard)]);
        assert_eq!(alarms.each().filter(|(_, alarm)| alarm.standing() != Standing::Quiet).count(), 0);
    }

    #[test]
    fn a_container_that_was_replaced_is_no_alarm_and_one_that_was_in_alarm_is_not_forgotten() {
        let mut alarms = Alarms::default();
        let at = |seconds| start() + SignedDuration::from_secs(seconds);
        let both = |old: Answer| BTreeMap::from([(labelled("old"), old), (labelled("new"), LOW)]);
        alarms.take(&rule(), &both(LOW), at(0));
        assert_eq!(alarms.take(&rule(), &both(Answer::Gone(at(0))), at(600)), []);
        let mut alarms = Alarms::default();
        for seconds in [0, 30, 60] {
            alarms.take(&rule(), &both(HIGH), at(seconds));
        }
        assert_eq!(alarms.take(&rule(), &both(Answer::Gone(at(60))), at(600)), [(labelled("old"), Turn::Silent)]);
        assert_eq!(alarms.of(&labelled("old")).fires, Some(at(60)));
        let only_new = BTreeMap::from([(labelled("new"), LOW)]);
        assert_eq!(alarms.take(&rule(), &only_new, at(900)), []);
        assert_eq!(alarms.of(&labelled("old")).standing(), Standing::NoData);
    }
}
