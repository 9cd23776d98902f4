//! The root-cause report of an incident, filled in as far as the record knows.

use std::fmt::Write;

use super::news::{clock, label, span};
use crate::model::{Incident, System};

/// The words of a report.
struct Words {
    title: &'static str,
    sections: [&'static str; 7],
    number: &'static str,
    system: &'static str,
    severity: &'static str,
    happened: &'static str,
    noticed: &'static str,
    responded: &'static str,
    resolved: &'static str,
    lasted: &'static str,
    scope: &'static str,
    open: &'static str,
    to_fill: &'static str,
    times: &'static str,
    impact: [&'static str; 3],
    colon: &'static str,
}

const ENGLISH: Words = Words {
    title: "Root cause report",
    sections: ["Basics", "What happened", "Timeline", "Root cause", "Repair", "Impact", "Prevention and lessons"],
    number: "incident",
    system: "system",
    severity: "severity",
    happened: "began",
    noticed: "noticed by",
    responded: "acknowledged",
    resolved: "resolved",
    lasted: "lasted",
    scope: "scope",
    open: "not yet",
    to_fill: "(to be filled in)",
    times: "seen",
    impact: ["users", "business", "data"],
    colon: ": ",
};

// The sections of the manual's own template, 000:817-858.
const CHINESE: Words = Words {
    title: "故障根因分析报告",
    sections: ["基本信息", "故障描述", "时间线", "根本原因", "修复措施", "影响评估", "预防措施与经验教训"],
    number: "故障编号",
    system: "系统",
    severity: "故障级别",
    happened: "故障时间",
    noticed: "发现方式",
    responded: "响应时间",
    resolved: "解决时间",
    lasted: "持续时长",
    scope: "影响范围",
    open: "尚未",
    to_fill: "（待补充）",
    times: "次数",
    impact: ["用户影响", "业务影响", "数据影响"],
    colon: "：",
};

/// The report in Markdown, in the language of the system.
pub fn report(system: &System, incident: &Incident) -> String {
    let words = if system.language == "zh" { &CHINESE } else { &ENGLISH };
    let stamp = |stamp: &Option<crate::model::Stamp>| {
        stamp.as_ref().map_or_else(|| words.open.to_owned(), |stamp| format!("{} ({})", clock(system, stamp.at), line(&stamp.by)))
    };
    let filled = |text: &str| if text.is_empty() { words.to_fill.to_owned() } else { text.to_owned() };
    let lasted = incident.duration().map_or_else(|| words.open.to_owned(), span);
    let scope = incident.service.clone().unwrap_or_else(|| labels(incident));
    let facts = [
        (words.number, format!("#{}", incident.number)),
        (words.system, line(&system.title)),
        (words.severity, label(system, incident.severity)),
        (words.happened, clock(system, incident.opened)),
        (words.noticed, format!("{} {}", incident.source.kind(), line(incident.source.name()))),
        (words.responded, stamp(&incident.acknowledged)),
        (words.resolved, stamp(&incident.resolved)),
        (words.lasted, lasted),
        (words.scope, filled(&line(&scope))),
        (words.times, incident.count.to_string()),
    ];
    let mut text = format!("# {}{}{}\n\n## 1. {}\n\n", words.title, words.colon, line(&incident.title), words.sections[0]);
    for (name, value) in facts {
        let _ = writeln!(text, "- **{name}**{}{value}", words.colon);
    }
    let _ = write!(text, "\n## 2. {}\n\n{}\n", words.sections[1], line(&incident.title));
    let _ = write!(text, "\n## 3. {}\n\n", words.sections[2]);
    for moment in &incident.timeline {
        let said: Vec<String> = [moment.by.as_str(), moment.text.as_str()].into_iter().filter(|part| !part.is_empty()).map(line).collect();
        let run = moment.run.map(|run| format!(" (run #{run})")).unwrap_or_default();
        let said = if said.is_empty() { String::new() } else { format!("{}{}", words.colon, said.join(words.colon)) };
        let _ = writeln!(text, "- {} {}{said}{run}", clock(system, moment.at), moment.what);
    }
    let findings = &incident.findings;
    for (index, content) in [(3, &findings.cause), (4, &findings.repair)] {
        let _ = write!(text, "\n## {}. {}\n\n{}\n", index + 1, words.sections[index], filled(content));
    }
    let _ = write!(text, "\n## 6. {}\n\n", words.sections[5]);
    let impact = filled(&findings.impact);
    for (index, what) in words.impact.iter().enumerate() {
        let _ = writeln!(text, "- **{what}**{}{}", words.colon, if index == 0 { impact.as_str() } else { words.to_fill });
    }
    let _ = write!(text, "\n## 7. {}\n\n{}\n", words.sections[6], filled(&findings.prevention));
    text
}

fn labels(incident: &Incident) -> String {
    incident.labels.iter().map(|(label, value)| format!("{label}={value}")).collect::<Vec<_>>().join(", ")
}

/// A text from outside on one line, in which no Markdown is read.
fn line(text: &str) -> String {
    let plain: String = text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
    plain.replace('[', "\\[").replace('<', "&lt;").trim().to_owned()
}
