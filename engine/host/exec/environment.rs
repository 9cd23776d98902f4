//! What a program is told: a short list of variables, and nothing this process was told.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::error::{Error, Kind, Result};
use crate::host::Ctx;
use crate::host::exec::program::SEARCHED;

/// Variables that make a program load or start something else, or send what it does elsewhere.
const REFUSED: [&str; 41] = [
    "PATH",
    "IFS",
    "ENV",
    "BASH_ENV",
    "SHELLOPTS",
    "BASHOPTS",
    "PS4",
    "PROMPT_COMMAND",
    "GCONV_PATH",
    "LOCPATH",
    "NLSPATH",
    "GLIBC_TUNABLES",
    "TZDIR",
    "PYTHONPATH",
    "PYTHONHOME",
    "PYTHONSTARTUP",
    "PYTHONINSPECT",
    "PERL5LIB",
    "PERL5OPT",
    "PERL5DB",
    "PERLLIB",
    "RUBYOPT",
    "RUBYLIB",
    "NODE_OPTIONS",
    "NODE_PATH",
    "CLASSPATH",
    "JAVA_TOOL_OPTIONS",
    "_JAVA_OPTIONS",
    "GIT_SSH",
    "GIT_ASKPASS",
    "GIT_EXEC_PATH",
    "GIT_EXTERNAL_DIFF",
    "GIT_PAGER",
    "GIT_EDITOR",
    "SSH_ASKPASS",
    "PAGER",
    "EDITOR",
    "VISUAL",
    "TAR_OPTIONS",
    "RSYNC_RSH",
    "PGPASSWORD",
];
const REFUSED_BEGINNINGS: [&str; 7] = ["LD_", "DYLD_", "MALLOC_", "BASH_FUNC", "RUNBOOK_", "GIT_SSH_", "GIT_CONFIG"];

/// The directory a program starts in and keeps its temporary files in.
pub(super) fn home(ctx: &Ctx) -> PathBuf {
    let own = &ctx.run().directory;
    if own.is_dir() { own.clone() } else { PathBuf::from("/") }
}

/// All variables of a program.
///
/// # Errors
///
/// `invalid` for a name that is none, `denied` for one that would make it do something else.
pub(super) fn variables(ctx: &Ctx, asked: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>> {
    let home = home(ctx);
    let directory = |fallback: &str| if home == Path::new("/") { fallback.to_owned() } else { home.display().to_string() };
    let mut all = BTreeMap::from([
        ("PATH".to_owned(), SEARCHED.join(":")),
        ("LC_ALL".to_owned(), "C.UTF-8".to_owned()),
        ("HOME".to_owned(), directory("/nonexistent")),
        ("TMPDIR".to_owned(), directory("/tmp")),
    ]);
    for (name, value) in asked {
        admit(name, value)?;
        all.insert(name.clone(), value.clone());
    }
    Ok(all)
}

/// Whether a program may be given this variable.
///
/// # Errors
///
/// As [`variables`].
pub(super) fn admit(name: &str, value: &str) -> Result<()> {
    if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
        return Err(Error::new(Kind::Invalid, format!("`{}` is no environment variable", name.escape_debug())));
    }
    let upper = name.to_ascii_uppercase();
    let is_refused = REFUSED.contains(&upper.as_str())
        || upper.ends_with("_PROXY")
        || REFUSED_BEGINNINGS.iter().any(|beginning| upper.starts_with(beginning));
    if !is_refused {
        return Ok(());
    }
    let hint = match upper.as_str() {
        "PGPASSWORD" => "give it in a file: `secret_files: #{ PGPASSFILE: [\"*:*:*:*:\", secret::get(\"NAME\")] }`",
        _ => "it can make a program start or load another one; use an option of the program instead",
    };
    Err(Error::new(Kind::Denied, format!("the environment variable `{name}` is not given to programs")).hint(hint))
}
