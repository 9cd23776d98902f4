//! Where in a run this thread is: the open steps, how often each name occurred, and the nearest deadline.
//!
//! One stack per thread; `parallel` hands a copy of the top to each of its threads, so keys do not
//! depend on which thread was faster.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// An open step, or the branch of a `parallel`.
#[derive(Debug, Clone, Default)]
pub struct Frame {
    /// The key of the step; of a branch, the key it adds to.
    pub key: String,
    /// When it has to be over.
    pub deadline: Option<Instant>,
    /// Whether effects belong to it; false at the top and in branches outside of steps.
    pub is_step: bool,
    /// The key of the step around everything in it, empty outside of steps.
    pub step: String,
    /// The key under which the step may run again, when it declared one.
    pub idempotent: Option<String>,
    seen: Arc<Mutex<BTreeMap<String, u32>>>,
}

thread_local! {
    static FRAMES: RefCell<Vec<Frame>> = const { RefCell::new(Vec::new()) };
}

/// Closes the frame when dropped, also on the way of an error.
#[derive(Debug)]
pub struct Open(());

impl Drop for Open {
    fn drop(&mut self) {
        FRAMES.with_borrow_mut(|frames| frames.pop());
    }
}

impl Frame {
    /// The key of a child of this name: with `#n` from its second occurrence on.
    pub fn child_key(&self, name: &str) -> String {
        let count = self.occurrence(name);
        let path = if self.key.is_empty() { name.to_owned() } else { format!("{}/{name}", self.key) };
        if count == 1 { path } else { format!("{path}#{count}") }
    }

    /// The how-manieth thing of this name it is, from 1.
    pub fn occurrence(&self, name: &str) -> u32 {
        let mut seen = self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let count = seen.entry(name.to_owned()).or_default();
        *count += 1;
        *count
    }

    /// The key that the branches of a `parallel` called here add their index to: none looks like
    /// another, whoever is faster.
    pub fn branches(&self) -> String {
        match self.occurrence("\0parallel") {
            1 => self.key.clone(),
            count => format!("{}#{count}", self.key),
        }
    }
}

/// The innermost frame of this thread.
pub fn top() -> Frame {
    FRAMES.with_borrow_mut(|frames| {
        if frames.is_empty() {
            frames.push(Frame::default());
        }
        frames[frames.len() - 1].clone()
    })
}

/// Opens a step: its effects and inner steps belong to it until the guard is dropped.
pub fn open_step(key: String, idempotent: Option<String>, deadline: Option<Instant>) -> Open {
    let deadline = nearest(deadline, top().deadline);
    let frame = Frame { step: key.clone(), key, deadline, is_step: true, idempotent, seen: Arc::default() };
    FRAMES.with_borrow_mut(|frames| frames.push(frame));
    Open(())
}

/// Opens a part with a deadline of its own that is no step, such as a check.
pub fn open_part(deadline: Option<Instant>) -> Open {
    let mut frame = top();
    frame.deadline = nearest(deadline, frame.deadline);
    FRAMES.with_borrow_mut(|frames| frames.push(frame));
    Open(())
}

/// Opens the branch `index` of a `parallel` that was called in `parent`, whose [`Frame::branches`] are given.
pub fn open_branch(parent: &Frame, branches: &str, index: usize) -> Open {
    let frame = Frame { key: format!("{branches}[{index}]"), seen: Arc::default(), ..parent.clone() };
    FRAMES.with_borrow_mut(|frames| frames.push(frame));
    Open(())
}

/// The key of the open step of this thread, empty outside of steps.
pub fn step_key() -> String {
    top().step
}

/// The nearest deadline of this thread.
pub fn deadline() -> Option<Instant> {
    FRAMES.with_borrow(|frames| frames.last().and_then(|frame| frame.deadline))
}

fn nearest(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_paths_with_occurrences() {
        std::thread::spawn(|| {
            assert_eq!(top().child_key("a"), "a");
            assert_eq!(top().child_key("a"), "a#2");
            let _open = open_step("a#2".to_owned(), None, None);
            assert_eq!(top().child_key("b"), "a#2/b");
            let parent = top();
            let branches = parent.branches();
            let branch = open_branch(&parent, &branches, 1);
            assert_eq!((top().child_key("c"), top().step), ("a#2[1]/c".to_owned(), "a#2".to_owned()));
            drop(branch);
            assert_eq!(parent.branches(), "a#2#2", "a second `parallel` has keys of its own");
        })
        .join()
        .unwrap();
    }
}
