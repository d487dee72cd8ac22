//! Recorded block operations: the text of fio's iologs, version 2 and 3, and of `blkparse`, read line by line.

mod blkparse;
mod fio;

use std::collections::HashMap;
use std::io::{self, BufRead, Read};

/// A longer line is none.
const LONGEST: u64 = 4096;
/// So many malformed lines are kept.
const KEPT: usize = 5;

/// Characters that are told of what is wrong with a line.
const TOLD: usize = 70;

/// What is done to a file.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Action {
    Read,
    Write,
    Trim,
    Sync,
}

/// One operation. Offset and length are in bytes; a sync has none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Operation {
    /// Files are numbered as they come.
    pub(crate) file: usize,
    pub(crate) action: Action,
    pub(crate) offset: u64,
    pub(crate) len: u64,
}

/// What a line says.
enum Line<'a> {
    /// Nothing to be done.
    Nothing,
    /// One thing after the other, to the file of that name. A write may be followed by a sync.
    Actions(&'a str, Vec<(Action, u64, u64)>),
    /// The rest is a summary for people.
    End,
}

/// What the first line that says something has told.
enum Format {
    Fio(fio::Version),
    Blkparse(blkparse::Blkparse),
}

/// A trace that is being read. Memory grows with the number of its files, not of its lines.
pub(crate) struct Trace<R> {
    input: R,
    line: Vec<u8>,
    /// Of the line read last; the first one is 1.
    number: u64,
    format: Option<Format>,
    files: HashMap<String, usize>,
    /// The rest of what the line says, backwards.
    rest: Vec<Operation>,
    /// The number of the first malformed lines, and what is wrong with them.
    malformed: Vec<(u64, String)>,
    malformed_in_all: u64,
    ended: bool,
}

impl<R: BufRead> Trace<R> {
    pub(crate) fn new(input: R) -> Self {
        Self {
            input,
            line: Vec::new(),
            number: 0,
            format: None,
            files: HashMap::new(),
            rest: Vec::new(),
            malformed: Vec::new(),
            malformed_in_all: 0,
            ended: false,
        }
    }

    /// Whether there is any operation. Reads up to the first one.
    pub(crate) fn is_usable(&mut self) -> io::Result<bool> {
        let first = self.next()?;
        self.rest.extend(first);
        Ok(first.is_some())
    }

    /// The next operation, if there is one more. Malformed lines are counted and left out.
    pub(crate) fn next(&mut self) -> io::Result<Option<Operation>> {
        while self.rest.is_empty() && !self.ended && self.read_line()? {
            match self.understand() {
                Ok(Line::Nothing) => {}
                Ok(Line::End) => self.ended = true,
                Ok(Line::Actions(name, actions)) => {
                    // Text that was a line a moment ago.
                    let name = name.to_string();
                    let next = self.files.len();
                    let file = *self.files.entry(name).or_insert(next);
                    let operation = |(action, offset, len)| Operation {
                        file,
                        action,
                        offset,
                        len,
                    };
                    self.rest.extend(actions.into_iter().rev().map(operation));
                }
                Err(what) => {
                    self.malformed_in_all += 1;
                    if self.malformed.len() < KEPT {
                        let what = what.chars().take(TOLD).collect();
                        self.malformed.push((self.number, what));
                    }
                }
            }
        }
        Ok(self.rest.pop())
    }

    /// Reads a line, but not all of one that is too long; whether there was one.
    fn read_line(&mut self) -> io::Result<bool> {
        self.line.clear();
        let mut limited = (&mut self.input).take(LONGEST);
        limited.read_until(b'\n', &mut self.line)?;
        self.number += 1;
        if self.line.len() as u64 == LONGEST && self.line.last() != Some(&b'\n') {
            self.input.skip_until(b'\n')?;
        }
        Ok(!self.line.is_empty())
    }

    fn understand(&mut self) -> Result<Line<'_>, String> {
        if self.line.len() as u64 == LONGEST {
            return Err("longer than a line is".into());
        }
        let text = str::from_utf8(&self.line).map_err(|_| "no text")?.trim();
        if text.is_empty() {
            return Ok(Line::Nothing);
        }
        match &mut self.format {
            Some(Format::Fio(version)) => fio::line(*version, text),
            Some(Format::Blkparse(blkparse)) => blkparse.line(text),
            None => {
                if let Some(version) = fio::version(text)? {
                    self.format = Some(Format::Fio(version));
                    return Ok(Line::Nothing);
                }
                let mut blkparse = blkparse::Blkparse::default();
                let line = blkparse.line(text)?;
                self.format = Some(Format::Blkparse(blkparse));
                Ok(line)
            }
        }
    }

    /// What is to be said about lines that could not be understood: nothing if there were none.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let line = |(number, what): &(u64, String)| format!("line {number} is malformed: {what}");
        let mut lines: Vec<_> = self.malformed.iter().map(line).collect();
        let more = self.malformed_in_all - lines.len() as u64;
        if more > 0 {
            lines.push(format!(
                "and {more} more, {} malformed lines in all",
                self.malformed_in_all
            ));
        }
        lines
    }

    /// How many files there were so far.
    pub(crate) fn files(&self) -> usize {
        self.files.len()
    }

    /// How the trace is understood.
    pub(crate) fn format(&self) -> String {
        match &self.format {
            None => "nothing that is understood".into(),
            Some(Format::Fio(version)) => format!("fio iolog, version {}", version.number()),
            Some(Format::Blkparse(blkparse)) => format!("blkparse, {}", blkparse.events()),
        }
    }
}

/// A number of bytes, or of something else that is counted.
fn number(word: &str) -> Result<u64, String> {
    word.parse().map_err(|_| format!("{word:?} is no number"))
}
