//! Which dirty blocks of a file go to the device together, so that there are as few commands as there can be: each
//! run of neighbours on the device is cut from its start on.

use crate::units::{DiskBlock, FileBlock, FileRange};

/// Blocks that are one command to the device; in order of the file, in which they need not be neighbours.
pub(super) type Command = Vec<FileRange>;

/// Blocks that are to be written.
#[derive(Debug)]
pub(super) struct Plan {
    /// The most blocks in one command.
    most: u64,
    placed: Vec<(DiskBlock, FileRange)>,
    unplaced: Vec<FileRange>,
}

impl Plan {
    pub(super) fn new(most: u64) -> Self {
        Self {
            most,
            placed: Vec::new(),
            unplaced: Vec::new(),
        }
    }

    /// Adds blocks, the first of which is at `disk`.
    pub(super) fn add(&mut self, range: FileRange, disk: DiskBlock) {
        self.placed.push((disk, range));
    }

    /// Adds blocks whose place is not known yet.
    pub(super) fn add_unplaced(&mut self, range: FileRange) {
        self.unplaced.push(range);
    }

    pub(super) fn commands(mut self) -> Vec<Command> {
        self.placed.sort_unstable_by_key(|(disk, _)| *disk);
        let mut commands: Vec<Command> = Vec::new();
        // Where the last command ends on the device, and how much more it takes.
        let (mut end, mut room) = (DiskBlock(0), 0);
        for (mut disk, mut range) in self.placed {
            while !range.is_empty() {
                if disk != end || room == 0 {
                    commands.push(Command::new());
                    room = self.most;
                }
                let (first, rest) = split(range, room);
                if let Some(command) = commands.last_mut() {
                    command.push(first);
                }
                room -= first.len();
                disk = disk.advance(first.len());
                (end, range) = (disk, rest);
            }
        }
        for command in &mut commands {
            command.sort_unstable_by_key(|range| range.start());
        }
        for mut range in self.unplaced {
            while !range.is_empty() {
                let (first, rest) = split(range, self.most);
                commands.push(vec![first]);
                range = rest;
            }
        }
        commands
    }
}

/// The first blocks of `range`, at most `most`, and the rest.
fn split(range: FileRange, most: u64) -> (FileRange, FileRange) {
    let at = FileBlock((range.start().0 + most).min(range.end().0));
    (
        FileRange::new(range.start(), at),
        FileRange::new(at, range.end()),
    )
}

/// Those ranges of a command that have a block of `page`.
pub(super) fn meeting(command: &Command, page: FileRange) -> &[FileRange] {
    let first = command.partition_point(|range| range.end() <= page.start());
    let end = command.partition_point(|range| range.start() < page.end());
    &command[first..end]
}
