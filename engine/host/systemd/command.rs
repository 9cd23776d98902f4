//! Starting systemd's own programs: by absolute path, with a clean environment, an end, and a cap.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

use crate::error::{Error, Kind, Result};
use crate::model::Span;

const DIRECTORIES: [&str; 2] = ["/usr/bin", "/bin"];
const MAX_BYTES: u64 = 32 << 20;

/// What a program said.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) ok: bool,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

/// Runs a program to its end.
pub(super) async fn run(program: &str, arguments: &[String], limit: Duration) -> Result<Said> {
    let path = find(program)?;
    let failed = |error: std::io::Error| Error::because(Kind::Remote, format_args!("`{}`", path.display()), &error);
    let mut command = Command::new(&path);
    command.args(arguments).env_clear().env("LC_ALL", "C").env("PATH", DIRECTORIES.join(":")).env("SYSTEMD_COLORS", "0");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).kill_on_drop(true);
    let mut child = command.spawn().map_err(failed)?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let work = async {
        let (stdout, stderr, status) = tokio::join!(read(stdout), read(stderr), child.wait());
        Ok(Said { ok: status?.success(), stdout: stdout?, stderr: stderr? })
    };
    match tokio::time::timeout(limit, work).await {
        Ok(said) => said.map_err(failed),
        Err(_) => Err(Error::new(Kind::Timeout, format!("`{program}` did not end within {}", Span(limit)))),
    }
}

/// All of a pipe up to the cap; the rest is read and dropped, so that the program can end.
async fn read(pipe: Option<impl AsyncRead + Unpin>) -> std::io::Result<String> {
    let Some(mut pipe) = pipe else { return Ok(String::new()) };
    let mut bytes = Vec::new();
    (&mut pipe).take(MAX_BYTES).read_to_end(&mut bytes).await?;
    tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn find(program: &str) -> Result<PathBuf> {
    let paths = DIRECTORIES.map(|directory| PathBuf::from(directory).join(program));
    paths.into_iter().find(|path| path.is_file()).ok_or_else(|| {
        Error::new(Kind::NotFound, format!("there is no `{program}` in {}", DIRECTORIES.join(" or "))).hint("it comes with systemd")
    })
}
