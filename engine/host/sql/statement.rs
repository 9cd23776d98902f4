//! What can be known of a statement before the server sees it, and names made safe for one.
//!
//! `READ ONLY` stops writes to tables, not functions that act on the server. The check here refuses
//! those it knows, on the words of the statement, and rather one too many than one too few. It is a
//! guard against accidents; the boundary is a role that may only read.

use crate::error::{Error, Kind, Result};

/// What a statement that only reads begins with.
const READING: [&str; 6] = ["select", "with", "table", "values", "show", "explain"];

/// What a statement of [`super::client`] may not begin with, since the sessions are not the script's.
const SESSION: [&str; 14] = [
    "begin",
    "start",
    "commit",
    "end",
    "rollback",
    "abort",
    "savepoint",
    "release",
    "prepare",
    "execute",
    "deallocate",
    "listen",
    "discard",
    "copy",
];

/// Functions that act although the transaction is read-only, read files of the server, or run a text
/// as a statement, which would hide the names of the others.
const ACTING: &[&str] = &[
    "autoprewarm_dump_now",
    "autoprewarm_start_worker",
    "brin_desummarize_range",
    "brin_summarize_new_values",
    "brin_summarize_range",
    "connectby",
    "gin_clean_pending_list",
    "nextval",
    "pg_backup_start",
    "pg_backup_stop",
    "pg_cancel_backend",
    "pg_copy_logical_replication_slot",
    "pg_copy_physical_replication_slot",
    "pg_create_logical_replication_slot",
    "pg_create_physical_replication_slot",
    "pg_create_restore_point",
    "pg_drop_replication_slot",
    "pg_export_snapshot",
    "pg_log_backend_memory_contexts",
    "pg_log_standby_snapshot",
    "pg_logical_emit_message",
    "pg_ls_dir",
    "pg_notify",
    "pg_prewarm",
    "pg_promote",
    "pg_read_binary_file",
    "pg_read_file",
    "pg_reload_conf",
    "pg_replication_slot_advance",
    "pg_rotate_logfile",
    "pg_rotate_logfile_old",
    "pg_start_backup",
    "pg_stat_file",
    "pg_stop_backup",
    "pg_switch_wal",
    "pg_switch_xlog",
    "pg_sync_replication_slots",
    "pg_terminate_backend",
    "pg_truncate_visibility_map",
    "pg_wal_replay_pause",
    "pg_wal_replay_resume",
    "pg_xlog_replay_pause",
    "pg_xlog_replay_resume",
    "set_config",
    "setval",
    "ts_rewrite",
    "ts_stat",
];

/// Beginnings of the names of more of them.
const ACTING_PREFIXES: &[&str] = &[
    "crosstab",
    "cursor_to_xml",
    "dblink",
    "heap_force_",
    "lo_",
    "loread",
    "lowrite",
    "pg_advisory_",
    "pg_file_",
    "pg_logical_slot_get_",
    "pg_replication_origin_advance",
    "pg_replication_origin_create",
    "pg_replication_origin_drop",
    "pg_replication_origin_session_",
    "pg_replication_origin_xact_",
    "pg_stat_reset",
    "pg_stat_statements_reset",
    "pg_try_advisory_",
    "postgres_fdw_disconnect",
    "query_to_xml",
];

/// Refuses a statement that is not plainly one that reads.
///
/// # Errors
///
/// `denied`, naming what is refused.
pub(super) fn must_read(sql: &str) -> Result<()> {
    let tokens = tokens(sql)?;
    if has_several(&tokens) {
        return Err(several());
    }
    let first = tokens.iter().find(|token| **token != Token::Symbol('('));
    let Some(Token::Word(first)) = first else { return Err(not_reading("what does not begin with a word")) };
    if !READING.contains(&first.as_str()) {
        return Err(not_reading(&format!("`{}`", first.to_ascii_uppercase())));
    }
    let analyzes = |token: &Token| matches!(token, Token::Word(word) if word == "analyze" || word == "analyse");
    if first == "explain" && tokens.iter().any(analyzes) {
        return Err(not_reading("`EXPLAIN ANALYZE`, which runs the statement,"));
    }
    match tokens.iter().filter_map(Token::name).find(|name| is_acting(name)) {
        Some(name) => Err(not_reading(&format!("`{name}`"))),
        None => Ok(()),
    }
}

/// Refuses statements that belong to a session or that the protocol of parameters can not carry.
///
/// # Errors
///
/// `invalid`, with what to use instead.
pub(super) fn must_stand_alone(sql: &str) -> Result<()> {
    let tokens = tokens(sql)?;
    let Some(Token::Word(first)) = tokens.first() else { return Ok(()) };
    if !SESSION.contains(&first.as_str()) {
        return Ok(());
    }
    let error = Error::new(Kind::Invalid, format!("`{}` can not be run here", first.to_ascii_uppercase()));
    Err(match first.as_str() {
        "copy" => error.hint("read rows with `sql::query`, write them with `INSERT`, save tables with `pg_dump`"),
        _ => error.hint("each call has a session of its own; what belongs together goes into one `sql::transaction`"),
    })
}

/// Whether a text holds more than one statement.
pub(super) fn is_several(sql: &str) -> bool {
    tokens(sql).is_ok_and(|tokens| has_several(&tokens))
}

/// A name as an identifier of a statement.
///
/// # Errors
///
/// `invalid`, when PostgreSQL would refuse or shorten it.
pub(super) fn ident(name: &str) -> Result<String> {
    const MOST_BYTES: usize = 63;
    if name.is_empty() || name.contains('\0') {
        return Err(Error::new(Kind::Invalid, "an identifier is neither empty nor holds a NUL"));
    }
    if name.len() > MOST_BYTES {
        return Err(Error::new(Kind::Invalid, format!("an identifier of {} bytes; {MOST_BYTES} is the most", name.len()))
            .hint("PostgreSQL would cut it off and mean another thing"));
    }
    Ok(format!("\"{}\"", name.replace('"', "\"\"")))
}

fn is_acting(name: &str) -> bool {
    ACTING.contains(&name) || ACTING_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

fn not_reading(what: &str) -> Error {
    Error::new(Kind::Denied, format!("{what} is not allowed in a statement that only reads"))
        .hint("statements that change something go through `sql::execute` or `sql::transaction`, with the permission `write`")
}

fn several() -> Error {
    Error::new(Kind::Invalid, "more than one statement")
        .hint("one statement per call; several that belong together go into `sql::transaction`")
}

fn has_several(tokens: &[Token]) -> bool {
    let end = tokens.iter().rposition(|token| *token != Token::Symbol(';')).map_or(0, |last| last + 1);
    tokens[..end].contains(&Token::Symbol(';'))
}

/// The parts of a statement that matter here; literals, numbers and comments are left out.
#[derive(Debug, PartialEq, Eq)]
enum Token {
    /// A keyword or a plain identifier, in lower case.
    Word(String),
    /// An identifier in double quotes.
    Quoted(String),
    Symbol(char),
}

impl Token {
    fn name(&self) -> Option<&str> {
        match self {
            Self::Word(name) | Self::Quoted(name) => Some(name),
            Self::Symbol(_) => None,
        }
    }
}

/// Cuts a statement as the scanner of PostgreSQL does, with `standard_conforming_strings` on, which
/// every reading transaction sets.
fn tokens(sql: &str) -> Result<Vec<Token>> {
    let mut found = Vec::new();
    let mut rest = sql;
    while let Some(next) = rest.chars().next() {
        if let Some(after) = skip_blank(rest)? {
            rest = after;
        } else if next == '\'' {
            rest = after_quote(&rest[1..], '\'', false)?.1;
        } else if next == '"' {
            let (name, after) = after_quote(&rest[1..], '"', false)?;
            found.push(Token::Quoted(name));
            rest = after;
        } else if let Some(after) = skip_dollar_quote(rest)? {
            rest = after;
        } else if next.is_ascii_digit() {
            rest = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        } else if is_word(next) {
            let end = rest.find(|c: char| !(is_word(c) || c.is_ascii_digit() || c == '$')).unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            rest = skip_marked_literal(word, after)?.unwrap_or_else(|| {
                found.push(Token::Word(word.to_ascii_lowercase()));
                after
            });
        } else {
            found.push(Token::Symbol(next));
            rest = &rest[next.len_utf8()..];
        }
    }
    Ok(found)
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_' || !c.is_ascii()
}

/// What follows blank space or a comment, if there is some here.
fn skip_blank(text: &str) -> Result<Option<&str>> {
    let trimmed = text.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == '\x0b');
    if trimmed.len() < text.len() {
        return Ok(Some(trimmed));
    }
    if let Some(comment) = text.strip_prefix("--") {
        return Ok(Some(comment.find(['\n', '\r']).map_or("", |end| &comment[end..])));
    }
    let Some(mut comment) = text.strip_prefix("/*") else { return Ok(None) };
    let mut depth = 1;
    while depth > 0 {
        let Some(at) = comment.find(['/', '*']) else { return Err(unterminated("comment")) };
        comment = &comment[at..];
        let step = match comment.get(..2) {
            Some("/*") => (1, 2),
            Some("*/") => (-1, 2),
            _ => (0, 1),
        };
        depth += step.0;
        comment = &comment[step.1..];
    }
    Ok(Some(comment))
}

/// The content of a quoted text whose opening quote is behind, and what follows it.
fn after_quote(text: &str, quote: char, escapes: bool) -> Result<(String, &str)> {
    let mut content = String::new();
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' if escapes => drop(chars.next()),
            c if c == quote => match chars.peek() {
                Some((_, next)) if *next == quote => {
                    content.push(quote);
                    chars.next();
                }
                _ => return Ok((content, &text[at + 1..])),
            },
            c => content.push(c),
        }
    }
    Err(unterminated("quote"))
}

/// What follows a literal with a mark before its quote: `E'…'`, `U&'…'`.
fn skip_marked_literal<'a>(word: &str, after: &'a str) -> Result<Option<&'a str>> {
    if word.eq_ignore_ascii_case("u") && after.starts_with("&\"") {
        return Err(Error::new(Kind::Invalid, "names in `U&\"…\"` are not read here").hint("write the letters themselves in `\"…\"`"));
    }
    if !word.eq_ignore_ascii_case("e") || !after.starts_with('\'') {
        return Ok(None);
    }
    let mut rest = after_quote(&after[1..], '\'', true)?.1;
    // A literal goes on in a quote on the next line, and its escapes go on with it.
    loop {
        let mut ahead = rest;
        while let Some(next) = skip_blank(ahead)? {
            ahead = next;
        }
        match ahead.strip_prefix('\'') {
            Some(more) => rest = after_quote(more, '\'', true)?.1,
            None => return Ok(Some(rest)),
        }
    }
}

/// What follows a text in `$tag$ … $tag$`, if there is one here.
fn skip_dollar_quote(text: &str) -> Result<Option<&str>> {
    let Some(rest) = text.strip_prefix('$') else { return Ok(None) };
    let Some(end) = rest.find('$') else { return Ok(None) };
    let tag = &rest[..end];
    let is_tag = tag.chars().all(|c| is_word(c) || c.is_ascii_digit()) && !tag.starts_with(|c: char| c.is_ascii_digit());
    if !is_tag {
        return Ok(None);
    }
    let (mark, body) = text.split_at(end + 2);
    body.find(mark).map(|at| Some(&body[at + mark.len()..])).ok_or_else(|| unterminated("quote"))
}

fn unterminated(what: &str) -> Error {
    Error::new(Kind::Invalid, format!("a {what} in the statement does not end"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_reading_is_let_through() {
        for sql in [
            "SELECT 1",
            "  -- why\n/* a /* nested */ one */ select 1;",
            "(SELECT 1) UNION (SELECT 2)",
            "WITH a AS (SELECT 1) TABLE a",
            "SHOW max_connections",
            "EXPLAIN SELECT 1",
            "SELECT 'pg_reload_conf(); --', $$; DROP TABLE t$$, $a$ ; $$ ; $a$",
            r"SELECT E'it\'s; pg_reload_conf()', 'a\' AS b",
            "SELECT * FROM pg_replication_origin_status, pg_ls_waldir()",
            "SELECT $1::int, $2",
        ] {
            assert_eq!(must_read(sql), Ok(()), "{sql}");
        }
    }

    #[test]
    fn what_acts_is_refused_however_it_is_written() {
        for sql in [
            "DELETE FROM t",
            "COMMIT; DROP TABLE t",
            "SELECT 1; DELETE FROM t",
            "EXPLAIN (ANALYZE) DELETE FROM t",
            "SELECT pg_catalog . pg_Terminate_Backend /* x */ (1)",
            "SELECT \"pg_terminate_backend\"(1)",
            "SELECT U&\"pg\\005freload_conf\"()",
            "SELECT query_to_xml('select pg_reload' || '_conf()', true, true, '')",
            "SELECT '' || pg_reload_conf() --'",
            // The escapes of `E'…'` go on with the literal.
            "SELECT E'a'\n'\\'' || pg_reload_conf()::text --'",
            "SELECT $a$ $$ $a$, lo_export(1, '/tmp/x')",
            "",
            ";",
            "'x'",
            "SELECT 'open",
            "SELECT /* open",
        ] {
            assert!(must_read(sql).is_err(), "{sql}");
        }
    }

    #[test]
    fn statements_of_a_session_are_refused() {
        assert_eq!(must_stand_alone("UPDATE t SET a = 1"), Ok(()));
        for sql in ["BEGIN", "/**/ commit", "COPY t TO PROGRAM 'id'", "LISTEN x"] {
            assert!(must_stand_alone(sql).is_err(), "{sql}");
        }
    }

    #[test]
    fn identifiers_can_not_leave_their_quotes() {
        assert_eq!(ident("a b").unwrap(), "\"a b\"");
        assert_eq!(ident("a\"; DROP TABLE t; --").unwrap(), "\"a\"\"; DROP TABLE t; --\"");
        assert!(ident(&"x".repeat(63)).is_ok());
        for name in ["", "a\0b", &"x".repeat(64), &"ä".repeat(32)] {
            assert!(ident(name).is_err(), "{name:?}");
        }
    }
}
