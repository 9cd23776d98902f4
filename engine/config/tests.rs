//! What is wrong with files, and where.

use std::path::Path;

use serde_json::json;

use super::*;
use crate::error::Error;
use crate::model::Span;
use crate::model::system::{Contact, Manager};

/// A directory of system files.
struct Lab {
    dir: tempfile::TempDir,
    environment: Environment,
}

impl Lab {
    fn new(files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(format!("{name}.toml")), text).unwrap();
        }
        Self { dir, environment: [("CITY", "Berlin")].into_iter().collect() }
    }

    fn load(&self, name: &str) -> Result<Loaded, Problems> {
        Systems::new(self.dir.path(), &self.environment).load(name)
    }

    /// What is wrong, as `file:line:column: message`.
    fn complaints(&self, name: &str) -> Vec<String> {
        let directory = format!("{}/", self.dir.path().display());
        let problems = self.load(name).expect_err("it should be wrong");
        problems.errors.iter().map(|error| error.to_string().replace(&directory, "")).collect()
    }

    fn hints(&self, name: &str) -> Vec<String> {
        self.load(name).expect_err("it should be wrong").errors.into_iter().flat_map(|error| error.hints).collect()
    }
}

fn complaints(text: &str) -> Vec<String> {
    let all = Lab::new(&[("it", text)]).complaints("it");
    all.iter().map(|complaint| complaint.replace("it.toml:", "")).collect()
}

fn builtin(name: &str) -> Loaded {
    Systems::new("/nowhere", &Environment::default()).load(name).unwrap_or_else(|problems| panic!("{name}: {:#?}", problems.errors))
}

#[test]
fn every_problem_of_a_file_is_told_at_once_and_in_order() {
    let text = "\
title = 5
[databases.main]
host = \"db\"
port = 70000
name = \"shop\"
pasword = \"x\"

[services]
manager = \"compos\"
[services.api]
replicas = \"two\"
needs = [7, \"db\", 8]
";
    assert_eq!(
        complaints(text),
        [
            "1:9: `title`: found integer `5`, expected text",
            "4:8: `databases.main.port`: found integer `70000`, expected a whole number from 0 to 65535",
            "6:1: unknown key `databases.main.pasword`",
            "9:11: `services.manager`: found `compos`",
            "11:12: `services.api.replicas`: found string \"two\", expected a whole number",
            "12:10: `services.api.needs.0`: found integer `7`, expected text",
            "12:13: `services.api.needs.1`: there is no `services.db`",
            "12:19: `services.api.needs.2`: found integer `8`, expected text",
        ]
    );
}

#[test]
fn misspelt_names_get_the_name_that_was_meant() {
    let lab = Lab::new(&[(
        "it",
        "titel = \"x\"\n[services]\nmanager = \"compos\"\n[logs.a]\nservice = \"apy\"\nformat = \"ngnix\"\n[services.api]\n",
    )]);
    assert_eq!(lab.hints("it"), ["did you mean `title`?", "did you mean `compose`?", "did you mean `api`?", "did you mean `nginx`?"]);
    assert!(lab.load("at").unwrap_err().errors[0].hints[0].contains("`it`"));
}

#[test]
fn the_place_is_exact_behind_tags_and_after_wide_characters() {
    assert_eq!(complaints("paths = { \"日志\" = \"/值班/日志\", tmp = \"tmp\" }\n")[0].split(": ").next(), Some("1:34"));
    let text = "\
[contacts.ops]
kind = \"email\"
to = \"a@b\"
from = 5

[contacts.sms]
kind = \"sma\"
url = \"http://x\"

[contacts.mail]
kind = \"email\"
to = []
from = \"\"
";
    assert_eq!(
        complaints(text),
        [
            "3:6: `contacts.ops.to`: found string \"a@b\", expected a list",
            "4:8: `contacts.ops.from`: found integer `5`, expected text",
            "7:8: `contacts.sms.kind`: found `sma`",
            "10:11: `contacts.mail` has no `server`",
        ]
    );
}

#[test]
fn text_that_is_no_toml_is_told_with_its_place() {
    let all = complaints("title = \n[databases\nport = 5\n");
    assert!(all[0].starts_with("1:9: "), "{all:?}");
}

#[test]
fn numbers_have_to_be_possible() {
    let text = "[databases.a]\nhost = \"\"\nport = 0\nname = \"x\"\n[endpoints.b]\nurl = \"ftp://x\"\nstatus = [20]\nnetwork = \"home\"\n";
    assert_eq!(
        complaints(text),
        [
            "2:8: `databases.a.host`: there is no host",
            "3:8: `databases.a.port`: found 0, expected 1 to 65535",
            "6:7: `endpoints.b.url`: found `ftp://x`, expected an http or https address",
            "7:11: `endpoints.b.status.0`: found 20, expected 100 to 599",
            "8:11: `endpoints.b.network`: found `home`",
        ]
    );
}

#[test]
fn durations_and_zones_have_to_exist() {
    let text = "timezone = \"Asia/Bejing\"\nlanguage = \"de\"\n[backup]\ndir = \"/backup/it\"\nkeep = \"30\"\n";
    assert_eq!(
        complaints(text),
        ["1:12: `timezone`: unknown time zone `Asia/Bejing`", "2:12: `language`: found `de`", "5:8: `backup.keep`: `30` is not a duration"]
    );
}

#[test]
fn a_directory_that_others_may_share_is_no_backup_directory() {
    for dir in ["/", "/backup", "/backup/", "//backup/.", "/backup/../backup/x", "backup/x"] {
        let all = complaints(&format!("[backup]\ndir = \"{dir}\"\n"));
        assert!(all.iter().all(|complaint| complaint.starts_with("2:7: `backup.dir`")) && !all.is_empty(), "{dir}: {all:?}");
    }
    let all = complaints("[backup]\ndir = \"/backup/it\"\nremote = \"s3://bucket/\"\nkeep_min = 0\n");
    assert_eq!(
        all,
        [
            "3:10: `backup.remote`: found `s3://bucket/`, expected `s3://bucket/prefix`",
            "4:12: `backup.keep_min`: found 0, expected at least 1"
        ]
    );
}

#[test]
fn a_warning_that_comes_after_the_alarm_is_an_error() {
    let text = "[thresholds.cpu]\nwarn = 90\nalarm = 80\n[thresholds.cache_hit_rate]\nbelow = true\nwarn = 80\nalarm = 90\n";
    assert_eq!(
        complaints(text),
        [
            "2:8: `thresholds.cpu.warn`: 90 is above the alarm at 80: it would never warn first",
            "6:8: `thresholds.cache_hit_rate.warn`: 80 is below the alarm at 90: it would never warn first",
        ]
    );
}

#[test]
fn a_source_of_samples_that_could_not_be_asked_is_refused_by_its_key() {
    let text = "\
[endpoints.app]
url = \"http://127.0.0.1/health\"
[metrics.a]
kind = \"json\"
endpoint = \"ap\"
only = [\"x\"]
[metrics.b]
kind = \"log\"
log = \"app\"
pattern = \"(\"
window = \"0s\"
[metrics.c]
endpoint = \"app\"
path = \"//evil/metrics\"
only = [\"a b\"]
labels = { system = \"x\", \"a b\" = \"y\" }
every = \"10ms\"
timeout = \"1m\"
[metrics.d]
kind = \"json\"
endpoint = \"app\"
field = \"n\"
series = \"1n\"
[metrics.e]
kind = \"json\"
endpoint = \"app\"
field = \"n\"
series = \"orders\"
[metrics.orders]
kind = \"json\"
endpoint = \"app\"
field = \"n\"
";
    assert_eq!(
        complaints(text),
        [
            "3:1: `metrics.a.field`: there is no `field`, which the kind `json` needs",
            "5:12: `metrics.a.endpoint`: there is no `endpoints.ap`",
            "6:8: `metrics.a.only`: the kind `json` has none",
            "9:7: `metrics.b.log`: there is no `logs.app`",
            "10:11: `metrics.b.pattern`: it is no expression: error: unclosed group",
            "11:10: `metrics.b.window`: it is too short to count anything",
            "14:8: `metrics.c.path`: found `//evil/metrics`, expected a path that begins with one `/`",
            "15:9: `metrics.c.only.0`: `a b` is not a selector of series: something follows it",
            "16:21: `metrics.c.labels.system`: this label is ours",
            "16:34: `metrics.c.labels.a b`: `a b` is no name of a label",
            "17:9: `metrics.c.every`: found 10ms, expected at least 1 s",
            "18:11: `metrics.c.timeout`: found 1m, expected at most 25s",
            "23:10: `metrics.d.series`: `1n` is no name of a series",
            "29:1: `metrics.orders`: `metrics.e` tells `orders` already",
        ]
    );
    assert!(Lab::new(&[("it", text)]).hints("it").contains(&"did you mean `app`?".to_owned()));
}

#[test]
fn an_unknown_metric_is_a_warning_with_its_place() {
    let lab = Lab::new(&[("it", "[thresholds.cpus]\nwarn = 1\n")]);
    let warnings = lab.load("it").unwrap().warnings;
    assert_eq!(warnings[0].hints, ["did you mean `cpu`?"]);
    assert_eq!(warnings[0].at.as_ref().map(|at| (at.line, at.column)), Some((1, 13)));
}

#[test]
fn tables_refer_to_each_other_by_name() {
    let text = "\
[services.api]
needs = [\"db\"]
[services.db]
needs = [\"api\"]
[routes]
sev1 = [\"ops\"]
sev9 = []
[contacts.a]
kind = \"slack\"
url = \"${secret:a}\"
fallback = \"b\"
[contacts.b]
kind = \"slack\"
url = \"${secret:b}\"
fallback = \"a\"
[remediation.cpu]
runbook = \"recover-cpu\"
services = [\"api\", \"web\"]
[release]
images = { web = \"x\" }
";
    assert_eq!(
        complaints(text),
        [
            "2:9: `services.api.needs`: services need each other in a circle",
            "4:9: `services.db.needs`: services need each other in a circle",
            "6:9: `routes.sev1.0`: there is no `contacts.ops`",
            "7:1: unknown key `routes.sev9`",
            "11:12: `contacts.a.fallback`: contacts fall back to each other in a circle",
            "15:12: `contacts.b.fallback`: contacts fall back to each other in a circle",
            "18:13: `remediation.cpu.services.0`: `services.api` is not restartable",
            "18:20: `remediation.cpu.services.1`: there is no `services.web`",
            "20:12: `release.images.web`: there is no `services.web`",
        ]
    );
}

#[test]
fn rules_and_schedules_have_to_be_complete() {
    let text = "\
[rules.A]
kind = \"ratio\"
series = \"a\"
above = 1
level = \"critical\"
severity = \"sev1\"
[schedules.b]
cron = \"0 9 *\"
[schedules.c]
cron = \"@daily\"
every = \"5m\"
";
    assert_eq!(
        complaints(text),
        [
            "1:1: `rules.A.total`: there is no total to divide by",
            "1:1: `rules.A.window`: there is no window to take the rate over",
            "8:8: `schedules.b.cron`: found `0 9 *`, expected 5 fields, or 6 with seconds",
            "9:1: `schedules.c`: expected one of `cron`, `every` and `at`",
        ]
    );
}

#[test]
fn a_schedule_that_would_never_or_wrongly_run_is_refused_by_its_key() {
    let wrong = |keys: &str| complaints(&format!("[schedules.a]\n{keys}\n[calendars]\nholidays = [\"12-25\"]\n"));
    for (keys, complaint) in [
        ("cron = \"60 * * * *\"", "2:8: `schedules.a.cron`: the minute `60` is out of range, expected 0 to 59"),
        ("cron = \"0 0 30 2 *\"", "2:8: `schedules.a.cron`: the day of the month `30` is in no month `2`"),
        ("cron = \"0 9 * * 6-1\"", "2:8: `schedules.a.cron`: the day of the week `6-1` ends before it begins"),
        ("cron = \"@daily\"\ntimezone = \"Europe/Berln\"", "3:12: `schedules.a.timezone`: unknown time zone `Europe/Berln`"),
        ("every = \"0s\"", "2:9: `schedules.a.every`: found 0, expected some time"),
        ("every = \"1m\"\njitter = \"2m\"", "3:10: `schedules.a.jitter`: 2m is longer than the interval of 1m"),
        (
            "at = \"tomorrow\"",
            "2:6: `schedules.a.at`: `tomorrow` is no moment, expected one like `2026-12-01 02:00` or `2026-12-01T02:00+01:00`",
        ),
        ("cron = \"@daily\"\ncatch_up = \"all\"", "3:12: `schedules.a.catch_up`: found `all`, expected `skip`, `latest` or `all(50)`"),
        ("cron = \"@daily\"\noverlap = \"kill\"", "3:11: `schedules.a.overlap`: found `kill`"),
        (
            "cron = \"@daily\"\nwindows = [\"night\"]",
            "3:12: `schedules.a.windows.0`: found `night`, expected hours like `22:00-06:00` or `Mon-Fri 22:00-06:00`",
        ),
        ("cron = \"@daily\"\ncalendars = [\"holydays\"]", "3:14: `schedules.a.calendars.0`: there is no `calendars.holydays`"),
    ] {
        assert_eq!(wrong(keys), [complaint], "{keys}");
    }
    assert_eq!(complaints("[groups]\nbackup = 0\n"), ["2:10: `groups.backup`: found 0, expected at least 1"]);
    assert_eq!(
        complaints("[calendars]\na = [\"12-32\"]\n"),
        ["2:6: `calendars.a.0`: found `12-32`, expected days like `2026-12-25`, `12-25` or `12-24..01-02`"]
    );
}

#[test]
fn a_password_in_the_file_is_refused_and_not_repeated() {
    let all = complaints("[databases.a]\nhost = \"db\"\nport = 1\nname = \"x\"\npassword = \"hunter2\"\n");
    assert_eq!(all, ["5:12: `databases.a.password`: a secret stands in the file"]);
    let all = complaints("[databases.a]\nhost = \"db\"\nport = 1\nname = \"x\"\npassword = 4711\n");
    assert_eq!(all, ["5:12: `databases.a.password`: found a value of another type, expected text"]);
}

#[test]
fn overlays_merge_tables_replace_the_rest_and_remove_what_they_name() {
    let lab = Lab::new(&[
        (
            "base",
            "title = \"Shop\"\n[services]\nmanager = \"compose\"\nfiles = [\"a\"]\n[services.api]\nreplicas = 3\nneeds = [\"db\"]\n[services.db]\n[endpoints.public]\nurl = \"https://shop\"\n",
        ),
        (
            "lab",
            "extends = \"base\"\nremove = [\"endpoints.public\"]\nenvironment = \"lab\"\n[services]\nfiles = [\"b\"]\n[services.api]\nreplicas = 1\n",
        ),
    ]);
    let loaded = lab.load("lab").unwrap();
    let system = loaded.system;
    assert_eq!((system.name.as_str(), system.title.as_str(), system.environment.as_str()), ("lab", "Shop", "lab"));
    assert_eq!((system.services.files.as_slice(), system.endpoints.len()), (&["b".to_owned()][..], 0));
    let api = &system.services.each["api"];
    assert_eq!((api.replicas, api.needs.as_slice()), (Some(1), &["db".to_owned()][..]));
    assert_eq!(loaded.files.len(), 2);
}

#[test]
fn an_error_of_an_overlay_points_into_the_file_that_is_wrong() {
    let lab = Lab::new(&[
        ("base", "[databases.main]\nhost = \"db\"\nport = 0\nname = \"x\"\nservice = \"db\"\n[services.db]\n"),
        ("lab", "extends = \"base\"\nremove = [\"services.db\", \"caches.x\"]\n"),
    ]);
    assert_eq!(
        lab.complaints("lab"),
        [
            "base.toml:3:8: `databases.main.port`: found 0, expected 1 to 65535",
            "base.toml:5:11: `databases.main.service`: there is no `services.db`",
            "lab.toml:2:26: `remove`: the system below has no `caches.x`",
        ]
    );
}

#[test]
fn circles_and_unknown_systems_are_errors_at_the_word_that_names_them() {
    let lab =
        Lab::new(&[("a", "extends = \"b\"\n"), ("b", "\nextends = \"a\"\n"), ("c", "extends = \"ai-hubb\"\n"), ("d", "remove = []\n")]);
    assert_eq!(lab.complaints("a"), ["b.toml:2:11: systems extend each other in a circle: a → b → a"]);
    assert_eq!(lab.complaints("c"), ["c.toml:1:11: there is no system `ai-hubb`"]);
    assert_eq!(lab.hints("c"), ["did you mean `ai-hub`?"]);
    assert_eq!(lab.complaints("d"), ["d.toml:1:1: `remove` without `extends`: there is nothing to remove it from"]);
}

#[test]
fn a_file_may_extend_the_built_in_system_of_its_own_name() {
    let lab = Lab::new(&[("host", "extends = \"host\"\ntitle = \"My machine\"\n")]);
    let loaded = lab.load("host").unwrap();
    assert_eq!(loaded.system.title, "My machine");
    assert!(loaded.system.thresholds.contains_key("cpu"));
    assert_eq!(loaded.files[1], "built-in/host.toml");
}

#[test]
fn variables_of_the_environment_are_put_in_and_secrets_are_not() {
    let lab = Lab::new(&[("it", "title = \"in ${env:CITY}, ${secret:x}\"\ncode = \"${env:TOWN}\"\nenvironment = \"${now}\"\n")]);
    assert_eq!(
        lab.complaints("it"),
        ["it.toml:2:8: the environment variable `TOWN` is not set", "it.toml:3:15: unknown placeholder `${now}`"]
    );
    let lab = Lab::new(&[("it", "title = \"in ${env:CITY}, ${secret:x}!\"\n")]);
    let system = lab.load("it").unwrap().system;
    assert_eq!(system.title, "in Berlin, ${secret:x}!");
    assert_eq!(system.json()["title"], "in Berlin, ***!");
}

#[test]
fn a_variable_that_an_overlay_replaces_need_not_be_set() {
    let lab = Lab::new(&[("a", "title = \"${env:TOWN}\"\n"), ("b", "extends = \"a\"\ntitle = \"B\"\n")]);
    assert_eq!(lab.load("b").unwrap().system.title, "B");
}

#[test]
fn a_name_can_not_leave_the_directory() {
    let lab = Lab::new(&[("it", "")]);
    assert!(lab.load("../it").is_err());
    assert!(lab.load("").is_err());
}

#[test]
fn one_error_stands_for_all_where_only_one_can_be_shown() {
    let error = Error::from(Lab::new(&[("it", "a = 1\nb = 2\n")]).load("it").unwrap_err());
    assert!(error.hints.iter().any(|hint| hint == "1 more in the same files"), "{error:?}");
}

#[test]
fn every_built_in_system_loads_without_a_warning() {
    for (name, _) in BUILTIN {
        let loaded = builtin(name);
        assert_eq!(loaded.warnings, [], "{name}");
        assert_eq!(loaded.system.name, *name);
    }
}

#[test]
fn no_two_built_in_systems_share_a_backup_directory() {
    let dirs: Vec<String> = BUILTIN.iter().filter_map(|(name, _)| Some(builtin(name).system.backup?.dir)).collect();
    for (at, dir) in dirs.iter().enumerate() {
        for other in &dirs[at + 1..] {
            assert!(!Path::new(dir).starts_with(other) && !Path::new(other).starts_with(dir), "{dir} and {other}");
        }
    }
}

#[test]
fn ai_hub_is_as_its_manual_says() {
    let system = builtin("ai-hub").system;
    let health = &system.endpoints["health"];
    assert_eq!((health.url.as_str(), health.host.as_deref()), ("http://localhost:8000/api/v1/health", Some("api.aihub.com")));
    assert_eq!(system.databases["main"].max_connections, Some(200));
    let errors = &system.thresholds["error_rate"];
    assert_eq!((errors.target, errors.warn, errors.hold), (Some(0.1), Some(1.0), Some(Span::secs(120))));
    assert_eq!(system.severity["sev1"].label, "P0");
    assert!(matches!(&system.contacts["slack"], Contact::Slack { fallback: Some(name), .. } if name == "mail"));
    assert_eq!(system.json()["databases"]["main"]["password"], json!("***"));
}

#[test]
fn the_other_systems_are_as_their_manuals_say() {
    let notebook = builtin("ai-notebook").system;
    let backup = notebook.backup.unwrap();
    assert_eq!(
        (backup.dir.as_str(), backup.rpo, backup.rto),
        ("/opt/backups/ai-notebook", Some(Span::secs(3600)), Some(Span::secs(14_400)))
    );

    let education = builtin("education").system;
    assert!(education.databases.values().all(|database| database.port == 5433));
    assert_eq!((education.caches["main"].port, education.services.manager), (6380, Manager::Systemd));

    let football = builtin("football").system;
    assert_eq!((football.severity["sev1"].label.as_str(), football.severity["sev1"].escalate), ("P1", Some(Span::secs(900))));
    assert_eq!(football.backup.unwrap().keep_parts["cache"], Span::secs(7 * 86_400));

    let presales = builtin("fin-pre-assist").system;
    let connections = &presales.thresholds["db_connections"];
    assert_eq!((connections.target, connections.warn, connections.alarm), (Some(150.0), Some(150.0), Some(180.0)));
    assert_eq!((presales.severity["sev4"].label.as_str(), presales.scaling["backend"].max), ("P4", 5));
}

#[test]
fn the_29_alert_rules_of_the_manuals_are_there() {
    let mut all = Vec::new();
    for (name, _) in BUILTIN {
        let system = builtin(name).system;
        assert!(system.rules.values().all(|rule| rule.no_data.is_some()), "{name}: silence of a series is told");
        all.extend(system.rules.into_values().filter_map(|rule| rule.source));
    }
    all.sort();
    let counts = [("AH-01", 6), ("ED-23", 6), ("FB-09", 5), ("FP-09", 9), ("NB-09", 3)];
    let wanted: Vec<String> = counts.iter().flat_map(|(group, count)| (1..=*count).map(move |rule| format!("{group}.{rule}"))).collect();
    assert_eq!(all, wanted);
}

#[test]
fn what_every_system_of_the_manuals_must_have_is_there() {
    for (name, _) in BUILTIN.iter().filter(|(name, _)| *name != "host") {
        let system = builtin(name).system;
        for (of, service) in system.databases.iter().filter_map(|(of, database)| Some((of, database.service.as_ref()?))) {
            assert!(system.services.each.contains_key(service), "{name}: databases.{of}");
        }
        for (of, service) in system.endpoints.iter().filter_map(|(of, endpoint)| Some((of, endpoint.service.as_ref()?))) {
            assert!(system.services.each.contains_key(service), "{name}: endpoints.{of}");
        }
        assert_eq!((system.language.as_str(), system.timezone.as_str()), ("zh", "Asia/Shanghai"), "{name}");
        let unrouted: Vec<&String> = system.severity.keys().filter(|severity| !system.routes.contains_key(*severity)).collect();
        assert!(unrouted.is_empty(), "{name}: {unrouted:?} would reach nobody");
        assert!(system.backup.is_some_and(|backup| backup.keep_min.is_some()), "{name}");
    }
}

#[test]
fn the_overlays_of_the_lab_load() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lab/systems");
    let environment: Environment = [("RUNBOOK_LAB_STATE", "/srv/lab")].into_iter().collect();
    for name in ["ai-hub", "ai-notebook", "education", "football", "fin-pre-assist"] {
        let loaded = Systems::new(&directory, &environment).load(name).unwrap_or_else(|problems| panic!("{name}: {:#?}", problems.errors));
        assert_eq!((loaded.system.environment.as_str(), loaded.warnings.len()), ("lab", 0), "{name}");
        let outside = loaded.system.databases.values().filter(|database| database.host != "127.0.0.1").count();
        assert_eq!(outside, 0, "{name}: a test must not reach a real system");
        assert!(loaded.system.backup.unwrap().dir.starts_with("/srv/lab/"), "{name}");
    }
}

/// Each example of the guide is a system by itself, or a settings file when it says so.
#[test]
fn the_examples_of_the_guide_load() {
    let guide = include_str!("../../docs/guide/systems.md");
    let blocks: Vec<&str> = guide.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(blocks.len() > 15, "{}", blocks.len());
    let environment: Environment = [("BUCKET", "shop")].into_iter().collect();
    for block in blocks {
        let dir = tempfile::tempdir().unwrap();
        let settings = block.starts_with("# runbook.toml");
        std::fs::write(dir.path().join(if settings { FILE } else { "it.toml" }), block).unwrap();
        let problems = if settings {
            Project::find(&environment, &Flags { directory: dir.path().to_owned(), ..Flags::default() }).err()
        } else {
            Systems::new(dir.path(), &environment).load("it").err()
        };
        assert_eq!(problems.map(|problems| problems.errors), None, "{block}");
    }
}

#[test]
fn the_guide_names_every_table_and_every_metric() {
    let guide = include_str!("../../docs/guide/systems.md");
    let tables = serde_json::to_value(crate::model::System {
        backup: Some(Default::default()),
        release: Some(Default::default()),
        ..Default::default()
    });
    for table in tables.unwrap().as_object().unwrap().keys().filter(|key| *key != "name") {
        assert!(guide.contains(&format!("`{table}`")) || guide.contains(&format!("\n{table} = ")), "{table}");
    }
    for metric in METRICS {
        assert!(guide.contains(&format!("| `{}` | {} | {} |", metric.name, metric.unit, metric.help)), "{}", metric.name);
    }
}
