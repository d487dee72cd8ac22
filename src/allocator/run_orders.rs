//! How many free runs of which order of length start where: an index that costs the same whatever changes.

/// Runs of this order and longer are as long as a stretch: at most one starts in each.
const LONG: usize = 9;
/// Orders of lengths below 2^32: the power of two that a length reaches.
pub(super) const ORDERS: usize = 32;
/// The highest of them.
pub(super) const TOP: u32 = 31;

/// The order of a run of `len` clusters, at least one.
#[inline]
pub(super) const fn order_of(len: u64) -> u32 {
    len.ilog2()
}

/// A set of orders, one bit for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Orders(pub(super) u32);

impl Orders {
    /// Those that a run of at least `len` clusters can have.
    #[inline]
    pub(super) const fn from(len: u64) -> Self {
        Self(u32::MAX << order_of(len))
    }

    /// Those of which every run has at least `len` clusters.
    pub(super) fn surely(len: u64) -> Self {
        let order = u64::BITS - (len - 1).leading_zeros();
        Self(u32::MAX.checked_shl(order).unwrap_or(0))
    }

    /// This one.
    pub(super) const fn only(order: u32) -> Self {
        Self(1 << order)
    }

    #[inline]
    const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Those of both.
    pub(super) const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Those of either.
    pub(super) const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The highest.
    pub(super) fn top(self) -> Option<u32> {
        self.0.checked_ilog2()
    }

    /// From the lowest on.
    pub(super) fn iter(self) -> impl Iterator<Item = u32> {
        let mut left = self.0;
        std::iter::from_fn(move || {
            let order = left.trailing_zeros();
            left &= left.wrapping_sub(1);
            (order < u32::BITS).then_some(order)
        })
    }
}

/// The orders of the runs that start in each stretch, and of all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RunOrders {
    stretches: Box<[Stretch]>,
    counts: [u32; ORDERS],
    orders: Orders,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Stretch {
    orders: Orders,
    counts: [u16; LONG],
}

impl RunOrders {
    /// No runs, in so many stretches.
    pub(super) fn none(stretches: usize) -> Self {
        Self {
            stretches: vec![Stretch::default(); stretches].into(),
            counts: [0; ORDERS],
            orders: Orders::default(),
        }
    }

    /// The orders of all runs.
    pub(super) fn all(&self) -> Orders {
        self.orders
    }

    /// A run of `len` clusters starts in `stretch` now.
    #[inline]
    pub(super) fn add(&mut self, stretch: u64, len: u64) {
        let order = order_of(len);
        let here = &mut self.stretches[stretch as usize];
        here.orders.0 |= 1 << order;
        if let Some(count) = here.counts.get_mut(order as usize) {
            *count += 1;
        }
        self.counts[order as usize] += 1;
        self.orders.0 |= 1 << order;
    }

    /// A run of `len` clusters starts in `stretch` no more.
    #[inline]
    pub(super) fn remove(&mut self, stretch: u64, len: u64) {
        let order = order_of(len);
        let here = &mut self.stretches[stretch as usize];
        let left = match here.counts.get_mut(order as usize) {
            Some(count) => {
                *count -= 1;
                *count
            }
            None => 0,
        };
        here.orders.0 &= !(u32::from(left == 0) << order);
        let left = &mut self.counts[order as usize];
        *left -= 1;
        self.orders.0 &= !(u32::from(*left == 0) << order);
    }

    /// The first stretch from `from` on in which a run starts that has one of `orders`.
    #[inline]
    pub(super) fn next(&self, from: u64, orders: Orders) -> Option<u64> {
        let rest = self.stretches.get(from as usize..)?;
        let found = rest.iter().position(|here| here.orders.meets(orders))?;
        Some(from + found as u64)
    }

    /// All stretches in which a run of `order` starts.
    pub(super) fn with(&self, order: u32) -> impl Iterator<Item = u64> {
        let stretches = (0..).zip(&self.stretches);
        let has = move |here: &Stretch| here.orders.meets(Orders::only(order));
        stretches.filter_map(move |(number, here)| has(here).then_some(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_meets_the_orders_of_the_runs_that_may_be_long_enough() {
        for order in 0..=TOP {
            for run in 0..=TOP {
                let (wish, run) = (Orders::from(1 << order), Orders::only(run));
                assert_eq!(wish.meets(run), run.top() >= Some(order));
                assert_eq!(wish.and(run).top().is_some(), wish.meets(run));
            }
        }
    }

    #[test]
    fn the_next_stretch_is_the_first_that_has_one_of_the_orders() {
        let mut orders = RunOrders::none(9);
        for (stretch, len) in [(1, 600), (4, 5), (4, 40), (7, 600)] {
            orders.add(stretch, len);
        }
        let next = |from, len| orders.next(from, Orders::from(len));
        assert_eq!(
            [0, 1, 2, 7, 8].map(|from| next(from, 512)),
            [Some(1), Some(1), Some(7), Some(7), None]
        );
        assert_eq!(
            [0, 2, 4, 5].map(|from| next(from, 33)),
            [Some(1), Some(4), Some(4), Some(7)]
        );
        assert_eq!(next(100, 1), None);
        assert!(orders.with(2).eq([4]));
        orders.remove(4, 5);
        assert!(orders.with(2).next().is_none() && orders.with(5).eq([4]));
    }
}
