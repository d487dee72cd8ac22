//! How far it is, for people who watch.

use std::io::{self, Write};

use indicatif::{ProgressBar, ProgressStyle};

use super::interrupt;

/// A bar on standard error; where that is no terminal, a line now and then.
#[derive(Debug)]
pub(crate) struct Progress(ProgressBar);

impl Progress {
    pub(crate) fn new() -> Self {
        let bar = ProgressBar::new(1);
        let style = ProgressStyle::with_template("{msg} [{bar:40}] {percent} %, {eta} left");
        bar.set_style(style.expect("a good template"));
        Self(bar)
    }

    /// Begins with something of so many steps.
    pub(crate) fn begin(&self, what: &str, steps: usize) {
        self.0.reset();
        self.0.set_length(steps as u64);
        self.show(what);
        self.line(what);
    }

    /// Begins with something that takes a moment, in steps that nobody counts.
    pub(crate) fn say(&self, what: &str) {
        self.begin(what, 1);
    }

    /// Begins with checking what was done, which Ctrl-C does not leave out.
    pub(crate) fn say_checking(&self) {
        self.say(match interrupt::wanted() {
            true => "Checking what was done so far; one more Ctrl-C ends it at once",
            false => "Checking",
        });
    }

    /// Something that changes too often for lines.
    pub(crate) fn show(&self, what: &str) {
        self.0.set_message(what.to_string());
    }

    pub(crate) fn step(&self) {
        self.0.inc(1);
        let (done, all) = (self.0.position(), self.0.length().unwrap_or(1));
        let tenths = |done| 10 * done / all;
        if tenths(done) > tenths(done - 1) {
            self.line(&format!("{}: {} %", self.0.message(), 10 * tenths(done)));
        }
    }

    fn line(&self, line: &str) {
        if self.0.is_hidden() {
            // Nobody may be listening.
            let _ = writeln!(io::stderr(), "{line}");
        }
    }

    pub(crate) fn end(&self) {
        self.0.finish_and_clear();
    }
}
