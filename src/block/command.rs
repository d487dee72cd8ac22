//! What goes to the device: one bio, several that are neighbours, or a part of a large one.

use std::mem;
use std::time::Instant;

use smallvec::SmallVec;

use crate::device::{Buffers, Completion, Limits, OperationKind};
use crate::error::Result;
use crate::sync::{Arc, Mutex, Rank};

use super::Priority;
use super::core::Core;
use super::outcome::Done;
use super::panics::Panics;

/// A command that owns what it needs until it has ended.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) kind: OperationKind,
    pub(super) offset: u64,
    pub(super) len: u64,
    pub(super) buffers: Buffers,
    /// It must be durable when it has ended; then it is merged with no other.
    pub(super) durable: bool,
    pub(super) priority: Priority,
    /// Whether one of its bios [is](super::Bio::is_prompt).
    pub(super) prompt: bool,
    /// When it was submitted.
    pub(super) since: Instant,
    pub(super) attempt: u32,
    /// Whose memory this is, in that order; nobody's any more, where the device took too long.
    pub(super) shares: SmallVec<[Share; 1]>,
}

/// The part that one bio has in a command.
#[derive(Debug)]
pub(super) struct Share {
    /// How many of the buffers.
    pub(super) segments: usize,
    pub(super) done: Done,
    /// Whether it hears of a flush behind the command.
    pub(super) then_flush: bool,
}

impl Command {
    pub(super) fn end(&self) -> u64 {
        self.offset + self.len
    }

    /// How many buffers all shares have.
    pub(super) fn segments(&self) -> usize {
        self.shares.iter().map(|share| share.segments).sum()
    }

    /// Whether `behind` can become part of this command.
    pub(super) fn takes(&self, behind: &Self, limits: &Limits) -> bool {
        self.end() == behind.offset
            && self.kind == behind.kind
            && self.priority == behind.priority
            && !(self.durable || behind.durable)
            && (self.buffers.is_empty()
                || self.len + behind.len <= limits.max_bytes
                    && self.buffers.len() + behind.buffers.len() <= limits.max_segments)
    }

    /// Makes `behind` part of this command.
    pub(super) fn take(&mut self, behind: Self) {
        self.len += behind.len;
        self.prompt |= behind.prompt;
        self.since = self.since.min(behind.since);
        self.shares.extend(behind.shares);
        for buffer in behind.buffers {
            self.buffers.push(buffer);
        }
    }

    /// Leaves a request to the device, which has its memory, and takes those along who were to hear of its end.
    pub(super) fn give_up(&mut self) -> Self {
        Self {
            buffers: Buffers::default(),
            shares: mem::take(&mut self.shares),
            ..*self
        }
    }

    /// Tells everybody who has a share.
    pub(super) fn finish(self, core: &Core, buffers: Buffers, result: &Result<()>) {
        let (mut shares, since) = (self.shares, self.since);
        if shares.len() == 1
            && let Some(only) = shares.pop()
        {
            return only.finish(core, since, buffers, result);
        }
        let mut buffers = buffers.into_iter();
        let mut panics = Panics::default();
        for share in shares {
            let own = buffers.by_ref().take(share.segments).collect();
            panics.hold(|| share.finish(core, since, own, result));
        }
        panics.go_on();
    }
}

impl Share {
    fn finish(self, core: &Core, since: Instant, buffers: Buffers, result: &Result<()>) {
        match self.then_flush && result.is_ok() {
            true => core.flush_then(self.done, buffers, since),
            false => self.done.finish(buffers, result.clone()),
        }
    }
}

/// A bio in several commands: it ends when all of them have, by the first error.
#[derive(Debug)]
pub(super) struct Chain {
    state: Mutex<ChainState>,
}

#[derive(Debug)]
struct ChainState {
    /// The memory of each piece.
    pieces: Vec<Buffers>,
    missing: usize,
    result: Result<()>,
    done: Option<Done>,
}

impl Chain {
    /// A chain without pieces, which ends in `done`.
    pub(super) fn of(done: Done) -> Arc<Self> {
        let state = ChainState {
            pieces: Vec::new(),
            missing: 0,
            result: Ok(()),
            done: Some(done),
        };
        let state = Mutex::new(Rank::Pieces, state);
        Arc::new(Self { state })
    }

    /// Who hears of one more piece. All are asked for before the first one begins.
    pub(super) fn next_piece(self: &Arc<Self>) -> Done {
        let mut state = self.state.lock();
        state.pieces.push(Buffers::default());
        state.missing += 1;
        Done {
            completion: Arc::clone(self) as _,
            tag: state.pieces.len() as u64 - 1,
        }
    }
}

impl Completion for Chain {
    fn completed(&self, piece: u64, buffers: Buffers, result: Result<()>) {
        let mut state = self.state.lock();
        state.pieces[piece as usize] = buffers;
        if state.result.is_ok() {
            state.result = result;
        }
        state.missing -= 1;
        if state.missing > 0 {
            return;
        }
        let whole = mem::take(&mut state.pieces);
        let whole = whole.into_iter().flatten().collect();
        let result = state.result.clone();
        let done = state.done.take();
        drop(state);
        if let Some(done) = done {
            done.finish(whole, result);
        }
    }
}
