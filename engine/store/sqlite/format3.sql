-- From format 1 or 2, which have the same tables.
ALTER TABLE runs ADD COLUMN events INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN head BLOB NOT NULL DEFAULT x'';
ALTER TABLE runs ADD COLUMN seal BLOB NOT NULL DEFAULT x'';
ALTER TABLE events ADD COLUMN hash BLOB NOT NULL DEFAULT x'';
ALTER TABLE parcels ADD COLUMN seal BLOB NOT NULL DEFAULT x'';
ALTER TABLE notes ADD COLUMN seal BLOB NOT NULL DEFAULT x'';
CREATE TABLE audit (
    seq     INTEGER PRIMARY KEY AUTOINCREMENT,
    at      TEXT NOT NULL,
    who     TEXT NOT NULL,
    uid     INTEGER NOT NULL,
    action  TEXT NOT NULL,
    subject TEXT NOT NULL,
    why     TEXT NOT NULL,
    outcome TEXT,
    run     INTEGER,
    data    TEXT,
    hash    BLOB NOT NULL
) STRICT;
