//! The free clusters of one group: a bit for each, and for each stretch of 512 the orders of the runs that start in it.
//!
//! The runs are found in the bitmap alone; the second level only says where it is worth to look. Together they take 1.4
//! bits for a cluster. What a take or a give costs does not depend on the length of the runs beside it, because
//! stretches that are free from end to end are known and skipped.

use super::run_orders::{Orders, RunOrders, order_of};
use super::span::Span;

/// Words of a stretch: one cache line.
const WORDS: usize = 8;
/// Clusters of a stretch.
const STRETCH: u64 = WORDS as u64 * 64;

/// Where a run may start: at multiples of a number of clusters, counted from the start of the volume.
#[derive(Clone, Copy, Debug)]
pub(super) struct Alignment {
    pub(super) multiple: u64,
    /// The first cluster of the group on the volume.
    pub(super) base: u64,
}

impl Alignment {
    /// Anywhere.
    pub(super) const ANY: Self = Self {
        multiple: 1,
        base: 0,
    };

    /// The first place from `start` on.
    #[inline]
    fn next(self, start: u64) -> Option<u64> {
        let place = (self.base + start).checked_next_multiple_of(self.multiple)?;
        Some(place - self.base)
    }
}

/// Free clusters, counted from the start of the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FreeRuns {
    len: u64,
    /// A set bit is a free cluster; bits from `len` on are clear.
    bits: Box<[u64]>,
    /// Of the maximal runs, by the stretch in which they start, wherever they end.
    orders: RunOrders,
    /// A set bit is a stretch without a used cluster.
    empty: Box<[u64]>,
    free: u64,
    fragments: u64,
}

impl FreeRuns {
    /// `len` clusters, all free; fewer than 2^32.
    pub(super) fn all_free(len: u64) -> Self {
        let stretches = len.div_ceil(STRETCH);
        let mut runs = Self {
            len,
            bits: vec![0; (stretches * WORDS as u64) as usize].into(),
            orders: RunOrders::none(stretches as usize),
            empty: vec![0; stretches.div_ceil(64) as usize].into(),
            free: 0,
            fragments: 0,
        };
        runs.give(Span { start: 0, end: len });
        runs
    }

    pub(super) fn free(&self) -> u64 {
        self.free
    }

    /// How many maximal free runs there are.
    pub(super) fn fragments(&self) -> u64 {
        self.fragments
    }

    /// The orders of the free runs.
    pub(super) fn orders(&self) -> Orders {
        self.orders.all()
    }

    pub(super) fn is_free(&self, cluster: u64) -> bool {
        cluster < self.len && self.bits[(cluster / 64) as usize] >> (cluster % 64) & 1 == 1
    }

    /// Whether every cluster of `span` is free.
    pub(super) fn is_all_free(&self, span: Span) -> bool {
        self.is_free(span.start) && self.end_of_run(span.start) >= span.end
    }

    /// Whether no cluster of `span` is free.
    pub(super) fn is_all_used(&self, span: Span) -> bool {
        self.next_free(span.start)
            .is_none_or(|next| next >= span.end)
    }

    /// The free run from exactly `start` on, however long.
    pub(super) fn run_from(&self, start: u64) -> Option<Span> {
        self.is_free(start).then(|| Span {
            start,
            end: self.end_of_run(start),
        })
    }

    /// The free run that ends exactly before `end`.
    pub(super) fn run_before(&self, end: u64) -> Option<Span> {
        let last = end.checked_sub(1).filter(|last| self.is_free(*last))?;
        Some(Span {
            start: self.start_of_run(last),
            end,
        })
    }

    /// The maximal free runs from `from` on; the first is cut there.
    pub(super) fn runs(&self, from: u64) -> impl Iterator<Item = Span> {
        let mut from = from;
        std::iter::from_fn(move || {
            let start = self.next_free(from)?;
            let end = self.end_of_run(start);
            from = end;
            Some(Span { start, end })
        })
    }

    /// The first `want` free clusters from `from` on that start where `align` allows it.
    pub(super) fn first_fit(&self, from: u64, want: u64, align: Alignment) -> Option<Span> {
        let mut start = self.next_free(from)?;
        let mut stretch = start / STRETCH;
        loop {
            let end = align.next(start)?.checked_add(want)?;
            let wish = Span {
                start: end - want,
                end,
            };
            // From its end, as Boyer and Moore look for words: no run fits that starts before the last obstacle.
            match self.last_used(wish)? {
                None => return Some(wish),
                Some(obstacle) => start = self.next_free(obstacle + 1)?,
            }
            if start / STRETCH != stretch {
                stretch = self.orders.next(start / STRETCH, Orders::from(want))?;
                start = self.next_free(start.max(stretch * STRETCH))?;
            }
        }
    }

    /// The last cluster of `span` that is not free, if there is one. None if the span is longer than the group.
    #[inline]
    fn last_used(&self, span: Span) -> Option<Option<u64>> {
        if span.end > self.len {
            return None;
        }
        let (first, last) = (span.start / 64, (span.end - 1) / 64);
        let mut used = !self.bits[last as usize] & u64::MAX >> (63 - (span.end - 1) % 64);
        let mut index = last;
        while index > first && used == 0 {
            index -= 1;
            used = !self.bits[index as usize];
        }
        let found = used.checked_ilog2().map(|bit| index * 64 + u64::from(bit));
        Some(found.filter(|found| *found >= span.start))
    }

    /// The shortest free run of at least `want` clusters, the first of several.
    pub(super) fn snug_fit(&self, want: u64) -> Option<Span> {
        let orders = self.orders().and(Orders::from(want));
        orders
            .iter()
            .find_map(|order| self.snug_fit_of(order, want))
    }

    /// The same among the runs of one order.
    fn snug_fit_of(&self, order: u32, want: u64) -> Option<Span> {
        let mut best: Option<Span> = None;
        for run in self.runs_of(order) {
            if run.len() == want {
                return Some(run);
            }
            if run.len() > want && best.is_none_or(|best| run.len() < best.len()) {
                best = Some(run);
            }
        }
        best
    }

    /// The first of the longest free runs.
    pub(super) fn longest_run(&self) -> Option<Span> {
        self.longest_run_of(self.orders().top()?)
    }

    /// The first of the longest free runs of one order.
    pub(super) fn longest_run_of(&self, order: u32) -> Option<Span> {
        let longer = |best: Span, run: Span| match run.len() > best.len() {
            true => run,
            false => best,
        };
        self.runs_of(order).reduce(longer)
    }

    /// The free runs of one order.
    fn runs_of(&self, order: u32) -> impl Iterator<Item = Span> {
        let starting = |stretch| self.starting_in(stretch * STRETCH, (stretch + 1) * STRETCH);
        let runs = self.orders.with(order).flat_map(starting);
        runs.filter(move |run| order_of(run.len()) == order)
    }

    /// Makes a free span used.
    pub(super) fn take(&mut self, span: Span) {
        debug_assert!(self.is_all_free(span));
        let run = Span {
            start: self.start_of_run(span.start),
            end: self.end_of_run(span.end - 1),
        };
        for_words(&mut self.bits, span, |word, mask| *word &= !mask);
        for stretch in span.start / STRETCH..=(span.end - 1) / STRETCH {
            self.empty[(stretch / 64) as usize] &= !(1 << (stretch % 64));
        }
        self.free -= span.len();
        let (before, behind) = (span.start > run.start, run.end > span.end);
        self.fragments = self.fragments + u64::from(before) + u64::from(behind) - 1;
        self.lost(run);
        let [left, right] = run.without(span);
        if before {
            self.found(left);
        }
        if behind {
            self.found(right);
        }
    }

    /// Makes a used span free.
    pub(super) fn give(&mut self, span: Span) {
        debug_assert!(self.is_all_used(span));
        let before = self.run_before(span.start);
        let behind = self.run_from(span.end);
        for_words(&mut self.bits, span, |word, mask| *word |= mask);
        for stretch in span.start / STRETCH..=(span.end - 1) / STRETCH {
            let words = &self.bits[stretch as usize * WORDS..][..WORDS];
            if words.iter().all(|word| *word == u64::MAX) {
                self.empty[(stretch / 64) as usize] |= 1 << (stretch % 64);
            }
        }
        self.free += span.len();
        self.fragments =
            self.fragments + 1 - u64::from(before.is_some()) - u64::from(behind.is_some());
        if let Some(before) = before {
            self.lost(before);
        }
        if let Some(behind) = behind {
            self.lost(behind);
        }
        self.found(Span {
            start: before.map_or(span.start, |run| run.start),
            end: behind.map_or(span.end, |run| run.end),
        });
    }

    /// What the counters and the second level must be, made anew from the bits.
    pub(super) fn recounted(&self) -> Self {
        let mut fresh = Self::all_free(self.len);
        let mut used_from = 0;
        let mut take = |start: u64, end: u64| {
            if start < end {
                fresh.take(Span { start, end });
            }
        };
        for run in self.runs(0) {
            take(used_from, run.start);
            used_from = run.end;
        }
        take(used_from, self.len);
        fresh
    }

    /// Flips the first bit and nothing else.
    #[cfg(feature = "testing")]
    pub(super) fn damage(&mut self) {
        self.bits[0] ^= 1;
    }

    /// The run is there no more.
    #[inline]
    fn lost(&mut self, run: Span) {
        self.orders.remove(run.start / STRETCH, run.len());
    }

    /// The run is there now.
    #[inline]
    fn found(&mut self, run: Span) {
        self.orders.add(run.start / STRETCH, run.len());
    }

    /// Where a run that began before `from` and goes on there ends; else `from`.
    #[inline]
    fn behind_cut_run(&self, from: u64) -> u64 {
        match from > 0 && self.is_free(from - 1) && self.is_free(from) {
            true => self.end_of_run(from),
            false => from,
        }
    }

    /// The maximal free runs that start in `from..end`, where `end` is the end of a stretch.
    fn starting_in(&self, from: u64, end: u64) -> impl Iterator<Item = Span> {
        self.runs(self.behind_cut_run(from))
            .take_while(move |run| run.start < end)
    }

    /// The first free cluster from `from` on.
    #[inline]
    fn next_free(&self, from: u64) -> Option<u64> {
        let mut index = (from / 64) as usize;
        let mut word = self.bits.get(index)? & u64::MAX << (from % 64);
        while word == 0 {
            index += 1;
            word = *self.bits.get(index)?;
        }
        Some(index as u64 * 64 + u64::from(word.trailing_zeros()))
    }

    /// Where the run ends that the free cluster `from` is of.
    #[inline]
    fn end_of_run(&self, from: u64) -> u64 {
        let index = (from / 64) as usize;
        let used = !self.bits[index] & u64::MAX << (from % 64);
        match used {
            0 => self.end_of_run_from_word(index + 1),
            _ => (from & !63) + u64::from(used.trailing_zeros()),
        }
    }

    /// Where the run ends that reaches up to this word.
    fn end_of_run_from_word(&self, mut index: usize) -> u64 {
        loop {
            if index.is_multiple_of(WORDS) {
                index += self.empty_from((index / WORDS) as u64) as usize * WORDS;
            }
            let Some(word) = self.bits.get(index) else {
                return self.len;
            };
            if *word != u64::MAX {
                return index as u64 * 64 + u64::from((!word).trailing_zeros());
            }
            index += 1;
        }
    }

    /// How many stretches from `from` on are empty.
    fn empty_from(&self, from: u64) -> u64 {
        let mut stretch = from;
        while let Some(word) = self.empty.get((stretch / 64) as usize) {
            let here = u64::from((!(word >> (stretch % 64))).trailing_zeros());
            stretch += here;
            if here == 0 || !stretch.is_multiple_of(64) {
                break;
            }
        }
        stretch - from
    }

    /// Where the run starts that the free cluster `at` is of.
    #[inline]
    fn start_of_run(&self, at: u64) -> u64 {
        let index = (at / 64) as usize;
        let used = !self.bits[index] & u64::MAX >> (63 - at % 64);
        match used {
            0 => self.start_of_run_to_word(index),
            _ => (at & !63) + 64 - u64::from(used.leading_zeros()),
        }
    }

    /// Where the run starts that all words from `index` on back to it are of.
    fn start_of_run_to_word(&self, mut index: usize) -> u64 {
        loop {
            if index.is_multiple_of(WORDS) {
                index -= self.empty_before((index / WORDS) as u64) as usize * WORDS;
            }
            let Some(before) = index.checked_sub(1) else {
                return 0;
            };
            let word = self.bits[before];
            if word != u64::MAX {
                return index as u64 * 64 - u64::from((!word).leading_zeros());
            }
            index = before;
        }
    }

    /// How many stretches right before `end` are empty.
    fn empty_before(&self, end: u64) -> u64 {
        let mut stretch = end;
        while stretch > 0 {
            let (word, shift) = (
                self.empty[((stretch - 1) / 64) as usize],
                63 - (stretch - 1) % 64,
            );
            let here = u64::from((!(word << shift)).leading_zeros());
            stretch -= here;
            if here == 0 || !stretch.is_multiple_of(64) {
                break;
            }
        }
        end - stretch
    }
}

/// Changes the words that `span` touches, each with the mask of its bits in there.
#[inline]
fn for_words(bits: &mut [u64], span: Span, change: impl Fn(&mut u64, u64)) {
    let (head, tail) = (
        u64::MAX << (span.start % 64),
        u64::MAX >> (63 - (span.end - 1) % 64),
    );
    match &mut bits[(span.start / 64) as usize..=((span.end - 1) / 64) as usize] {
        [] => {}
        [only] => change(only, head & tail),
        [first, middle @ .., last] => {
            change(first, head);
            middle.iter_mut().for_each(|word| change(word, u64::MAX));
            change(last, tail);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The same, the slow way.
    struct Plain(Vec<bool>);

    impl Plain {
        fn runs(&self) -> Vec<Span> {
            let mut runs: Vec<Span> = Vec::new();
            for (at, _) in self.0.iter().enumerate().filter(|(_, free)| **free) {
                let at = at as u64;
                match runs.last_mut() {
                    Some(last) if last.end == at => last.end += 1,
                    _ => runs.push(Span {
                        start: at,
                        end: at + 1,
                    }),
                }
            }
            runs
        }
    }

    fn agree(runs: &FreeRuns, plain: &Plain, from: u64, want: u64, align: Alignment) {
        let expected = plain.runs();
        let lens = || expected.iter().map(|run| run.len());
        assert_eq!(runs.runs(0).collect::<Vec<_>>(), expected);
        assert_eq!(runs.free(), lens().sum::<u64>());
        assert_eq!(runs.fragments(), expected.len() as u64);
        let orders = lens().fold(0, |orders, len| orders | 1 << len.ilog2());
        assert_eq!(runs.orders(), Orders(orders));
        let longest = expected.iter().rev().max_by_key(|run| run.len());
        assert_eq!(runs.longest_run(), longest.copied());
        assert_eq!(runs, &runs.recounted());
        let behind = expected
            .iter()
            .filter(|run| run.end > from)
            .map(|run| Span {
                start: run.start.max(from),
                ..*run
            });
        let fitting = behind
            .filter_map(|run| {
                let first = |start: &u64| (start + align.base).is_multiple_of(align.multiple);
                let start = (run.start..).find(first)?;
                (start < run.end).then_some(Span { start, ..run })
            })
            .find(|run| run.len() >= want);
        assert_eq!(
            runs.first_fit(from, want, align),
            fitting.map(|run| run.truncated(want)),
            "from {from}, {want} by {align:?}"
        );
        let snug = expected.iter().filter(|run| run.len() >= want);
        assert_eq!(
            runs.snug_fit(want),
            snug.min_by_key(|run| run.len()).copied()
        );
        let at = expected
            .iter()
            .find(|run| run.start <= from && from < run.end);
        assert_eq!(
            runs.run_from(from),
            at.map(|run| Span {
                start: from,
                ..*run
            })
        );
        let before = expected
            .iter()
            .find(|run| run.start < from && from <= run.end);
        assert_eq!(
            runs.run_before(from),
            before.map(|run| Span { end: from, ..*run })
        );
        // Long runs are passed over a stretch at a time.
        let stretch = from / STRETCH;
        let empty = |part: &[bool]| part.len() as u64 == STRETCH && part.iter().all(|free| *free);
        let stretches = plain.0.chunks(STRETCH as usize);
        let ahead = stretches.clone().skip(stretch as usize);
        let empty_from = ahead.take_while(|part| empty(part)).count();
        assert_eq!(runs.empty_from(stretch), empty_from as u64);
        let back = stretches.take(stretch as usize).rev();
        let empty_before = back.take_while(|part| empty(part)).count();
        assert_eq!(runs.empty_before(stretch), empty_before as u64);
    }

    /// Places in `len` clusters, of which many lie at the border of a word, a stretch or 64 stretches.
    fn place(unit: u64, number: u64, len: u64) -> u64 {
        let unit = [1, 64, STRETCH, 64 * STRETCH][unit as usize];
        (number % (len / unit + 1) * unit + number % 3)
            .saturating_sub(1)
            .min(len - 1)
    }

    #[test]
    fn the_first_place_right_behind_a_stretch_is_not_missed() {
        let mut runs = FreeRuns::all_free(4 * STRETCH);
        for obstacle in [STRETCH - 1, 2 * STRETCH - 1, 3 * STRETCH - 1] {
            let taken = Span {
                start: obstacle,
                end: obstacle + 1,
            };
            runs.take(taken);
            let first = runs.first_fit(obstacle - 50, 100, Alignment::ANY);
            assert_eq!(first.map(|run| run.start), Some(obstacle + 1));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_takes_and_gives_leave_what_a_plain_array_would_hold(
            len in prop::sample::select(vec![1_u64, 63, 64, 65, 511, 512, 513, 1500, 40_000]),
            steps in prop::collection::vec([(0..4_u64, any::<u64>()), (0..4_u64, any::<u64>())], 1..60),
        ) {
            let mut runs = FreeRuns::all_free(len);
            let mut plain = Plain(vec![true; len as usize]);
            for step in steps {
                let [one, other] = step.map(|(unit, number)| place(unit, number, len));
                let (start, end) = (one.min(other), one.max(other) + 1);
                let free = plain.0[start as usize];
                let end = (start..end).find(|at| plain.0[*at as usize] != free).unwrap_or(end);
                let span = Span { start, end };
                match free {
                    true => runs.take(span),
                    false => runs.give(span),
                }
                plain.0[start as usize..end as usize].fill(!free);
                let [(_, from), (_, want)] = step;
                let align = Alignment { multiple: 1 << (from % 7), base: from / 7 % 100 };
                agree(&runs, &plain, other, 1 + want % 700, align);
            }
        }
    }
}
