//! The race this crate is built around, step by step: a page fault beside `fallocate`, without and with the second look.
//!
//! ```text
//! cargo run --release --example race [-- --stress N]
//! ```

use std::process::ExitCode;
use std::sync::{Arc, Barrier, Mutex};
use std::thread;

use clap::Parser;
use extent_map::device::MemoryDevice;
use extent_map::file::{AllocateMode, File, Volume, VolumeOptions};
use extent_map::probe::{Mutation, Probe};
use extent_map::testing::{self, Story};
use extent_map::units::FileNumber;

const PAGE: u64 = 4096;

/// Shows how a page fault beside `fallocate` loses a reservation where nobody looks twice.
#[derive(Debug, Parser)]
struct Arguments {
    /// Also lets the two threads race N times without steering them, and counts how often chance finds the bug
    #[arg(long, value_name = "N", default_value_t = 0)]
    stress: u64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    println!(
        "A file of one page, which is a hole. One thread stores to it through a mapping, another one"
    );
    println!(
        "allocates it. The page fault holds the folio lock and no inode lock, fallocate the inode lock"
    );
    println!("and no folio lock: nothing keeps them apart until one of them has the data lock.\n");
    println!("WITHOUT THE SECOND LOOK, as ext4 was until May 2024\n");
    let leaked = tell(&[Mutation::SkipSecondLook]);
    println!("\nWITH THE SECOND LOOK\n");
    let kept = tell(&[]);
    if arguments.stress > 0 {
        let found = (0..arguments.stress).filter(|_| race_unsteered()).count();
        println!(
            "\nBY CHANCE: {found} of {} unsteered races lost a reservation",
            arguments.stress
        );
    }
    match (leaked, kept) {
        (1, 0) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// A volume whose file 1 is a hole of one page.
fn one_hole(probe: Probe) -> (Volume, File) {
    let device = Arc::new(MemoryDevice::new(1 << 20));
    let options = VolumeOptions::new().probe(probe);
    let volume = Volume::format(device, &options).expect("the options are good");
    let file = volume.file(FileNumber(1)).expect("a new file");
    file.set_len(PAGE).expect("there is room for a hole");
    (volume, file)
}

/// Lets a thread allocate the page between the two looks of the page fault, and tells what came of it. Returns how
/// many blocks stay promised for ever.
fn tell(mutations: &[Mutation]) -> u64 {
    let story = Story::new();
    let raced: Arc<Mutex<Option<File>>> = Arc::default();
    let fallocate = {
        let (story, raced) = (story.clone(), Arc::clone(&raced));
        move |_, _| {
            let first = raced.lock().expect("nobody panics").take();
            let Some(file) = first else { return };
            let allocate = || file.allocate(AllocateMode::Allocate, 0, PAGE);
            thread::scope(|scope| {
                scope.spawn(|| story.thread("fallocate", allocate).expect("there is space"));
            });
        }
    };
    let probe = Probe::new()
        .mutations(mutations.iter().copied())
        .between_looks(fallocate);
    let (volume, file) = one_hole(probe);
    *raced.lock().expect("nobody panics") = Some(file.clone());
    let outcome = story.thread("page fault", || file.page_fault(0));
    println!("{story}\n");
    println!("page fault: {outcome:?}");
    for extent in file.extents().expect("they are in memory") {
        println!("the page is now {:?}", extent.kind);
    }
    match testing::check(&volume) {
        Ok(()) => println!("invariants: all hold"),
        Err(violations) => violations
            .iter()
            .for_each(|violation| println!("violated: {violation}")),
    }
    println!(
        "sync: {:?}",
        file.sync_all().map_err(|error| error.to_string())
    );
    let blocks = file.reserved_blocks();
    println!("after the sync {blocks} blocks are promised to the file");
    blocks
}

/// The same threads, started at once and left alone; whether a reservation was lost.
fn race_unsteered() -> bool {
    let (_volume, file) = one_hole(Probe::new().mutations([Mutation::SkipSecondLook]));
    let start = Barrier::new(2);
    thread::scope(|scope| {
        scope.spawn(|| {
            start.wait();
            file.page_fault(0)
        });
        start.wait();
        file.allocate(AllocateMode::Allocate, 0, PAGE)
            .expect("there is space");
    });
    // With nothing lost, all that was promised is used up by a sync.
    file.sync_all().is_err() || file.reserved_blocks() > 0
}
