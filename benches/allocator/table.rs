//! What comes out: a table for each workload, on the screen and as JSON.

use serde_json::{Value, json};

use super::spread::Spread;

/// One table.
pub(crate) struct Table {
    title: &'static str,
    columns: &'static [&'static str],
    rows: Vec<(&'static str, Vec<Cell>)>,
}

pub(crate) enum Cell {
    /// The median of all rounds, and the extremes.
    Figure(Spread),
    /// Why there is no figure, or what must be known about it.
    Remark(&'static str),
}

impl Table {
    pub(crate) fn new(title: &'static str, columns: &'static [&'static str]) -> Self {
        Self {
            title,
            columns,
            rows: Vec::new(),
        }
    }

    /// Adds the figures of one allocator; where they are fewer than the columns the rest stays empty.
    pub(crate) fn row(&mut self, name: &'static str, cells: Vec<Cell>) {
        assert!(cells.len() <= self.columns.len(), "{}: {name}", self.title);
        self.rows.push((name, cells));
    }

    pub(crate) fn print(&self) {
        println!("\n{}\n", self.title);
        let mut lines = vec![vec![String::new()]];
        lines[0].extend(self.columns.iter().map(ToString::to_string));
        for (name, cells) in &self.rows {
            let mut line = vec![name.to_string()];
            line.extend(cells.iter().map(Cell::shown));
            line.resize(self.columns.len() + 1, String::new());
            lines.push(line);
        }
        let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max();
        let widths: Vec<usize> = (0..=self.columns.len()).filter_map(width).collect();
        for (number, line) in lines.iter().enumerate() {
            for (cell, width) in line.iter().zip(&widths) {
                print!("| {cell:<width$} ");
            }
            println!("|");
            if number == 0 {
                println!("{}|", "|---".repeat(widths.len()));
            }
        }
    }

    pub(crate) fn json(&self) -> Value {
        let rows = self.rows.iter().map(|(name, cells)| {
            let cells = self.columns.iter().zip(cells);
            let cells = cells.map(|(column, cell)| (column.to_string(), cell.json()));
            json!({ "name": name, "figures": cells.collect::<serde_json::Map<_, _>>() })
        });
        json!({ "title": self.title, "rows": rows.collect::<Vec<_>>() })
    }
}

impl Cell {
    /// What would be the same in each round.
    pub(crate) fn once(figure: f64) -> Self {
        Self::Figure(Spread::once(figure))
    }

    fn shown(&self) -> String {
        match self {
            Self::Figure(Spread { low, median, high }) if low == high => short(*median),
            Self::Figure(Spread { low, median, high }) => {
                format!("{} ({} .. {})", short(*median), short(*low), short(*high))
            }
            Self::Remark(text) => text.to_string(),
        }
    }

    fn json(&self) -> Value {
        match self {
            Self::Figure(Spread { low, median, high }) => {
                json!({ "median": median, "lowest": low, "highest": high })
            }
            Self::Remark(text) => json!(text),
        }
    }
}

/// Three digits or so.
fn short(figure: f64) -> String {
    match figure {
        0.0 => "0".into(),
        ..0.1 => format!("{figure:.4}"),
        ..1.0 => format!("{figure:.3}"),
        ..10.0 => format!("{figure:.2}"),
        ..100.0 => format!("{figure:.1}"),
        _ => format!("{figure:.0}"),
    }
}
