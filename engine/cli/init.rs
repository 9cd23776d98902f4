//! `runbook init`: makes a project.

use std::io::Write;
use std::path::{Path, PathBuf};

use crate::cli::app::App;
use crate::cli::terminal::{STRONG, styled};
use crate::config::{FILE, Problems};
use crate::error::{Error, Kind, Result};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The directory; made when it is not there
    #[arg(default_value = ".")]
    dir: PathBuf,
}

/// The files of a new project, by path.
const FILES: &[(&str, &str)] = &[
    (FILE, include_str!("templates/runbook.toml")),
    ("runbooks/hello.rhai", include_str!("templates/hello.rhai")),
    (".gitignore", include_str!("templates/gitignore")),
];

pub(super) fn run(args: Args, app: &App) -> Result<u8, Problems> {
    let root = app.directory().join(&args.dir);
    // Its own files are never overwritten; a `.gitignore` is somebody else's, and stays.
    for (path, _) in FILES.iter().filter(|(path, _)| *path != ".gitignore") {
        if root.join(path).exists() {
            return Err(Error::new(Kind::Usage, format!("`{}` is there already; nothing was changed", root.join(path).display()))
                .hint("add a runbook with `runbook new NAME`")
                .into());
        }
    }
    for (path, text) in FILES {
        let file = root.join(path);
        if !file.exists() {
            write_new(&file, text)?;
            app.terminal.say(&format!("made {}", args.dir.join(path).display()));
        }
    }
    let go = if args.dir == Path::new(".") { String::new() } else { format!("cd {} && ", args.dir.display()) };
    let next = ["run hello", "show hello", "new check-machine --from check"].map(|command| format!("  {go}runbook {command}"));
    app.terminal.answer(&format!("{}\n{}", styled(STRONG, "next:"), next.join("\n")));
    Ok(0)
}

/// Writes a file that must not be there yet.
pub(super) fn write_new(path: &Path, text: &str) -> Result<()> {
    let failed = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => Error::new(Kind::Usage, format!("`{}` is there already; nothing was changed", path.display()))
            .hint("choose another name, or remove it"),
        _ => Error::because(Kind::Usage, format_args!("`{}` can not be written", path.display()), &error),
    };
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).map_err(failed)?;
    }
    let mut file = std::fs::File::create_new(path).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)
}
