//! Amounts of bytes as people write them: `512MiB`, `10GB`, `1.5 GiB`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::error::{Error, Kind, Result};

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Size(pub u64);

const UNITS: [(&str, u64); 9] = [
    ("tib", 1 << 40),
    ("gib", 1 << 30),
    ("mib", 1 << 20),
    ("kib", 1 << 10),
    ("tb", 1_000_000_000_000),
    ("gb", 1_000_000_000),
    ("mb", 1_000_000),
    ("kb", 1_000),
    ("b", 1),
];

impl FromStr for Size {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || Error::new(Kind::Invalid, format!("`{text}` is not a size")).hint("write it like `512MiB`, `10GB` or `4096`");
        let lower = text.trim().to_ascii_lowercase();
        let (number, unit) =
            UNITS.iter().find_map(|(name, unit)| lower.strip_suffix(name).map(|number| (number, *unit))).unwrap_or((&lower, 1));
        let number: f64 = number.trim().parse().map_err(|_| bad())?;
        if !number.is_finite() || number < 0.0 || number * unit as f64 > i64::MAX as f64 {
            return Err(bad());
        }
        Ok(Self((number * unit as f64) as u64))
    }
}

impl Size {
    /// The size in the largest unit of which it is a whole number, as in `512MiB`; it reads back as the same.
    pub fn exact(self) -> String {
        let Self(bytes) = self;
        let unit = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)]
            .into_iter()
            .find(|(_, unit)| bytes > 0 && bytes % unit == 0);
        unit.map_or_else(|| bytes.to_string(), |(name, unit)| format!("{}{name}", bytes / unit))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", indicatif::BinaryBytes(self.0))
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(u64),
            Text(String),
        }
        match Written::deserialize(deserializer)? {
            Written::Number(bytes) => Ok(Self(bytes)),
            Written::Text(text) => text.parse().map_err(|error: Error| de::Error::custom(error.message)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exact_size_reads_back_as_the_same() {
        for (bytes, text) in
            [(0, "0"), (1000, "1000"), (1 << 10, "1KiB"), (512 << 20, "512MiB"), (1 << 30, "1GiB"), ((1 << 30) + 1, "1073741825")]
        {
            assert_eq!(Size(bytes).exact(), text);
            assert_eq!(text.parse::<Size>().unwrap(), Size(bytes));
        }
    }

    #[test]
    fn sizes_read_in_both_unit_systems() {
        for (text, bytes) in [("4096", 4096), ("1kb", 1000), ("1 KiB", 1024), ("1.5GiB", 1_610_612_736), ("10GB", 10_000_000_000)] {
            assert_eq!(text.parse::<Size>().unwrap(), Size(bytes), "{text}");
        }
        for text in ["", "big", "-1MB", "1e30TB"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }
}
