//! Values on their way from the server: the binary forms of the types, as plain data.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use jiff::civil::{Date, DateTime, Time};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value};
use tokio_postgres::types::{FromSql, Kind as TypeKind, Type};

use crate::words;

/// The bytes of a value as the server sent them.
pub(super) struct Raw<'a>(pub(super) &'a [u8]);

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(raw))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// Why a value has no plain form: its type is not known here, or it is out of range.
#[derive(Debug)]
pub(super) struct NoForm;

/// What a `numeric` becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Numeric {
    /// A whole number where it is one, else the nearest float.
    Number,
    /// Its digits, all of them.
    Text,
}

type Cell<T = Value> = Result<T, NoForm>;

/// The plain form of a value.
pub(super) fn decode(ty: &Type, raw: &[u8], numeric: Numeric) -> Cell {
    let mut bytes = Bytes(raw);
    let value = match ty.kind() {
        TypeKind::Domain(inner) => return decode(inner, raw, numeric),
        TypeKind::Enum(_) => text(raw)?,
        TypeKind::Array(member) => return array(member, bytes, numeric),
        TypeKind::Range(member) => return range(member, bytes, numeric),
        TypeKind::Composite(fields) => {
            bytes.i32()?;
            let mut map = Map::new();
            for field in fields {
                bytes.i32()?;
                map.insert(field.name().to_owned(), bytes.value(field.type_(), numeric)?);
            }
            Value::Object(map)
        }
        _ => return simple(ty, bytes, numeric),
    };
    Ok(value)
}

fn simple(ty: &Type, mut bytes: Bytes<'_>, numeric: Numeric) -> Cell {
    Ok(match *ty {
        Type::BOOL => Value::Bool(bytes.array::<1>()?[0] != 0),
        Type::INT2 => i16::from_be_bytes(bytes.array()?).into(),
        Type::INT4 => bytes.i32()?.into(),
        Type::INT8 => bytes.i64()?.into(),
        Type::OID | Type::XID | Type::CID => u32::from_be_bytes(bytes.array()?).into(),
        Type::XID8 => i64::try_from(u64::from_be_bytes(bytes.array()?)).map_err(|_| NoForm)?.into(),
        // Through text, so that 0.1 stays 0.1.
        Type::FLOAT4 => float(f32::from_be_bytes(bytes.array()?).to_string().parse().map_err(|_| NoForm)?),
        Type::FLOAT8 => float(f64::from_be_bytes(bytes.array()?)),
        Type::NUMERIC => match (numeric, digits(bytes)?) {
            (Numeric::Text, text) => text.into(),
            (Numeric::Number, text) => {
                text.parse::<i64>().map_or_else(|_| text.parse().map(float).map_err(|_| NoForm), |whole| Ok(whole.into()))?
            }
        },
        Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME | Type::UNKNOWN | Type::XML => text(bytes.0)?,
        Type::CHAR => Value::String(char::from(bytes.array::<1>()?[0]).to_string()),
        Type::JSON => serde_json::from_slice(bytes.0).map_err(|_| NoForm)?,
        Type::JSONB => {
            let _version = bytes.take(1)?;
            serde_json::from_slice(bytes.0).map_err(|_| NoForm)?
        }
        Type::BYTEA => hex(bytes.0).into(),
        Type::UUID => uuid::Uuid::from_bytes(bytes.array()?).to_string().into(),
        Type::TIMESTAMPTZ => match bytes.i64()? {
            i64::MAX => "infinity".into(),
            i64::MIN => "-infinity".into(),
            micros => epoch().checked_add(SignedDuration::from_micros(micros)).map_err(|_| NoForm)?.to_string().into(),
        },
        Type::TIMESTAMP => match bytes.i64()? {
            i64::MAX => "infinity".into(),
            i64::MIN => "-infinity".into(),
            micros => epoch_civil().checked_add(SignedDuration::from_micros(micros)).map_err(|_| NoForm)?.to_string().into(),
        },
        Type::DATE => match bytes.i32()? {
            i32::MAX => "infinity".into(),
            i32::MIN => "-infinity".into(),
            days => date(days)?.to_string().into(),
        },
        Type::TIME => time(bytes.i64()?)?.into(),
        Type::TIMETZ => format!("{}{}", time(bytes.i64()?)?, offset(bytes.i32()?)).into(),
        Type::INTERVAL => interval(bytes.i64()?, bytes.i32()?, bytes.i32()?).into(),
        Type::INET | Type::CIDR => address(ty, bytes)?.into(),
        Type::MACADDR | Type::MACADDR8 => bytes.0.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":").into(),
        Type::PG_LSN => {
            let position = u64::from_be_bytes(bytes.array()?);
            format!("{:X}/{:X}", position >> 32, position & 0xffff_ffff).into()
        }
        Type::TID => format!("({},{})", u32::from_be_bytes(bytes.array()?), u16::from_be_bytes(bytes.array()?)).into(),
        Type::BIT | Type::VARBIT => bits(bytes)?.into(),
        Type::VOID => Value::Null,
        // Types of extensions have no fixed number; these are sent as their text.
        _ if matches!(ty.name(), "citext") => text(bytes.0)?,
        _ => return Err(NoForm),
    })
}

/// `\x` and two digits a byte, as PostgreSQL writes and reads `bytea`.
pub(super) fn hex(bytes: &[u8]) -> String {
    format!("\\x{}", words::hex(bytes))
}

/// A reader of big-endian numbers.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Cell<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(NoForm)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Cell<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| NoForm)
    }

    fn i32(&mut self) -> Cell<i32> {
        self.array().map(i32::from_be_bytes)
    }

    fn i64(&mut self) -> Cell<i64> {
        self.array().map(i64::from_be_bytes)
    }

    /// A value after its length, which is negative for NULL.
    fn value(&mut self, ty: &Type, numeric: Numeric) -> Cell {
        match usize::try_from(self.i32()?) {
            Ok(length) => decode(ty, self.take(length)?, numeric),
            Err(_) => Ok(Value::Null),
        }
    }
}

fn text(raw: &[u8]) -> Cell {
    std::str::from_utf8(raw).map(Value::from).map_err(|_| NoForm)
}

fn float(number: f64) -> Value {
    serde_json::Number::from_f64(number).map_or_else(|| Value::String(number.to_string()), Value::Number)
}

/// The digits of a `numeric`, which is sent as groups of four.
fn digits(mut bytes: Bytes<'_>) -> Cell<String> {
    const GROUP: usize = 4;
    let groups = usize::from(u16::from_be_bytes(bytes.array()?));
    let weight = i16::from_be_bytes(bytes.array()?);
    let sign = match u16::from_be_bytes(bytes.array()?) {
        0x0000 => "",
        0x4000 => "-",
        0xC000 => return Ok("NaN".to_owned()),
        0xD000 => return Ok("inf".to_owned()),
        0xF000 => return Ok("-inf".to_owned()),
        _ => return Err(NoForm),
    };
    let scale = usize::from(u16::from_be_bytes(bytes.array()?));
    let mut all = String::new();
    // Groups of zeros between the point and the first digit are not sent.
    (weight..-1).for_each(|_| all.push_str("0000"));
    for _ in 0..groups {
        let _ = write!(all, "{:04}", u16::from_be_bytes(bytes.array()?));
    }
    let whole = usize::try_from(i32::from(weight) + 1).unwrap_or(0) * GROUP;
    while all.len() < whole + scale {
        all.push('0');
    }
    let (integer, fraction) = all.split_at(whole);
    let integer = integer.trim_start_matches('0');
    let integer = if integer.is_empty() { "0" } else { integer };
    Ok(if scale == 0 { format!("{sign}{integer}") } else { format!("{sign}{integer}.{}", &fraction[..scale]) })
}

fn array(member: &Type, mut bytes: Bytes<'_>, numeric: Numeric) -> Cell {
    let dimensions = bytes.i32()?;
    bytes.take(8)?;
    let mut lengths = Vec::new();
    for _ in 0..dimensions {
        lengths.push(bytes.i32()?);
        bytes.i32()?;
    }
    if lengths.is_empty() {
        return Ok(Value::Array(Vec::new()));
    }
    nested(&lengths, member, &mut bytes, numeric)
}

fn nested(lengths: &[i32], member: &Type, bytes: &mut Bytes<'_>, numeric: Numeric) -> Cell {
    match lengths {
        [] => bytes.value(member, numeric),
        [length, inner @ ..] => (0..*length).map(|_| nested(inner, member, bytes, numeric)).collect::<Cell<_>>().map(Value::Array),
    }
}

fn range(member: &Type, mut bytes: Bytes<'_>, numeric: Numeric) -> Cell {
    const EMPTY: u8 = 0x01;
    const LOWER_IN: u8 = 0x02;
    const UPPER_IN: u8 = 0x04;
    const NO_LOWER: u8 = 0x08;
    const NO_UPPER: u8 = 0x10;
    let [flags] = bytes.array()?;
    if flags & EMPTY != 0 {
        return Ok("empty".into());
    }
    let mut bound = |open: u8| -> Cell<String> {
        if flags & open != 0 {
            return Ok(String::new());
        }
        Ok(match bytes.value(member, numeric)? {
            Value::String(text) => text,
            other => other.to_string(),
        })
    };
    let (lower, upper) = (bound(NO_LOWER)?, bound(NO_UPPER)?);
    let left = if flags & LOWER_IN != 0 { '[' } else { '(' };
    let right = if flags & UPPER_IN != 0 { ']' } else { ')' };
    Ok(format!("{left}{lower},{upper}{right}").into())
}

/// Where PostgreSQL counts time from: the beginning of 2000.
const EPOCH_SECOND: i64 = 946_684_800;

fn epoch() -> Timestamp {
    Timestamp::constant(EPOCH_SECOND, 0)
}

fn epoch_civil() -> DateTime {
    DateTime::constant(2000, 1, 1, 0, 0, 0, 0)
}

fn date(days: i32) -> Cell<Date> {
    Date::constant(2000, 1, 1).checked_add(SignedDuration::from_hours(24 * i64::from(days))).map_err(|_| NoForm)
}

fn time(micros: i64) -> Cell<String> {
    // PostgreSQL has a 24:00:00.
    if micros == 86_400_000_000 {
        return Ok("24:00:00".to_owned());
    }
    Ok(Time::midnight().checked_add(SignedDuration::from_micros(micros)).map_err(|_| NoForm)?.to_string())
}

/// The offset of a zone, which is sent as seconds to the west.
fn offset(west: i32) -> String {
    let (sign, seconds) = if west > 0 { ('-', west) } else { ('+', -west) };
    format!("{sign}{:02}:{:02}", seconds / 3600, seconds / 60 % 60)
}

/// An interval in ISO 8601, each part with its own sign.
fn interval(micros: i64, days: i32, months: i32) -> String {
    let mut text = "P".to_owned();
    let mut part = |number: i64, unit: &str| {
        if number != 0 {
            let _ = write!(text, "{number}{unit}");
        }
    };
    part(i64::from(months / 12), "Y");
    part(i64::from(months % 12), "M");
    part(i64::from(days), "D");
    if micros != 0 {
        let seconds = micros / 1_000_000;
        let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        text.push('T');
        for (number, unit) in [(hours, 'H'), (minutes, 'M')] {
            if number != 0 {
                let _ = write!(text, "{number}{unit}");
            }
        }
        let rest = (micros % 1_000_000).unsigned_abs();
        let sign = if micros < 0 { "-" } else { "" };
        if seconds != 0 || rest != 0 {
            let fraction = if rest == 0 { String::new() } else { format!(".{rest:06}").trim_end_matches('0').to_owned() };
            let _ = write!(text, "{sign}{}{fraction}S", seconds.unsigned_abs());
        }
    }
    if text == "P" { "PT0S".to_owned() } else { text }
}

fn address(ty: &Type, mut bytes: Bytes<'_>) -> Cell<String> {
    let [_, prefix, _, length] = bytes.array()?;
    let (address, full) = match length {
        4 => (Ipv4Addr::from(bytes.array::<4>()?).to_string(), 32),
        16 => (Ipv6Addr::from(bytes.array::<16>()?).to_string(), 128),
        _ => return Err(NoForm),
    };
    Ok(if *ty == Type::INET && prefix == full { address } else { format!("{address}/{prefix}") })
}

fn bits(mut bytes: Bytes<'_>) -> Cell<String> {
    let count = usize::try_from(bytes.i32()?).map_err(|_| NoForm)?;
    let all: String = bytes.0.iter().map(|byte| format!("{byte:08b}")).collect();
    all.get(..count).map(str::to_owned).ok_or(NoForm)
}
