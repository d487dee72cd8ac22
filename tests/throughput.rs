//! The example `throughput`: what it understands, refuses and notices. What it tells, its traces and whole runs of it
//! have tests of their own.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufReader};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use extent_map::Result;
use extent_map::device::OperationKind::{Write, WriteZeroes};
use extent_map::device::{BlockDevice, MemoryDevice};
use extent_map::file::{Volume, VolumeOptions};
use extent_map::map;
use extent_map::probe::{Mutation, Probe};
use extent_map::units::FileNumber;

#[path = "common/around.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod around;
#[path = "common/parts.rs"]
#[macro_use]
mod parts;

parts! {
    "../examples/throughput/alone.rs" alone,
    "../examples/throughput/content.rs" content,
    "../examples/throughput/contest.rs" contest,
    "../examples/throughput/devices.rs" devices,
    "../examples/throughput/editor.rs" editor,
    "../examples/throughput/interrupt.rs" interrupt,
    "../examples/throughput/latencies.rs" latencies,
    "../examples/throughput/maps.rs" maps,
    "../examples/throughput/memory.rs" memory,
    "../examples/throughput/mix.rs" mix,
    "../examples/throughput/options.rs" options,
    "../examples/throughput/places.rs" places,
    "../examples/throughput/progress.rs" progress,
    "common/random.rs" random,
    "../examples/throughput/replay.rs" replay,
    "../examples/throughput/report.rs" report,
    "../benches/common/spread.rs" spread,
    "../examples/throughput/table.rs" table,
    "../examples/throughput/target.rs" target,
    "../examples/throughput/trace/mod.rs" trace,
    "../examples/throughput/whole.rs" whole,
    "../examples/throughput/worker.rs" worker,
}

use alone::Alone;
use around::Around;
use content::BLOCK;
use contest::{Contestant, Work};
use latencies::Latencies;
use maps::{Extents, Ours, Run};
use mix::{Kind, Mix, NAMED};
use options::{Instead, Options};
use places::{Distribution, Places};
use progress::Progress;
use random::Random;
use report::Report;
use target::{OnSystem, OnVolume, Target};
use trace::Trace;
use worker::{AtWork, Job, SHARED, Worker};

fn parse(arguments: &str) -> Result<Options, Instead> {
    Options::parse(
        ["throughput"]
            .into_iter()
            .chain(arguments.split_whitespace()),
    )
}

#[test]
fn without_arguments_everything_has_a_value() {
    let options = parse("").unwrap();
    let cores = std::thread::available_parallelism().unwrap().get();
    assert_eq!(options.threads[0], 1);
    assert_eq!(options.threads.last(), Some(&(2 * cores)));
    assert!(options.threads.is_sorted_by(|one, next| one < next));
    assert!(options.wants("system") && options.wants("btree") && !options.wants("masstree"));
    assert!(options.time_of_a_part() <= Duration::from_secs(15));
    assert_eq!(parse("--replay x").unwrap().threads, [1]);
}

#[test]
fn what_is_asked_for_is_understood() {
    let options = parse("--threads 4,1,2,4 --opponents all --seconds 3 --dist zipf").unwrap();
    assert_eq!(options.threads, [1, 2, 4]);
    assert!(options.wants("masstree") && options.wants("system"));
    assert_eq!(options.time_of_a_part(), Duration::from_millis(1500));
    assert_eq!(options.distribution, Distribution::Zipf);
    assert!(!parse("--opponents none").unwrap().wants("system"));
    assert!(matches!(parse("--help"), Err(Instead::Help(text)) if text.contains("--replay")));
}

#[test]
fn nonsense_is_refused_in_one_line() {
    for arguments in [
        "--threads 0",
        "--threads many",
        "--threads 1,,2",
        "--mix read=50,write=49",
        "--mix read=50,write=51",
        "--mix read=300",
        "--mix read=50,read=50",
        "--mix read=50,dance=50",
        "--mix read",
        "--mix nothing",
        "--opponents nobody",
        "--opponents all,none",
        "--seconds 0",
        "--seconds nan",
        "--extents 1",
        "--dist normal",
        "--device disk",
        "--device memory --image x",
        "--svg x --json x",
        "--replay x --mix append",
        "--replay x --threads 1,2",
        "more",
    ] {
        match parse(arguments) {
            Err(Instead::Refused(why)) => {
                assert!(!why.is_empty() && !why.contains('\n'), "{arguments}: {why}");
            }
            other => panic!("{arguments}: {other:?}"),
        }
    }
}

#[test]
fn a_path_that_cannot_be_written_is_refused_and_a_look_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let good = parse(&format!(
        "--svg {} --json {}",
        path("a.svg"),
        path("a.json")
    ))
    .unwrap();
    good.check_paths().unwrap();
    let left = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(left, 0, "files in the folder");
    let bad = parse(&format!("--svg {}", path("no/such/folder.svg"))).unwrap();
    let error = bad.check_paths().unwrap_err().to_string();
    assert!(error.contains("folder.svg"), "{error}");
}

#[test]
fn every_mix_has_a_hundred_parts_and_keeps_to_them() {
    for (name, parts) in NAMED {
        let (mix, same): (Mix, Mix) = (name.parse().unwrap(), parts.parse().unwrap());
        let share = |mix: &Mix, kind| (0..100).filter(|number| mix.kind(*number) == kind).count();
        for kind in Kind::ALL {
            assert_eq!(share(&mix, kind), share(&same, kind), "{name}");
            let expected = parts
                .split(',')
                .find_map(|part| part.strip_prefix(kind.name()));
            let expected = expected.map_or("0", |share| share.trim_start_matches('='));
            assert_eq!(share(&mix, kind).to_string(), expected, "{name}, {kind:?}");
        }
    }
}

#[test]
fn places_are_distributed_as_asked() {
    const COUNT: u64 = 1000;
    let chosen = |distribution| {
        let (mut places, mut random) = (Places::new(distribution, 7), Random(1));
        let mut times = vec![0_u64; COUNT as usize];
        (0..100 * COUNT).for_each(|_| times[places.choose(COUNT, &mut random) as usize] += 1);
        times.sort_unstable_by(|one, other| other.cmp(one));
        times
    };
    assert_eq!(chosen(Distribution::Sequential), [100; COUNT as usize]);
    let uniform = chosen(Distribution::Uniform);
    assert!(
        uniform[0] < 150 && uniform[COUNT as usize - 1] > 50,
        "{uniform:?}"
    );
    let zipf = chosen(Distribution::Zipf);
    // Of 1/ln(1001): the best one ln 2, the tenth ln(11/10).
    assert!(
        (9_500..10_600).contains(&zipf[0]) && (1_200..1_600).contains(&zipf[9]),
        "{zipf:?}"
    );
    assert!(zipf.iter().filter(|times| **times > 0).count() > 900);
}

#[test]
fn content_tells_its_place_and_its_write() {
    let mut block = [0; BLOCK];
    content::fill(&mut block, 3, 77, 5);
    assert!(content::is(&block, 3, 77, 5) && content::is_likely(&block, 3, 77, 5));
    assert!(content::belongs(&block, 3, 77));
    for (file, number, generation) in [(3, 77, 4), (3, 77, 0), (3, 78, 5), (4, 77, 5)] {
        assert!(!content::is(&block, file, number, generation));
        assert!(!content::is_likely(&block, file, number, generation));
        let same_place = (file, number) == (3, 77);
        assert_eq!(content::belongs(&block, file, number), same_place);
    }
    for at in [0, 8, 16, BLOCK / 2, BLOCK - 1] {
        block[at] ^= 1;
        assert!(!content::is(&block, 3, 77, 5), "byte {at}");
        block[at] ^= 1;
    }
    content::fill(&mut block, 3, 77, 0);
    assert_eq!(block, [0; BLOCK]);
    assert!(content::belongs(&block, 9, 9), "a hole may be anywhere");
}

/// A small job for so many workers.
fn job(mix: &str, workers: u64) -> Job {
    Job {
        mix: mix.parse().unwrap(),
        distribution: Distribution::Uniform,
        seed: 1,
        workers,
        stripes: 2,
    }
}

const ALL_KINDS: &str =
    "read=30,write=20,append=15,fallocate=5,punch=10,truncate=5,fault=10,sync=5";

/// What a broken target does wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Wrong {
    Nothing,
    LosesWrites,
    LosesFaults,
    WritesElsewhere,
    PunchesNothing,
    PunchesTooMuch,
    TruncatesNothing,
    TruncatesTooMuch,
    ReadsElsewhere,
}

impl Wrong {
    const ALL: [Self; 9] = [
        Self::Nothing,
        Self::LosesWrites,
        Self::LosesFaults,
        Self::WritesElsewhere,
        Self::PunchesNothing,
        Self::PunchesTooMuch,
        Self::TruncatesNothing,
        Self::TruncatesTooMuch,
        Self::ReadsElsewhere,
    ];
}

/// A volume that does something wrong each twentieth time.
struct Broken {
    volume: OnVolume,
    wrong: Wrong,
    calls: AtomicU64,
}

impl Broken {
    fn now(&self, wrong: Wrong) -> bool {
        self.wrong == wrong && self.calls.fetch_add(1, Relaxed) % 20 == 19
    }
}

const SIZE: u64 = BLOCK as u64;

impl Target for Broken {
    fn name(&self) -> &'static str {
        "broken"
    }
    fn reads_whole_pages(&self) -> bool {
        true
    }
    fn size(&self, file: usize) -> io::Result<u64> {
        self.volume.size(file)
    }
    fn read(&self, file: usize, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let aside = if self.now(Wrong::ReadsElsewhere) {
            SIZE
        } else {
            0
        };
        self.volume.read(file, offset ^ aside, buffer)
    }
    fn write(&self, file: usize, offset: u64, data: &[u8]) -> io::Result<()> {
        match () {
            () if self.now(Wrong::LosesWrites) => Ok(()),
            () if self.now(Wrong::WritesElsewhere) => self.volume.write(file, offset ^ SIZE, data),
            () => self.volume.write(file, offset, data),
        }
    }
    fn store(&self, file: usize, offset: u64, data: &[u8]) -> io::Result<()> {
        match self.now(Wrong::LosesFaults) {
            true => Ok(()),
            false => self.volume.store(file, offset, data),
        }
    }
    fn allocate(&self, file: usize, offset: u64, len: u64) -> io::Result<()> {
        self.volume.allocate(file, offset, len)
    }
    fn punch(&self, file: usize, offset: u64, len: u64) -> io::Result<()> {
        match () {
            () if self.now(Wrong::PunchesNothing) => Ok(()),
            () if self.now(Wrong::PunchesTooMuch) => self.volume.punch(file, offset, len + 1),
            () => self.volume.punch(file, offset, len),
        }
    }
    fn truncate(&self, file: usize, size: u64) -> io::Result<()> {
        match () {
            () if self.now(Wrong::TruncatesNothing) => Ok(()),
            // Each time: the next truncation may take away what this one has hurt.
            () if self.wrong == Wrong::TruncatesTooMuch => {
                self.volume.truncate(file, size.saturating_sub(1))?;
                self.volume.truncate(file, size)
            }
            () => self.volume.truncate(file, size),
        }
    }
    fn sync(&self, file: usize) -> io::Result<()> {
        self.volume.sync(file)
    }
    fn settle(&self) -> io::Result<()> {
        self.volume.settle()
    }
}

fn on_volume(job: &Job, options: &VolumeOptions) -> OnVolume {
    let device = MemoryDevice::new(whole::device_bytes(job));
    let volume = Volume::format(Arc::new(device), options).unwrap();
    let target = OnVolume::new(volume, SHARED + job.workers as usize).unwrap();
    let size = job.blocks() * SIZE;
    (0..SHARED).for_each(|file| target.truncate(file, size).unwrap());
    target
}

/// What workers that take turns say in the end.
fn verdict(job: &Job, target: &dyn Target, steps: usize) -> Result<u64, String> {
    let mut workers: Vec<_> = (0..job.workers)
        .map(|number| Worker::new(job, number))
        .collect();
    let mut seen = Latencies::default();
    workers
        .iter_mut()
        .for_each(|worker| worker.lay_out(target).unwrap());
    for step in 0..steps {
        let count = workers.len();
        let worker = &mut workers[step % count];
        AtWork { worker, target }.some(&mut seen).unwrap();
    }
    workers.iter().map(|worker| worker.verify(target)).sum()
}

#[test]
fn workers_notice_whatever_is_wrong_with_what_they_read() {
    let job = job(ALL_KINDS, 3);
    for wrong in Wrong::ALL {
        let target = Broken {
            volume: on_volume(&job, &VolumeOptions::new()),
            wrong,
            calls: AtomicU64::new(0),
        };
        let verdict = verdict(&job, &target, 3000);
        assert_eq!(
            verdict.is_ok(),
            wrong == Wrong::Nothing,
            "{wrong:?}: {verdict:?}"
        );
    }
}

#[test]
fn workers_notice_bytes_that_were_never_written() {
    let job = job("write=40,punch=30,fallocate=30", 1);
    for (mutation, is_right) in [
        (None, true),
        (Some(Mutation::FillUnwrittenFromDevice), false),
    ] {
        let probe = Probe::default().mutations(mutation);
        let target = on_volume(&job, &VolumeOptions::new().probe(probe));
        let mut worker = Worker::new(&job, 0);
        worker.lay_out(&target).unwrap();
        for _ in 0..500 {
            let (worker, target) = (&mut worker, &target);
            AtWork { worker, target }
                .some(&mut Latencies::default())
                .unwrap();
            // What is punched was on the device.
            target.settle().unwrap();
        }
        target.volume.drop_caches().unwrap();
        assert_eq!(worker.verify(&target).is_ok(), is_right);
    }
}

#[test]
fn books_that_are_wrong_are_noticed() {
    for (mutation, is_right) in [(None, true), (Some(Mutation::ForgetDelayed), false)] {
        let probe = Probe::default().mutations(mutation);
        let options = VolumeOptions::new().probe(probe);
        let volume = Volume::format(Arc::new(MemoryDevice::new(1 << 20)), &options).unwrap();
        let file = volume.file(FileNumber(1)).unwrap();
        file.write_at(0, &[1; 3 * BLOCK]).unwrap();
        file.shrink_status(|_| true);
        assert_eq!(whole::accounting(&volume).is_ok(), is_right);
    }
}

/// A device that only says that it writes, while it `lies`.
fn lying(bytes: u64, lies: &Arc<AtomicBool>) -> Arc<dyn BlockDevice> {
    let lies = Arc::clone(lies);
    let device = Arc::new(MemoryDevice::new(bytes));
    Arc::new(Around::new(
        device,
        move |operation, carry_out| match operation.kind {
            Write | WriteZeroes if lies.load(Relaxed) => Ok(()),
            _ => carry_out(),
        },
    ))
}

#[test]
fn what_does_not_survive_closing_and_opening_is_noticed() {
    for lies in [false, true] {
        let job = job(ALL_KINDS, 2);
        let lies_now = Arc::default();
        let device = lying(whole::device_bytes(&job), &lies_now);
        let mut stage = whole::on_volume(&job, Arc::clone(&device)).unwrap();
        lies_now.store(lies, Relaxed);
        let turn = whole::Playing(&mut stage)
            .turn(2, Duration::from_millis(20))
            .unwrap();
        assert!(turn.rate > 0.0);
        let (findings, stats) = stage.end(&device);
        let report = Report {
            findings,
            stats,
            ..Report::default()
        };
        assert_eq!(report.is_right(), !lies, "{:#?}", report.findings);
        let mut text = Vec::new();
        report.print(&mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert_eq!(text.contains("WRONG  "), lies, "{text}");
        assert_eq!(
            report.json()["verified"][0]["right"],
            true,
            "in memory all was right"
        );
    }
}

thread_local! {
    static EDITS: Cell<u64> = const { Cell::new(0) };
}

/// Our map, with an edit in fifty going wrong, or merging nothing.
struct Lossy<const HOW: u8>(Ours);

impl<const HOW: u8> Default for Lossy<HOW> {
    fn default() -> Self {
        let probe = map::probe::Probe::new();
        let probe = match HOW {
            4 => probe.mutation(map::probe::Mutation::LeaveUnmerged),
            _ => probe,
        };
        Self(Ours::with_probe(&map::Reclaimer::new(), probe))
    }
}

impl<const HOW: u8> Extents for Lossy<HOW> {
    const NAME: &'static str = "lossy";

    fn reader(&self) -> impl Fn(u64) -> Option<Run> {
        self.0.reader()
    }

    fn replace(&self, first: u64, last: u64, value: Option<u64>) {
        EDITS.set(EDITS.get() + 1);
        match (HOW, EDITS.get() % 50) {
            (1, 0) => {}
            (2, 0) => self
                .0
                .replace(first, last, value.map(|value| value ^ 1 << 50)),
            (3, 0) => self.0.replace(first, last + 1, value),
            _ => self.0.replace(first, last, value),
        }
    }

    fn fill(&mut self, runs: impl Iterator<Item = Run>) {
        self.0.fill(runs);
    }
}

/// Whether a map is right after a turn, as its editors say.
fn map_is_right<M: Extents + Sync + 'static>() -> bool {
    let mut alone = Alone::<M>::new(&job(ALL_KINDS, 2), 1000);
    let turn = alone.turn(2, Duration::from_millis(30)).unwrap();
    assert!(turn.rate > 0.0 && turn.latencies.count(Kind::Read) > 0);
    assert!(alone.garbage().is_some());
    alone.verify().is_ok()
}

#[test]
fn a_map_that_loses_or_changes_an_edit_is_noticed() {
    assert!(map_is_right::<Ours>());
    assert!(map_is_right::<Lossy<0>>());
    assert!(!map_is_right::<Lossy<1>>());
    assert!(!map_is_right::<Lossy<2>>());
    assert!(!map_is_right::<Lossy<3>>());
    assert!(!map_is_right::<Lossy<4>>());
}

#[test]
fn a_replay_is_checked_against_files_of_the_system() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace");
    let lines =
        "a write 0 100000\na trim 4096 8192\na read 0 9\na write 999999999999 5000\na sync\n?\n";
    std::fs::write(&path, format!("fio version 2 iolog\n{}", lines.repeat(3))).unwrap();
    for lies in [false, true] {
        let device = lying(replay::DEVICE_BYTES, &Arc::new(lies.into()));
        let mut trace = Trace::new(BufReader::new(File::open(&path).unwrap()));
        let mut report = Report::default();
        let place = (&device, folder.path());
        replay::replay(&mut trace, (2, None), place, &Progress::new(), &mut report).unwrap();
        assert_eq!(report.is_right(), !lies, "{:#?}", report.findings);
        assert_eq!(
            report.notes[0],
            "15 operations of a trace: fio iolog, version 2"
        );
        assert!(
            report.notes[1].starts_with("line 7 is malformed: "),
            "{:?}",
            report.notes
        );
        let ours = &report.outcomes[0].entries[0].by_threads[0].latencies;
        let counts =
            [Kind::Read, Kind::Write, Kind::Punch, Kind::Sync].map(|kind| ours.count(kind));
        assert_eq!(counts, [3, 6, 3, 3]);
    }
}

#[test]
fn files_that_differ_in_one_byte_are_not_the_same() {
    const SIZE: u64 = 64 << 20;
    let folder = tempfile::tempdir().unwrap();
    let files = [(); 2].map(|()| OnSystem::new(folder.path(), 1).unwrap());
    for file in &files {
        file.truncate(0, SIZE).unwrap();
    }
    assert!(replay::same(&files[0], &files[1], 1).is_ok());
    files[0].write(0, SIZE - 1, b"x").unwrap();
    let wrong = replay::same(&files[0], &files[1], 1).unwrap_err();
    assert!(wrong.contains(&(SIZE - 1).to_string()), "{wrong}");
    files[1].truncate(0, 5).unwrap();
    assert!(replay::same(&files[0], &files[1], 1).is_err(), "shorter");
}
