//! One thread of the whole crate's part: what it does to files, and what it remembers of them.
//!
//! All threads share the first files, whose blocks are theirs in turns, so that each knows what its own hold. Each has
//! one file more to append to and to truncate.

use std::io;

use super::content::{self, BLOCK};
use super::contest::Work;
use super::interrupt;
use super::latencies::Latencies;
use super::mix::{Kind, Mix};
use super::options::Options;
use super::places::{Distribution, Places, below};
use super::random::Random;
use super::target::Target;

/// Files that all threads share.
pub(crate) const SHARED: usize = 8;
/// Blocks in a row that belong to one thread.
const STRIPE: u64 = 8;
/// The most blocks in the file that a thread has for itself.
pub(crate) const LONGEST: u64 = 1024;

/// What all workers know.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) mix: Mix,
    pub(crate) distribution: Distribution,
    pub(crate) seed: u64,
    /// How many workers there are, whether they work or not.
    pub(crate) workers: u64,
    /// How many stripes each has in each shared file.
    pub(crate) stripes: u64,
}

impl Job {
    /// Every second block of the shared files is written at first: that makes the extents.
    pub(crate) fn new(options: &Options) -> Self {
        let workers = *options.threads.last().expect("there are some") as u64;
        let stripes = (options.extents / 8).div_ceil(SHARED as u64 * STRIPE * workers);
        Self {
            mix: options.mix.clone(),
            distribution: options.distribution,
            seed: options.seed,
            workers,
            stripes,
        }
    }

    /// Blocks of a shared file.
    pub(crate) fn blocks(&self) -> u64 {
        self.stripes * self.workers * STRIPE
    }
}

/// One worker and what it remembers.
#[derive(Debug)]
pub(crate) struct Worker {
    job: Job,
    number: u64,
    random: Random,
    reads: Places,
    writes: Places,
    /// Of its own blocks of all shared files; 0 is a hole.
    generations: Vec<u32>,
    /// Of the blocks of its own file.
    own: Vec<u32>,
    generation: u32,
    /// The file it changed last.
    changed: usize,
    buffer: Box<[u8; BLOCK]>,
    mistakes: u64,
}

impl Worker {
    pub(crate) fn new(job: &Job, number: u64) -> Self {
        let mut random = Random(job.seed ^ number << 32);
        let blocks = SHARED as u64 * job.stripes * STRIPE;
        let mut places = |count| Places::new(job.distribution, below(&mut random, count));
        Self {
            reads: places(SHARED as u64 * job.blocks()),
            writes: places(blocks),
            job: job.clone(),
            number,
            random,
            generations: vec![0; blocks as usize],
            own: Vec::new(),
            generation: 1,
            changed: 0,
            buffer: Box::new([0; BLOCK]),
            mistakes: 0,
        }
    }

    /// Writes every second one of its blocks, until it is interrupted.
    pub(crate) fn lay_out(&mut self, target: &dyn Target) -> io::Result<()> {
        let all = (0..self.generations.len()).step_by(2);
        for own in all.take_while(|_| !interrupt::wanted()) {
            let (file, block) = self.place(own as u64);
            content::fill(&mut self.buffer[..], file as u64, block, self.generation);
            target.write(file, offset(block), &self.buffer[..])?;
            self.generations[own] = self.generation;
        }
        Ok(())
    }

    /// The file and block of one of its own blocks in shared files.
    fn place(&self, own: u64) -> (usize, u64) {
        let in_file = self.job.stripes * STRIPE;
        let (stripe, rest) = (own % in_file / STRIPE, own % STRIPE);
        let stripe = stripe * self.job.workers + self.number;
        ((own / in_file) as usize, stripe * STRIPE + rest)
    }

    /// Its number of a block of a shared file, if it is its own.
    fn own_number(&self, file: usize, block: u64) -> Option<usize> {
        let stripe = block / STRIPE;
        let mine = stripe % self.job.workers == self.number;
        let stripe = file as u64 * self.job.stripes + stripe / self.job.workers;
        mine.then_some((stripe * STRIPE + block % STRIPE) as usize)
    }

    fn own_file(&self) -> usize {
        SHARED + self.number as usize
    }

    /// Blocks of its own in a row: the first one of them, and how many.
    fn run(&mut self) -> (u64, u64) {
        let first = self.choose_own();
        (first, 1 + below(&mut self.random, STRIPE - first % STRIPE))
    }

    fn choose_own(&mut self) -> u64 {
        let count = self.generations.len() as u64;
        self.writes.choose(count, &mut self.random)
    }

    fn step(&mut self, target: &dyn Target, seen: &mut Latencies) -> io::Result<()> {
        let kind = self.job.mix.kind(below(&mut self.random, 100));
        match kind {
            Kind::Read => self.read(target, seen),
            Kind::Write | Kind::Fault => self.write(target, seen, kind),
            // A file that is too long to append to, or too short to truncate, gets the other one.
            Kind::Append | Kind::Truncate if self.own.len() as u64 == LONGEST => {
                self.truncate(target, seen)
            }
            Kind::Truncate if !self.own.is_empty() => self.truncate(target, seen),
            Kind::Append | Kind::Truncate => self.append(target, seen),
            Kind::Fallocate => {
                let (first, count) = self.run();
                let (file, block) = self.place(first);
                let len = offset(count);
                seen.time(kind, || target.allocate(file, offset(block), len))
            }
            Kind::Punch => {
                let (first, count) = self.run();
                let (file, block) = self.place(first);
                let len = offset(count);
                seen.time(kind, || target.punch(file, offset(block), len))?;
                self.generations[first as usize..][..count as usize].fill(0);
                self.changed = file;
                Ok(())
            }
            Kind::Sync => seen.time(kind, || target.sync(self.changed)),
        }
    }

    fn read(&mut self, target: &dyn Target, seen: &mut Latencies) -> io::Result<()> {
        let blocks = self.job.blocks();
        let number = self.reads.choose(SHARED as u64 * blocks, &mut self.random);
        let (file, block) = ((number / blocks) as usize, number % blocks);
        let buffer = &mut self.buffer[..];
        let read = seen.time(Kind::Read, || target.read(file, offset(block), buffer))?;
        // Only a look at its first bytes: what all hold is looked at in the end.
        let right = match self.own_number(file, block) {
            Some(own) => {
                content::is_likely(&self.buffer[..], file as u64, block, self.generations[own])
            }
            None => {
                !target.reads_whole_pages()
                    || content::belongs(&self.buffer[..], file as u64, block)
            }
        };
        self.mistakes += u64::from(read != BLOCK || !right);
        Ok(())
    }

    fn write(&mut self, target: &dyn Target, seen: &mut Latencies, kind: Kind) -> io::Result<()> {
        let own = self.choose_own();
        let (file, block) = self.place(own);
        self.generation += 1;
        content::fill(&mut self.buffer[..], file as u64, block, self.generation);
        let (at, data) = (offset(block), &self.buffer[..]);
        match kind {
            Kind::Fault => seen.time(kind, || target.store(file, at, data))?,
            _ => seen.time(kind, || target.write(file, at, data))?,
        }
        self.generations[own as usize] = self.generation;
        self.changed = file;
        Ok(())
    }

    fn append(&mut self, target: &dyn Target, seen: &mut Latencies) -> io::Result<()> {
        let (file, block) = (self.own_file(), self.own.len() as u64);
        self.generation += 1;
        content::fill(&mut self.buffer[..], file as u64, block, self.generation);
        let data = &self.buffer[..];
        seen.time(Kind::Append, || target.write(file, offset(block), data))?;
        self.own.push(self.generation);
        self.changed = file;
        Ok(())
    }

    fn truncate(&mut self, target: &dyn Target, seen: &mut Latencies) -> io::Result<()> {
        let left = below(&mut self.random, self.own.len() as u64);
        let file = self.own_file();
        // Later ones hide what this one does wrong.
        let is = target.size(file)?;
        self.mistakes += u64::from(is != offset(self.own.len() as u64));
        seen.time(Kind::Truncate, || target.truncate(file, offset(left)))?;
        self.own.truncate(left as usize);
        self.changed = file;
        Ok(())
    }

    /// Reads all its blocks and says which are not as they should be; how many there are.
    pub(crate) fn verify(&self, target: &dyn Target) -> Result<u64, String> {
        if self.mistakes > 0 {
            return Err(format!("{} reads or sizes were wrong", self.mistakes));
        }
        let shared = self.generations.iter().enumerate();
        let shared = shared.map(|(own, generation)| (self.place(own as u64), *generation));
        let own = self.own.iter().enumerate();
        let own = own.map(|(block, generation)| ((self.own_file(), block as u64), *generation));
        let (mut count, mut buffer) = (0, [0; BLOCK]);
        for ((file, block), generation) in shared.chain(own) {
            let wrong = |what: String| format!("file {file}, block {block}: {what}");
            let read = target.read(file, offset(block), &mut buffer);
            match read {
                Ok(BLOCK) => {}
                Ok(read) => return Err(wrong(format!("{read} bytes of {BLOCK}"))),
                Err(error) => return Err(wrong(error.to_string())),
            }
            if !content::is(&buffer, file as u64, block, generation) {
                return Err(wrong(format!(
                    "does not hold what write {generation} put there"
                )));
            }
            count += 1;
        }
        let size = target
            .size(self.own_file())
            .map_err(|error| error.to_string())?;
        match size == offset(self.own.len() as u64) {
            true => Ok(count),
            false => Err(format!("file {} has {size} bytes", self.own_file())),
        }
    }
}

/// Where a block begins in its file, in bytes.
pub(crate) fn offset(block: u64) -> u64 {
    block * BLOCK as u64
}

/// A worker at work.
pub(crate) struct AtWork<'a> {
    pub(crate) worker: &'a mut Worker,
    pub(crate) target: &'a dyn Target,
}

impl Work for AtWork<'_> {
    fn some(&mut self, seen: &mut Latencies) -> io::Result<u64> {
        self.worker.step(self.target, seen)?;
        Ok(1)
    }
}
