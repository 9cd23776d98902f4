//! Paths that want to lead out of a granted directory.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde_json::Value;

use super::{run, run_in};
use crate::harness::Project;

const OUTSIDE: &str = "what lies outside";

/// A granted directory with every sort of link in it, beside one that is not granted.
struct Ground {
    directory: tempfile::TempDir,
}

impl Ground {
    fn new() -> Self {
        Self::on(tempfile::tempdir().unwrap())
    }

    /// Where syncing a file costs nothing.
    fn in_memory() -> Self {
        Self::on(tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap())
    }

    fn on(directory: tempfile::TempDir) -> Self {
        let ground = Self { directory };
        let (granted, outside) = (ground.path("granted"), ground.path("outside"));
        std::fs::create_dir_all(granted.join("a")).unwrap();
        std::fs::create_dir_all(outside.join("deep")).unwrap();
        std::fs::write(outside.join("secret"), OUTSIDE).unwrap();
        std::fs::write(outside.join("deep/secret"), OUTSIDE).unwrap();
        std::fs::write(granted.join("own"), "own").unwrap();
        symlink(outside.join("secret"), granted.join("link")).unwrap();
        symlink(&outside, granted.join("dir")).unwrap();
        symlink(outside.join("new"), granted.join("dangling")).unwrap();
        symlink("../../outside", granted.join("a/up")).unwrap();
        symlink(outside.join("secret"), granted.join(OsStr::from_bytes(b"\xff"))).unwrap();
        std::fs::hard_link(outside.join("secret"), granted.join("hard")).unwrap();
        ground
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Sixteen ways to say what is outside, as a script writes them.
    fn forms(&self) -> Vec<String> {
        let (granted, outside) = (self.path("granted"), self.path("outside"));
        let (granted, outside) = (granted.display(), outside.display());
        vec![
            format!("{granted}/../outside/secret"),
            format!("{granted}/a/../../outside/secret"),
            format!("{outside}/secret"),
            format!("/{outside}//secret"),
            format!("{granted}/link"),
            format!("{granted}/dir/secret"),
            format!("{granted}/dir/"),
            format!("{granted}/dangling"),
            format!("{granted}/a/up/deep/secret"),
            format!("{granted}/hard"),
            format!("/proc/self/root{outside}/secret"),
            "/proc/self/fd/0".to_owned(),
            "/dev/fd/0".to_owned(),
            "/dev/stdin".to_owned(),
            format!("{granted}/own\\x00/../../outside/secret"),
            format!("{granted}/\\ufffd"),
        ]
    }

    /// Everything that is outside, to see whether it changed.
    fn outside(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        fn collect(directory: &Path, into: &mut BTreeMap<PathBuf, Vec<u8>>) {
            for entry in std::fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                into.insert(path.clone(), if path.is_dir() { Vec::new() } else { std::fs::read(&path).unwrap() });
                if path.is_dir() {
                    collect(&path, into);
                }
            }
        }
        let mut all = BTreeMap::new();
        collect(&self.path("outside"), &mut all);
        all
    }
}

#[test]
fn no_path_leads_out_of_a_granted_directory() {
    const WAYS: [(&str, &str); 6] = [
        ("read", "seen += fs::read(path);"),
        ("write", "fs::write(path, \"hostile\");"),
        ("remove", "fs::remove(path, #{ recursive: true });"),
        ("mkdir", "fs::mkdir(path);"),
        ("copy", "fs::copy(path, granted + \"/copied\", #{ overwrite: true }); seen += fs::read(granted + \"/copied\");"),
        ("rename", "fs::rename(path, granted + \"/moved\", #{ overwrite: true }); seen += fs::read(granted + \"/moved\");"),
    ];
    let mut cases = 0;
    for (way, attempt) in WAYS {
        let grounds: Vec<Ground> = (0..16).map(|_| Ground::new()).collect();
        let mut body = "let seen = \"\";\n".to_owned();
        for (index, ground) in grounds.iter().enumerate() {
            let form = &ground.forms()[index];
            let granted = ground.path("granted");
            body += &format!(
                "step(\"{way} {index}\", || {{ let path = \"{form}\"; let granted = \"{granted}\"; let seen = \"\"; try {{ {attempt} }} catch {{}} try {{ fs::copy(granted + \"/own\", path); }} catch {{}} try {{ fs::rename(granted + \"/own\", path); }} catch {{}} output(\"{way} {index}\", seen); }});\n",
                granted = granted.display()
            );
        }
        let roots: Vec<String> = grounds.iter().map(|ground| format!("\"{}\"", ground.path("granted").display())).collect();
        let roots = roots.join(", ");
        let done = run(&format!("fs: #{{ read: [{roots}], write: [{roots}], remove: [{roots}] }}"), &body);
        assert_eq!(done.code, 0, "{}{}", done.stdout, done.stderr);
        let json = done.json();
        for (index, ground) in grounds.iter().enumerate() {
            let form = &ground.forms()[index];
            let expected: BTreeMap<PathBuf, Vec<u8>> = [
                (ground.path("outside/secret"), OUTSIDE.into()),
                (ground.path("outside/deep"), Vec::new()),
                (ground.path("outside/deep/secret"), OUTSIDE.into()),
            ]
            .into();
            assert_eq!(ground.outside(), expected, "{way} {form}");
            let seen = json["outputs"][format!("{way} {index}")].as_str().unwrap_or_default();
            // A hard link is a name of the file: where it stands, it is granted.
            assert!(!seen.contains(OUTSIDE) || form.ends_with("/hard"), "{way} {form}: {seen}");
            cases += 1;
        }
    }
    assert_eq!(cases, 96);
}

#[test]
fn a_directory_that_is_swapped_for_a_link_receives_nothing_outside() {
    let ground = Ground::in_memory();
    let (real, link) = (ground.path("granted/real"), ground.path("granted/swapped"));
    std::fs::create_dir(&real).unwrap();
    symlink(ground.path("outside"), &link).unwrap();
    let before = ground.outside();
    let over = AtomicBool::new(false);
    let granted = ground.path("granted").display().to_string();
    let body = format!(
        "let counts = step(\"write\", || {{ let written = 0; let refused = 0; for i in 0..10000 {{ try {{ fs::write(`{granted}/real/${{i % 50}}`, `${{i}}`); written += 1; }} catch {{ refused += 1; }} }} #{{ written: written, refused: refused }} }}); output(\"counts\", counts);"
    );
    let (swaps, done) = std::thread::scope(|scope| {
        let swapper = scope.spawn(|| {
            let mut swaps = 0_u32;
            while !over.load(Ordering::Relaxed) {
                renameat_with(CWD, &real, CWD, &link, RenameFlags::EXCHANGE).unwrap();
                swaps += 1;
            }
            swaps
        });
        let done = run(&format!("fs: #{{ read: [\"{granted}\"], write: [\"{granted}\"] }}"), &body);
        over.store(true, Ordering::Relaxed);
        (swapper.join().unwrap(), done)
    });
    assert_eq!(done.code, 0, "{}", done.stdout);
    let counts = &done.json()["outputs"]["counts"];
    assert_eq!(counts["written"].as_u64().unwrap() + counts["refused"].as_u64().unwrap(), 10_000);
    assert!(swaps > 1_000, "{swaps} swaps against {counts}");
    assert_eq!(ground.outside(), before, "{counts} with {swaps} swaps");
}

#[test]
fn what_is_denied_inside_of_what_is_allowed_has_no_other_way_in() {
    let ground = Ground::new();
    let srv = ground.path("granted");
    std::fs::create_dir_all(srv.join("parent/keys")).unwrap();
    std::fs::write(srv.join("parent/keys/key"), OUTSIDE).unwrap();
    symlink(srv.join("parent/keys"), srv.join("to_keys")).unwrap();
    symlink(srv.join("parent"), srv.join("to_parent")).unwrap();
    let srv = srv.display();
    let policy = format!(
        "[policy.deny]\nfs = {{ read = [\"{srv}/parent/keys\"], write = [\"{srv}/parent/keys\"], remove = [\"{srv}/parent/keys\"] }}\n"
    );
    let allow = format!("exec: [\"/bin/cat\", \"/bin/mv\"], fs: #{{ read: [\"{srv}\"], write: [\"{srv}\"], remove: [\"{srv}\"] }}");
    let body = format!(
        "let seen = [];
         for path in [\"{srv}/parent/keys/key\", \"{srv}/to_keys/key\", \"{srv}/to_parent/keys/key\", \"{srv}/a/../parent/keys/key\"] {{
             try {{ seen.push(fs::read(path)); }} catch {{}}
             try {{ fs::write(path, \"hostile\"); seen.push(\"written\"); }} catch {{}}
             try {{ fs::remove(path); seen.push(\"removed\"); }} catch {{}}
             try {{ seen.push(exec::run([\"/bin/cat\", path]).stdout); }} catch {{}}
         }}
         try {{ fs::rename(\"{srv}/parent\", \"{srv}/moved\"); seen.push(\"moved\"); }} catch {{}}
         try {{ exec::run([\"/bin/mv\", \"{srv}/parent\", \"{srv}/moved\"]); seen.push(\"moved\"); }} catch {{}}
         try {{ seen.push(fs::read(\"{srv}/moved/keys/key\")); }} catch {{}}
         output(\"seen\", seen);
         output(\"own\", exec::run([\"/bin/cat\", \"{srv}/own\"]).stdout);"
    );
    let done = run_in(Project::new().file("runbook.toml", &policy), &allow, &body);
    assert_eq!(done.json()["outputs"]["seen"], Value::Array(Vec::new()), "{}", done.stdout);
    assert_eq!(done.json()["outputs"]["own"], "own", "what is not denied can be read");
    assert_eq!(std::fs::read_to_string(ground.path("granted/parent/keys/key")).unwrap(), OUTSIDE);
}
