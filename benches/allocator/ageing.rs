//! Volumes that grow old: files are created, appended to, overwritten in place and elsewhere, and deleted until a
//! multiple of the volume has been written. How well files and free space lie together then. The operations
//! depend on the seed alone, so all allocators see the same.

use std::thread;

use super::effort::{Ageing, Effort};
use super::file::File;
use super::numbers::Random;
use super::oracle::{Checked, CheckedStream};
use super::spread::Spread;
use super::subject::{Append, Owned, Run, Stream, Subject};
use super::subjects::{VisitRuns, those_with_runs};
use super::table::{Cell, Table};

/// Writeback asks for 1 MiB at most.
const WRITEBACK: u64 = 256;
/// 64 MiB.
const LARGEST: u64 = 16_384;
/// 8 MiB: free runs that are longer are called large.
const LARGE: u64 = 2_048;

/// A volume and its files.
struct Volume<S: Subject<Taken = Run>> {
    subject: Checked<S>,
    files: Vec<File>,
    random: Random,
    /// Blocks that files have.
    used: u64,
    /// Blocks that files may have.
    limit: u64,
    written: u64,
    /// How many files were created: the number of the last one.
    created: u64,
}

/// How it lies.
struct State {
    /// Of the blocks of files but the first of each: the share right behind the block before.
    layout: f64,
    large_free: f64,
    extents_per_file: f64,
    free_runs: f64,
}

impl<S: Subject<Taken = Run>> Volume<S> {
    fn aged(ageing: &Ageing, fill: u64, seed: u64) -> Self {
        let mut random = Random::default();
        random.mix(seed << 32);
        let mut this = Self {
            subject: Checked::new(ageing.blocks),
            files: Vec::new(),
            random,
            used: 0,
            limit: ageing.blocks * fill / 100,
            written: 0,
            created: 0,
        };
        while this.written < ageing.volumes * ageing.blocks {
            this.step();
        }
        this.subject.expect_sound();
        this
    }

    fn step(&mut self) {
        let dice = self.random.below(10);
        match self.random_file() {
            Some(file) if dice < 2 => self.append(file),
            Some(file) if dice < 4 => self.overwrite(file),
            Some(file) if dice < 6 => self.overwrite_in_place(file),
            _ => self.create(),
        }
    }

    fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.random.below(high - low + 1)
    }

    fn random_file(&mut self) -> Option<usize> {
        let files = self.files.len() as u64;
        (files > 0).then(|| self.random.below(files) as usize)
    }

    /// 4 KiB to 64 KiB mostly, some to 1 MiB, few to 64 MiB; among the last each size from one power of two to the
    /// next is as common as from there to the following one.
    fn size(&mut self) -> u64 {
        match self.random.below(100) {
            0 => {
                let octave = WRITEBACK << self.random.below(6);
                self.between(octave + 1, 2 * octave)
            }
            1..15 => self.between(17, WRITEBACK),
            _ => self.between(1, 16),
        }
    }

    fn create(&mut self) {
        let blocks = self.size();
        self.make_room(blocks);
        self.created += 1;
        let mut file = File::new(self.created);
        self.grow(&mut file, blocks);
        self.files.push(file);
    }

    fn append(&mut self, index: usize) {
        let blocks = self.between(1, 32);
        if self.files[index].blocks() + blocks > LARGEST {
            return;
        }
        // Out of the way while others are deleted to make room.
        let mut file = self.files.swap_remove(index);
        self.make_room(blocks);
        self.grow(&mut file, blocks);
        self.files.push(file);
    }

    /// Deletes files, whichever, until so many blocks can be allocated.
    fn make_room(&mut self, blocks: u64) {
        while self.used + blocks > self.limit {
            let index = self.random_file().expect("a full volume has files");
            let file = self.files.swap_remove(index);
            self.used -= file.blocks();
            file.runs().iter().for_each(|run| self.subject.free(*run));
        }
    }

    /// The whole growth is known before writeback asks for the first part of it.
    fn grow(&mut self, file: &mut File, blocks: u64) {
        let size = file.blocks() + blocks;
        let mut stream = CheckedStream::<S>::open(file.number(), file.tail());
        while file.blocks() < size {
            let logical = file.blocks();
            let part = WRITEBACK.min(size - logical);
            let append = Append {
                logical,
                blocks: part,
                size,
            };
            let mut owned = Owned::default();
            owned
                .append(&self.subject, &mut stream, append)
                .expect("room was made");
            owned.0.into_iter().for_each(|run| file.push(run));
        }
        stream.close(&self.subject);
        self.used += blocks;
        self.written += blocks;
    }

    /// A part of a file, as it is overwritten: its first block, and how many.
    fn part(&mut self, index: usize) -> (u64, u64) {
        let blocks = self.files[index].blocks();
        let start = self.random.below(blocks);
        let len = self.between(1, 64).min(blocks - start);
        self.written += len;
        (start, len)
    }

    fn overwrite_in_place(&mut self, index: usize) {
        self.part(index);
    }

    /// The new blocks are allocated, then the old ones freed, as stores do that copy on write or write logs.
    fn overwrite(&mut self, index: usize) {
        let (start, len) = self.part(index);
        let file = &mut self.files[index];
        let goal = file.behind(start);
        let mut new = Owned::default();
        new.allocate(&self.subject, goal, len)
            .expect("a part of the volume stays free");
        let old = file.replace(start, &new.0);
        old.into_iter().for_each(|run| self.subject.free(run));
    }

    fn state(&self) -> State {
        let files = self.files.len() as f64;
        let extents: usize = self.files.iter().map(|file| file.runs().len()).sum();
        let followers: u64 = self.files.iter().map(|file| file.blocks() - 1).sum();
        let breaks = extents as f64 - files;
        let free = self.subject.free_runs();
        let large: u64 = free.iter().filter(|len| **len > LARGE).sum();
        State {
            layout: 1.0 - breaks / followers as f64,
            large_free: large as f64 / free.iter().sum::<u64>() as f64,
            extents_per_file: extents as f64 / files,
            free_runs: free.len() as f64,
        }
    }
}

/// Both tables.
pub(crate) fn age(effort: &Effort) -> Vec<Table> {
    vec![
        at(80, "f. Aged, 80 % full", &effort.ageing),
        at(95, "f. Aged, 95 % full", &effort.ageing),
    ]
}

fn at(fill: u64, title: &'static str, ageing: &Ageing) -> Table {
    struct Age<'a>(&'a Ageing, u64, Table);
    impl VisitRuns for Age<'_> {
        fn visit<S: Subject<Taken = Run>>(&mut self) {
            let Self(ageing, fill, table) = self;
            let (ageing, fill) = (*ageing, *fill);
            let states: Vec<State> = thread::scope(|scope| {
                let aged =
                    move |seed| scope.spawn(move || Volume::<S>::aged(ageing, fill, seed).state());
                let threads: Vec<_> = (1..=ageing.seeds).map(aged).collect();
                threads
                    .into_iter()
                    .map(|thread| thread.join().expect("volumes age in peace"))
                    .collect()
            });
            let figures: [fn(&State) -> f64; 4] = [
                |state| state.layout,
                |state| state.large_free,
                |state| state.extents_per_file,
                |state| state.free_runs,
            ];
            let cells = figures.map(|figure| {
                let spread = Spread::of(states.iter().map(figure));
                Cell::Figure(spread.expect("a volume aged"))
            });
            table.row(S::NAME, cells.into());
        }
    }
    let columns = &[
        "layout score",
        "free space in runs over 8 MiB",
        "extents per file",
        "free runs",
    ];
    let mut age = Age(ageing, fill, Table::new(title, columns));
    those_with_runs(&mut age);
    age.2
}
