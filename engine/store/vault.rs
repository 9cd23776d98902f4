//! Secrets that were set with `runbook secret set`, encrypted at rest.
//!
//! One file each, sealed with AES-256-GCM and bound to its name, so that two files can not be exchanged.
//! The keys are kept elsewhere: who gets at the state directory, or at a backup of it, has names only.

use std::path::{Path, PathBuf};

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, Zeroizing};

use crate::error::{Error, Kind, Result};
use crate::store::{StateDir, write_private};
use crate::words;

/// How a sealed file begins.
const MAGIC: &[u8] = b"runbook secret 1\n";
/// How many bytes of its hash name a key.
const ID: usize = 8;
/// How many bytes a key has.
const LENGTH: usize = 32;

/// The keys of a vault: the first one seals, any of them opens.
pub struct Keys(Vec<Zeroizing<[u8; LENGTH]>>);

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} keys", self.0.len())
    }
}

impl Keys {
    /// One new key.
    ///
    /// # Errors
    ///
    /// `bug`, when the system has no random numbers.
    pub fn fresh() -> Result<Self> {
        let mut key = Zeroizing::new([0; LENGTH]);
        aws_lc_rs::rand::fill(&mut *key).map_err(|_| Error::new(Kind::Bug, "there are no random numbers for a key"))?;
        Ok(Self(vec![key]))
    }

    /// A new key before these.
    ///
    /// # Errors
    ///
    /// As [`Keys::fresh`].
    pub fn renewed(self) -> Result<Self> {
        let mut keys = Self::fresh()?;
        keys.0.extend(self.0);
        Ok(keys)
    }

    /// Only the key that seals.
    pub fn first(mut self) -> Self {
        self.0.truncate(1);
        self
    }

    /// Keys as they are kept: one a line, in hex.
    ///
    /// # Errors
    ///
    /// `config`, when one of them is none.
    pub fn read(text: &str) -> Result<Self> {
        let bad = || {
            let error = Error::new(Kind::Config, format!("a key is not {} hexadecimal digits", 2 * LENGTH));
            error.hint("each line of the key file is one; the first one seals, the others open what is older")
        };
        let mut keys = Vec::new();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let bytes = Zeroizing::new(words::unhex(line).ok_or_else(bad)?);
            keys.push(Zeroizing::new(<[u8; LENGTH]>::try_from(bytes.as_slice()).map_err(|_| bad())?));
        }
        if keys.is_empty() { Err(bad()) } else { Ok(Self(keys)) }
    }

    /// The text [`Keys::read`] reads.
    pub fn text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(self.0.len() * (2 * LENGTH + 1)));
        for key in &self.0 {
            key.iter().for_each(|byte| text.push_str(&format!("{byte:02x}")));
            text.push('\n');
        }
        text
    }

    fn seal(&self, name: &str, value: &str) -> Result<Vec<u8>> {
        let failed = |_| Error::new(Kind::Bug, format!("secret `{name}` can not be sealed"));
        let key = self.0.first().ok_or_else(|| Error::new(Kind::Bug, "there is no key"))?;
        // Room for the tag, so that no copy of the value is left behind by growing.
        let mut sealed = Vec::with_capacity(value.len() + 16);
        sealed.extend_from_slice(value.as_bytes());
        let sealing = RandomizedNonceKey::new(&AES_256_GCM, &**key).map_err(failed)?;
        let nonce = sealing.seal_in_place_append_tag(Aad::from(name.as_bytes()), &mut sealed).map_err(failed)?;
        Ok([MAGIC, &id(key), nonce.as_ref().as_slice(), &sealed].concat())
    }

    fn open(&self, name: &str, file: &[u8]) -> Result<String> {
        let unreadable = |why: &str| {
            Error::new(Kind::Config, format!("secret `{name}` {why}")).hint(format!("set it again: `runbook secret set {name}`"))
        };
        let rest = file.strip_prefix(MAGIC).ok_or_else(|| unreadable("is not encrypted"))?;
        let (key_id, rest) = rest.split_at_checked(ID).ok_or_else(|| unreadable("is damaged"))?;
        let (nonce, sealed) = rest.split_at_checked(NONCE_LEN).ok_or_else(|| unreadable("is damaged"))?;
        let key = self.0.iter().find(|key| id(key) == key_id).ok_or_else(|| unreadable("was sealed with a key that is not there"))?;
        let mut sealed = Zeroizing::new(sealed.to_vec());
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| unreadable("is damaged"))?;
        let opening = RandomizedNonceKey::new(&AES_256_GCM, &**key).map_err(|_| unreadable("is damaged"))?;
        let opened = opening
            .open_in_place(nonce, Aad::from(name.as_bytes()), &mut sealed)
            .map_err(|_| unreadable("is damaged, or was sealed under another name"))?;
        std::str::from_utf8(opened).map(str::to_owned).map_err(|_| unreadable("is damaged"))
    }
}

/// What names a key without telling it.
fn id(key: &[u8; LENGTH]) -> [u8; ID] {
    let mut id = [0; ID];
    id.copy_from_slice(&Sha256::digest(key)[..ID]);
    id
}

/// The sealed secrets of a state directory.
#[derive(Debug)]
pub struct Vault(PathBuf);

impl Vault {
    /// The one of this state directory.
    pub fn of(state: &StateDir) -> Self {
        Self(state.root().join("secrets"))
    }

    /// The names of the secrets.
    ///
    /// # Errors
    ///
    /// `store`, when they can not be listed.
    pub fn names(&self) -> Result<Vec<String>> {
        let entries = match std::fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Error::because(Kind::Store, "the secrets can not be listed", &error)),
        };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let mut names: Vec<String> = names.filter(|name| is_name(name)).collect();
        names.sort();
        Ok(names)
    }

    /// Whether there is a secret of this name.
    pub fn has(&self, name: &str) -> bool {
        is_name(name) && self.0.join(name).exists()
    }

    /// Opens a secret.
    ///
    /// # Errors
    ///
    /// `config`, when others can read its file, none of the keys opens it, or it is damaged.
    pub fn get(&self, name: &str, keys: &Keys) -> Result<String> {
        use std::os::unix::fs::MetadataExt;
        let path = self.0.join(name);
        let failed = |error: &std::io::Error| Error::because(Kind::Config, format_args!("secret `{name}`"), error);
        if std::fs::metadata(&path).map_err(|error| failed(&error))?.mode() & 0o077 != 0 {
            return Err(Error::new(Kind::Config, format!("the file of secret `{name}` can be read by others"))
                .hint(format!("chmod 600 {}", path.display())));
        }
        keys.open(name, &std::fs::read(&path).map_err(|error| failed(&error))?)
    }

    /// Keeps a secret. Durable when it returns.
    ///
    /// # Errors
    ///
    /// `store`, when it can not be written; the old value is still there then.
    pub fn set(&self, name: &str, value: &str, keys: &Keys) -> Result<()> {
        write_private(&self.0, name, &keys.seal(name, value)?)
            .map_err(|error| Error::because(Kind::Store, format_args!("secret `{name}` can not be kept"), &error))
    }

    /// Forgets a secret, and whether there was one.
    ///
    /// # Errors
    ///
    /// `store`, when it can not be removed.
    pub fn remove(&self, name: &str) -> Result<bool> {
        match std::fs::remove_file(self.path(name)?) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::because(Kind::Store, format_args!("secret `{name}` can not be removed"), &error)),
        }
    }

    /// Seals every secret anew with the first of the keys, and how many they were. Where it stops short, what is
    /// sealed with an older key stays so.
    ///
    /// # Errors
    ///
    /// As [`Vault::get`] and [`Vault::set`].
    pub fn reseal(&self, keys: &Keys) -> Result<usize> {
        let names = self.names()?;
        for name in &names {
            let mut value = self.get(name, keys)?;
            let sealed = self.set(name, &value, keys);
            value.zeroize();
            sealed?;
        }
        Ok(names.len())
    }

    fn path(&self, name: &str) -> Result<PathBuf> {
        if is_name(name) {
            Ok(self.0.join(name))
        } else {
            Err(Error::new(Kind::Usage, format!("`{}` is no name of a secret", name.escape_default())))
        }
    }
}

/// Whether a secret may be called so: the name is that of a file as well.
pub fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= 100 && name.chars().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_'))
}

/// Keeps keys in a file of mode 0600. Durable when it returns.
///
/// # Errors
///
/// `config`, when it can not be written.
pub fn keep_keys(path: &Path, keys: &Keys) -> Result<()> {
    let failed = |error: &std::io::Error| Error::because(Kind::Config, format_args!("the key file `{}`", path.display()), error);
    let (Some(directory), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Err(failed(&std::io::ErrorKind::InvalidFilename.into()));
    };
    write_private(directory, name, keys.text().as_bytes()).map_err(|error| failed(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vault() -> (tempfile::TempDir, Vault) {
        let directory = tempfile::tempdir().unwrap();
        let vault = Vault(directory.path().join("secrets"));
        (directory, vault)
    }

    #[test]
    fn a_secret_is_read_with_its_key_and_with_no_other() {
        let (_directory, vault) = vault();
        let keys = Keys::fresh().unwrap();
        vault.set("db", "correct horse", &keys).unwrap();
        assert_eq!(vault.get("db", &Keys::read(&keys.text()).unwrap()).unwrap(), "correct horse");
        let file = std::fs::read(vault.0.join("db")).unwrap();
        assert!(!file.windows(7).any(|window| window == b"correct"));
        let error = vault.get("db", &Keys::fresh().unwrap()).unwrap_err();
        assert_eq!(error.message, "secret `db` was sealed with a key that is not there");
    }

    #[test]
    fn a_file_that_was_changed_or_exchanged_is_refused() {
        let (_directory, vault) = vault();
        let keys = Keys::fresh().unwrap();
        vault.set("a", "correct horse", &keys).unwrap();
        let file = std::fs::read(vault.0.join("a")).unwrap();
        write_private(&vault.0, "b", &file).unwrap();
        assert!(vault.get("b", &keys).unwrap_err().message.contains("under another name"));
        for at in 0..file.len() {
            let mut changed = file.clone();
            changed[at] ^= 1;
            assert!(keys.open("a", &changed).is_err(), "byte {at}");
            assert!(keys.open("a", &file[..at]).is_err(), "{at} bytes");
        }
        write_private(&vault.0, "plain", b"correct horse").unwrap();
        assert!(vault.get("plain", &keys).unwrap_err().message.contains("is not encrypted"));
    }

    #[test]
    fn after_a_rotation_the_old_key_opens_nothing() {
        let (_directory, vault) = vault();
        let old = Keys::fresh().unwrap();
        vault.set("a", "correct horse", &old).unwrap();
        let both = Keys::read(&old.text()).unwrap().renewed().unwrap();
        assert_eq!(vault.get("a", &both).unwrap(), "correct horse");
        assert_eq!(vault.reseal(&both).unwrap(), 1);
        assert_eq!(vault.get("a", &both.first()).unwrap(), "correct horse");
        assert!(vault.get("a", &old).is_err());
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for text in ["", "abc", &"x".repeat(64), &"é".repeat(32)] {
            assert!(Keys::read(text).is_err(), "{text}");
        }
    }
}
