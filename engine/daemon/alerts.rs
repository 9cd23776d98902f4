//! Alerts of Prometheus, as its Alertmanager posts them: what fires opens incidents or is part of them, what is
//! resolved ends them.
//!
//! Alertmanager can show a token and sign nothing. It says the same again and again, so what comes twice changes
//! nothing: an alert that began before the end of its incident does not open it anew, and one that is over ends no
//! incident that is younger.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::hooks::Refused;
use super::http::StatusCode;
use crate::error::Result;
use crate::model::system::{Rule, System};
use crate::model::{Labels, Severity, Source};
use crate::monitor::duty::Duty;
use crate::monitor::incident::{Happened, Report, fingerprint};
use crate::monitor::remedy::{Cause, cause};
use crate::store::{Store, Which};

/// The version of what Alertmanager posts.
const VERSION: &str = "4";
/// How many alerts one request may bring.
const MOST: usize = 1000;
/// How many labels an alert may have, and how long their values and its texts stay.
const MOST_LABELS: usize = 64;
const LONGEST: usize = 2000;
/// How far ahead its clock may be.
const AHEAD: SignedDuration = SignedDuration::from_mins(5);

/// What Alertmanager posts.
#[derive(Debug, Deserialize)]
struct Posted {
    version: String,
    alerts: Vec<Alert>,
}

#[derive(Debug, Deserialize)]
struct Alert {
    status: Status,
    labels: Labels,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    #[serde(rename = "startsAt")]
    starts: Timestamp,
    #[serde(default, rename = "endsAt")]
    ends: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Firing,
    Resolved,
}

/// What became of the alerts of a request.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Taken {
    /// How many fire.
    firing: usize,
    /// How many are over.
    resolved: usize,
    /// How many were known already.
    known: usize,
}

/// Where alerts become incidents.
pub(super) struct Alerts<'a> {
    pub(super) store: &'a dyn Store,
    /// The directory of the project, which says whose contacts are meant.
    pub(super) project: &'a str,
    /// The system of an alert without the label `system`.
    pub(super) system: &'a str,
    /// The systems that are watched.
    pub(super) find: &'a dyn Fn(&str) -> Option<Arc<super::Watched>>,
}

impl Alerts<'_> {
    /// Takes in all alerts of a request, or none when one of them is none.
    pub(super) fn take(&self, body: &[u8], now: Timestamp) -> Result<Taken, Refused> {
        let wrong = |what: String| Refused(StatusCode::UNPROCESSABLE_ENTITY, what);
        let posted: Posted = serde_json::from_slice(body).map_err(|error| wrong(format!("this is nothing Alertmanager posts: {error}")))?;
        if posted.version != VERSION {
            return Err(wrong(format!("version `{}` of the format is not known, expected `{VERSION}`", posted.version)));
        }
        if posted.alerts.len() > MOST {
            return Err(wrong(format!("{} alerts are too many at once: set `max_alerts` to {MOST}", posted.alerts.len())));
        }
        let alerts = posted.alerts.iter().map(|alert| self.read(alert, now)).collect::<Result<Vec<_>, String>>().map_err(wrong)?;
        let mut taken = Taken::default();
        for (watched, report, alert) in &alerts {
            let kept = self.one(&watched.system, report, alert, now, &mut taken);
            // It is posted again.
            kept.map_err(|error| Refused(StatusCode::SERVICE_UNAVAILABLE, error.message))?;
        }
        Ok(taken)
    }

    fn read<'r>(&self, alert: &'r Alert, now: Timestamp) -> Result<(Arc<super::Watched>, Report, &'r Alert), String> {
        let name = alert.labels.get("alertname").filter(|name| !name.is_empty()).ok_or("an alert has no `alertname`")?;
        if alert.labels.len() > MOST_LABELS {
            return Err(format!("`{name}` has {} labels, more than {MOST_LABELS}", alert.labels.len()));
        }
        if alert.starts.duration_since(now) > AHEAD {
            return Err(format!("`{name}` begins at {}, which is to come: look at the clocks", alert.starts));
        }
        let system = alert.labels.get("system").map_or(self.system, String::as_str);
        let watched = (self.find)(system).ok_or_else(|| format!("`{name}` is of system `{system}`, which is not watched here"))?;
        let report = report(&watched.system, name, alert);
        Ok((watched, report, alert))
    }

    fn one(&self, system: &System, report: &Report, alert: &Alert, now: Timestamp, taken: &mut Taken) -> Result<()> {
        let duty = Duty { store: self.store, system, project: self.project };
        let which = fingerprint(&report.system, &report.source, &report.labels);
        let before = self.store.incident(Which::Fingerprint(&which))?;
        match (alert.status, before) {
            (Status::Firing, Some(old)) if old.resolved.as_ref().is_some_and(|stamp| alert.starts <= stamp.at) => taken.known += 1,
            (Status::Firing, _) => {
                duty.report(report, now)?;
                taken.firing += 1;
            }
            (Status::Resolved, Some(old)) if old.is_open() && alert.ends.is_none_or(|ends| ends >= old.opened - AHEAD) => {
                duty.happened(Which::Number(old.number), &Happened::Recovered { value: None }, now)?;
                taken.resolved += 1;
            }
            (Status::Resolved, _) => taken.known += 1,
        }
        Ok(())
    }
}

fn report(system: &System, name: &str, alert: &Alert) -> Report {
    let is_own = |label: &str| !matches!(label, "alertname" | "severity" | "system");
    let labels: Labels =
        alert.labels.iter().filter(|(label, _)| is_own(label)).map(|(label, value)| (short(label), short(value))).collect();
    let text = |key: &str| alert.annotations.get(key).map(|text| short(text)).unwrap_or_default();
    let title = Some(text("summary")).filter(|text| !text.is_empty());
    let service = match cause(system, &Rule::default(), &labels) {
        Cause::Service(service) => Some(service),
        Cause::Machine | Cause::Unknown => None,
    };
    Report {
        system: system.name.clone(),
        source: Source::Webhook(name.to_owned()),
        title: title.unwrap_or_else(|| name.to_owned()),
        severity: severity(system, alert.labels.get("severity").map_or("", String::as_str)),
        service,
        labels,
        value: None,
        text: text("description"),
        because: None,
        run: None,
    }
}

/// The severity of this word: `sev1` to `sev5`, what the system calls them, or what is usual.
fn severity(system: &System, word: &str) -> Severity {
    let word = word.to_lowercase();
    let is_meant = |(name, scale): &(&String, &crate::model::system::Severity)| **name == word || scale.label.to_lowercase() == word;
    let name = if word.is_empty() { None } else { system.severity.iter().find(is_meant).map(|(name, _)| name.as_str()) };
    let usual = || match word.as_str() {
        "page" | "emergency" => Severity::Sev1,
        "critical" | "error" => Severity::Sev2,
        "info" | "none" => Severity::Sev5,
        _ => Severity::Sev3,
    };
    Severity::parse(name.unwrap_or(&word)).unwrap_or_else(usual)
}

fn short(text: &str) -> String {
    text.chars().take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{Permissions, Secrets};
    use crate::model::system::{Contact, Service, Services};
    use crate::model::{Incident, IncidentState};
    use crate::store::{IncidentFilter, Incidents, Memory};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_795_000_000 + seconds).unwrap()
    }

    fn shop() -> Arc<super::super::Watched> {
        let hook = Contact::Webhook { url: "http://sink.example".to_owned(), headers: BTreeMap::new(), per_minute: None, fallback: None };
        let scale = crate::model::system::Severity { label: "P0".to_owned(), ..Default::default() };
        let system = System {
            name: "shop".to_owned(),
            title: "Shop".to_owned(),
            language: "en".to_owned(),
            services: Services { each: [("api".to_owned(), Service::default())].into(), ..Services::default() },
            severity: [("sev1".to_owned(), scale)].into(),
            contacts: [("chat".to_owned(), hook)].into(),
            routes: [("default".to_owned(), vec!["chat".to_owned()])].into(),
            ..System::default()
        };
        Arc::new(super::super::Watched { system, permissions: Permissions::default(), secrets: Secrets::default() })
    }

    /// As Alertmanager 0.25 posts it.
    fn body(status: &str, starts: i64, ends: Option<i64>, labels: &str) -> String {
        let ends = ends.map_or("0001-01-01T00:00:00Z".to_owned(), |seconds| at(seconds).to_string());
        format!(
            r#"{{"receiver":"runbook","status":"{status}","alerts":[{{"status":"{status}","labels":{{"alertname":"ApiDown","instance":"api:8000","job":"shop-api"{labels}}},"annotations":{{"summary":"the API is down","description":"no answer for 1m"}},"startsAt":"{}","endsAt":"{ends}","generatorURL":"http://prometheus:9090/graph","fingerprint":"b1ba1c1d1e1f2021"}}],"groupLabels":{{"alertname":"ApiDown"}},"commonLabels":{{}},"commonAnnotations":{{}},"externalURL":"http://alertmanager:9093","version":"4","groupKey":"{{}}:{{alertname=\"ApiDown\"}}","truncatedAlerts":0}}"#,
            at(starts)
        )
    }

    fn take(store: &Memory, body: &str, seconds: i64) -> Result<(usize, usize, usize), String> {
        let find = |name: &str| Some(shop()).filter(|watched| watched.system.name == name);
        let alerts = Alerts { store, project: "", system: "shop", find: &find };
        let taken = alerts.take(body.as_bytes(), at(seconds)).map_err(|refused| format!("{} {}", refused.0.as_u16(), refused.1))?;
        Ok((taken.firing, taken.resolved, taken.known))
    }

    fn incidents(store: &Memory) -> Vec<Incident> {
        store.incidents(&IncidentFilter::default()).unwrap()
    }

    fn told(store: &Memory) -> Vec<String> {
        store.queued().unwrap().into_iter().map(|parcel| parcel.message.subject).collect()
    }

    #[test]
    fn an_alert_is_one_incident_however_often_it_is_posted_and_its_end_ends_it() {
        let store = Memory::default();
        let fires = body("firing", 0, None, r#","severity":"P0""#);
        for second in [10, 20, 30] {
            assert_eq!(take(&store, &fires, second), Ok((1, 0, 0)));
        }
        let found = incidents(&store);
        assert_eq!((found.len(), found[0].severity, found[0].service.as_deref()), (1, Severity::Sev1, Some("api")));
        assert_eq!((found[0].source.name(), found[0].timeline[0].text.as_str()), ("ApiDown", "no answer for 1m"));
        assert_eq!(take(&store, &body("resolved", 0, Some(40), r#","severity":"P0""#), 45), Ok((0, 1, 0)));
        let (watched, duty_at) = (shop(), at(106));
        let duty = Duty { store: &store, system: &watched.system, project: "" };
        duty.pass(duty_at).unwrap();
        assert_eq!(told(&store), ["[P0] Shop: the API is down", "[P0 recovered] Shop: the API is down"]);
        // What was posted before says nothing new; what fires anew does.
        assert_eq!(take(&store, &fires, 110), Ok((0, 0, 1)));
        assert_eq!(incidents(&store)[0].state, IncidentState::Resolved);
        assert_eq!(take(&store, &body("firing", 105, None, ""), 120), Ok((1, 0, 0)));
        assert_eq!(incidents(&store)[0].state, IncidentState::Open);
        // The end of what was before is not the end of this.
        assert_eq!(take(&store, &body("resolved", 0, Some(-1000), ""), 121), Ok((0, 0, 1)));
        assert_eq!(incidents(&store)[0].calm, None);
    }

    #[test]
    fn what_is_no_alert_changes_nothing() {
        let store = Memory::default();
        let good = body("firing", 0, None, "");
        for (text, why) in [
            (String::new(), "422 this is nothing Alertmanager posts"),
            ("[]".to_owned(), "422 this is nothing Alertmanager posts"),
            (good.replace("\"version\":\"4\"", "\"version\":\"5\""), "422 version `5`"),
            (good.replace("alertname\":\"ApiDown\",\"instance", "name\":\"ApiDown\",\"instance"), "422 an alert has no `alertname`"),
            (good.replace("\"firing\"", "\"maybe\""), "422 this is nothing Alertmanager posts"),
            (body("firing", 1000, None, ""), "422 `ApiDown` begins at"),
            (body("firing", 0, None, r#","system":"blog""#), "422 `ApiDown` is of system `blog`, which is not watched here"),
        ] {
            let refused = take(&store, &text, 10).unwrap_err();
            assert!(refused.starts_with(why), "{refused}");
        }
        let many: Vec<String> = (0..65).map(|index| format!(r#","l{index}":"x""#)).collect();
        assert!(take(&store, &body("firing", 0, None, &many.concat()), 10).unwrap_err().contains("68 labels"));
        assert_eq!(incidents(&store), []);
    }

    #[test]
    fn severities_are_known_by_the_words_of_the_system_and_by_what_is_usual() {
        let watched = shop();
        for (word, meant) in [
            ("p0", Severity::Sev1),
            ("sev4", Severity::Sev4),
            ("critical", Severity::Sev2),
            ("warning", Severity::Sev3),
            ("", Severity::Sev3),
            ("info", Severity::Sev5),
            ("whatever", Severity::Sev3),
        ] {
            assert_eq!(severity(&watched.system, word), meant, "{word}");
        }
    }
}
