//! What was changed behind the store's back is found; what went wrong below it tears nothing.

use std::path::{Path, PathBuf};

use jiff::SignedDuration;
use rusqlite::Connection;
use serde_json::json;
use tempfile::TempDir;

use super::conformance::{US, at, ended, intent, parcel, run, start};
use super::{Backup, Filter, Removed, Retention, Sqlite, StateDir, Store, Verdict, back_up};
use crate::error::Kind;
use crate::model::{Module, Outcome, Parent, Run, RunState, Trigger};
use crate::store::audit::{Act, Action, AuditFilter, Checkpoint, audited};

struct Kept {
    directory: TempDir,
}

impl Kept {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        Self { directory }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("runbook.db")
    }

    fn open(&self) -> Sqlite {
        Sqlite::open(&self.path()).unwrap()
    }

    /// As someone with an editor for databases sees it.
    fn editor(&self) -> Connection {
        Connection::open(self.path()).unwrap()
    }

    fn found(&self) -> Vec<String> {
        self.open().examine(&[]).damage.iter().map(ToString::to_string).collect()
    }

    #[track_caller]
    fn finds(&self, edit: &str, wanted: &str) {
        self.editor().execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
        let before = std::fs::read(self.path()).unwrap();
        self.editor().execute_batch(&format!("PRAGMA foreign_keys = off; {edit}; PRAGMA wal_checkpoint(TRUNCATE)")).unwrap();
        let found = self.found();
        assert!(found.iter().any(|found| found.contains(wanted)), "after {edit}: {wanted} is not in {found:?}");
        self.put_back(&before);
        assert_eq!(self.found(), [""; 0]);
    }

    fn put_back(&self, bytes: &[u8]) {
        for suffix in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{suffix}", self.path().display()));
        }
        std::fs::write(self.path(), bytes).unwrap();
    }
}

fn text(name: &str) -> Module {
    let text = format!("runbook(#{{ title: \"{name}\" }});");
    Module { name: format!("{name}.rhai"), hash: sha256(&text), text }
}

fn sha256(text: &str) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A run of three events at a time.
fn record(store: &dyn Store, name: &str, seconds: i64, status: Option<RunState>) -> Run {
    let new = Run { started: start() + SignedDuration::from_secs(seconds), ..run(name) };
    let number = store.create(&new, &[text(name)], US).unwrap();
    store.append(new.id, &[at(seconds + 1, intent("a"))]).unwrap();
    let outcome = Outcome::Value(json!({ "dumped": "a value that is long enough to be met by a flipped bit" }));
    let kind = crate::model::EventKind::StepEnded { key: "a".into(), outcome, duration_ms: 5 };
    store.append(new.id, &[at(seconds + 2, kind)]).unwrap();
    if let Some(status) = status {
        store.append(new.id, &[at(seconds + 3, ended(status))]).unwrap();
    }
    Run { run: number, ..new }
}

/// Three runs, a note, a parcel, a few rows of the audit log; all of it in the one file.
fn kept() -> Kept {
    let kept = Kept::new();
    let store = kept.open();
    for (seconds, name) in [(0, "backup"), (10, "noop"), (20, "backup")] {
        record(&store, name, seconds, Some(RunState::Succeeded));
    }
    store.keep_note("s", "k", &json!("a note")).unwrap();
    assert!(store.post(&parcel("p", "ops", 0), &|_| false).unwrap());
    audited(&store, &act("db"), || Ok(())).unwrap();
    drop(store);
    kept.editor().execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    kept
}

fn act(secret: &str) -> Act {
    Act { who: "maya".into(), action: Action::SetSecret, subject: secret.into(), why: "rotated".into() }
}

#[test]
fn what_a_run_is_a_step_of_can_not_be_changed() {
    let kept = kept();
    let store = kept.open();
    let parent = Some(Parent { run: 1, step: "run part".into() });
    store.create(&Run { trigger: Trigger::Run, parent, ..run("part") }, &[text("part")], US).unwrap();
    drop(store);
    assert_eq!(kept.found(), [""; 0]);
    kept.finds("UPDATE sub_runs SET parent = 2", "run #4, what it is a step of (altered)");
    kept.finds("DELETE FROM sub_runs", "run #4, what it is a step of (altered): it is missing");
    let store = kept.open();
    let number = store.list(&Filter { parent: Some(1), ..Filter::default() }).unwrap()[0].id;
    store.append(number, &[at(1, ended(RunState::Succeeded))]).unwrap();
    // What is left of a run whose parent is gone is whole.
    let act = Act { action: Action::Prune, ..act("state") };
    assert_eq!(store.prune(&retention(100, 0), &act.entry(Some("done"))).unwrap().runs, [1]);
    assert_eq!(kept.found(), [""; 0]);
}

#[test]
fn what_was_edited_is_named() {
    let kept = kept();
    assert_eq!(kept.found(), [""; 0]);
    for (edit, wanted) in [
        ("UPDATE events SET body = replace(body, 'dumped', 'dropped') WHERE run = 2 AND seq = 2", "run #2, event 2 (altered)"),
        ("UPDATE events SET hash = zeroblob(32) WHERE run = 2 AND seq = 2", "run #2, event 2 (altered)"),
        ("DELETE FROM events WHERE run = 1 AND seq = 2", "run #1, event 2 (altered): it is missing"),
        ("DELETE FROM events WHERE run = 1 AND seq = 3", "run #1, event 3 (truncated): there were 3 events, 2 are left"),
        ("INSERT INTO events SELECT run, 4, body, hash FROM events WHERE run = 1 AND seq = 3", "run #1, event 4 (altered)"),
        (
            "UPDATE events SET seq = 9 WHERE run = 1 AND seq = 1; UPDATE events SET seq = 1 WHERE run = 1 AND seq = 2; UPDATE events SET seq = 2 WHERE run = 1 AND seq = 9",
            "run #1, event 2 (altered)",
        ),
        (
            "UPDATE events SET run = 9 WHERE run = 1; UPDATE events SET run = 1 WHERE run = 3; UPDATE events SET run = 3 WHERE run = 9",
            "run #3, event 1",
        ),
        ("UPDATE runs SET status = 'failed' WHERE number = 2", "run #2, its row (altered)"),
        ("UPDATE runs SET actor = 'root' WHERE number = 2", "run #2, its row (altered)"),
        ("UPDATE runs SET pid = 1 WHERE number = 2", "run #2, its row (altered)"),
        ("UPDATE runs SET number = 7 WHERE number = 2", "run #2, its row (truncated): it is missing"),
        (
            "DELETE FROM events WHERE run = 3; DELETE FROM run_texts WHERE run = 3; DELETE FROM runs WHERE number = 3",
            "run #3, its row (truncated)",
        ),
        ("UPDATE texts SET body = body || ' '", "text "),
        ("UPDATE run_texts SET name = 'other.rhai' WHERE run = 1", "run #1, event 1, or its texts"),
        ("DELETE FROM texts WHERE hash IN (SELECT hash FROM run_texts WHERE run = 2)", "run #2, text `noop.rhai`"),
        ("UPDATE notes SET value = '1'", "note `k` (altered)"),
        ("UPDATE parcels SET contact = 'mallory'", "parcel `p` (altered)"),
        ("UPDATE audit SET who = 'nobody' WHERE seq = 7", "audit row 7 (altered)"),
        ("UPDATE audit SET outcome = 'failed' WHERE seq = 2", "run #1, audit row 2 (altered)"),
        ("DELETE FROM audit WHERE seq = 3", "audit row 3 (altered): the rows 3 to 3 are missing"),
        ("DELETE FROM audit WHERE seq = 8", "audit row 8 (truncated): there were 8 rows, 7 are left"),
        (
            "UPDATE audit SET seq = 99 WHERE seq = 7; UPDATE audit SET seq = 7 WHERE seq = 8; UPDATE audit SET seq = 8 WHERE seq = 99",
            "audit row 7 (altered)",
        ),
    ] {
        kept.finds(edit, wanted);
    }
}

#[test]
fn a_run_that_was_put_in_is_known_by_the_audit_log_that_does_not_know_it() {
    let (kept, other) = (kept(), kept());
    drop(record(&other.open(), "stranger", 50, Some(RunState::Succeeded)));
    let from = other.path().display().to_string();
    let copy = ["runs", "texts", "run_texts", "events"].map(|table| {
        let which = match table {
            "runs" => "WHERE number = 4",
            "texts" => "",
            _ => "WHERE run = 4",
        };
        format!("INSERT OR IGNORE INTO {table} SELECT * FROM other.{table} {which}")
    });
    kept.finds(
        &format!("ATTACH '{from}' AS other; {}; DETACH other", copy.join("; ")),
        "run #4, its row (altered): the audit log does not know it",
    );
}

/// Bar 48: SQLite sees nothing, the hashes see all of it.
#[test]
fn one_flipped_bit_in_each_of_a_hundred_rows_is_found() {
    let kept = Kept::new();
    let store = kept.open();
    let ids: Vec<_> = (0..30).map(|number| record(&store, "backup", number * 10, Some(RunState::Succeeded)).id).collect();
    drop(store);
    kept.editor().execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    let sound = std::fs::read(kept.path()).unwrap();
    let rows = rows(&kept.editor());
    // Somewhere in runs, events and rows of the audit log, wherever they are in the file.
    let marks: [&[u8]; 3] = [b"flipped bit", b"\"event\":\"ended\"", b"maya"];
    let places = (0..sound.len()).filter(|at| marks.iter().any(|mark| sound[*at..].starts_with(mark)));
    let (mut flipped, mut sound_to_sqlite) = (0, 0);
    for (turn, place) in places.enumerate() {
        let mut bytes = sound.clone();
        bytes[place + turn % 4] ^= 1 << (turn % 8);
        kept.put_back(&bytes);
        if self::rows(&kept.editor()) == rows {
            // What is left of an earlier page belongs to no row.
            continue;
        }
        flipped += 1;
        let store = kept.open();
        sound_to_sqlite += usize::from(store.health(true).unwrap().damage.unwrap().is_empty());
        let found = store.examine(&[]).damage;
        assert!(!found.is_empty(), "bit {} of byte {place}", turn % 8);
        for number in found.iter().filter(|found| !found.row.starts_with("audit")).filter_map(|found| found.run) {
            let id = ids[usize::try_from(number).unwrap() - 1];
            assert_eq!(store.verify(id).unwrap_err().kind, Kind::Store, "{found:?}");
        }
        if flipped == 100 {
            break;
        }
    }
    assert_eq!(flipped, 100);
    assert!(sound_to_sqlite > 90, "{sound_to_sqlite}");
}

/// All that the rows say.
fn rows(connection: &Connection) -> Vec<Vec<rusqlite::types::Value>> {
    let mut all = Vec::new();
    for table in ["runs", "events", "audit"] {
        let mut select = connection.prepare(&format!("SELECT * FROM {table}")).unwrap();
        let columns = select.column_count();
        let mut rows = select.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            // A text that is no text any more is read as bytes.
            let value = |column| match row.get_ref(column).unwrap() {
                rusqlite::types::ValueRef::Text(text) => rusqlite::types::Value::Blob(text.to_vec()),
                other => other.try_into().unwrap(),
            };
            all.push((0..columns).map(value).collect());
        }
    }
    all
}

#[test]
fn broken_files_are_told_with_what_to_do_and_without_a_panic() {
    let kept = kept();
    let sound = std::fs::read(kept.path()).unwrap();
    let pages = sound.len() / 4096;
    for page in 0..pages {
        let mut bytes = sound.clone();
        bytes[page * 4096..(page + 1) * 4096].fill(0);
        kept.put_back(&bytes);
        let told = Sqlite::open(&kept.path()).map(|store| store.examine(&[]).damage.len());
        assert!(!matches!(told, Ok(0)), "page {page} is gone, and nothing is wrong");
    }
    for length in [sound.len() / 2, 4096, 100] {
        kept.put_back(&sound[..length]);
        let told = Sqlite::open(&kept.path());
        let told = told.and_then(|store| {
            assert!(!store.examine(&[]).damage.is_empty());
            store.list(&Filter::default()).map(drop)
        });
        if let Err(error) = told {
            assert!(error.hints.iter().any(|hint| hint.contains("runbook state restore")), "{length}: {error:?}");
        }
    }
}

#[test]
fn a_lost_wal_loses_the_newest_rows_and_nothing_is_torn() {
    let kept = kept();
    let sound = std::fs::read(kept.path()).unwrap();
    let anchor = kept.open().anchor().unwrap();
    let store = kept.open();
    record(&store, "late", 100, Some(RunState::Succeeded));
    let later = store.anchor().unwrap();
    drop(store);
    kept.put_back(&sound);
    let store = kept.open();
    assert_eq!(store.examine(std::slice::from_ref(&anchor)).damage, []);
    let found = store.examine(&[later]).damage;
    assert_eq!((found[0].verdict, found[0].row.as_str()), (Verdict::Truncated, "audit row 9"), "a checkpoint kept elsewhere tells");
}

#[test]
fn a_checkpoint_finds_a_cut_tail_and_a_log_that_was_made_anew() {
    let kept = kept();
    let sound = std::fs::read(kept.path()).unwrap();
    let signed = Checkpoint::sign(kept.directory.path(), kept.open().anchor().unwrap()).unwrap();
    let anchors = [signed.anchor];
    let seen = kept.open().examine(&anchors);
    assert_eq!((seen.damage, seen.unanchored), (vec![], 0));
    // Someone who knows how: the tail is gone, and so is every trace of it.
    let cut = "DELETE FROM audit WHERE seq > 6; UPDATE sqlite_sequence SET seq = 6 WHERE name = 'audit'; PRAGMA wal_checkpoint(TRUNCATE)";
    kept.editor().execute_batch(cut).unwrap();
    assert_eq!(kept.found(), [""; 0]);
    assert_eq!(kept.open().examine(&anchors).damage[0].verdict, Verdict::Truncated);
    // And wrote other rows in their place.
    audited(&kept.open(), &act("other"), || Ok(())).unwrap();
    assert_eq!(kept.found(), [""; 0]);
    let found = kept.open().examine(&anchors).damage;
    assert!(found[0].found.contains("made anew"), "{found:?}");
    kept.put_back(&sound);
    audited(&kept.open(), &act("next"), || Ok(())).unwrap();
    let seen = kept.open().examine(&anchors);
    assert_eq!((seen.damage, seen.unanchored), (vec![], 2), "what came later is not vouched for yet");
}

#[test]
fn a_damaged_run_is_not_to_be_resumed_and_the_others_are() {
    let kept = kept();
    kept.editor().execute_batch("UPDATE events SET body = replace(body, 'dumped', 'dropped') WHERE run = 2").unwrap();
    let store = kept.open();
    for run in store.list(&Filter::default()).unwrap() {
        match (run.run, store.verify(run.id)) {
            (2, Err(error)) => assert!(error.message.contains("run #2, event 2 (altered)"), "{error}"),
            (1 | 3, Ok(())) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// The columns of each table.
fn shape(connection: &Connection) -> Vec<String> {
    let sql = "SELECT m.name || '.' || c.name || ' ' || c.type || ' ' || c.\"notnull\" || ' ' || coalesce(c.dflt_value, '')
               FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table'
               UNION ALL SELECT name || ' ' || coalesce(sql, '') FROM sqlite_master WHERE type = 'index' ORDER BY 1";
    connection.prepare(sql).unwrap().query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
}

/// Bar 52: a database of each earlier format is kept here, and becomes one of today.
#[test]
fn each_format_there_was_becomes_the_one_of_today() {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("engine/store/sqlite/samples");
    let fresh = Kept::new();
    drop(fresh.open());
    for format in [1, 3, 4, 5] {
        let kept = Kept::new();
        std::fs::copy(samples.join(format!("format{format}.db")), kept.path()).unwrap();
        let store = kept.open();
        let runs = store.list(&Filter::default()).unwrap();
        assert_eq!(runs.len(), 2, "format {format}");
        for run in &runs {
            assert!(!store.run(run.id).unwrap().steps.is_empty());
            store.verify(run.id).unwrap();
        }
        assert_eq!(kept.found(), [""; 0]);
        assert_eq!(shape(&kept.editor()), shape(&fresh.editor()));
        record(&store, "next", 1000, Some(RunState::Succeeded));
        assert_eq!(kept.found(), [""; 0]);
        drop(store);
        kept.finds("UPDATE events SET body = body || ' ' WHERE run = 1 AND seq = 1", "run #1, event 1");
    }
}

#[test]
fn a_newer_database_stays_as_it_is_to_the_byte() {
    let kept = kept();
    kept.editor().execute_batch("PRAGMA user_version = 99; PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    let before = std::fs::read(kept.path()).unwrap();
    assert!(Sqlite::open(&kept.path()).unwrap_err().hints[0].contains("newer version"));
    assert!(Sqlite::look(&kept.path()).is_err());
    assert_eq!(std::fs::read(kept.path()).unwrap(), before);
}

fn removable(store: &Sqlite, seconds: i64, keep_min: u32) -> Removed {
    store.prune(&retention(seconds, keep_min), &act("x").entry(Some("done"))).unwrap()
}

fn retention(seconds: i64, keep_min: u32) -> Retention {
    Retention { before: start() + SignedDuration::from_secs(seconds), keep_min }
}

#[test]
fn pruning_keeps_what_is_needed_and_says_what_it_took() {
    let kept = Kept::new();
    let store = kept.open();
    let states = [
        Some(RunState::Succeeded),
        Some(RunState::Succeeded),
        Some(RunState::NeedsAttention),
        None,
        Some(RunState::Failed),
        Some(RunState::Failed),
    ];
    for (seconds, status) in (0..).step_by(10).zip(states) {
        record(&store, "backup", seconds, status);
    }
    let late = record(&store, "backup", 1000, Some(RunState::Failed));
    let dry = store.prunable(&retention(500, 1)).unwrap();
    let prune = Act { who: "maya".into(), action: Action::Prune, subject: "state".into(), why: String::new() };
    let removed = store.prune(&retention(500, 1), &prune.entry(Some("done"))).unwrap();
    assert_eq!(dry, removed);
    // The last success, the one that needs a person, the one that is not over and the newest stay.
    assert_eq!(removed.runs, [1, 5, 6]);
    let left: Vec<u64> = store.list(&Filter::default()).unwrap().iter().map(|run| run.run).collect();
    assert_eq!(left, [late.run, 4, 3, 2]);
    assert_eq!(kept.found(), [""; 0], "what was removed on purpose is not missing");
    assert_eq!(store.audited(&AuditFilter { limit: 1, ..AuditFilter::default() }).unwrap()[0].action, Action::Prune);
    drop(store);
    kept.finds("DELETE FROM audit WHERE seq = (SELECT max(seq) FROM audit)", "(truncated)");
    let store = kept.open();
    let again = store.prune(&retention(2000, 0), &prune.entry(Some("done"))).unwrap();
    assert_eq!((again.runs, kept.found()), (vec![late.run], vec![]));
    drop(store);
    kept.finds("DELETE FROM run_texts WHERE run = 4; DELETE FROM events WHERE run = 4", "run #4");
}

#[test]
fn pruning_nothing_changes_nothing_but_the_log() {
    let kept = kept();
    let store = kept.open();
    let before = store.list(&Filter::default()).unwrap();
    assert_eq!(removable(&store, -1, 0), Removed::default());
    assert_eq!(store.list(&Filter::default()).unwrap(), before);
    assert_eq!(kept.found(), [""; 0]);
}

/// Bar 50: fifty rows a second are written, a hundred copies are made at once, and every one is whole.
#[test]
fn copies_made_while_others_write_are_whole_and_hold_all_that_was_over() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    let kept = Kept::new();
    let state = StateDir::open(kept.directory.path()).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let over = AtomicU64::new(0);
    let copying = Arc::new(());
    let is_copying = Arc::downgrade(&copying);
    let copy = |turn: u32| {
        let ended = over.load(Ordering::SeqCst);
        let to = elsewhere.path().join(format!("copy{turn}"));
        let (_, seen) = back_up(&state, &kept.open(), &to).unwrap();
        assert!(seen.runs >= ended, "{} runs, {ended} were over", seen.runs);
        let copy = Sqlite::look(&to.join("runbook.db")).unwrap();
        let all = copy.list(&Filter { states: vec![RunState::Succeeded], ..Filter::default() }).unwrap();
        assert!(all.len() as u64 >= ended);
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let store = kept.open();
            while is_copying.strong_count() > 0 {
                let run = record(&store, "backup", 0, Some(RunState::Succeeded));
                over.store(run.run, Ordering::SeqCst);
                // A run is four writes; this is the pace, nothing is waited for.
                std::thread::sleep(std::time::Duration::from_millis(80));
            }
        });
        for turn in 0..100 {
            let (copy, copying) = (&copy, copying.clone());
            scope.spawn(move || {
                copy(turn);
                drop(copying);
            });
        }
        drop(copying);
    });
}

#[test]
fn a_changed_copy_is_not_good() {
    let kept = kept();
    let state = StateDir::open(kept.directory.path()).unwrap();
    state.keep(1, "report.txt", b"all is well").unwrap();
    std::fs::create_dir(state.root().join("secrets")).unwrap();
    std::fs::write(state.root().join("secrets").join("db"), "a long secret").unwrap();
    let copy = kept.directory.path().join("copy");
    let (backup, seen) = back_up(&state, &kept.open(), &copy).unwrap();
    assert!(!copy.join("secrets").exists());
    assert_eq!(Backup::verify(&copy).unwrap(), (backup.clone(), seen.clone()));
    assert_eq!((seen.runs, backup.files.len()), (3, 2));
    let file = copy.join("runs/1/files/report.txt");
    for (change, wanted) in [("all is bad!", "was changed"), ("", "was changed")] {
        std::fs::write(&file, change).unwrap();
        assert!(Backup::verify(&copy).unwrap_err().message.contains(wanted));
    }
    std::fs::remove_file(&file).unwrap();
    assert!(Backup::verify(&copy).unwrap_err().message.contains("is missing"));
    assert_eq!(back_up(&state, &kept.open(), &copy).unwrap_err().kind, Kind::Usage);
}

/// Bar 54, with the number of runs a test has time for; the shape of the queries is the same.
#[test]
fn old_runs_do_not_slow_a_page_of_the_list_down() {
    let kept = Kept::new();
    drop(kept.open());
    fill(&kept.editor(), 10_000);
    let store = kept.open();
    let begun = std::time::Instant::now();
    for filter in [
        Filter { limit: 30, ..Filter::default() },
        Filter { runbook: Some("backup-3".into()), limit: 30, ..Filter::default() },
        Filter { system: Some("host".into()), limit: 30, ..Filter::default() },
    ] {
        assert_eq!(store.list(&filter).unwrap().len(), 30);
    }
    assert!(begun.elapsed().as_millis() < 200, "{:?}", begun.elapsed());
}

/// Runs as if they had been there for long. Their hashes are not right; nobody looks at them here.
fn fill(connection: &Connection, count: u32) {
    let sql = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
        INSERT INTO runs (id, runbook, version, system, params, trigger_by, actor, started, pid, pid_started, status, exit_code, ended)
        SELECT printf('00000000-0000-7000-8000-%012x', i), 'backup-' || (i % 20), 'v', 'host', '{}', 'command', 'maya',
               '2026-01-01T00:00:00.000000000Z', 1, 1, 'succeeded', 0, '2026-01-01T00:00:01.000000000Z' FROM n";
    connection.execute(sql, [count]).unwrap();
}
