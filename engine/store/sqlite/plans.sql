-- A plan, an approval and a pin are their bodies; the columns beside them are for finding them.
CREATE TABLE plans (
    hash TEXT PRIMARY KEY,
    made TEXT NOT NULL,
    run  TEXT,
    body TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE approvals (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    of     TEXT NOT NULL,
    body   TEXT NOT NULL
) STRICT;
CREATE INDEX approvals_of ON approvals (of);

CREATE TABLE pins (
    runbook TEXT NOT NULL,
    system  TEXT NOT NULL,
    body    TEXT NOT NULL,
    PRIMARY KEY (runbook, system)
) STRICT, WITHOUT ROWID;
