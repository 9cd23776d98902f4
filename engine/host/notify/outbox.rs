//! The policy of the outbox: what to send now, and what becomes of it. Plain data in, plain data out.
//!
//! The owner of the outbox keeps the parcels and loops: [`plan`] says what each channel gets now, at
//! most one message per channel; after [`deliver`](super::deliver) answered, [`outcome`] gives the new
//! parcels to store; [`wake`] says when to look again. Because a channel has at most one message on
//! its way, a later message never overtakes an earlier one, and a crash between any two steps loses
//! nothing: what was not stored as delivered is sent again, with the same identity.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use crate::host::notify::client::{Receipt, Refusal, Retry};
use crate::host::notify::words;
use crate::model::system::Contact;
use crate::model::{Channel, Message, Parcel, ParcelState, Urgency};

/// How long after each failed try the next one is made; hourly after the last.
const BACK_OFF: [u64; 6] = [1, 5, 30, 120, 600, 1800];
const HOURLY: u64 = 3600;
/// A message that could not be delivered for this long is given up.
const LIFE: Duration = Duration::from_secs(24 * 3600);
/// The window of `per_minute`.
const MINUTE: Duration = Duration::from_secs(60);
/// So many subjects stand in a digest; the others are counted.
const DIGEST_LINES: usize = 20;
/// A message with the key of another is not sent again for this long.
const DEDUPE: Duration = Duration::from_secs(3600);

/// How much a channel takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// The most messages in any 60 seconds.
    pub per_minute: u32,
    /// The least time between two messages.
    pub apart: Duration,
}

impl Rate {
    /// What a contact takes: its own `per_minute`, else what its kind of channel is known to bear.
    ///
    /// Slack takes one a second, DingTalk blocks for ten minutes after 20 in a minute.
    pub fn of(contact: &Contact) -> Self {
        let (per_minute, usual, apart) = match contact {
            Contact::Slack { per_minute, .. } => (*per_minute, 60, Duration::from_secs(1)),
            Contact::Dingtalk { per_minute, .. } => (*per_minute, 18, Duration::ZERO),
            Contact::Email { per_minute, .. } => (*per_minute, 30, Duration::ZERO),
            Contact::Sms { per_minute, .. } => (*per_minute, 10, Duration::ZERO),
            Contact::Webhook { per_minute, .. } => (*per_minute, 60, Duration::ZERO),
            Contact::Person { .. } => (None, 60, Duration::ZERO),
        };
        Self { per_minute: per_minute.unwrap_or(usual).max(1), apart }
    }
}

/// One message to send now, and the parcels it stands for: one, or all that a digest sums up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dispatch {
    /// Where it goes.
    pub channel: Channel,
    /// What is sent.
    pub message: Message,
    /// The identities of the parcels it delivers.
    pub parcels: Vec<String>,
}

/// What each channel gets now: the oldest parcel, or a digest of all when they are more than the
/// rate allows, or nothing while it waits for its rate or its back-off.
///
/// `sent` is when each channel was last sent to, delivered or not; the last minute is enough.
pub fn plan(now: Timestamp, parcels: &[Parcel], sent: &[(Channel, Timestamp)], rate: impl Fn(&Channel) -> Rate) -> Vec<Dispatch> {
    let mut dispatches = Vec::new();
    for (channel, queue) in queues(parcels) {
        let rate = rate(&channel);
        if opens(&channel, &queue, sent, rate) > now {
            continue;
        }
        let left = rate.per_minute as usize - in_window(&channel, sent, now).count();
        let (message, parcels) = match &queue[..] {
            [only] => (labelled(only), vec![only.id.clone()]),
            [first, ..] if queue.len() <= left => (labelled(first), vec![first.id.clone()]),
            all => (digest(all), all.iter().map(|parcel| parcel.id.clone()).collect()),
        };
        dispatches.push(Dispatch { channel, message, parcels });
    }
    dispatches
}

/// When [`plan`] will next have something to say; nothing when the outbox is empty.
pub fn wake(parcels: &[Parcel], sent: &[(Channel, Timestamp)], rate: impl Fn(&Channel) -> Rate) -> Option<Timestamp> {
    queues(parcels).iter().map(|(channel, queue)| opens(channel, queue, sent, rate(channel))).min()
}

/// The queued parcels of each channel, the oldest first.
fn queues(parcels: &[Parcel]) -> BTreeMap<Channel, Vec<&Parcel>> {
    let mut queues: BTreeMap<Channel, Vec<&Parcel>> = BTreeMap::new();
    for parcel in parcels.iter().filter(|parcel| parcel.state == ParcelState::Queued) {
        queues.entry(Channel::of(parcel)).or_default().push(parcel);
    }
    for queue in queues.values_mut() {
        queue.sort_by_key(|parcel| (parcel.created, &parcel.id));
    }
    queues
}

/// When a channel takes its next message: its oldest parcel is due, and the rate allows it.
///
/// A window that slides, not a bucket that fills: a bucket lets twice the rate through in the minute
/// after a pause, and DingTalk counts any minute.
fn opens(channel: &Channel, queue: &[&Parcel], sent: &[(Channel, Timestamp)], rate: Rate) -> Timestamp {
    let mut times: Vec<Timestamp> = sent.iter().filter(|(to, _)| to == channel).map(|(_, at)| *at).collect();
    times.sort_unstable();
    let due = queue.first().map_or(Timestamp::MIN, |first| first.due);
    let apart = times.last().map_or(Timestamp::MIN, |last| later(*last, rate.apart));
    let window = times.iter().rev().nth(rate.per_minute as usize - 1).map_or(Timestamp::MIN, |oldest| later(*oldest, MINUTE));
    due.max(apart).max(window)
}

fn in_window<'s>(channel: &'s Channel, sent: &'s [(Channel, Timestamp)], now: Timestamp) -> impl Iterator<Item = Timestamp> + 's {
    sent.iter().filter(move |(to, at)| to == channel && later(*at, MINUTE) > now).map(|(_, at)| *at)
}

fn later(time: Timestamp, by: Duration) -> Timestamp {
    time.checked_add(by).unwrap_or(Timestamp::MAX)
}

fn labelled(parcel: &Parcel) -> Message {
    Message { id: Some(parcel.id.clone()), ..parcel.message.clone() }
}

/// One message for many: counts by urgency and the subjects, the most urgent first.
fn digest(parcels: &[&Parcel]) -> Message {
    let mut sorted: Vec<&Parcel> = parcels.to_vec();
    sorted.sort_by_key(|parcel| parcel.message.level.rank());
    let worst = sorted.first().map(|parcel| parcel.message.level).unwrap_or_default();
    let language = sorted.first().map(|parcel| parcel.message.language.clone()).unwrap_or_default();
    let zh = language == "zh";
    let counts: Vec<String> = Urgency::ALL
        .into_iter()
        .map(|urgency| (urgency, sorted.iter().filter(|parcel| parcel.message.level == urgency).count()))
        .filter(|(_, count)| *count > 0)
        .map(|(urgency, count)| format!("{count} {}", words::label(urgency, &language)))
        .collect();
    let subject = match zh {
        true => format!("{} 条消息：{}", sorted.len(), counts.join("，")),
        false => format!("{} messages: {}", sorted.len(), counts.join(", ")),
    };
    let mut lines: Vec<String> = sorted
        .iter()
        .take(DIGEST_LINES)
        .map(|parcel| format!("- {} {}", parcel.created.strftime("%Y-%m-%d %H:%M:%SZ"), words::subject(&parcel.message)))
        .collect();
    match sorted.len().saturating_sub(DIGEST_LINES) {
        0 => {}
        more if zh => lines.push(format!("另有 {more} 条")),
        more => lines.push(format!("and {more} more")),
    }
    let id = parcels.first().map(|parcel| parcel.id.clone());
    Message { id, subject, text: lines.join("\n"), level: worst, language, ..Message::default() }
}

/// A parcel after a try; for each parcel of a digest the same.
///
/// It stays queued with a later `due`, or is delivered, or is dead: at once when another try can not
/// help, else after 24 h. A dead one may go on as its [`fallback`].
pub fn outcome(mut parcel: Parcel, result: &Result<Receipt, Refusal>, now: Timestamp) -> Parcel {
    parcel.attempts += 1;
    let Err(refusal) = result else {
        parcel.state = ParcelState::Delivered;
        parcel.last_error = None;
        return parcel;
    };
    parcel.last_error = Some(refusal.error.to_string());
    let wait = match refusal.retry {
        Retry::After(wait) => Some(wait),
        Retry::Later => Some(back_off(&parcel)),
        Retry::Never => None,
    };
    match wait {
        Some(wait) if later(parcel.created, LIFE) > now => parcel.due = later(now, wait),
        _ => parcel.state = ParcelState::Dead,
    }
    parcel
}

/// The wait after this many tries, a tenth more or less, so that many outboxes do not knock at once.
fn back_off(parcel: &Parcel) -> Duration {
    let step = parcel.attempts.saturating_sub(1) as usize;
    let seconds = BACK_OFF.get(step).copied().unwrap_or(HOURLY);
    let mut hasher = DefaultHasher::new();
    (&parcel.id, parcel.attempts).hash(&mut hasher);
    let share = 900 + hasher.finish() % 201;
    Duration::from_millis(seconds * share)
}

/// The parcel that tells the contact's fallback what could not be told to the contact.
///
/// Its identity follows from the dead one, so that a crash between storing the two makes no second
/// one. Nothing when there is no fallback, or the message has been there already.
pub fn fallback(dead: &Parcel, contact: &Contact, now: Timestamp) -> Option<Parcel> {
    let next = fallback_of(contact)?;
    if dead.state != ParcelState::Dead || next == dead.contact || dead.via.iter().any(|earlier| earlier == next) {
        return None;
    }
    let mut message = dead.message.clone();
    let error = words::line(dead.last_error.as_deref().unwrap_or("?"));
    let note = match message.language.as_str() {
        "zh" => format!("（原收件渠道 `{}` 未能送达：{error}）", dead.contact),
        _ => format!("(not delivered to `{}`: {error})", dead.contact),
    };
    message.text = format!("{note}\n\n{}", message.text);
    message.markdown = None;
    message.html = None;
    let mut parcel = Parcel::new(format!("{}.{next}", dead.id), next, &dead.system, message, now);
    parcel.project.clone_from(&dead.project);
    parcel.via = dead.via.iter().chain([&dead.contact]).cloned().collect();
    Some(parcel)
}

fn fallback_of(contact: &Contact) -> Option<&str> {
    match contact {
        Contact::Email { fallback, .. }
        | Contact::Slack { fallback, .. }
        | Contact::Dingtalk { fallback, .. }
        | Contact::Webhook { fallback, .. }
        | Contact::Sms { fallback, .. } => fallback.as_deref(),
        Contact::Person { .. } => None,
    }
}

/// Whether this was said already: another parcel with its key is queued for the same contact, or was
/// delivered within the last hour. Then it is not put into the outbox.
pub fn is_repeat(parcel: &Parcel, parcels: &[Parcel], now: Timestamp) -> bool {
    let Some(key) = &parcel.message.dedupe else { return false };
    parcels.iter().any(|other| {
        let alive = match other.state {
            ParcelState::Queued => true,
            ParcelState::Delivered => later(other.created, DEDUPE) > now,
            ParcelState::Dead => false,
        };
        alive && Channel::of(other) == Channel::of(parcel) && other.message.dedupe.as_ref() == Some(key)
    })
}

/// How the outbox stands, for `status`, the web page and the journal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// Parcels that wait.
    pub queued: usize,
    /// Parcels that were accepted.
    pub delivered: usize,
    /// Parcels that were given up.
    pub dead: usize,
    /// Channels whose last try failed.
    pub failing: Vec<Channel>,
    /// Whether that is every channel that was tried: nobody hears anything.
    pub silent: bool,
}

/// How the outbox stands.
pub fn standing(parcels: &[Parcel]) -> Standing {
    let count = |state: ParcelState| parcels.iter().filter(|parcel| parcel.state == state).count();
    let mut ordered: Vec<&Parcel> = parcels.iter().filter(|parcel| parcel.attempts > 0).collect();
    ordered.sort_by_key(|parcel| (parcel.created, &parcel.id));
    let last: BTreeMap<Channel, bool> =
        ordered.iter().map(|parcel| (Channel::of(parcel), parcel.state != ParcelState::Delivered)).collect();
    let tried = last.len();
    let failing: Vec<Channel> = last.into_iter().filter(|(_, fails)| *fails).map(|(channel, _)| channel).collect();
    Standing {
        queued: count(ParcelState::Queued),
        delivered: count(ParcelState::Delivered),
        dead: count(ParcelState::Dead),
        silent: tried > 0 && failing.len() == tried,
        failing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;
    use crate::model::Level;

    fn start() -> Timestamp {
        "2026-11-21T12:00:00Z".parse().unwrap()
    }

    fn at(millis: u64) -> Timestamp {
        later(start(), Duration::from_millis(millis))
    }

    fn parcel(number: usize, now: Timestamp) -> Parcel {
        let level = if number.is_multiple_of(7) { Level::Critical } else { Level::Warning };
        let message = Message { subject: format!("event {number}"), level: Urgency::Level(level), ..Message::default() };
        Parcel::new(format!("{number:04}"), "ops", "ai-hub", message, now)
    }

    fn accepted() -> Result<Receipt, Refusal> {
        Ok(Receipt { detail: "ok".to_owned() })
    }

    fn later_please() -> Result<Receipt, Refusal> {
        Err(Refusal::later(Kind::Connect, "no connection"))
    }

    /// An outbox whose owner forgets everything but what is stored, as after a kill.
    struct Desk {
        parcels: Vec<Parcel>,
        sent: Vec<(Channel, Timestamp)>,
        /// What the sink accepted: when, and which parcels.
        heard: Vec<(Timestamp, Vec<String>)>,
    }

    impl Desk {
        fn new() -> Self {
            Self { parcels: Vec::new(), sent: Vec::new(), heard: Vec::new() }
        }

        fn restart(&mut self) {
            let stored = serde_json::to_string(&self.parcels).unwrap();
            self.parcels = serde_json::from_str(&stored).unwrap();
        }

        fn work(&mut self, now: Timestamp, rate: Rate, sink: impl Fn() -> Result<Receipt, Refusal>) {
            loop {
                let dispatches = plan(now, &self.parcels, &self.sent, |_| rate);
                if dispatches.is_empty() {
                    return;
                }
                for dispatch in dispatches {
                    self.sent.push((dispatch.channel.clone(), now));
                    let result = sink();
                    if result.is_ok() {
                        self.heard.push((now, dispatch.parcels.clone()));
                    }
                    for parcel in self.parcels.iter_mut().filter(|parcel| dispatch.parcels.contains(&parcel.id)) {
                        *parcel = outcome(parcel.clone(), &result, now);
                    }
                }
            }
        }

        fn heard_ids(&self) -> Vec<String> {
            self.heard.iter().flat_map(|(_, ids)| ids.clone()).collect()
        }
    }

    #[test]
    fn a_hundred_events_survive_a_dead_sink_and_a_restart_each_once_and_in_order() {
        let rate = Rate { per_minute: 60, apart: Duration::from_secs(1) };
        let mut desk = Desk::new();
        for second in 0..3 * 3600_u64 {
            let now = at(second * 1000);
            if second % 36 == 0 && desk.parcels.len() < 100 {
                desk.parcels.push(parcel(desk.parcels.len(), now));
            }
            if second == 1800 {
                desk.restart();
            }
            let dead = second < 3600;
            desk.work(now, rate, || if dead { later_please() } else { accepted() });
        }
        let expected: Vec<String> = (0..100).map(|number| format!("{number:04}")).collect();
        assert_eq!(desk.heard_ids(), expected);
        assert!(desk.parcels.iter().all(|parcel| parcel.state == ParcelState::Delivered));
    }

    #[test]
    fn two_hundred_alerts_in_a_minute_are_at_most_twenty_messages_in_any_minute_and_none_is_lost() {
        let contact = Contact::Dingtalk { url: String::new(), secret: None, mobiles: Vec::new(), per_minute: None, fallback: None };
        let mut desk = Desk::new();
        for tick in 0..1000_u64 {
            let now = at(tick * 300);
            if tick < 200 {
                desk.parcels.push(parcel(desk.parcels.len(), now));
            }
            desk.work(now, Rate::of(&contact), accepted);
        }
        let mut ids = desk.heard_ids();
        ids.sort();
        assert_eq!(ids, (0..200).map(|number| format!("{number:04}")).collect::<Vec<_>>());
        for (time, _) in &desk.heard {
            let minute = desk.heard.iter().filter(|(other, _)| other >= time && *other < later(*time, MINUTE)).count();
            assert!(minute <= 20, "{minute} messages in the minute from {time}");
        }
    }

    #[test]
    fn messages_to_slack_are_a_second_apart() {
        let rate = Rate { per_minute: 60, apart: Duration::from_secs(1) };
        let mut desk = Desk::new();
        desk.parcels = (0..5).map(|number| parcel(number, start())).collect();
        for tick in 0..100 {
            desk.work(at(tick * 100), rate, accepted);
        }
        assert_eq!(
            desk.heard.iter().map(|(time, _)| *time).collect::<Vec<_>>(),
            (0..5).map(|second| at(second * 1000)).collect::<Vec<_>>()
        );
    }

    #[test]
    fn a_digest_counts_all_and_shows_the_most_urgent_first() {
        let parcels: Vec<Parcel> = (1..=30).map(|number| parcel(number, start())).collect();
        let dispatches = plan(start(), &parcels, &[], |_| Rate { per_minute: 10, apart: Duration::ZERO });
        let [dispatch] = &dispatches[..] else { panic!("{dispatches:?}") };
        assert_eq!(dispatch.parcels.len(), 30);
        assert_eq!(dispatch.message.subject, "30 messages: 4 critical, 26 warning");
        assert!(dispatch.message.text.starts_with("- 2026-11-21 12:00:00Z [critical] event 7\n"), "{}", dispatch.message.text);
        assert!(dispatch.message.text.ends_with("and 10 more"));
        assert_eq!(dispatch.message.level, Urgency::Level(Level::Critical));
    }

    #[test]
    fn tries_are_made_ever_more_rarely_and_end_after_a_day() {
        let mut parcel = parcel(1, start());
        let mut now = start();
        let mut waits = Vec::new();
        while parcel.state == ParcelState::Queued {
            parcel = outcome(parcel, &later_please(), now);
            waits.push(parcel.due.duration_since(now).as_secs_f64());
            now = parcel.due.max(later(now, Duration::from_millis(1)));
        }
        for (wait, wanted) in waits.iter().zip([1.0, 5.0, 30.0, 120.0, 600.0, 1800.0, 3600.0, 3600.0]) {
            assert!((wait / wanted - 1.0).abs() <= 0.1, "{wait} instead of {wanted}");
        }
        assert_eq!(parcel.state, ParcelState::Dead);
        assert!(now >= later(start(), LIFE) && now < later(start(), LIFE + Duration::from_secs(2 * HOURLY)));
    }

    #[test]
    fn a_channel_that_says_when_is_asked_then_and_its_queue_waits() {
        let first = outcome(parcel(1, start()), &Err(Refusal::after(Duration::from_secs(30), "HTTP 429")), start());
        assert_eq!(first.due, at(30_000));
        let parcels = [first, parcel(2, at(1000))];
        let rate = |_: &Channel| Rate { per_minute: 60, apart: Duration::from_secs(1) };
        assert_eq!(plan(at(29_999), &parcels, &[], rate), []);
        assert_eq!(wake(&parcels, &[], rate), Some(at(30_000)));
        assert_eq!(plan(at(30_000), &parcels, &[], rate)[0].parcels, ["0001"]);
    }

    #[test]
    fn a_channel_that_is_gone_is_given_up_at_once_and_its_fallback_hears_of_it() {
        let gone = Err(Refusal::never(Kind::NotFound, "HTTP 410"));
        let dead = outcome(parcel(1, start()), &gone, start());
        assert_eq!(dead.state, ParcelState::Dead);
        let to = |fallback: &str| Contact::Slack { url: String::new(), per_minute: None, fallback: Some(fallback.to_owned()) };
        let second = fallback(&dead, &to("mail"), start()).unwrap();
        assert_eq!((second.contact.as_str(), second.id.as_str()), ("mail", "0001.mail"));
        assert!(second.message.text.starts_with("(not delivered to `ops`: HTTP 410)"), "{}", second.message.text);
        let second = outcome(second, &gone, start());
        assert_eq!(fallback(&second, &to("ops"), start()), None, "it has been there");
        assert_eq!(fallback(&parcel(2, start()), &to("mail"), start()), None, "it is not dead");
    }

    #[test]
    fn silence_is_seen() {
        let mut parcels = vec![outcome(parcel(1, start()), &accepted(), start()), outcome(parcel(2, at(1)), &later_please(), at(1))];
        let seen = standing(&parcels);
        assert_eq!((seen.queued, seen.delivered, seen.dead, seen.silent), (1, 1, 0, true));
        let other = Parcel { contact: "mail".to_owned(), ..parcel(3, at(2)) };
        parcels.push(outcome(other, &accepted(), at(2)));
        assert_eq!((standing(&parcels).failing.len(), standing(&parcels).silent), (1, false));
        assert!(!standing(&[]).silent);
    }

    #[test]
    fn the_same_is_said_once_an_hour() {
        let keyed = |number: usize, now: Timestamp| {
            let mut parcel = parcel(number, now);
            parcel.message.dedupe = Some("disk /data".to_owned());
            parcel
        };
        let told = [outcome(keyed(1, start()), &accepted(), start())];
        assert!(is_repeat(&keyed(2, at(1000)), &told, at(1000)));
        assert!(!is_repeat(&keyed(2, at(3_600_000)), &told, at(3_600_000)));
        assert!(!is_repeat(&parcel(2, at(1000)), &told, at(1000)));
    }
}
