//! Random direct reads of 4 KiB, 32 under way: an `io_uring` against the direct device and threads that block.
//!
//! `cargo bench --features uring --bench device` prints thousands of reads in a second, wall time, and microseconds of
//! processor time for each: medians of rounds that take turns, with the quartiles of the former. The file of 512 MiB is
//! made where temporary files are, or where `-- --folder` says.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use extent_map::Result;
use extent_map::device::{
    BlockDevice, Buffer, Buffers, Completion, DirectDevice, Request, UringDevice, UringOptions,
};

#[path = "common/numbers.rs"]
#[allow(dead_code, reason = "other benches use the rest")]
mod numbers;

use numbers::Random;

const BLOCK: u64 = 4096;
const BLOCKS: u64 = (512 << 20) / BLOCK;
const DEPTH: u64 = 32;

/// Speed of direct reads.
#[derive(Parser)]
struct Options {
    /// Where the file is made.
    #[arg(long)]
    folder: Option<PathBuf>,
    /// Rounds that take turns.
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    /// Reads in a round.
    #[arg(long, default_value_t = 20_000)]
    reads: u64,
    /// Passed by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let options = Options::parse();
    let folder = match &options.folder {
        Some(folder) => tempfile::tempdir_in(folder),
        None => tempfile::tempdir(),
    };
    let folder = folder.expect("a folder for the file");
    let path = folder.path().join("image");
    let direct = DirectDevice::create(&path, BLOCKS * BLOCK).expect("direct I/O");
    fill(&direct);
    let uring = |registered| {
        let options = UringOptions {
            registered,
            ..UringOptions::default()
        };
        match UringDevice::open(&path, options) {
            Ok(device) => Arc::new(device),
            Err(refused) => {
                println!("nothing to compare: {refused}");
                std::process::exit(0);
            }
        }
    };
    let (registered, plain) = (uring(true), uring(false));
    let reads = options.reads;
    type Subject<'a> = (&'static str, Box<dyn Fn() + 'a>);
    let subjects: [Subject<'_>; 5] = [
        (
            "direct device, 1 thread",
            Box::new(|| block(&direct, 1, reads / 8)),
        ),
        (
            "direct device, 32 threads",
            Box::new(|| block(&direct, DEPTH, reads)),
        ),
        (
            "io_uring, registered memory",
            Box::new(|| chain(&registered, reads)),
        ),
        (
            "io_uring, the reader's memory",
            Box::new(|| chain(&plain, reads)),
        ),
        (
            "io_uring, 32 at once, then wait",
            Box::new(|| waves(&registered, reads)),
        ),
    ];
    let amounts = [reads / 8, reads, reads, reads, reads];
    let mut results: [Vec<(f64, f64)>; 5] = Default::default();
    for _ in 0..options.rounds {
        for (at, (_, work)) in subjects.iter().enumerate() {
            let (start, processor) = (Instant::now(), processor_time());
            work();
            let wall = start.elapsed().as_secs_f64();
            let processor = (processor_time() - processor).as_secs_f64();
            let amount = amounts[at] as f64;
            results[at].push((amount / wall / 1e3, processor / amount * 1e6));
        }
    }
    println!(
        "{:<34}{:>8}  {:>15}{:>10}",
        "", "1000/s", "quartiles", "us each"
    );
    for ((name, _), mut rounds) in subjects.iter().zip(results) {
        rounds.sort_by(|a, b| a.0.total_cmp(&b.0));
        let at = |quarter: usize| rounds[(rounds.len() - 1) * quarter / 4].0;
        let mut processor: Vec<_> = rounds.iter().map(|round| round.1).collect();
        processor.sort_by(f64::total_cmp);
        let (low, high) = (at(1), at(3));
        let middle = processor[processor.len() / 2];
        println!(
            "{name:<34}{:>8.1}  {low:>7.1}{high:>8.1}{middle:>10.1}",
            at(2)
        );
    }
}

/// Processor time of all threads of this process, the kernel's work for them included.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Writes something into every block, so that a read comes from the disk.
fn fill(device: &DirectDevice) {
    let mut data = Buffer::zeroed(1 << 20);
    for (place, byte) in data.iter_mut().enumerate() {
        *byte = (place % 251) as u8;
    }
    for at in (0..BLOCKS * BLOCK).step_by(1 << 20) {
        device.write_at(at, &data).expect("space for the file");
    }
    device.flush().expect("a disk that works");
}

/// Threads that read and wait.
fn block(device: &DirectDevice, threads: u64, reads: u64) {
    let left = AtomicU64::new(reads);
    thread::scope(|scope| {
        for thread in 0..threads {
            let left = &left;
            scope.spawn(move || {
                let mut random = Random::default();
                (0..thread * 100).for_each(|_| _ = random.below(BLOCKS));
                let mut buffer = Buffer::zeroed(BLOCK as usize);
                let more = |left: u64| left.checked_sub(1);
                while left
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
                    .is_ok()
                {
                    let at = random.below(BLOCKS) * BLOCK;
                    device.read_at(at, &mut buffer).expect("a disk that works");
                }
            });
        }
    });
}

/// Each read that ends starts the next one.
struct Chain {
    device: Arc<UringDevice>,
    random: Mutex<Random>,
    left: AtomicU64,
    /// Itself, while it reads.
    itself: Mutex<Option<Arc<Self>>>,
    done: Sender<()>,
}

impl Completion for Chain {
    fn completed(&self, tag: u64, buffers: Buffers, result: Result<()>) {
        result.expect("a disk that works");
        let left = self.left.fetch_sub(1, Ordering::Relaxed);
        if left > DEPTH {
            let at = self.random.lock().unwrap().below(BLOCKS) * BLOCK;
            let itself = self.itself.lock().unwrap().clone().expect("it still reads");
            self.device.start(Request::read(at, buffers, (itself, tag)));
        } else if left == 1 {
            self.done.send(()).expect("somebody waits");
        }
    }
}

fn chain(device: &Arc<UringDevice>, reads: u64) {
    let (done, ended) = channel();
    let chain = Arc::new(Chain {
        device: Arc::clone(device),
        random: Mutex::default(),
        left: AtomicU64::new(reads),
        itself: Mutex::default(),
        done,
    });
    *chain.itself.lock().unwrap() = Some(Arc::clone(&chain));
    let mut first = (0..DEPTH).map(|tag| {
        let at = chain.random.lock().unwrap().below(BLOCKS) * BLOCK;
        let buffer = Buffer::zeroed(BLOCK as usize);
        Request::read(at, buffer.into(), (Arc::clone(&chain) as _, tag))
    });
    device.start_all(&mut first);
    ended.recv().expect("the chain ends");
    *chain.itself.lock().unwrap() = None;
}

/// Hears of the ends of a wave.
struct Wave(Sender<Buffers>);

impl Completion for Wave {
    fn completed(&self, _: u64, buffers: Buffers, result: Result<()>) {
        result.expect("a disk that works");
        self.0.send(buffers).expect("somebody waits");
    }
}

fn waves(device: &UringDevice, reads: u64) {
    let (sender, ended) = channel();
    let wave = Arc::new(Wave(sender));
    let mut random = Random::default();
    let mut memory: Vec<Buffers> = (0..DEPTH)
        .map(|_| Buffer::zeroed(BLOCK as usize).into())
        .collect();
    for _ in 0..reads / DEPTH {
        let mut requests = memory.drain(..).map(|buffers| {
            let at = random.below(BLOCKS) * BLOCK;
            Request::read(at, buffers, (Arc::clone(&wave) as _, 0))
        });
        device.start_all(&mut requests);
        drop(requests);
        memory.extend(ended.iter().take(DEPTH as usize));
    }
}
