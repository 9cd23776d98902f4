//! trend-predict: a line that reaches its limit is told with its time; noise and a flat line are silent.

use super::{check, keep, level};
use crate::harness::{Done, Project};

const SYSTEM: &str = r#"
title = "Shop"
language = "en"
timezone = "UTC"
[thresholds.memory]
warn = 80
alarm = 90
unit = "%"
"#;

/// What is told of memory after these values of six hours, one each five minutes.
fn predict(values: impl Fn(f64) -> Option<f64>) -> Done {
    let project = Project::new().file("runbooks/systems/shop.toml", SYSTEM);
    let values: Vec<Option<f64>> = (0..=72_u32).map(|index| values(f64::from(index) / 12.0)).collect();
    keep(&project, "system_memory_usage_percent{instance=\"machine\"}", 1, 300, &values);
    project.command(["run", "trend-predict", "-s", "shop", "-p", "metrics=memory", "--json"]).run()
}

#[test]
fn a_line_that_reaches_its_limit_in_6_hours_says_so() {
    // 60 % to 75 % in six hours: six more to 90 %.
    let done = predict(|hour| Some(60.0 + 2.5 * hour));
    let answer = done.json();
    let found = check(&answer, "trend of memory");
    assert_eq!((found["level"].as_str(), done.code), (Some("warning"), 3), "{found}");
    let hours = found["value"].as_f64().unwrap();
    assert!((5.4..=6.6).contains(&hours), "{hours}");
    assert!(found["detail"].as_str().unwrap().contains("R² 1.00"), "{found}");
    assert_eq!(answer["outputs"]["trends"][0]["outlook"], "reaches");
}

#[test]
fn noise_and_a_flat_line_are_silent() {
    let noise = predict(|hour| Some(50.0 + 30.0 * (hour * 40.0).sin()));
    assert_eq!((noise.code, noise.json()["outputs"]["trends"][0]["outlook"].as_str()), (0, Some("no-trend")), "{}", noise.stdout);
    let flat = predict(|_| Some(70.0));
    assert_eq!((flat.code, flat.json()["outputs"]["trends"][0]["outlook"].as_str()), (0, Some("safe")), "{}", flat.stdout);
}

#[test]
fn too_few_numbers_are_unknown_and_not_ok() {
    let done = predict(|hour| (hour > 5.8).then_some(50.0));
    assert_eq!((done.code, level(&done, "trend of memory").as_str()), (1, "unknown"));
    let none = Project::new().file("runbooks/systems/shop.toml", SYSTEM).command([
        "run",
        "trend-predict",
        "-s",
        "shop",
        "-p",
        "metrics=memory",
        "--json",
    ]);
    assert_eq!(level(&none.exits(1), "trend of memory"), "unknown");
}

#[test]
fn what_is_passed_already_is_critical() {
    let done = predict(|hour| Some(80.0 + 2.0 * hour));
    assert_eq!((done.code, level(&done, "trend of memory").as_str()), (1, "critical"));
}
