//! The main job: how much the whole crate does with several threads, and how much its map alone, against others in the
//! same run; whether all they did is right; as a table, a picture and, if you like, a file of all figures.
//!
//! ```text
//! cargo run --release --example throughput -- [--help]
//! ```
//!
//! Exits with 0 if everything is as it should be, 1 if something was wrong or failed, 2 if it does not do what is asked
//! for, 130 if Ctrl-C came before anything was measured.

mod alone;
mod content;
mod contest;
mod devices;
mod editor;
mod header;
mod interrupt;
mod latencies;
mod maps;
mod memory;
mod mix;
mod options;
mod picture;
mod places;
mod progress;
#[path = "../../tests/common/random.rs"]
#[allow(dead_code, reason = "tests use the rest")]
mod random;
mod replay;
mod report;
#[path = "../../benches/common/spread.rs"]
#[allow(dead_code, reason = "benches use the rest")]
mod spread;
mod table;
mod target;
mod trace;
mod whole;
mod worker;

use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use contest::{Contestant, contest};
use extent_map::device::BlockDevice;
use options::{Instead, Options};
use progress::Progress;
use report::Report;
use trace::Trace;
use whole::Playing;
use worker::Job;

/// How the program ends, by what it tells a shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum End {
    Right = 0,
    Wrong = 1,
    Refused = 2,
    Interrupted = interrupt::INTERRUPTED,
}

fn main() -> ExitCode {
    ExitCode::from(answer(env::args_os(), cfg!(debug_assertions)) as u8)
}

/// Does what the arguments of the program ask for, the first of which is its name.
pub(crate) fn answer(
    arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>,
    is_debug_build: bool,
) -> End {
    let refused = |why: String| {
        eprintln!("throughput: {why}");
        End::Refused
    };
    let options = match Options::parse(arguments) {
        Ok(_) if is_debug_build => {
            return refused("a debug build measures nothing: cargo run --release".into());
        }
        Ok(options) => options,
        Err(Instead::Help(text)) => {
            print!("{text}");
            return End::Right;
        }
        Err(Instead::Refused(why)) => return refused(why),
    };
    // The crate is built with its feature `testing` here, and would watch the order of its locks.
    extent_map::testing::ignore_lock_order();
    if let Err(error) = interrupt::listen() {
        return refused(format!("Ctrl-C: {error}"));
    }
    if let Err(why) = options.check_paths() {
        return refused(why.to_string());
    }
    let job = Job::new(&options);
    let mut trace = match options.replay.as_deref().map(open_trace).transpose() {
        Ok(trace) => trace,
        Err(why) => return refused(why),
    };
    let bytes = match trace {
        Some(_) => replay::DEVICE_BYTES,
        None => whole::device_bytes(&job),
    };
    let device = options.device.make(options.image.as_deref(), bytes);
    let (device, folder) = match device {
        Ok(made) => made,
        Err(why) => return refused(why),
    };
    let end = run(&options, &job, trace.as_mut(), (&device, &folder));
    end.unwrap_or_else(|error| {
        eprintln!("throughput: {error}");
        End::Wrong
    })
}

/// The device, and the folder for files of the system beside it.
type Place<'a> = (&'a Arc<dyn BlockDevice>, &'a Path);

/// Opens a trace, of which something must be usable.
fn open_trace(path: &Path) -> Result<Trace<BufReader<File>>, String> {
    let wrong = |what: String| format!("--replay {}: {what}", path.display());
    let file = File::open(path).map_err(|error| wrong(error.to_string()))?;
    let mut trace = Trace::new(BufReader::new(file));
    match trace.is_usable() {
        Ok(true) => Ok(trace),
        Ok(false) => Err(wrong(match trace.complaints().first() {
            Some(first) => format!("no operation in it; {first}"),
            None => "no operation in it".into(),
        })),
        Err(error) => Err(wrong(error.to_string())),
    }
}

/// Measures, checks and tells.
fn run(
    options: &Options,
    job: &Job,
    trace: Option<&mut Trace<BufReader<File>>>,
    place: Place<'_>,
) -> io::Result<End> {
    let mut report = Report {
        header: header::header(options, job),
        ..Report::default()
    };
    report.print_header(io::stdout())?;
    let progress = Progress::new();
    match trace {
        Some(trace) => {
            let how = (options.threads[0], options.time);
            replay::replay(trace, how, place, &progress, &mut report)?;
        }
        None => {
            whole_crate(options, job, place, &progress, &mut report)?;
            if !interrupt::wanted() {
                map_alone(options, job, &progress, &mut report)?;
            }
        }
    }
    progress.end();
    if report.outcomes.is_empty() {
        eprintln!("throughput: interrupted before anything was measured");
        return Ok(End::Interrupted);
    }
    report.interrupted = interrupt::wanted();
    report.print(io::stdout())?;
    fs::write(&options.svg, picture::svg(&report.outcomes))?;
    if let Some(path) = &options.json {
        fs::write(path, format!("{:#}\n", report.json()))?;
    }
    Ok(match report.is_right() {
        true => End::Right,
        false => End::Wrong,
    })
}

fn whole_crate(
    options: &Options,
    job: &Job,
    (device, folder): Place<'_>,
    progress: &Progress,
    report: &mut Report,
) -> io::Result<()> {
    progress.say("Laying files out");
    let mut stage = whole::on_volume(job, Arc::clone(device))?;
    let mut peer = match options.wants("system") {
        true => Some(whole::on_system(job, folder)?),
        false => None,
    };
    if interrupt::wanted() {
        return Ok(());
    }
    let mut contestants: Vec<Box<dyn Contestant>> = vec![Box::new(Playing(&mut stage))];
    if let Some(peer) = &mut peer {
        contestants.push(Box::new(Playing(peer)));
    }
    let (threads, time) = (&options.threads, options.time_of_a_part());
    let outcome = contest("The whole crate", threads, time, &mut contestants, progress)?;
    report.outcomes.push(outcome);
    progress.say_checking();
    for peer in &mut contestants[1..] {
        report.findings.push((peer.name().into(), peer.verify()));
    }
    drop(contestants);
    let (findings, stats) = stage.end(device);
    report.findings.extend(findings);
    report.stats = stats;
    Ok(())
}

fn map_alone(
    options: &Options,
    job: &Job,
    progress: &Progress,
    report: &mut Report,
) -> io::Result<()> {
    progress.say("Filling maps");
    let mut contestants = alone::contestants(job, options.extents, |name| options.wants(name));
    if interrupt::wanted() {
        return Ok(());
    }
    let (threads, time) = (&options.threads, options.time_of_a_part());
    let outcome = contest("The map alone", threads, time, &mut contestants, progress)?;
    report.outcomes.push(outcome);
    progress.say_checking();
    for contestant in &mut contestants {
        let found = contestant.verify();
        report.findings.push((contestant.name().into(), found));
    }
    Ok(())
}
