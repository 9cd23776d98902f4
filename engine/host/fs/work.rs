//! Blocking work beside the script's thread, which keeps listening for its stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Kind, Result};

/// Tells long work whether anyone still waits for it.
#[derive(Clone, Default)]
pub(super) struct Waited(Arc<AtomicBool>);

impl Waited {
    /// Goes on only while someone waits.
    ///
    /// # Errors
    ///
    /// `cancelled`, which nobody sees.
    pub(super) fn check(&self) -> Result<()> {
        if self.0.load(Ordering::Relaxed) { Err(Error::new(Kind::Cancelled, "nobody waits for it any more")) } else { Ok(()) }
    }
}

/// Says so when the waiting future is dropped.
struct Waiting(Waited);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

/// Runs work on a thread that may block.
///
/// # Errors
///
/// As the work fails.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce(&Waited) -> Result<T> + Send + 'static) -> Result<T> {
    let waiting = Waiting(Waited::default());
    let waited = waiting.0.clone();
    match tokio::task::spawn_blocking(move || work(&waited)).await {
        Ok(done) => done,
        Err(error) => Err(Error::because(Kind::Bug, "a file operation broke", &error)),
    }
}
