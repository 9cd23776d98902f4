-- A tick is its body; the columns beside it are for finding it. Moments are nanoseconds since 1970. That a
-- schedule has one tick for a due moment is what keeps two runs of it apart.
CREATE TABLE ticks (
    schedule TEXT NOT NULL,
    due      INTEGER NOT NULL,
    outcome  TEXT NOT NULL,
    body     TEXT NOT NULL,
    PRIMARY KEY (schedule, due)
) STRICT, WITHOUT ROWID;
CREATE INDEX ticks_pending ON ticks (due) WHERE outcome = 'pending';
CREATE INDEX ticks_due ON ticks (due);

-- `rule` and `since` are the scheduler's, `paused` and `skip` are people's.
CREATE TABLE schedules (
    schedule TEXT PRIMARY KEY,
    rule     TEXT NOT NULL DEFAULT '',
    since    INTEGER,
    paused   TEXT,
    skip     INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE INDEX schedules_held ON schedules (schedule) WHERE paused IS NOT NULL OR skip > 0;
