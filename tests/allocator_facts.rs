//! What is known of ext4's allocator: the facts of its own unit test, and what it chose in the recorded traces. Places
//! are the allocator's business; how well files hang together is compared.

use std::collections::BTreeMap;

use extent_map::Error;
use extent_map::allocator::{AllocRequest, Allocator, FileRequest, FileSpace, Goal};
use extent_map::units::{DiskBlock, DiskRun};
use serde_json::Value;

#[path = "common/random.rs"]
mod random;
#[path = "common/space.rs"]
#[allow(dead_code, reason = "others use the rest")]
mod space;

use random::Random;
use space::{geometry, run};

fn table(json: &str) -> Value {
    serde_json::from_str(json).unwrap()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

// --- the unit test of the kernel ----------------------------------------------------------------------

fn kunit() -> Value {
    table(include_str!("facts/kunit-mballoc.json"))
}

/// A layout of the kernel's test. Its third one has blocks of 64 KiB, which a volume here cannot have: 4 KiB blocks
/// stand in for it.
struct Layout {
    cluster: u64,
    group: u64,
    groups: u64,
    allocator: Allocator,
}

impl Layout {
    fn new(layout: &Value) -> Self {
        let [block_size, cluster, group, groups] =
            ["blocksize", "cluster_blocks", "blocks_per_group", "groups"]
                .map(|name| number(&layout[name]));
        let geometry = geometry(block_size.min(4096), cluster);
        let first = DiskBlock(cluster);
        let allocator = Allocator::new(group * groups, geometry, group / cluster, first);
        Self {
            cluster,
            group,
            groups,
            allocator: allocator.unwrap(),
        }
    }

    /// Takes whatever is free in the groups.
    fn fill(&self, groups: std::ops::Range<u64>) {
        let blocks = groups.start * self.group..groups.end * self.group;
        for block in blocks.step_by(self.cluster as usize) {
            if block > 0 && !self.allocator.is_allocated(DiskBlock(block)) {
                self.allocator.claim(run(block, self.cluster)).unwrap();
            }
        }
    }

    /// `g1:0`, `g0:cluster1`: a block.
    fn block(&self, place: &str) -> u64 {
        let (group, offset) = place[1..].split_once(':').unwrap();
        let offset = match offset.strip_prefix("cluster") {
            Some(cluster) => cluster.parse::<u64>().unwrap() * self.cluster,
            None => offset.parse().unwrap(),
        };
        group.parse::<u64>().unwrap() * self.group + offset
    }
}

#[test]
fn new_blocks_are_found_where_the_kernels_test_expects_them() {
    let facts = kunit();
    for layout in list(&facts["layouts"]) {
        let layout = Layout::new(layout);
        for case in list(&facts["new_blocks"]) {
            match case["before"].as_str() {
                None | Some("group0 cluster0 used") => {}
                Some("g1 full") => layout.fill(1..2),
                Some("g1..g3 full") => layout.fill(1..4),
                Some("all full") => layout.fill(0..layout.groups),
                Some(other) => panic!("unknown: {other}"),
            }
            let goal = DiskBlock(layout.block(case["goal"].as_str().unwrap()));
            let found = layout
                .allocator
                .allocate_direct(AllocRequest::near(goal, 1));
            match (found, case["expect"].as_str().unwrap()) {
                (found, "ENOSPC") => assert_eq!(found.unwrap_err(), Error::NoSpace),
                (found, place) => {
                    let expected = run(layout.block(place), layout.cluster);
                    assert_eq!(found.unwrap().commit(), expected, "{case}");
                }
            }
        }
    }
}

/// The kernel's test marks ranges used and free and compares the index with one made anew; that is what a check does.
#[test]
fn the_index_of_a_group_is_what_its_bitmap_says_after_each_step() {
    let facts = kunit();
    assert!(
        facts["buddy"]
            .as_str()
            .unwrap()
            .starts_with("8 random ranges, one per eighth")
    );
    for layout in list(&facts["layouts"]) {
        let layout = Layout::new(layout);
        let eighth = layout.group / 8;
        let clusters = eighth / layout.cluster;
        let mut random = Random(layout.cluster * 31 + layout.group);
        let ranges: Vec<DiskRun> = (0..8)
            .map(|part| {
                let start = random.below(clusters);
                let len = 1 + random.below(clusters - start);
                run(
                    layout.group + part * eighth + start * layout.cluster,
                    len * layout.cluster,
                )
            })
            .collect();
        let check = || assert_eq!(layout.allocator.check(), Ok(()));
        for range in &ranges {
            layout.allocator.claim(*range).unwrap();
            check();
        }
        for range in ranges {
            layout.allocator.free(range).unwrap();
            check();
        }
    }
}

// --- what ext4 chose -----------------------------------------------------------------------------------

/// Where each cluster of each file lives.
#[derive(Default)]
struct Mapping(BTreeMap<(u64, u64), u64>);

impl Mapping {
    fn insert(&mut self, file: u64, at: u64, place: u64, clusters: u64) {
        for offset in 0..clusters {
            self.0.insert((file, at + offset), place + offset);
        }
    }

    /// How often a cluster does not lie behind the one before it in its file.
    fn breaks(&self) -> usize {
        let broken = |((file, at), place): &(&(u64, u64), &u64)| {
            let before = at.checked_sub(1).and_then(|at| self.0.get(&(*file, at)));
            before.is_some_and(|before| before + 1 != **place)
        };
        self.0.iter().filter(broken).count()
    }
}

/// Does what ext4 was asked to do in a recording; how many breaks its files had after all steps together, and how many
/// they have here.
fn replay(recording: &Value) -> (usize, usize) {
    let ratio = number(&recording["cluster_bytes"]) / 1024;
    let allocator =
        Allocator::new((1 << 17) * ratio, geometry(1024, ratio), 8192, DiskBlock(1)).unwrap();
    let files = [0, 1, 2, 3].map(FileSpace::new);
    let (mut theirs, mut ours) = (Mapping::default(), Mapping::default());
    let mut breaks = (0, 0);
    for event in list(&recording["events"]) {
        let file = number(&event[1]);
        match event[0].as_str().unwrap() {
            "take" => {
                let [at, clusters, place] = [2, 3, 4].map(|field| number(&event[field]));
                theirs.insert(file, at, place, clusters);
                take(
                    &allocator,
                    &files[file as usize],
                    &mut ours,
                    (file, at, clusters),
                );
            }
            _ => {
                let [place, clusters] = [2, 3].map(|field| number(&event[field]));
                let freed = |at: &u64| (place..place + clusters).contains(at);
                let keys: Vec<_> = theirs
                    .0
                    .iter()
                    .filter(|(_, at)| freed(at))
                    .map(|(key, _)| *key)
                    .collect();
                theirs.0.retain(|_, at| !freed(at));
                allocator.end_windows(&files[file as usize]);
                for key in keys {
                    let here = ours.0.remove(&key).unwrap();
                    allocator.free(run(here * ratio, ratio)).unwrap();
                }
            }
        }
        assert_eq!(allocator.check(), Ok(()));
        breaks.0 += theirs.breaks();
        breaks.1 += ours.breaks();
    }
    breaks
}

/// Takes `clusters` clusters of a file from `at` on, as the layer above does.
fn take(allocator: &Allocator, space: &FileSpace, mapping: &mut Mapping, what: (u64, u64, u64)) {
    let ratio = allocator.geometry().cluster.blocks();
    let (file, mut at, mut clusters) = what;
    let end = at + clusters;
    let size = mapping
        .0
        .range((file, 0)..(file + 1, 0))
        .next_back()
        .map_or(0, |((_, at), _)| at + 1);
    while clusters > 0 {
        let before = mapping.0.range((file, 0)..(file, at)).next_back();
        let goal =
            before.map(|((_, last), place)| Goal::From(DiskBlock((place + at - last) * ratio)));
        let behind = mapping.0.range((file, at)..(file + 1, 0)).next();
        let request = FileRequest::at(at, clusters)
            .room(behind.map_or(u64::MAX, |((_, next), _)| next - at))
            .file_clusters(size.max(end))
            .goal(goal);
        let mut promise = allocator.reserve(clusters).unwrap();
        let allocation = allocator
            .allocate_for(space, request, &mut promise)
            .unwrap();
        let got = allocation.clusters();
        mapping.insert(file, at, allocation.commit().start.0 / ratio, got);
        (at, clusters) = (at + got, clusters - got);
    }
}

#[test]
fn files_hang_together_at_least_as_well_as_in_the_recordings() {
    let facts = table(include_str!("facts/ext4-allocations.json"));
    let mut total = (0, 0);
    for recording in list(&facts["recordings"]) {
        let (theirs, ours) = replay(recording);
        println!(
            "{}: {theirs} breaks in ext4, {ours} here",
            recording["trace"]
        );
        total = (total.0 + theirs, total.1 + ours);
    }
    println!("{total:?}");
    assert!(total.0 > 0, "the recordings show nothing");
    assert!(
        total.1 <= total.0,
        "ext4's files had {} breaks, these {}",
        total.0,
        total.1
    );
}
