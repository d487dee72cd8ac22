//! What the command line asks for, or one line that says what is wrong with it.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use clap::Parser;
use clap::error::ErrorKind;

use super::devices::DeviceKind;
use super::mix::Mix;
use super::places::Distribution;

/// The opponents by name: the first one of the whole crate, the others of the map.
pub(crate) const OPPONENTS: [&str; 7] = [
    "system",
    "btree",
    "std-btree",
    "rangemap",
    "skipmap",
    "treeindex",
    "masstree",
];

/// How long is measured if nobody says.
const TIME: Duration = Duration::from_secs(20);

/// Measures the whole crate, and its map alone, with several threads; checks what they did; tells it in a table and a
/// picture.
#[derive(Debug, Parser)]
#[command(name = "throughput")]
struct Arguments {
    /// Numbers of threads [default: powers of two up to twice the cores; of a replay 1]
    #[arg(long, value_name = "N,...", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..=512))]
    threads: Vec<u16>,
    /// lookup95, append, random-write, mixed, truncate-storm, fsync, fault-storm, or a hundred of your own:
    /// read=50,write=30,append=10,fallocate=5,sync=5 (punch, truncate, fault)
    #[arg(long, default_value = "mixed")]
    mix: Mix,
    /// Extents that the map has; the files of the volume have a sixteenth of it together
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1_000..=20_000_000))]
    extents: u64,
    /// Which blocks are used
    #[arg(long = "dist", value_enum, default_value = "uniform")]
    distribution: Distribution,
    /// How long to measure, all in all [default: 20; of a replay, to its end]
    #[arg(long, value_name = "N", value_parser = seconds)]
    seconds: Option<f64>,
    /// What threads do depends on it, when they do it does not
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Where the blocks of the volume live
    #[arg(long, value_enum, default_value = "file")]
    device: DeviceKind,
    /// Keeps the volume in this new file [default: a temporary one]
    #[arg(long, value_name = "PATH")]
    image: Option<PathBuf>,
    /// all, none, or some of system, btree, std-btree, rangemap, skipmap, treeindex, masstree
    #[arg(
        long,
        value_name = "NAME,...",
        value_delimiter = ',',
        default_value = "system,btree,rangemap,skipmap"
    )]
    opponents: Vec<String>,
    /// Does what a trace of fio (iolog, version 2 or 3) or blkparse says, in place of a mix
    #[arg(long, value_name = "TRACE", conflicts_with_all = ["mix", "distribution", "extents", "opponents"])]
    replay: Option<PathBuf>,
    /// Writes all figures to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draws the picture in this file
    #[arg(long, value_name = "FILE", default_value = "throughput.svg")]
    svg: PathBuf,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.5..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("not a number from 0.5 to 86400".into()),
    }
}

/// What is asked for, and makes sense.
#[derive(Debug)]
pub(crate) struct Options {
    /// Rising.
    pub(crate) threads: Vec<usize>,
    pub(crate) mix: Mix,
    pub(crate) extents: u64,
    pub(crate) distribution: Distribution,
    pub(crate) time: Option<Duration>,
    pub(crate) seed: u64,
    pub(crate) device: DeviceKind,
    pub(crate) image: Option<PathBuf>,
    opponents: Vec<String>,
    pub(crate) replay: Option<PathBuf>,
    pub(crate) json: Option<PathBuf>,
    pub(crate) svg: PathBuf,
}

/// Why nothing is measured.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Instead {
    /// Somebody asked for help.
    Help(String),
    /// One line.
    Refused(String),
}

impl Options {
    /// What the arguments of a program ask for; the first one is its name.
    pub(crate) fn parse(
        arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>,
    ) -> Result<Self, Instead> {
        let arguments =
            Arguments::try_parse_from(arguments).map_err(|error| match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                    Instead::Help(error.to_string())
                }
                _ => Instead::Refused(one_line(&error.to_string())),
            })?;
        Self::sensible(arguments).map_err(Instead::Refused)
    }

    fn sensible(arguments: Arguments) -> Result<Self, String> {
        let mut threads: Vec<_> = arguments.threads.into_iter().map(usize::from).collect();
        threads.sort_unstable();
        threads.dedup();
        if threads.is_empty() {
            threads = match arguments.replay {
                Some(_) => vec![1],
                None => default_threads(thread::available_parallelism().map_or(1, usize::from)),
            };
        }
        if arguments.replay.is_some() && threads.len() > 1 {
            return Err("--replay goes with one number of --threads".into());
        }
        if arguments.image.is_some() && arguments.device == DeviceKind::Memory {
            return Err("--image needs a device that is a file, not --device memory".into());
        }
        let files = [
            Some(&arguments.svg),
            arguments.json.as_ref(),
            arguments.image.as_ref(),
            arguments.replay.as_ref(),
        ];
        let files: Vec<&PathBuf> = files.into_iter().flatten().collect();
        for (number, file) in files.iter().enumerate() {
            if files[..number].contains(file) {
                return Err(format!("{} is asked to be two files", file.display()));
            }
        }
        Ok(Self {
            threads,
            mix: arguments.mix,
            extents: arguments.extents,
            distribution: arguments.distribution,
            time: arguments.seconds.map(Duration::from_secs_f64),
            seed: arguments.seed,
            device: arguments.device,
            image: arguments.image,
            opponents: opponents(arguments.opponents)?,
            replay: arguments.replay,
            json: arguments.json,
            svg: arguments.svg,
        })
    }

    /// Whether this opponent takes part.
    pub(crate) fn wants(&self, opponent: &str) -> bool {
        self.opponents.iter().any(|name| name == opponent)
    }

    /// How long the whole crate is measured, and as long the map alone.
    pub(crate) fn time_of_a_part(&self) -> Duration {
        self.time.unwrap_or(TIME) / 2
    }

    /// Refuses now what could not be written after the run.
    pub(crate) fn check_paths(&self) -> io::Result<()> {
        for path in [Some(&self.svg), self.json.as_ref()].into_iter().flatten() {
            let is_new = !path.exists();
            let open = OpenOptions::new().create(true).append(true).open(path);
            let tried = open.and_then(|_| match is_new {
                true => fs::remove_file(path),
                false => Ok(()),
            });
            tried.map_err(|error| {
                io::Error::new(error.kind(), format!("{}: {error}", path.display()))
            })?;
        }
        Ok(())
    }
}

/// Powers of two up to twice the cores, and the number of cores.
fn default_threads(cores: usize) -> Vec<usize> {
    let powers = (0..).map(|power| 1 << power);
    let mut threads: Vec<usize> = powers.take_while(|count| *count < cores).collect();
    threads.extend([cores, 2 * cores]);
    threads
}

fn opponents(names: Vec<String>) -> Result<Vec<String>, String> {
    match names.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["all"] => return Ok(OPPONENTS.map(String::from).into()),
        ["none"] => return Ok(Vec::new()),
        _ => {}
    }
    match names
        .iter()
        .find(|name| !OPPONENTS.contains(&name.as_str()))
    {
        Some(name) => Err(format!(
            "no opponent is called {name:?}: all, none, or some of {}",
            OPPONENTS.join(", ")
        )),
        None => Ok(names),
    }
}

/// What went wrong, without what else could be said.
fn one_line(message: &str) -> String {
    let lines = message.lines().map(str::trim);
    let said = lines.take_while(|line| !line.is_empty());
    let said = said.collect::<Vec<_>>().join(" ");
    said.strip_prefix("error: ").unwrap_or(&said).into()
}
