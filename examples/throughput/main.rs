//! The main job: how much the whole crate does with several threads, and how much its map alone, against others in the
//! same run; whether all they did is right; as a table, a picture and, if you like, a file of all figures.
//!
//! ```text
//! cargo run --release --example throughput -- [--help]
//! ```
//!
//! Exits with 0 if everything is as it should be, 1 if something was wrong or failed, 2 if nothing was measured.

mod alone;
mod content;
mod contest;
mod devices;
mod header;
mod interrupt;
mod latencies;
mod maps;
mod memory;
mod mix;
mod options;
mod places;
mod progress;
#[path = "../../tests/common/random.rs"]
mod random;
mod spread;
mod table;
mod target;
mod whole;
mod worker;

use std::env;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use contest::{Contestant, contest};
use extent_map::device::BlockDevice;
use options::{Instead, Options};
use progress::Progress;
use whole::{Finding, Playing};
use worker::Job;

/// How long is measured if nobody says.
const TIME: Duration = Duration::from_secs(24);

#[global_allocator]
static ALLOCATOR: memory::Counting = memory::Counting;

fn main() -> ExitCode {
    let refused = |why: String| {
        eprintln!("throughput: {why}");
        ExitCode::from(2)
    };
    let options = match Options::parse(env::args_os()) {
        Ok(_) if cfg!(debug_assertions) => {
            return refused("a debug build measures nothing: cargo run --release".into());
        }
        Ok(options) => options,
        Err(Instead::Help(text)) => {
            print!("{text}");
            return ExitCode::SUCCESS;
        }
        Err(Instead::Refused(why)) => return refused(why),
    };
    // The crate is built with its feature `testing` here, and would watch the order of its locks.
    extent_map::testing::ignore_lock_order();
    if let Err(error) = interrupt::listen() {
        return refused(format!("Ctrl-C: {error}"));
    }
    if let Err(why) = options.check_paths() {
        return refused(why);
    }
    let job = Job::new(&options);
    let device = options
        .device
        .make(options.image.as_deref(), whole::device_bytes(&job));
    let (device, folder) = match device {
        Ok(made) => made,
        Err(why) => return refused(why),
    };
    match run(&options, &job, &device, &folder) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("throughput: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Measures, checks and tells; whether all was right.
fn run(
    options: &Options,
    job: &Job,
    device: &Arc<dyn BlockDevice>,
    folder: &Path,
) -> io::Result<bool> {
    let mut out = io::stdout().lock();
    let header = header::header(options, job);
    for (name, what) in &header {
        writeln!(out, "{name:9} {what}")?;
    }
    out.flush()?;
    let progress = Progress::new();
    let time = options.time.unwrap_or(TIME) / 2;

    let mut stage = whole::on_volume(job, Arc::clone(device))?;
    let mut peer = match options.wants("system") {
        true => Some(whole::on_system(job, folder)?),
        false => None,
    };
    let mut contestants: Vec<Box<dyn Contestant>> = vec![Box::new(Playing(&mut stage))];
    if let Some(peer) = &mut peer {
        contestants.push(Box::new(Playing(peer)));
    }
    let whole = contest(
        "The whole crate",
        &options.threads,
        time,
        &mut contestants,
        &progress,
    )?;
    let mut findings: Vec<Finding> = contestants[1..]
        .iter_mut()
        .map(|contestant| (contestant.name().into(), contestant.verify()))
        .collect();
    drop(contestants);
    drop(peer);
    progress.say("Checking");
    let (ours, stats) = stage.end(device);
    findings.extend(ours);

    progress.say("Filling maps");
    let mut contestants = alone::contestants(job, options.extents, |name| options.wants(name));
    let map = contest(
        "The map alone",
        &options.threads,
        time,
        &mut contestants,
        &progress,
    )?;
    for contestant in &mut contestants {
        findings.push((contestant.name().into(), contestant.verify()));
    }
    progress.end();

    for outcome in [&whole, &map] {
        writeln!(out, "\n{}", table::tables(outcome))?;
    }
    Ok(true)
}
