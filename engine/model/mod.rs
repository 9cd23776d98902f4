//! The nouns: plain data, serialisable, without I/O and without Rhai.

mod check;
mod cron;
mod diagnostic;
mod duration;
mod effect;
mod header;
mod incident;
mod lock;
mod message;
mod origin;
mod plan;
mod run;
mod schedule;
mod series;
mod size;
mod step;
pub mod system;
mod tick;

pub use check::{Check, Level, Limit};
pub use cron::{Calendar, Cron, CronField};
pub use diagnostic::{Diagnostic, Verdict};
pub use duration::Span;
pub use effect::Effect;
pub use header::{Danger, Header, Param, ParamType};
pub use incident::{Deadline, Findings, Incident, IncidentState, Milestone, Record, Repair, RepairState, Source, Stamp};
pub use lock::{WhenLocked, lock_name};
pub use message::{Channel, Message, Parcel, ParcelState, Severity, Urgency};
pub use origin::{Origin, Trigger};
pub use plan::{Approval, Asked, Change, Pinned, Plan, PlannedEffect, PlannedStep, Verdict as ApprovalVerdict, hash_of, verdict};
pub use run::{Artefact, Compensation, Decision, Event, EventKind, Module, Parent, Run, RunId, RunState, Says};
pub use schedule::{CatchUp, Dates, Moment, Overlap, Schedule, Window};
pub use series::{Bucket, Curve, Labels, Reading, Sample, Selector, Series, Track};
pub use size::Size;
pub use step::{Intent, Outcome, Step, StepState};
pub use system::System;
pub use tick::{Cause, Mark, Pause, Reason, ScheduleState, Tick, TickOutcome};
