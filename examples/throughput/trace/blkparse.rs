//! A line of `blkparse`: `MAJOR,MINOR CPU SEQUENCE TIME PID EVENT RWBS [SECTOR + SECTORS] [PROCESS]`.
//!
//! One event of each request counts: that it was queued (Q), or where a trace has none of these, that it was issued to
//! the driver (D). As a trace is read once, the first event of either kind decides.

use super::{Action, Line, number};

const SECTOR: u64 = 512;

/// What is known of a trace so far.
#[derive(Default)]
pub(super) struct Blkparse {
    /// `Q` or `D`.
    counts: Option<&'static str>,
}

impl Blkparse {
    pub(super) fn events(&self) -> &'static str {
        match self.counts {
            Some("Q") => "queued requests (Q)",
            Some(_) => "issued requests (D)",
            None => "no requests",
        }
    }

    pub(super) fn line<'a>(&mut self, text: &'a str) -> Result<Line<'a>, String> {
        // The summary begins with "CPU0 (sda):", or with "Total (sda):" where it is short.
        if text.starts_with("CPU") || text.starts_with("Total") {
            return Ok(Line::End);
        }
        let words: Vec<&str> = text.split_whitespace().take(10).collect();
        let [device, cpu, sequence, time, _, event, rest @ ..] = &words[..] else {
            return Err("too short".into());
        };
        let (major, minor) = device.split_once(',').ok_or("no device in front")?;
        for count in [major, minor, cpu, sequence] {
            number(count)?;
        }
        if !time.parse().is_ok_and(f64::is_finite) {
            return Err(format!("{time:?} is no time"));
        }
        let event = match *event {
            "Q" => "Q",
            "D" => "D",
            _ => return Ok(Line::Nothing),
        };
        let [flags, rest @ ..] = rest else {
            return Err("no kind of request".into());
        };
        let requests = requests(flags, rest)?;
        match *self.counts.get_or_insert(event) == event {
            true => Ok(Line::Actions(device, requests)),
            false => Ok(Line::Nothing),
        }
    }
}

/// What a request does. A flush (F) in front of the kind comes before, one behind it (FUA) is a sync afterwards; S only
/// says that somebody waits, A that nobody does yet, M that it is metadata.
fn requests(flags: &str, rest: &[&str]) -> Result<Vec<(Action, u64, u64)>, String> {
    let kind = flags.find(['R', 'W', 'D']);
    let (before, action, behind) = match kind {
        Some(at) => (&flags[..at], Some(&flags[at..=at]), &flags[at + 1..]),
        None => (flags, None, ""),
    };
    let known = |text: &str| text.chars().all(|flag| "FASMNE".contains(flag));
    if flags.is_empty() || !known(before) || !known(behind) {
        return Err(format!("{flags:?} is no kind of request"));
    }
    const SYNC: (Action, u64, u64) = (Action::Sync, 0, 0);
    let mut requests = Vec::new();
    if before.contains('F') {
        requests.push(SYNC);
    }
    let action = match action {
        None => return Ok(requests),
        Some("R") => Action::Read,
        Some("W") => Action::Write,
        Some(_) => Action::Trim,
    };
    // A flush that was sent as an empty write.
    let [sector, "+", sectors, ..] = rest else {
        return match requests.is_empty() {
            true => Err("no sectors".into()),
            false => Ok(requests),
        };
    };
    let (offset, len) = (
        number(sector)?.checked_mul(SECTOR),
        number(sectors)?.checked_mul(SECTOR),
    );
    let (Some(offset), Some(len)) = (offset, len) else {
        return Err("behind the end of any device".into());
    };
    match len {
        0 if requests.is_empty() => return Err("a length of 0".into()),
        0 => {}
        _ => requests.push((action, offset, len)),
    }
    if behind.contains('F') {
        requests.push(SYNC);
    }
    Ok(requests)
}
