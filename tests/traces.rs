//! What the kernel's ext4 answered, step by step, replayed on volumes and on status trees.

#[path = "../examples/replay/blackbox.rs"]
mod blackbox;
#[path = "../examples/replay/mount.rs"]
mod mount;
#[path = "../examples/replay/observation.rs"]
mod observation;
#[path = "common/random.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod random;
#[path = "../examples/replay/recording.rs"]
mod recording;
#[path = "../examples/replay/report.rs"]
mod report;
#[path = "../examples/replay/trace.rs"]
mod trace;
#[path = "../examples/replay/whitebox.rs"]
mod whitebox;

#[cfg(target_os = "linux")]
use std::io::ErrorKind::{InvalidInput, Unsupported};
use std::path::Path;

use extent_map::file::ExtentKind;
use extent_map::testing::{Oracle, Outcome};
use rayon::prelude::*;
use serde_json::{Value, json};

use blackbox::{Device, Settings, hash, returned};
use mount::Store;
use observation::{Observation, without};
use report::Failure;
use trace::{Head, Seen, Trace};

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/traces"))
}

/// Replays every committed recording; all must pass.
fn replay_all(settings: &Settings) {
    replay_blocks_of(0, settings);
}

/// Replays those whose blocks are a multiple of that many bytes.
fn replay_blocks_of(bytes: u64, settings: &Settings) {
    let recordings = recording::find(folder()).unwrap();
    assert!(recordings.len() > 50, "{} recordings", recordings.len());
    recordings.par_iter().for_each(|path| {
        let text = recording::read(path).unwrap();
        let block_size = Trace::parse(&text).unwrap().head.block_size;
        if !block_size.is_multiple_of(bytes.max(1)) {
            println!(
                "not tested, as the disk has larger blocks: {}",
                path.display()
            );
            return;
        }
        let report = recording::replay(&text, settings).unwrap();
        assert_eq!(report.failures, [], "{}", path.display());
        assert_eq!(
            report.steps,
            Trace::parse(&text).unwrap().steps.len() as u64
        );
    });
}

const CHECKED: Settings = Settings {
    device: Device::Memory,
    store: Store::Memory,
    check: true,
    shrink: 0.0,
    seed: 0,
};

#[test]
fn recordings_replay() {
    replay_all(&Settings::default());
}

#[test]
fn recordings_replay_with_every_invariant_kept() {
    replay_all(&CHECKED);
}

#[test]
fn recordings_replay_while_memory_pressure_drops_status_entries() {
    for seed in 0..2 {
        replay_all(&Settings {
            shrink: 0.3,
            seed,
            ..CHECKED
        });
    }
}

#[cfg(unix)]
#[test]
fn recordings_replay_on_a_file_under_memory_pressure() {
    replay_all(&Settings {
        device: Device::File,
        shrink: 0.3,
        ..CHECKED
    });
}

#[test]
fn recordings_replay_on_a_volume_that_is_closed_and_opened_at_each_remount() {
    replay_all(&Settings {
        store: Store::Log,
        ..Settings::default()
    });
}

#[cfg(unix)]
#[test]
fn recordings_replay_on_a_volume_in_a_file_under_memory_pressure_and_checks() {
    replay_all(&Settings {
        device: Device::File,
        store: Store::Log,
        shrink: 0.3,
        ..CHECKED
    });
}

/// Replays with and without a log on a device that not every system has.
#[cfg(target_os = "linux")]
fn replay_past_the_page_cache(device: Device) {
    let alignment = match device.make(1 << 20) {
        Ok((made, _image)) => made.limits().alignment as u64,
        // A filesystem without direct I/O, a kernel without io_uring.
        Err(error) if matches!(error.kind(), InvalidInput | Unsupported) => {
            println!("not tested: {error}");
            return;
        }
        Err(error) => panic!("{error}"),
    };
    for store in [Store::Memory, Store::Log] {
        let settings = Settings {
            device,
            store,
            ..CHECKED
        };
        replay_blocks_of(alignment, &settings);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn recordings_replay_past_the_page_cache() {
    replay_past_the_page_cache(Device::Direct);
}

#[cfg(all(target_os = "linux", feature = "uring"))]
#[test]
fn recordings_replay_by_way_of_an_io_uring() {
    replay_past_the_page_cache(Device::Uring);
}

/// The model that random operations are compared with shows what was recorded.
#[test]
fn the_dense_model_answers_as_recorded() {
    let recordings = recording::find(folder()).unwrap();
    recordings.par_iter().for_each(|path| {
        let text = recording::read(path).unwrap();
        let Trace { head, steps, end } = Trace::parse(&text).unwrap();
        let mut oracle = Oracle::new(head.block_size, head.cluster_blocks, head.delayed).unwrap();
        for step in &steps {
            let place = format!("{} step {}", path.display(), step.number);
            let outcome = oracle.apply(&step.op);
            assert_eq!(returned(&outcome), step.returned, "{place}");
            if let (Some(recorded), Outcome::Bytes(bytes)) = (&step.read, &outcome) {
                assert_eq!(json!(hash(bytes)), *recorded, "{place}");
            }
            if let Some(recorded) = &step.delayed_blocks {
                assert_eq!(json!(oracle.delayed_blocks()), *recorded, "{place}");
            }
            assert_shows(&oracle, &head, &step.seen, &place);
        }
        oracle.apply(&extent_map::testing::Op::Sync);
        assert_shows(&oracle, &head, &end, &format!("{} end", path.display()));
    });
}

/// Compares all that was seen of files, but for free space: the model has no volume around it.
fn assert_shows(oracle: &Oracle, head: &Head, seen: &[Seen], place: &str) {
    for Seen { file, fields } in seen {
        let model = oracle.observe(*file);
        let kinds = model.extents.iter().map(|(range, kind)| match kind {
            ExtentKind::Written => json!([range.start().0, range.len(), "w"]),
            ExtentKind::Unwritten => json!([range.start().0, range.len(), "u"]),
            ExtentKind::Delayed => json!([range.start().0, range.len(), "d"]),
            _ => json!(null),
        });
        for (field, got) in [
            ("sz", json!(model.size)),
            ("h", json!(hash(&model.content))),
            ("fm", kinds.collect()),
            ("da", json!(oracle.delayed_blocks())),
        ] {
            assert_eq!(got, fields[field], "{field} of {place}");
        }
        let unwritten: Vec<_> = model
            .extents
            .iter()
            .filter(|(_, kind)| *kind == ExtentKind::Unwritten)
            .map(|(range, _)| range.start().0 * head.block_size..range.end().0 * head.block_size)
            .collect();
        let recorded = Observation::segments_from(&fields["sk"]).unwrap();
        let comparable = |data| without(data, &unwritten);
        assert_eq!(comparable(&model.data), comparable(&recorded), "{place}");
        let tree = head.cluster_blocks * head.block_size / 512;
        let recorded = fields["b"].as_u64().unwrap();
        let sectors = [model.sectors, model.sectors + tree];
        assert!(sectors.contains(&recorded), "b of {place}");
    }
}

/// The lines of a recording, to be altered.
struct Lines(Vec<Value>);

impl Lines {
    fn of(name: &str) -> Self {
        let text = recording::read(&folder().join(name)).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        Self(lines.collect())
    }

    /// The last step that `wanted` accepts.
    fn last(&mut self, wanted: impl Fn(&Value) -> bool) -> &mut Value {
        self.0.iter_mut().rfind(|line| wanted(line)).unwrap()
    }

    fn text(&self) -> String {
        self.0.iter().map(|line| format!("{line}\n")).collect()
    }

    fn failures(&self) -> Vec<Failure> {
        let report = recording::replay(&self.text(), &Settings::default());
        report.unwrap().failures
    }

    /// Replays with an altered field: exactly that must be noticed.
    fn assert_only(&self, step: u64, field: &str) {
        let found = self.failures();
        let noticed = found.iter().map(|f| (f.step, f.field.as_str()));
        assert_eq!(noticed.collect::<Vec<_>>(), [(step, field)], "{found:?}");
    }
}

const RECORDING: &str = "4k-001.jsonl.gz";

/// A step after which the file has blocks, none of them unwritten.
fn has_no_unwritten(step: &Value) -> bool {
    let extents = step["o"]["0"]["fm"].as_array();
    extents.is_some_and(|all| !all.is_empty() && all.iter().all(|extent| extent[2] != "u"))
}

/// A recorded step with one field of what was seen replaced.
fn with_seen(field: &str, change: impl Fn(&Value) -> Value) -> (Lines, u64) {
    let mut lines = Lines::of(RECORDING);
    let step = lines.last(has_no_unwritten);
    let number = step["i"].as_u64().unwrap();
    let place = &mut step["o"]["0"][field];
    *place = change(place);
    (lines, number)
}

/// A recorded number, a little off.
fn off_by(difference: u64) -> impl Fn(&Value) -> Value {
    move |number| json!(number.as_u64().unwrap() + difference)
}

#[test]
fn every_altered_field_is_noticed_alone() {
    let (first_shorter, hash) = (
        |lists: &Value| {
            let mut lists = lists.clone();
            lists[0][1] = json!(lists[0][1].as_u64().unwrap() - 1);
            lists
        },
        |_: &Value| json!("0123456789abcdef"),
    );
    let altered = [
        ("sz", with_seen("sz", off_by(1))),
        ("h", with_seen("h", hash)),
        ("fm", with_seen("fm", first_shorter)),
        ("sk", with_seen("sk", first_shorter)),
        ("da", with_seen("da", off_by(1))),
        ("fr", with_seen("fr", off_by(1))),
        // One tree block more is ext4's affair; half a one is not.
        ("b", with_seen("b", off_by(4))),
    ];
    for (field, (lines, step)) in altered {
        lines.assert_only(step, &format!("{field} of file 0"));
    }
}

#[test]
fn an_altered_result_is_noticed_alone() {
    for (field, wrong) in [
        ("r", json!(1)),
        ("r", json!("EINVAL")),
        ("x", json!("0123456789abcdef")),
    ] {
        let mut lines = Lines::of(RECORDING);
        let step = lines.last(|line| line["op"][0] == "pread");
        let number = step["i"].as_u64().unwrap();
        step[field] = wrong;
        lines.assert_only(number, field);
    }
}

#[test]
fn a_field_of_an_odd_type_is_noticed_alone() {
    for field in ["sz", "h", "fm", "sk", "da", "fr", "b"] {
        for odd in [json!(null), json!(-1.5), json!([[1]]), json!({"a": []})] {
            let (lines, step) = with_seen(field, |_| odd.clone());
            lines.assert_only(step, &format!("{field} of file 0"));
        }
    }
}

#[test]
fn the_end_is_compared_in_the_cache_and_on_the_device() {
    let mut lines = Lines::of(RECORDING);
    let end = &mut lines.last(|line| line["end"].is_object())["end"]["0"];
    end["h"] = json!("0123456789abcdef");
    let fields: Vec<String> = lines.failures().into_iter().map(|f| f.field).collect();
    assert_eq!(fields, ["h of file 0", "h of file 0 on the device"]);
}

#[test]
fn an_altered_operation_is_noticed() {
    let mut lines = Lines::of(RECORDING);
    let first = lines.0.iter_mut().find(|line| line["op"][0] == "pwrite");
    let seed = &mut first.unwrap()["op"][4];
    *seed = json!(seed.as_u64().unwrap() + 1);
    let failures = lines.failures();
    assert!(!failures.is_empty());
    for failure in failures {
        assert!(failure.field.starts_with(['h', 'x']), "{failure:?}");
    }
}

#[test]
fn calls_out_of_bounds_are_noticed() {
    let head = r#"{"kind":"es","bs":4096,"cl":16384,"nfiles":1}"#;
    for event in [
        json!(["ins", 0, u64::MAX, 1, 1, "w"]),
        json!(["cache", 0, 0, u64::MAX, u64::MAX, "u"]),
        json!(["ins", 0, 0, u32::MAX, 1, "w"]),
        json!(["insd", 0, u32::MAX, u32::MAX, 0, "d", 1, 1]),
        json!(["look", 0, 7, 1]),
        json!(["look", 1, 7, 0]),
        json!(["resv", 0, u64::MAX, u64::MAX]),
        json!(["unknown", 0]),
        json!(["mbf", 0, "extent 4294967295/4294967295"]),
    ] {
        let step = json!({"i": 0, "op": ["syncfs"], "r": 0, "ev": [event], "es": {}, "da": 0});
        let text = format!("{head}\n{step}\n");
        let report = recording::replay(&text, &Settings::default()).unwrap();
        assert!(!report.failures.is_empty(), "{text}");
    }
}

#[test]
fn a_whitebox_recording_without_delayed_allocation_is_known_by_its_configuration() {
    let head = json!({"kind": "es", "cfg": "nodelalloc", "bs": 4096, "cl": 4096, "nfiles": 1});
    let insert = json!(["ins", 0, 0, 1, 100, "w"]);
    let step = json!({
        "i": 0, "op": ["pwrite", 0, 0, 4096, 1], "r": 4096, "ev": [insert],
        "es": {"0": [[0, 1, 100, "w"]]}, "da": 0,
    });
    assert_eq!(Lines(vec![head, step]).failures(), []);
}

#[test]
fn calls_that_are_not_whole_are_noticed_alone() {
    let head = json!({"kind": "es", "bs": 4096, "cl": 4096, "nfiles": 1});
    let failures = |events: Value, trees: Value| {
        let step = json!({"i": 0, "op": ["syncfs"], "r": 0, "ev": events, "es": trees, "da": 0});
        Lines(vec![head.clone(), step]).failures().len()
    };
    for event in [
        json!("look"),
        json!([]),
        json!(["look"]),
        json!(["look", 0, 7]),
        json!(["look", 0, -7, 0]),
        json!(["mba"]),
        json!(["rm", 0, 0.5, 1]),
        json!(["ins", 0, 0, 1, 7, "x"]),
        json!(["cache", 0, 0, 1, 7]),
        json!(["insd", 0, 0, 1, 0, "d", 0]),
        json!(["rel", "0", 0, 1]),
    ] {
        assert_eq!(failures(json!([event]), json!({})), 1, "{event}");
    }
    assert_eq!(failures(json!([]), Value::Null), 1);
    // The kernel removes nothing now and then, and tells.
    assert_eq!(failures(json!([["rm", 0, 7, 0]]), json!({"0": []})), 0);
}

#[test]
fn a_cluster_that_was_moved_or_forgotten_and_then_freed_is_reserved_again_for_the_delayed_block_in_it()
 {
    let head = json!({"kind": "es", "cfg": "big16k", "bs": 4096, "cl": 16384, "nfiles": 1});
    let delayed = |block: u64, in_use: u64| json!(["insd", 0, block, 1, 0, "d", in_use, 0]);
    // The only allocated block is 6, in cluster 1 of the file, and moves by a cluster or stays.
    for (moves, moved_to) in [
        (json!(["falloc", 0, "collapse", 0, 16384]), 2),
        (json!(["falloc", 0, "insert", 0, 16384]), 10),
        (json!(["remount"]), 6),
    ] {
        let forgets = match moves[0] == "remount" {
            true => vec![],
            false => vec![json!(["rm", 0, 0, u32::MAX])],
        };
        let beside = moved_to + 1;
        let bytes = |block: u64| block * 4096;
        let steps = [
            (
                json!(["pwrite", 0, bytes(6), 4096, 1]),
                vec![json!(["resv", 0, 1, 1]), delayed(6, 0)],
                4,
            ),
            (
                json!(["fsync", 0]),
                vec![
                    json!(["ins", 0, 6, 1, 102, "u"]),
                    json!(["upd", 0, 1, 1, 1]),
                    json!(["ins", 0, 6, 1, 102, "w"]),
                ],
                0,
            ),
            (moves.clone(), forgets, 0),
            (
                json!(["pwrite", 0, bytes(beside), 4096, 2]),
                vec![delayed(beside, 1)],
                0,
            ),
            (
                json!(["falloc", 0, "punch", bytes(moved_to), 4096]),
                vec![
                    json!(["rm", 0, moved_to, 1]),
                    json!(["mbf", 0, "extent 0/25/1"]),
                ],
                4,
            ),
        ];
        let steps = (0..).zip(steps).map(|(number, (op, events, da))| {
            let returned = if op[0] == "pwrite" { 4096 } else { 0 };
            json!({"i": number, "op": op, "r": returned, "ev": events, "es": {}, "da": da})
        });
        let lines = Lines([head.clone()].into_iter().chain(steps).collect());
        assert_eq!(lines.failures(), [], "{moves}");
    }
}

#[test]
fn operations_beyond_the_largest_file_size_fail_as_recorded() {
    let mut lines = Lines::of(RECORDING);
    lines.0.truncate(1);
    let nothing_read = json!("ef2a8b78dd80da9c");
    let empty = json!({
        "sz": 0, "b": 0, "fm": [], "sk": [], "da": 0, "fr": lines.0[0]["free0"], "h": nothing_read,
    });
    let (largest, last) = (u64::from(u32::MAX) * 4096, i64::MAX);
    for (op, returned) in [
        (json!(["pwrite", 0, largest, 1, 1]), json!("EFBIG")),
        (json!(["pwrite", 0, last, 0, 1]), json!(0)),
        (json!(["trunc", 0, largest + 1]), json!("EFBIG")),
        (json!(["falloc", 0, "keep", largest, 1]), json!("EFBIG")),
        (json!(["falloc", 0, "collapse", last, last]), json!("EFBIG")),
        (json!(["falloc", 0, "insert", 4096, 4096]), json!("EINVAL")),
        (json!(["falloc", 0, "punch", largest - 1, 1]), json!(0)),
        (json!(["falloc", 0, "alloc", last, 0]), json!("EINVAL")),
        (json!(["pread", 0, last, 4096]), json!(0)),
        (json!(["sfr", 0, largest, 4096]), json!(0)),
    ] {
        let mut step = json!({"i": lines.0.len(), "op": op, "r": returned, "o": {"0": empty}});
        if op[0] == "pread" {
            step["x"] = nothing_read.clone();
        }
        lines.0.push(step);
    }
    let recorded_end = lines.0.len();
    lines.0.push(json!({"end": {"0": empty}}));
    assert_eq!(lines.failures(), []);
    // A file that no recording could have the hash of is not read.
    let too_long =
        json!({"i": recorded_end, "op": ["trunc", 0, largest], "r": 0, "o": {"0": empty}});
    lines.0.insert(recorded_end, too_long);
    let fields: Vec<String> = lines.failures().into_iter().map(|f| f.field).collect();
    assert_eq!(fields, ["file 0"; 3]);
}

#[test]
fn seeking_may_find_unwritten_blocks_to_be_either() {
    let mut lines = Lines::of(RECORDING);
    let only_unwritten = |line: &Value| {
        let seen = &line["o"]["0"];
        let extents = seen["fm"].as_array();
        let all = extents.is_some_and(|all| all.len() == 1 && all[0][2] == "u");
        all && seen["sk"] == json!([])
    };
    let seen = &mut lines.last(only_unwritten)["o"]["0"];
    let start = seen["fm"][0][0].as_u64().unwrap() * 4096;
    seen["sk"] = json!([[start, start + 4096]]);
    assert_eq!(lines.failures(), []);
}

#[test]
fn a_malformed_line_is_named() {
    let head = r#"{"bs":4096,"cl":4096,"opts":"","nfiles":1,"free0":64}"#;
    let step = |op: &str| format!("{head}\n{{\"i\":0,\"op\":{op},\"r\":0,\"o\":{{}}}}\n");
    for (text, expected) in [
        (String::new(), "line 1: not JSON"),
        ("{}".into(), "line 1: no usable bs"),
        (
            head.replace("\"nfiles\":1", "\"nfiles\":9999"),
            "line 1: nfiles out of bounds",
        ),
        (
            head.replace("\"cl\":4096", "\"cl\":6000"),
            "line 1: cl out of bounds",
        ),
        (head.into(), "line 1: the trace ends without an end line"),
        (format!("{head}\n[0"), "line 2: not JSON"),
        (
            format!("{head}\n{{\"end\":{{}}}}\n{{}}"),
            "line 3: a line after the end line",
        ),
        (
            format!("{head}\n{{\"end\":{{\"1\":{{}}}}}}"),
            "line 2: file out of bounds",
        ),
        (step("[]"), "line 2: no usable operation name"),
        (
            step("[\"rename\",0]"),
            "line 2: unknown operation \"rename\"",
        ),
        (step("[\"trunc\",1,0]"), "line 2: file out of bounds"),
        (step("[\"trunc\",0,-1]"), "line 2: no usable size"),
        (step("[\"pread\",0,0,1e99]"), "line 2: no usable length"),
        (
            step("[\"pread\",0,0,18446744073709551615]"),
            "line 2: length out of bounds",
        ),
        (
            step("[\"falloc\",0,\"all\",0,1]"),
            "line 2: no usable fallocate mode",
        ),
        (
            step("[\"syncfs\"]"),
            "line 2: the trace ends without an end line",
        ),
    ] {
        let error = recording::replay(&text, &Settings::default()).unwrap_err();
        assert!(
            error.to_string().starts_with(expected),
            "{error} for {text}"
        );
    }
    let error = trace::text(b"{}\n\xff").unwrap_err();
    assert_eq!(error.to_string(), "line 2: not text");
}
