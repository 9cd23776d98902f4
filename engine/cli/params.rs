//! Parameters on a command line: `-p key=value`, `-p key=@file`, `-p key=-`, `--params FILE`, and typed
//! flags after `--`.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::config::Environment;
use crate::error::{Error, Kind, Result};
use crate::model::{Header, ParamType};
use crate::script::Given;

/// How parameters are given.
#[derive(Debug, Default, clap::Args)]
pub(super) struct ParamArgs {
    /// Set a parameter; `KEY=@FILE` reads a file, `KEY=-` standard input, `KEY=env:NAME` a variable
    #[arg(short, value_name = "KEY=VALUE", add = crate::cli::complete::params())]
    pub(super) p: Vec<String>,
    /// Set parameters from a TOML or JSON file
    #[arg(long, value_name = "FILE")]
    pub(super) params: Option<PathBuf>,
    /// The parameters as flags: `-- --keep 7`
    #[arg(last = true, value_name = "FLAGS")]
    pub(super) flags: Vec<String>,
}

impl ParamArgs {
    /// Whether none was given.
    pub(super) fn is_none(&self) -> bool {
        self.p.is_empty() && self.params.is_none() && self.flags.is_empty()
    }
}

/// The longest value read from a file.
const LONGEST: u64 = 1 << 20;

/// What was given, and the secrets among it: their values never become parameters.
pub(super) fn read(
    args: &ParamArgs,
    header: &Header,
    environment: &Environment,
) -> Result<(BTreeMap<String, Given>, BTreeMap<String, String>)> {
    let mut given = BTreeMap::new();
    if let Some(path) = &args.params {
        given.extend(from_file(path)?);
    }
    let pairs = args.p.iter().map(|pair| split(pair)).chain(flags(&args.flags));
    for pair in pairs {
        let (key, text) = pair?;
        let is_secret = header.params.get(&key).is_some_and(|param| param.kind == ParamType::Secret);
        let value = value_of(&key, &text, is_secret, environment)?;
        given.insert(key, Given::Text(value));
    }
    let secrets = secrets_of(&mut given, header);
    Ok((given, secrets))
}

/// The name of the secret that is given as this parameter.
pub(super) fn secret_of(parameter: &str) -> String {
    format!("parameter-{parameter}")
}

/// Takes the values of secrets out of what was given, and leaves their names there.
pub(super) fn secrets_of(given: &mut BTreeMap<String, Given>, header: &Header) -> BTreeMap<String, String> {
    let mut secrets = BTreeMap::new();
    for (name, value) in given {
        if header.params.get(name).is_some_and(|param| param.kind == ParamType::Secret)
            && let Given::Text(text) = value
        {
            let secret = secret_of(name);
            secrets.insert(secret.clone(), std::mem::replace(text, secret));
        }
    }
    secrets
}

fn split(pair: &str) -> Result<(String, String)> {
    match pair.split_once('=') {
        Some((key, value)) => Ok((key.trim().to_owned(), value.to_owned())),
        None => Err(Error::new(Kind::Usage, format!("`{pair}` is not KEY=VALUE")).hint(format!("write `-p {pair}=…`"))),
    }
}

fn flags(flags: &[String]) -> impl Iterator<Item = Result<(String, String)>> {
    let mut rest = flags.iter().peekable();
    std::iter::from_fn(move || {
        let flag = rest.next()?;
        let Some(name) = flag.strip_prefix("--") else {
            return Some(Err(
                Error::new(Kind::Usage, format!("`{flag}` is not a flag")).hint("parameters after `--` are written `--name value`")
            ));
        };
        if let Some((name, value)) = name.split_once('=') {
            return Some(Ok((name.to_owned(), value.to_owned())));
        }
        // A flag without a value is switched on.
        let value = rest.next_if(|next| !next.starts_with("--")).cloned().unwrap_or_else(|| "true".to_owned());
        Some(Ok((name.to_owned(), value)))
    })
}

fn value_of(key: &str, text: &str, is_secret: bool, environment: &Environment) -> Result<String> {
    if let Some(path) = text.strip_prefix('@') {
        let read = read_file(Path::new(path))?;
        return Ok(if is_secret { read.trim_end_matches(['\r', '\n']).to_owned() } else { read });
    }
    if text == "-" {
        let mut read = String::new();
        std::io::stdin().take(LONGEST).read_to_string(&mut read).map_err(|error| Error::because(Kind::Usage, "standard input", &error))?;
        return Ok(read.trim_end_matches(['\r', '\n']).to_owned());
    }
    if let Some(name) = text.strip_prefix("env:") {
        return environment
            .get(name)
            .map(str::to_owned)
            .ok_or_else(|| Error::new(Kind::Usage, format!("parameter `{key}`: the variable `{name}` is not set")));
    }
    if is_secret {
        return Err(Error::new(
            Kind::Usage,
            format!("parameter `{key}` is a secret, and the command line is visible to everyone on this machine"),
        )
        .hint(format!("write `-p {key}=@FILE`, `-p {key}=-` or `-p {key}=env:NAME`")));
    }
    Ok(text.to_owned())
}

fn read_file(path: &Path) -> Result<String> {
    let failed = |error: std::io::Error| Error::because(Kind::Usage, format_args!("`{}` can not be read", path.display()), &error);
    let mut text = String::new();
    std::fs::File::open(path).map_err(failed)?.take(LONGEST).read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}

fn from_file(path: &Path) -> Result<BTreeMap<String, Given>> {
    let text = read_file(path)?;
    let wrong = |error: &dyn std::fmt::Display| Error::new(Kind::Usage, format!("`{}` holds no parameters: {error}", path.display()));
    let values: BTreeMap<String, serde_json::Value> = if path.extension().is_some_and(|extension| extension == "json") {
        serde_json::from_str(&text).map_err(|error| wrong(&error))?
    } else {
        toml::from_str(&text).map_err(|error| wrong(&error.message()))?
    };
    Ok(values.into_iter().map(|(key, value)| (key, Given::Value(value))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_after_two_dashes_are_parameters() {
        let words = ["--keep", "7", "--mode=fast", "--force", "--last", "x"].map(str::to_owned);
        let pairs: Vec<_> = flags(&words).collect::<Result<_>>().unwrap();
        let expected = [("keep", "7"), ("mode", "fast"), ("force", "true"), ("last", "x")];
        assert_eq!(pairs, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
        assert!(flags(&["keep".to_owned()]).next().unwrap().is_err());
    }

    #[test]
    fn a_secret_on_the_command_line_is_refused() {
        let error = value_of("token", "hunter22", true, &Environment::default()).unwrap_err();
        assert!(error.message.contains("visible to everyone"));
        assert!(!error.message.contains("hunter22"));
    }
}
