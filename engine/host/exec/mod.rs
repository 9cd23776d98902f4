//! `exec::`: programs of this machine, by their arguments and never by a shell.

mod client;
mod descendants;
mod environment;
mod program;
mod secret_files;
#[cfg(test)]
mod tests;

pub(crate) use descendants::{Offspring, kill_descendants, kill_strays};
pub(crate) use secret_files::SECRET_FILES;

use std::collections::BTreeMap;

use rhai::Array;
use rhai::plugin::*;

use crate::error::{Error, Kind, Result};

use crate::host::{Access, Call, Function, HostModule, RhaiResultOf, SecretText, argument, type_in_words};
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
        Function::pure("option"),
    ],
};

#[export_module]
mod api {
    use rhai::{Array, Dynamic, Map};

    use super::{client, prepared, summary};
    use crate::host::argument::{DataArgument, OptionArgument};
    use crate::host::{Call, RhaiResultOf};
    use crate::model::Effect;

    /// Runs a program and waits for its end. The list is the program and its arguments, each as it is: no shell
    /// reads them, so nothing in them is expanded.
    ///
    /// The program is an absolute path, or a bare name that is looked up in `/usr/local/sbin`, `/usr/local/bin`,
    /// `/usr/sbin`, `/usr/bin`, `/sbin`, `/bin`. It is opened once, checked, and the opened file is what runs; a `#!`
    /// script runs by its real path after a second look. A program this run may write to is refused.
    ///
    /// An argument that begins with `-` must stand in the script, whole or as far as its `=`: what comes from a
    /// parameter, a file or a server is not taken for an option, unless `--` stands before it, or the script vouches
    /// for it with `exec::option`. A secret in the list is an error, since everyone can see it there.
    ///
    /// ```rhai
    /// let said = exec::run(["/bin/echo", "$HOME; ls"]);
    /// said.stdout == "$HOME; ls\n" && said.code == 0
    /// ```
    ///
    /// Options: `stdin` (a text or secret; none when absent), `cwd` (the run's directory when absent), `env` (more
    /// variables; a secret is refused, since variables can be looked at), `secret_files` (for each variable a secret,
    /// or a list of texts and secrets that are joined: it is written to a private file that is there as long as the
    /// program, and the variable is its path), `timeout` (60 s), `max_output` (1 MiB of each output; the rest is
    /// dropped), `ok_codes` (`[0]`). Its environment is `PATH`, `LC_ALL=C.UTF-8`, `HOME`, `TMPDIR` and these, of which
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
        call.answer(&ended)
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
        call.answer(&ended)
    }

    /// Runs programs at once, at most 60 s.
    #[rhai_fn(return_raw, volatile)]
    pub fn pipe(native: NativeCallContext, stages: Array) -> RhaiResultOf<Dynamic> {
        pipe_with(native, stages, Map::new())
    }

    /// An argument that comes from data, even when the script has the same text somewhere: `exec::run` refuses it
    /// when it begins with `-`, unless `--` stands before it, so that it is never taken for an option. `find` and
    /// `curl` know no `--`, so there it never may.
    ///
    /// ```rhai
    /// let refused = false;
    /// try { exec::run(["/bin/echo", exec::arg("-n")]); } catch { refused = true; }
    /// refused && exec::run(["/bin/echo", exec::arg("n")]).ok
    /// ```
    pub fn arg(value: Dynamic) -> Dynamic {
        Dynamic::from(DataArgument(value.to_string()))
    }

    /// An option that the script puts together itself, and answers for: no data may decide how it begins.
    ///
    /// ```rhai
    /// let lines = 2;
    /// exec::run(["head", exec::option(`-n${lines}`)], #{ stdin: "a\nb\nc\n" }).stdout == "a\nb\n"
    /// ```
    pub fn option(value: Dynamic) -> Dynamic {
        Dynamic::from(OptionArgument(value.to_string()))
    }
}

/// Finds every program and checks everything that can be checked before the start.
fn prepared(call: &Call<'_>, stages: &[Array], options: &RunOptions) -> RhaiResultOf<Pipeline> {
    let stages: Result<Vec<Stage>> = stages.iter().map(|argv| stage(call, argv)).collect();
    let stages = stages.map_err(|error| call.fail(error))?;
    if stages.is_empty() {
        return Err(call.fail(Error::new(Kind::Invalid, "there is no program to run").hint("give a list like [\"df\", \"-h\"]")));
    }
    let asked = asked(call, options).map_err(|error| call.fail(error))?;
    let env = environment::variables(call.ctx(), &asked).map_err(|error| call.fail(error))?;
    let mut secret_files = BTreeMap::new();
    for (name, content) in &options.secret_files {
        environment::admit(name, "").map_err(|error| call.fail(error))?;
        let parts: RhaiResultOf<Vec<String>> = content.parts().iter().map(|part| open(call, part, &stages)).collect();
        secret_files.insert(name.clone(), parts?.concat());
    }
    let private = call.ctx().run().directory.join(SECRET_FILES);
    let stdin = options.stdin.as_ref().map(|text| open(call, text, &stages)).transpose()?;
    let cwd = match &options.cwd {
        Some(path) if !path.starts_with('/') => {
            return Err(call.fail(Error::new(Kind::Invalid, format!("option `cwd`: `{path}` is not absolute"))));
        }
        Some(path) => path.into(),
        None => environment::home(call.ctx()),
    };
    let (timeout, max_output, ok_codes) = options.limits();
    let sandbox = call.ctx().sandbox().cloned();
    Ok(Pipeline { stages, stdin, cwd, env, secret_files, private, timeout, max_output, ok_codes, sandbox })
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
    let arguments = argument::arguments(call.ctx(), &name, arguments)?;
    Ok(Stage { program, arguments })
}

/// The variables the script asks for. A secret is refused: whoever may look at processes would see it.
fn asked(call: &Call<'_>, options: &RunOptions) -> Result<BTreeMap<String, String>> {
    let plain = |(name, value): (&String, &SecretText)| match value {
        SecretText::Plain(text) => match argument::secret_in(call.ctx(), text) {
            Some(secret) => Err(shown(name, &format!("holds the secret `{secret}`"))),
            None => Ok((name.clone(), text.clone())),
        },
        SecretText::Secret(_) => Err(shown(name, "is a secret")),
    };
    options.env.iter().map(plain).collect()
}

fn shown(variable: &str, what: &str) -> Error {
    Error::new(Kind::Invalid, format!("option `env`: `{variable}` {what}, and variables of a program can be looked at"))
        .hint(format!("give it by `stdin`, or in a file whose path is the variable: `secret_files: #{{ {variable}: … }}`"))
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
