//! What several threads do, step by step, side by side: for people who want to see how a defect comes about.

use std::fmt;

use crate::sync::uncounted::{Mutex, MutexGuard, PoisonError};
use crate::sync::{Arc, journal};

/// The steps of the threads that tell it, in the order in which they happened.
///
/// Threads tell what they look up, insert, promise, allocate and free, and which locks of files they take and give
/// back. Cloning gives another name to the same story.
#[derive(Clone, Debug, Default)]
pub struct Story {
    told: Arc<Mutex<Told>>,
}

#[derive(Debug, Default)]
struct Told {
    threads: Vec<&'static str>,
    steps: Vec<Step>,
}

#[derive(Debug)]
struct Step {
    /// The place of its thread in the list.
    thread: usize,
    text: String,
}

impl Story {
    /// A story without steps.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs `work`, the steps of which the calling thread tells under `name`.
    pub fn thread<T>(&self, name: &'static str, work: impl FnOnce() -> T) -> T {
        let thread = self.lock().index_of(name);
        let story = self.clone();
        let listener = move |text| story.lock().steps.push(Step { thread, text });
        journal::listen(Arc::new(listener), work)
    }

    fn lock(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Told {
    fn index_of(&mut self, name: &'static str) -> usize {
        let known = self.threads.iter().position(|thread| *thread == name);
        known.unwrap_or_else(|| {
            self.threads.push(name);
            self.threads.len() - 1
        })
    }

    /// How wide the column of `thread` is: as its widest text.
    fn width_of(&self, thread: usize) -> usize {
        let texts = self.steps.iter().filter(|step| step.thread == thread);
        let widths = texts.map(|step| step.text.chars().count());
        let name = self.threads[thread].chars().count();
        widths.max().unwrap_or(0).max(name)
    }
}

/// A column for each thread, a numbered line for each step.
impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told = self.lock();
        let widths: Vec<_> = (0..told.threads.len())
            .map(|thread| told.width_of(thread))
            .collect();
        write!(f, "    ")?;
        for (name, width) in told.threads.iter().zip(&widths) {
            write!(f, "| {name:width$} ")?;
        }
        for (number, step) in (1..).zip(&told.steps) {
            write!(f, "\n{number:>3} ")?;
            for (thread, width) in widths.iter().enumerate().take(step.thread + 1) {
                let text = match thread == step.thread {
                    true => step.text.as_str(),
                    false => "",
                };
                write!(f, "| {text:width$} ")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thread_has_a_column_and_each_step_a_line() {
        let story = Story::new();
        story.thread("one", || journal::note(|| "goes first".into()));
        story.thread("two", || journal::note(|| "follows".into()));
        story.thread("one", || journal::note(|| "ends".into()));
        journal::note(|| "not heard".into());
        let lines = [
            "    | one        | two     ",
            "  1 | goes first ",
            "  2 |            | follows ",
            "  3 | ends       ",
        ];
        assert_eq!(story.to_string(), lines.join("\n"));
    }
}
