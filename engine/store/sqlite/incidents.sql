-- An incident, a repair and a record are their bodies; the columns beside them repeat what they say, for
-- finding them. `seal` is the hash of the columns above it, without the number.
CREATE TABLE incidents (
    number      INTEGER PRIMARY KEY AUTOINCREMENT,
    fingerprint TEXT NOT NULL,
    system      TEXT NOT NULL,
    state       TEXT NOT NULL,
    opened      TEXT NOT NULL,
    body        TEXT NOT NULL,
    seal        BLOB NOT NULL
) STRICT;
CREATE INDEX incidents_alike ON incidents (fingerprint, number);
CREATE INDEX incidents_open ON incidents (system) WHERE state <> 'resolved';

CREATE TABLE repairs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    system TEXT NOT NULL,
    at     TEXT NOT NULL,
    body   TEXT NOT NULL,
    seal   BLOB NOT NULL
) STRICT;
CREATE INDEX repairs_of ON repairs (system, at);

CREATE TABLE records (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    kind   TEXT NOT NULL,
    at     TEXT NOT NULL,
    body   TEXT NOT NULL,
    seal   BLOB NOT NULL
) STRICT;
CREATE INDEX records_of ON records (kind, at);
