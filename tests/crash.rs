//! Power cuts: whatever a device may hold after one opens, passes the check, and has what the last sync promised.
//! `examples/crash` does the same for as long as one likes.

#[path = "../examples/replay/blackbox.rs"]
#[allow(dead_code, reason = "replay uses the rest")]
mod blackbox;
#[path = "../examples/crash/history.rs"]
mod history;
#[path = "../examples/crash/judge.rs"]
mod judge;
#[path = "../examples/replay/mount.rs"]
#[allow(dead_code, reason = "replay uses the rest")]
mod mount;
#[path = "../examples/replay/observation.rs"]
#[allow(dead_code, reason = "replay uses the rest")]
mod observation;
#[path = "common/random.rs"]
#[allow(dead_code, reason = "others use the rest")]
mod random;
#[path = "../examples/replay/recording.rs"]
#[allow(dead_code, reason = "replay uses the rest")]
mod recording;
#[path = "../examples/replay/report.rs"]
#[allow(dead_code, reason = "replay uses the rest")]
mod report;
#[path = "../examples/crash/run.rs"]
mod run;
#[path = "../examples/replay/trace.rs"]
#[allow(dead_code, reason = "replay uses the rest")]
mod trace;
#[path = "../examples/replay/whitebox.rs"]
#[allow(dead_code, reason = "replay uses the rest")]
mod whitebox;
#[path = "../examples/crash/workload.rs"]
mod workload;

use std::env;
use std::panic::catch_unwind;
use std::path::Path;
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use extent_map::file::{Volume, VolumeOptions};
use extent_map::probe::{Moment, Mutation, Probe};
use extent_map::testing::{FileOp, Op};
use rayon::prelude::*;

use history::History;
use run::{Mishaps, Run};

/// At every moment.
fn judge(run: &Run, random: u64, seed: u64) -> Result<u64, String> {
    judge::judge(run, random, seed, u64::MAX)
}

#[test]
fn every_tenth_trace_and_random_runs_survive_a_power_cut_at_every_moment() {
    let traces = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/traces");
    let traces = recording::find(&traces).unwrap();
    let of_traces = traces.par_iter().step_by(10).map(|path| {
        let run = workload::recorded(path, |options| options).unwrap();
        judge(&run, 1, 0).unwrap_or_else(|wrong| panic!("{}: {wrong}", path.display()))
    });
    let of_runs = (0..48u64).into_par_iter().map(|seed| {
        let run = match seed % 2 {
            0 => workload::random(seed, 30, |options| options, Mishaps::default()),
            _ => workload::concurrent(seed, 10, |options| options, Mishaps::default()),
        };
        judge(&run.unwrap(), 1, seed).unwrap_or_else(|wrong| panic!("run {seed}: {wrong}"))
    });
    let states: u64 = of_traces.sum::<u64>() + of_runs.sum::<u64>();
    assert!(states >= 2000, "{states} states");
}

#[test]
fn what_kills_and_power_cuts_one_after_the_other_leave_is_what_the_last_sync_promised_or_later() {
    let states = (0..36u64).into_par_iter().map(|seed| {
        let mishaps = Mishaps {
            killed: (seed % 3 > 0).then_some(seed * 7 % 60),
            ..Mishaps::default()
        };
        let run = match seed % 2 {
            0 => workload::random(seed, 40, |options| options, mishaps),
            _ => workload::after_power_cuts(seed, 20, |options| options, mishaps),
        };
        judge(&run.unwrap(), 1, seed).unwrap_or_else(|wrong| panic!("run {seed}: {wrong}"))
    });
    let states: u64 = states.sum();
    assert!(states >= 2000, "{states} states");
}

/// `EXTENT_MAP_ERROR_WORKLOADS` is how many workloads there are; the device fails once at each operation of each of them.
#[test]
fn an_error_at_any_operation_of_the_device_is_told_and_what_is_left_survives_a_power_cut() {
    let wanted = env::var("EXTENT_MAP_ERROR_WORKLOADS");
    let workloads: u64 = wanted.map_or(12, |number| number.parse().expect("a number"));
    let run = |seed, fault| {
        let mishaps = Mishaps {
            fault,
            ..Mishaps::default()
        };
        workload::random(seed, 25, |options| options, mishaps).unwrap()
    };
    let errors = (0..workloads).into_par_iter().flat_map(|seed| {
        let operations = run(seed, None).recording.operations().len() as u64;
        (0..operations)
            .into_par_iter()
            .map(move |fault| (seed, fault))
    });
    let injected = errors.map(|(seed, fault)| {
        let run = run(seed, Some(fault));
        let failed = run.recording.operations().iter();
        let failed = failed.filter(|one| one.ended.is_some_and(|end| !end.ok));
        assert_eq!(failed.count(), 1, "run {seed}, fault {fault}");
        let judged = judge(&run, 0, fault);
        judged.unwrap_or_else(|wrong| panic!("run {seed}, fault {fault}: {wrong}"))
    });
    let (errors, states) = injected
        .map(|states| (1, states))
        .reduce(|| (0, 0), |one, other| (one.0 + other.0, one.1 + other.1));
    println!("{errors} errors in {workloads} workloads, {states} states after them");
}

#[test]
fn what_several_threads_were_promised_beside_an_error_or_before_they_are_killed_survives_a_power_cut()
 {
    let runs = (0..200u64).into_par_iter().map(|number| {
        let nth = Some(number / 2 % 100);
        let mishaps = Mishaps {
            fault: nth.filter(|_| number % 2 == 0),
            killed: nth.filter(|_| number % 2 == 1),
        };
        let run = workload::concurrent(number, 15, |options| options, mishaps).unwrap();
        judge(&run, 1, number).unwrap_or_else(|wrong| panic!("run {number}: {wrong}"))
    });
    let states: u64 = runs.sum();
    assert!(states >= 2000, "{states} states");
}

#[test]
fn a_log_that_goes_on_behind_a_failed_commit_is_noticed() {
    let broken =
        |options: VolumeOptions| options.probe(Probe::new().mutations([Mutation::AppendInDoubt]));
    let found = (0..200).find_map(|n| {
        let mishaps = Mishaps {
            fault: Some(3 * (n % 40)),
            ..Mishaps::default()
        };
        let judged = catch_unwind(|| {
            let run = workload::random(n / 40, 60, broken, mishaps);
            run.and_then(|run| judge(&run, 1, n)).err()
        });
        // A volume may also say that it contradicts itself, which none should have to: the run asserts that.
        judged.unwrap_or_else(|_| Some("an answer that cannot be".into()))
    });
    println!("{}", found.expect("nothing was noticed"));
}

/// Asserts that random runs on volumes without a protection leave what must not be, and says what.
fn assert_noticed(mutation: Mutation) {
    let broken = |options: VolumeOptions| options.probe(Probe::new().mutations([mutation]));
    let found = (0..200).find_map(|seed| {
        let run = workload::random(seed, 60, broken, Mishaps::default());
        let judged = run.and_then(|run| judge(&run, 3, seed));
        judged.err().map(|wrong| format!("run {seed}: {wrong}"))
    });
    println!("{}", found.expect("nothing was noticed"));
}

#[test]
fn a_commit_that_does_not_wait_for_the_device_is_noticed() {
    assert_noticed(Mutation::CommitWithoutFlush);
}

#[test]
fn a_caller_that_takes_an_earlier_commit_for_its_own_is_noticed() {
    assert_noticed(Mutation::JoinCommitUnderWay);
}

#[test]
fn a_mapping_that_is_durable_before_its_data_is_noticed() {
    assert_noticed(Mutation::LogBeforeData);
}

#[test]
fn blocks_that_are_used_again_before_their_free_is_durable_are_noticed() {
    assert_noticed(Mutation::ReuseBeforeDurable);
}

#[test]
fn a_torn_transaction_that_is_replayed_is_noticed() {
    assert_noticed(Mutation::AcceptTornTransaction);
}

#[test]
fn blocks_that_are_written_in_their_new_place_before_the_move_is_durable_are_noticed() {
    assert_noticed(Mutation::MoveWithoutCommit);
}

/// A file inside the mapping store is synced, then it grows out of it, then another file is synced.
fn outgrown_beside_a_sync(probe: Probe) -> Result<u64, String> {
    let write = |file, offset, len, seed| Op::File(file, FileOp::Write { offset, len, seed });
    let ops = [
        write(0, 0, 100, 1),
        Op::File(0, FileOp::SyncAll),
        write(0, 90, 1000, 2),
        write(1, 0, 5000, 3),
        Op::File(1, FileOp::SyncAll),
    ];
    let options = VolumeOptions::new().inline_limit(200).probe(probe);
    let run = run::in_turn(1 << 20, options, 2, ops, Mishaps::default());
    judge(&run.unwrap(), 1, 0)
}

#[test]
fn bytes_that_leave_the_store_for_blocks_are_written_before_that_is_durable() {
    outgrown_beside_a_sync(Probe::new()).unwrap();
    let broken = Probe::new().mutations([Mutation::LeaveInlineUnwritten]);
    let wrong = outgrown_beside_a_sync(broken).expect_err("nothing was noticed");
    println!("{wrong}");
}

/// A truncation of a synced file, between whose changes another file is synced, with the power cut at every moment.
fn truncated_beside_a_sync(probe: Probe) -> Result<u64, String> {
    let (sync, wanted) = mpsc::channel::<mpsc::Sender<()>>();
    let sync = Mutex::new(sync);
    let probe = probe.at(Moment::Truncated, move || {
        let (done, synced) = mpsc::channel();
        sync.lock().unwrap().send(done).unwrap();
        // It must wait for the truncation; where it does not, the truncation waits for it.
        let _ = synced.recv_timeout(Duration::from_millis(300));
    });
    let options = VolumeOptions::new().probe(probe);
    let scripts = vec![vec![
        FileOp::Write {
            offset: 0,
            len: 9000,
            seed: 1,
        },
        FileOp::SyncAll,
        FileOp::SetLen(0),
        FileOp::SyncAll,
    ]];
    let beside = move |volume: &Volume| {
        if let Ok(done) = wanted.recv() {
            volume.sync().unwrap();
            let _ = done.send(());
        }
    };
    let run = run::at_once_beside(1 << 20, options, scripts, Mishaps::default(), beside).unwrap();
    judge(&run, 1, 0)
}

#[test]
fn a_truncation_and_the_new_size_are_there_together_or_not_at_all() {
    truncated_beside_a_sync(Probe::new()).unwrap();
    let broken = Probe::new().mutations([Mutation::CommitInBetween]);
    let wrong = truncated_beside_a_sync(broken).expect_err("nothing was noticed");
    println!("{wrong}");
}

#[test]
fn a_history_tells_what_may_be_there_and_what_may_not() {
    let mut history = History::new();
    history.changed(10, vec![1; 1024]);
    history.synced(20);
    history.changed(30, vec![2; 2048]);
    let not = |moment, content: &[u8]| history.contradicts(moment, content).is_some();
    // Before the sync returned: nothing, all of it, or a part.
    assert!(!not(15, &[]) && !not(15, &[1; 1024]) && !not(15, &[0; 512]));
    assert!(not(15, &[2; 1024]), "what comes only later");
    // After it, and before the next operation.
    assert!(!not(25, &[1; 1024]));
    assert!(not(25, &[]) && not(25, &[0; 1024]) && not(25, &[1; 1023]));
    // While the next one may have arrived in part; sectors are whole.
    let mut half = vec![1; 1024];
    half[512..].fill(2);
    assert!(!not(35, &half) && !not(35, &[1; 1024]) && !not(35, &[2; 2048]));
    half[511] = 2;
    assert!(not(35, &half) && not(35, &[3; 1024]) && not(35, &[2; 4096]));
    // A file that shrinks keeps its bytes or its end moves, at least beyond the page of the new end.
    history.changed(40, vec![2; 8192]);
    history.synced(50);
    history.changed(60, Vec::new());
    let not = |content: &[u8]| history.contradicts(70, content).is_some();
    assert!(!not(&[]) && !not(&[2; 8192]) && not(&[0; 8192]));
    // Once it has heard of an error: whatever it ever had, or zeros, but of nobody else's bytes. Before, as always.
    history.failed(80);
    history.changed(80, vec![4; 512]);
    assert!(history.contradicts(70, &[0; 8192]).is_some());
    let not = |content: &[u8]| history.contradicts(90, content).is_some();
    assert!(!not(&[1; 1024]) && !not(&[0; 8192]) && !not(&[4; 512]));
    assert!(not(&[3; 1024]) && not(&[2; 8193]));
}
