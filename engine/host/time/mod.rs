//! `time::`: moments as texts in RFC 3339, in the zone of the system the run is for.

mod client;

use jiff::Zoned;
use jiff::tz::TimeZone;
use rhai::plugin::*;

use crate::error::Result;
use crate::host::{Call, Function, HostModule, RhaiResultOf};

/// The module `time`.
pub const MODULE: HostModule = HostModule {
    name: "time",
    summary: "moments, days, weeks and durations",
    build: || exported_module!(api),
    functions: &[
        Function::read("now").inside(),
        Function::read("date").inside(),
        Function::read("since").inside(),
        Function::pure("parse"),
        Function::pure("format"),
        Function::pure("add"),
        Function::pure("between"),
        Function::pure("seconds"),
        Function::pure("in_words"),
        Function::pure("week"),
        Function::pure("unix"),
        Function::pure("from_unix"),
    ],
};

/// The year of the week, not of the day: they differ at the turn of the year.
const WEEK: &str = "%G-W%V";

#[export_module]
mod api {
    use super::{WEEK, client, moment, with};
    use crate::error::{Error, Kind};
    use crate::host::{Call, RhaiResultOf};
    use crate::model::Span;

    /// The moment it is now, in RFC 3339 in the zone of the system: `2026-11-21T09:30:00.25+01:00`.
    ///
    /// ```rhai
    /// time::between(time::now(), time::now()) == 0
    /// ```
    ///
    /// Needs no permission.
    #[rhai_fn(return_raw, volatile)]
    pub fn now(native: NativeCallContext) -> RhaiResultOf<String> {
        let call = Call::new(&native, "time::now")?;
        let now = call.recorded(|| call.ctx().now())?;
        with(&call, |zone| Ok(client::written(&now.to_zoned(zone))))
    }

    /// The day it is in a zone: `2026-11-21`.
    ///
    /// ```rhai
    /// time::date("UTC").len() == 10
    /// ```
    ///
    /// Needs no permission.
    #[rhai_fn(name = "date", return_raw, volatile)]
    pub fn date_in(native: NativeCallContext, zone: &str) -> RhaiResultOf<String> {
        let call = Call::new(&native, "time::date")?;
        let now = call.recorded(|| call.ctx().now())?;
        with(&call, |_| Ok(now.to_zoned(client::zone(zone)?).date().to_string()))
    }

    /// The day it is in the zone of the system.
    #[rhai_fn(return_raw, volatile)]
    pub fn date(native: NativeCallContext) -> RhaiResultOf<String> {
        let call = Call::new(&native, "time::date")?;
        let now = call.recorded(|| call.ctx().now())?;
        with(&call, |zone| Ok(now.to_zoned(zone).date().to_string()))
    }

    /// How many whole seconds ago a moment was; negative for one to come.
    ///
    /// ```rhai
    /// time::since("2026-01-01T00:00:00Z") > 0
    /// ```
    ///
    /// Needs no permission.
    #[rhai_fn(return_raw, volatile)]
    pub fn since(native: NativeCallContext, text: &str) -> RhaiResultOf<i64> {
        let call = Call::new(&native, "time::since")?;
        let then = moment(&call, text)?;
        let now = call.recorded(|| call.ctx().now())?;
        Ok(now.duration_since(then.timestamp()).as_secs())
    }

    /// A moment in RFC 3339, from any common form: with an offset, with a zone in brackets, a bare date and time or
    /// a bare day, which are then of the system's zone. Anything else is an error of kind `invalid`.
    ///
    /// ```rhai
    /// time::unix(time::parse("2026-11-21T08:30:00Z")) == 1795249800
    /// ```
    #[rhai_fn(return_raw)]
    pub fn parse(native: NativeCallContext, text: &str) -> RhaiResultOf<String> {
        let call = Call::new(&native, "time::parse")?;
        Ok(client::written(&moment(&call, text)?))
    }

    /// A moment in a pattern of strftime and in a zone.
    ///
    /// ```rhai
    /// time::format("2026-11-21T08:30:00Z", "%d.%m. %H:%M", "Europe/Berlin") == "21.11. 09:30"
    /// ```
    #[rhai_fn(name = "format", return_raw)]
    pub fn format_in(native: NativeCallContext, text: &str, pattern: &str, zone: &str) -> RhaiResultOf<String> {
        let call = Call::new(&native, "time::format")?;
        let moment = moment(&call, text)?;
        with(&call, |_| client::formatted(&moment.with_time_zone(client::zone(zone)?), pattern))
    }

    /// A moment in a pattern of strftime, in the zone of the system.
    #[rhai_fn(return_raw)]
    pub fn format(native: NativeCallContext, text: &str, pattern: &str) -> RhaiResultOf<String> {
        let call = Call::new(&native, "time::format")?;
        let moment = moment(&call, text)?;
        with(&call, |_| client::formatted(&moment, pattern))
    }

    /// A moment later, or earlier with `-`. Days, weeks and months follow the calendar of the system's zone: a
    /// day later is the same hour, also when the clocks change in between; `24h` is 24 hours.
    ///
    /// ```rhai
    /// time::between("2026-11-21T08:30:00Z", time::add("2026-11-21T08:30:00Z", "-90m")) == -5400
    /// ```
    #[rhai_fn(return_raw)]
    pub fn add(native: NativeCallContext, text: &str, duration: &str) -> RhaiResultOf<String> {
        let call = Call::new(&native, "time::add")?;
        let moment = moment(&call, text)?;
        with(&call, |_| Ok(client::written(&client::later(&moment, duration)?)))
    }

    /// The whole seconds from one moment to another.
    ///
    /// ```rhai
    /// time::between("2026-11-21T08:30:00Z", "2026-11-21T09:30:00Z") == 3600
    /// ```
    #[rhai_fn(return_raw)]
    pub fn between(native: NativeCallContext, from: &str, to: &str) -> RhaiResultOf<i64> {
        let call = Call::new(&native, "time::between")?;
        let (from, to) = (moment(&call, from)?, moment(&call, to)?);
        Ok(to.timestamp().duration_since(from.timestamp()).as_secs())
    }

    /// The whole seconds of a duration as people write it.
    ///
    /// ```rhai
    /// time::seconds("1h 30m") == 5400
    /// ```
    #[rhai_fn(return_raw)]
    pub fn seconds(native: NativeCallContext, duration: &str) -> RhaiResultOf<i64> {
        let call = Call::new(&native, "time::seconds")?;
        with(&call, |_| {
            let span: Span = duration.parse()?;
            i64::try_from(span.0.as_secs()).map_err(|_| Error::new(Kind::Invalid, format!("`{duration}` is too long")))
        })
    }

    /// A number of seconds as people write it, in its two largest units.
    ///
    /// ```rhai
    /// time::in_words(5400) == "1h 30m"
    /// ```
    pub fn in_words(seconds: i64) -> String {
        let sign = if seconds < 0 { "-" } else { "" };
        format!("{sign}{}", Span::secs(seconds.unsigned_abs()))
    }

    /// The week of a moment after ISO 8601, with the year the week belongs to.
    ///
    /// ```rhai
    /// time::week("2025-12-29") == "2026-W01"
    /// ```
    #[rhai_fn(return_raw)]
    pub fn week(native: NativeCallContext, text: &str) -> RhaiResultOf<String> {
        let call = Call::new(&native, "time::week")?;
        let moment = moment(&call, text)?;
        with(&call, |_| client::formatted(&moment, WEEK))
    }

    /// A moment in whole seconds since 1970.
    ///
    /// ```rhai
    /// time::unix("1970-01-02T00:00:00Z") == 86400
    /// ```
    #[rhai_fn(return_raw)]
    pub fn unix(native: NativeCallContext, text: &str) -> RhaiResultOf<i64> {
        let call = Call::new(&native, "time::unix")?;
        Ok(moment(&call, text)?.timestamp().as_second())
    }

    /// The moment so many seconds after the start of 1970.
    ///
    /// ```rhai
    /// time::between("1970-01-01T00:00:00Z", time::from_unix(60)) == 60
    /// ```
    #[rhai_fn(return_raw)]
    pub fn from_unix(native: NativeCallContext, seconds: i64) -> RhaiResultOf<String> {
        let call = Call::new(&native, "time::from_unix")?;
        with(&call, |zone| Ok(client::written(&client::of_unix(seconds, &zone)?)))
    }
}

/// Computes in the zone of the system; in the machine's when the system names none.
fn with<T>(call: &Call<'_>, compute: impl FnOnce(TimeZone) -> Result<T>) -> RhaiResultOf<T> {
    let name = call.ctx().system().timezone.as_str();
    let zone = if name.is_empty() { Ok(TimeZone::system()) } else { client::zone(name) };
    zone.and_then(compute).map_err(|error| call.fail(error))
}

fn moment(call: &Call<'_>, text: &str) -> RhaiResultOf<Zoned> {
    with(call, |zone| client::moment(text, &zone))
}
