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
        let mut seen = self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let count = seen.entry(name.to_owned()).or_default();
        *count += 1;
        let path = if self.key.is_empty() { name.to_owned() } else { format!("{}/{name}", self.key) };
        if *count == 1 { path } else { format!("{path}#{count}") }
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
pub fn open_step(key: String, deadline: Option<Instant>) -> Open {
    let deadline = nearest(deadline, top().deadline);
    FRAMES.with_borrow_mut(|frames| frames.push(Frame { key, deadline, is_step: true, seen: Arc::default() }));
    Open(())
}

/// Opens a part with a deadline of its own that is no step, such as a check.
pub fn open_part(deadline: Option<Instant>) -> Open {
    let mut frame = top();
    frame.deadline = nearest(deadline, frame.deadline);
    FRAMES.with_borrow_mut(|frames| frames.push(frame));
    Open(())
}

/// Opens the branch `index` of a `parallel` that was called in `parent`.
pub fn open_branch(parent: &Frame, index: usize) -> Open {
    let key = format!("{}[{index}]", parent.key);
    FRAMES.with_borrow_mut(|frames| {
        frames.push(Frame { key, deadline: parent.deadline, is_step: parent.is_step, seen: Arc::default() });
    });
    Open(())
}

/// The key of the open step of this thread, empty outside of steps.
pub fn step_key() -> String {
    let frame = top();
    if frame.is_step { frame.key } else { String::new() }
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
            let _open = open_step("a#2".to_owned(), None);
            assert_eq!(top().child_key("b"), "a#2/b");
            let parent = top();
            let _branch = open_branch(&parent, 1);
            assert_eq!(top().child_key("c"), "a#2[1]/c");
        })
        .join()
        .unwrap();
    }
}
