//! Group commit: syncs per second of one thread and of sixteen, each of which writes 4 KiB to a file of its own and
//! syncs it, on a device in memory whose flush takes 2 ms and on one in a temporary file. The rounds alternate; the
//! medians count.
//!
//! ```text
//! cargo bench --bench commit
//! ```

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use extent_map::Result;
use extent_map::device::{BlockDevice, FileDevice, MemoryDevice, OperationKind};
use extent_map::file::{Volume, VolumeOptions};
use extent_map::testing::ignore_lock_order;
use extent_map::units::FileNumber;

#[path = "../tests/common/around.rs"]
#[allow(dead_code, reason = "others use the rest")]
mod around;

use around::Around;

const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_millis(700);
const THREADS: [u64; 2] = [1, 16];

const BYTES: u64 = 256 << 20;

/// A device in memory whose flush takes a while, whatever else the machine does.
fn slow_flush() -> Arc<dyn BlockDevice> {
    let memory = Arc::new(MemoryDevice::new(BYTES));
    Arc::new(Around::new(memory, |operation, carry_out| {
        if operation.kind == OperationKind::Flush {
            thread::sleep(Duration::from_millis(2));
        }
        carry_out()
    }))
}

/// Syncs per second of `threads` threads.
fn syncs(volume: &Volume, threads: u64) -> f64 {
    let start = Instant::now();
    let work = |number| {
        let file = volume.file(FileNumber(number)).expect("a good volume");
        let mut done = 0;
        while start.elapsed() < ROUND {
            file.write_at(done % 256 * 4096, &[done as u8; 4096])
                .expect("space enough");
            file.sync_all().expect("a good device");
            done += 1;
        }
        done
    };
    let done: u64 = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|number| scope.spawn(move || work(number)))
            .collect();
        workers
            .into_iter()
            .map(|worker| worker.join().expect("no panic"))
            .sum()
    });
    done as f64 / start.elapsed().as_secs_f64()
}

/// Prints the rates on `device`.
fn compare(name: &str, device: Arc<dyn BlockDevice>) -> Result<()> {
    let volume = Volume::format_persistent(device, &VolumeOptions::new())?;
    let mut rates = THREADS.map(|_| Vec::new());
    for _ in 0..ROUNDS {
        for (rates, threads) in rates.iter_mut().zip(THREADS) {
            rates.push(syncs(&volume, threads));
        }
    }
    let [one, many] = rates.map(|mut rates| {
        rates.sort_by(f64::total_cmp);
        rates[ROUNDS / 2]
    });
    println!(
        "{name}: {one:.0} syncs/s of 1 thread, {many:.0} of 16: {:.1} times",
        many / one
    );
    Ok(())
}

fn main() -> Result<()> {
    ignore_lock_order();
    compare("flushes of 2 ms", slow_flush())?;
    let folder = tempfile::tempdir_in(".").expect("a folder");
    let image = FileDevice::create(folder.path().join("image"), BYTES)?;
    compare("a file", Arc::new(image))
}
