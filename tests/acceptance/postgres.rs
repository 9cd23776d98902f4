//! Sessions of a database of the lab.

use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Config, NoTls};

use super::lab::lab_status;
use super::systems::System;
use crate::harness::wait_until;

/// Sessions, kept open as long as this lives.
pub(crate) struct Sessions {
    runtime: Runtime,
    clients: Vec<Client>,
}

/// Who connects.
#[derive(Clone, Copy)]
pub(crate) enum Role {
    Application,
    Superuser,
}

/// How to reach the database of a system.
pub(crate) fn config(system: &System, role: Role, application: &str) -> Config {
    let about = &lab_status()["systems"][system.name]["postgres"];
    let text = |key: &str| about[key].as_str().unwrap().to_owned();
    let (user, password) = match role {
        Role::Application => (text("user"), text("password")),
        Role::Superuser => (text("superuser"), text("superuser_password")),
    };
    let mut config = Config::new();
    config.host(text("host")).port(u16::try_from(about["port"].as_u64().unwrap()).unwrap());
    config.user(user).password(password).dbname(text("database")).application_name(application);
    config
}

impl Sessions {
    /// At most so many sessions of a role, under a name: as many as the server has room for.
    pub(crate) fn open(system: &System, role: Role, application: &str, most: usize) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let config = config(system, role, application);
        let clients = runtime.block_on(async {
            let mut clients = Vec::new();
            for _ in 0..most {
                let Ok((client, connection)) = config.connect(NoTls).await else { break };
                tokio::spawn(connection);
                clients.push(client);
            }
            clients
        });
        assert!(!clients.is_empty(), "no session of {application} could be opened");
        Self { runtime, clients }
    }

    /// The superuser's session, with nothing left of a test before: a statement outlives who started it.
    pub(crate) fn admin(system: &System, application: &str) -> Self {
        let admin = Self::open(system, Role::Superuser, application, 1);
        admin.run("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'lab-app'");
        admin
    }

    /// Ends all but so many of them.
    pub(crate) fn keep(&mut self, most: usize) {
        self.clients.truncate(most);
    }

    /// How many of them still answer.
    pub(crate) fn alive(&self) -> usize {
        self.runtime.block_on(async {
            let mut alive = 0;
            for client in &self.clients {
                alive += usize::from(client.simple_query("SELECT 1").await.is_ok());
            }
            alive
        })
    }

    /// Runs statements in the first of them.
    #[track_caller]
    pub(crate) fn run(&self, sql: &str) {
        self.runtime.block_on(self.clients[0].batch_execute(sql)).unwrap();
    }

    /// Asks the first of them for one number.
    #[track_caller]
    pub(crate) fn number(&self, sql: &str) -> i64 {
        self.runtime.block_on(self.clients[0].query_one(sql, &[])).unwrap().get(0)
    }

    /// Starts a statement in a new session of its own.
    pub(crate) fn start(&self, config: Config, sql: &'static str) -> JoinHandle<Result<(), String>> {
        let said = |error: tokio_postgres::Error| error.as_db_error().map_or_else(|| error.to_string(), |error| error.message().to_owned());
        self.runtime.spawn(async move {
            let (client, connection) = config.connect(NoTls).await.map_err(said)?;
            tokio::spawn(connection);
            client.batch_execute(sql).await.map_err(said)
        })
    }

    /// What became of a statement.
    pub(crate) fn outcome(&self, started: JoinHandle<Result<(), String>>) -> Result<(), String> {
        self.runtime.block_on(started).unwrap()
    }

    /// Waits until so many sessions fulfil a condition of `pg_stat_activity`.
    #[track_caller]
    pub(crate) fn wait_for(&self, count: i64, condition: &str) {
        let sql = format!("SELECT count(*) FROM pg_stat_activity WHERE {condition}");
        wait_until(condition, || self.number(&sql) == count);
    }
}
