//! What the example `throughput` tells: its tables and its picture.

use std::collections::BTreeSet;
use std::time::Duration;

#[path = "common/parts.rs"]
#[macro_use]
mod parts;

parts! {
    "../examples/throughput/contest.rs" contest,
    "../examples/throughput/interrupt.rs" interrupt,
    "../examples/throughput/latencies.rs" latencies,
    "../examples/throughput/mix.rs" mix,
    "../examples/throughput/picture.rs" picture,
    "../examples/throughput/progress.rs" progress,
    "../benches/common/spread.rs" spread,
    "../examples/throughput/table.rs" table,
}

use contest::{Outcome, Turn};
use latencies::Latencies;
use mix::Kind;

/// An outcome with so many others, in which ours is twice as fast as the next, and so on.
fn outcome(threads: &[usize], rounds: usize) -> Outcome {
    const NAMES: [&str; 7] = [
        "ExtentMap",
        "parking_lot RwLock<BTreeMap>",
        "std RwLock<BTreeMap>",
        "parking_lot RwLock<RangeMap>",
        "crossbeam SkipMap",
        "scc TreeIndex",
        "masstree",
    ];
    let mut outcome = Outcome::new("The map alone", threads, &NAMES);
    for round in 0..rounds {
        for place in 0..threads.len() {
            for number in 0..NAMES.len() {
                let mut latencies = Latencies::default();
                for time in 1..1000 {
                    let time = Duration::from_nanos(time * time * 90_000);
                    for kind in Kind::ALL {
                        latencies.add(kind, time);
                    }
                }
                let rate = 1e9 / (1 << number) as f64 / (1 + round) as f64;
                outcome.add(number, place, &Turn { rate, latencies });
            }
        }
    }
    outcome.entries[0].garbage = Some(3 << 20);
    outcome
}

#[test]
fn tables_tell_medians_and_fit_a_hundred_columns() {
    let text = table::tables(&outcome(&[1, 2, 128], 3));
    assert!(
        text.lines().all(|line| line.chars().count() <= 100),
        "{text}"
    );
    let line = |begin: &str| {
        let mut lines = text
            .lines()
            .map(str::trim)
            .filter(|line| line.starts_with(begin));
        lines
            .next_back()
            .unwrap()
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(line("ExtentMap"), "ExtentMap 128 500,000,000 3.00 MiB");
    assert_eq!(
        line("std"),
        "std RwLock<BTreeMap> 128 125,000,000 4.00 (4.00 .. 4.00)"
    );
    assert!(
        line("sync").starts_with("sync 128 2,997 22."),
        "{}",
        line("sync")
    );
    assert!(
        line("sync").ends_with("89.8 s") || line("sync").contains("90."),
        "{}",
        line("sync")
    );
}

#[test]
fn what_was_interrupted_at_once_can_be_told_and_drawn() {
    let nothing = outcome(&[1, 2], 0);
    assert!(table::tables(&nothing).contains(" -"));
    let picture = picture::svg(&[nothing]);
    assert!(
        !picture.contains("NaN") && !picture.contains("inf"),
        "{picture}"
    );
    assert_eq!(outcome(&[1], 0).ratio(1, 0), None);
}

/// Where a text of the picture is: left, right, top and bottom, about.
fn text_box(line: &str) -> Option<(f64, f64, f64, f64)> {
    let rest = line.strip_prefix("<text ")?;
    let value = |name: &str| rest.split_once(&format!("{name}=\""))?.1.split('"').next();
    let [x, y] = [" x", " y"].map(|name| value(name).unwrap().parse::<f64>().unwrap());
    let text = rest.split_once('>')?.1.strip_suffix("</text>")?;
    let text = text.replace("&lt;", "<").replace("&gt;", ">");
    let letter = if value("class") == Some("title") {
        8.2
    } else {
        6.8
    };
    let width = text.chars().count() as f64 * letter;
    let left = match value("text-anchor")? {
        "start" => x,
        "middle" => x - width / 2.0,
        _ => x - width,
    };
    Some((left, left + width, y - 9.0, y + 3.0))
}

#[test]
fn no_text_of_the_picture_lies_on_another_or_outside() {
    for threads in [&[1][..], &[1, 2, 4], &[1, 2, 3, 4, 5, 6, 7, 8, 64, 128]] {
        let picture = picture::svg(&[outcome(threads, 3), outcome(threads, 1)]);
        let size = picture
            .split_once("viewBox=\"0 0 ")
            .unwrap()
            .1
            .split('"')
            .next()
            .unwrap();
        let (width, height) = size.split_once(' ').unwrap();
        let [width, height] = [width, height].map(|size| size.parse::<f64>().unwrap());
        let boxes: Vec<_> = picture.lines().filter_map(text_box).collect();
        assert!(boxes.len() > 40, "{}", boxes.len());
        for (number, one) in boxes.iter().enumerate() {
            let inside = one.0 >= 0.0 && one.1 <= width && one.2 >= 0.0 && one.3 <= height;
            assert!(inside, "{one:?} of {width} x {height}");
            for other in &boxes[..number] {
                let apart_across = one.1 <= other.0 || other.1 <= one.0;
                assert!(
                    apart_across || one.3 <= other.2 || other.3 <= one.2,
                    "{one:?} {other:?}"
                );
            }
        }
    }
}

#[test]
fn the_picture_has_a_line_for_each_and_colours_for_light_and_dark() {
    let picture = picture::svg(&[outcome(&[1, 2], 3)]);
    assert!(picture.contains("prefers-color-scheme: dark"));
    let (light, dark) = picture.split_once("@media").unwrap();
    let lines = picture.matches("<polyline").count();
    assert_eq!(lines, 2 * 7, "two panels");
    let classes: BTreeSet<_> = (0..7)
        .map(|number| format!(".s{number} {{ stroke: #"))
        .collect();
    assert!(
        classes
            .iter()
            .all(|class| light.contains(class) && dark.contains(class))
    );
    assert!(!picture.contains("<rect"), "no background of its own");
    assert!(!picture.contains("RwLock<"), "escaped");
}
