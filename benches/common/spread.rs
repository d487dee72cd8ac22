//! The median of some rounds, and the extremes.

/// What came out in some rounds.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Spread {
    pub(crate) low: f64,
    pub(crate) median: f64,
    pub(crate) high: f64,
}

impl Spread {
    /// Of no rounds there is none.
    pub(crate) fn of(rounds: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut rounds: Vec<f64> = rounds.into_iter().collect();
        rounds.sort_by(f64::total_cmp);
        Some(Self {
            low: *rounds.first()?,
            median: rounds[rounds.len() / 2],
            high: *rounds.last()?,
        })
    }

    /// What was found once.
    pub(crate) fn once(found: f64) -> Self {
        let (low, median, high) = (found, found, found);
        Self { low, median, high }
    }
}
