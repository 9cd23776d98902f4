-- The tables of format 3. A run is its events; the columns of `runs` beyond its identity repeat what they say, for listings.
-- Hashes are SHA-256, see seal.rs. `events` counts the events of a run, `head` is the hash of the last one
-- (of the identity and the texts, before there is one), `seal` is the hash of the columns above it.
CREATE TABLE runs (
    number      INTEGER PRIMARY KEY AUTOINCREMENT,
    id          TEXT NOT NULL UNIQUE,
    runbook     TEXT NOT NULL,
    version     TEXT NOT NULL,
    commit_id   TEXT,
    system      TEXT,
    params      TEXT NOT NULL,
    trigger_by  TEXT NOT NULL,
    actor       TEXT NOT NULL,
    started     TEXT NOT NULL,
    pid         INTEGER NOT NULL,
    pid_started INTEGER NOT NULL,
    status      TEXT NOT NULL,
    exit_code   INTEGER,
    ended       TEXT,
    duration_ms INTEGER NOT NULL DEFAULT 0,
    changes     INTEGER NOT NULL DEFAULT 0,
    level       TEXT NOT NULL DEFAULT 'ok',
    note        TEXT NOT NULL DEFAULT '',
    events      INTEGER NOT NULL DEFAULT 0,
    head        BLOB NOT NULL DEFAULT x'',
    seal        BLOB NOT NULL DEFAULT x''
) STRICT;
CREATE INDEX runs_by_runbook ON runs (runbook, number);
CREATE INDEX runs_by_status ON runs (status);
CREATE INDEX runs_by_system ON runs (system);
CREATE INDEX runs_by_start ON runs (started);

CREATE TABLE events (
    run  INTEGER NOT NULL REFERENCES runs (number),
    seq  INTEGER NOT NULL,
    body TEXT NOT NULL,
    hash BLOB NOT NULL DEFAULT x'',
    PRIMARY KEY (run, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE texts (
    hash TEXT PRIMARY KEY,
    body TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE run_texts (
    run  INTEGER NOT NULL REFERENCES runs (number),
    seq  INTEGER NOT NULL,
    name TEXT NOT NULL,
    hash TEXT NOT NULL REFERENCES texts (hash),
    PRIMARY KEY (run, seq)
) STRICT, WITHOUT ROWID;

-- A parcel is its body; the columns beside it repeat what it says, for finding it. `created` is in
-- nanoseconds since 1970, which sorts, as the text of a time does not.
CREATE TABLE parcels (
    id       TEXT NOT NULL UNIQUE,
    project  TEXT NOT NULL,
    system   TEXT NOT NULL,
    contact  TEXT NOT NULL,
    dedupe   TEXT,
    state    TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    created  INTEGER NOT NULL,
    body     TEXT NOT NULL,
    seal     BLOB NOT NULL DEFAULT x''
) STRICT;
CREATE INDEX parcels_queued ON parcels (created, id) WHERE state = 'queued';
CREATE INDEX parcels_settled ON parcels (created) WHERE state <> 'queued';
CREATE INDEX parcels_alike ON parcels (project, system, contact, dedupe) WHERE dedupe IS NOT NULL;

CREATE TABLE sendings (
    project TEXT NOT NULL,
    system  TEXT NOT NULL,
    contact TEXT NOT NULL,
    at      INTEGER NOT NULL
) STRICT;

CREATE TABLE notes (
    scope TEXT NOT NULL,
    key   TEXT NOT NULL,
    value TEXT NOT NULL,
    seal  BLOB NOT NULL DEFAULT x'',
    PRIMARY KEY (scope, key)
) STRICT, WITHOUT ROWID;

-- Who did what. A row without an outcome stands before the act, one with it after. `data` is for the program:
-- where a run stood, what was pruned. `hash` is over the row and the hash of the one before.
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
