//! The built-in reports: health, and the notices of a fault and of its end.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::{Error, Kind, Result};
use crate::host::report::render::{Format, render};
use crate::model::{Check, Level};

/// A built-in report in its three formats.
struct Template {
    name: &'static str,
    text: &'static str,
    markdown: &'static str,
    html: &'static str,
}

macro_rules! template {
    ($name:literal) => {
        Template {
            name: $name,
            text: include_str!(concat!("templates/", $name, ".txt")),
            markdown: include_str!(concat!("templates/", $name, ".md")),
            html: include_str!(concat!("templates/", $name, ".html")),
        }
    };
}

const HEALTH: Template = template!("health");
const NOTICES: [Template; 2] = [template!("fault"), template!("recovery")];
const ENGLISH: &str = include_str!("templates/words.en.toml");
const CHINESE: &str = include_str!("templates/words.zh.toml");

impl Template {
    fn render(&self, format: Format, data: &Value) -> Result<String> {
        let source = match format {
            Format::Text => self.text,
            Format::Markdown => self.markdown,
            Format::Html => self.html,
        };
        render(format, source, data)
    }
}

/// The names of the built-in reports.
pub(super) fn names() -> Vec<&'static str> {
    [&HEALTH].into_iter().chain(&NOTICES).map(|template| template.name).collect()
}

/// The words of a language; English for those we do not speak.
fn words(language: &str) -> Result<Value> {
    let source = if language == "zh" { CHINESE } else { ENGLISH };
    toml::from_str(source).map_err(|error| Error::new(Kind::Bug, format!("the words of `{language}` can not be read: {error}")))
}

/// How a health report looks.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct HealthOptions {
    pub(super) title: Option<String>,
    pub(super) system: Option<String>,
    pub(super) at: Option<String>,
    pub(super) language: Option<String>,
    pub(super) format: Format,
}

/// The order of the groups, and their colours.
const GROUPS: [(Level, &str); 4] =
    [(Level::Critical, "#b00020"), (Level::Unknown, "#6a1b9a"), (Level::Warning, "#a65f00"), (Level::Ok, "#2e7d32")];

/// The checks by level, the worst first, with how many there are of each.
///
/// # Errors
///
/// `limit`, when it gets too long.
pub(super) fn health(checks: &[Check], options: &HealthOptions) -> Result<String> {
    let words = words(options.language.as_deref().unwrap_or_default())?;
    let label = |level: Level| words["level"][level.name()].clone();
    let mut groups = Vec::new();
    let mut counts = Vec::new();
    for (level, color) in GROUPS {
        let members: Vec<Value> = checks.iter().filter(|check| check.level == level).map(shown).collect();
        if !members.is_empty() {
            counts.push(format!("{} {}", members.len(), label(level).as_str().unwrap_or_default()));
            groups.push(json!({ "label": label(level), "color": color, "checks": members }));
        }
    }
    // No answers are no good news.
    let (verdict, summary) = match checks.iter().map(|check| check.level).reduce(Level::worst) {
        Some(worst) => (label(worst), counts.join(", ").into()),
        None => (label(Level::Unknown), words["nothing"].clone()),
    };
    let data = json!({
        "title": options.title.as_ref().map_or_else(|| words["health"]["title"].clone(), |title| title.as_str().into()),
        "system": options.system,
        "at": options.at,
        "verdict": verdict,
        "summary": summary,
        "groups": groups,
        "words": words,
    });
    HEALTH.render(options.format, &data)
}

fn shown(check: &Check) -> Value {
    let unit = check.unit.as_deref().unwrap_or_default();
    let space = if unit.is_empty() || unit == "%" { "" } else { " " };
    let value = check.value.map_or_else(String::new, |value| format!("{}{space}{unit}", (value * 100.0).round() / 100.0));
    json!({ "name": check.name, "value": value, "detail": check.detail })
}

/// What a notice tells the users of a system.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct NoticeData {
    pub(super) title: Option<String>,
    pub(super) language: Option<String>,
    started: Option<String>,
    impact: Option<String>,
    expected: Option<String>,
    recovered: Option<String>,
    cause: Option<String>,
    solution: Option<String>,
    prevention: Option<String>,
    team: Option<String>,
    contact: Option<String>,
}

/// A notice in every format, as `notify::send` takes it.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Notice {
    subject: String,
    text: String,
    markdown: String,
    html: String,
    level: Level,
    language: String,
}

/// The notice of this name.
///
/// # Errors
///
/// `not_found` for another name; `invalid`, naming what the notice needs and was not given.
pub(super) fn notice(name: &str, data: &NoticeData) -> Result<Notice> {
    let Some(template) = NOTICES.iter().find(|template| template.name == name) else {
        let error = Error::new(Kind::NotFound, format!("there is no notice `{name}`")).hint("the notices are `fault` and `recovery`");
        return Err(if name == HEALTH.name { error.hint("a health report is made by `report::checks`") } else { error });
    };
    let needed: &[(&str, &Option<String>)] = match name {
        "fault" => &[("started", &data.started), ("impact", &data.impact)],
        _ => &[("recovered", &data.recovered), ("cause", &data.cause), ("solution", &data.solution), ("prevention", &data.prevention)],
    };
    if let Some((missing, _)) = needed.iter().find(|(_, value)| value.is_none()) {
        return Err(Error::new(Kind::Invalid, format!("the notice `{name}` needs `{missing}`")));
    }
    let language = data.language.clone().unwrap_or_else(|| "en".to_owned());
    let words = words(&language)?;
    let mut values = serde_json::to_value(data).unwrap_or_default();
    values["words"] = words.clone();
    let word = |key: &str| words[name][key].as_str().unwrap_or_default().to_owned();
    let title = data.title.as_ref().map_or_else(String::new, |title| format!("{title}{}", words["colon"].as_str().unwrap_or_default()));
    let subject = format!("[{}] {title}{}", word("mark"), word("subject"));
    Ok(Notice {
        subject,
        text: template.render(Format::Text, &values)?,
        markdown: template.render(Format::Markdown, &values)?,
        html: template.render(Format::Html, &values)?,
        level: if name == "fault" { Level::Warning } else { Level::Ok },
        language,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMATS: [Format; 3] = [Format::Text, Format::Markdown, Format::Html];

    fn checks() -> Vec<Check> {
        let list = json!([
            { "name": "web <b>", "level": "ok", "detail": "HTTP 200" },
            { "name": "disk", "level": "critical", "value": 96.123, "unit": "%" },
            { "name": "queue", "level": "unknown", "detail": "no answer\n# within 5 s" },
        ]);
        serde_json::from_value(list).unwrap()
    }

    fn options(language: &str, format: Format) -> HealthOptions {
        HealthOptions {
            system: Some("AI Hub".to_owned()),
            at: Some("2026-11-21 20:00".to_owned()),
            language: Some(language.to_owned()),
            format,
            ..HealthOptions::default()
        }
    }

    fn full(language: &str) -> NoticeData {
        let all = json!({
            "title": "AI 记事本", "language": language, "started": "14:30", "impact": "no login", "expected": "16:30",
            "recovered": "16:15", "cause": "<pool>", "solution": "restart", "prevention": "alert", "team": "ops", "contact": "ext. 12",
        });
        serde_json::from_value(all).unwrap()
    }

    #[test]
    fn every_template_renders_in_every_language_and_format() {
        for language in ["en", "zh"] {
            for format in FORMATS {
                assert!(health(&checks(), &options(language, format)).unwrap().contains("AI Hub"));
                assert!(!health(&[], &options(language, format)).unwrap().is_empty());
            }
            for name in ["fault", "recovery"] {
                let mut scant = full(language);
                (scant.expected, scant.team, scant.contact, scant.title) = (None, None, None, None);
                for data in [full(language), scant] {
                    let notice = notice(name, &data).unwrap();
                    assert!(!notice.html.contains("<pool>"), "{}", notice.html);
                    assert!(!notice.text.contains("\n\n\n") && !notice.markdown.contains("\n\n\n"), "{}", notice.text);
                }
            }
        }
        assert_eq!(words("en").unwrap().as_object().map(|words| words.len()), words("zh").unwrap().as_object().map(|words| words.len()));
    }

    #[test]
    fn a_health_report_begins_with_the_worst() {
        let report = health(&checks(), &options("en", Format::Text)).unwrap();
        let expected = "\
Health report
System: AI Hub
Time: 2026-11-21 20:00
Result: Critical (1 Critical, 1 Unknown, 1 OK)

Critical (1)
  disk  96.12%

Unknown (1)
  queue  no answer
# within 5 s

OK (1)
  web <b>  HTTP 200
";
        assert_eq!(report, expected);
        assert!(health(&checks(), &options("en", Format::Html)).unwrap().contains("web &lt;b&gt;"));
        assert!(health(&checks(), &options("zh", Format::Markdown)).unwrap().contains("- **queue** no answer<br># within 5 s\n"));
    }

    #[test]
    fn nothing_checked_is_not_ok() {
        assert!(health(&[], &options("en", Format::Text)).unwrap().contains("Result: Unknown (nothing was checked)"));
    }

    #[test]
    fn a_notice_says_what_users_ask() {
        let notice = notice("recovery", &full("zh")).unwrap();
        assert_eq!(notice.subject, "[已恢复] AI 记事本：服务恢复通知");
        for fact in ["恢复时间：16:15", "故障原因：<pool>", "处理措施：restart", "预防措施：alert", "联系方式：ext. 12"]
        {
            assert!(notice.text.contains(fact), "{}", notice.text);
        }
    }

    #[test]
    fn what_a_notice_needs_is_named() {
        assert_eq!(notice("fault", &NoticeData::default()).unwrap_err().message, "the notice `fault` needs `started`");
        assert_eq!(notice("health", &NoticeData::default()).unwrap_err().kind, Kind::NotFound);
    }
}
