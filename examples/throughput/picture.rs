//! The picture: throughput against threads, and how long operations took. One file, for light and for dark.

use std::fmt::{self, Write};

use super::contest::{Entry, Outcome};
use super::spread::Spread;
use super::table;

const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 300.0;
/// Of the plot inside its panel.
const LEFT: f64 = 64.0;
const TOP: f64 = 40.0;
const RIGHT: f64 = 28.0;
const BOTTOM: f64 = 44.0;
/// Between the lines of a legend.
const LINE: f64 = 18.0;

const STYLE: &str = "<style>
  text { font: 12px system-ui, sans-serif; fill: #24292f }
  .title { font-size: 14px; font-weight: 600 }
  .small { font-size: 11px; fill: #57606a }
  .grid { stroke: #8c959f; stroke-opacity: .3 }
  .line { fill: none; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round }
  .s0 { stroke: #0969da } .s1 { stroke: #bc4c00 } .s2 { stroke: #1a7f37 } .s3 { stroke: #8250df }
  .s4 { stroke: #bf3989 } .s5 { stroke: #9a6700 } .s6 { stroke: #57606a } .s7 { stroke: #cf222e }
  .s0 { stroke-width: 3 } .dot { stroke-width: 7 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 }
    .small { fill: #9198a1 }
    .s0 { stroke: #58a6ff } .s1 { stroke: #f0883e } .s2 { stroke: #3fb950 } .s3 { stroke: #bc8cff }
    .s4 { stroke: #f778ba } .s5 { stroke: #d29922 } .s6 { stroke: #9198a1 } .s7 { stroke: #ff7b72 }
  }
</style>
";

/// A position on an axis, and what is written there.
type Tick = (f64, String);

/// One panel: what its axes are, and lines of points from 0 to 1.
struct Panel {
    title: String,
    below: &'static str,
    across: Vec<Tick>,
    up: Vec<Tick>,
    lines: Vec<Vec<(f64, f64)>>,
    /// Whether each point is seen.
    dots: bool,
}

/// The picture of some outcomes: a row of two panels and a legend for each.
pub(crate) fn svg(outcomes: &[Outcome]) -> String {
    let mut body = String::new();
    let mut y = 0.0;
    for outcome in outcomes {
        let panels = [throughput(outcome), latency(outcome)];
        for (column, panel) in panels.iter().enumerate() {
            panel.draw(column as f64 * WIDTH, y, &mut body);
        }
        y += HEIGHT;
        y += legend(outcome, y, &mut body) + LINE;
    }
    let width = 2.0 * WIDTH;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {y}\" width=\"{width}\" height=\"{y}\" \
         role=\"img\">\n{STYLE}{body}</svg>\n"
    )
}

/// Operations per second against threads, both from zero.
fn throughput(outcome: &Outcome) -> Panel {
    let most_threads = outcome.threads.last().copied().unwrap_or(1) as f64;
    let medians = |entry: &Entry| -> Vec<(f64, f64)> {
        let medians = entry.by_threads.iter().filter_map(|measured| {
            let median = Spread::of(measured.rates.iter().copied())?.median;
            Some((measured.threads as f64 / most_threads, median))
        });
        medians.collect()
    };
    let mut lines: Vec<_> = outcome.entries.iter().map(medians).collect();
    let rates = lines.iter().flatten().map(|(_, rate)| *rate);
    let (step, steps) = round_steps(rates.fold(1.0, f64::max));
    for point in lines.iter_mut().flatten() {
        point.1 /= step * steps;
    }
    let up = (0..=steps as u64).map(|tick| (tick as f64 / steps, amount(tick as f64 * step)));
    // Where many numbers are close together only some are written.
    let mut across: Vec<Tick> = Vec::new();
    for threads in outcome.threads.iter().rev() {
        let at = *threads as f64 / most_threads;
        if across.last().is_none_or(|(last, _)| last - at > 0.06) {
            across.push((at, threads.to_string()));
        }
    }
    Panel {
        title: format!("{}: operations per second", outcome.title),
        below: "threads",
        across,
        up: up.collect(),
        lines,
        dots: true,
    }
}

/// A round step, and how many of them reach `most`.
fn round_steps(most: f64) -> (f64, f64) {
    let power = 10_f64.powf((most / 5.0).log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
    let step = steps.into_iter().find(|step| most / step <= 5.0);
    let step = step.unwrap_or(10.0 * power);
    (step, (most / step).ceil())
}

/// A large number in short.
fn amount(number: f64) -> String {
    match number {
        ..1e3 => format!("{number}"),
        ..1e6 => format!("{} k", number / 1e3),
        _ => format!("{} M", number / 1e6),
    }
}

/// Nines, and what they are called: the share of operations that took longer falls by ten from one to the next.
const NINES: [(f64, &str); 6] = [
    (0.0, "0"),
    (1.0, "p90"),
    (2.0, "p99"),
    (3.0, "p99.9"),
    (4.0, "p99.99"),
    (5.0, "p99.999"),
];

/// The time that shares of all operations took at most, both logarithmic, with the most threads.
fn latency(outcome: &Outcome) -> Panel {
    /// Points of a line for each nine.
    const FINE: usize = 8;
    let most_nines = NINES[NINES.len() - 1].0;
    let curve = |entry: &Entry| -> Vec<(f64, f64)> {
        let Some(measured) = entry.by_threads.last() else {
            return Vec::new();
        };
        let times = measured.latencies.of_all();
        let points = (0..=FINE * (NINES.len() - 1)).map(|point| point as f64 / FINE as f64);
        // No further than some operations are behind.
        let known = |nines: &f64| times.len() as f64 * 10_f64.powf(-nines) >= 2.0;
        let point = |nines: f64| {
            let time = times.value_at_quantile(1.0 - 10_f64.powf(-nines));
            (nines / most_nines, (time.max(1) as f64).log10())
        };
        points.take_while(known).map(point).collect()
    };
    let mut lines: Vec<_> = outcome.entries.iter().map(curve).collect();
    let times = || lines.iter().flatten().map(|(_, time)| *time);
    let low = times().fold(f64::INFINITY, f64::min).min(9.0).floor();
    let high = times().fold(low + 1.0, f64::max).ceil();
    for point in lines.iter_mut().flatten() {
        point.1 = (point.1 - low) / (high - low);
    }
    let up = (low as i32..=high as i32).map(|power| {
        let at = (f64::from(power) - low) / (high - low);
        (
            at,
            table::time(10_u64.pow(power as u32))
                .replace(".00", "")
                .replace(".0", ""),
        )
    });
    let threads = outcome.threads.last().copied().unwrap_or(1);
    let across = NINES.map(|(nines, name)| (nines / most_nines, name.into()));
    Panel {
        title: format!("{}: time of an operation, {threads} threads", outcome.title),
        below: "share of operations that took no longer",
        across: across.into(),
        up: up.collect(),
        lines,
        dots: false,
    }
}

impl Panel {
    fn draw(&self, x: f64, y: f64, into: &mut String) {
        let (left, right) = (x + LEFT, x + WIDTH - RIGHT);
        let (top, bottom) = (y + TOP, y + HEIGHT - BOTTOM);
        let across = |at: f64| left + at * (right - left);
        let up = |at: f64| bottom - at * (bottom - top);
        text(into, "title", "start", (left, top - 16.0), &self.title);
        for (at, what) in &self.up {
            let height = up(*at);
            line(into, (left, height), (right, height));
            text(into, "small", "end", (left - 6.0, height + 4.0), what);
        }
        for (at, what) in &self.across {
            let place = across(*at);
            line(into, (place, top), (place, bottom));
            text(into, "small", "middle", (place, bottom + 15.0), what);
        }
        let middle = (left + right) / 2.0;
        text(into, "small", "middle", (middle, bottom + 32.0), self.below);
        // Ours last: it lies on top.
        for (number, points) in self.lines.iter().enumerate().rev() {
            let points = points.iter().map(|(x, y)| (across(*x), up(*y)));
            let joined: Vec<_> = points
                .clone()
                .map(|(x, y)| format!("{x:.1},{y:.1}"))
                .collect();
            let joined = joined.join(" ");
            put(
                into,
                format_args!("<polyline class=\"line s{number}\" points=\"{joined}\"/>"),
            );
            for (x, y) in points.filter(|_| self.dots) {
                put(
                    into,
                    format_args!("<path class=\"line s{number} dot\" d=\"M{x:.1} {y:.1}h0\"/>"),
                );
            }
        }
    }
}

/// Who is which line; returns its height.
fn legend(outcome: &Outcome, y: f64, into: &mut String) -> f64 {
    const COLUMNS: usize = 3;
    for (number, entry) in outcome.entries.iter().enumerate() {
        let x = LEFT + (number % COLUMNS) as f64 * (2.0 * WIDTH - LEFT) / COLUMNS as f64;
        let y = y + (number / COLUMNS) as f64 * LINE + 4.0;
        put(
            into,
            format_args!("<path class=\"line s{number}\" d=\"M{x:.1} {y:.1}h24\"/>"),
        );
        text(into, "", "start", (x + 30.0, y + 4.0), entry.name);
    }
    outcome.entries.len().div_ceil(COLUMNS) as f64 * LINE
}

fn line(into: &mut String, (x, y): (f64, f64), (right, bottom): (f64, f64)) {
    put(
        into,
        format_args!("<path class=\"grid\" d=\"M{x:.1} {y:.1}L{right:.1} {bottom:.1}\"/>"),
    );
}

fn text(into: &mut String, class: &str, anchor: &str, (x, y): (f64, f64), what: &str) {
    let what = what
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    put(
        into,
        format_args!(
            "<text class=\"{class}\" text-anchor=\"{anchor}\" x=\"{x:.1}\" y=\"{y:.1}\">{what}</text>"
        ),
    );
}

fn put(into: &mut String, element: fmt::Arguments<'_>) {
    writeln!(into, "{element}").expect("a string takes everything");
}
