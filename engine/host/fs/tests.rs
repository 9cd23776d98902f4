use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{CWD, RenameFlags};
use serde_json::json;
use tempfile::TempDir;

use crate::error::{Error, Kind};
use crate::host::testing::Bench;
use crate::host::{Mode, Permissions, RunInfo, Secrets};
use crate::model::{Effect, EventKind, RunId, System};

/// A granted directory and one beside it that is not, with a file in each.
struct Ground {
    dir: TempDir,
    bench: Bench,
}

impl Ground {
    fn new() -> Self {
        Self::in_mode(Mode::Apply)
    }

    fn in_mode(mode: Mode) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["in/sub", "out"] {
            std::fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        std::fs::write(dir.path().join("in/file"), "inside").unwrap();
        std::fs::write(dir.path().join("out/file"), "outside").unwrap();
        let inside = [dir.path().join("in")];
        let bench = Bench::with(
            json!({ "fs": { "read": inside, "write": inside, "remove": inside } }),
            System::default(),
            Secrets::default(),
            mode,
        );
        Self { dir, bench }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.path().join(name)).unwrap()
    }

    fn eval(&self, script: &str) -> rhai::Dynamic {
        self.bench.eval(&script.replace('~', &self.path(""))).unwrap()
    }

    fn run(&self, script: &str) {
        drop(self.eval(script));
    }

    fn effects(&self) -> Vec<Effect> {
        let effect = |event| match event {
            EventKind::Effect { effect, .. } => Some(effect),
            _ => None,
        };
        self.bench.recorder.events().into_iter().filter_map(effect).collect()
    }

    fn error(&self, script: &str) -> Error {
        self.bench.error(&script.replace('~', &self.path("")))
    }

    /// Everything below the directory that is not granted, with its content and mode.
    fn outside(&self) -> BTreeMap<String, (String, u32)> {
        let entries = std::fs::read_dir(self.path("out")).unwrap().map(|entry| entry.unwrap());
        let described = |entry: std::fs::DirEntry| {
            let mode = entry.metadata().unwrap().permissions().mode();
            (entry.file_name().into_string().unwrap(), (std::fs::read_to_string(entry.path()).unwrap_or_default(), mode))
        };
        entries.map(described).collect()
    }
}

#[test]
fn no_form_of_a_path_leads_out_of_what_is_granted() {
    let operations = [
        r#"fs::read("@")"#,
        r#"fs::stat("@").size"#,
        r#"fs::tail("@", 5)"#,
        r#"fs::checksum("@")"#,
        r#"fs::list("@")"#,
        r#"fs::write("@", "planted")"#,
        r#"fs::append("@", "planted")"#,
        r#"fs::mkdir("@")"#,
        r#"fs::chmod("@", "0600")"#,
        r#"fs::remove("@", #{ recursive: true })"#,
        r#"fs::rename("@", "~in/stolen", #{ overwrite: true })"#,
        r#"fs::rename("~in/file", "@", #{ overwrite: true })"#,
        r#"fs::copy("@", "~in/stolen", #{ overwrite: true })"#,
        r#"fs::copy("~in/file", "@", #{ overwrite: true })"#,
    ];
    let forms = [
        "~in/../out/file",
        "~in/a/../../out/file",
        "~out/file",
        "/~out//file",
        "~in/to-file",
        "~in/to-file/",
        "~in/to-dir/file",
        "~in/to-dir/new",
        "~in/to-dir",
        "~in/to-dir/",
        "~in/sub/relative/file",
        "~in/dangling",
        "~in/chain/file",
        "/proc/self/root~out/file",
        "~in/root~out/file",
        "~in/fd/0",
        "/proc/self/fd/0",
        "/dev/fd/0",
        "/dev/stdin",
        "~in/stdin",
        "~in/\\0/../out/file",
        "~in/../in/../out/file",
        "",
        "in/file",
    ];
    for operation in operations {
        let ground = Ground::new();
        for form in forms {
            for entry in std::fs::read_dir(ground.path("in")).unwrap() {
                let path = entry.unwrap().path();
                if path.is_symlink() || path.is_file() {
                    std::fs::remove_file(path).unwrap();
                } else {
                    std::fs::remove_dir_all(path).unwrap();
                }
            }
            std::fs::create_dir(ground.path("in/sub")).unwrap();
            std::fs::write(ground.path("in/file"), "inside").unwrap();
            let link = |target: &str, name: &str| symlink(target.replace('~', &ground.path("")), ground.path(name)).unwrap();
            link("~out/file", "in/to-file");
            link("~out", "in/to-dir");
            link("../../out", "in/sub/relative");
            link("~out/new", "in/dangling");
            link("to-dir", "in/chain");
            link("/proc/self/root", "in/root");
            link("/proc/self/fd", "in/fd");
            link("/dev/stdin", "in/stdin");
            let before = ground.outside();
            let answer = ground.bench.eval(&operation.replace('@', form).replace('~', &ground.path("")));
            assert_eq!(ground.outside(), before, "{operation} {form}");
            let told = answer.map(|value| value.to_string()).unwrap_or_default();
            assert!(!told.contains("outside"), "{operation} {form}: {told}");
            assert!(!told.contains("77e1cc1d"), "the checksum of what is outside: {operation} {form}");
            // A link that was moved is still a link, and was followed by nobody.
            let is_link = Path::new(&ground.path("in/stolen")).is_symlink();
            let stolen = if is_link { String::new() } else { std::fs::read_to_string(ground.path("in/stolen")).unwrap_or_default() };
            assert_ne!(stolen, "outside", "{operation} {form}");
        }
    }
}

#[test]
fn links_within_what_is_granted_are_followed() {
    let ground = Ground::new();
    symlink(ground.path("in/sub"), ground.path("in/current")).unwrap();
    symlink("../file", ground.path("in/sub/up")).unwrap();
    assert_eq!(ground.eval(r#"fs::read("~in/current/up")"#).to_string(), "inside");
    ground.run(r#"fs::write("~in/current/new", "1")"#);
    assert_eq!(ground.read("in/sub/new"), "1");
    let error = ground.error(r#"fs::write("~in/sub/up", "1")"#);
    assert_eq!((error.kind, error.retryable), (Kind::Conflict, false));
}

#[test]
fn a_race_of_links_writes_nothing_outside() {
    let ground = Ground::new();
    std::fs::create_dir(ground.path("in/real")).unwrap();
    symlink(ground.path("out"), ground.path("in/link")).unwrap();
    let stop = AtomicBool::new(false);
    let before = ground.outside();
    let (real, link) = (ground.path("in/real"), ground.path("in/link"));
    let (swaps, tries) = std::thread::scope(|scope| {
        let attacker = scope.spawn(|| {
            let mut swaps = 0;
            while !stop.load(Ordering::Relaxed) {
                rustix::fs::renameat_with(CWD, &real, CWD, &link, RenameFlags::EXCHANGE).unwrap();
                swaps += 1;
            }
            swaps
        });
        let script = r#"
            let wrote = 0; let refused = 0; let start = timestamp();
            while start.elapsed < 1.0 {
                try { fs::write("~in/real/x", `${wrote}`); wrote += 1; } catch { refused += 1; }
            }
            [wrote, refused]"#;
        let tries = ground.bench.eval(&script.replace('~', &ground.path("")));
        stop.store(true, Ordering::Relaxed);
        let tries = tries.unwrap().into_typed_array::<i64>().unwrap();
        (attacker.join().unwrap(), tries)
    });
    assert_eq!(ground.outside(), before);
    assert!(swaps > 1000 && tries[0] > 0, "{swaps} swaps against {tries:?}");
}

#[test]
fn a_granted_directory_that_is_replaced_is_not_granted_any_more() {
    let ground = Ground::new();
    ground.run(r#"fs::read("~in/file")"#);
    std::fs::rename(ground.path("in"), ground.path("old")).unwrap();
    symlink(ground.path("out"), ground.path("in")).unwrap();
    assert_eq!(ground.error(r#"fs::read("~in/file")"#).kind, Kind::Conflict);
    assert_eq!(ground.error(r#"fs::write("~in/file", "x")"#).kind, Kind::Conflict);
    assert_eq!(ground.read("out/file"), "outside");
}

/// A run with a policy that forbids `keys` in the granted directory.
fn with_policy(dir: &Path, asked: serde_json::Value) -> Bench {
    let system = System::default();
    let map = |value: serde_json::Value| serde_json::from_value(value).unwrap();
    let keys = dir.join("keys");
    let deny = map(json!({ "fs": { "read": [keys], "write": [keys], "remove": [keys] } }));
    let permissions = Permissions::read(&map(asked), &system).unwrap().capped(None, &deny, &system).unwrap();
    let run = RunInfo {
        id: RunId::new(),
        number: 1,
        runbook: "test".to_owned(),
        started: "2026-11-21T12:00:00Z".parse().unwrap(),
        directory: dir.join("no-such-directory"),
    };
    Bench::permitted(run, permissions)
}

#[test]
fn a_deny_within_a_grant_holds_for_every_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().canonicalize().unwrap();
    std::fs::create_dir_all(path.join("app/inner")).unwrap();
    std::fs::create_dir_all(path.join("keys")).unwrap();
    std::fs::write(path.join("keys/one"), "key").unwrap();
    symlink("keys", path.join("link")).unwrap();
    symlink("../keys/one", path.join("app/one")).unwrap();
    symlink(&path, path.join("app/inner/up")).unwrap();
    let bench = with_policy(&path, json!({ "fs": { "read": [path], "write": [path], "remove": [path] } }));
    for script in [
        r#"fs::read("~/keys/one")"#,
        r#"fs::read("~/link/one")"#,
        r#"fs::read("~/app/one")"#,
        r#"fs::read("~/app/inner/up/keys/one")"#,
        r#"fs::write("~/link/two", "x")"#,
        r#"fs::rename("~/keys", "~/app/keys")"#,
        r#"fs::remove("~/link/one")"#,
        r#"fs::remove("~/keys", #{ recursive: true })"#,
    ] {
        assert_eq!(bench.error(&script.replace('~', &path.display().to_string())).kind, Kind::Denied, "{script}");
    }
    let found = bench.eval(&format!(r#"fs::glob("{}/**/one")"#, path.display())).unwrap();
    assert_eq!(found.to_string(), format!(r#"["{}"]"#, path.join("app/one").display()));

    let parent = path.parent().unwrap();
    let bench = with_policy(&path, json!({ "fs": { "read": [parent], "write": [parent], "remove": [parent] } }));
    let error = bench.error(&format!(r#"fs::rename("{0}", "{0}-moved")"#, path.display()));
    assert!(error.message.contains("holds") && error.kind == Kind::Denied, "{error}");
    assert_eq!(bench.error(&format!(r#"fs::remove("{}", #{{ recursive: true }})"#, path.display())).kind, Kind::Denied);
    assert_eq!(std::fs::read_to_string(path.join("keys/one")).unwrap(), "key");
}

#[test]
fn what_is_runbooks_own_is_protected_from_every_grant() {
    let ground = Ground::new();
    let bench = with_policy(&ground.dir.path().join("none"), json!({ "fs": { "read": ["/"], "write": ["/"], "remove": ["/"] } }));
    bench.ctx.protect(vec![ground.path("in").into(), "/no/such/file".into()]);
    symlink(ground.path("in"), ground.path("out/link")).unwrap();
    for script in [
        r#"fs::read("~in/file")"#,
        r#"fs::read("~out/link/file")"#,
        r#"fs::write("~in/file", "x")"#,
        r#"fs::write("~out/link/new", "x")"#,
        r#"fs::list("~in")"#,
        r#"fs::remove("~in", #{ recursive: true })"#,
        r#"fs::remove("~", #{ recursive: true })"#,
        r#"fs::rename("~", "~x")"#,
        r#"fs::chmod("~in/file", "0777")"#,
        r#"fs::read("/proc/self/environ")"#,
        r#"fs::stat("/proc/1/environ")"#,
    ] {
        let script = script.replace("~x", &format!("{}x", ground.path("").trim_end_matches('/'))).replace('~', &ground.path(""));
        assert_eq!(bench.error(&script).kind, Kind::Denied, "{script}");
    }
    assert_eq!(bench.eval(&format!(r#"fs::read("{}")"#, ground.path("out/file"))).unwrap().to_string(), "outside");
    assert!(bench.eval(r#"fs::read("/proc/loadavg").len() > 0"#).unwrap().as_bool().unwrap());
    assert_eq!(ground.read("in/file"), "inside");
}

#[test]
fn grants_of_files_and_patterns_cover_no_more() {
    let ground = Ground::new();
    let bench =
        Bench::new(json!({ "fs": { "read": [ground.path("in/file"), ground.path("out/*.log")], "write": [ground.path("in/new")] } }));
    std::fs::write(ground.path("out/a.log"), "log").unwrap();
    symlink("file", ground.path("out/b.log")).unwrap();
    let read = |name: &str| format!(r#"fs::read("{}")"#, ground.path(name));
    assert_eq!(bench.eval(&read("in/file")).unwrap().to_string(), "inside");
    assert_eq!(bench.eval(&read("out/a.log")).unwrap().to_string(), "log");
    for denied in ["in/sub", "out/file", "out/b.log"] {
        assert_eq!(bench.error(&read(denied)).kind, Kind::Denied, "{denied}");
    }
    let found = bench.eval(&format!(r#"fs::glob("{}")"#, ground.path("out/*"))).unwrap();
    assert_eq!(found.into_array().unwrap().len(), 2, "the logs, not the file");
    assert!(bench.eval(&format!(r#"fs::write("{}", "x")"#, ground.path("in/new"))).is_ok());
    assert_eq!(bench.error(&format!(r#"fs::write("{}", "x")"#, ground.path("in/newer"))).kind, Kind::Denied);
}

#[test]
fn writing_keeps_the_mode_and_leaves_no_part_behind() {
    let ground = Ground::new();
    std::fs::set_permissions(ground.path("in/file"), std::fs::Permissions::from_mode(0o641)).unwrap();
    ground.run(r#"fs::write("~in/file", "new", #{ backup: "~in/file.old" })"#);
    assert_eq!(ground.eval(r#"fs::stat("~in/file").mode"#).to_string(), "0641");
    assert_eq!((ground.read("in/file"), ground.read("in/file.old")), ("new".to_owned(), "inside".to_owned()));
    assert!(!ground.eval(r#"fs::write("~in/file", "new").changed"#).as_bool().unwrap());
    assert_eq!(ground.error(r#"fs::write("~in/sub", "x")"#).kind, Kind::Invalid);
    assert_eq!(ground.eval(r#"fs::list("~in").map(|entry| entry.name)"#).to_string(), r#"["file", "file.old", "sub"]"#);
}

#[test]
fn a_reader_never_sees_a_part_of_a_file() {
    let ground = Ground::new();
    let path = ground.path("in/file");
    std::fs::write(&path, "a".repeat(50_000)).unwrap();
    let script = r#"let a = ""; let b = ""; a.pad(50000, 'a'); b.pad(50000, 'b'); for i in 0..50 { fs::write("~in/file", a); fs::write("~in/file", b); }"#;
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| ground.eval(script));
        while !writer.is_finished() {
            assert_eq!(std::fs::read(&path).unwrap().len(), 50_000);
        }
    });
}

#[test]
fn what_is_as_wanted_already_is_told_and_counts_as_no_change() {
    let ground = Ground::new();
    std::fs::write(ground.path("in/conf"), "a = 1\n").unwrap();
    ground.run(
        r#"
        fs::write("~in/conf", "a = 1\n");
        fs::mkdir("~in");
        fs::chmod("~in/conf", fs::stat("~in/conf").mode);
        fs::write("~in/conf", "a = 2\n");"#,
    );
    let idle: Vec<bool> = ground.effects().iter().map(|effect| effect.idle).collect();
    assert_eq!(idle, [true, true, true, false]);
}

#[test]
fn a_plan_tells_the_difference_and_changes_nothing() {
    let ground = Ground::in_mode(Mode::Plan);
    std::fs::write(ground.path("in/conf"), "a = 1\nb = 2\n").unwrap();
    std::fs::write(ground.path("in/private"), "password = 1\n").unwrap();
    std::fs::set_permissions(ground.path("in/private"), std::fs::Permissions::from_mode(0o600)).unwrap();
    ground.run(
        r#"
        fs::write("~in/conf", "a = 1\nb = 3\n");
        fs::write("~in/private", "password = 2\n");
        fs::mkdir("~in/fresh");
        fs::write("~in/fresh/file", "x");
        fs::remove("~in/sub", #{ recursive: true });
        fs::rename("~in/file", "~in/other");
        fs::chmod("~in/conf", "0600");"#,
    );
    let effects = ground.effects();
    assert_eq!(effects.len(), 7);
    assert!(effects[0].diff.as_ref().unwrap().contains("-b = 2\n+b = 3\n"));
    assert_eq!(effects[1].diff.as_deref(), Some("the file is private: 1 line in, 1 line out"));
    assert_eq!((effects[2].reversible, effects[4].reversible), (true, false));
    assert_eq!(effects[4].diff.as_deref(), Some(format!("-{}", ground.path("in/sub")).as_str()));
    assert_eq!(ground.read("in/conf"), "a = 1\nb = 2\n");
    assert!(Path::new(&ground.path("in/sub")).exists() && !Path::new(&ground.path("in/fresh")).exists());
}

#[test]
fn removal_stays_within_its_limits_or_removes_nothing() {
    let ground = Ground::new();
    for index in 0..5 {
        std::fs::write(ground.path(&format!("in/sub/{index}")), "x").unwrap();
    }
    std::fs::create_dir_all(ground.path("in/sub/a/b/c")).unwrap();
    symlink(ground.path("out"), ground.path("in/sub/link")).unwrap();
    for (script, kind) in [
        (r#"fs::remove("/")"#, Kind::Denied),
        (r#"fs::remove("")"#, Kind::Invalid),
        (r#"fs::remove("~in", #{ recursive: true })"#, Kind::Invalid),
        (r#"fs::remove("~in/", #{ recursive: true })"#, Kind::Invalid),
        (r#"fs::remove("~in/sub")"#, Kind::Invalid),
        (r#"fs::remove("~in/sub", #{ recursive: true, max_files: 9 })"#, Kind::Limit),
        (r#"fs::remove("~in/sub", #{ recursive: true, max_depth: 2 })"#, Kind::Limit),
        (r#"fs::remove("~in/none")"#, Kind::NotFound),
        (r#"fs::remove("~in/none", #{ recursve: true })"#, Kind::Invalid),
    ] {
        assert_eq!(ground.error(script).kind, kind, "{script}");
        assert_eq!(std::fs::read_dir(ground.path("in/sub")).unwrap().count(), 7, "{script}");
    }
    let removed = ground.eval(r#"let gone = fs::remove("~in/sub", #{ recursive: true, max_files: 10 }); [gone.files, gone.directories]"#);
    assert_eq!(removed.into_typed_array::<i64>().unwrap(), [6, 4]);
    assert_eq!(ground.read("out/file"), "outside");
    assert!(!Path::new(&ground.path("in/sub")).exists());
}

#[test]
fn everything_granted_does_not_mean_the_whole_system_may_go() {
    let bench = Bench::new(json!({ "fs": { "remove": ["/"] } }));
    for path in ["/", "/etc", "//etc/", "/proc/self", "/./"] {
        let kind = bench.error(&format!(r#"fs::remove("{path}", #{{ recursive: true }})"#)).kind;
        assert!(matches!(kind, Kind::Invalid | Kind::Denied), "{path}: {kind:?}");
    }
}

#[test]
fn old_files_go_and_young_ones_and_directories_stay() {
    let ground = Ground::new();
    std::fs::write(ground.path("in/sub/old"), "x").unwrap();
    std::fs::write(ground.path("in/sub/young"), "x").unwrap();
    let long_ago = std::fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000));
    std::fs::File::options().write(true).open(ground.path("in/sub/old")).unwrap().set_times(long_ago).unwrap();
    let gone = ground.eval(r#"fs::remove("~in", #{ recursive: true, older_than: "7d" }).files"#);
    assert_eq!(gone.as_int().unwrap(), 1);
    assert_eq!(ground.eval(r#"fs::glob("~in/**").len()"#).as_int().unwrap(), 3);
}

#[test]
fn a_file_with_two_names_takes_its_space_once() {
    let ground = Ground::new();
    std::fs::write(ground.path("in/sub/one"), vec![1; 100_000]).unwrap();
    std::fs::hard_link(ground.path("in/sub/one"), ground.path("in/sub/two")).unwrap();
    let usage = ground.eval(r#"let usage = fs::du("~in/sub"); [usage.apparent, usage.files, usage.directories]"#);
    assert_eq!(usage.into_typed_array::<i64>().unwrap(), [100_000, 1, 1]);
}

#[test]
fn what_is_too_large_or_no_text_is_said_so() {
    let ground = Ground::new();
    std::fs::write(ground.path("in/bytes"), b"ok\xff").unwrap();
    assert_eq!(ground.error(r#"fs::read("~in/file", #{ max: 3 })"#).kind, Kind::Limit);
    let error = ground.error(r#"fs::read("~in/bytes")"#);
    assert_eq!(error.hints, ["read it with `fs::read_bytes`"]);
    assert_eq!(ground.eval(r#"fs::read_bytes("~in/bytes").len()"#).as_int().unwrap(), 3);
    rustix::fs::mknodat(CWD, ground.path("in/pipe"), rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
    assert_eq!(ground.error(r#"fs::read("~in/pipe")"#).kind, Kind::Invalid);
    assert_eq!(ground.error(r#"fs::append("~in/pipe", "x")"#).kind, Kind::Invalid);
}

#[test]
fn the_end_of_a_large_file_is_read_from_its_end() {
    let ground = Ground::new();
    let lines: String = (0..50_000).map(|line| format!("line {line}\n")).collect();
    std::fs::write(ground.path("in/log"), lines).unwrap();
    let tail = ground.eval(r#"fs::tail("~in/log", 9000)"#).into_typed_array::<rhai::ImmutableString>().unwrap();
    assert_eq!((tail.len(), tail[0].as_str(), tail[8999].as_str()), (9000, "line 41000", "line 49999"));
}

#[test]
fn a_taken_name_is_not_overwritten_unasked() {
    let ground = Ground::new();
    ground.run(r#"fs::copy("~in/file", "~in/copy")"#);
    assert_eq!(ground.error(r#"fs::copy("~in/file", "~in/copy")"#).kind, Kind::Conflict);
    assert_eq!(ground.error(r#"fs::rename("~in/file", "~in/copy")"#).kind, Kind::Conflict);
    ground.run(r#"fs::rename("~in/file", "~in/copy", #{ overwrite: true })"#);
    assert_eq!(ground.read("in/copy"), "inside");
}

#[test]
fn a_secret_in_a_file_is_private_and_never_shown() {
    let dir = tempfile::tempdir().unwrap();
    let secrets = Secrets::new([("db".to_owned(), "hunter2hunter2".to_owned())].into());
    let bench = Bench::with(json!({ "fs": { "write": [dir.path()] }, "secrets": ["db"] }), System::default(), secrets, Mode::Apply);
    let path = dir.path().join("pass");
    let mut scope = rhai::Scope::new();
    scope.push("password", crate::host::Secret::named("db"));
    let _ = bench.eval_with(&mut scope, &format!(r#"fs::write("{}", password)"#, path.display())).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "hunter2hunter2");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!format!("{:?}", bench.recorder.events()).contains("hunter2"));
}
