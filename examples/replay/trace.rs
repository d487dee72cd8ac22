//! The recorded trace: what was done to a file system, and what was seen after each step.
//!
//! One JSON value in each line: first the head, then the steps, last (in black-box traces only) what
//! was seen at the end. Operations are parsed in full; what was seen stays JSON and is compared as such.

use extent_map::file::AllocateMode;
use extent_map::testing::{FileOp, Op};
use serde_json::Value;

/// Files are at most this long; recorded ones are much shorter.
pub(crate) const MAX_FILE_BYTES: u64 = 64 << 20;
/// Offsets, lengths and sizes are at most what a system call can be given.
const MAX_OFFSET: u64 = i64::MAX as u64;
/// Volumes have at most this many blocks; recorded ones have many fewer.
const MAX_VOLUME_BLOCKS: u64 = 1 << 24;
/// The bytes of a cluster, at most.
const MAX_CLUSTER_BYTES: u64 = 1 << 20;
/// Traces have at most this many files.
const MAX_FILES: u64 = 1 << 10;

/// A trace.
#[derive(Clone, Debug)]
pub(crate) struct Trace {
    /// How the volume is made.
    pub(crate) head: Head,
    /// What is done, in order.
    pub(crate) steps: Vec<Step>,
    /// What was seen after everything was written back; white-box traces have no such line.
    pub(crate) end: Vec<Seen>,
}

/// The first line.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    /// Whether every call on the status tree was recorded, too.
    pub(crate) white_box: bool,
    /// Bytes in a block.
    pub(crate) block_size: u64,
    /// Blocks in a cluster.
    pub(crate) cluster_blocks: u64,
    /// Whether allocation is delayed.
    pub(crate) delayed: bool,
    /// The number of files, all empty at first.
    pub(crate) files: u64,
    /// Free blocks at first.
    pub(crate) free_blocks: u64,
}

/// One operation and its outcome.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    /// The recorded number.
    pub(crate) number: u64,
    /// What is done.
    pub(crate) op: Op,
    /// What it returned: a number, or the name of an errno.
    pub(crate) returned: Value,
    /// The hash of the bytes it read.
    pub(crate) read: Option<Value>,
    /// What was seen afterwards.
    pub(crate) seen: Vec<Seen>,
    /// Delayed blocks of the volume afterwards, in white-box traces.
    pub(crate) delayed_blocks: Option<Value>,
}

/// What was seen of one file.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// The file.
    pub(crate) file: usize,
    /// The fields by name.
    pub(crate) fields: Value,
}

/// What is wrong with a line.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {defect}")]
pub(crate) struct Malformed {
    /// The number of the line, from 1.
    pub(crate) line: usize,
    /// What is wrong with it.
    pub(crate) defect: Defect,
}

/// What can be wrong with a line.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Defect {
    /// Not UTF-8.
    #[error("not text")]
    NotText,
    /// Not JSON.
    #[error("not JSON from column {} on", .0.column())]
    NotJson(#[from] serde_json::Error),
    /// A field is missing or of another type.
    #[error("no usable {0}")]
    Field(&'static str),
    /// A number is beyond what recordings have.
    #[error("{0} out of bounds")]
    OutOfBounds(&'static str),
    /// No operation of that name.
    #[error("unknown operation {0:?}")]
    UnknownOperation(String),
    /// The recording was cut off.
    #[error("the trace ends without an end line")]
    CutOff,
    /// Something follows the end line.
    #[error("a line after the end line")]
    AfterEnd,
}

type Result<T, E = Defect> = std::result::Result<T, E>;

/// The bytes of a trace as text.
pub(crate) fn text(bytes: &[u8]) -> Result<&str, Malformed> {
    std::str::from_utf8(bytes).map_err(|error| {
        let before = &bytes[..error.valid_up_to()];
        let newlines = before.iter().filter(|byte| **byte == b'\n').count();
        Malformed {
            line: newlines + 1,
            defect: Defect::NotText,
        }
    })
}

impl Trace {
    /// Parses a trace of either kind.
    pub(crate) fn parse(text: &str) -> Result<Self, Malformed> {
        let in_line = |line| move |defect| Malformed { line, defect };
        let mut lines = (1..).zip(text.lines());
        let (_, first) = lines.next().unwrap_or((1, ""));
        let head = Head::parse(first).map_err(in_line(1))?;
        let mut steps = Vec::new();
        let mut end = None;
        let mut last = 1;
        for (line, text) in lines {
            last = line;
            if end.is_some() {
                return Err(in_line(line)(Defect::AfterEnd));
            }
            match Line::parse(text, &head).map_err(in_line(line))? {
                Line::Step(step) => steps.push(step),
                Line::End(seen) => end = Some(seen),
            }
        }
        match end {
            None if !head.white_box => Err(in_line(last)(Defect::CutOff)),
            end => Ok(Self {
                head,
                steps,
                end: end.unwrap_or_default(),
            }),
        }
    }
}

impl Head {
    fn parse(line: &str) -> Result<Self> {
        let head: Value = serde_json::from_str(line)?;
        let white_box = head["kind"] == "es";
        let block_size = at_most(number(&head, "bs")?, MAX_CLUSTER_BYTES, "bs")?;
        let cluster_size = at_most(number(&head, "cl")?, MAX_CLUSTER_BYTES, "cl")?;
        if block_size == 0 || !cluster_size.is_multiple_of(block_size) {
            return Err(Defect::OutOfBounds("cl"));
        }
        // White-box heads tell neither the size of the volume nor mount options, but the name of the configuration.
        let options = head["opts"]
            .as_str()
            .or(head["cfg"].as_str())
            .unwrap_or_default();
        let free_blocks = match white_box {
            true => MAX_FILE_BYTES / block_size,
            false => number(&head, "free0")?,
        };
        Ok(Self {
            white_box,
            block_size,
            cluster_blocks: cluster_size / block_size,
            delayed: !options.contains("nodelalloc"),
            files: at_most(number(&head, "nfiles")?, MAX_FILES, "nfiles")?,
            free_blocks: at_most(free_blocks, MAX_VOLUME_BLOCKS, "free0")?,
        })
    }
}

enum Line {
    Step(Step),
    End(Vec<Seen>),
}

impl Line {
    fn parse(line: &str, head: &Head) -> Result<Self> {
        let mut line: Value = serde_json::from_str(line)?;
        if let Some(end) = line.get_mut("end") {
            return Ok(Self::End(seen(end.take(), head.files)?));
        }
        let op = line["op"].as_array().ok_or(Defect::Field("op"))?;
        let op = operation(op, head.files)?;
        let observed = match head.white_box {
            true => Vec::new(),
            false => seen(line["o"].take(), head.files)?,
        };
        let returned = line.get_mut("r").ok_or(Defect::Field("r"))?.take();
        Ok(Self::Step(Step {
            number: number(&line, "i")?,
            op,
            returned,
            read: line.get_mut("x").map(Value::take),
            seen: observed,
            delayed_blocks: line.get_mut("da").map(Value::take),
        }))
    }
}

fn number(line: &Value, field: &'static str) -> Result<u64> {
    line[field].as_u64().ok_or(Defect::Field(field))
}

fn at_most(number: u64, limit: u64, what: &'static str) -> Result<u64> {
    match number <= limit {
        true => Ok(number),
        false => Err(Defect::OutOfBounds(what)),
    }
}

fn seen(value: Value, files: u64) -> Result<Vec<Seen>> {
    let Value::Object(by_file) = value else {
        return Err(Defect::Field("observation"));
    };
    by_file
        .into_iter()
        .map(|(file, fields)| {
            let file = file.parse::<u64>().ok().filter(|file| *file < files);
            Ok(Seen {
                file: file.ok_or(Defect::OutOfBounds("file"))? as usize,
                fields,
            })
        })
        .collect()
}

/// What follows the name of an operation.
struct Arguments<'a> {
    rest: std::slice::Iter<'a, Value>,
    files: u64,
}

impl Arguments<'_> {
    fn number(&mut self, what: &'static str) -> Result<u64> {
        let number = self.rest.next().and_then(Value::as_u64);
        number.ok_or(Defect::Field(what))
    }

    /// The file, and what `rest` makes of the other arguments.
    fn on_file(mut self, rest: impl FnOnce(&mut Self) -> Result<FileOp>) -> Result<Op> {
        Ok(Op::File(self.file()?, rest(&mut self)?))
    }

    fn file(&mut self) -> Result<usize> {
        match self.number("file")? {
            file if file < self.files => Ok(file as usize),
            _ => Err(Defect::OutOfBounds("file")),
        }
    }

    fn size(&mut self) -> Result<u64> {
        at_most(self.number("size")?, MAX_OFFSET, "size")
    }

    /// An offset and a length.
    fn range(&mut self) -> Result<(u64, u64)> {
        let offset = at_most(self.number("offset")?, MAX_OFFSET, "offset")?;
        let len = at_most(self.number("length")?, MAX_OFFSET, "length")?;
        Ok((offset, len))
    }

    /// An offset and a length of data.
    fn data(&mut self) -> Result<(u64, u64)> {
        let (offset, len) = self.range()?;
        Ok((offset, at_most(len, FileOp::MAX_DATA, "length")?))
    }

    /// What chooses the bytes that are written; they repeat after so many seeds.
    fn seed(&mut self) -> Result<u8> {
        Ok((self.number("seed")? % 251) as u8)
    }

    fn mode(&mut self) -> Result<AllocateMode> {
        Ok(match self.rest.next().and_then(Value::as_str) {
            Some("alloc") => AllocateMode::Allocate,
            Some("keep") => AllocateMode::AllocateKeepSize,
            Some("punch") => AllocateMode::PunchHole,
            Some("zero") => AllocateMode::ZeroRange,
            Some("zero_keep") => AllocateMode::ZeroRangeKeepSize,
            Some("collapse") => AllocateMode::CollapseRange,
            Some("insert") => AllocateMode::InsertRange,
            _ => return Err(Defect::Field("fallocate mode")),
        })
    }
}

/// The operation that a recorded system call is here.
fn operation(recorded: &[Value], files: u64) -> Result<Op> {
    let mut rest = recorded.iter();
    let name = rest.next().and_then(Value::as_str);
    let name = name.ok_or(Defect::Field("operation name"))?;
    let args = Arguments { rest, files };
    match name {
        "pwrite" => args.on_file(|args| {
            let (offset, len) = args.data()?;
            let seed = args.seed()?;
            Ok(FileOp::Write { offset, len, seed })
        }),
        "mwrite" => args.on_file(|args| {
            let (offset, len) = args.data()?;
            let seed = args.seed()?;
            Ok(FileOp::StoreMapped { offset, len, seed })
        }),
        "pread" => args.on_file(|args| {
            let (offset, len) = args.data()?;
            Ok(FileOp::Read { offset, len })
        }),
        "mread" => args.on_file(|args| {
            let (offset, len) = args.data()?;
            Ok(FileOp::LoadMapped { offset, len })
        }),
        "falloc" => args.on_file(|args| {
            let mode = args.mode()?;
            let (offset, len) = args.range()?;
            Ok(FileOp::Allocate { mode, offset, len })
        }),
        "trunc" => args.on_file(|args| Ok(FileOp::SetLen(args.size()?))),
        "fsync" => args.on_file(|_| Ok(FileOp::SyncAll)),
        "fdatasync" => args.on_file(|_| Ok(FileOp::SyncData)),
        "sfr" => args.on_file(|args| {
            let (offset, len) = args.range()?;
            Ok(FileOp::SyncRange { offset, len })
        }),
        "syncfs" => Ok(Op::Sync),
        "remount" => Ok(Op::DropCaches),
        name => Err(Defect::UnknownOperation(name.into())),
    }
}
