-- Format 2. A run is its events; the columns of `runs` beyond its identity repeat what they say, for listings.
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
    note        TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX runs_by_runbook ON runs (runbook, number);
CREATE INDEX runs_unfinished ON runs (status) WHERE ended IS NULL;

CREATE TABLE events (
    run  INTEGER NOT NULL REFERENCES runs (number),
    seq  INTEGER NOT NULL,
    body TEXT NOT NULL,
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
    body     TEXT NOT NULL
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
    PRIMARY KEY (scope, key)
) STRICT, WITHOUT ROWID;
