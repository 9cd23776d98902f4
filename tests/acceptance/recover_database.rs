//! recover-db-connection and recover-db-performance: the least that helps, and nothing of anybody else's.

use std::process::{Command, Stdio};

use serde_json::json;

use super::in_every_system;
use super::lab::{Site, lab_status};
use super::postgres::{Role, Sessions, config};
use super::systems;
use crate::harness::wait_until;

const CONNECTION: &str = "recover-db-connection";
const PERFORMANCE: &str = "recover-db-performance";

in_every_system! {
    fn only_idle_sessions_of_the_application_are_ended(site) {
        let system = site.system;
        let admin = Sessions::admin(system, "pgAdmin 4 - DB:postgres");
        let application = Sessions::open(system, Role::Application, "lab-app", 30);
        let others = ["psql", "pg_dump", "DBeaver 24"].map(|name| Sessions::open(system, Role::Application, name, 1));
        let busy = admin.start(config(system, Role::Application, "lab-app"), "SELECT pg_sleep(600)");
        admin.wait_for(30, "application_name = 'lab-app' AND state = 'idle' AND state_change < now() - interval '1 second'");
        let words = ["used=10", "idle=1s"];
        let look = site.run(CONNECTION, &words);
        assert_eq!(look.code, 0, "{}", look.stderr);
        assert_eq!(look.answer["outputs"]["done"], json!(["ended 30 idle sessions"]));
        look.tells(system.recovery, &[system.title, "已恢复", "ended 30 idle sessions"]);
        assert_eq!((application.alive(), others.each_ref().map(Sessions::alive), admin.alive()), (0, [1; 3], 1));
        assert!(!busy.is_finished(), "what works was ended");
        let look = site.run(CONNECTION, &words);
        assert_eq!((look.code, &look.answer["outputs"]["done"]), (0, &json!([])), "{}", look.stderr);
        look.is_quiet();
    }

    fn who_blocks_others_is_named_and_ended_only_when_that_is_asked_for(site) {
        let system = site.system;
        let admin = Sessions::admin(system, "psql");
        let holder = Sessions::open(system, Role::Application, "lab-app", 1);
        admin.run("DROP TABLE IF EXISTS lab_blocked; CREATE TABLE lab_blocked (n int); INSERT INTO lab_blocked VALUES (1); GRANT ALL ON lab_blocked TO PUBLIC");
        holder.run("BEGIN; UPDATE lab_blocked SET n = 2");
        let waiter = admin.start(config(system, Role::Application, "lab-app"), "UPDATE lab_blocked SET n = 3");
        admin.wait_for(1, "wait_event_type = 'Lock'");
        admin.wait_for(1, "state = 'idle in transaction' AND state_change < now() - interval '1 second'");
        let look = site.run(CONNECTION, &["idle=1s"]);
        assert_eq!(look.code, 3, "{}", look.stderr);
        look.says("blocked sessions main", "(lab-app) is idle in transaction").says("blocked sessions main", "UPDATE lab_blocked SET n = 2");
        assert_eq!(holder.alive(), 1);
        // A question ends the idleness.
        admin.wait_for(1, "state = 'idle in transaction' AND state_change < now() - interval '1 second'");
        let look = site.run(CONNECTION, &["idle=1s", "end_blockers=true"]);
        assert_eq!(look.code, 0, "{}", look.stderr);
        assert_eq!((holder.alive(), admin.outcome(waiter)), (0, Ok(())));
        admin.run("DROP TABLE lab_blocked");
    }

    fn a_server_that_runs_is_never_restarted_and_one_that_is_down_is_started(site) {
        let system = site.system;
        for (fault, says) in [("db-password", "refuses the login"), ("db-refusing", "nothing answers there")] {
            site.breaks(fault, "");
            let lives = site.lives();
            let look = site.run(CONNECTION, &["patience=5s"]);
            assert_eq!(look.code, 1, "{}", look.stderr);
            look.says("database main", says).tells(system.critical, &[system.title, "需要人工介入"]);
            site.run(CONNECTION, &["patience=5s"]).is_quiet();
            assert_eq!(site.lives(), lives, "{fault}");
            site.mend();
            site.run(CONNECTION, &[]).tells(system.recovery, &["已恢复"]);
        }
        let Some(postgres) = system.watched_postgres else { return };
        site.breaks("service-stopped", postgres);
        let look = site.run(CONNECTION, &[]);
        assert_eq!(look.code, 0, "{}", look.stderr);
        assert_eq!(look.answer["outputs"]["done"], json!(["started postgres"]));
        look.tells(system.recovery, &[system.title, "已恢复", "started postgres"]);
    }

    fn a_long_statement_is_cancelled_beside_a_dump_that_survives(site) {
        let system = site.system;
        let admin = Sessions::admin(system, "psql");
        admin.run("DROP TABLE IF EXISTS lab_dumped; CREATE TABLE lab_dumped (n int); GRANT ALL ON lab_dumped TO PUBLIC");
        // A dump waits for the lock of somebody else, for as long as this test likes.
        let lock = Sessions::open(system, Role::Superuser, "psql", 1);
        lock.run("BEGIN; LOCK TABLE lab_dumped IN ACCESS EXCLUSIVE MODE");
        let about = &lab_status()["systems"][system.name]["postgres"];
        let mut dump = Command::new("pg_dump")
            .args(["-h", "127.0.0.1", "-p", &about["port"].to_string(), "-U", about["user"].as_str().unwrap(), "-t", "lab_dumped"])
            .arg(about["database"].as_str().unwrap())
            .env("PGPASSWORD", about["password"].as_str().unwrap())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let long = admin.start(config(system, Role::Application, "lab-app"), "SELECT pg_sleep(600), 'somebody@example.com'");
        for name in ["pg_dump", "lab-app"] {
            admin.wait_for(1, &format!("application_name = '{name}' AND state = 'active' AND query_start < now() - interval '1 second'"));
        }
        let words = ["max_age=1s", "analyse=false"];
        let look = site.run(PERFORMANCE, &words);
        assert_eq!(look.code, 0, "{}", look.stderr);
        assert_eq!(look.answer["outputs"]["done"], json!(["cancelled 1 of 1 statements"]));
        assert!(look.answer["outputs"]["left alone"].to_string().contains("pg_dump"), "{:#}", look.answer["outputs"]);
        look.tells(system.recovery, &[system.title, "pg_sleep(600), ?"]);
        assert!(!look.answer.to_string().contains("somebody@example.com"), "the data of a statement is shown");
        assert_eq!(admin.outcome(long), Err("canceling statement due to user request".to_owned()));
        lock.run("ROLLBACK");
        assert!(dump.wait().unwrap().success(), "the dump was disturbed");
        let look = site.run(PERFORMANCE, &words);
        assert_eq!((look.code, &look.answer["outputs"]["done"]), (0, &json!([])), "{}", look.stderr);
        look.is_quiet();
        admin.run("DROP TABLE lab_dumped");
    }
}

#[test]
fn when_no_connection_is_left_the_reserved_one_is_used() {
    let Some(mut site) = Site::of(&systems::AI_HUB) else { return };
    let admin = Sessions::admin(site.system, "psql");
    let application = Sessions::open(site.system, Role::Application, "lab-app", 1000);
    admin.wait_for(0, "application_name = 'lab-app' AND state_change > now() - interval '1 second'");
    let look = site.run(CONNECTION, &["idle=1s"]);
    assert_eq!(look.code, 0, "{}", look.stderr);
    assert_eq!(application.alive(), 0);
    look.tells(site.system.recovery, &["已恢复", "idle sessions"]);
}

#[test]
fn what_does_not_stop_is_ended_only_when_that_is_asked_for() {
    let Some(mut site) = Site::of(&systems::FOOTBALL) else { return };
    let admin = Sessions::admin(site.system, "psql");
    let stubborn = "DO $$ BEGIN LOOP BEGIN PERFORM pg_sleep(600); EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP; END $$";
    let long = admin.start(config(site.system, Role::Application, "lab-app"), stubborn);
    admin.wait_for(1, "application_name = 'lab-app' AND query_start < now() - interval '1 second'");
    let look = site.run(PERFORMANCE, &["max_age=1s", "patience=1s"]);
    assert_eq!(look.code, 1, "{}", look.stderr);
    look.tells(site.system.critical, &["需要人工介入"]);
    assert!(!long.is_finished());
    let look = site.run(PERFORMANCE, &["max_age=1s", "patience=1s", "end=yes"]);
    assert_eq!(look.code, 0, "{}", look.stderr);
    assert_eq!(admin.outcome(long), Err("terminating connection due to administrator command".to_owned()));
}

#[test]
fn stale_statistics_are_made_anew() {
    let Some(mut site) = Site::of(&systems::EDUCATION) else { return };
    let application = Sessions::open(site.system, Role::Application, "lab-app", 1);
    application.run(
        "DROP TABLE IF EXISTS lab_stale; CREATE TABLE lab_stale (n int) WITH (autovacuum_enabled = off);
        INSERT INTO lab_stale SELECT generate_series(1, 5000)",
    );
    let changed = "SELECT coalesce(sum(n_mod_since_analyze), 0)::bigint FROM pg_stat_user_tables WHERE relname = 'lab_stale'";
    wait_until("the statistics of lab_stale", || application.number(changed) >= 5000);
    let look = site.run(PERFORMANCE, &[]);
    assert_eq!(look.code, 0, "{}", look.stderr);
    assert!(look.answer["outputs"]["done"].as_array().unwrap().contains(&"analysed public.lab_stale".into()), "{:#}", look.answer);
    assert_eq!(application.number("SELECT count(*) FROM pg_stats WHERE tablename = 'lab_stale'"), 1);
    application.run("DROP TABLE lab_stale");
}
