//! Words for people, made of names, numbers and bytes. Knows no noun of this program.

/// `` `a`, `b` and `c` ``.
pub fn list(names: &[impl AsRef<str>]) -> String {
    joined(names, "and")
}

/// `` `a`, `b` or `c` ``.
pub fn either(names: &[impl AsRef<str>]) -> String {
    joined(names, "or")
}

fn joined(names: &[impl AsRef<str>], last_word: &str) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{}`", name.as_ref())).collect();
    match quoted.as_slice() {
        [] => "none".to_owned(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} {last_word} {last}", most.join(", ")),
    }
}

/// The known name that was probably meant.
pub fn nearest<'n, N: AsRef<str> + ?Sized + 'n>(name: &str, known: impl IntoIterator<Item = &'n N>) -> Option<&'n str> {
    let far = |candidate: &str| 1 + name.len().min(candidate.len()) / 4;
    known
        .into_iter()
        .map(AsRef::as_ref)
        // Counting edits is quadratic; the lengths alone rule most names out.
        .filter(|candidate| candidate.len().abs_diff(name.len()) <= far(candidate))
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= far(candidate))
        .min()
        .map(|(_, candidate)| candidate)
}

/// Whether a text is what a pattern says, in which `*` stands for any characters.
pub fn is_like(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

/// `1 check`, `2 checks`; `thing` is the word for one.
pub fn count(number: impl TryInto<u64>, thing: &str) -> String {
    // What does not fit is not 1 either way.
    let number = number.try_into().unwrap_or(u64::MAX);
    if number == 1 { format!("1 {thing}") } else { format!("{number} {}", plural(thing)) }
}

/// The word for several of it, for the nouns of this program: `checks`, `entries`, `addresses`.
fn plural(thing: &str) -> String {
    match thing.strip_suffix('y') {
        Some(stem) if !stem.ends_with(['a', 'e', 'o', 'u']) => format!("{stem}ies"),
        _ if thing.ends_with(['s', 'x']) || thing.ends_with("ch") => format!("{thing}es"),
        _ => format!("{thing}s"),
    }
}

/// Two lower-case digits a byte, as `sha256sum` writes them.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]).map(char::from).collect()
}

/// The bytes that digits as those of [`hex`] stand for, in either case; nothing when it is something else.
pub fn unhex(digits: &str) -> Option<Vec<u8>> {
    let value = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    // Of its full length at once: what grew would leave parts of a key in memory.
    let mut bytes = Vec::with_capacity(digits.len() / 2);
    for pair in digits.as_bytes().chunks(2) {
        let [high, low] = pair else { return None };
        bytes.push(value(*high)? << 4 | value(*low)?);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_listed_as_one_says_them() {
        assert_eq!(list(&[""; 0]), "none");
        assert_eq!(list(&["a"]), "`a`");
        assert_eq!(list(&["a", "b", "c"]), "`a`, `b` and `c`");
        assert_eq!(either(&["a", "b"]), "`a` or `b`");
    }

    #[test]
    fn a_near_name_is_found_and_a_far_one_is_not() {
        assert_eq!(nearest("timout", ["timeout", "retries"]), Some("timeout"));
        assert_eq!(nearest("mian", &["main".to_owned()]), Some("main"));
        assert_eq!(nearest("cpu", ["memory"]), None);
        assert_eq!(nearest("a", [""]), Some(""));
    }

    #[test]
    fn one_is_singular_and_the_rest_is_plural() {
        assert_eq!(count(1, "check"), "1 check");
        assert_eq!(count(0, "check"), "0 checks");
        assert_eq!(count(2_usize, "entry"), "2 entries");
        assert_eq!(count(2_u64, "address"), "2 addresses");
        assert_eq!(count(3, "day"), "3 days");
    }

    #[test]
    fn bytes_are_written_with_their_zeros() {
        assert_eq!(hex(&[0, 0x0f, 0xff]), "000fff");
    }

    #[test]
    fn what_is_not_two_digits_a_byte_stands_for_nothing() {
        for (text, bytes) in [("00Ff", Some(vec![0, 255])), ("0", None), ("+1", None), ("zz", None), ("é0", None), ("", Some(vec![]))] {
            assert_eq!(unhex(text), bytes, "{text}");
        }
    }
}
