//! Delivering the outbox: takes what is due, sends it, and writes down what became of it.
//!
//! The policy is [`outbox`](mod@crate::host::notify::outbox)'s; here is the loop around it. A parcel stays
//! queued in the store until the answer of its channel is durable. So a kill at any point loses
//! nothing, and repeats at most the one message per channel that was on its way, with the same
//! identity. Of all processes with one state directory one delivers at a time, so that the order of a
//! channel and its rate hold across them.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::{FuturesUnordered, StreamExt};
use jiff::{SignedDuration, Timestamp};
use rustix::fs::{FlockOperation, flock};

use crate::error::{Error, Kind, Result};
use crate::host::notify::outbox::{self, Dispatch, Rate, Standing};
use crate::host::notify::{Receipt, Refusal, Retry, deliver};
use crate::host::secrets::names_in;
use crate::host::{Secrets, Stop};
use crate::model::system::Contact;
use crate::model::{Channel, Parcel, ParcelState, System};
use crate::store::{Settlement, StateDir, Store, now};

/// How long parcels that do not wait any more are kept: for people to see what was given up, and for `dedupe`.
const KEPT: SignedDuration = SignedDuration::from_hours(7 * 24);
/// The longest window of a rate.
const WINDOW: SignedDuration = SignedDuration::from_mins(2);

/// Where people are reached: the system of a channel and the secrets of its contacts, as its files
/// say at the time of delivery.
#[derive(Clone)]
pub struct Addresses {
    /// The directory of the project whose runs send.
    pub project: String,
    find: Arc<Find>,
}

type Find = dyn Fn(&Channel) -> Result<(System, Secrets)> + Send + Sync;

impl Addresses {
    /// The addresses of a project, and how to find the system of any channel, which may be of another
    /// project. A system that is not there is `usage`; every other error is taken for one that passes.
    pub fn new(project: impl Into<String>, find: impl Fn(&Channel) -> Result<(System, Secrets)> + Send + Sync + 'static) -> Self {
        Self { project: project.into(), find: Arc::new(find) }
    }

    /// Addresses of nobody: every message becomes a dead letter.
    pub fn none() -> Self {
        Self::new("", |channel| Err(Error::new(Kind::Usage, format!("there is no system `{}`", channel.system))))
    }
}

impl fmt::Debug for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Addresses").field("project", &self.project).finish_non_exhaustive()
    }
}

/// What became of the outbox.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delivery {
    /// How many parcels each channel accepted; a digest counts for all it sums up.
    pub delivered: BTreeMap<Channel, usize>,
    /// The parcels that were given up, and the contact that is told instead.
    pub given_up: Vec<(Parcel, Option<String>)>,
    /// What waits.
    pub waiting: Vec<Waiting>,
    /// Whether another process delivers at the moment; then nothing was done here.
    pub busy: bool,
}

/// The parcels that wait for one channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// The channel.
    pub channel: Channel,
    /// How many.
    pub count: usize,
    /// When the channel gets its next message.
    pub due: Timestamp,
    /// Why the last try failed; nothing when there was none.
    pub error: Option<String>,
}

/// Delivers what is due, and what becomes due within `patience`; a message on its way then still has
/// its own time limit of 20 s. When `stop` fires it returns at once and leaves that message queued.
///
/// Another process that delivers at the same time does the work of this one, which returns at once.
/// With an empty outbox it costs one query.
///
/// # Errors
///
/// `store`, when a result could not be recorded: then nothing more is sent, since it would be sent
/// again and again.
pub fn deliver_due(store: &dyn Store, state: &StateDir, addresses: &Addresses, stop: &Stop, patience: Duration) -> Result<Delivery> {
    let mut round = Round {
        store,
        book: Book { addresses, systems: RefCell::default() },
        stop,
        until: Instant::now() + patience,
        delivery: Delivery::default(),
    };
    loop {
        if store.queued()?.is_empty() {
            return Ok(round.delivery);
        }
        let Some(turn) = Turn::take(state)? else {
            round.delivery.busy = true;
            break;
        };
        round.work()?;
        drop(turn);
        // Whoever found the turn taken while it was ours has left its message to us.
        let now = now();
        if stop.reason().is_some() || Instant::now() >= round.until || round.waiting()?.iter().all(|waiting| waiting.due > now) {
            break;
        }
    }
    round.delivery.waiting = round.waiting()?;
    Ok(round.delivery)
}

/// How the outbox stands.
///
/// # Errors
///
/// `store`.
pub fn standing(store: &dyn Store) -> Result<Standing> {
    let tally = store.tally()?;
    let last = outbox::standing(&tally.last_tried);
    Ok(Standing { queued: tally.queued, delivered: tally.delivered, dead: tally.dead, ..last })
}

/// Puts a parcel into the outbox, unless the same was said within the hour. Durable when it returns,
/// and whether it was put.
///
/// # Errors
///
/// `store`.
pub fn post(store: &dyn Store, parcel: &Parcel) -> Result<bool> {
    store.post(parcel, &|alike| outbox::is_repeat(parcel, alike, parcel.created))
}

/// The right to deliver; it ends with its process at the latest, however that ends.
struct Turn(#[expect(dead_code, reason = "the lock is held as long as the file is open")] File);

impl Turn {
    fn take(state: &StateDir) -> Result<Option<Self>> {
        use std::os::unix::fs::OpenOptionsExt;
        let path = state.root().join("outbox.lock");
        let open = std::fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = open.map_err(|error| Error::because(Kind::Store, format_args!("`{}`", path.display()), &error))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self(file))),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(Error::because(Kind::Store, format_args!("`{}` can not be locked", path.display()), &error)),
        }
    }
}

/// The addresses that were looked up, each system once.
struct Book<'a> {
    addresses: &'a Addresses,
    systems: RefCell<BTreeMap<(String, String), Result<Found>>>,
}

/// A system and the secrets of its contacts.
type Found = Arc<(System, Secrets)>;

impl Book<'_> {
    fn system(&self, channel: &Channel) -> Result<Found> {
        let key = (channel.project.clone(), channel.system.clone());
        self.systems.borrow_mut().entry(key).or_insert_with(|| (self.addresses.find)(channel).map(Arc::new)).clone()
    }

    fn contact(&self, channel: &Channel) -> Option<Contact> {
        self.system(channel).ok()?.0.contacts.get(&channel.contact).cloned()
    }

    fn rate(&self, channel: &Channel) -> Rate {
        self.contact(channel).map_or(Rate { per_minute: 60, apart: Duration::ZERO }, |contact| Rate::of(&contact))
    }

    /// Whom to send to, or why that is not possible.
    fn address(&self, channel: &Channel) -> Result<(Contact, Secrets), Refusal> {
        let found = self.system(channel).map_err(|error| match error.kind {
            Kind::Usage | Kind::NotFound => Refusal { error, retry: Retry::Never },
            // A file that is being edited, a secret's program that fails.
            _ => Refusal { error, retry: Retry::Later },
        })?;
        let (system, secrets) = &*found;
        let Some(contact) = system.contacts.get(&channel.contact) else {
            let error = Error::new(Kind::NotFound, format!("system `{}` has no contact `{}` any more", channel.system, channel.contact));
            return Err(Refusal { error, retry: Retry::Never });
        };
        // Another process may be given the secret; who has a fallback need not wait for that.
        let written = serde_json::to_string(contact).unwrap_or_default();
        let missing = names_in(&written).find_map(|name| secrets.value(name).err());
        match missing {
            Some(error) if contact.fallback().is_none() => Err(Refusal { error, retry: Retry::Later }),
            _ => Ok((contact.clone(), secrets.clone())),
        }
    }
}

/// One turn's work.
struct Round<'a> {
    store: &'a dyn Store,
    book: Book<'a>,
    stop: &'a Stop,
    until: Instant,
    delivery: Delivery,
}

impl Round<'_> {
    fn work(&mut self) -> Result<()> {
        let queued = self.store.queued()?;
        if self.pause(&queued, &self.sendings()?).is_none() {
            return Ok(());
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Error::because(Kind::Bug, "no runtime to deliver with", &error))?;
        let result = runtime.block_on(self.send_all());
        // The look-up of a name that was given up may still be blocked; nobody waits for it.
        runtime.shutdown_background();
        result?;
        self.store.prune_parcels(now() - KEPT).map(drop)
    }

    async fn send_all(&mut self) -> Result<()> {
        let mut under_way = FuturesUnordered::new();
        let mut busy = BTreeSet::new();
        loop {
            let mut queued = self.store.queued()?;
            let sent = self.sendings()?;
            if Instant::now() < self.until {
                queued.retain(|parcel| !busy.contains(&Channel::of(parcel)));
                for dispatch in outbox::plan(now(), &queued, &sent, |channel| self.book.rate(channel)) {
                    busy.insert(dispatch.channel.clone());
                    let address = self.book.address(&dispatch.channel);
                    under_way.push(send(dispatch, address));
                }
            }
            queued.retain(|parcel| !busy.contains(&Channel::of(parcel)));
            let pause = self.pause(&queued, &sent);
            if under_way.is_empty() && pause.is_none() {
                return Ok(());
            }
            tokio::select! {
                biased;
                _ = self.stop.stopped() => return Ok(()),
                Some(answered) = under_way.next() => {
                    busy.remove(&answered.dispatch.channel);
                    self.settle(&answered)?;
                }
                () = tokio::time::sleep(pause.unwrap_or_default()), if pause.is_some() => {}
            }
        }
    }

    /// How long until one of these can be sent, when that is soon enough.
    fn pause(&self, queued: &[Parcel], sent: &[(Channel, Timestamp)]) -> Option<Duration> {
        let wake = outbox::wake(queued, sent, |channel| self.book.rate(channel))?;
        let pause = Duration::try_from(wake.duration_since(now())).unwrap_or_default();
        (Instant::now() + pause < self.until).then_some(pause)
    }

    fn settle(&mut self, answered: &Answered) -> Result<()> {
        let Answered { dispatch, sent, result } = answered;
        let now = now();
        let channel = &dispatch.channel;
        let contact = self.book.contact(channel);
        let queued = self.store.queued()?;
        let carried = queued.into_iter().filter(|parcel| dispatch.parcels.contains(&parcel.id));
        let parcels: Vec<Parcel> = carried.map(|parcel| outbox::outcome(parcel, result, now)).collect();
        let dead = || parcels.iter().filter(|parcel| parcel.state == ParcelState::Dead);
        let told = |parcel: &Parcel| contact.as_ref().and_then(|contact| outbox::fallback(parcel, contact, now));
        let fallbacks: Vec<Parcel> = dead().filter_map(told).collect();
        let given_up: Vec<(Parcel, Option<String>)> =
            dead().map(|parcel| (parcel.clone(), told(parcel).map(|fallback| fallback.contact))).collect();
        let accepted = parcels.iter().filter(|parcel| parcel.state == ParcelState::Delivered).count();
        self.store.settle(&Settlement { channel: channel.clone(), sent: *sent, parcels, fallbacks })?;
        if accepted > 0 {
            *self.delivery.delivered.entry(channel.clone()).or_default() += accepted;
        }
        self.delivery.given_up.extend(given_up);
        Ok(())
    }

    fn sendings(&self) -> Result<Vec<(Channel, Timestamp)>> {
        self.store.sendings(now() - WINDOW)
    }

    fn waiting(&self) -> Result<Vec<Waiting>> {
        let sent = self.sendings()?;
        let mut channels: BTreeMap<Channel, Vec<Parcel>> = BTreeMap::new();
        for parcel in self.store.queued()? {
            channels.entry(Channel::of(&parcel)).or_default().push(parcel);
        }
        let waiting = |(channel, parcels): (Channel, Vec<Parcel>)| Waiting {
            count: parcels.len(),
            due: outbox::wake(&parcels, &sent, |channel| self.book.rate(channel)).unwrap_or(Timestamp::MAX),
            error: parcels.into_iter().find_map(|parcel| parcel.last_error),
            channel,
        };
        Ok(channels.into_iter().map(waiting).collect())
    }
}

/// A message and what its channel said to it.
struct Answered {
    dispatch: Dispatch,
    /// When it was sent; nothing when there was nobody to send it to.
    sent: Option<Timestamp>,
    result: Result<Receipt, Refusal>,
}

async fn send(dispatch: Dispatch, address: Result<(Contact, Secrets), Refusal>) -> Answered {
    match address {
        Err(refusal) => Answered { dispatch, sent: None, result: Err(refusal) },
        Ok((contact, secrets)) => {
            let result = deliver(&contact, &dispatch.message, &secrets).await;
            Answered { dispatch, sent: Some(now()), result }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::host::StopReason;
    use crate::model::Message;
    use crate::store::Memory;

    fn state() -> (tempfile::TempDir, StateDir) {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::open(&directory.path().join("state")).unwrap();
        (directory, state)
    }

    fn queue(store: &Memory, contact: &str) {
        let message = Message { subject: "disk full".to_owned(), ..Message::default() };
        assert!(post(store, &Parcel::new(format!("parcel for {contact}"), contact, "shop", message, now())).unwrap());
    }

    fn webhook(url: &str, fallback: Option<&str>) -> Contact {
        Contact::Webhook { url: url.to_owned(), headers: BTreeMap::new(), per_minute: None, fallback: fallback.map(str::to_owned) }
    }

    fn shop(contacts: impl IntoIterator<Item = (&'static str, Contact)>) -> Addresses {
        let contacts = contacts.into_iter().map(|(name, contact)| (name.to_owned(), contact)).collect();
        let system = System { name: "shop".to_owned(), contacts, ..System::default() };
        Addresses::new("", move |_| Ok((system.clone(), Secrets::default())))
    }

    fn work(store: &Memory, state: &StateDir, addresses: &Addresses) -> Delivery {
        deliver_due(store, state, addresses, &Stop::new(None), Duration::from_millis(50)).unwrap()
    }

    #[test]
    fn an_empty_outbox_touches_nothing() {
        let (_directory, state) = state();
        assert_eq!(work(&Memory::default(), &state, &Addresses::none()), Delivery::default());
        assert_eq!(std::fs::read_dir(state.root()).unwrap().count(), 0);
    }

    #[test]
    fn of_two_deliverers_the_second_returns_at_once() {
        let (_directory, state) = state();
        let store = Memory::default();
        queue(&store, "ops");
        let turn = Turn::take(&state).unwrap().unwrap();
        let delivery = work(&store, &state, &Addresses::none());
        assert_eq!((delivery.busy, delivery.waiting.len(), store.tally().unwrap().dead), (true, 1, 0));
        drop(turn);
        assert_eq!(work(&store, &state, &Addresses::none()).given_up.len(), 1);
    }

    #[test]
    fn a_contact_or_system_that_vanished_makes_a_dead_letter() {
        let (_directory, state) = state();
        let store = Memory::default();
        queue(&store, "ops");
        let delivery = work(&store, &state, &shop([]));
        assert_eq!(delivery.given_up[0].0.last_error.as_deref(), Some("system `shop` has no contact `ops` any more"));
        queue(&store, "mail");
        assert_eq!(work(&store, &state, &Addresses::none()).given_up.len(), 1);
        assert_eq!(standing(&store).unwrap().dead, 2);
    }

    #[test]
    fn a_system_file_that_can_not_be_read_now_costs_no_message() {
        let (_directory, state) = state();
        let store = Memory::default();
        queue(&store, "ops");
        let delivery = work(&store, &state, &Addresses::new("", |_| Err(Error::new(Kind::Config, "found `]`"))));
        assert_eq!((delivery.waiting.len(), delivery.waiting[0].error.as_deref()), (1, Some("found `]`")));
        assert!(store.sendings(Timestamp::MIN).unwrap().is_empty(), "nobody was sent to");
    }

    #[test]
    fn a_missing_secret_waits_unless_there_is_a_fallback() {
        let (_directory, state) = state();
        let store = Memory::default();
        let url = "${secret:hook}";
        queue(&store, "alone");
        queue(&store, "with-fallback");
        let delivery = work(&store, &state, &shop([("alone", webhook(url, None)), ("with-fallback", webhook(url, Some("person")))]));
        assert_eq!(delivery.waiting.iter().find(|waiting| waiting.channel.contact == "alone").unwrap().count, 1);
        let (dead, instead) = &delivery.given_up[0];
        assert_eq!((dead.contact.as_str(), instead.as_deref()), ("with-fallback", Some("person")));
    }

    #[test]
    fn a_stop_leaves_what_is_on_its_way_in_the_outbox() {
        let (_directory, state) = state();
        let store = Memory::default();
        queue(&store, "hole");
        let hole = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", hole.local_addr().unwrap());
        let stop = Stop::new(None);
        let started = Instant::now();
        let delivery = std::thread::scope(|scope| {
            scope.spawn(|| {
                let _connection = hole.accept().unwrap();
                stop.stop(StopReason::Cancelled);
            });
            deliver_due(&store, &state, &shop([("hole", webhook(&url, None))]), &stop, Duration::from_secs(5)).unwrap()
        });
        assert!(started.elapsed() < Duration::from_secs(5));
        assert_eq!((delivery.waiting[0].count, delivery.waiting[0].error.as_deref()), (1, None));
        assert_eq!(store.queued().unwrap()[0].attempts, 0);
    }
}
