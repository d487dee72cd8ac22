//! Replay of white-box recordings: every call that the kernel made on its extent status trees.
//!
//! Each call is made on a [`StatusTree`]; lookups, the released reservations and, after each step,
//! the whole tree must be what the kernel had. The reservation itself is kept here, one number per
//! file, as the layer above the tree would keep it.

use std::collections::HashMap;
use std::fmt::Debug;

use extent_map::status::{Accounting, Status, StatusContext, StatusExtent, StatusTree};
use extent_map::units::{ClusterRatio, DiskBlock, FileBlock, FileRange, MAX_FILE_BLOCKS};
use serde_json::Value;

use super::report::{Failure, Report};

/// Blocks in one recorded extent that lives on the volume, at most.
const MAX_RUN: u64 = 1 << 20;

/// Replays one recording: its head in the first line, then one step in each line.
pub(crate) fn replay(text: &str) -> Report {
    let mut lines = text.lines();
    match lines.next().and_then(Replay::new) {
        Some(mut replay) => {
            lines.for_each(|line| replay.step(line));
            replay.report
        }
        None => {
            let failure = Failure {
                step: 0,
                field: "head".into(),
                expected: "the head of a white-box recording".into(),
                got: text.lines().next().unwrap_or_default().into(),
            };
            Report {
                steps: 0,
                failures: vec![failure],
            }
        }
    }
}

struct Replay {
    context: StatusContext,
    cluster: ClusterRatio,
    /// Bytes in a cluster.
    cluster_bytes: u64,
    /// Clusters in one block group: as many as one bitmap block has bits.
    group_clusters: u64,
    files: Vec<File>,
    step: u64,
    report: Report,
}

struct File {
    tree: StatusTree,
    /// Reserved clusters.
    reserved: u64,
    /// What the last call released, until the recording confirms it.
    released: Option<Released>,
    /// The logical cluster that each allocated cluster of the volume was last seen to back.
    backing: HashMap<u64, u64>,
    /// Whether the whole tree was removed in this step, as it is when the file leaves memory.
    evicted: bool,
}

struct Released {
    /// The event in which the kernel tells: "upd" after an insert, "rel" after a removal.
    event: &'static str,
    clusters: u64,
}

impl File {
    fn new(context: &StatusContext) -> Self {
        Self {
            tree: StatusTree::new(context),
            reserved: 0,
            released: None,
            backing: HashMap::new(),
            evicted: false,
        }
    }
}

/// One recorded call: its name, its file and its numbers.
struct Event<'a>(&'a [Value]);

impl<'a> Event<'a> {
    fn name(&self) -> &'a str {
        self.0.first().and_then(Value::as_str).unwrap_or_default()
    }

    fn number(&self, index: usize) -> u64 {
        self.0
            .get(index)
            .and_then(Value::as_u64)
            .unwrap_or_default()
    }

    fn text(&self, index: usize) -> &'a str {
        self.0
            .get(index)
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    /// Whether it has the numbers and the kind that a call of its name needs.
    fn is_whole(&self) -> bool {
        let (numbers, has_kind): (&[usize], _) = match self.name() {
            "ins" | "cache" => (&[1, 2, 3, 4], true),
            "insd" => (&[1, 2, 3, 6, 7], true),
            "rm" | "look" | "resv" | "rel" => (&[1, 2, 3], false),
            "upd" => (&[1, 2, 3, 4], false),
            _ => (&[1], false),
        };
        let is_number = |index: &usize| self.0.get(*index).is_some_and(Value::is_u64);
        let is_kind = matches!(self.text(5), "w" | "u" | "d" | "h");
        numbers.iter().all(is_number) && (is_kind || !has_kind)
    }

    /// Whether every number is one that a recording can have, so that sums of some do not overflow.
    fn is_in_bounds(&self) -> bool {
        let mut numbers = self.0.iter().filter_map(Value::as_u64);
        let run = self.status().disk_block().map_or(0, |_| self.number(3));
        numbers.all(|number| number <= MAX_FILE_BLOCKS) && run <= MAX_RUN
    }

    fn range(&self) -> FileRange {
        FileRange::at(FileBlock(self.number(2)), self.number(3))
    }

    fn status(&self) -> Status {
        status(self.text(5), self.number(4))
    }
}

fn status(kind: &str, disk: u64) -> Status {
    match kind {
        "w" => Status::Written(DiskBlock(disk)),
        "u" => Status::Unwritten(DiskBlock(disk)),
        "d" => Status::Delayed,
        _ => Status::Hole,
    }
}

/// An entry as recordings write it.
fn entry(extent: StatusExtent) -> Value {
    let kind = match extent.status {
        Status::Written(_) => "w",
        Status::Unwritten(_) => "u",
        Status::Delayed => "d",
        Status::Hole => "h",
    };
    let disk = extent.status.disk_block().map_or(0, |block| block.0);
    serde_json::json!([extent.range.start().0, extent.range.len(), disk, kind])
}

impl Replay {
    fn new(head: &str) -> Option<Self> {
        let head: Value = serde_json::from_str(head).ok()?;
        let block_size = head["bs"].as_u64()?;
        let cluster_bytes = head["cl"].as_u64()?;
        let cluster = ClusterRatio::new(cluster_bytes.checked_div(block_size)?).ok()?;
        let context = StatusContext::new(cluster);
        let files = (0..head["nfiles"].as_u64()?)
            .map(|_| File::new(&context))
            .collect();
        let report = Report::default();
        Some(Self {
            context,
            cluster,
            cluster_bytes,
            group_clusters: 8 * block_size,
            files,
            step: 0,
            report,
        })
    }

    fn expect<T: PartialEq + Debug>(&mut self, field: String, expected: T, got: T) {
        if expected != got {
            let (expected, got) = (format!("{expected:?}"), format!("{got:?}"));
            self.report.failures.push(Failure {
                step: self.step,
                field,
                expected,
                got,
            });
        }
    }

    fn step(&mut self, line: &str) {
        let step: Value = serde_json::from_str(line).unwrap_or_default();
        let (Some(number), Some(events)) = (step["i"].as_u64(), step["ev"].as_array()) else {
            // The last line has no step but the state at the end.
            self.expect(format!("line {line:.40}"), true, step.get("end").is_some());
            return;
        };
        self.step = number;
        self.report.steps += 1;
        for event in events {
            self.event(Event(event.as_array().map_or(&[], Vec::as_slice)));
        }
        for file in 0..self.files.len() {
            self.confirm(file, None);
        }
        if step["op"][0] == "remount" {
            for file in self.files.iter_mut().filter(|file| !file.evicted) {
                file.tree = StatusTree::new(&self.context);
                file.reserved = 0;
            }
        }
        self.files.iter_mut().for_each(|file| file.evicted = false);
        if step["r"] == 0 {
            self.shift(&step["op"]);
        }
        self.compare(&step);
    }

    /// Makes one recorded call.
    fn event(&mut self, event: Event<'_>) {
        let number = event.number(1) as usize;
        if !event.is_whole() {
            let fields = Value::from(event.0);
            return self.expect(format!("event {fields}"), "whole", "with fields missing");
        }
        if number >= self.files.len() || !event.is_in_bounds() {
            return self.expect(format!("{} within bounds", event.name()), true, false);
        }
        self.confirm(number, Some(&event));
        match event.name() {
            "ins" => {
                self.back(number, &event);
                let done = self.files[number]
                    .tree
                    .insert(event.range(), event.status());
                self.release(number, "upd", done);
            }
            "rm" => {
                let file = &mut self.files[number];
                file.evicted |= event.range() == FileRange::starting_at(FileBlock(0));
                let done = file.tree.remove(event.range());
                self.release(number, "rel", done);
            }
            "insd" => {
                let (first, last) = (event.number(6) != 0, event.number(7) != 0);
                let done = self.files[number]
                    .tree
                    .insert_delayed(event.range(), first, last);
                self.expect("insd".into(), Ok(()), done);
            }
            "cache" => {
                self.back(number, &event);
                let done = self.files[number].tree.cache(event.range(), event.status());
                self.expect("cache".into(), None, done.err());
            }
            "look" => {
                let block = event.number(2);
                let got = self.files[number].tree.lookup(FileBlock(block)).map(entry);
                let expected = (event.number(3) != 0).then(|| Value::from(&event.0[4..]));
                self.expect(format!("look {block}"), expected, got);
            }
            "resv" => {
                let file = &mut self.files[number];
                file.reserved += event.number(2);
                let got = file.reserved;
                self.expect("resv: reserved after".into(), event.number(3), got);
            }
            "mbf" => self.free(number, event.text(2)),
            // "upd" and "rel" confirm the call before; the others are the allocator's own affair.
            "upd" | "rel" | "mba" | "mbp" => {}
            name => self.expect("event".into(), "one that is known", name),
        }
    }

    /// Notes what a call released.
    fn release(&mut self, file: usize, event: &'static str, done: extent_map::Result<Accounting>) {
        match done {
            Ok(Accounting { released: 0 }) => {}
            Ok(Accounting { released: clusters }) => {
                self.files[file].released = Some(Released { event, clusters });
            }
            Err(error) => self.expect(event.into(), None, Some(error)),
        }
    }

    /// Compares what the call before released with what the kernel says right after it, in `next`.
    fn confirm(&mut self, file: usize, next: Option<&Event<'_>>) {
        let reserved = self.files[file].reserved;
        let got = self.files[file].released.take();
        let told = next.filter(|event| matches!(event.name(), "upd" | "rel"));
        let expected = told.map(|event| (event.name(), event.number(2), event.number(3)));
        let clusters = got.as_ref().map_or(0, |got| got.clusters);
        let got = got.map(|got| (got.event, got.clusters, reserved));
        self.expect(
            "released: (event, clusters, reserved before)".into(),
            expected,
            got,
        );
        self.files[file].reserved = reserved.saturating_sub(clusters);
    }

    /// Remembers which logical clusters the blocks of `event` back.
    fn back(&mut self, file: usize, event: &Event<'_>) {
        let Some(DiskBlock(disk)) = event.status().disk_block() else {
            return;
        };
        let ratio = self.cluster.blocks();
        let (first, end) = self.cluster.clusters_touched(event.range());
        let clusters = (first..end).map(|cluster| (disk / ratio + (cluster - first), cluster));
        self.files[file].backing.extend(clusters);
    }

    /// Follows a collapse or an insert, which moves allocated clusters to other logical ones without a word.
    fn shift(&mut self, op: &Value) {
        let bytes = |index: usize| op[index].as_u64().unwrap_or_default();
        let Some(file) = self.files.get_mut(bytes(1) as usize) else {
            return;
        };
        let (offset, len) = (bytes(3) / self.cluster_bytes, bytes(4) / self.cluster_bytes);
        let logical = file.backing.values_mut();
        match op[2].as_str() {
            Some("collapse") => logical
                .filter(|logical| **logical >= offset + len)
                .for_each(|logical| *logical -= len),
            Some("insert") => logical
                .filter(|logical| **logical >= offset)
                .for_each(|logical| *logical += len),
            _ => {}
        }
    }

    /// Clusters were freed: "extent group/start/length". Those that still have delayed blocks are
    /// reserved again.
    fn free(&mut self, file: usize, text: &str) {
        let numbers: Vec<u32> = text
            .trim_start_matches("extent ")
            .split(['/', ' '])
            .map_while(|number| number.parse().ok())
            .collect();
        let [group, start, len] = numbers[..] else {
            return self.expect("mbf".into(), "extent group/start/length", text);
        };
        let start = self.group_clusters * u64::from(group) + u64::from(start);
        let len = u64::from(len).min(MAX_RUN);
        let file = &mut self.files[file];
        for cluster in start..start + len {
            if let Some(logical) = file.backing.remove(&cluster) {
                file.reserved += u64::from(file.tree.take_pending(logical));
            }
        }
    }

    /// Compares the trees and the reservation after a step.
    fn compare(&mut self, step: &Value) {
        let Some(trees) = step["es"].as_object() else {
            return self.expect("es".into(), "one tree for each file", "none");
        };
        for (number, expected) in trees {
            let Some(file) = number.parse().ok().and_then(|n: usize| self.files.get(n)) else {
                self.expect("file number".into(), true, false);
                continue;
            };
            let extents = file.tree.extents(FileRange::starting_at(FileBlock(0)));
            let got = Value::from_iter(extents.into_iter().map(entry));
            self.expect(format!("es of file {number}"), expected, &got);
        }
        let reserved: u64 = self.files.iter().map(|file| file.reserved).sum();
        let got = Some(reserved * self.cluster.blocks());
        self.expect("da".into(), step["da"].as_u64(), got);
    }
}
