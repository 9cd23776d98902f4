//! Hints about names.

use crate::error::Error;

/// Adds the name that was probably meant, or all there are.
pub(super) fn suggest<'n>(error: Error, name: &str, known: impl IntoIterator<Item = &'n str>) -> Error {
    let known: Vec<&str> = known.into_iter().collect();
    let near = known
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), *candidate))
        .filter(|(distance, candidate)| *distance <= 1 + name.len().min(candidate.len()) / 4)
        .min();
    match near {
        Some((_, near)) => error.hint(format!("did you mean `{near}`?")),
        None if known.is_empty() => error.hint("there are none"),
        None => error.hint(format!("there are {}", known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "))),
    }
}
