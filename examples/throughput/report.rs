//! Everything that came out, as text and as JSON.

use std::io::{self, Write};

use extent_map::stats::Stats;
use serde_json::{Map, Value, json};

use super::contest::{Measured, Outcome};
use super::latencies::SHARES;
use super::mix::Kind;
use super::spread::Spread;
use super::table;
use super::whole::Finding;

/// All of it.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) header: Vec<(&'static str, String)>,
    pub(crate) outcomes: Vec<Outcome>,
    pub(crate) findings: Vec<Finding>,
    /// Of the volume.
    pub(crate) stats: Option<Stats>,
    pub(crate) interrupted: bool,
    /// What else is to be said, line by line.
    pub(crate) notes: Vec<String>,
}

impl Report {
    /// Whether all was right.
    pub(crate) fn is_right(&self) -> bool {
        self.findings.iter().all(|(_, found)| found.is_ok())
    }

    pub(crate) fn print_header(&self, mut out: impl Write) -> io::Result<()> {
        for (name, what) in &self.header {
            for (number, line) in table::wrapped(what, 90).iter().enumerate() {
                let name = if number == 0 { name } else { "" };
                writeln!(out, "{name:9} {line}")?;
            }
        }
        out.flush()
    }

    pub(crate) fn print(&self, mut out: impl Write) -> io::Result<()> {
        if self.interrupted {
            writeln!(out, "\nInterrupted: this is what came out so far.")?;
        }
        for outcome in &self.outcomes {
            write!(out, "\n{}", table::tables(outcome))?;
        }
        writeln!(out)?;
        if let Some(stats) = &self.stats {
            let retries = format!(
                "Retries: {} second looks under the lock found something new, {} commands given to the device \
                 again. {} writers waited for writeback, {} pages evicted, {} flushes.",
                stats.second_look_changed,
                stats.device_retries,
                stats.writers_throttled,
                stats.pages_evicted,
                stats.device_flushes
            );
            for line in table::wrapped(&retries, 100) {
                writeln!(out, "{line}")?;
            }
        }
        for note in &self.notes {
            writeln!(out, "{note}")?;
        }
        for (what, found) in &self.findings {
            match found {
                Ok(found) => writeln!(out, "right  {what}: {found}")?,
                Err(wrong) => writeln!(out, "WRONG  {what}: {wrong}")?,
            }
        }
        out.flush()
    }

    pub(crate) fn json(&self) -> Value {
        let header: Map<_, _> = self
            .header
            .iter()
            .map(|(name, what)| (name.to_string(), json!(what)))
            .collect();
        let findings = self.findings.iter().map(|(what, found)| match found {
            Ok(found) => json!({ "what": what, "right": true, "found": found }),
            Err(wrong) => json!({ "what": what, "right": false, "found": wrong }),
        });
        let stats = self.stats.map(|stats| {
            let text = stats.to_string();
            let counters = text.lines().filter_map(|line| {
                let mut words = line.split_whitespace();
                Some((
                    words.next()?.to_string(),
                    json!(words.next()?.parse::<u64>().ok()?),
                ))
            });
            counters.collect::<Map<_, _>>()
        });
        json!({
            "header": header,
            "interrupted": self.interrupted,
            "outcomes": self.outcomes.iter().map(outcome).collect::<Vec<_>>(),
            "stats": stats,
            "notes": self.notes,
            "verified": findings.collect::<Vec<_>>(),
        })
    }
}

fn outcome(outcome: &Outcome) -> Value {
    let entries = outcome.entries.iter().enumerate().map(|(number, entry)| {
        let by_threads = entry
            .by_threads
            .iter()
            .enumerate()
            .map(|(place, measured)| {
                let ratio = outcome.ratio(number, place).filter(|_| number > 0);
                json!({
                    "threads": measured.threads,
                    "operations_per_second": measured.rates,
                    "times_as_fast": ratio.map(spread),
                    "nanoseconds": latencies(measured),
                })
            });
        json!({
            "name": entry.name,
            "peak_garbage_bytes": entry.garbage,
            "by_threads": by_threads.collect::<Vec<_>>(),
        })
    });
    json!({ "title": outcome.title, "entries": entries.collect::<Vec<_>>() })
}

fn spread(spread: Spread) -> Value {
    json!({ "lowest": spread.low, "median": spread.median, "highest": spread.high })
}

/// By kind of operation.
fn latencies(measured: &Measured) -> Value {
    let seen = |kind: &Kind| measured.latencies.count(*kind) > 0;
    let kinds = Kind::ALL.into_iter().filter(seen).map(|kind| {
        let mut times: Map<_, _> = SHARES
            .iter()
            .map(|(name, share)| (name.to_string(), json!(measured.latencies.at(kind, *share))))
            .collect();
        times.insert("timed".into(), json!(measured.latencies.count(kind)));
        (kind.name().to_string(), Value::Object(times))
    });
    Value::Object(kinds.collect())
}
