//! The samples of one system among those of all.

use jiff::Timestamp;

use super::rule::Sources;
use crate::error::Result;
use crate::model::{Curve, Sample, Selector, Series, Span, Track};
use crate::store::{Appended, Samples};

/// The label that tells the samples of systems apart: names of services and databases are theirs alone.
const SYSTEM: &str = "system";

/// The samples of one system. Those of others can neither be read nor written here, and whose they are says
/// nothing new to those who read them.
#[derive(Debug, Clone, Copy)]
pub struct Own<'a> {
    /// The samples of all systems.
    pub samples: &'a Samples,
    /// The name of the one.
    pub system: &'a str,
}

impl Own<'_> {
    /// Keeps samples, all or none.
    ///
    /// # Errors
    ///
    /// `store`; nothing was kept then.
    pub fn append(self, batch: impl IntoIterator<Item = (Series, Sample)>) -> Result<Appended> {
        let batch: Vec<(Series, Sample)> =
            batch.into_iter().map(|(series, sample)| (series.exported(SYSTEM).with(SYSTEM, self.system), sample)).collect();
        self.samples.append(&batch)
    }

    /// Samples as they came, from one moment to another, both included.
    ///
    /// # Errors
    ///
    /// `limit`, when they are too many; `store`.
    pub fn tracks(self, selector: &Selector, from: Timestamp, to: Timestamp) -> Result<Vec<Track>> {
        let mut tracks = self.samples.tracks(&self.only(selector), from, to)?;
        tracks.iter_mut().for_each(|track| nameless(&mut track.series));
        Ok(tracks)
    }

    /// Samples in spans of `step`.
    ///
    /// # Errors
    ///
    /// `invalid` for a step of nothing; `limit`, when they are too many; `store`.
    pub fn curves(self, selector: &Selector, from: Timestamp, to: Timestamp, step: Span) -> Result<Vec<Curve>> {
        let mut curves = self.samples.curves(&self.only(selector), from, to, step.0)?;
        curves.iter_mut().for_each(|curve| nameless(&mut curve.series));
        Ok(curves)
    }

    /// All that a rule needs to be asked at each moment of a time.
    ///
    /// # Errors
    ///
    /// `limit`, when they are too many; `store`.
    pub fn of_rule(self, sources: &Sources, from: Timestamp, to: Timestamp) -> Result<Vec<Track>> {
        let from = from.checked_sub(sources.reach).unwrap_or(Timestamp::MIN);
        let mut tracks = self.tracks(&sources.series, from, to)?;
        for track in sources.total.iter().map(|total| self.tracks(total, from, to)).collect::<Result<Vec<_>>>()?.concat() {
            if !tracks.contains(&track) {
                tracks.push(track);
            }
        }
        Ok(tracks)
    }

    fn only(self, selector: &Selector) -> Selector {
        selector.and(SYSTEM, self.system)
    }
}

fn nameless(series: &mut Series) {
    series.labels.remove(SYSTEM);
}
