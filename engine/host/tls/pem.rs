//! Reading PEM files a script names.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags};

use crate::error::{Error, Kind, Result};
use crate::host::{Access, Permissions};

/// No chain and no key is larger.
const LARGEST: u64 = 1 << 20;

/// The content of a small file the permissions cover.
///
/// They are asked for the file as it is once opened, so that a link leads nowhere else; unless the
/// grant is for this very path, as certificates are often links to the newest one.
///
/// # Errors
///
/// `denied`, `not_found`, or `invalid` when it is no regular file or too large.
pub(in crate::host) fn read_pem(permissions: &Permissions, path: &Path) -> Result<Vec<u8>> {
    if !path.is_absolute() {
        return Err(Error::new(Kind::Invalid, format!("`{}` is no absolute path", path.display())));
    }
    let grant = permissions.check(&Access::path("read", path))?;
    // A handle that can not be read from yet: opening a device or a pipe for reading does something.
    let handle = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(|error| unreadable(path, error.into()))?;
    let link = format!("/proc/self/fd/{}", handle.as_raw_fd());
    if Path::new(&grant.object) != path {
        let opened = std::fs::read_link(&link).map_err(|error| unreadable(path, error))?;
        permissions.check(&Access::path("read", &opened))?;
    }
    if !is_file(&handle) {
        return Err(Error::new(Kind::Invalid, format!("`{}` is no regular file", path.display())));
    }
    let mut content = Vec::new();
    let file = File::open(link).map_err(|error| unreadable(path, error))?;
    file.take(LARGEST + 1).read_to_end(&mut content).map_err(|error| unreadable(path, error))?;
    if content.len() as u64 > LARGEST {
        return Err(Error::new(Kind::Invalid, format!("`{}` is larger than 1 MiB, expected a PEM file", path.display())));
    }
    Ok(content)
}

fn is_file(handle: &OwnedFd) -> bool {
    rustix::fs::fstat(handle).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode).is_file())
}

fn unreadable(path: &Path, error: std::io::Error) -> Error {
    let kind = match error.kind() {
        std::io::ErrorKind::NotFound => Kind::NotFound,
        std::io::ErrorKind::PermissionDenied => Kind::Refused,
        _ => Kind::Invalid,
    };
    Error::because(kind, format_args!("`{}` can not be read", path.display()), &error).target(path.display().to_string())
}
