//! Commands that wait: for devices that work by themselves, and where a scheduler orders what waits.

use std::mem;
use std::ops::Range;
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use crate::device::{Buffer, Buffers, OperationKind};
use crate::stats::Counter;
use crate::sync::Arc;

use super::Bio;
use super::command::{Chain, Command, Share};
use super::core::{Core, tells};
use super::cut::in_commands;
use super::dispatcher::Inserted;
use super::flush::ThenFlush;
use super::outcome::{Done, outcome, timed_out};
use super::pushed::{Key, Progress, Pushed, count_merges, first_run, fits, refused};

/// Submits what the keys name, which has no conflict and is sorted, if anything can be merged. Where it `ends` a section each bio gets a handle
/// to be waited for, also one that a completion is to hear of.
pub(super) fn send(core: &Arc<Core>, pushed: &mut [Pushed], keys: &[Key], ends: bool) {
    let queue = core.queue_of_thread();
    let since = Instant::now();
    let mut brought = 0;
    let mut rest = keys;
    while !rest.is_empty() {
        let (run, later) = first_run(pushed, rest);
        rest = later;
        let whole = Whole::of(&pushed[run[0].index].bio, since);
        let wait = !pushed[run[0].index].bio.flags.nowait;
        let mut insert = |command| brought += usize::from(insert(core, queue, command, wait));
        if let [key] = run
            && fits(core, &mut pushed[key.index], key)
        {
            count_merges(core, 1, 1, 0);
            let buffers = mem::take(pushed[key.index].memory());
            let share = Share {
                segments: buffers.len(),
                done: expect(core, &mut pushed[key.index], key.start, since, ends),
                then_flush: whole.durable && core.emulates_fua(),
            };
            let prompt = pushed[key.index].bio.is_prompt();
            let shares = SmallVec::from_buf([share]);
            insert(whole.command(key.start..key.end, prompt, buffers, shares));
            continue;
        }
        let commands = cut(core, pushed, run, &whole, ends);
        let inside = |command: &&Command| run.iter().all(|key| key.start != command.offset);
        let splits = commands.iter().filter(inside).count();
        count_merges(core, run.len() as u64, commands.len() as u64, splits as u64);
        commands.into_iter().for_each(insert);
    }
    core.start_timer();
    match core.limits.asynchronous {
        true => core.dispatch(queue),
        false => core.serve(queue, brought),
    }
}

/// What all commands of a run have in common.
struct Whole {
    kind: OperationKind,
    durable: bool,
    priority: super::Priority,
    since: Instant,
}

impl Whole {
    fn of(bio: &Bio, since: Instant) -> Self {
        Self {
            kind: bio.kind,
            durable: bio.flags.fua,
            priority: bio.priority,
            since,
        }
    }

    fn command(
        &self,
        bytes: Range<u64>,
        prompt: bool,
        buffers: Buffers,
        shares: SmallVec<[Share; 1]>,
    ) -> Command {
        Command {
            kind: self.kind,
            offset: bytes.start,
            len: bytes.end - bytes.start,
            buffers,
            durable: self.durable,
            priority: self.priority,
            prompt,
            since: self.since,
            attempt: 1,
            shares,
        }
    }
}

/// Who hears of the end of a bio.
fn expect(core: &Core, pushed: &mut Pushed, at: u64, since: Instant, ends: bool) -> Done {
    match pushed.done.take() {
        Some(done) if !ends => {
            core.has_completion();
            pushed.progress = Progress::Handed;
            done
        }
        later => {
            pushed.done = later;
            let (place, done) = core.outcomes.expect(at, since);
            pushed.progress = Progress::There(place);
            done
        }
    }
}

/// Makes a run into commands. A bio that comes into several of them is chained.
fn cut(
    core: &Arc<Core>,
    pushed: &mut [Pushed],
    run: &[Key],
    whole: &Whole,
    ends: bool,
) -> Vec<Command> {
    let mut memory: Vec<(usize, Buffer)> = Vec::new();
    let mut bios = Vec::new();
    for (bio, key) in run.iter().enumerate() {
        let pushed = &mut pushed[key.index];
        let buffers = mem::take(pushed.memory());
        memory.extend(buffers.into_iter().map(|buffer| (bio, buffer)));
        let done = expect(core, pushed, key.start, whole.since, ends);
        let then_flush = whole.durable && core.emulates_fua();
        bios.push(End {
            prompt: pushed.bio.is_prompt(),
            done: match then_flush {
                true => ThenFlush::before(core, done, whole.since),
                false => done,
            },
            chain: None,
        });
    }
    if memory.is_empty() {
        let prompt = bios.iter().any(|bio| bio.prompt);
        let shares = bios.into_iter().map(|bio| Share {
            segments: 0,
            done: bio.done,
            then_flush: false,
        });
        let (start, end) = (run[0].start, run[run.len() - 1].end);
        let (bytes, none) = (start..end, Buffers::default());
        return vec![whole.command(bytes, prompt, none, shares.collect())];
    }
    let mut commands = Vec::new();
    let mut offset = run[0].start;
    in_commands(
        memory.into_iter(),
        &core.limits,
        core.block_size,
        |pieces, len| {
            let end = offset + len;
            let share = |pieces: &[(usize, Buffer)]| {
                let bio = pieces[0].0;
                let inside = offset <= run[bio].start && run[bio].end <= end;
                Share {
                    segments: pieces.len(),
                    done: match inside {
                        true => bios[bio].done.clone(),
                        false => bios[bio].of_piece(),
                    },
                    then_flush: false,
                }
            };
            let shares = pieces
                .chunk_by(|one, next| one.0 == next.0)
                .map(share)
                .collect();
            let prompt = pieces.iter().any(|piece| bios[piece.0].prompt);
            let buffers = pieces.drain(..).map(|(_, buffer)| buffer).collect();
            commands.push(whole.command(offset..end, prompt, buffers, shares));
            offset = end;
        },
    );
    commands
}

/// Who hears of a bio, or of its pieces.
struct End {
    prompt: bool,
    done: Done,
    chain: Option<Arc<Chain>>,
}

impl End {
    fn of_piece(&mut self) -> Done {
        let chain = self
            .chain
            .get_or_insert_with(|| Chain::of(self.done.clone()));
        Chain::next_piece(chain)
    }
}

/// Lets a command wait for the device: whether it does so by itself.
fn insert(core: &Core, queue: usize, command: Command, wait: bool) -> bool {
    let dispatcher = &core.dispatchers[queue];
    let at_once = Some(Duration::ZERO);
    let inserted = dispatcher.insert(command, &core.limits, core.room(), at_once);
    let inserted = match inserted {
        Err(command) if wait => {
            // So that there will be room.
            core.dispatch(queue);
            let room = if tells() { usize::MAX } else { core.room() };
            let patience = core.policy().how_long();
            let patience = patience.map(|all| all.saturating_sub(command.since.elapsed()));
            dispatcher.insert(*command, &core.limits, room, patience)
        }
        inserted => inserted,
    };
    match inserted {
        Ok(Inserted::Merged) => core.counters.count(Counter::BiosMerged),
        Ok(Inserted::Alone) => {
            core.counters.count(Counter::DeviceRequests);
            return true;
        }
        Err(mut command) => {
            let failure = match wait {
                true => Err(timed_out(command.kind, command.offset)),
                false => outcome(refused()),
            };
            let buffers = mem::take(&mut command.buffers);
            command.finish(core, buffers, &failure);
        }
    }
    false
}
