//! `report::`: texts for people from data: templates, tables, health reports, notices. It computes only.

mod built_in;
mod render;
mod table;

use jiff::tz::TimeZone;
use rhai::plugin::*;
use rhai::{Array, Map};

use crate::error::{Error, Kind, Result};
use crate::host::{Call, Function, HostModule, RhaiResultOf, value};
use crate::model::Check;
use render::Format;

/// The module `report`.
pub const MODULE: HostModule = HostModule {
    name: "report",
    summary: "texts for people from data: templates, tables, health reports, notices",
    build: || exported_module!(api),
    functions: &[
        Function::pure("text"),
        Function::pure("markdown"),
        Function::pure("html"),
        Function::pure("table"),
        Function::pure("checks").options::<built_in::HealthOptions>(),
        Function::pure("notice").options::<built_in::NoticeData>(),
        Function::pure("names"),
    ],
};

#[export_module]
mod api {
    use rhai::{Array, Dynamic, Map};

    use super::built_in;
    use super::render::Format;
    use crate::host::{Call, RhaiResultOf};

    /// A template filled with data, as plain text.
    ///
    /// Templates are Jinja: `{{ name }}`, `{% for x in list %}…{% endfor %}`, `{% if x %}…{% endif %}`,
    /// filters as in `{{ list | length }}`. A name the data does not have is an error with its line;
    /// `{{ x | default("-") }}` allows it. Letters that steer a terminal are left out of the data. A
    /// template that takes too long or makes more than 8 MiB is stopped.
    ///
    /// ```rhai
    /// report::text("{{ host }} has {{ disks | length }} disks", #{ host: "db-1", disks: [1, 2] }) == "db-1 has 2 disks"
    /// ```
    #[rhai_fn(return_raw)]
    pub fn text(native: NativeCallContext, template: &str, data: Map) -> RhaiResultOf<String> {
        filled(&native, "report::text", Format::Text, template, data)
    }

    /// A template filled with data, as Markdown: what Markdown would read in the data is escaped.
    ///
    /// ```rhai
    /// report::markdown("**{{ name }}**", #{ name: "a_b [x](y)" }) == "**a\\_b \\[x\\](y)**"
    /// ```
    ///
    /// Templates are those of `report::text`; `{{ x | safe }}` prints a value as it is.
    #[rhai_fn(return_raw)]
    pub fn markdown(native: NativeCallContext, template: &str, data: Map) -> RhaiResultOf<String> {
        filled(&native, "report::markdown", Format::Markdown, template, data)
    }

    /// A template filled with data, as HTML: markup in the data is escaped.
    ///
    /// ```rhai
    /// report::html("<b>{{ name }}</b>", #{ name: "<i>" }) == "<b>&lt;i&gt;</b>"
    /// ```
    ///
    /// Templates are those of `report::text`; `{{ x | safe }}` prints a value as it is.
    #[rhai_fn(return_raw)]
    pub fn html(native: NativeCallContext, template: &str, data: Map) -> RhaiResultOf<String> {
        filled(&native, "report::html", Format::Html, template, data)
    }

    /// A table in plain text with straight columns; wide letters count twice, numbers stand right.
    ///
    /// Rows are maps, or lists without a header. The columns are those named, in this order, else all
    /// keys. Cells are one line of at most 120 letters; more than 10 000 rows are refused.
    ///
    /// ```rhai
    /// report::table([#{ name: "数据库", used: 7 }, #{ name: "web", used: 120 }], ["name", "used"])
    ///     == "name    used\n数据库     7\nweb      120\n"
    /// ```
    #[rhai_fn(name = "table", return_raw)]
    pub fn table_of(native: NativeCallContext, rows: Array, columns: Array) -> RhaiResultOf<String> {
        table_text(&native, rows, Some(columns))
    }

    /// A table in plain text of all keys of its rows.
    #[rhai_fn(return_raw)]
    pub fn table(native: NativeCallContext, rows: Array) -> RhaiResultOf<String> {
        table_text(&native, rows, None)
    }

    /// A health report of checks: by level, the worst first, with how many there are of each.
    ///
    /// A check is a map with `name` and `level` (`ok`, `warning`, `critical`, `unknown`), and perhaps
    /// `detail`, `value`, `unit`. No checks at all are `unknown`, never `ok`.
    ///
    /// ```rhai
    /// let checks = [#{ name: "web", level: "ok" }, #{ name: "disk", level: "critical", value: 96, unit: "%" }];
    /// report::checks(checks).contains("Critical (1)\n  disk  96%")
    /// ```
    ///
    /// Options: `format` (`text`, `markdown`, `html`; `text` when absent), `title`, `system` (the system's
    /// title when absent), `at` (the start of the run in the system's zone when absent), `language` (`en`
    /// or `zh`; the system's when absent).
    #[rhai_fn(name = "checks", return_raw)]
    pub fn checks_with(native: NativeCallContext, checks: Array, options: Map) -> RhaiResultOf<String> {
        let call = Call::new(&native, "report::checks")?;
        let options: built_in::HealthOptions = call.options(options)?;
        health(&call, checks, options).map_err(|error| call.fail(error))
    }

    /// A health report of checks in plain text.
    #[rhai_fn(return_raw)]
    pub fn checks(native: NativeCallContext, checks: Array) -> RhaiResultOf<String> {
        checks_with(native, checks, Map::new())
    }

    /// A notice to the users of a system, `fault` or `recovery`, as `notify::send` takes it.
    ///
    /// ```rhai
    /// let notice = report::notice("fault", #{
    ///     title: "AI Notebook", started: "14:30 UTC", impact: "nobody can log in", expected: "16:30 UTC",
    /// });
    /// notice.subject == "[Incident] AI Notebook: service disruption" && notice.text.contains("Impact: nobody can log in")
    /// ```
    ///
    /// A fault needs `started` and `impact`, and may have `expected` and `cause`; a recovery needs
    /// `recovered`, `cause`, `solution` and `prevention`, and may have `started` and `impact`. Both may
    /// have `title` (the system's when absent), `team`, `contact`, and `language` (`en` or `zh`; the
    /// system's when absent). All are texts. Returns `subject`, `text`, `markdown`, `html`, `level`
    /// (`warning` or `ok`), `language`.
    #[rhai_fn(return_raw)]
    pub fn notice(native: NativeCallContext, name: &str, data: Map) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "report::notice")?;
        let mut data: built_in::NoticeData = call.options(data)?;
        let system = call.ctx().system();
        data.language = data.language.or_else(|| Some(system.language.clone())).filter(|language| !language.is_empty());
        data.title = data.title.or_else(|| Some(system.title.clone())).filter(|title| !title.is_empty());
        let notice = built_in::notice(name, &data).map_err(|error| call.fail(error))?;
        call.value(&notice)
    }

    /// The names of the built-in reports.
    ///
    /// ```rhai
    /// report::names() == ["health", "fault", "recovery"]
    /// ```
    ///
    /// `health` is made by `report::checks`, the others by `report::notice`.
    pub fn names() -> Array {
        built_in::names().into_iter().map(Dynamic::from).collect()
    }
}

fn filled(native: &NativeCallContext<'_>, function: &'static str, format: Format, template: &str, data: Map) -> RhaiResultOf<String> {
    let call = Call::new(native, function)?;
    let filled = value::plain(&Dynamic::from_map(data)).and_then(|data| render::render(format, template, &data));
    filled.map_err(|error| call.fail(error))
}

fn table_text(native: &NativeCallContext<'_>, rows: Array, columns: Option<Array>) -> RhaiResultOf<String> {
    let call = Call::new(native, "report::table")?;
    let columns = columns.map(|columns| columns.iter().map(Dynamic::to_string).collect());
    let text = plain_list(rows).and_then(|rows| table::text(&rows, columns));
    text.map_err(|error| call.fail(error))
}

fn health(call: &Call<'_>, checks: Array, mut options: built_in::HealthOptions) -> Result<String> {
    let mut answered = Vec::new();
    for (index, check) in plain_list(checks)?.into_iter().enumerate() {
        let check: Check = serde_json::from_value(check).map_err(|error| {
            Error::new(Kind::Invalid, format!("check {}: {error}", index + 1)).hint("a check is `#{ name: …, level: … }`")
        })?;
        answered.push(check);
    }
    let system = call.ctx().system();
    let known = |text: &String| (!text.is_empty()).then(|| text.clone());
    options.system = options.system.or_else(|| known(&system.title)).or_else(|| known(&system.name));
    options.language = options.language.or_else(|| known(&system.language));
    options.at = options.at.or_else(|| {
        let zone = TimeZone::get(&system.timezone).unwrap_or(TimeZone::UTC);
        Some(call.ctx().run().started.to_zoned(zone).strftime("%Y-%m-%d %H:%M:%S %Z").to_string())
    });
    built_in::health(&answered, &options)
}

fn plain_list(list: Array) -> Result<Vec<serde_json::Value>> {
    list.iter().map(value::plain).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::error::Kind;
    use crate::host::testing::Bench;

    #[test]
    fn reports_need_no_permission() {
        let bench = Bench::new(json!({}));
        let script = r#"report::checks([#{ name: "web", level: "warning" }], #{ title: "Morning", at: "now" })"#;
        let report = bench.eval(script).unwrap().into_string().unwrap();
        assert_eq!(report, "Morning\nTime: now\nResult: Warning (1 Warning)\n\nWarning (1)\n  web\n");
    }

    #[test]
    fn a_value_that_is_no_check_is_named() {
        let bench = Bench::new(json!({}));
        let error = bench.error(r#"report::checks([#{ name: "web" }])"#);
        assert_eq!((error.kind, error.message.as_str()), (Kind::Invalid, "report::checks: check 1: missing field `level`"));
        assert!(bench.error(r#"report::text("{{ x }}", #{})"#).message.contains("`x` is not in the data"));
        assert!(bench.error(r#"report::notice("fault", #{ impct: "x" })"#).message.contains("unknown option `impct`"));
    }

    #[test]
    fn the_examples_of_the_manual_hold() {
        let bench = Bench::new(json!({}));
        for example in examples(include_str!("mod.rs")) {
            assert!(bench.eval(&example).unwrap().as_bool().unwrap(), "{example}");
        }
    }

    /// The fenced examples in doc comments.
    fn examples(source: &str) -> Vec<String> {
        let lines: Vec<&str> = source.lines().filter_map(|line| line.trim().strip_prefix("///")).collect();
        let blocks = lines.join("\n");
        blocks.split("```rhai\n").skip(1).filter_map(|rest| rest.split("```").next()).map(str::to_owned).collect()
    }
}
