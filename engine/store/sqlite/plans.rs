//! Plans and approvals in SQLite.

use rusqlite::{OptionalExtension, Row, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Sqlite, failed, sortable, unreadable};
use crate::error::{Error, Kind, Result};
use crate::model::{Approval, Pinned, Plan, RunId};
use crate::store::{Plans, plans::spent};

pub(super) const SCHEMA: &str = include_str!("plans.sql");

impl Plans for Sqlite {
    fn keep_plan(&self, plan: &Plan) -> Result<()> {
        let body = body_of(plan)?;
        self.write(|transaction| {
            let sql = "INSERT INTO plans (hash, made, body) VALUES (?1, ?2, ?3)";
            transaction.execute(sql, params![plan.hash, sortable(plan.made), body]).map(drop).map_err(|error| failed(&error))
        })
    }

    fn plans(&self) -> Result<Vec<Plan>> {
        let connection = self.lock();
        let rows = || -> rusqlite::Result<Vec<(String, Option<String>)>> {
            let mut query = connection.prepare_cached("SELECT body, run FROM plans ORDER BY made DESC")?;
            query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        };
        let read = |(body, run): (String, Option<String>)| {
            let run = run.and_then(|run| run.parse().ok()).map(RunId);
            read::<Plan>(&body).map(|plan| Plan { run, ..plan })
        };
        rows().map_err(|error| failed(&error))?.into_iter().map(read).collect()
    }

    fn spend_plan(&self, hash: &str, run: RunId) -> Result<()> {
        self.write(|transaction| {
            let by = transaction
                .query_row("SELECT run FROM plans WHERE hash = ?1", [hash], |row| row.get::<_, Option<String>>(0))
                .optional()
                .map_err(|error| failed(&error))?
                .ok_or_else(|| Error::new(Kind::NotFound, format!("there is no plan `{hash}`")))?;
            if let Some(by) = by {
                return Err(spent(&by));
            }
            transaction
                .execute("UPDATE plans SET run = ?2 WHERE hash = ?1", params![hash, run.to_string()])
                .map(drop)
                .map_err(|error| failed(&error))
        })
    }

    fn keep_approval(&self, approval: &Approval) -> Result<()> {
        let body = body_of(approval)?;
        self.write(|transaction| {
            transaction
                .execute("INSERT INTO approvals (of, body) VALUES (?1, ?2)", params![approval.of, body])
                .map(drop)
                .map_err(|error| failed(&error))
        })
    }

    fn approvals(&self, of: &str) -> Result<Vec<Approval>> {
        let connection = self.lock();
        let bodies = || -> rusqlite::Result<Vec<String>> {
            connection.prepare_cached("SELECT body FROM approvals WHERE of = ?1 ORDER BY number")?.query_map([of], text)?.collect()
        };
        bodies().map_err(|error| failed(&error))?.iter().map(|body| read(body)).collect()
    }

    fn pin(&self, pinned: &Pinned) -> Result<()> {
        let body = body_of(pinned)?;
        self.write(|transaction| {
            transaction
                .execute(
                    "INSERT OR REPLACE INTO pins (runbook, system, body) VALUES (?1, ?2, ?3)",
                    params![pinned.runbook, pinned.system, body],
                )
                .map(drop)
                .map_err(|error| failed(&error))
        })
    }

    fn pinned(&self, runbook: &str, system: &str) -> Result<Option<Pinned>> {
        let connection = self.lock();
        let body = connection.query_row("SELECT body FROM pins WHERE runbook = ?1 AND system = ?2", [runbook, system], text).optional();
        body.map_err(|error| failed(&error))?.map(|body| read(&body)).transpose()
    }
}

fn text(row: &Row<'_>) -> rusqlite::Result<String> {
    row.get(0)
}

fn body_of(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::new(Kind::Bug, error.to_string()))
}

fn read<T: DeserializeOwned>(body: &str) -> Result<T> {
    serde_json::from_str(body).map_err(|error| unreadable("a plan or an approval", &error))
}
