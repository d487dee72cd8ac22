//! What came out, as text of at most a hundred columns.

use std::fmt::Write;

use super::contest::{Measured, Outcome};
use super::latencies::SHARES;
use super::mix::Kind;
use super::spread::Spread;

/// All tables of one outcome.
pub(crate) fn tables(outcome: &Outcome) -> String {
    let mut text = String::new();
    rates(outcome, &mut text);
    latencies(outcome, &mut text);
    text
}

fn rates(outcome: &Outcome, text: &mut String) {
    let (ours, others) = (outcome.entries[0].name, outcome.entries.len() - 1);
    let ratio = match others {
        0 => String::new(),
        _ => format!("{ours} is x times as fast"),
    };
    line(
        text,
        &format!(
            "{:32} {:>7} {:>14} {:>10}  {ratio}",
            outcome.title, "threads", "operations/s", "garbage"
        ),
    );
    for place in 0..outcome.threads.len() {
        for (number, entry) in outcome.entries.iter().enumerate() {
            let measured = &entry.by_threads[place];
            let rate = Spread::of(measured.rates.iter().copied());
            let rate = rate.map_or("-".into(), |rate| grouped(rate.median as u64));
            // It is that of the whole run: told once.
            let garbage = entry.garbage.filter(|_| place + 1 == outcome.threads.len());
            let garbage = garbage.map_or(String::new(), size);
            let ratio = outcome.ratio(number, place).filter(|_| number > 0);
            let ratio = ratio.map_or(String::new(), |ratio| {
                let [low, median, high] = [ratio.low, ratio.median, ratio.high].map(short);
                format!("{median:>5} ({low} .. {high})")
            });
            line(
                text,
                &format!(
                    "  {:30} {:>7} {rate:>14} {garbage:>10}  {ratio}",
                    entry.name, measured.threads
                ),
            );
        }
    }
}

fn latencies(outcome: &Outcome, text: &mut String) {
    let ours = &outcome.entries[0];
    let heads = SHARES.map(|(head, _)| format!("{head:>10}")).concat();
    let title = format!("How long {} takes", ours.name);
    line(
        text,
        &format!("{title:32} {:>7} {:>14}{heads}", "threads", "timed"),
    );
    for kind in Kind::ALL {
        let seen = |measured: &&Measured| measured.latencies.count(kind) > 0;
        for measured in ours.by_threads.iter().filter(seen) {
            let times = SHARES.map(|(_, share)| time(measured.latencies.at(kind, share)));
            let times = times.map(|time| format!("{time:>10}")).concat();
            let count = grouped(measured.latencies.count(kind));
            line(
                text,
                &format!(
                    "  {:30} {:>7} {count:>14}{times}",
                    kind.name(),
                    measured.threads
                ),
            );
        }
    }
}

fn line(text: &mut String, line: &str) {
    writeln!(text, "{}", line.trim_end()).expect("a string takes everything");
}

/// A text in lines of at most so many columns, where its words are not longer.
pub(crate) fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= columns => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.into()),
        }
    }
    lines
}

/// A number with its thousands apart.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Nanoseconds in a unit that suits them.
pub(crate) fn time(nanoseconds: u64) -> String {
    match nanoseconds {
        0..1_000 => format!("{nanoseconds} ns"),
        1_000..1_000_000 => format!("{} us", short(nanoseconds as f64 / 1e3)),
        1_000_000..1_000_000_000 => format!("{} ms", short(nanoseconds as f64 / 1e6)),
        _ => format!("{} s", short(nanoseconds as f64 / 1e9)),
    }
}

/// Bytes in a unit that suits them.
fn size(bytes: u64) -> String {
    match bytes {
        ..1_048_576 => format!("{} KiB", bytes.div_ceil(1024)),
        _ => format!("{} MiB", short(bytes as f64 / 1_048_576.0)),
    }
}

/// Three digits or so.
fn short(figure: f64) -> String {
    match figure {
        ..10.0 => format!("{figure:.2}"),
        ..100.0 => format!("{figure:.1}"),
        _ => format!("{figure:.0}"),
    }
}
