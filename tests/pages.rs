//! The pages: README, changelog and `docs/`. What they show is checked and run, so that it can not
//! drift from what there is. How a block is read stands in its info string:
//!
//! | block | what happens |
//! |---|---|
//! | `rhai` | a whole runbook is checked and run, a piece of one is checked; without an error |
//! | `rhai,example` | checked only: it needs what is not here |
//! | `rhai,wrong` | the check must find something; codes in its comments must be among it |
//! | `toml` | loaded as a system file, or as settings when it begins with `# runbook.toml` |
//! | `toml,cases` | read as the tests of a runbook |
//! | `toml,trial` | read as a trial of rules |
//! | `sh` | each line after `$ ` is typed on a terminal, in order, in one directory per page; what it prints must be what is shown |
//! | `sh,sample` | the same, but what it prints depends on the machine |
//! | `sh,example` | only its syntax is checked |
//! | `json` | parsed |
//! | `text` | left alone |
//!
//! A block whose first line is `// PATH.rhai` or `# PATH.toml` is that file for the commands after it.
//! Commands exit with 0, or with what `# exits with 3` at their end says. In what they print, times,
//! sizes, shares and hashes are alike, and a line `…` stands for any lines. `/tmp` is a directory of the page's own.
//!
//! With `RUNBOOK_PAGES=write` in the environment, what is printed takes the place of what was shown and differs.

mod markdown;
mod screen;
mod shell;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use regex::Regex;
use runbook::config::{CaseFile, Environment, Flags, Project, Systems};
use runbook::model::Diagnostic;
use runbook::monitor::drill::Drill;
use runbook::script::{check_text, stdlib};

use crate::harness;
use markdown::{Block, Page};
use shell::Shell;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn pages() -> Vec<Page> {
    fn below(directory: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => below(&path, found),
                false => found.extend(path.extension().is_some_and(|extension| extension == "md").then_some(path)),
            }
        }
    }
    let mut paths = ["README.md", "README.zh.md", "CHANGELOG.md"].map(|name| root().join(name)).to_vec();
    below(&root().join("docs"), &mut paths);
    paths.sort();
    assert!(paths.len() > 10, "the pages were not found");
    paths.into_iter().map(Page::read).collect()
}

/// Pages whose blocks are tested where they come from.
fn is_generated(page: &Page) -> bool {
    page.path.starts_with(root().join("docs/reference"))
}

#[test]
fn what_the_pages_show_is_what_happens() {
    let pages: Vec<Page> = pages().into_iter().filter(|page| !is_generated(page)).collect();
    // A page and its translation work on the same files, one after the other.
    let mut families: BTreeMap<String, Vec<&Page>> = BTreeMap::new();
    for page in &pages {
        families.entry(page.name().replace(".zh.md", ".md")).or_default().push(page);
    }
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let walk_all = |family: &Vec<&Page>| family.iter().flat_map(|page| walk(page)).collect::<Vec<_>>();
        let threads: Vec<_> = families.values().map(|family| scope.spawn(move || walk_all(family))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert!(wrong.is_empty(), "\n\n{}\n", wrong.join("\n\n"));
}

/// Goes through a page as a reader would; returns what was wrong.
fn walk(page: &Page) -> Vec<String> {
    let shell = Shell::new();
    let mut wrong = Vec::new();
    for block in &page.blocks {
        if let Some(path) = block.file() {
            shell.write(path, &block.text);
        }
        let result = match (block.language.as_str(), block.kind.as_str()) {
            ("rhai", kind) => script(block, kind, &shell),
            ("toml", "") => settings(block, &shell),
            ("toml", "cases") => CaseFile::read(&page.name(), &block.text).map(drop).map_err(|problems| format!("{problems:?}")),
            ("toml", "trial") => Drill::parse(&block.text).map(drop).map_err(|error| error.to_string()),
            ("sh", "") => commands(block, true, &shell),
            ("sh", "sample") => commands(block, false, &shell),
            ("sh", "example") => shell.parses(&block.text),
            ("json", "") => serde_json::from_str::<serde_json::Value>(&block.text).map(drop).map_err(|error| error.to_string()),
            ("text", "") => Ok(()),
            _ => Err(format!("nobody knows what to do with ```{}", block.info())),
        };
        wrong.extend(result.err().map(|problem| format!("{}:{}: {problem}", page.name(), block.line)));
    }
    wrong
}

fn script(block: &Block, kind: &str, shell: &Shell) -> Result<(), String> {
    let is_whole = block.text.contains("runbook(#{");
    let text = if is_whole { block.text.clone() } else { format!("runbook(#{{ title: \"a piece\" }});\n{}", block.text) };
    let find = |path: &str| stdlib(path).map(str::to_owned).or_else(|| shell.read(&format!("runbooks/{path}.rhai")));
    let found = check_text("example", "example.rhai", &text, find);
    // A piece has no header that could ask for what it needs, and uses little of what it makes.
    let is_about_whole = |finding: &Diagnostic| finding.code.starts_with("RB12") || !finding.is_error();
    let found: Vec<Diagnostic> = found.into_iter().filter(|finding| is_whole || kind == "wrong" || !is_about_whole(finding)).collect();
    let told = || found.iter().map(|finding| format!("{} {} {}", finding.at, finding.code, finding.message)).collect::<Vec<_>>().join("\n");
    match kind {
        "wrong" => {
            let codes = Regex::new(r"RB\d{4}").unwrap();
            let missed: Vec<&str> =
                codes.find_iter(&block.text).map(|code| code.as_str()).filter(|code| !found.iter().any(|f| f.code == *code)).collect();
            let is_found = found.iter().any(|finding| is_whole || !finding.code.starts_with("RB12"));
            if is_found && missed.is_empty() { Ok(()) } else { Err(format!("the check does not find {missed:?} but\n{}", told())) }
        }
        "" | "example" if !found.is_empty() => Err(told()),
        "" if is_whole && block.file().is_none() => run(&shell.apart(&block.text)),
        "" | "example" => Ok(()),
        _ => Err(format!("nobody knows what to do with ```{}", block.info())),
    }
}

/// A whole runbook must come to its end on a bare machine; its checks may say what they want.
fn run(text: &str) -> Result<(), String> {
    let done = harness::Project::new().runbook("example", text).command(["run", "example", "--json"]).run();
    let is_fine = matches!(done.code, 0 | 1 | 3) && !done.stdout.is_empty() && done.json()["error"].is_null();
    if is_fine { Ok(()) } else { Err(format!("exit code {}\n{}{}", done.code, done.stdout, done.stderr)) }
}

fn settings(block: &Block, shell: &Shell) -> Result<(), String> {
    let variable = Regex::new(r"\$\{env:(\w+)\}").unwrap();
    let environment: Environment = variable.captures_iter(&block.text).map(|found| (found[1].to_owned(), "example")).collect();
    let scratch = tempfile::tempdir().unwrap();
    let problems = if block.file() == Some("runbook.toml") {
        std::fs::write(scratch.path().join("runbook.toml"), &block.text).unwrap();
        Project::find(&environment, &Flags { directory: scratch.path().to_owned(), ..Flags::default() }).err()
    } else if let Some(name) = block.file().and_then(|path| path.strip_prefix("runbooks/systems/")?.strip_suffix(".toml")) {
        Systems::new(shell.path("runbooks/systems"), &environment).load(name).err()
    } else {
        std::fs::write(scratch.path().join("it.toml"), &block.text).unwrap();
        Systems::new(scratch.path(), &environment).load("it").err()
    };
    problems.map_or(Ok(()), |problems| Err(problems.errors.iter().map(|error| format!("{error:?}")).collect::<Vec<_>>().join("\n")))
}

fn commands(block: &Block, compare: bool, shell: &Shell) -> Result<(), String> {
    let typed = shell::typed(&block.text)?;
    for command in &typed {
        let (printed, code) = shell.type_in(&command.line);
        let expected = command.exit_code();
        let is_expected = if compare || expected != 0 { code == expected } else { matches!(code, 0 | 1 | 3) };
        if !is_expected {
            return Err(format!("`{}` exits with {code} instead of {expected}\n{printed}", command.line));
        }
        if compare && !shell::alike(&command.shown, &printed) {
            if std::env::var_os("RUNBOOK_PAGES").is_some_and(|wish| wish == "write") {
                block.replace(&command.line, &command.shown, &printed);
                continue;
            }
            return Err(format!("`{}` prints something else\n--- shown\n{}\n--- printed\n{printed}", command.line, command.shown));
        }
    }
    Ok(())
}

#[test]
fn every_link_between_pages_leads_somewhere() {
    let pages = pages();
    let link = Regex::new(r"\]\(([^)\s]+)\)").unwrap();
    let mut wrong = Vec::new();
    for page in &pages {
        for target in link.captures_iter(&page.prose).map(|found| found[1].to_owned()) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (file, heading) = target.split_once('#').unwrap_or((&target, ""));
            let path = if file.is_empty() { page.path.clone() } else { page.path.parent().unwrap().join(file) };
            let Ok(path) = path.canonicalize() else {
                wrong.push(format!("{}: {target}: no such file", page.name()));
                continue;
            };
            let is_there = heading.is_empty() || pages.iter().any(|other| other.path == path && other.anchors.iter().any(|a| a == heading));
            if !is_there {
                wrong.push(format!("{}: {target}: no such heading", page.name()));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn every_page_can_be_reached_from_the_index() {
    let index = Page::read(root().join("docs/index.md"));
    let missing: Vec<String> = pages()
        .iter()
        .filter(|page| page.path.starts_with(root().join("docs")) && page.path != index.path && !is_generated(page))
        .map(|page| page.path.strip_prefix(root().join("docs")).unwrap().to_str().unwrap().to_owned())
        .filter(|path| !index.prose.contains(&format!("]({path})")))
        .collect();
    assert!(missing.is_empty(), "docs/index.md does not link to {missing:?}");
}

#[test]
fn a_translation_shows_the_same_commands_and_files() {
    for page in pages().iter().filter(|page| page.path.to_str().unwrap().ends_with(".zh.md")) {
        let original = Page::read(PathBuf::from(page.path.to_str().unwrap().replace(".zh.md", ".md")));
        let shape = |page: &Page| page.blocks.iter().map(|block| (block.info(), shell::commands_in(block))).collect::<Vec<_>>();
        assert_eq!(shape(page), shape(&original), "{}", page.name());
    }
}

#[test]
fn the_architecture_stays_short() {
    let text = std::fs::read_to_string(root().join("docs/dev/architecture.md")).unwrap();
    let words = text.split_whitespace().count();
    assert!(words < 1500, "{words} words");
}

/// So that a diff shows the sentence that changed.
#[test]
fn a_line_of_prose_holds_one_sentence() {
    let two = Regex::new(r"[a-z)`*]\. [A-Z]").unwrap();
    for page in pages().iter().filter(|page| !is_generated(page)) {
        for line in page.prose.lines().filter(|line| !line.starts_with('|')) {
            assert!(!two.is_match(line), "{}: two sentences in one line:\n{line}", page.name());
        }
    }
}

#[test]
fn the_first_commands_of_the_readme_are_the_two_that_count() {
    for name in ["README.md", "README.zh.md"] {
        let page = Page::read(root().join(name));
        let first: Vec<String> = page.blocks.iter().filter(|block| block.language == "sh").flat_map(shell::commands_in).take(2).collect();
        assert_eq!(first, ["cargo run --release -- run check-health", "tests/run"], "{name}");
    }
    assert!(root().join("tests/run").is_file());
}
