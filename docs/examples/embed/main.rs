//! A program that runs runbooks, and adds a host module of its own: the lamps of a greenhouse.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it is a command")]

use std::path::Path;
use std::process::ExitCode;

use runbook::embed::{self, EventKind, Extension, Function, HostModule, ObjectKind, RunState, Runbooks, Section};

/// What a script sees as `lamp::`.
const LAMP: HostModule = HostModule {
    name: "lamp",
    summary: "the lamps of the greenhouse",
    build: || rhai::exported_module!(lamp),
    functions: &[
        Function::read("is_on").needs("lamp", "see", 0),
        Function::effect("switch_off", "the lamp that goes out").needs("lamp", "switch", 0),
    ],
};

/// What a header may ask for: `lamp: ["see:*", "switch:east"]`.
const SECTION: Section = Section { name: "lamp", verbs: &["see", "switch"], object: ObjectKind::Word };

#[rhai::export_module]
mod lamp {
    use rhai::{Dynamic, NativeCallContext};
    use runbook::embed::{Access, Call, Effect, RhaiResultOf};

    /// Whether a lamp is on.
    #[rhai_fn(return_raw, volatile)]
    pub fn is_on(native: NativeCallContext, house: &str) -> RhaiResultOf<bool> {
        let call = Call::new(&native, "lamp::is_on")?;
        call.permit(&Access::word("lamp", "see", house))?;
        call.wait(async { Ok(false) })
    }

    /// Switches a lamp off.
    #[rhai_fn(return_raw, volatile)]
    pub fn switch_off(native: NativeCallContext, house: &str) -> RhaiResultOf<Dynamic> {
        let call = Call::new(&native, "lamp::switch_off")?;
        call.permit(&Access::word("lamp", "switch", house))?;
        let effect = Effect::new("lamp::switch_off", house, format!("switch the lamp of {house} off"));
        // Recorded before the work starts, and in a plan told instead.
        let done = call.effect(effect, true, async { Ok(true) })?;
        call.value(&done)
    }
}

fn main() -> ExitCode {
    // A run is a process: this program starts itself again for it, and comes out here.
    if let Some(code) = embed::worker(Extension { modules: &[LAMP], sections: &[SECTION] }) {
        return code;
    }
    let house = std::env::args().nth(1).unwrap_or_else(|| "east".to_owned());
    match evening(&house) {
        Ok(status) => {
            println!("{}", status.name());
            ExitCode::from(u8::from(status != RunState::Succeeded))
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

fn evening(house: &str) -> embed::Result<RunState> {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/examples/embed");
    let runbooks = Runbooks::builder().project(project).build()?;
    let run = runbooks.run("evening").param("house", house).by("greenhouse").follow(|_, event| match &event.kind {
        EventKind::Effect { effect, .. } => println!("{}", effect.summary),
        EventKind::Checked(check) => println!("{}: {}", check.name, check.level.name()),
        _ => {}
    })?;
    if let Some(error) = &run.error {
        eprintln!("{error}");
    }
    Ok(run.status)
}
