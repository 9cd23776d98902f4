//! Modes and owners, as people write them.

use std::path::Path;

use rustix::fs::{Gid, Uid};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::error::{Error, Kind, Result};

/// The permission bits of a file: `0644`. Set-user-id and set-group-id are not among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bits(pub(super) u32);

impl Bits {
    /// Reads `0644` or `644`.
    ///
    /// # Errors
    ///
    /// `invalid` for anything else.
    pub(super) fn read(text: &str) -> Result<Self> {
        let bits = u32::from_str_radix(text, 8).ok().filter(|bits| *bits <= 0o1777 && text.len() >= 3);
        bits.map(Self).ok_or_else(|| {
            Error::new(Kind::Invalid, format!("`{text}` is not a mode")).hint("write it in octal, as in \"0644\", without set-user-id bits")
        })
    }

    /// The kernel's own type.
    pub(super) fn mode(self) -> rustix::fs::Mode {
        rustix::fs::Mode::from_raw_mode(self.0)
    }

    /// Whether only the owner and his group may read.
    pub(super) fn is_private(self) -> bool {
        self.0 & 0o004 == 0
    }
}

impl std::fmt::Display for Bits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

impl Serialize for Bits {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Bits {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::read(&String::deserialize(deserializer)?).map_err(|error| de::Error::custom(error.message))
    }
}

/// Who shall own a file: `user:group`, `user` or `:group`, by name or number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) user: Option<Uid>,
    pub(super) group: Option<Gid>,
}

impl Owner {
    /// Looks up the names on this machine.
    ///
    /// # Errors
    ///
    /// `not_found` for a name that is not known, `invalid` for an empty text.
    pub(super) fn read(text: &str) -> Result<Self> {
        let (user, group) = text.split_once(':').unwrap_or((text, ""));
        if user.is_empty() && group.is_empty() {
            return Err(Error::new(Kind::Invalid, "the owner is empty").hint("write it like \"postgres:postgres\""));
        }
        let id = |file: &str, name: &str| match name {
            "" => Ok(None),
            _ => number(file, name).map(Some).ok_or_else(|| Error::new(Kind::NotFound, format!("`{file}` does not know `{name}`"))),
        };
        Ok(Self { user: id(USERS, user)?.map(Uid::from_raw), group: id(GROUPS, group)?.map(Gid::from_raw) })
    }
}

const USERS: &str = "/etc/passwd";
const GROUPS: &str = "/etc/group";

/// The name of a user; the number when it has none.
pub(super) fn user_name(id: u32) -> String {
    name_of(USERS, id).unwrap_or_else(|| id.to_string())
}

/// The name of a group; the number when it has none.
pub(super) fn group_name(id: u32) -> String {
    name_of(GROUPS, id).unwrap_or_else(|| id.to_string())
}

/// Both files hold `name:password:number:…`, as of passwd(5) and group(5).
fn records(file: &str) -> Vec<(String, u32)> {
    let text = std::fs::read_to_string(Path::new(file)).unwrap_or_default();
    let record = |line: &str| {
        let mut fields = line.split(':');
        Some((fields.next()?.to_owned(), fields.nth(1)?.parse().ok()?))
    };
    text.lines().filter_map(record).collect()
}

/// A name that is all digits is a number, as for chown(1) when no such name exists.
fn number(file: &str, name: &str) -> Option<u32> {
    records(file).into_iter().find(|(known, _)| known == name).map(|(_, id)| id).or_else(|| name.parse().ok().filter(|id| *id != u32::MAX))
}

fn name_of(file: &str, id: u32) -> Option<String> {
    records(file).into_iter().find(|(_, known)| *known == id).map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_octal_and_never_change_the_user() {
        assert_eq!(Bits::read("0640").unwrap().to_string(), "0640");
        for text in ["", "8", "0999", "4755", "u+x", "7"] {
            assert!(Bits::read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn owners_are_names_or_numbers() {
        let root = Owner::read("root:0").unwrap();
        assert_eq!((root.user, root.group), (Some(Uid::ROOT), Some(Gid::ROOT)));
        assert_eq!(Owner::read(":root").unwrap().user, None);
        assert_eq!(Owner::read("nobody-of-that-name").unwrap_err().kind, Kind::NotFound);
        assert_eq!(Owner::read(":").unwrap_err().kind, Kind::Invalid);
        assert_eq!(user_name(0), "root");
    }
}
