//! `exec::`: programs of this machine, by their arguments and never by a shell.

mod client;
mod descendants;
mod environment;
mod program;
#[cfg(test)]
mod tests;

pub(crate) use descendants::kill_descendants;

use rhai::Array;
use rhai::plugin::*;

use crate::error::{Error, Kind, Result};

use crate::host::{Access, Call, Function, HostModule, RhaiResultOf, Secret, SecretText, type_in_words};
use client::{Pipeline, RunOptions, Stage};
use program::Program;

/// The module `exec`.
pub const MODULE: HostModule = HostModule {
    name: "exec",
    summary: "programs of this machine: started by their arguments, never by a shell",
    build: || exported_module!(api),
    functions: &[
        Function::effect("run", "the program and its arguments").needs("exec", "run", 0).options::<RunOptions>(),
        Function::effect("pipe", "every program and its arguments").needs("exec", "run", 0).options::<RunOptions>(),
        Function::pure("arg"),
    ],
};

/// An argument that comes from data: it must not be taken for an option.
#[derive(Clone)]
struct DataArgument(String);

#[export_module]
mod api {
    use rhai::{Array, Dynamic, Map};

    use super::{DataArgument, client, prepared, summary};
    use crate::host::{Call, RhaiResultOf};
    use crate::model::Effect;

    /// Runs a program and waits for its end. The list is the program and its arguments, each as it is: no shell
    /// reads them, so nothing in them is expanded.
    ///
    /// The program is an absolute path, or a bare name that is looked up in `/usr/local/sbin`, `/usr/local/bin`,
    /// `/usr/sbin`, `/usr/bin`, `/sbin`, `/bin`. It is opened once, checked, and the opened file is what runs; a `#!`
    /// script runs by its real path after a second look. A program this run may write to is refused. Wrap what
    /// comes from data in `exec::arg`. A secret in the list is an error, since everyone can see it there.
    ///
    /// ```rhai
    /// let said = exec::run(["/bin/echo", "$HOME; ls"]);
    /// said.stdout == "$HOME; ls\n" && said.code == 0
    /// ```
    ///
    /// Options: `stdin` (a text or secret; none when absent), `cwd` (the run's directory when absent), `env` (more
    /// variables, texts or secrets), `timeout` (60 s), `max_output` (1 MiB of each output; the rest is dropped),
    /// `ok_codes` (`[0]`). Its environment is `PATH`, `LC_ALL=C.UTF-8`, `HOME`, `TMPDIR` and `env`, of which
    /// variables that load or start something else (`LD_PRELOAD`, `BASH_ENV`, `*_PROXY`, …) are refused.
    ///
    /// Returns `code`, `stdout`, `stderr`, `ok`, `signal`, `truncated`, `duration_ms`. Another code is an error of
    /// kind `remote` with the last lines it said; at the timeout it is asked to end, and killed after 5 s.
    #[rhai_fn(name = "run", return_raw, volatile)]
    pub fn run_with(native: NativeCallContext, argv: Array, options: Map) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "exec::run")?;
        let options = call.options(options)?;
        let pipeline = prepared(&call, &[argv], &options)?;
        let effect = Effect::new("exec::run", summary(&pipeline, false), format!("run {}", summary(&pipeline, true)));
        let planned = client::Ended::planned();
        let ended = call.effect(effect, planned, client::run(pipeline))?;
        call.value(&ended)
    }

    /// Runs a program and waits for its end, at most 60 s.
    #[rhai_fn(return_raw, volatile)]
    pub fn run(native: NativeCallContext, argv: Array) -> RhaiResultOf<Dynamic> {
        run_with(native, argv, Map::new())
    }

    /// Runs programs at once, the output of each going to the next. Every one of them has to end well, not only
    /// the last.
    ///
    /// ```rhai
    /// exec::pipe([["/bin/echo", "b\na"], ["sort"]]).stdout == "a\nb\n"
    /// ```
    ///
    /// Options as for `exec::run`; `stdin` goes to the first. Returns `stages` (what `exec::run` returns, for each),
    /// `stdout` (of the last), `ok`, `truncated`, `duration_ms`.
    #[rhai_fn(name = "pipe", return_raw, volatile)]
    pub fn pipe_with(native: NativeCallContext, stages: Array, options: Map) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "exec::pipe")?;
        let options = call.options(options)?;
        let stages: Vec<Array> = stages.into_iter().map(|stage| stage.into_array().unwrap_or_default()).collect();
        let pipeline = prepared(&call, &stages, &options)?;
        let effect = Effect::new("exec::pipe", summary(&pipeline, false), format!("run {}", summary(&pipeline, true)));
        let planned = client::PipeEnded::planned();
        let ended = call.effect(effect, planned, client::pipe(pipeline))?;
        call.value(&ended)
    }

    /// Runs programs at once, at most 60 s.
    #[rhai_fn(return_raw, volatile)]
    pub fn pipe(native: NativeCallContext, stages: Array) -> RhaiResultOf<Dynamic> {
        pipe_with(native, stages, Map::new())
    }

    /// An argument that comes from data: `exec::run` refuses it when it begins with `-`, unless `--` stands before
    /// it, so that it is never taken for an option. `find` and `curl` know no `--`, so there it never may.
    ///
    /// ```rhai
    /// let refused = false;
    /// try { exec::run(["/bin/echo", exec::arg("-n")]); } catch { refused = true; }
    /// refused && exec::run(["/bin/echo", exec::arg("n")]).ok
    /// ```
    pub fn arg(value: Dynamic) -> Dynamic {
        Dynamic::from(DataArgument(value.to_string()))
    }
}

/// Finds every program and checks everything that can be checked before the start.
fn prepared(call: &Call<'_>, stages: &[Array], options: &RunOptions) -> RhaiResultOf<Pipeline> {
    let stages: Result<Vec<Stage>> = stages.iter().map(|argv| stage(call, argv)).collect();
    let stages = stages.map_err(|error| call.fail(error))?;
    if stages.is_empty() {
        return Err(call.fail(Error::new(Kind::Invalid, "there is no program to run").hint("give a list like [\"df\", \"-h\"]")));
    }
    let mut asked = std::collections::BTreeMap::new();
    for (name, value) in &options.env {
        asked.insert(name.clone(), open(call, value, &stages)?);
    }
    let env = environment::variables(call.ctx(), &asked).map_err(|error| call.fail(error))?;
    let stdin = options.stdin.as_ref().map(|text| open(call, text, &stages)).transpose()?;
    let cwd = match &options.cwd {
        Some(path) if !path.starts_with('/') => {
            return Err(call.fail(Error::new(Kind::Invalid, format!("option `cwd`: `{path}` is not absolute"))));
        }
        Some(path) => path.into(),
        None => environment::home(call.ctx()),
    };
    let (timeout, max_output, ok_codes) = options.limits();
    Ok(Pipeline { stages, stdin, cwd, env, timeout, max_output, ok_codes })
}

/// A text for a pipeline, as far as each of its programs may have it.
fn open(call: &Call<'_>, text: &SecretText, stages: &[Stage]) -> RhaiResultOf<String> {
    let mut opened = String::new();
    for stage in stages {
        opened = call.open(text, &stage.program.names().map(Access::program))?;
    }
    Ok(opened)
}

fn stage(call: &Call<'_>, argv: &[Dynamic]) -> Result<Stage> {
    let [program, arguments @ ..] = argv else {
        return Err(Error::new(Kind::Invalid, "there is no program to run").hint("give a list like [\"df\", \"-h\"]"));
    };
    let name = program
        .as_immutable_string_ref()
        .map(|name| name.to_string())
        .map_err(|found| Error::new(Kind::Invalid, format!("the program is {}, not a text", type_in_words(found))))?;
    let program = Program::find(call.ctx(), &name)?;
    let knows_the_end_of_options = !matches!(program.path.file_name().and_then(|name| name.to_str()), Some("find" | "curl"));
    let mut after_options = false;
    let mut texts = Vec::new();
    for (index, value) in arguments.iter().enumerate() {
        let text = argument(value, index + 1, after_options && knows_the_end_of_options)?;
        after_options |= text == "--";
        texts.push(text);
    }
    Ok(Stage { program, arguments: texts })
}

fn argument(value: &Dynamic, index: usize, after_options: bool) -> Result<String> {
    let bad = |why: String, hint: &str| Err(Error::new(Kind::Invalid, format!("argument {index} {why}")).hint(hint));
    if value.is::<Secret>() {
        return bad(
            "is a secret, and everyone can see the arguments of a program".into(),
            "give it by `stdin`, or in a private file with `fs::write`",
        );
    }
    if let Some(data) = value.read_lock::<DataArgument>() {
        if data.0.starts_with('-') && !after_options {
            let why = format!("comes from data and begins with `-`: `{}`", data.0.escape_debug());
            return bad(why, "put \"--\" before it, when the program knows that as the end of its options");
        }
        return without_nul(&data.0, index);
    }
    if let Ok(text) = value.as_immutable_string_ref() {
        return without_nul(&text, index);
    }
    if value.is_int() || value.is_float() || value.is_char() {
        return Ok(value.to_string());
    }
    bad(format!("is {}, not a text", type_in_words(value.type_name())), "make it a text")
}

fn without_nul(text: &str, index: usize) -> Result<String> {
    if text.contains('\0') {
        return Err(Error::new(Kind::Invalid, format!("argument {index} holds a NUL character")));
    }
    Ok(text.to_owned())
}

/// The programs, with or without their arguments, in one line.
fn summary(pipeline: &Pipeline, with_arguments: bool) -> String {
    const SHOWN: usize = 300;
    let quoted =
        |text: &String| if text.is_empty() || text.contains([' ', '\n', '"', '\'', '\\']) { format!("{text:?}") } else { text.clone() };
    let stage = |stage: &Stage| {
        let mut words = vec![stage.program.path.display().to_string()];
        words.extend(stage.arguments.iter().filter(|_| with_arguments).map(quoted));
        words.join(" ")
    };
    let line = pipeline.stages.iter().map(stage).collect::<Vec<_>>().join(" | ");
    match line.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}
