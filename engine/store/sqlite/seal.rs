//! Hashes of rows. SQLite notices a broken page; a changed value in a sound page only its hash shows.

use rusqlite::Row;
use rusqlite::types::{ToSql, ToSqlOutput, Value, ValueRef};
use sha2::{Digest, Sha256};

/// A SHA-256.
pub(super) type Hash = [u8; 32];

/// The hash of values as they are bound: kind of row first, then each value with its type and length, so
/// that nothing can move from one column to the next.
pub(super) fn seal(kind: &str, values: &[&dyn ToSql]) -> rusqlite::Result<Hash> {
    let mut hash = begin(kind);
    for value in values {
        match value.to_sql()? {
            ToSqlOutput::Borrowed(value) => add(&mut hash, value),
            ToSqlOutput::Owned(value) => add(&mut hash, ValueRef::from(&value)),
            // No other kind can be bound with the features this crate is built with.
            _ => add(&mut hash, ValueRef::from(&Value::Null)),
        }
    }
    Ok(hash.finalize().into())
}

/// The hash of the columns of a row as they are read.
pub(super) fn seal_of(kind: &str, row: &Row<'_>, columns: std::ops::Range<usize>) -> rusqlite::Result<Hash> {
    let mut hash = begin(kind);
    for column in columns {
        add(&mut hash, row.get_ref(column)?);
    }
    Ok(hash.finalize().into())
}

/// The hash of a row and of all before it.
pub(super) fn link(before: Hash, row: Hash) -> Hash {
    let mut hash = Sha256::new();
    hash.update(before);
    hash.update(row);
    hash.finalize().into()
}

/// A hash as it is stored; one of another length is no hash.
pub(super) fn stored(row: &Row<'_>, column: usize) -> rusqlite::Result<Hash> {
    let bytes = row.get_ref(column)?.as_bytes_or_null().ok().flatten().unwrap_or_default();
    Ok(bytes.try_into().unwrap_or_default())
}

fn begin(kind: &str) -> Sha256 {
    let mut hash = Sha256::new();
    add(&mut hash, ValueRef::from(kind));
    hash
}

fn add(hash: &mut Sha256, value: ValueRef<'_>) {
    let (tag, bytes): (u8, &[u8]) = match value {
        ValueRef::Null => (0, &[]),
        ValueRef::Integer(number) => return sized(hash, 1, &number.to_le_bytes()),
        ValueRef::Real(number) => return sized(hash, 2, &number.to_le_bytes()),
        ValueRef::Text(text) => (3, text),
        ValueRef::Blob(blob) => (4, blob),
    };
    sized(hash, tag, bytes);
}

fn sized(hash: &mut Sha256, tag: u8, bytes: &[u8]) {
    hash.update([tag]);
    hash.update((bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}
