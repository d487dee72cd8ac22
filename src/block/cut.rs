//! Neighbouring memory, cut in commands that a device takes.

use smallvec::SmallVec;

use crate::device::{Buffer, Limits};
use crate::units::BlockSize;

/// Memory that can be cut in two.
pub(super) trait Cut: Sized {
    fn byte_len(&self) -> usize;
    fn cut_at(self, at: usize) -> (Self, Self);
}

impl Cut for &[u8] {
    fn byte_len(&self) -> usize {
        self.len()
    }
    fn cut_at(self, at: usize) -> (Self, Self) {
        self.split_at(at)
    }
}

impl Cut for &mut [u8] {
    fn byte_len(&self) -> usize {
        self.len()
    }
    fn cut_at(self, at: usize) -> (Self, Self) {
        self.split_at_mut(at)
    }
}

/// Of some owner, both halves. They share the memory until something is read into them.
impl<T: Copy> Cut for (T, Buffer) {
    fn byte_len(&self) -> usize {
        self.1.len()
    }
    fn cut_at(self, at: usize) -> (Self, Self) {
        let (owner, mut whole) = self;
        let halves = (whole.share(0..at), whole.share(at..whole.len()));
        ((owner, halves.0), (owner, halves.1))
    }
}

/// The memory of one command.
pub(super) type Pieces<M> = SmallVec<[M; 8]>;

/// Gives `memory`, one behind the other, to `command` in as few calls as `limits` allow: each but the last gets as much
/// as a command can have, and all get whole blocks of `block` bytes. Buffers of a single block are more than `limits` allow
/// where it comes in that many.
pub(super) fn in_commands<M: Cut>(
    memory: impl Iterator<Item = M>,
    limits: &Limits,
    block: BlockSize,
    mut command: impl FnMut(&mut Pieces<M>, u64),
) {
    let mut pieces = Pieces::new();
    let mut bytes = 0;
    for mut rest in memory {
        while rest.byte_len() > 0 {
            let full = pieces.len() >= limits.max_segments && bytes >= block.bytes();
            if full || bytes == limits.max_bytes {
                let of_next_block = bytes % block.bytes();
                let begun = split_behind(&mut pieces, of_next_block);
                command(&mut pieces, bytes - of_next_block);
                pieces.clear();
                pieces.extend(begun);
                bytes = of_next_block;
            }
            let room = limits.max_bytes - bytes;
            if rest.byte_len() as u64 <= room {
                bytes += rest.byte_len() as u64;
                pieces.push(rest);
                break;
            }
            let (now, later) = rest.cut_at(room as usize);
            bytes += room;
            pieces.push(now);
            rest = later;
        }
    }
    if bytes > 0 {
        command(&mut pieces, bytes);
    }
}

/// The last `bytes` bytes of `pieces`, which lose them.
fn split_behind<M: Cut>(pieces: &mut Pieces<M>, mut bytes: u64) -> Pieces<M> {
    let mut behind = Pieces::new();
    while bytes > 0
        && let Some(last) = pieces.pop()
    {
        let before = (last.byte_len() as u64).saturating_sub(bytes);
        bytes -= last.byte_len() as u64 - before;
        if before == 0 {
            behind.push(last);
        } else {
            let (now, later) = last.cut_at(before as usize);
            pieces.push(now);
            behind.push(later);
        }
    }
    behind.reverse();
    behind
}
