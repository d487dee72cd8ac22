//! What an allocator must do to take part, and what it may be unable to do.

/// Blocks of the volume that lie one behind the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Run {
    pub(crate) start: u64,
    pub(crate) len: u64,
}

impl Run {
    pub(crate) fn new(start: u64, len: u64) -> Self {
        Self { start, len }
    }

    pub(crate) fn end(self) -> u64 {
        self.start + self.len
    }
}

/// What its owner must keep of a run to free it: the run itself, where parts of it can be freed too.
pub(crate) trait Taken: Copy + Send {
    fn run(self) -> Run;

    /// One thing to free instead of two, where `next` lies right behind this one and the allocator allows it.
    fn joined(self, _next: Self) -> Option<Self> {
        None
    }
}

impl Taken for Run {
    fn run(self) -> Run {
        self
    }

    fn joined(self, next: Self) -> Option<Self> {
        (self.end() == next.start).then(|| Self::new(self.start, self.len + next.len))
    }
}

/// One request of a file that grows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Append {
    /// The block of the file to be placed first.
    pub(crate) logical: u64,
    /// How many are to be placed.
    pub(crate) blocks: u64,
    /// The length of the file as far as it is known, in blocks: at least all that is asked for here.
    pub(crate) size: u64,
}

/// An allocator of the blocks of one volume, used by any number of threads.
pub(crate) trait Subject: Sync + Sized + 'static {
    const NAME: &'static str;
    /// Whether it can be told where a run should lie.
    const KNOWS_GOALS: bool = true;
    /// Whether it hands out runs of any length; else of powers of two.
    const ANY_LENGTH: bool = true;

    type Taken: Taken;
    type Stream: Stream<Self>;

    /// An allocator of so many blocks, all free.
    fn new(blocks: u64) -> Self;

    /// From one to `blocks` blocks, best from `goal` on. None where it has none, or none in this length.
    fn allocate(&self, goal: Option<u64>, blocks: u64) -> Option<Self::Taken>;

    fn free(&self, taken: Self::Taken);

    /// How many blocks are free, by its own count.
    fn free_blocks(&self) -> u64;
}

/// What is kept of a file while it grows.
pub(crate) trait Stream<S: Subject>: Send {
    /// A file that will grow; `tail` is the block of the volume behind its last one.
    fn open(file: u64, tail: Option<u64>) -> Self;

    /// From one to `append.blocks` blocks for the file, as [`allocate`](Subject::allocate).
    fn append(&mut self, subject: &S, append: Append) -> Option<S::Taken>;

    /// What was held ahead for the file may go to others.
    fn close(self, subject: &S);
}

/// The stream of an allocator that knows no files: the block behind the last one.
pub(crate) struct Tail(Option<u64>);

impl<S: Subject> Stream<S> for Tail {
    fn open(_file: u64, tail: Option<u64>) -> Self {
        Self(tail)
    }

    fn append(&mut self, subject: &S, append: Append) -> Option<S::Taken> {
        let taken = subject.allocate(self.0, append.blocks)?;
        self.0 = Some(taken.run().end());
        Some(taken)
    }

    fn close(self, _subject: &S) {}
}

/// What a file, or whoever else asks for blocks, has of an allocator.
pub(crate) struct Owned<S: Subject>(pub(crate) Vec<S::Taken>);

impl<S: Subject> Default for Owned<S> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<S: Subject> Owned<S> {
    fn add(&mut self, taken: S::Taken) {
        if let Some(last) = self.0.last_mut()
            && let Some(joined) = last.joined(taken)
        {
            *last = joined;
        } else {
            self.0.push(taken);
        }
    }

    /// Takes all `blocks` blocks, in several pieces if need be, best from `goal` on and one behind the other.
    pub(crate) fn allocate(
        &mut self,
        subject: &S,
        goal: Option<u64>,
        blocks: u64,
    ) -> Result<(), Full> {
        let mut tail = goal;
        self.take_whole(blocks, |_, part| {
            let taken = subject.allocate(tail, part)?;
            tail = Some(taken.run().end());
            Some(taken)
        })
    }

    /// Takes all blocks of one request of a stream.
    pub(crate) fn append(
        &mut self,
        subject: &S,
        stream: &mut S::Stream,
        append: Append,
    ) -> Result<(), Full> {
        self.take_whole(append.blocks, |done, part| {
            let rest = Append {
                logical: append.logical + done,
                blocks: part,
                ..append
            };
            stream.append(subject, rest)
        })
    }

    /// Asks until all is there, as a filesystem does: what came short is asked for again, what is refused in
    /// one piece in halves.
    fn take_whole(
        &mut self,
        blocks: u64,
        mut ask: impl FnMut(u64, u64) -> Option<S::Taken>,
    ) -> Result<(), Full> {
        let (mut done, mut part) = (0, blocks);
        while done < blocks {
            part = part.min(blocks - done);
            match ask(done, part) {
                Some(taken) => {
                    done += taken.run().len;
                    self.add(taken);
                }
                None if part > 1 => part /= 2,
                None => return Err(Full),
            }
        }
        Ok(())
    }

    /// Gives everything back.
    pub(crate) fn free(&mut self, subject: &S) {
        self.0.drain(..).for_each(|taken| subject.free(taken));
    }

    /// How many runs of the volume these are.
    pub(crate) fn extents(&self) -> usize {
        let joins = |pair: &[S::Taken]| pair[0].run().joined(pair[1].run()).is_some();
        self.0.len() - self.0.windows(2).filter(|pair| joins(pair)).count()
    }
}

/// Not even one block was to be had.
#[derive(Debug)]
pub(crate) struct Full;
