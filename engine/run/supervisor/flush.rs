//! A delivery that a script waits for.

use std::sync::Arc;
use std::thread::{Scope, ScopedJoinHandle};
use std::time::Duration;

use super::Supervisor;
use crate::error::{Error, Kind, Result};
use crate::host::{Access, Stop, StopReason};
use crate::run::outbox;
use crate::run::protocol::{Reply, ToWorker};

/// How long a script that delivers the outbox waits for what is not due yet.
const FLUSH_PATIENCE: Duration = Duration::from_secs(10);

/// A delivery that a script waits for.
pub(super) struct Flush<'s> {
    /// The questions it answers.
    asked: Vec<u64>,
    stop: Arc<Stop>,
    thread: ScopedJoinHandle<'s, Result<()>>,
}

impl Flush<'_> {
    pub(super) fn stop(&self) {
        self.stop.stop(StopReason::Cancelled);
    }
}

impl<'a> Supervisor<'a> {
    /// Delivers on a thread of its own, so that limits and cancellation are still looked at. Whoever
    /// asks while it is under way waits for the same end.
    pub(super) fn flush<'s>(&mut self, id: u64, scope: &'s Scope<'s, '_>, flush: &mut Option<Flush<'s>>)
    where
        'a: 's,
    {
        if let Err(error) = self.request.permissions.check(&Access::word("notify", "send", "outbox")) {
            self.tell_worker(&ToWorker::Reply { id, reply: Err(error) });
            return;
        }
        if let Some(flush) = flush {
            flush.asked.push(id);
            return;
        }
        let stop = Arc::new(Stop::new(None));
        let (store, state, addresses, stopped) = (self.store, self.state, self.request.addresses.clone(), stop.clone());
        let thread = scope.spawn(move || outbox::deliver_due(store, state, &addresses, &stopped, FLUSH_PATIENCE).map(drop));
        *flush = Some(Flush { asked: vec![id], stop, thread });
    }

    /// Ends a flush that must, and answers one that ended.
    pub(super) fn look_at_flush(&mut self, flush: &mut Option<Flush<'_>>) {
        if self.stopping.is_some() {
            flush.iter().for_each(Flush::stop);
        }
        let Some(Flush { asked, thread, .. }) = flush.take_if(|flush| flush.thread.is_finished()) else { return };
        let delivered = thread.join().unwrap_or_else(|_| Err(Error::new(Kind::Bug, "the delivery panicked")));
        let answer = delivered.and_then(|()| self.standing());
        for id in asked {
            self.tell_worker(&ToWorker::Reply { id, reply: answer.clone().map(Reply::Answer) });
        }
    }
}
