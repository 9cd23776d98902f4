-- Samples, apart from runbook.db: losing the last seconds of them loses no promise, so that they need not
-- wait for the disk, and they come and go in another measure than records. `at` is in milliseconds since 1970.
-- A value that is absent is unknown.
CREATE TABLE series (
    id     INTEGER PRIMARY KEY,
    name   TEXT NOT NULL,
    labels TEXT NOT NULL,
    UNIQUE (name, labels)
) STRICT;

CREATE TABLE raw (
    series INTEGER NOT NULL,
    at     INTEGER NOT NULL,
    value  REAL,
    PRIMARY KEY (series, at)
) STRICT, WITHOUT ROWID;

CREATE TABLE minutes (
    series  INTEGER NOT NULL,
    at      INTEGER NOT NULL,
    count   INTEGER NOT NULL,
    unknown INTEGER NOT NULL,
    low     REAL,
    high    REAL,
    sum     REAL NOT NULL,
    last_at INTEGER NOT NULL,
    last    REAL,
    PRIMARY KEY (series, at)
) STRICT, WITHOUT ROWID;

CREATE TABLE hours (
    series  INTEGER NOT NULL,
    at      INTEGER NOT NULL,
    count   INTEGER NOT NULL,
    unknown INTEGER NOT NULL,
    low     REAL,
    high    REAL,
    sum     REAL NOT NULL,
    last_at INTEGER NOT NULL,
    last    REAL,
    PRIMARY KEY (series, at)
) STRICT, WITHOUT ROWID;
