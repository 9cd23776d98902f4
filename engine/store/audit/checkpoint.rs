//! A signed statement of where the audit log stands, to be kept elsewhere.

use std::path::Path;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::store::{now, write_private};

/// The name of the signing key in the state directory.
const KEY: &str = "audit.key";

/// How many rows the audit log has, and the hash of the last one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anchor {
    /// The number of the last row; 0 when there is none.
    pub count: u64,
    /// Its hash, in hex.
    pub head: String,
}

/// A signed [`Anchor`]. The audit log must go on from it for ever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Where the log stood.
    #[serde(flatten)]
    pub anchor: Anchor,
    /// When.
    pub at: Timestamp,
    /// The public key of Ed25519 that proves the signature, in Base64.
    pub key: String,
    /// The signature, in Base64.
    pub signature: String,
}

impl Checkpoint {
    /// Signs with the key of this state directory, which is made when it is not there.
    ///
    /// # Errors
    ///
    /// `store`, when the key can not be read or made.
    pub fn sign(state: &Path, anchor: Anchor) -> Result<Self> {
        let pair = key(state)?;
        let at = now();
        let signature = STANDARD.encode(pair.sign(&statement(&anchor, at)));
        Ok(Self { anchor, at, key: STANDARD.encode(pair.public_key()), signature })
    }

    /// Whether it was signed by its own key, and by `trusted` when that is given.
    ///
    /// # Errors
    ///
    /// `refused`, saying what is wrong with it.
    pub fn prove(&self, trusted: Option<&str>) -> Result<()> {
        if trusted.is_some_and(|trusted| trusted.trim() != self.key) {
            return Err(Error::new(Kind::Refused, format!("the checkpoint of {} was signed by another key", self.at))
                .hint(format!("it was signed by {}", self.key)));
        }
        let bytes = |text: &str| STANDARD.decode(text).unwrap_or_default();
        UnparsedPublicKey::new(&ED25519, bytes(&self.key))
            .verify(&statement(&self.anchor, self.at), &bytes(&self.signature))
            .map_err(|_| Error::new(Kind::Refused, format!("the signature of the checkpoint of {} does not hold", self.at)))
    }

    /// The public key of a state directory; nothing when none was made yet.
    ///
    /// # Errors
    ///
    /// `store`, when the key can not be read.
    pub fn key_of(state: &Path) -> Result<Option<String>> {
        Ok(read(state)?.map(|pair| STANDARD.encode(pair.public_key())))
    }
}

/// What is signed.
fn statement(anchor: &Anchor, at: Timestamp) -> Vec<u8> {
    format!("runbook audit checkpoint\n{}\n{}\n{at}\n", anchor.count, anchor.head).into_bytes()
}

fn key(state: &Path) -> Result<Ed25519KeyPair> {
    if let Some(pair) = read(state)? {
        return Ok(pair);
    }
    let unmade = |error: &dyn std::fmt::Display| Error::new(Kind::Store, format!("no key to sign with can be made: {error}"));
    let pair = Ed25519KeyPair::generate().map_err(|error| unmade(&error))?;
    let document = pair.to_pkcs8().map_err(|error| unmade(&error))?;
    write_private(state, KEY, document.as_ref()).map_err(|error| unmade(&error))?;
    Ok(pair)
}

fn read(state: &Path) -> Result<Option<Ed25519KeyPair>> {
    let path = state.join(KEY);
    let unread = |error: &dyn std::fmt::Display| Error::new(Kind::Store, format!("the key `{}`: {error}", path.display()));
    match std::fs::read(&path) {
        Ok(bytes) => Ed25519KeyPair::from_pkcs8(&bytes).map(Some).map_err(|error| unread(&error)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unread(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_that_was_changed_or_signed_by_another_proves_nothing() {
        let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let anchor = Anchor { count: 7, head: "ab".to_owned() };
        let signed = Checkpoint::sign(ours.path(), anchor.clone()).unwrap();
        let key = Checkpoint::key_of(ours.path()).unwrap().unwrap();
        signed.prove(Some(&key)).unwrap();
        let read: Checkpoint = serde_json::from_str(&serde_json::to_string(&signed).unwrap()).unwrap();
        read.prove(Some(&key)).unwrap();
        let changed = Checkpoint { anchor: Anchor { count: 6, ..anchor.clone() }, ..signed };
        assert_eq!(changed.prove(Some(&key)).unwrap_err().kind, Kind::Refused);
        let forged = Checkpoint::sign(theirs.path(), anchor).unwrap();
        assert!(forged.prove(Some(&key)).unwrap_err().message.contains("another key"));
    }

    #[test]
    fn the_key_is_its_owners_alone_and_stays() {
        use std::os::unix::fs::MetadataExt;
        let state = tempfile::tempdir().unwrap();
        let anchor = Anchor { count: 0, head: String::new() };
        let keys = [(); 2].map(|()| Checkpoint::sign(state.path(), anchor.clone()).unwrap().key);
        assert_eq!(keys[0], keys[1]);
        assert_eq!(std::fs::metadata(state.path().join(KEY)).unwrap().mode() & 0o777, 0o600);
    }
}
