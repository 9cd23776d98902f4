//! What a host function declares of itself, beside its manual.
//!
//! The lint, the reference, the permission inference and the tests read these tables; a test demands
//! that a module's table and its `api` name the same functions.

use rhai::Dynamic;
use serde::de::DeserializeOwned;

use crate::host::options::{OptionError, read_options};

/// Says what is wrong with an options map, without calling the function.
pub type CheckOptions = fn(&Dynamic) -> Result<(), OptionError>;

/// A host module: a namespace of functions.
pub struct HostModule {
    /// The namespace, as in `docker`.
    pub name: &'static str,
    /// One line for the reference.
    pub summary: &'static str,
    /// Makes the Rhai module; called once per process.
    pub build: fn() -> rhai::Module,
    /// What each function declares.
    pub functions: &'static [Function],
}

/// What one function declares.
pub struct Function {
    /// Its name, without the namespace.
    pub name: &'static str,
    /// Whether it changes the world.
    pub kind: FunctionKind,
    /// The permissions it needs; none for pure functions.
    needs: [Option<Need>; MOST_NEEDS],
    /// Whether one of its permissions is enough, by what its argument turns out to be.
    pub one_is_enough: bool,
    /// What a plan shows of it; empty for everything but effects.
    pub plan: &'static str,
    /// Whether it touches nothing but the run itself, so that a test needs no answer for it.
    pub is_inside: bool,
    /// Checks the options map it takes as its last argument.
    pub options: Option<CheckOptions>,
}

/// Whether a function touches the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FunctionKind {
    /// It computes.
    Pure,
    /// It looks; running it again changes nothing.
    Read,
    /// It changes something; in a plan it is told, not done.
    Effect,
}

/// The most permissions one function needs.
const MOST_NEEDS: usize = 3;

/// A permission a function needs.
#[derive(Debug, Clone, Copy)]
pub struct Need {
    /// The section of the header's `allow`.
    pub section: &'static str,
    /// The verb in it.
    pub verb: &'static str,
    /// What it is about.
    pub object: NeedObject,
}

/// Where the object of a permission is found.
#[derive(Debug, Clone, Copy)]
pub enum NeedObject {
    /// Always this one.
    Fixed(&'static str),
    /// In the argument at this place, from 0.
    Argument(usize),
}

impl Function {
    const fn new(name: &'static str, kind: FunctionKind) -> Self {
        Self { name, kind, needs: [None; MOST_NEEDS], one_is_enough: false, plan: "", is_inside: false, options: None }
    }

    /// A function that only computes.
    pub const fn pure(name: &'static str) -> Self {
        Self::new(name, FunctionKind::Pure)
    }

    /// A function that looks at the world.
    pub const fn read(name: &'static str) -> Self {
        Self::new(name, FunctionKind::Read)
    }

    /// A function that changes the world, and what a plan shows of it.
    pub const fn effect(name: &'static str, plan: &'static str) -> Self {
        let mut function = Self::new(name, FunctionKind::Effect);
        function.plan = plan;
        function
    }

    /// Touches nothing but the run: its clock, its secrets, its notes, its messages. In a test it works as it does.
    #[must_use]
    pub const fn inside(mut self) -> Self {
        self.is_inside = true;
        self
    }

    /// Whether a test has to say what it answers.
    pub fn is_answered_in_tests(&self) -> bool {
        self.kind != FunctionKind::Pure && !self.is_inside
    }

    /// Needs this permission on the object in the argument at `index`; beside those named before.
    #[must_use]
    pub const fn needs(self, section: &'static str, verb: &'static str, index: usize) -> Self {
        self.with(Need { section, verb, object: NeedObject::Argument(index) })
    }

    /// Needs this permission on one object that is always the same.
    #[must_use]
    pub const fn needs_fixed(self, section: &'static str, verb: &'static str, object: &'static str) -> Self {
        self.with(Need { section, verb, object: NeedObject::Fixed(object) })
    }

    /// Needs only one of the permissions named before, by what its argument turns out to be.
    #[must_use]
    pub const fn one_is_enough(mut self) -> Self {
        self.one_is_enough = true;
        self
    }

    const fn with(mut self, need: Need) -> Self {
        let mut place = 0;
        while self.needs[place].is_some() {
            place += 1;
        }
        self.needs[place] = Some(need);
        self
    }

    /// The permissions it needs, in the order a reader asks for them.
    pub fn all_needs(&self) -> impl Iterator<Item = &Need> {
        self.needs.iter().flatten()
    }

    /// Takes these options as a map in its last argument.
    #[must_use]
    pub const fn options<T: DeserializeOwned>(mut self) -> Self {
        self.options = Some(check::<T>);
        self
    }

    /// Takes options that need a check of their own.
    #[must_use]
    pub const fn checked_by(mut self, check: CheckOptions) -> Self {
        self.options = Some(check);
        self
    }
}

fn check<T: DeserializeOwned>(options: &Dynamic) -> Result<(), OptionError> {
    read_options::<T>(options).map(drop)
}
