//! What Rhai's texts and lists lack, and safer forms of what they have.

use rhai::plugin::*;

/// The longest text a single call may make, in bytes; without it `replace` could ask for terabytes.
const LONGEST: usize = 64 << 20;

/// The longest list or blob a single call may make.
const MOST_ITEMS: usize = 1 << 20;

fn too_long(native: &NativeCallContext<'_>, what: &str) -> Box<EvalAltResult> {
    let error = crate::error::Error::new(crate::error::Kind::Limit, format!("limit: memory: {what} would be too long"));
    crate::script::language::step::thrown(error, native.call_position())
}

#[export_module]
#[expect(clippy::unwrap_used, reason = "rhai's macro writes one for each `&mut` parameter")]
pub mod api {
    use rhai::{Array, Blob, Dynamic, ImmutableString, Map};

    use super::{LONGEST, MOST_ITEMS, too_long};
    use crate::host::RhaiResultOf;

    /// The text without white space at both ends. Unlike Rhai's own it returns it, and leaves the variable alone.
    ///
    /// ```rhai
    /// "  a ".trim() == "a"
    /// ```
    #[rhai_fn(pure)]
    pub fn trim(text: &mut ImmutableString) -> ImmutableString {
        text.trim().into()
    }

    /// The text with every `from` replaced by `to`. Unlike Rhai's own it returns it.
    ///
    /// ```rhai
    /// "a-b-c".replace("-", "+") == "a+b+c"
    /// ```
    #[rhai_fn(return_raw, pure)]
    pub fn replace(native: NativeCallContext, text: &mut ImmutableString, from: &str, to: &str) -> RhaiResultOf<ImmutableString> {
        let grows = to.len().saturating_sub(from.len());
        let times = if grows == 0 { 0 } else { text.matches(from).count() };
        if text.len().saturating_add(times.saturating_mul(grows)) > LONGEST {
            return Err(too_long(&native, "the text"));
        }
        Ok(text.replace(from, to).into())
    }

    /// As `replace`, for a letter.
    #[rhai_fn(name = "replace", return_raw, pure)]
    pub fn replace_char_with_text(
        native: NativeCallContext,
        text: &mut ImmutableString,
        from: char,
        to: &str,
    ) -> RhaiResultOf<ImmutableString> {
        replace(native, text, &from.to_string(), to)
    }

    /// As `replace`, for a letter.
    #[rhai_fn(name = "replace", return_raw, pure)]
    pub fn replace_text_with_char(
        native: NativeCallContext,
        text: &mut ImmutableString,
        from: &str,
        to: char,
    ) -> RhaiResultOf<ImmutableString> {
        replace(native, text, from, &to.to_string())
    }

    /// As `replace`, for letters.
    #[rhai_fn(name = "replace", return_raw, pure)]
    pub fn replace_char(native: NativeCallContext, text: &mut ImmutableString, from: char, to: char) -> RhaiResultOf<ImmutableString> {
        replace(native, text, &from.to_string(), &to.to_string())
    }

    /// Makes the text at least `length` characters long, in place.
    ///
    /// ```rhai
    /// let text = "a"; text.pad(3, '.'); text == "a.."
    /// ```
    #[rhai_fn(return_raw)]
    pub fn pad(native: NativeCallContext, text: &mut ImmutableString, length: i64, letter: char) -> RhaiResultOf<()> {
        pad_with_text(native, text, length, &letter.to_string())
    }

    /// As `pad`, with a text.
    #[rhai_fn(name = "pad", return_raw)]
    pub fn pad_with_text(native: NativeCallContext, text: &mut ImmutableString, length: i64, with: &str) -> RhaiResultOf<()> {
        let length = usize::try_from(length).unwrap_or(0);
        if length.saturating_mul(4) > LONGEST {
            return Err(too_long(&native, "the text"));
        }
        let missing = length.saturating_sub(text.chars().count());
        if missing > 0 && !with.is_empty() {
            let filling: String = with.chars().cycle().take(missing).collect();
            *text = format!("{text}{filling}").into();
        }
        Ok(())
    }

    /// Makes the list at least `length` items long, in place.
    #[rhai_fn(name = "pad", return_raw)]
    pub fn pad_list(native: NativeCallContext, list: &mut Array, length: i64, item: Dynamic) -> RhaiResultOf<()> {
        let length = usize::try_from(length).unwrap_or(0);
        if length > MOST_ITEMS {
            return Err(too_long(&native, "the list"));
        }
        if length > list.len() {
            list.resize(length, item);
        }
        Ok(())
    }

    /// Makes the blob at least `length` bytes long, in place.
    #[rhai_fn(name = "pad", return_raw)]
    pub fn pad_blob(native: NativeCallContext, blob: &mut Blob, length: i64, byte: i64) -> RhaiResultOf<()> {
        let length = usize::try_from(length).unwrap_or(0);
        if length > LONGEST {
            return Err(too_long(&native, "the blob"));
        }
        if length > blob.len() {
            blob.resize(length, byte.to_le_bytes()[0]);
        }
        Ok(())
    }

    /// A blob of `length` zero bytes.
    #[rhai_fn(name = "blob", return_raw)]
    pub fn blob(native: NativeCallContext, length: i64) -> RhaiResultOf<Blob> {
        blob_of(native, length, 0)
    }

    /// A blob of `length` equal bytes.
    #[rhai_fn(name = "blob", return_raw)]
    pub fn blob_of(native: NativeCallContext, length: i64, byte: i64) -> RhaiResultOf<Blob> {
        let length = usize::try_from(length).unwrap_or(0);
        if length > LONGEST {
            return Err(too_long(&native, "the blob"));
        }
        Ok(vec![byte.to_le_bytes()[0]; length])
    }

    /// The items as one text, with `between` between them.
    ///
    /// ```rhai
    /// [1, "b", true].join(", ") == "1, b, true"
    /// ```
    #[rhai_fn(pure)]
    pub fn join(list: &mut Array, between: &str) -> String {
        list.iter().map(ToString::to_string).collect::<Vec<_>>().join(between)
    }

    /// The text so many times.
    ///
    /// ```rhai
    /// "ab".repeat(2) == "abab"
    /// ```
    #[rhai_fn(return_raw, pure)]
    pub fn repeat(native: NativeCallContext, text: &mut ImmutableString, times: i64) -> RhaiResultOf<String> {
        let times = usize::try_from(times).unwrap_or(0);
        if text.len().saturating_mul(times) > LONGEST {
            return Err(too_long(&native, "the text"));
        }
        Ok(text.repeat(times))
    }

    /// The lines of a text, without their ends.
    ///
    /// ```rhai
    /// "a\nb\r\n".lines() == ["a", "b"]
    /// ```
    #[rhai_fn(pure)]
    pub fn lines(text: &mut ImmutableString) -> Array {
        text.lines().map(Into::into).collect()
    }

    /// The sum of the numbers of a list.
    ///
    /// ```rhai
    /// [1, 2].sum() == 3 && [1, 0.5].sum() == 1.5
    /// ```
    #[rhai_fn(pure)]
    pub fn sum(list: &mut Array) -> Dynamic {
        if let Some(whole) = list.iter().map(|item| item.as_int().ok()).collect::<Option<Vec<_>>>() {
            return whole.into_iter().fold(0_i64, i64::saturating_add).into();
        }
        list.iter().filter_map(|item| item.as_float().or_else(|_| item.as_int().map(|whole| whole as f64)).ok()).sum::<f64>().into()
    }

    /// The part of a list from one index up to, and without, another.
    ///
    /// ```rhai
    /// [1, 2, 3, 4].slice(1, 3) == [2, 3]
    /// ```
    #[rhai_fn(pure)]
    pub fn slice(list: &mut Array, from: i64, to: i64) -> Array {
        let bound = |index: i64| usize::try_from(index).unwrap_or(0).min(list.len());
        let (from, to) = (bound(from), bound(to));
        if from < to { list[from..to].to_vec() } else { Array::new() }
    }

    /// The entries of a map as a list of `key` and `value`, by key.
    ///
    /// ```rhai
    /// #{ a: 1 }.entries()[0].key == "a"
    /// ```
    #[rhai_fn(pure)]
    pub fn entries(map: &mut Map) -> Array {
        map.iter()
            .map(|(key, value)| {
                let mut entry = Map::new();
                entry.insert("key".into(), key.as_str().into());
                entry.insert("value".into(), value.clone());
                Dynamic::from_map(entry)
            })
            .collect()
    }

    /// The value of a key, or another value when the map has no such key or it holds nothing.
    ///
    /// ```rhai
    /// #{ a: 1 }.get("b", 2) == 2
    /// ```
    #[rhai_fn(pure)]
    pub fn get(map: &mut Map, key: &str, otherwise: Dynamic) -> Dynamic {
        match map.get(key) {
            Some(value) if !value.is_unit() => value.clone(),
            _ => otherwise,
        }
    }

    /// The number with so many digits after the point, as a text.
    ///
    /// ```rhai
    /// (2.0 / 3.0).fixed(2) == "0.67"
    /// ```
    #[rhai_fn(pure)]
    pub fn fixed(number: &mut f64, digits: i64) -> String {
        format!("{number:.*}", usize::try_from(digits).unwrap_or(0).min(17))
    }
}
