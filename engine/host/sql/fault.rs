//! What a failure of PostgreSQL or of the way to it means.

use std::error::Error as StdError;
use std::io;

use tokio_postgres::error::{DbError, ErrorPosition};

use crate::error::{Error, Kind, chain};
use crate::host::sql::statement;
use crate::host::trust;

/// The error for a failed login at `address` as `user`.
pub(super) fn login(error: &tokio_postgres::Error, address: &str, user: &str) -> Error {
    if let Some(refusal) = error.as_db_error() {
        return refused(refusal, "", address, user);
    }
    let text = chain(error);
    if text.contains("password missing") {
        return Error::new(Kind::Refused, format!("`{address}` asks `{user}` for a password and none is set"))
            .hint("set `password = \"${secret:NAME}\"` of the database in the system file");
    }
    if text.starts_with("authentication error") {
        return Error::new(Kind::Refused, format!("`{address}`: {text}")).permanent();
    }
    let reason = causes(error).filter_map(|cause| cause.downcast_ref()).find_map(trust::handshake_error).map(trust::in_words);
    if reason.is_some() || text.contains("TLS") {
        return Error::new(Kind::Connect, format!("`{address}`: {}", reason.unwrap_or(text)))
            .permanent()
            .hint("see `tls` and `ca` of the database in the system file");
    }
    broken(error, address)
}

/// The error for a failed statement.
pub(super) fn statement(error: &tokio_postgres::Error, sql: &str, address: &str, user: &str) -> Error {
    match error.as_db_error() {
        Some(refusal) => refused(refusal, sql, address, user),
        None if error.to_string().starts_with("unexpected message") => {
            Error::new(Kind::Invalid, "the statement answers with a stream, which is not read here")
        }
        None => broken(error, address),
    }
}

fn broken(error: &tokio_postgres::Error, address: &str) -> Error {
    let reason = causes(error).find_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind);
    match reason {
        Some(io::ErrorKind::ConnectionRefused) => Error::new(Kind::Connect, format!("nothing listens on `{address}`"))
            .hint("the server is down, or `host` and `port` of the database are others"),
        Some(io::ErrorKind::TimedOut) => Error::new(Kind::Timeout, format!("`{address}` does not answer")),
        // A proxy does so for a server that is down, and a server that is going down.
        Some(io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe) => {
            Error::new(Kind::Connect, format!("`{address}` hung up without an answer"))
                .hint("a proxy answers there and the server behind it does not, or the server is going down")
        }
        _ => Error::new(Kind::Connect, format!("`{address}`: {}", chain(error))),
    }
}

/// An error and what caused it, outermost first.
fn causes<'e>(error: &'e (dyn StdError + 'static)) -> impl Iterator<Item = &'e (dyn StdError + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let error = next?;
        next = error.source();
        Some(error)
    })
}

/// The meaning of an SQLSTATE: <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
fn refused(refusal: &DbError, sql: &str, address: &str, user: &str) -> Error {
    let (code, message) = (refusal.code().code(), refusal.message());
    let say = |kind: Kind| Error::new(kind, format!("{message} ({code})"));
    let at = |kind: Kind| Error::new(kind, format!("`{address}`: {message} ({code})"));
    let error = match code {
        "28P01" => Error::new(Kind::Refused, format!("`{address}`: password authentication failed for `{user}` ({code})"))
            .hint("the password of the system file is not the one the server knows: compare the secret with the role"),
        "28000" => {
            at(Kind::Refused).hint("the server lets this role not in from here: see its pg_hba.conf, and whether the role may log in")
        }
        "3D000" => at(Kind::NotFound).hint("see `name` of the database in the system file"),
        "53300" => at(Kind::Limit).hint("no connection is free: end idle sessions, or raise `max_connections` or the limit of the role"),
        "57014" => say(Kind::Timeout).hint("raise the option `timeout`, or make the statement faster: `EXPLAIN` tells how it runs"),
        "57P01" | "57P02" | "57P03" | "57P05" => at(Kind::Connect),
        "25006" => {
            say(Kind::Denied).hint("this only reads: statements that change something go through `sql::execute` or `sql::transaction`")
        }
        "42501" => say(Kind::Refused).hint(format!("the role `{user}` may not do it: grant it, or use another role")),
        "42601" if statement::is_several(sql) => {
            say(Kind::Invalid).hint("one statement per call; several that belong together go into `sql::transaction`")
        }
        "40001" | "40P01" | "55P03" => say(Kind::Conflict),
        "55006" => say(Kind::Conflict).permanent(),
        _ => match &code[..2] {
            "08" => at(Kind::Connect),
            "23" => say(Kind::Conflict).permanent(),
            "0A" | "22" | "42" | "25" => say(Kind::Invalid),
            "53" | "54" => say(Kind::Limit),
            _ => say(Kind::Remote).permanent(),
        },
    };
    let error = match refusal.position() {
        Some(ErrorPosition::Original(position)) => match snippet(sql, *position) {
            Some(snippet) => error.hint(snippet),
            None => error,
        },
        _ => error,
    };
    let error = refusal.detail().into_iter().fold(error, Error::hint);
    refusal.hint().into_iter().fold(error, Error::hint)
}

/// Where in the statement the server found it, with what stands there.
fn snippet(sql: &str, position: u32) -> Option<String> {
    const AROUND: usize = 30;
    let position = usize::try_from(position).ok()?.checked_sub(1)?;
    let before: Vec<char> = sql.chars().take(position).collect();
    if before.len() < position {
        return None;
    }
    let line = before.iter().filter(|c| **c == '\n').count() + 1;
    let column = before.iter().rev().take_while(|c| **c != '\n').count();
    let text: Vec<char> = sql.lines().nth(line - 1)?.chars().collect();
    let start = column.saturating_sub(AROUND);
    let end = text.len().min(column + AROUND);
    let shown: String = text.get(start..end)?.iter().collect();
    Some(format!("at line {line}, column {} of the statement: `{}`", column + 1, shown.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_becomes_a_place_with_its_text() {
        assert_eq!(snippet("SELECT 1,\n  colum\nFROM t", 13).unwrap(), "at line 2, column 3 of the statement: `colum`");
        assert_eq!(snippet("SELECT", 7).unwrap(), "at line 1, column 7 of the statement: `SELECT`");
        assert_eq!(snippet("SELECT", 70), None);
    }
}
