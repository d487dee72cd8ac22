//! The table of figures: what is asked for, what came out, and whether it is enough.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::contest::Outcome;
use super::spread::Spread;

/// What a figure must reach, and what it should.
#[derive(Clone, Copy)]
enum Bound {
    AtLeast { must: f64, aim: f64 },
    AtMost { must: f64, aim: f64 },
}

/// One row of the table.
#[derive(Clone, Copy)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    /// Rows without one are only shown.
    bound: Option<Bound>,
}

/// A row whose figure must be at least `must`.
pub(crate) const fn at_least(name: &'static str, must: f64, aim: f64) -> Row {
    let bound = Some(Bound::AtLeast { must, aim });
    Row { name, bound }
}

/// A row whose figure must be at most `must`.
pub(crate) const fn at_most(name: &'static str, must: f64, aim: f64) -> Row {
    let bound = Some(Bound::AtMost { must, aim });
    Row { name, bound }
}

/// A row that nobody judges.
pub(crate) const fn shown(name: &'static str) -> Row {
    Row { name, bound: None }
}

impl Row {
    fn mark(&self, figure: f64) -> &'static str {
        let (must, aim) = match self.bound {
            None => return "",
            Some(Bound::AtLeast { must, aim }) => (figure >= must, figure >= aim),
            Some(Bound::AtMost { must, aim }) => (figure <= must, figure <= aim),
        };
        match (aim, must) {
            (true, _) => "reached, aim too",
            (false, true) => "reached",
            (false, false) => "MISSED",
        }
    }

    /// Must and aim as shown.
    fn bounds(&self) -> [String; 2] {
        match self.bound {
            None => [String::new(), String::new()],
            Some(Bound::AtLeast { must, aim }) => [must, aim].map(|bound| format!(">= {bound}")),
            Some(Bound::AtMost { must, aim }) => [must, aim].map(|bound| format!("<= {bound}")),
        }
    }
}

/// What was measured so far.
#[derive(Default)]
pub(crate) struct Report {
    rows: Vec<(Row, Spread)>,
    /// Figures of each candidate, by measure; both in the order they came.
    measures: Vec<(&'static str, BTreeMap<&'static str, f64>)>,
    candidates: Vec<&'static str>,
}

impl Report {
    pub(crate) fn print_head() {
        println!(
            "| {:<64} | {:>8} | {:>19} | {:>8} | {:>8} | mark |",
            "figure", "median", "lowest .. highest", "must", "aim"
        );
        println!("|---|---|---|---|---|---|");
    }

    /// Takes down one figure and prints it.
    pub(crate) fn row(&mut self, row: Row, found: Spread) {
        let [must, aim] = row.bounds();
        let spread = format!("{} .. {}", short(found.low), short(found.high));
        println!(
            "| {:<64} | {:>8} | {spread:>19} | {must:>8} | {aim:>8} | {} |",
            row.name,
            short(found.median),
            row.mark(found.median)
        );
        self.rows.push((row, found));
    }

    /// Takes down what every candidate of a contest took.
    pub(crate) fn costs(&mut self, measure: &'static str, outcome: &Outcome) {
        for (candidate, cost) in outcome.costs() {
            self.figure(measure, candidate, cost.median);
        }
    }

    /// Takes down one figure of one candidate.
    pub(crate) fn figure(&mut self, measure: &'static str, candidate: &'static str, figure: f64) {
        if !self.candidates.contains(&candidate) {
            self.candidates.push(candidate);
        }
        let known = self.measures.iter().position(|(name, _)| *name == measure);
        let place = known.unwrap_or_else(|| {
            self.measures.push((measure, BTreeMap::new()));
            self.measures.len() - 1
        });
        self.measures[place].1.insert(candidate, figure);
    }

    /// Prints what was taken down of the candidates.
    pub(crate) fn print_candidates(&self) {
        println!("\n| not judged | {} |", self.candidates.join(" | "));
        println!("|---|{}", "---|".repeat(self.candidates.len()));
        for (measure, figures) in &self.measures {
            let figures = self
                .candidates
                .iter()
                .map(|candidate| figures.get(candidate));
            let figures: Vec<String> = figures
                .map(|figure| figure.map_or("-".into(), |figure| short(*figure)))
                .collect();
            println!("| {measure} | {} |", figures.join(" | "));
        }
    }

    /// How many judged figures there are, and how many reached what they must.
    pub(crate) fn print_summary(&self) {
        let judged = self.rows.iter().filter(|(row, _)| row.bound.is_some());
        let marks: Vec<&str> = judged.map(|(row, found)| row.mark(found.median)).collect();
        let count = |begin| marks.iter().filter(|mark| mark.starts_with(begin)).count();
        println!(
            "\n{} figures judged: {} reached, {} of them with their aim; {} missed",
            marks.len(),
            count("reached"),
            count("reached, aim"),
            count("MISSED")
        );
    }

    pub(crate) fn json(&self) -> Value {
        let rows = self.rows.iter().map(|(row, found)| {
            let (must, aim) = match row.bound {
                None => (None, None),
                Some(Bound::AtLeast { must, aim } | Bound::AtMost { must, aim }) => {
                    (Some(must), Some(aim))
                }
            };
            json!({
                "figure": row.name, "median": found.median, "lowest": found.low, "highest": found.high,
                "must": must, "aim": aim, "mark": row.mark(found.median),
            })
        });
        let measures: BTreeMap<_, _> = self.measures.iter().cloned().collect();
        json!({ "figures": rows.collect::<Vec<_>>(), "not judged": measures })
    }
}

/// Three digits or so.
fn short(figure: f64) -> String {
    match figure {
        0.0 => "0".into(),
        ..10.0 => format!("{figure:.2}"),
        ..100.0 => format!("{figure:.1}"),
        _ => format!("{figure:.0}"),
    }
}
