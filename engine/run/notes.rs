//! What scripts keep from run to run.

use serde_json::Value;

use crate::error::Result;
use crate::store::Store;

/// How the keys begin that all runbooks of a system have in common.
const SHARED: &str = "shared/";

/// What a runbook keeps for a system; below `shared/`, what all runbooks keep for it together.
pub struct Notes<'s> {
    store: &'s dyn Store,
    own: String,
    shared: String,
}

impl<'s> Notes<'s> {
    /// Those of a runbook for a system; the name of none is empty.
    pub fn new(store: &'s dyn Store, runbook: &str, system: &str) -> Self {
        // No runbook is without a name, so that nothing shared is also somebody's own.
        Self { store, own: format!("{runbook}@{system}"), shared: format!("@{system}") }
    }

    /// The value under a key, if there is one.
    ///
    /// # Errors
    ///
    /// `store`.
    pub fn get(&self, key: &str) -> Result<Option<Value>> {
        self.store.note(self.scope(key), key)
    }

    /// Keeps a value under a key, or forgets it when it is null. Durable when it returns.
    ///
    /// # Errors
    ///
    /// `store`; nothing changed then.
    pub fn keep(&self, key: &str, value: &Value) -> Result<()> {
        self.store.keep_note(self.scope(key), key, value)
    }

    /// The keys that begin like this, sorted.
    ///
    /// # Errors
    ///
    /// `store`.
    pub fn keys(&self, prefix: &str) -> Result<Vec<String>> {
        let mut keys = self.store.note_keys(&self.own, prefix)?;
        // Kept before they were shared: nothing reads them any more.
        keys.retain(|key| !key.starts_with(SHARED));
        keys.extend(self.store.note_keys(&self.shared, prefix)?);
        keys.sort();
        Ok(keys)
    }

    fn scope(&self, key: &str) -> &str {
        if key.starts_with(SHARED) { &self.shared } else { &self.own }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::store::Memory;

    #[test]
    fn what_is_shared_is_one_for_the_runbooks_of_a_system_and_all_else_is_of_each() {
        let store = Memory::default();
        let [one, other, elsewhere] =
            [("one", "shop"), ("other", "shop"), ("one", "bank")].map(|(runbook, system)| Notes::new(&store, runbook, system));
        one.keep("shared/restarts/api", &json!([1])).unwrap();
        one.keep("restarts/api", &json!([2])).unwrap();
        assert_eq!(other.get("shared/restarts/api").unwrap(), Some(json!([1])));
        assert_eq!(other.get("restarts/api").unwrap(), None);
        assert_eq!(elsewhere.get("shared/restarts/api").unwrap(), None);
        other.keep("shared/restarts/api", &Value::Null).unwrap();
        assert_eq!(one.get("shared/restarts/api").unwrap(), None);
        assert_eq!(one.get("restarts/api").unwrap(), Some(json!([2])));
    }

    #[test]
    fn keys_are_found_whether_shared_or_not() {
        let store = Memory::default();
        let notes = Notes::new(&store, "one", "shop");
        for key in ["shared/b", "seen", "told"] {
            notes.keep(key, &json!(1)).unwrap();
        }
        // As it was left by a version that shared nothing.
        store.keep_note("one@shop", "shared/old", &json!(1)).unwrap();
        for (prefix, keys) in
            [("", &["seen", "shared/b", "told"][..]), ("s", &["seen", "shared/b"]), ("shared/", &["shared/b"]), ("t", &["told"])]
        {
            assert_eq!(notes.keys(prefix).unwrap(), keys, "{prefix}");
        }
    }
}
