-- From an earlier format: few among many runs are found without reading all of them.
DROP INDEX runs_unfinished;
CREATE INDEX runs_by_status ON runs (status);
CREATE INDEX runs_by_system ON runs (system);
CREATE INDEX runs_by_start ON runs (started);
