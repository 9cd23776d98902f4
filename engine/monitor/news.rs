//! How an incident is told: subject, text, facts and the next command, in the language of the system.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::incident::{Clocks, News};
use crate::model::system::Contact;
use crate::model::{Deadline, Incident, Level, Message, Parcel, Severity, Source, Span, System, Urgency};

/// What people hear, each contact in a parcel of its own.
pub fn parcels(system: &System, project: &str, incident: &Incident, news: &[News], now: Timestamp) -> Vec<Parcel> {
    // Those of one moment come in the order they were said.
    let first = incident.messages - news.len() as u64;
    let each = (first..).zip(news);
    each.flat_map(|(index, news)| {
        let message = message(system, incident, news, now);
        let to = move |contact: String| {
            let id = format!("incident-{:08}-{index:06}-{contact}", incident.number);
            let mut parcel = Parcel::new(id, contact, &system.name, message.clone(), now);
            project.clone_into(&mut parcel.project);
            parcel
        };
        contacts(system, incident.severity, news).into_iter().map(to).collect::<Vec<_>>()
    })
    .collect()
}

/// Who hears of it: the route of its severity; an escalation also goes the way of what is more severe.
pub fn contacts(system: &System, severity: Severity, news: &News) -> Vec<String> {
    let route = |names: &[&str]| names.iter().find_map(|name| system.routes.get(*name)).cloned().unwrap_or_default();
    let own = route(&[word(severity), level(severity), "default"]);
    let mut names = match news {
        News::Recovered => {
            // Who heard of it hears of its end.
            let ends = route(&["recovery"]);
            if ends.is_empty() { own } else { ends }
        }
        News::Escalated(_) => [route(&[word(above(severity)), level(severity), "default"]), own].concat(),
        _ => own,
    };
    let mut seen = std::collections::BTreeSet::new();
    let can_be_sent = |name: &String| !matches!(system.contacts.get(name), None | Some(Contact::Person { .. }));
    names.retain(|name| can_be_sent(name) && seen.insert(name.clone()));
    names
}

/// The people of a route who are told by people.
fn to_call(system: &System, severity: Severity) -> Vec<String> {
    let names = system.routes.get(word(severity)).into_iter().flatten();
    let person = |name: &String| match system.contacts.get(name) {
        Some(Contact::Person { who, reach }) => Some(if reach.is_empty() { who.clone() } else { format!("{who} {reach}") }),
        _ => None,
    };
    names.filter_map(person).collect()
}

fn word(severity: Severity) -> &'static str {
    Urgency::Severity(severity).name()
}

fn level(severity: Severity) -> &'static str {
    if matches!(severity, Severity::Sev1 | Severity::Sev2) { "critical" } else { "warning" }
}

fn above(severity: Severity) -> Severity {
    match severity {
        Severity::Sev1 | Severity::Sev2 => Severity::Sev1,
        Severity::Sev3 => Severity::Sev2,
        Severity::Sev4 => Severity::Sev3,
        Severity::Sev5 => Severity::Sev4,
    }
}

/// The severity in the words of the system.
pub fn label(system: &System, severity: Severity) -> String {
    let own = system.severity.get(word(severity)).map(|scale| scale.label.clone()).filter(|label| !label.is_empty());
    own.unwrap_or_else(|| word(severity).to_owned())
}

/// A time as the people of the system read clocks.
pub fn clock(system: &System, at: Timestamp) -> String {
    let zone = TimeZone::get(&system.timezone).unwrap_or(TimeZone::UTC);
    at.to_zoned(zone).strftime("%Y-%m-%d %H:%M:%S %Z").to_string()
}

/// A span in two units.
pub fn span(length: SignedDuration) -> String {
    Span::secs(length.as_secs().unsigned_abs()).to_string()
}

fn message(system: &System, incident: &Incident, news: &News, now: Timestamp) -> Message {
    let zh = system.language == "zh";
    let label = label(system, incident.severity);
    let lasted = span(now.duration_since(incident.opened));
    let (mark, text) = match (news, zh) {
        (News::Opened, false) => (label, String::new()),
        (News::Opened, true) => (label, String::new()),
        (News::Reminder, false) => (format!("{label} reminder"), format!("It has been there for {lasted}.")),
        (News::Reminder, true) => (format!("{label} 提醒"), format!("故障已持续 {lasted}。")),
        (News::Escalated(why), false) => (format!("{label} escalated"), format!("It goes to the next person: {why}.")),
        (News::Escalated(why), true) => (format!("{label} 升级"), format!("故障已升级：{}。", reason_zh(why))),
        (News::Flapping, false) => (
            format!("{label} flapping"),
            "It comes and goes; nothing is repaired by itself, and you hear of it again when it has settled.".to_owned(),
        ),
        (News::Flapping, true) => (format!("{label} 抖动"), "状态反复变化，已暂停自动修复；稳定后再通知。".to_owned()),
        (News::Recovered, false) => (format!("{label} recovered"), recovered(incident)),
        (News::Recovered, true) => (format!("{label} 已恢复"), recovered_zh(incident)),
    };
    let said = incident.timeline.last().filter(|_| *news == News::Opened).map(|moment| moment.text.clone()).unwrap_or_default();
    Message {
        subject: format!("[{mark}] {}{}{}", system.title, if zh { "：" } else { ": " }, incident.title),
        text: if said.is_empty() { text } else { said },
        level: if *news == News::Recovered { Urgency::Level(Level::Ok) } else { Urgency::Severity(incident.severity) },
        facts: facts(system, incident, news),
        next: next(incident, news),
        language: system.language.clone(),
        ..Message::default()
    }
}

fn facts(system: &System, incident: &Incident, news: &News) -> Vec<(String, String)> {
    let zh = system.language == "zh";
    let name = |english: &str, chinese: &str| if zh { chinese.to_owned() } else { english.to_owned() };
    let mut facts = vec![(name("incident", "故障编号"), format!("#{}", incident.number))];
    facts.extend(incident.service.clone().map(|service| (name("service", "服务"), service)));
    facts.extend(incident.value.map(|value| (name("value", "当前值"), ((value * 1000.0).round() / 1000.0).to_string())));
    facts.extend(incident.labels.iter().map(|(label, value)| (label.clone(), value.clone())));
    facts.push((name("since", "开始时间"), clock(system, incident.opened)));
    if let Some(stamp) = &incident.resolved {
        facts.push((name("until", "恢复时间"), clock(system, stamp.at)));
    } else if matches!(news, News::Opened | News::Escalated(_)) {
        let clocks = Clocks(system);
        for (deadline, what) in [(Deadline::Respond, name("respond by", "响应时限")), (Deadline::Resolve, name("resolve by", "解决时限"))]
        {
            facts.extend(clocks.deadline(incident, deadline).map(|at| (what, clock(system, at))));
        }
        let call = to_call(system, if matches!(news, News::Escalated(_)) { above(incident.severity) } else { incident.severity });
        if !call.is_empty() {
            facts.push((name("call", "电话通知"), call.join(", ")));
        }
    }
    if matches!(incident.source, Source::Run(_))
        && *news != News::Recovered
        && let Some(run) = incident.timeline.iter().rev().find_map(|moment| moment.run)
    {
        facts.push((name("run", "运行编号"), format!("#{run}")));
        facts.push((name("log", "查看日志"), format!("runbook logs {run} --failed")));
    }
    if incident.count > 1 {
        facts.push((name("seen", "次数"), incident.count.to_string()));
    }
    facts
}

fn next(incident: &Incident, news: &News) -> Option<String> {
    let verb = match news {
        News::Recovered => "report",
        _ if incident.acknowledged.is_some() => "show",
        _ => "ack",
    };
    Some(format!("runbook incident {verb} {}", incident.number))
}

fn recovered(incident: &Incident) -> String {
    let (by, lasted) = end(incident);
    format!("It is over after {lasted}, says {by}.")
}

fn recovered_zh(incident: &Incident) -> String {
    let (by, lasted) = end(incident);
    format!("故障已恢复，持续 {lasted}（{by}）。")
}

fn end(incident: &Incident) -> (String, String) {
    let by = incident.resolved.as_ref().map(|stamp| stamp.by.clone()).unwrap_or_default();
    (by, incident.duration().map(span).unwrap_or_default())
}

/// Our own reasons in Chinese; those of policies stay as they are.
fn reason_zh(why: &str) -> String {
    [
        ("nobody responded in time", "超过响应时限无人响应"),
        ("it is time for the next person", "达到升级时限"),
        ("it was not resolved in time", "超过解决时限"),
        (", ", "，"),
    ]
    .into_iter()
    .fold(why.to_owned(), |text, (english, chinese)| text.replace(english, chinese))
}
