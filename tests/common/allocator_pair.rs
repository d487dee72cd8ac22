//! The allocator beside a plain model of its clusters.

use std::ops::Range;

use arbitrary::{Arbitrary, Unstructured};
use extent_map::Error;
use extent_map::allocator::{AllocRequest, Allocator, Change, Reservation};
use extent_map::units::{DiskBlock, DiskRun};

use super::space::{geometry, run};

/// One call, or a few that belong together.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Reserve(u64),
    Split {
        which: usize,
        clusters: u64,
    },
    Merge {
        into: usize,
        from: usize,
    },
    GiveBack(usize),
    Allocate {
        which: usize,
        clusters: u64,
        goal: Option<u64>,
        outcome: Outcome,
    },
    Free {
        start: u64,
        len: u64,
        promise: bool,
    },
    Claim {
        start: u64,
        len: u64,
    },
    FreeAfter {
        start: u64,
        len: u64,
        change: u64,
    },
    Durable(u64),
    Discard {
        start: u64,
        len: u64,
        minimum: u64,
    },
}

/// What becomes of an allocation.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Outcome {
    Commit,
    Cancel,
    Drop,
}

const CLUSTERS: u64 = 150;
const RATIO: u64 = 4;

impl Step {
    /// How many bytes a step is drawn from.
    pub(crate) const ENCODED_LEN: usize = 6;
}

impl<'a> Arbitrary<'a> for Step {
    fn arbitrary(source: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        let [kind, which, clusters, low, high, choice]: [u8; Self::ENCODED_LEN] =
            source.arbitrary()?;
        let (which, other) = (usize::from(which % 8), usize::from(choice % 8));
        let clusters = u64::from(clusters);
        let place = u64::from(u16::from_le_bytes([low, high]));
        let (cluster, block) = (place % CLUSTERS, place % (CLUSTERS * RATIO + 8));
        Ok(match kind % 22 {
            0..3 => Self::Reserve(clusters % 60),
            3..9 => Self::Allocate {
                which,
                clusters: clusters % 40,
                goal: (choice >= 128).then_some(block),
                outcome: match choice % 6 {
                    0..4 => Outcome::Commit,
                    4 => Outcome::Cancel,
                    _ => Outcome::Drop,
                },
            },
            // Mostly whole clusters, or hardly anything would ever be freed.
            9..13 => Self::Free {
                start: cluster * RATIO,
                len: (1 + clusters % 11) * RATIO,
                promise: choice % 2 == 1,
            },
            13 => Self::Free {
                start: block,
                len: clusters % 40,
                promise: choice % 2 == 1,
            },
            14 => Self::Claim {
                start: cluster * RATIO,
                len: (1 + clusters % 19) * RATIO,
            },
            15 => Self::Split {
                which,
                clusters: clusters % 30,
            },
            16 => Self::Merge {
                into: which,
                from: other,
            },
            17 => Self::GiveBack(which),
            18 | 19 => Self::FreeAfter {
                start: cluster * RATIO,
                len: (1 + clusters % 11) * RATIO,
                change: u64::from(choice % 8),
            },
            20 => Self::Durable(u64::from(choice % 8)),
            _ => Self::Discard {
                start: block,
                len: clusters * RATIO,
                minimum: u64::from(choice % 8),
            },
        })
    }
}

/// One flag for each cluster, the change that frees it once it is durable, and the size of each reservation.
#[derive(Debug)]
struct Model {
    per_group: u64,
    used: Vec<bool>,
    held_back: Vec<Option<u64>>,
    reserved: Vec<u64>,
}

impl Model {
    fn available(&self) -> u64 {
        let clear = self.used.iter().filter(|used| !**used).count() as u64;
        clear - self.reserved.iter().sum::<u64>()
    }

    /// The longest free run inside one group.
    fn longest(&self) -> u64 {
        let groups = self.used.chunks(self.per_group as usize);
        let runs = groups.flat_map(|group| group.split(|used| *used).map(<[bool]>::len));
        runs.max().unwrap_or(0) as u64
    }

    /// How many clusters are free exactly from `goal` on, inside its group and up to `want`.
    fn free_at(&self, goal: u64, want: u64) -> u64 {
        let group_end = (goal / self.per_group + 1) * self.per_group;
        let end = group_end.min(goal + want).min(CLUSTERS);
        (goal..end)
            .take_while(|cluster| !self.used[*cluster as usize])
            .count() as u64
    }

    /// The clusters of a run, if it is made of whole ones that are not the volume's own, and all are
    /// used or all are not.
    fn clusters(&self, run: DiskRun, used: bool) -> Option<Range<usize>> {
        let whole = run.start.0.is_multiple_of(RATIO) && run.len.is_multiple_of(RATIO);
        let clusters = (run.start.0 / RATIO) as usize..(run.end().0 / RATIO) as usize;
        let inside = clusters.start >= 1 && clusters.end <= self.used.len() && !clusters.is_empty();
        let fits = whole
            && inside
            && self.used[clusters.clone()].iter().all(|bit| *bit == used)
            && self.held_back[clusters.clone()].iter().all(Option::is_none);
        fits.then_some(clusters)
    }

    fn allocated_runs(&self) -> Vec<DiskRun> {
        let mut runs: Vec<DiskRun> = Vec::new();
        for cluster in (1..CLUSTERS).filter(|cluster| self.used[*cluster as usize]) {
            match runs.last_mut() {
                Some(last) if last.end().0 == cluster * RATIO => last.len += RATIO,
                _ => runs.push(run(cluster * RATIO, RATIO)),
            }
        }
        runs
    }
}

/// The allocator, the model, and the reservations: `held[i]` has `model.reserved[i]` clusters.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) allocator: Allocator,
    model: Model,
    held: Vec<Reservation>,
}

impl Pair {
    pub(crate) fn new(per_group: u64) -> Self {
        let volume = geometry(1024, RATIO);
        let blocks = CLUSTERS * RATIO + 3;
        let mut used = vec![false; CLUSTERS as usize];
        used[0] = true;
        Self {
            allocator: Allocator::new(blocks, volume, per_group, DiskBlock(1)).unwrap(),
            model: Model {
                per_group,
                used,
                held_back: vec![None; CLUSTERS as usize],
                reserved: Vec::new(),
            },
            held: Vec::new(),
        }
    }

    fn hold(&mut self, reservation: Reservation, clusters: u64) {
        self.held.push(reservation);
        self.model.reserved.push(clusters);
    }

    pub(crate) fn step(&mut self, step: Step) {
        let exists = |which: usize| which < self.held.len();
        match step {
            Step::Reserve(clusters) => match self.allocator.ledger().reserve_owned(clusters) {
                Ok(reservation) => {
                    assert!(clusters <= self.model.available());
                    self.hold(reservation, clusters);
                }
                Err(error) => {
                    assert_eq!(error, Error::NoSpace);
                    assert!(clusters > self.model.available());
                }
            },
            Step::Split { which, clusters } if exists(which) => {
                match self.held[which].split(clusters) {
                    Ok(part) => {
                        self.model.reserved[which] -= clusters;
                        self.hold(part, clusters);
                    }
                    Err(error) => {
                        assert!(matches!(error, Error::Corrupt(_)));
                        assert!(clusters > self.model.reserved[which]);
                    }
                }
            }
            Step::Merge { into, from } if exists(into) && exists(from) && into != from => {
                let other = self.held[from].split(self.model.reserved[from]).unwrap();
                self.held[into].merge(other).unwrap();
                self.model.reserved[into] += std::mem::take(&mut self.model.reserved[from]);
            }
            Step::GiveBack(which) if exists(which) => {
                self.model.reserved.swap_remove(which);
                self.held.swap_remove(which).give_back();
            }
            Step::Allocate {
                which,
                clusters,
                goal,
                outcome,
            } if exists(which) => {
                self.allocate(which, clusters, goal, outcome);
            }
            Step::Free {
                start,
                len,
                promise,
            } => self.free(run(start, len), promise),
            Step::Claim { start, len } => self.claim(run(start, len)),
            Step::FreeAfter { start, len, change } => self.free_after(run(start, len), change),
            Step::Durable(change) => self.durable(change),
            Step::Discard {
                start,
                len,
                minimum,
            } => self.discard(run(start, len), minimum),
            // It names a reservation that does not exist.
            _ => {}
        }
    }

    fn allocate(&mut self, which: usize, clusters: u64, goal: Option<u64>, outcome: Outcome) {
        let request = match goal {
            Some(block) => AllocRequest::near(DiskBlock(block), clusters),
            None => AllocRequest::anywhere(clusters),
        };
        let want = clusters.min(self.model.reserved[which]);
        let allocation = match self.allocator.allocate(request, &mut self.held[which]) {
            Ok(allocation) => allocation,
            Err(error) => {
                assert!(want == 0, "reserved space is there: {error}");
                return;
            }
        };
        let (found, len) = (allocation.run(), allocation.clusters());
        let clusters = self
            .model
            .clusters(found, false)
            .expect("free, whole clusters");
        assert_eq!(clusters.len() as u64, len);
        let group = |cluster: usize| cluster as u64 / self.model.per_group;
        assert_eq!(
            group(clusters.start),
            group(clusters.end - 1),
            "in one group"
        );
        let goal = goal
            .map(|block| block / RATIO)
            .filter(|cluster| *cluster < CLUSTERS);
        match goal.map(|goal| (goal, self.model.free_at(goal, want))) {
            Some((goal, free)) if free > 0 => {
                assert_eq!((clusters.start as u64, len), (goal, free))
            }
            _ => assert_eq!(len, want.min(self.model.longest())),
        }
        match outcome {
            Outcome::Commit => {
                assert_eq!(allocation.commit(), found);
                self.model.reserved[which] -= len;
                self.model.used[clusters].fill(true);
            }
            Outcome::Cancel => self.held[which].merge(allocation.cancel()).unwrap(),
            Outcome::Drop => {
                drop(allocation);
                self.model.reserved[which] -= len;
            }
        }
    }

    fn free(&mut self, run: DiskRun, promise: bool) {
        let freeable = self.model.clusters(run, true);
        if promise {
            let freed = self.allocator.free_into_reservation(run).map(|freed| {
                let mut kept = self.allocator.ledger().reserve_owned(0).unwrap();
                kept.merge(freed).unwrap();
                kept
            });
            assert_eq!(freed.is_ok(), freeable.is_some(), "{run:?}: {freed:?}");
            if let Ok(reservation) = freed {
                self.hold(reservation, run.len / RATIO);
            }
        } else {
            assert_eq!(
                self.allocator.free(run).is_ok(),
                freeable.is_some(),
                "{run:?}"
            );
        }
        if let Some(clusters) = freeable {
            self.model.used[clusters].fill(false);
        }
    }

    fn free_after(&mut self, run: DiskRun, change: u64) {
        let freeable = self.model.clusters(run, true);
        let freed = self.allocator.free_after(run, Change(change));
        assert_eq!(freed.is_ok(), freeable.is_some(), "{run:?}: {freed:?}");
        if let Some(clusters) = freeable {
            self.model.held_back[clusters].fill(Some(change));
        }
    }

    fn durable(&mut self, change: u64) {
        let mut freed: Vec<u64> = Vec::new();
        for run in self.allocator.durable(Change(change)) {
            assert!(run.start.0.is_multiple_of(RATIO) && run.len.is_multiple_of(RATIO));
            freed.extend(run.start.0 / RATIO..run.end().0 / RATIO);
        }
        freed.sort_unstable();
        let mut expected = Vec::new();
        for (cluster, held_back) in self.model.held_back.iter_mut().enumerate() {
            if held_back.take_if(|of| *of <= change).is_some() {
                self.model.used[cluster] = false;
                expected.push(cluster as u64);
            }
        }
        assert_eq!(freed, expected);
    }

    fn discard(&self, range: DiskRun, minimum: u64) {
        let mut told = Vec::new();
        let discarded = self.allocator.discard(range, minimum, |run| {
            told.push(run);
            // Nobody can have it now, but it is free.
            assert!(!self.allocator.is_allocated(run.start));
            Ok(())
        });
        let clusters = range.start.0.div_ceil(RATIO).max(1)..(range.end().0 / RATIO).min(CLUSTERS);
        let mut expected: Vec<DiskRun> = Vec::new();
        for cluster in clusters.filter(|cluster| !self.model.used[*cluster as usize]) {
            let starts_group = cluster.is_multiple_of(self.model.per_group);
            match expected.last_mut() {
                Some(last) if last.end().0 == cluster * RATIO && !starts_group => last.len += RATIO,
                _ => expected.push(run(cluster * RATIO, RATIO)),
            }
        }
        expected.retain(|run| run.len / RATIO >= minimum);
        assert_eq!(told, expected, "{range:?}, at least {minimum}");
        assert_eq!(discarded, Ok(told.iter().map(|run| run.len).sum()));
    }

    fn claim(&mut self, run: DiskRun) {
        let claimed = self.allocator.claim(run);
        match self.model.clusters(run, false) {
            None => assert!(
                matches!(claimed, Err(Error::Corrupt(_))),
                "{run:?}: {claimed:?}"
            ),
            Some(clusters) if clusters.len() as u64 > self.model.available() => {
                assert_eq!(claimed, Err(Error::NoSpace));
            }
            Some(clusters) => {
                assert_eq!(claimed, Ok(()));
                self.model.used[clusters].fill(true);
            }
        }
    }

    /// Compares all there is to see.
    pub(crate) fn agree(&self) {
        let space = self.allocator.space();
        assert_eq!(space.total(), CLUSTERS - 1);
        assert_eq!(space.available(), self.model.available());
        assert_eq!(space.promised(), self.model.reserved.iter().sum::<u64>());
        assert_eq!(self.allocator.allocated_runs(), self.model.allocated_runs());
        assert_eq!(self.allocator.check(), Ok(()));
        for (cluster, used) in self.model.used.iter().enumerate() {
            let block = DiskBlock(cluster as u64 * RATIO + 1);
            assert_eq!(self.allocator.is_allocated(block), *used, "{block:?}");
        }
        let held_back = self.model.held_back.iter().flatten().count() as u64;
        assert_eq!(self.allocator.held_back(), held_back);
        let held = self.held.iter().map(Reservation::clusters);
        assert!(held.eq(self.model.reserved.iter().copied()));
    }
}
