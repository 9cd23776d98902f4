//! `secret::`: handles of secrets, which host functions open and nobody prints.

use rhai::plugin::*;

use crate::host::{Function, HostModule};

/// The module `secret`.
pub const MODULE: HostModule = HostModule {
    name: "secret",
    summary: "handles of secrets, for options of other functions",
    build: || exported_module!(api),
    functions: &[Function::read("get").needs("secrets", "use", 0).inside(), Function::read("exists").needs("secrets", "use", 0).inside()],
};

/// What a handle can do wherever it comes from: print as a mask, and equal nothing.
pub(crate) fn handle() -> Module {
    let mut module = exported_module!(shown);
    module.set_custom_type::<crate::host::Secret>("Secret");
    module
}

#[export_module]
mod api {
    use crate::host::{Access, Call, RhaiResultOf, Secret as Handle};

    /// The secret of a name, to be given to options that take one. It shows as `***` everywhere and holds no value:
    /// only a host function opens it, towards what it is for.
    ///
    /// ```rhai
    /// let missing = false;
    /// try { secret::get("manual-never-set"); } catch (error) { missing = error.kind == "not_found"; }
    /// missing
    /// ```
    ///
    /// Needs `secrets`. One that is not set is an error of kind `not_found`.
    #[rhai_fn(return_raw, volatile)]
    pub fn get(native: NativeCallContext, name: &str) -> RhaiResultOf<Handle> {
        let call = Call::new(&native, "secret::get")?;
        call.permit(&Access::word("secrets", "use", name))?;
        call.ctx().secrets().value(name).map_err(|error| call.fail(error))?;
        Ok(Handle::named(name))
    }

    /// Whether a secret is set.
    ///
    /// ```rhai
    /// !secret::exists("manual-never-set")
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn exists(native: NativeCallContext, name: &str) -> RhaiResultOf<bool> {
        let call = Call::new(&native, "secret::exists")?;
        call.permit(&Access::word("secrets", "use", name))?;
        Ok(call.ctx().secrets().value(name).is_ok())
    }
}

/// How a secret shows in scripts: the same, whatever it is.
#[export_module]
mod shown {
    use crate::host::secrets::MASK;

    /// A secret; it shows as `***`.
    pub type Secret = crate::host::Secret;

    /// Always `***`.
    #[rhai_fn(global, name = "to_string", name = "to_debug", name = "print", name = "debug")]
    pub fn masked(_secret: Secret) -> String {
        MASK.to_owned()
    }

    /// Never: secrets are not compared.
    #[rhai_fn(global, name = "==")]
    pub fn equals(_one: Secret, _other: Secret) -> bool {
        false
    }

    /// Always: secrets are not compared.
    #[rhai_fn(global, name = "!=")]
    pub fn differs(_one: Secret, _other: Secret) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::error::Kind;
    use crate::host::testing::Bench;
    use crate::host::{Mode, Secrets};
    use crate::model::System;

    fn bench() -> Bench {
        let secrets = Secrets::new([("db".to_owned(), "hunter2hunter2".to_owned()), ("other".to_owned(), "x".to_owned())].into());
        Bench::with(json!({ "secrets": ["db", "unset"] }), System::default(), secrets, Mode::Apply)
    }

    #[test]
    fn a_secret_shows_as_a_mask_everywhere() {
        let bench = bench();
        for script in ["`${s}`", "s.to_string()", "to_debug(s)", r#""" + s"#, "s + ``"] {
            let shown = bench.eval(&format!(r#"let s = secret::get("db"); {script}"#)).unwrap().to_string();
            assert_eq!(shown, "***", "{script}");
        }
        for script in ["`${[s]}`", "`${#{ s: s }}`", "[s].to_json()", "#{ s: s }.to_json()", "to_debug([s])"] {
            let shown = bench.eval(&format!(r#"let s = secret::get("db"); {script}"#)).map(|shown| shown.to_string());
            assert!(!shown.unwrap_or_default().contains("hunter2"), "{script}");
        }
        assert_eq!(bench.eval(r#"type_of(secret::get("db"))"#).unwrap().to_string(), "Secret");
    }

    #[test]
    fn a_secret_is_not_compared_and_has_no_parts() {
        let bench = bench();
        let compared = r#"let s = secret::get("db"); [s == s, s != s, s == "hunter2hunter2", s == "***"]"#;
        assert_eq!(bench.eval(compared).unwrap().to_string(), "[false, true, false, false]");
        for script in ["s.len()", "s[0]", "s.name", "s.contains(`h`)", "s.split()", "parse_int(s)"] {
            assert!(bench.eval(&format!(r#"let s = secret::get("db"); {script}"#)).is_err(), "{script}");
        }
    }

    #[test]
    fn only_granted_secrets_are_told_of() {
        let bench = bench();
        assert_eq!(bench.error(r#"secret::get("other")"#).kind, Kind::Denied);
        assert_eq!(bench.error(r#"secret::exists("other")"#).kind, Kind::Denied);
        assert_eq!(bench.error(r#"secret::get("unset")"#).kind, Kind::NotFound);
        assert_eq!(bench.eval(r#"[secret::exists("db"), secret::exists("unset")]"#).unwrap().to_string(), "[true, false]");
    }
}
