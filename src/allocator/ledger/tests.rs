//! The ledger against plain numbers, with every call in a share that is drawn, so that its clusters are spread.

use proptest::prelude::*;

use super::*;

/// One call, in one share.
#[derive(Clone, Debug)]
enum Call {
    Reserve(u64, Tier),
    GiveBack(usize),
    Spend(usize),
    Release(u64),
    PromiseAgain(u64),
    Withdraw(u64),
}

fn call() -> impl Strategy<Value = Call> {
    let tier = prop::sample::select(vec![Tier::Normal, Tier::Normal, Tier::Root, Tier::Metadata]);
    let clusters = prop_oneof![4 => 0..4_u64, 1 => 0..120_u64];
    prop_oneof![
        6 => (clusters.clone(), tier).prop_map(|(clusters, tier)| Call::Reserve(clusters, tier)),
        3 => any::<usize>().prop_map(Call::GiveBack),
        3 => any::<usize>().prop_map(Call::Spend),
        3 => clusters.clone().prop_map(Call::Release),
        2 => clusters.clone().prop_map(Call::PromiseAgain),
        1 => clusters.prop_map(Call::Withdraw),
    ]
}

/// What a ledger is made of.
fn options() -> impl Strategy<Value = LedgerOptions> {
    let shares = prop::sample::select(vec![0, 1, 2, 4]);
    let reserve = || prop_oneof![2 => Just(0_u64), 1 => 0..9_u64];
    let exact_below = prop_oneof![2 => Just(0_u64), 2 => 1..9_u64, 1 => Just(64)];
    let total = prop_oneof![0..12_u64, 0..300_u64, 0..3000_u64];
    (total, shares, reserve(), reserve(), exact_below).prop_map(
        |(total, shares, root, metadata, exact_below)| {
            LedgerOptions::new(total)
                .shares(shares)
                .root_reserve(root)
                .metadata_reserve(metadata)
                .exact_below(exact_below)
        },
    )
}

/// The account without shares, and the promises by themselves.
struct Plain {
    space: Space,
    held: Vec<u64>,
}

impl Plain {
    /// `clusters` become available; what is missing has them first.
    fn gain(&mut self, clusters: u64) {
        self.space.available += clusters;
        let made_up = self.space.deficit.min(self.space.available);
        self.space.deficit -= made_up;
        self.space.available -= made_up;
    }

    fn hold(&mut self, clusters: u64) {
        self.space.promised += clusters;
        self.held.push(clusters);
    }

    /// Does the same as `call` did; what it must return.
    fn reserves(&mut self, clusters: u64, tier: Tier) -> bool {
        let fits = clusters == 0 || clusters <= self.space.available_to(tier);
        if fits {
            self.space.available -= clusters;
            self.hold(clusters);
        }
        fits
    }
}

/// The ledger and the plain account: `reservations[i]` has `plain.held[i]` clusters.
struct Pair<'l> {
    ledger: &'l Ledger,
    reservations: Vec<Reservation<&'l Ledger>>,
    plain: Plain,
}

impl<'l> Pair<'l> {
    fn new(ledger: &'l Ledger, options: &LedgerOptions) -> Self {
        let space = Space {
            total: options.total,
            available: options.total,
            promised: 0,
            deficit: 0,
            reserves: options.reserves,
        };
        Self {
            ledger,
            reservations: Vec::new(),
            plain: Plain {
                space,
                held: Vec::new(),
            },
        }
    }

    /// Takes a reservation out of both.
    fn take(&mut self, which: usize) -> Option<(Reservation<&'l Ledger>, u64)> {
        let which = which.checked_rem(self.reservations.len())?;
        let clusters = self.plain.held.swap_remove(which);
        self.plain.space.promised -= clusters;
        Some((self.reservations.swap_remove(which), clusters))
    }

    fn step(&mut self, call: &Call) {
        let used = self.plain.space.used();
        match *call {
            Call::Reserve(clusters, tier) => {
                let promised = self.ledger.reserve_as(clusters, tier);
                assert_eq!(promised.is_ok(), self.plain.reserves(clusters, tier));
                self.reservations.extend(promised.ok());
            }
            Call::GiveBack(which) => {
                if let Some((reservation, clusters)) = self.take(which) {
                    reservation.give_back();
                    self.plain.gain(clusters);
                }
            }
            // What was withdrawn has no bits: a promise that is not backed cannot be spent.
            Call::Spend(which) if self.plain.space.deficit == 0 => {
                if let Some((mut reservation, _)) = self.take(which) {
                    let clusters = reservation.clusters();
                    reservation.spend(clusters).unwrap();
                }
            }
            Call::Spend(_) => {}
            Call::Release(clusters) => {
                self.ledger.release(clusters.min(used));
                self.plain.gain(clusters.min(used));
            }
            Call::PromiseAgain(clusters) => {
                let clusters = clusters.min(used);
                self.reservations
                    .push(self.ledger.release_into_reservation(clusters));
                self.plain.hold(clusters);
            }
            Call::Withdraw(clusters) => {
                let clusters = clusters.min(self.plain.space.free());
                self.ledger.withdraw(clusters);
                self.plain.space.total -= clusters;
                self.plain.space.deficit += clusters;
                self.plain.gain(0);
            }
        }
    }

    fn agree(&self) {
        let space = self.ledger.snapshot();
        assert_eq!(space, self.plain.space);
        let worst = self.ledger.at_worst();
        assert_eq!(worst.total(), space.total());
        assert!(worst.available() <= space.available());
        assert!(worst.promised() >= space.promised());
        let pool = self.ledger.pool.lock();
        if !pool.open {
            assert_eq!(
                (worst.available(), worst.promised()),
                (space.available(), space.promised())
            );
            assert!(
                self.ledger
                    .shares
                    .iter()
                    .all(|share| !share.change(Change::NONE, &self.ledger.bounds))
            );
        }
        for share in &self.ledger.shares {
            let limit = self.ledger.bounds.limit() as i64;
            let content = share.content();
            assert!((0..limit).contains(&content.available));
            assert!((-limit..limit).contains(&content.promised));
        }
    }
}

/// The same calls on both, each in its share.
fn compare(options: &LedgerOptions, calls: &[(usize, Call)]) -> bool {
    let ledger = Ledger::with_options(options).unwrap();
    let mut pair = Pair::new(&ledger, options);
    let mut spread = false;
    for (share, call) in calls {
        Ledger::on_share(*share, || pair.step(call));
        pair.agree();
        let held = |share: &CachePadded<Share>| share.content().available > 0;
        spread |= ledger.shares.iter().filter(|share| held(share)).count() > 1;
    }
    spread
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1024) })]

    #[test]
    fn every_call_does_what_plain_numbers_say(
        options in options(),
        calls in prop::collection::vec((0..4_usize, call()), 1..100),
    ) {
        compare(&options, &calls);
    }
}

#[test]
fn the_last_cluster_is_had_out_of_any_share() {
    let options = LedgerOptions::new(12).shares(4).exact_below(0);
    let mut calls: Vec<_> = (0..4).map(|share| (share, Call::Release(0))).collect();
    assert!(compare(&options, &calls), "no cluster is in a share");
    calls.extend((0..13).map(|_| (0, Call::Reserve(1, Tier::Normal))));
    compare(&options, &calls);
}

#[test]
fn each_tier_leaves_what_is_kept_for_higher_ones() {
    let options = LedgerOptions::new(10).root_reserve(3).metadata_reserve(2);
    let ledger = Ledger::with_options(&options.shares(2).exact_below(0)).unwrap();
    let full = |tier| ledger.reserve_as(1, tier).unwrap_err() == Error::NoSpace;
    let space = ledger.snapshot();
    let tiers = [Tier::Normal, Tier::Root, Tier::Metadata];
    assert_eq!(tiers.map(|tier| space.available_to(tier)), [5, 8, 10]);
    assert_eq!(ledger.reserve(6).unwrap_err(), Error::NoSpace);
    let _data = ledger.reserve(5).unwrap();
    assert!(full(Tier::Normal));
    let _root = ledger.reserve_as(3, Tier::Root).unwrap();
    assert!(full(Tier::Root));
    let metadata = ledger.reserve_as(2, Tier::Metadata).unwrap();
    assert!(full(Tier::Metadata));
    metadata.give_back();
    assert!(full(Tier::Root), "the highest reserve is filled first");
}

#[test]
fn withdrawn_promises_are_made_up_for_by_what_comes_next() {
    let ledger = Ledger::with_options(&LedgerOptions::new(10).shares(2).exact_below(0)).unwrap();
    let (first, second) = (ledger.reserve(3).unwrap(), ledger.reserve(4).unwrap());
    ledger.withdraw(5);
    let space = ledger.snapshot();
    assert_eq!((space.total(), space.available()), (5, 0));
    assert_eq!((space.promised(), space.free(), space.used()), (7, 5, 0));
    first.give_back();
    assert_eq!(ledger.snapshot().available(), 1);
    second.give_back();
    let space = ledger.snapshot();
    assert_eq!(
        (space.available(), space.promised(), space.free()),
        (5, 0, 5)
    );
}

#[test]
fn shares_are_a_power_of_two_up_to_64_or_none() {
    for shares in [0, 1, 2, 64] {
        let ledger = Ledger::with_options(&LedgerOptions::new(1 << 20).shares(shares)).unwrap();
        assert_eq!(ledger.shares.len(), shares.max(1));
        assert_eq!(ledger.pool.lock().open, shares > 0);
    }
    for shares in [3, 128, usize::MAX] {
        let refused = Ledger::with_options(&LedgerOptions::new(1 << 20).shares(shares));
        assert!(matches!(refused, Err(Error::InvalidInput(_))), "{shares}");
    }
}

#[test]
fn shares_close_while_space_is_scarce_and_open_at_twice_as_much() {
    let ledger = Ledger::with_options(&LedgerOptions::new(100).shares(2).exact_below(20)).unwrap();
    let open = || ledger.pool.lock().open;
    let mut held = ledger.reserve(75).unwrap();
    assert!(open());
    held.merge(ledger.reserve(10).unwrap()).unwrap();
    assert!(!open());
    held.shrink(24).unwrap();
    assert!(!open(), "39 are available");
    held.shrink(1).unwrap();
    assert!(open());
}

#[test]
fn a_promise_that_ends_elsewhere_keeps_no_share_off_for_long() {
    let ledger = Ledger::with_options(&LedgerOptions::new(1 << 20).shares(2)).unwrap();
    for _ in 0..100_000 {
        let mut promise = Ledger::on_share(0, || ledger.reserve(16).unwrap());
        let clusters = promise.clusters();
        Ledger::on_share(1, || promise.spend(clusters)).unwrap();
        Ledger::on_share(0, || ledger.release(16));
    }
    let space = ledger.snapshot();
    assert_eq!((space.available(), space.promised()), (1 << 20, 0));
    assert!(ledger.at_worst().promised() <= 2 * ledger.bounds.limit());
}

#[test]
fn a_step_that_half_a_word_cannot_hold_is_done_in_the_pool() {
    let total = u64::from(u32::MAX);
    let options = LedgerOptions::new(total).shares(1).exact_below(0);
    let ledger = Ledger::with_options(&options).unwrap();
    assert_eq!(ledger.reserve(u64::MAX).unwrap_err(), Error::NoSpace);
    ledger.reserve(total).unwrap().spend(total).unwrap();
    let space = ledger.snapshot();
    assert_eq!((space.available(), space.promised()), (0, 0));
    assert_eq!(ledger.release_into_reservation(total).clusters(), total);
    assert_eq!(ledger.snapshot().available(), total);
}

#[test]
fn who_closes_a_ledger_hears_of_a_leaked_promise() {
    let ledger = Ledger::new(1000).unwrap();
    drop(ledger.reserve(3));
    assert_eq!(ledger.close(), Ok(()));
    let ledger = Ledger::new(1000).unwrap();
    std::mem::forget(ledger.reserve(3));
    assert_eq!(ledger.close(), Err(Error::PromiseLeak { clusters: 3 }));
}

#[cfg(feature = "tracing")]
#[test]
fn a_dropped_ledger_reports_a_leaked_promise() {
    use tracing::span;

    /// Counts events.
    struct Counting(Arc<AtomicU64>);

    impl tracing::Subscriber for Counting {
        fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
            true
        }
        fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
            span::Id::from_u64(1)
        }
        fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
        fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
        fn event(&self, _: &tracing::Event<'_>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
        fn enter(&self, _: &span::Id) {}
        fn exit(&self, _: &span::Id) {}
    }

    let events = Arc::new(AtomicU64::new(0));
    let subscriber = Counting(Arc::clone(&events));
    tracing::subscriber::with_default(subscriber, || {
        let ledger = Ledger::new(10).unwrap();
        drop(ledger.reserve(1));
        drop(ledger);
        assert_eq!(events.load(Ordering::Relaxed), 0);
        let ledger = Ledger::new(10).unwrap();
        std::mem::forget(ledger.reserve(1));
        drop(ledger);
    });
    assert_eq!(events.load(Ordering::Relaxed), 1);
}

#[test]
fn a_step_in_an_open_share_takes_no_lock() {
    let ledger = Ledger::with_options(&LedgerOptions::new(10_000).shares(1)).unwrap();
    ledger.reserve(1).unwrap().give_back();
    let _pool = ledger.pool.lock();
    for _ in 0..100 {
        let mut promise = ledger.reserve(2).unwrap();
        promise.spend(1).unwrap();
        promise.give_back();
        ledger.release_into_reservation(1).give_back();
    }
}

#[test]
fn shares_close_by_default_with_32_clusters_left_for_each() {
    let ledger = Ledger::with_options(&LedgerOptions::new(10_000).shares(4)).unwrap();
    let open = || ledger.pool.lock().open;
    let mut held = ledger.reserve(10_000 - 128).unwrap();
    assert!(open());
    held.merge(ledger.reserve(1).unwrap()).unwrap();
    assert!(!open());
}

#[test]
fn shares_hold_no_more_than_a_sixteenth_of_a_volume_that_is_not_tiny() {
    for shares in [1, 4, 64] {
        for total in [1000, 1 << 15, 1 << 20, (1 << 32) - 1] {
            let limit = LedgerOptions::new(total).share_bounds(shares).limit();
            let all = limit * shares as u64;
            assert!(
                limit == 4 || 16 * all <= total,
                "{all} of {total} in {shares}"
            );
        }
    }
}
