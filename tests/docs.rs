//! The documentation: the reference is made from the code, and its examples run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use regex::Regex;
use serde_json::Value;

use crate::acceptance::lab::{self, Lab, Site};
use crate::acceptance::systems;
use crate::harness::{Project, Test, with_tmp};

const PAGES: [&str; 5] = ["host.md", "language.md", "cli.md", "exit-codes.md", "settings.md"];

#[test]
fn the_reference_is_what_the_code_says() {
    let done = Test::new(["__reference", "made"]).succeeds();
    let checked_in = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference");
    let is_stale = |page: &&str| {
        let made = std::fs::read_to_string(done.project.path().join("made").join(page)).unwrap();
        std::fs::read_to_string(checked_in.join(page)).ok() != Some(made)
    };
    let stale: Vec<&str> = PAGES.into_iter().filter(|page| is_stale(page)).collect();
    assert!(stale.is_empty(), "stale: {stale:?}; renew with `cargo run -- __reference docs/reference`");
}

/// An example of a manual, and what it is of.
struct Example {
    function: String,
    script: String,
    lab: bool,
}

/// The examples of each module, by its name.
fn examples() -> BTreeMap<String, Vec<Example>> {
    let modules = Test::new(["docs", "--json"]).succeeds().json();
    let list = |value: &Value, key: &str| value[key].as_array().cloned().unwrap_or_default();
    let mut examples: BTreeMap<String, Vec<Example>> = BTreeMap::new();
    for module in modules.as_array().unwrap().iter().filter(|module| module["origin"] != "stdlib") {
        let of_module = examples.entry(module["name"].as_str().unwrap().to_owned()).or_default();
        for function in list(module, "functions") {
            for example in list(&function, "forms").iter().flat_map(|form| list(form, "examples")) {
                of_module.push(Example {
                    function: function["name"].as_str().unwrap().to_owned(),
                    script: example["script"].as_str().unwrap().to_owned(),
                    lab: example["lab"].as_bool().unwrap(),
                });
            }
        }
    }
    assert!(examples.values().map(Vec::len).sum::<usize>() > 100, "the examples were not found");
    examples
}

/// Every verb of every section. A program must not lie where a run may write, so what `exec` shows is
/// run without writing.
fn allow(module: &str) -> String {
    let files = if module == "exec" { "" } else { "fs: #{ read: [\"/\"], write: [\"/\"], remove: [\"/\"] }, " };
    let verbs = |section: &str, verbs: &[&str], object: &str| {
        let entries: Vec<String> = verbs.iter().map(|verb| format!("\"{verb}:{object}\"")).collect();
        format!("{section}: [{}], ", entries.join(", "))
    };
    [
        "#{ sys: [\"*\"], sql: [\"*:write\"], redis: [\"*:write\"], exec: [\"/\"], secrets: [\"*\"], notify: [\"*\"], store: [\"write:*\"], runs: [\"*\"], samples: [\"write:*\"], ",
        files,
        &verbs("docker", &["list", "inspect", "logs", "stats", "exec", "restart", "start", "stop", "scale", "images", "disk", "prune"], "*"),
        &verbs("k8s", &["read", "logs", "top", "scale", "restart", "rollback", "bounds"], "*"),
        &verbs("prom", &["silence", "reload"], "*"),
        &verbs("systemd", &["status", "logs", "restart", "start", "stop"], "*"),
        &verbs("incidents", &["open", "note", "ack", "resolve", "escalate", "repair"], "*"),
        &verbs("net", &["connect", "ping", "resolve", "listeners"], "* @loopback"),
        "http: [\"GET * @loopback\", \"POST * @loopback\", \"PUT * @loopback\", \"PATCH * @loopback\", \"DELETE * @loopback\", \"OPTIONS * @loopback\"] }",
    ]
    .concat()
}

/// A runbook that puts out what each example evaluates to.
fn runbook(module: &str, examples: &[&Example]) -> String {
    let mut text = format!("runbook(#{{ title: \"examples\", allow: {} }});\n", allow(module));
    for (number, example) in examples.iter().enumerate() {
        text.push_str(&format!(
            "try {{ output(\"{number}\", (|| {{\n{}\n}}).call()); }} catch (error) {{ output(\"{number}\", error); }}\n",
            example.script
        ));
    }
    text
}

fn wrong(module: &str, examples: &[&Example], lab: Option<&Lab>) -> Vec<String> {
    let project = Project::new();
    let tmp = project.path().join("tmp");
    std::fs::create_dir(&tmp).unwrap();
    let text = with_tmp(&runbook(module, examples), &tmp);
    let mut test = project.runbook("examples", &text).command(["run", "runbooks/examples.rhai", "--yes", "--json"]);
    if let Some(lab) = lab {
        test = test.arg("--config").arg(lab::SETTINGS).arg("-s").arg(systems::AI_HUB.name);
        for (name, value) in &lab.environment {
            test = test.env(name, value);
        }
    }
    let done = test.run();
    let Ok(json) = serde_json::from_str::<Value>(&done.stdout) else {
        return vec![format!("the examples of `{module}` do not run:\n{}", done.stderr)];
    };
    let answer = |number: usize| &json["outputs"][number.to_string()];
    let is_wrong = |(number, _): &(usize, &&Example)| *answer(*number) != true;
    let mut wrong: Vec<String> = examples
        .iter()
        .enumerate()
        .filter(is_wrong)
        .map(|(number, example)| format!("`{}` evaluates to {}, not to true:\n{}", example.function, answer(number), example.script))
        .collect();
    if !json["error"].is_null() {
        wrong.push(format!("`{module}`: {}", json["error"]));
    }
    wrong
}

#[test]
fn the_examples_of_the_manuals_evaluate_to_true() {
    let mut failures = Vec::new();
    std::thread::scope(|scope| {
        let all = examples();
        let all = &*Box::leak(Box::new(all));
        let runs: Vec<_> = all
            .iter()
            .map(|(module, examples)| {
                let bare: Vec<&Example> = examples.iter().filter(|example| !example.lab).collect();
                scope.spawn(move || wrong(module, &bare, None))
            })
            .collect();
        failures.extend(runs.into_iter().flat_map(|run| run.join().unwrap()));
    });
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

/// Examples that need servers are read by the compiler always, and run where the lab is.
#[test]
fn the_examples_for_the_lab_compile_and_run_where_it_is() {
    // No other test may break the system meanwhile.
    let _site = Site::of(&systems::AI_HUB);
    let mut failures = Vec::new();
    for (module, examples) in examples() {
        let lab_only: Vec<&Example> = examples.iter().filter(|example| example.lab).collect();
        let shown = Project::new().runbook("examples", &runbook(&module, &lab_only)).command(["show", "examples", "--source"]).run();
        if shown.code != 0 {
            failures.push(format!("the examples of `{module}` do not compile:\n{}", shown.stderr));
        }
        // The lab has no cluster and no Prometheus: those of `k8s` and `prom` are run by their unit tests, against servers of theirs.
        if let Some(lab) = lab::lab().filter(|_| !["k8s", "prom"].contains(&module.as_str())) {
            failures.extend(wrong(&module, &lab_only, Some(lab)));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

/// The tests there are, each by its path: `hostile::an_endless_loop_ends_at_its_time_limit`.
fn tests() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    // Those of every system of the lab get their mark from a macro.
    let test = Regex::new(r"(?:#\[test\]\n(?:\s*#\[[^\n]*\n)*\s*fn (?<alone>\w+)|fn (?<site>\w+)\(site\))").unwrap();
    let mut tests = Vec::new();
    for (part, file) in ["engine", "tests"].into_iter().flat_map(|part| sources(&root.join(part)).into_iter().map(move |file| (part, file)))
    {
        let text = std::fs::read_to_string(&file).unwrap();
        let path = file.strip_prefix(root.join(part)).unwrap().with_extension("");
        let path = path.to_str().unwrap().replace('/', "::");
        let path = path.strip_suffix("::mod").unwrap_or(&path);
        let inner = if part == "engine" && text.contains("mod tests {") { "::tests" } else { "" };
        let names = test.captures_iter(&text).filter_map(|found| found.name("alone").or(found.name("site")));
        tests.extend(names.map(|name| format!("{path}{inner}::{}", name.as_str())));
    }
    tests
}

fn sources(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let files = |path: PathBuf| if path.is_dir() { sources(&path) } else { vec![path] };
    entries.flat_map(files).filter(|path| path.extension().is_some_and(|extension| extension == "rs")).collect()
}

/// Whether a name on a page, in which `…` stands for what was left out, is that of a test or of a module with tests.
fn is_named(name: &str, tests: &[String]) -> bool {
    let parts: Vec<String> = name.split(['…', '*']).map(regex::escape).collect();
    let end = if name.ends_with(['…', '*']) { "" } else { "($|::)" };
    let named = Regex::new(&format!("(^|::){}{end}", parts.join(".*"))).unwrap();
    tests.iter().any(|test| named.is_match(test))
}

#[test]
fn every_guarantee_names_a_test_that_is_there() {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/guarantees.md")).unwrap();
    let (page, _) = page.split_once("## Not run").unwrap();
    let (tests, quoted) = (tests(), Regex::new("`([^`]+)`").unwrap());
    let mut wrong = Vec::new();
    let mut module = String::new();
    for row in page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| promised")) {
        let shown_by = row.trim_end_matches('|').rsplit('|').next().unwrap();
        let names = quoted.captures_iter(shown_by).map(|found| found[1].trim_start_matches("cargo test --lib ").to_owned());
        let names: Vec<String> = names.filter(|name| !name.contains([' ', '='])).collect();
        if names.is_empty() {
            wrong.push(format!("no test: {row}"));
        }
        for name in names {
            let name = name.trim_start_matches("…::");
            // A name alone is in the module of the one before, or in one around that.
            let around = std::iter::successors(Some(module.as_str()), |module| module.rsplit_once("::").map(|(around, _)| around));
            let mut meant = around.map(|around| format!("{around}::{name}")).chain([name.to_owned()]);
            if !meant.any(|name| is_named(&name, &tests)) {
                wrong.push(format!("there is no test `{name}`"));
            }
            if let Some((of, _)) = name.rsplit_once("::") {
                module = of.to_owned();
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
