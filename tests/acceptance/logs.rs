//! check-logs.
