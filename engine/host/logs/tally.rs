//! Counting by name in bounded memory.

use std::hash::{BuildHasher, Hasher, RandomState};

/// What is kept for a name.
pub(super) trait Weighed: Default {
    /// How often the name was seen.
    fn weight(&self) -> u64;
    /// Adds what was kept of the same name elsewhere.
    fn absorb(&mut self, other: Self);
}

impl Weighed for u64 {
    fn weight(&self) -> u64 {
        *self
    }

    fn absorb(&mut self, other: Self) {
        *self += other;
    }
}

/// Values by name, for at most `cap` names.
///
/// Up to the cap every count is exact. When it is reached the rarer half of the names is folded into
/// [`Tally::rest`]: a name that comes again begins anew, so counts are never too high, sums stay exact,
/// and what is frequent stays.
#[derive(Debug)]
pub(super) struct Tally<V> {
    cap: usize,
    seed: u64,
    names: Vec<Box<[u8]>>,
    /// Of each name.
    values: Vec<V>,
    /// Where names are, by hash; a power of two long.
    index: Vec<Slot>,
    /// How often names were folded, and with it all places changed.
    folds: u64,
    /// What was folded together.
    pub(super) rest: V,
}

/// Where a name is: the upper 40 bits of its hash, and its place from 1; 0 is none.
///
/// Two names with the same upper bits in the same slot count as one. That is one chance in 10^8 for a
/// full tally, and nobody can bring it about who does not know the seed; to compare names would be a
/// cache miss for each line.
#[derive(Debug, Clone, Copy, Default)]
struct Slot(u64);

const PLACE_BITS: u32 = 24;

impl Slot {
    fn new(hash: u64, place: usize) -> Self {
        Self(hash >> PLACE_BITS << PLACE_BITS | place as u64)
    }

    #[inline]
    fn is_of(self, hash: u64) -> bool {
        self.0 >> PLACE_BITS == hash >> PLACE_BITS
    }

    #[inline]
    fn place(self) -> usize {
        (self.0 & ((1 << PLACE_BITS) - 1)) as usize
    }
}

/// Where the value of a name is.
pub(super) struct Place(usize);

impl<V: Weighed> Tally<V> {
    /// An empty tally of at most `cap` names.
    pub(super) fn new(cap: usize) -> Self {
        // Seeded, since whoever is logged chooses the names.
        let seed = RandomState::new().build_hasher().finish();
        Self { cap, seed, names: Vec::new(), values: Vec::new(), index: vec![Slot::default(); 64], folds: 0, rest: V::default() }
    }

    /// The value of a name, made when it is new.
    #[inline]
    pub(super) fn entry(&mut self, name: &[u8]) -> &mut V {
        let Place(at) = self.place(name);
        &mut self.values[at]
    }

    /// Where the value of a name is, until names are folded.
    #[inline]
    pub(super) fn place(&mut self, name: &[u8]) -> Place {
        self.place_of(hash(self.seed, name), name)
    }

    /// The same, where the hash is known.
    #[inline]
    fn place_of(&mut self, hash: u64, name: &[u8]) -> Place {
        let slot = self.slot(hash);
        Place(match self.index[slot].place() {
            0 => self.insert(hash, name),
            place => place - 1,
        })
    }

    /// Where a hash is in the index, or would be.
    #[inline]
    fn slot(&self, hash: u64) -> usize {
        let mask = self.index.len() - 1;
        let mut slot = hash as usize & mask;
        while self.index[slot].place() != 0 && !self.index[slot].is_of(hash) {
            slot = (slot + 1) & mask;
        }
        slot
    }

    #[cold]
    fn insert(&mut self, hash: u64, name: &[u8]) -> usize {
        if self.names.len() == self.cap {
            self.fold();
        }
        if (self.names.len() + 1) * 2 > self.index.len() {
            self.reindex(self.index.len() * 2);
        }
        self.names.push(name.into());
        self.values.push(V::default());
        let slot = self.slot(hash);
        self.index[slot] = Slot::new(hash, self.names.len());
        self.names.len() - 1
    }

    /// Folds the rarer half into the rest.
    fn fold(&mut self) {
        self.folds += 1;
        let mut weights: Vec<u64> = self.values.iter().map(V::weight).collect();
        let half = weights.len() / 2;
        let (_, &mut median, _) = weights.select_nth_unstable(half);
        let mut spare = half + 1;
        for (name, value) in std::mem::take(&mut self.names).into_iter().zip(std::mem::take(&mut self.values)) {
            if value.weight() <= median && spare > 0 {
                spare -= 1;
                self.rest.absorb(value);
            } else {
                self.names.push(name);
                self.values.push(value);
            }
        }
        self.reindex(self.index.len());
    }

    fn reindex(&mut self, length: usize) {
        self.index.clear();
        self.index.resize(length, Slot::default());
        for place in 0..self.names.len() {
            let hash = hash(self.seed, &self.names[place]);
            let slot = self.slot(hash);
            self.index[slot] = Slot::new(hash, place + 1);
        }
    }

    /// Adds another tally of the same sort.
    pub(super) fn merge(&mut self, other: Self) {
        for (name, value) in other.names.into_iter().zip(other.values) {
            self.entry(&name).absorb(value);
        }
        self.rest.absorb(other.rest);
    }

    /// The names with their values, most frequent first, then by name.
    pub(super) fn into_sorted(self) -> Vec<(Box<[u8]>, V)> {
        let mut all: Vec<_> = self.names.into_iter().zip(self.values).collect();
        all.sort_unstable_by(|(name, value), (other_name, other)| (other.weight(), name).cmp(&(value.weight(), other_name)));
        all
    }

    /// Every value, the rest last.
    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.values.iter().chain([&self.rest])
    }

    /// How many names there are.
    pub(super) fn len(&self) -> usize {
        self.names.len()
    }
}

/// Remembers under which name of a tally a text was counted.
///
/// Most texts come again soon, and to fold one to its name takes longer than to find it here. A text is
/// known by its hash of 64 bits, as names are by theirs.
#[derive(Debug)]
pub(super) struct Shelf {
    seed: u64,
    folds: u64,
    /// The hash of a text and the place of its name from 1; the newest of each slot.
    slots: Vec<(u64, usize)>,
}

impl Shelf {
    const SLOTS: usize = 1024;

    /// An empty shelf; for one tally only.
    pub(super) fn new() -> Self {
        Self { seed: RandomState::new().build_hasher().finish(), folds: 0, slots: vec![(0, 0); Self::SLOTS] }
    }

    /// The value of the name that `name` makes of this text.
    #[inline]
    pub(super) fn entry<'t, V: Weighed>(
        &mut self,
        tally: &'t mut Tally<V>,
        text: &[u8],
        place: impl FnOnce(&mut Tally<V>) -> Place,
    ) -> &'t mut V {
        let hash = hash(self.seed, text);
        let slot = hash as usize % Self::SLOTS;
        let (known, at) = self.slots[slot];
        let at = if known == hash && at != 0 {
            at - 1
        } else {
            let Place(at) = place(tally);
            if tally.folds != self.folds {
                self.folds = tally.folds;
                self.slots.fill((0, 0));
            }
            self.slots[slot] = (hash, at + 1);
            at
        };
        &mut tally.values[at]
    }
}

/// Folded multiplications over words: fast for the short names of logs, and not to be foreseen
/// without the seed.
#[inline]
fn hash(seed: u64, name: &[u8]) -> u64 {
    let mut state = seed;
    let pairs = name.len().saturating_sub(1) / 16;
    for pair in name.as_chunks::<16>().0.iter().take(pairs) {
        let (first, last) = halves(pair);
        state = multiply(first ^ state, last ^ ODD);
    }
    hash_short(state, name.len(), name.last_chunk().map_or_else(|| ends(name), halves))
}

/// The hash of a name of this length, of which these bytes are left.
#[inline]
fn hash_short(state: u64, length: usize, (first, last): (u64, u64)) -> u64 {
    let state = state ^ (length as u64).wrapping_mul(ODD);
    multiply(multiply(first ^ state, last ^ state.rotate_left(32)), ODD)
}

const ODD: u64 = 0x9e37_79b9_7f4a_7c15;

#[inline]
fn multiply(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

/// The first and the last bytes of at most 16; they may overlap, and all are in them.
#[inline]
fn ends(name: &[u8]) -> (u64, u64) {
    match (name.first_chunk(), name.last_chunk()) {
        (Some(first), Some(last)) => (u64::from_le_bytes(*first), u64::from_le_bytes(*last)),
        _ => (name.iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte)), 0),
    }
}

#[inline]
fn halves(pair: &[u8; 16]) -> (u64, u64) {
    let pair = u128::from_le_bytes(*pair);
    (pair as u64, (pair >> 64) as u64)
}

/// Counts names, many at a time.
///
/// The names of a large log are in no cache. Looked up one after the other each would be waited for;
/// looked up together, they are waited for together.
#[derive(Debug)]
pub(super) struct Batch {
    tally: Tally<u64>,
    /// Names that wait; beyond `count` those of before.
    waiting: Vec<Waiting>,
    count: usize,
}

/// A short name that waits.
#[derive(Debug, Clone, Copy, Default)]
struct Waiting {
    ends: (u64, u64),
    length: usize,
    hash: u64,
}

impl Waiting {
    /// The bytes of the name.
    fn name(&self) -> [u8; 16] {
        let (first, last) = self.ends;
        let bytes = match self.length {
            8.. => u128::from(first) | u128::from(last) << (8 * (self.length - 8)),
            // Shorter ones are one number, their last byte the lowest.
            length => u128::from(first.swap_bytes() >> (64 - 8 * length.max(1))),
        };
        bytes.to_le_bytes()
    }
}

/// How long the names are that wait.
const SHORT: std::ops::RangeInclusive<usize> = 1..=16;
const MOST_WAITING: usize = 64;

impl Batch {
    /// No name yet, and at most `cap`.
    pub(super) fn new(cap: usize) -> Self {
        Self { tally: Tally::new(cap), waiting: vec![Waiting::default(); MOST_WAITING], count: 0 }
    }

    /// Counts a name once.
    #[inline]
    pub(super) fn count(&mut self, name: &[u8]) {
        if !SHORT.contains(&name.len()) {
            *self.tally.entry(name) += 1;
            return;
        }
        let ends = ends(name);
        self.waiting[self.count] = Waiting { ends, length: name.len(), hash: hash_short(self.tally.seed, name.len(), ends) };
        self.count += 1;
        if self.count == MOST_WAITING {
            self.flush();
        }
    }

    /// Adds what another counted.
    pub(super) fn merge(&mut self, other: Self) {
        self.tally.merge(other.into_tally());
    }

    fn flush(&mut self) {
        let Self { tally, waiting, count } = self;
        let mask = tally.index.len() - 1;
        let slots: [Slot; MOST_WAITING] = std::array::from_fn(|at| tally.index[waiting[at].hash as usize & mask]);
        for (waiting, &slot) in waiting.iter().zip(&slots).take(*count) {
            // What was there may have moved since, when names were new.
            let is_there = slot.is_of(waiting.hash) && slot.place() != 0 && slot.0 == tally.index[waiting.hash as usize & mask].0;
            let place = if is_there { slot.place() - 1 } else { tally.place_of(waiting.hash, &waiting.name()[..waiting.length]).0 };
            tally.values[place] += 1;
        }
        *count = 0;
    }

    /// The tally of all that was counted.
    pub(super) fn into_tally(mut self) -> Tally<u64> {
        self.flush();
        self.tally
    }
}

/// Counts of durations, from which any percentile is known to 0.8 %.
///
/// Log-linear, as HdrHistogram: 64 equal buckets for each doubling. Durations are whole microseconds;
/// below 128 µs, and wherever all durations of a bucket are the same, they are exact.
#[derive(Debug, Clone, Default)]
pub(super) struct Histogram {
    /// Grown to the longest duration seen; 2 048 buckets reach 71 minutes.
    buckets: Vec<u32>,
    count: u64,
    sum: u64,
    max: u32,
}

const SUB_BITS: u32 = 6;

impl Histogram {
    /// Counts one duration.
    #[inline]
    pub(super) fn add(&mut self, micros: u32) {
        let bucket = bucket(micros);
        if bucket >= self.buckets.len() {
            self.buckets.resize(bucket + 1, 0);
        }
        self.buckets[bucket] = self.buckets[bucket].saturating_add(1);
        self.count += 1;
        self.sum += u64::from(micros);
        self.max = self.max.max(micros);
    }

    /// Adds the counts of another.
    pub(super) fn merge(&mut self, other: &Self) {
        if self.buckets.len() < other.buckets.len() {
            self.buckets.resize(other.buckets.len(), 0);
        }
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine = mine.saturating_add(*theirs);
        }
        self.count += other.count;
        self.sum += other.sum;
        self.max = self.max.max(other.max);
    }

    /// How many durations were counted.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// The mean in milliseconds; exact.
    pub(super) fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum as f64 / self.count as f64 / 1000.0)
    }

    /// The longest in milliseconds; exact.
    pub(super) fn max(&self) -> Option<f64> {
        (self.count > 0).then(|| f64::from(self.max) / 1000.0)
    }

    /// The duration in milliseconds that this share of all (0 to 1) did not exceed.
    pub(super) fn percentile(&self, share: f64) -> Option<f64> {
        let rank = ((share * self.count as f64).ceil() as u64).max(1);
        let mut seen = 0;
        for (bucket, &count) in self.buckets.iter().enumerate() {
            seen += u64::from(count);
            if seen >= rank {
                return Some(middle(bucket).min(f64::from(self.max)) / 1000.0);
            }
        }
        None
    }
}

#[inline]
fn bucket(micros: u32) -> usize {
    let shift = (u32::BITS - micros.leading_zeros()).saturating_sub(SUB_BITS + 1);
    ((shift << SUB_BITS) + (micros >> shift)) as usize
}

/// The middle of a bucket in microseconds.
fn middle(bucket: usize) -> f64 {
    let shift = (bucket >> SUB_BITS).saturating_sub(1);
    let lowest = (bucket - (shift << SUB_BITS)) << shift;
    lowest as f64 + ((1_u64 << shift) - 1) as f64 / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_exact_up_to_the_cap() {
        let mut tally = Tally::<u64>::new(100);
        for round in 0..100_u64 {
            for name in round..100 {
                *tally.entry(name.to_string().as_bytes()) += 1;
            }
        }
        let sorted = tally.into_sorted();
        assert_eq!(sorted.len(), 100);
        assert_eq!(sorted[0], (b"99".as_slice().into(), 100));
        assert_eq!(sorted[99], (b"0".as_slice().into(), 1));
    }

    #[test]
    fn what_is_frequent_survives_a_flood_of_names() {
        let mut tally = Tally::<u64>::new(64);
        for flood in 0..100_000_u64 {
            *tally.entry(format!("10.0.{flood}").as_bytes()) += 1;
            if flood % 100 == 99 && flood > 50_000 {
                *tally.entry(b"attacker") += 20;
            }
        }
        assert!(tally.len() <= 64);
        let total: u64 = tally.values().sum();
        assert_eq!(total, 100_000 + 500 * 20, "the sum stays exact");
        let sorted = tally.into_sorted();
        assert_eq!(&*sorted[0].0, b"attacker");
        assert!(sorted[0].1 > 9_900, "{}", sorted[0].1);
    }

    #[test]
    fn tallies_of_several_threads_add_up() {
        let (mut one, mut other) = (Tally::<u64>::new(10), Tally::<u64>::new(10));
        *one.entry(b"a") += 1;
        *other.entry(b"a") += 2;
        *other.entry(b"b") += 3;
        one.merge(other);
        assert_eq!(one.into_sorted(), [(b"a".as_slice().into(), 3), (b"b".as_slice().into(), 3)]);
    }

    #[test]
    fn names_that_wait_are_counted_as_those_that_do_not() {
        let (mut batch, mut tally) = (Batch::new(1000), Tally::<u64>::new(1000));
        for round in 0..7_u64 {
            for length in 0..24 {
                // Names that begin or end alike, and some with zeros.
                for last in [b'\0', b'a', b'b', 0xff] {
                    let mut name = vec![if round % 2 == 0 { b'a' } else { b'\0' }; length];
                    name.last_mut().into_iter().for_each(|end| *end = last);
                    batch.count(&name);
                    *tally.entry(&name) += 1;
                }
            }
        }
        assert_eq!(batch.into_tally().into_sorted(), tally.into_sorted());
    }

    #[test]
    fn every_duration_is_within_a_percent() {
        for micros in (0..200).chain((0..31).map(|bit| 3 << bit >> 1)).chain([999_999, 1_234_567, u32::MAX]) {
            let exact = f64::from(micros);
            let error = (middle(bucket(micros)) - exact).abs();
            assert!(error <= exact * 0.008, "{micros}: {}", middle(bucket(micros)));
        }
    }

    #[test]
    fn percentiles_mean_and_longest() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.percentile(0.5), None);
        (1..=100).for_each(|millis| histogram.add(millis * 1000));
        let near =
            |value: Option<f64>, expected: f64| assert!((value.unwrap() - expected).abs() <= expected * 0.01, "{value:?} {expected}");
        near(histogram.percentile(0.5), 50.0);
        near(histogram.percentile(0.95), 95.0);
        near(histogram.percentile(0.99), 99.0);
        near(histogram.percentile(1.0), 100.0);
        assert_eq!(histogram.mean(), Some(50.5));
        assert_eq!(histogram.max(), Some(100.0));
    }
}
