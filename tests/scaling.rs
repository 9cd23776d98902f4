//! The decision of scale-auto: a table of cases, and whole days of a service whose load comes and goes.

use serde_json::Value;

use crate::harness::Project;

/// Runs a script that uses the module of the stdlib, with the limits of a service.
#[track_caller]
fn decided(script: &str) -> Value {
    let text = format!(
        r#"
runbook(#{{ title: "decide" }});
import "stdlib/scaling" as scaling;
let limits = #{{ min: 1, max: 5, step: 0, up: 80.0, down: 20.0, "for": "5m", cooldown: "5m" }};
let small = limits + #{{ step: 1 }};
{script}
"#
    );
    let done = Project::new().runbook("decide", &text).command(["run", "decide", "--json"]).succeeds();
    done.json()["outputs"]["told"].clone()
}

/// What is decided in each case, in one line: how many, and why.
#[track_caller]
fn table(cases: &[(&str, &str)]) {
    let list: String = cases.iter().map(|(case, _)| format!("    [{case}],\n")).collect();
    let told = decided(&format!(
        "let told = [];\nfor one in [\n{list}] {{\n    let d = scaling::decide(one[0], one[1], one[2], 10000, one[3]);\n    \
         told.push(`${{d.to}} ${{d.why}}`);\n}}\noutput(\"told\", told);"
    ));
    let found: Vec<&str> = told.as_array().unwrap().iter().map(|one| one.as_str().unwrap()).collect();
    for ((case, expected), found) in cases.iter().zip(&found) {
        assert_eq!(found, expected, "{case}");
    }
    assert_eq!(found.len(), cases.len());
}

#[test]
fn one_and_two_replicas_at_100_percent_become_more() {
    table(&[
        ("limits, 1, [100.0], #{}", "2 up"),
        ("limits, 2, [100.0], #{}", "3 up"),
        ("small, 1, [100.0], #{}", "2 up"),
        // The manual divides by the line of the heading too, and sees 50 %.
        ("limits, 1, [81.0], #{}", "2 up"),
    ]);
}

#[test]
fn as_many_are_wanted_as_bring_the_mean_back_to_the_target() {
    table(&[
        ("limits, 2, [160.0], #{}", "4 up"),
        ("limits, 3, [120.0], #{}", "5 up"),
        ("limits, 3, [80.0], #{}", "3 enough"),
        ("limits, 3, [20.0], #{}", "3 enough"),
        ("limits + #{ tolerance: 0.1 }, 3, [87.0], #{}", "3 enough"),
        ("limits + #{ tolerance: 0.1 }, 3, [89.0], #{}", "4 up"),
        // Of several metrics one is enough for more.
        ("limits, 2, [10.0, 100.0], #{}", "3 up"),
        ("limits, 2, [50.0, ()], #{}", "2 unknown"),
    ]);
}

#[test]
fn no_step_and_no_bound_is_overstepped() {
    table(&[
        ("small, 2, [400.0], #{}", "3 up"),
        ("limits, 4, [400.0], #{}", "5 up"),
        ("limits, 5, [400.0], #{}", "5 full"),
        ("limits + #{ min: 3 }, 1, [50.0], #{}", "3 bounds"),
        ("limits + #{ min: 3 }, 1, [()], #{}", "3 bounds"),
        ("limits, 9, [50.0], #{}", "5 bounds"),
        ("limits, 1, [0.0], #{}", "1 enough"),
        ("limits, 0, [()], #{}", "0 absent"),
    ]);
}

#[test]
fn what_is_not_known_lets_none_go() {
    table(&[
        ("limits, 3, [()], #{}", "3 unknown"),
        ("limits, 3, [], #{}", "3 unknown"),
        ("limits, 3, [1.0, ()], #{ since: 9000, seen: 9900, highest: 1 }", "3 unknown"),
        ("limits, 9, [()], #{}", "9 unknown"),
        ("limits, 2, [(), 100.0], #{}", "3 up"),
    ]);
}

#[test]
fn fewer_only_when_they_would_have_done_all_the_time() {
    table(&[
        ("limits, 3, [10.0], #{}", "3 waiting"),
        ("limits, 3, [10.0], #{ since: 9800, seen: 9900, highest: 1 }", "3 waiting"),
        ("limits, 3, [10.0], #{ since: 9700, seen: 9900, highest: 1 }", "1 down"),
        ("small, 3, [1.0], #{ since: 9700, seen: 9900, highest: 2 }", "2 down"),
        // More were wanted in between: no fewer than those.
        ("limits, 4, [1.0], #{ since: 9700, seen: 9900, highest: 3 }", "3 down"),
        // Nobody looked for an hour.
        ("limits, 3, [10.0], #{ since: 5000, seen: 6400, highest: 1 }", "3 waiting"),
    ]);
}

#[test]
fn nothing_changes_for_a_while_after_a_change() {
    table(&[
        ("limits, 2, [100.0], #{ changed: 9701 }", "2 cooling"),
        ("limits, 2, [100.0], #{ changed: 9700 }", "3 up"),
        ("limits, 3, [10.0], #{ changed: 9701, since: 9600, seen: 9900, highest: 1 }", "3 cooling"),
    ]);
}

/// A service over time: `load` is a closure of the minute, in percent of one replica. The counts of replicas it had.
#[track_caller]
fn days(limits: &str, load: &str, minutes: u32) -> Vec<i64> {
    let told = decided(&format!(
        "let count = 1;\nlet note = #{{}};\nlet told = [];\nlet load = {load};\nfor minute in 0..{minutes} {{\n    \
         let value = load.call(minute) / count;\n    if value > 100.0 {{ value = 100.0; }}\n    \
         let d = scaling::decide({limits}, count, [value], 60 * minute, note);\n    count = d.to;\n    note = d.note;\n    told.push(count);\n}}\n\
         output(\"told\", told);"
    ));
    told.as_array().unwrap().iter().map(|count| count.as_i64().unwrap()).collect()
}

fn changes(counts: &[i64]) -> usize {
    counts.windows(2).filter(|pair| pair[0] != pair[1]).count()
}

#[test]
fn a_steady_load_finds_its_count_and_stays_there() {
    let counts = days("limits", "|minute| 250.0", 240);
    assert_eq!(counts.last(), Some(&4), "{counts:?}");
    assert!(counts.is_sorted() && changes(&counts) <= 4, "{counts:?}");
}

#[test]
fn a_load_that_swings_every_minute_does_not_make_it_flap() {
    let counts = days("limits", "|minute| if minute % 2 == 0 { 30.0 } else { 150.0 }", 240);
    assert!(counts.is_sorted(), "none goes while the high half comes back: {counts:?}");
    assert!(changes(&counts) <= 2 && *counts.last().unwrap() >= 2, "{counts:?}");
}

#[test]
fn a_busy_hour_is_followed_up_and_down_within_the_bounds() {
    let counts = days("small", "|minute| if minute >= 60 && minute < 120 { 1000.0 } else { 10.0 }", 300);
    assert!(counts.iter().all(|count| (1..=5).contains(count)), "{counts:?}");
    assert!(counts.windows(2).all(|pair| (pair[0] - pair[1]).abs() <= 1), "{counts:?}");
    assert_eq!((counts[59], counts.iter().max(), counts.last()), (1, Some(&5), Some(&1)), "{counts:?}");
    assert_eq!(changes(&counts), 8, "four up and four down: {counts:?}");
}
