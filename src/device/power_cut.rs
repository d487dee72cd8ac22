//! What a device may hold after a power cut.

use std::collections::HashMap;

use super::chance::Chance;
use super::recording::Event;
use super::{BlockDevice, ImageDevice, Operation, OperationKind, Recorded, Recording, SECTOR};

/// A power cut at one moment of a [`Recording`], and all that the device may hold after it.
///
/// A sector is never torn; of several, any may have arrived. A sector holds what one of the operations on it wrote that
/// had begun, or what it held at the start, but nothing older than the last durable write: that is one which
/// ended well before a flush began that has ended well, or with FUA. A write is older when it had ended before
/// the other began. A discarded sector may hold zeros or what it would hold without the discard, until something newer is
/// durable; so may one whose write failed.
#[derive(Clone, Debug)]
pub struct PowerCut<'a> {
    recording: &'a Recording,
    moment: usize,
    /// In each sector something that may be there if nothing undecided arrived.
    settled: ImageDevice,
    /// The operation that wrote a settled sector, where it was one of the recording.
    writers: HashMap<u64, usize>,
    undecided: Vec<Undecided>,
}

/// Which of what was not durable arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survivors {
    /// Nothing.
    Nothing,
    /// Everything, in the order in which it began.
    Everything,
    /// What this seed says: a beginning, all but one, one alone, all with one torn, whole operations, or sectors.
    Random(u64),
}

/// An operation that may have arrived or not.
#[derive(Clone, Debug)]
struct Undecided {
    number: usize,
    /// The first sector.
    first: u64,
    /// Of each sector, whether what it wrote there may still be seen.
    visible: Vec<bool>,
    /// What it wrote is durable; another one that ran beside it may hide it.
    durable: bool,
}

impl Undecided {
    fn hide(&mut self, sector: u64) {
        let at = sector.checked_sub(self.first).map(|at| at as usize);
        if let Some(visible) = at.and_then(|at| self.visible.get_mut(at)) {
            *visible = false;
        }
    }

    /// Calls `put` with each run of sectors that may be seen and that `survives` (first, behind the last).
    fn runs(&self, mut survives: impl FnMut(u64) -> bool, mut put: impl FnMut(u64, u64)) {
        let mut run = None;
        for (sector, visible) in (self.first..).zip(&self.visible) {
            match (*visible && survives(sector), run) {
                (true, None) => run = Some(sector),
                (false, Some(start)) => {
                    put(start, sector);
                    run = None;
                }
                _ => {}
            }
        }
        if let Some(start) = run {
            put(start, self.first + self.visible.len() as u64);
        }
    }
}

/// Makes sectors of `target` what `recorded` makes of them.
fn apply(recorded: &Recorded, first: u64, end: u64, target: &ImageDevice) {
    let (offset, len) = (first * SECTOR, (end - first) * SECTOR);
    let done = match recorded.operation {
        Operation {
            kind: OperationKind::Write,
            offset: start,
            ..
        } => {
            let from = (offset - start) as usize;
            target.write_at(offset, &recorded.data[from..from + len as usize])
        }
        _ => target.write_zeroes(offset, len),
    };
    done.expect("the recording has checked the range");
}

impl<'a> PowerCut<'a> {
    pub(super) fn new(recording: &'a Recording) -> Self {
        Self {
            recording,
            moment: 0,
            settled: recording.start().clone(),
            writers: HashMap::new(),
            undecided: Vec::new(),
        }
    }

    /// The moment of the cut.
    pub fn moment(&self) -> usize {
        self.moment
    }

    /// Moves on to the next moment at which the device may hold something else than before, and from there to
    /// the last one before that changes again: all that was promised meanwhile must be in the images. Returns false
    /// when there is none.
    pub fn advance(&mut self) -> bool {
        let mut changed = false;
        while let Some(event) = self.recording.event(self.moment) {
            let changes = self.changes(event);
            if changes && changed {
                break;
            }
            changed |= changes;
            self.pass(event);
        }
        changed
    }

    /// Moves on to `moment`, or to the last one. One that has passed changes nothing.
    pub fn advance_to(&mut self, moment: usize) {
        while self.moment < moment
            && let Some(event) = self.recording.event(self.moment)
        {
            self.pass(event);
        }
    }

    /// Whether other images are possible after `event` than before.
    fn changes(&self, event: Event) -> bool {
        match event {
            Event::Began(number) => self.recorded(number).changes(),
            Event::Ended(number) => self.newly_durable(number).next().is_some(),
        }
    }

    /// Which undecided operations are durable once operation `number` has ended, by their place in the list.
    fn newly_durable(&self, number: usize) -> impl Iterator<Item = usize> {
        let ended = self.recorded(number);
        let ok = ended.ended.is_some_and(|end| end.ok);
        let flushes = ok && ended.operation.kind == OperationKind::Flush;
        let durable = move |undecided: &Undecided| {
            let by_flush = flushes && self.recorded(undecided.number).can_be_flushed(ended.began);
            let by_itself =
                undecided.number == number && ended.fua && ended.can_be_flushed(usize::MAX);
            !undecided.durable && (by_flush || by_itself)
        };
        let places = self.undecided.iter().enumerate();
        places.filter_map(move |(place, undecided)| durable(undecided).then_some(place))
    }

    fn pass(&mut self, event: Event) {
        match event {
            Event::Began(number) => {
                let recorded = self.recorded(number);
                if recorded.changes() {
                    let sectors = recorded.sectors();
                    self.undecided.push(Undecided {
                        number,
                        first: sectors.start,
                        visible: vec![true; (sectors.end - sectors.start) as usize],
                        durable: false,
                    });
                }
            }
            Event::Ended(number) => {
                let places: Vec<_> = self.newly_durable(number).collect();
                for &place in &places {
                    self.settle(place);
                }
                if !places.is_empty() {
                    self.undecided.retain(|one| one.visible.contains(&true));
                }
            }
        }
        self.moment += 1;
    }

    /// The undecided operation at `place` is durable: nothing older will be seen in its sectors.
    fn settle(&mut self, place: usize) {
        let number = self.undecided[place].number;
        let recorded = self.recorded(number);
        self.undecided[place].durable = true;
        for older in &mut self.undecided {
            let sectors = recorded.sectors();
            if self.recording.operations()[older.number].precedes(recorded)
                && older.first < sectors.end
            {
                sectors.for_each(|sector| older.hide(sector));
            }
        }
        // Where another durable write ran beside it, either may be seen: that one stays settled, this one undecided.
        let mut settled = Vec::new();
        let apart = |sector: &u64| match self.writers.get(sector) {
            Some(&writer) => self.recorded(writer).precedes(recorded),
            None => true,
        };
        let mine = &self.undecided[place];
        mine.runs(
            |sector| apart(&sector),
            |first, end| settled.push(first..end),
        );
        for run in settled {
            apply(recorded, run.start, run.end, &self.settled);
            for sector in run {
                self.writers.insert(sector, number);
                self.undecided[place].hide(sector);
            }
        }
    }

    fn recorded(&self, number: usize) -> &'a Recorded {
        &self.recording.operations()[number]
    }

    /// The device after the cut. Each call makes a device of its own.
    pub fn image(&self, survivors: Survivors) -> ImageDevice {
        let all = self.undecided.len() as u64;
        match survivors {
            Survivors::Nothing => self.settled.clone(),
            Survivors::Everything => self.image_of(|_, _| true),
            Survivors::Random(_) if all == 0 => self.settled.clone(),
            Survivors::Random(seed) => {
                let mut chance = Chance::new(seed);
                let way = chance.below(6);
                let chosen = self.undecided[chance.below(all) as usize].number;
                // The number of the operation asked about last, and what was thrown for it.
                let mut thrown = (usize::MAX, false);
                self.image_of(|number, _| match way {
                    0 => number < chosen || number == chosen && chance.coin(),
                    1 => number != chosen,
                    2 => number == chosen,
                    3 => number != chosen || chance.coin(),
                    4 => {
                        if thrown.0 != number {
                            thrown = (number, chance.coin());
                        }
                        thrown.1
                    }
                    _ => chance.coin(),
                })
            }
        }
    }

    /// The device after the cut, where of what was not durable that arrived which `survives`: asked with the number
    /// of the operation and the sector, by rising number and sector.
    pub fn image_of(&self, mut survives: impl FnMut(usize, u64) -> bool) -> ImageDevice {
        let image = self.settled.clone();
        for undecided in &self.undecided {
            let recorded = self.recorded(undecided.number);
            undecided.runs(
                |sector| survives(undecided.number, sector),
                |first, end| apply(recorded, first, end, &image),
            );
        }
        image
    }
}
