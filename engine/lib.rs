//! runbook: operations procedures as code.
