//! The delivery of messages, on a thread of its own: no run waits for it.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::host::{Stop, StopReason};
use crate::run::outbox::{Addresses, deliver_due};
use crate::store::{StateDir, Store};

/// How long one round waits for what is due soon.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it looks by itself: for what other commands left, and for what is tried again.
const LOOK: Duration = Duration::from_secs(15);

/// The delivery under way.
pub(super) struct Post {
    store: Arc<dyn Store>,
    state: StateDir,
    stop: Stop,
    desk: Mutex<PostDesk>,
    called: Condvar,
}

struct PostDesk {
    addresses: Addresses,
    is_called: bool,
}

impl Post {
    /// Begins to deliver.
    pub(super) fn start(store: Arc<dyn Store>, state: StateDir, addresses: Addresses) -> Arc<Self> {
        let desk = Mutex::new(PostDesk { addresses, is_called: true });
        let post = Arc::new(Self { store, state, stop: Stop::new(None), desk, called: Condvar::new() });
        let worker = post.clone();
        std::thread::spawn(move || worker.work());
        post
    }

    /// There is something to deliver.
    pub(super) fn call(&self) {
        self.desk().is_called = true;
        self.called.notify_all();
    }

    /// People are reached elsewhere from now on.
    pub(super) fn move_to(&self, addresses: Addresses) {
        self.desk().addresses = addresses;
        self.call();
    }

    /// Where people are reached.
    pub(super) fn addresses(&self) -> Addresses {
        self.desk().addresses.clone()
    }

    /// Ends it; a message on its way stays queued.
    pub(super) fn stop(&self) {
        self.stop.stop(StopReason::Cancelled);
        self.call();
    }

    fn work(&self) {
        while self.stop.reason().is_none() {
            let addresses = self.wait();
            match deliver_due(&*self.store, &self.state, &addresses, &self.stop, PATIENCE) {
                Ok(delivery) => {
                    for (channel, count) in &delivery.delivered {
                        tracing::info!(contact = channel.contact, system = channel.system, "sent {count} messages");
                    }
                    for (parcel, fallback) in &delivery.given_up {
                        let why = parcel.last_error.as_deref().unwrap_or_default();
                        tracing::error!(contact = parcel.contact, system = parcel.system, fallback, "a message was given up: {why}");
                    }
                }
                Err(error) => tracing::error!("the outbox: {error}"),
            }
        }
    }

    /// Waits until it is called, or should look by itself.
    fn wait(&self) -> Addresses {
        let mut desk = self.desk();
        if !desk.is_called {
            desk = self.called.wait_timeout(desk, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
        desk.is_called = false;
        desk.addresses.clone()
    }

    fn desk(&self) -> MutexGuard<'_, PostDesk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
