//! The runbooks that need no lab: on samples that are put into the state, and on programs of loopback.

mod alerts;
mod breaker;
mod incidents;
mod metrics;
mod repairs;
mod trend;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::DirBuilderExt;
use std::sync::{Arc, Mutex};

use jiff::SignedDuration;
use runbook::model::{Sample, Series};
use runbook::store::{Keep, Samples, now};
use serde_json::Value;

use crate::harness::{Done, Project};

/// The samples of a project.
fn samples(project: &Project) -> Samples {
    let _ = std::fs::DirBuilder::new().mode(0o700).create(project.state());
    Samples::open(&project.state().join("samples.db"), Keep::default()).unwrap()
}

/// Puts samples of a series of the system `shop` into a project, the newest `newest` seconds old, each `every` seconds older.
fn keep(project: &Project, series: &str, newest: i64, every: i64, values: &[Option<f64>]) {
    let last = now() - SignedDuration::from_secs(newest);
    let series = series.parse::<Series>().unwrap().with("system", "shop");
    let samples_of = |(index, value): (usize, &Option<f64>)| {
        let at = last - SignedDuration::from_secs(every * i64::try_from(values.len() - 1 - index).unwrap());
        (series.clone(), Sample { at, value: (*value).into() })
    };
    samples(project).append(&values.iter().enumerate().map(samples_of).collect::<Vec<_>>()).unwrap();
}

/// A program that tells its metrics; it answers 500 while it has none.
struct Teller {
    port: u16,
    text: Arc<Mutex<Option<String>>>,
}

impl Teller {
    fn new(text: &str) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let told = Arc::new(Mutex::new(Some(text.to_owned())));
        let text = told.clone();
        std::thread::spawn(move || {
            for mut connection in listener.incoming().map_while(Result::ok) {
                let mut reader = BufReader::new(connection.try_clone().unwrap());
                let mut line = String::new();
                while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
                    line.clear();
                }
                let (status, body) = told.lock().unwrap().clone().map_or(("500 Oops", String::new()), |body| ("200 OK", body));
                let _ = write!(
                    connection,
                    "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                );
            }
        });
        Self { port, text }
    }

    fn tells(&self, text: Option<&str>) {
        *self.text.lock().unwrap() = text.map(str::to_owned);
    }

    /// The endpoint of a system file, and the source there.
    fn endpoint(&self) -> String {
        format!(
            "[endpoints.app]\nurl = \"http://127.0.0.1:{}/metrics\"\nnetwork = \"loopback\"\n[metrics.app]\nendpoint = \"app\"\n",
            self.port
        )
    }
}

/// The check of this name.
#[track_caller]
fn check<'d>(answer: &'d Value, name: &str) -> &'d Value {
    let checks = answer["checks"].as_array().unwrap();
    checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("there is no check `{name}` in {answer:#}"))
}

/// The level of a check.
#[track_caller]
fn level(done: &Done, name: &str) -> String {
    check(&done.json(), name)["level"].as_str().unwrap().to_owned()
}

/// The names of the steps of a run.
fn steps(done: &Done) -> Vec<String> {
    let answer = done.json();
    answer["steps"].as_array().unwrap().iter().map(|step| step["name"].as_str().unwrap().to_owned()).collect()
}

/// How many effects a plan has.
fn effects(plan: &Value) -> usize {
    plan["steps"].as_array().unwrap().iter().map(|step| step["effects"].as_array().map_or(0, Vec::len)).sum()
}
