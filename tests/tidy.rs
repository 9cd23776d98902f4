//! The repository itself: layers, list files, forbidden words, the ceiling on dependencies.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Which module may use which, beside itself and `error`. Reading order; nothing below.
const LAYERS: &[(&str, &[&str])] = &[
    ("words", &[]),
    ("error", &["words"]),
    ("model", &["words", "error"]),
    ("config", &["words", "error", "model"]),
    ("store", &["words", "error", "model"]),
    ("host", &["words", "error", "model"]),
    ("script", &["words", "error", "model", "host"]),
    ("monitor", &["words", "error", "model", "store", "host"]),
    ("run", &["words", "error", "model", "store", "host", "script", "monitor"]),
    ("schedule", &["words", "error", "model", "store"]),
    ("daemon", &["words", "error", "model", "store", "host", "script", "run", "schedule", "monitor"]),
    ("cli", &["words", "error", "model", "config", "store", "host", "script", "run", "schedule", "monitor", "daemon"]),
];

/// More crates than this have to be argued for in the commit that raises it.
const MOST_PACKAGES: usize = 454;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn engine() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    sources(&root().join("engine"), &mut found);
    assert!(found.len() > 30, "the sources were not found");
    found.into_iter().map(|path| (path.clone(), std::fs::read_to_string(path).unwrap())).collect()
}

fn layer_of(path: &Path) -> String {
    let first = path.strip_prefix(root().join("engine")).unwrap().components().next().unwrap();
    first.as_os_str().to_str().unwrap().trim_end_matches(".rs").to_owned()
}

#[test]
fn a_module_uses_only_those_above_it() {
    let layers: BTreeMap<&str, &[&str]> = LAYERS.iter().copied().collect();
    let mut wrong = Vec::new();
    for (path, text) in engine() {
        let layer = layer_of(&path);
        if matches!(layer.as_str(), "main" | "lib") {
            continue;
        }
        let allowed = layers.get(layer.as_str()).unwrap_or_else(|| panic!("`{layer}` is not in the table of layers"));
        // Tests may reach for anything.
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        for (number, line) in code.lines().enumerate() {
            for used in line.split("crate::").skip(1) {
                let used: String = used.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect();
                let is_layer = layers.contains_key(used.as_str());
                if is_layer && used != layer && !allowed.contains(&used.as_str()) && !line.trim_start().starts_with("//") {
                    wrong.push(format!("{}:{}: `{layer}` may not use `{used}`", path.display(), number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn rhai_appears_in_script_host_and_the_worker_only() {
    for (path, text) in engine() {
        let layer = layer_of(&path);
        let may = matches!(layer.as_str(), "script" | "host") || path.ends_with("run/worker.rs");
        assert!(may || !text.contains("use rhai"), "{} uses rhai", path.display());
    }
}

#[test]
fn sqlite_appears_in_the_store_only() {
    for (path, text) in engine() {
        assert!(layer_of(&path) == "store" || !text.contains("rusqlite::"), "{} uses rusqlite", path.display());
    }
}

#[test]
fn every_host_module_is_in_the_list() {
    let list = std::fs::read_to_string(root().join("engine/host/mod.rs")).unwrap();
    for entry in std::fs::read_dir(root().join("engine/host")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() && std::fs::read_to_string(path.join("mod.rs")).is_ok_and(|text| text.contains("HostModule")) {
            assert!(list.contains(&format!("{name}::MODULE")), "`{name}` is not in MODULES");
        }
    }
}

#[test]
fn nothing_unfinished_is_on_main() {
    let mut files = Vec::new();
    for directory in ["engine", "tests"] {
        sources(&root().join(directory), &mut files);
    }
    let words = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX"), concat!("#[ign", "ore")];
    for path in files {
        let text = std::fs::read_to_string(&path).unwrap();
        for word in words {
            assert!(!text.contains(word), "{} says {word}", path.display());
        }
    }
}

#[test]
fn the_lock_file_stays_small() {
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let packages = lock.lines().filter(|line| line.starts_with("name = ")).count();
    assert!(packages <= MOST_PACKAGES, "{packages} packages, at most {MOST_PACKAGES}: trim first");
}

#[test]
fn no_other_tls_stack_can_come_in() {
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).unwrap();
    for banned in ["openssl-sys", "native-tls"] {
        assert!(!lock.contains(&format!("name = \"{banned}\"")), "`{banned}` is in the lock file");
    }
    // The lock file also names what no feature selects; what is built is cargo-deny's to judge.
    let deny = std::fs::read_to_string(root().join(".deny.toml")).unwrap();
    assert!(deny.contains("crate = \"ring\""));
}
