//! The allocator alone: first a promise of space, later a place. Promises are exact, and each is kept.
//!
//! `cargo run --release --example allocator`

use std::iter::from_fn;
use std::thread;

use extent_map::allocator::{AllocRequest, Allocator, FileRequest, FileSpace, Goal};
use extent_map::units::{DiskBlock, DiskRun, Geometry};
use extent_map::{Error, Result};

/// A file that grows a block at a time, behind what it has.
fn grow(
    allocator: &Allocator,
    space: &mut FileSpace,
    runs: &mut Vec<DiskRun>,
    at: u64,
) -> Result<()> {
    let goal = runs.last().map(|run| Goal::From(run.end()));
    let request = FileRequest::at(at, 1).goal(goal);
    let run = allocator.allocate_direct_for(space, request)?.commit();
    match runs.last_mut() {
        Some(last) if last.end() == run.start => last.len += run.len,
        _ => runs.push(run),
    }
    Ok(())
}

fn main() -> Result<()> {
    let geometry = Geometry::new(4096, 1)?;
    let allocator = Allocator::new(1 << 16, geometry, 8_192, DiskBlock(64))?;
    let total = allocator.space().total();

    let mut promise = allocator.reserve(1_000)?;
    let too_much = allocator.reserve(total - 999).map(drop);
    println!("1000 of {total} are promised; all but 999 more: {too_much:?}");
    assert_eq!(too_much, Err(Error::NoSpace));
    drop(allocator.reserve(total - 1_000)?); // what is available is never refused

    let near = AllocRequest::near(DiskBlock(5_000), 600);
    let run = allocator.allocate(near, &mut promise)?.commit();
    println!("600 near block 5000: {run:?}");
    assert_eq!((run.start, promise.clusters()), (DiskBlock(5_000), 400));
    drop(promise); // gives the rest back
    allocator.free(run)?;
    println!("freed twice: {:?}", allocator.free(run));

    let mut files = [1, 2].map(FileSpace::new);
    let mut runs = [Vec::new(), Vec::new()];
    for at in 0..1_000 {
        let mut both = files.iter_mut().zip(&mut runs);
        both.try_for_each(|(space, runs)| grow(&allocator, space, runs, at))?;
    }
    println!("two files of 1000 blocks, written in turns: {runs:?}");
    assert!(runs.iter().all(|runs| runs.len() < 6)); // windows keep them apart

    let take = || allocator.allocate_direct(AllocRequest::anywhere(7)).ok();
    let take_all = || from_fn(take).map(|run| run.commit().len).sum::<u64>();
    let taken = thread::scope(|scope| {
        let others = [(); 3].map(|()| scope.spawn(take_all));
        take_all()
            + others
                .map(|other| other.join().unwrap_or(0))
                .iter()
                .sum::<u64>()
    });
    let left = allocator.space().available();
    println!("four threads took the other {taken}, but for {left}");
    assert!(taken + left == total - 2_000 && left < 7);
    allocator.check()
}
