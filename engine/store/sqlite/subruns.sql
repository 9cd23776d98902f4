-- Since format 5. Which run is a step of which other one; written with the run, and never changed. The other one may have
-- been removed since.
CREATE TABLE sub_runs (
    run    INTEGER PRIMARY KEY REFERENCES runs (number),
    parent INTEGER NOT NULL,
    step   TEXT NOT NULL,
    seal   BLOB NOT NULL
) STRICT;
CREATE INDEX sub_runs_by_step ON sub_runs (parent, step);
