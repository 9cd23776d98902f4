//! The certificates a system names.

use std::path::Path;

use serde::Serialize;

use super::file::{FileOptions, FileReport, file};
use super::served::{PATIENCE, Question, Served};
use crate::error::{Error, Kind, Result};
use crate::host::dial::Peer;
use crate::host::trust::Trust;
use crate::host::{Access, Ctx};

/// A certificate where it lies and where it is served.
#[derive(Debug, Serialize)]
pub(super) struct Both {
    ok: bool,
    problem: Option<String>,
    days_left: i64,
    matches: Option<bool>,
    file: Option<FileReport>,
    served: Option<Served>,
}

/// Looks at a certificate of the system wherever it is.
pub(super) async fn certificate(ctx: &Ctx, name: &str) -> Result<Both> {
    let certificates = &ctx.system().certificates;
    let certificate = certificates.get(name).ok_or_else(|| {
        let error = Error::new(Kind::NotFound, format!("the system has no certificate `{name}`"));
        error.suggest_or(name, certificates.keys(), || {
            format!("add `[certificates.{name}]` with `file`, `served` or both to the file of the system")
        })
    })?;
    let (permissions, now) = (ctx.permissions(), ctx.now());
    let in_file = match &certificate.file {
        Some(path) => Some(file(permissions, Path::new(path), &FileOptions::default(), now)?),
        None => None,
    };
    let served = match &certificate.served {
        Some(address) => {
            let peer = Peer::parse(address)?;
            let question = Question {
                grant: permissions.check(&Access::host("connect", &peer.host, peer.port))?.clone(),
                name: certificate.name.clone().unwrap_or_else(|| peer.host.clone()),
                // The operator names it, so it needs no grant.
                trust: Trust::of_file(certificate.ca.as_deref().map(Path::new))?,
                timeout: PATIENCE,
                starttls: None,
                peer,
            };
            Some(question.ask(permissions, now).await?)
        }
        None => None,
    };
    compare(name, in_file, served)
}

fn compare(name: &str, file: Option<FileReport>, served: Option<Served>) -> Result<Both> {
    let days = file.iter().map(|file| file.leaf.days_left).chain(served.iter().map(|served| served.leaf.days_left));
    let days_left = days.min().ok_or_else(|| {
        Error::new(Kind::Invalid, format!("certificate `{name}` has neither `file` nor `served`, expected one of them or both"))
    })?;
    let matches = file.as_ref().zip(served.as_ref()).map(|(file, served)| file.leaf.serial == served.leaf.serial);
    let of_file = file.as_ref().and_then(|file| file.problem.as_ref()).map(|problem| format!("in the file: {problem}"));
    let of_server = served.as_ref().and_then(|served| served.problem.as_ref()).map(|problem| format!("as served: {problem}"));
    let of_both = (matches == Some(false)).then(|| "the server shows another certificate than the one in the file".to_owned());
    let problem = of_server.or(of_file).or(of_both);
    Ok(Both { ok: problem.is_none(), problem, days_left, matches, file, served })
}
