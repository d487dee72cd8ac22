//! The traces that the example `throughput` replays: fio's iologs and the text of `blkparse`.

use std::fmt::Write;
use std::io::{self, BufRead, BufReader, Read};

use proptest::prelude::*;

#[path = "../examples/throughput/trace/mod.rs"]
mod trace;

use trace::{Action, Operation, Trace};

/// All operations of a text, and what is said about its malformed lines.
fn read(text: impl AsRef<[u8]>) -> (Vec<Operation>, Vec<String>) {
    let mut trace = Trace::new(text.as_ref());
    let operations = std::iter::from_fn(|| trace.next().unwrap()).collect();
    (operations, trace.complaints())
}

fn operation(file: usize, action: Action, offset: u64, len: u64) -> Operation {
    Operation {
        file,
        action,
        offset,
        len,
    }
}

fn sync(file: usize) -> Operation {
    operation(file, Action::Sync, 0, 0)
}

#[test]
fn an_iolog_of_version_2_is_read() {
    let (operations, complaints) = read(
        "fio version 2 iolog\n\
         a add\na open\na read 0 4096\nb/c add\nb/c write 512 1024\na sync\nb/c datasync 0 0\na trim 8192 4096\n\
         a wait 100 0\r\n\n   a write 18446744073709551615 1\na close\n",
    );
    let expected = [
        operation(0, Action::Read, 0, 4096),
        operation(1, Action::Write, 512, 1024),
        sync(0),
        sync(1),
        operation(0, Action::Trim, 8192, 4096),
        operation(0, Action::Write, u64::MAX, 1),
    ];
    assert_eq!((&operations[..], &complaints[..]), (&expected[..], &[][..]));
}

#[test]
fn an_iolog_of_version_3_has_times_in_front() {
    let (operations, complaints) = read(
        "fio version 3 iolog\n0 a add\n7 a read 4096 8192\n90 a sync\nx a read 0 1\na read 0 1",
    );
    assert_eq!(
        operations,
        [operation(0, Action::Read, 4096, 8192), sync(0)]
    );
    let expected = [5, 6].map(|line| format!("line {line} is malformed: "));
    assert!(
        complaints
            .iter()
            .zip(expected)
            .all(|(is, begin)| is.starts_with(&begin))
    );
    assert_eq!(complaints.len(), 2, "{complaints:?}");
}

#[test]
fn text_of_blkparse_is_read_up_to_its_summary() {
    let (operations, complaints) = read(
        "  8,0    1        1     0.000000000  1234  Q  WS 100 + 8 [proc]\n\
         8,0 1 2 0.000000100 1234 G WS 100 + 8 [proc]\n\
         8,0 1 3 0.000000200 1234 D WS 100 + 8 [proc]\n\
         8,16 0 4 0.1 1 Q RA 7 + 1 [a b]\n\
         8,0 0 0 0.2 0 m N cfq1234 slice expired\n\
         8,0 1 5 0.3 9 Q FWFS 200 + 16 [jbd2/sda1-8]\n\
         8,0 1 6 0.3 9 Q FN [proc]\n\
         8,0 1 6 0.3 9 Q FWS [proc]\n\
         8,0 1 7 0.4 9 Q DS 300 + 8 [fstrim]\n\
         8,0 1 7 0.4 9 Q N [ioctl]\n\
         CPU0 (8,0):\n Reads Queued:           1,        4KiB\nTotal (8,0):\n",
    );
    let expected = [
        operation(0, Action::Write, 51_200, 4096),
        operation(1, Action::Read, 3584, 512),
        sync(0),
        operation(0, Action::Write, 102_400, 8192),
        sync(0),
        sync(0),
        sync(0),
        operation(0, Action::Trim, 153_600, 4096),
    ];
    assert_eq!((&operations[..], &complaints[..]), (&expected[..], &[][..]));
}

#[test]
fn issued_requests_count_where_none_was_queued_before() {
    let (operations, _) = read(
        "8,0 1 1 0.1 1 D R 8 + 8 [a]\n8,0 1 2 0.2 1 Q R 16 + 8 [a]\n8,0 1 3 0.3 1 D R 16 + 8 [a]\n",
    );
    let offsets: Vec<_> = operations
        .iter()
        .map(|operation| operation.offset)
        .collect();
    assert_eq!(offsets, [4096, 8192]);
}

#[test]
fn malformed_lines_are_told_by_number_and_do_not_end_the_run() {
    let good = "a read 0 1\n";
    for bad in [
        "a\n",
        "a read\n",
        "a read 0\n",
        "a read 0 0\n",
        "a read -1 4\n",
        "a read 0 99999999999999999999\n",
        "a jump 0 1\n",
        "\u{fffd} \u{0} 3\n",
    ] {
        let (operations, complaints) = read(format!("fio version 2 iolog\n{good}{bad}{good}"));
        assert_eq!(operations.len(), 2, "{bad:?}");
        assert!(
            complaints[0].starts_with("line 3 is malformed: "),
            "{complaints:?}"
        );
    }
    let good = "8,0 1 1 0.1 1 Q R 8 + 8 [a]\n";
    for bad in [
        "8 1 1 0.1 1 Q R 8 + 8 [a]\n",
        "8,x 1 1 0.1 1 Q R 8 + 8 [a]\n",
        "8,0 1 1 soon 1 Q R 8 + 8 [a]\n",
        "8,0 1 1 NaN 1 Q R 8 + 8 [a]\n",
        "8,0 1 1 0.1 1 Q\n",
        "8,0 1 1 0.1 1 Q XYZ 8 + 8 [a]\n",
        "8,0 1 1 0.1 1 Q R 8 8 [a]\n",
        "8,0 1 1 0.1 1 Q R [a]\n",
        "8,0 1 1 0.1 1 Q R 8 + 0 [a]\n",
        "8,0 1 1 0.1 1 Q R 18446744073709551615 + 8 [a]\n",
    ] {
        let (operations, complaints) = read(format!("{good}{bad}{good}"));
        assert_eq!(operations.len(), 2, "{bad:?}");
        assert!(
            complaints[0].starts_with("line 2 is malformed: "),
            "{complaints:?}"
        );
    }
}

#[test]
fn only_the_first_malformed_lines_are_told_and_all_are_counted() {
    let wrong = format!("a {} 0 1\n", "?".repeat(2000));
    let (_, complaints) = read(format!("fio version 2 iolog\n{}", wrong.repeat(20)));
    assert!(complaints.iter().all(|line| line.len() <= 100), "short");
    assert_eq!(complaints.len(), 6);
    assert_eq!(complaints[5], "and 15 more, 20 malformed lines in all");
}

#[test]
fn an_unknown_version_and_other_text_have_no_operation() {
    for text in [
        "",
        "\n\n",
        "fio version 4 iolog\na read 0 1\n",
        "root:x:0:0\n",
        "\0\0\0",
    ] {
        assert!(
            !Trace::new(text.as_bytes()).is_usable().unwrap(),
            "{text:?}"
        );
    }
    let mut trace = Trace::new(&b"fio version 2 iolog\na read 0 1\n"[..]);
    assert!(trace.is_usable().unwrap());
    assert!(trace.next().unwrap().is_some(), "the look has not taken it");
    assert_eq!(trace.next().unwrap(), None);
    assert_eq!(
        (trace.files(), trace.format().as_str()),
        (1, "fio iolog, version 2")
    );
}

#[test]
fn what_counts_in_the_text_of_blkparse_is_told() {
    for (event, told) in [
        ("Q", "queued requests (Q)"),
        ("D", "issued requests (D)"),
        ("G", "no requests"),
    ] {
        let text = format!("8,0 1 1 0.1 1 {event} R 8 + 8 [a]\n");
        let mut trace = Trace::new(text.as_bytes());
        assert_eq!(trace.is_usable().unwrap(), event != "G");
        assert_eq!(trace.format(), format!("blkparse, {told}"));
    }
}

/// Bytes without end, or an error after some.
struct Endless {
    left: u64,
    ends: bool,
}

impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.left.min(buffer.len() as u64);
        self.left -= len;
        buffer[..len as usize].fill(b'7');
        match len {
            0 if !self.ends => Err(io::Error::other("broken")),
            len => Ok(len as usize),
        }
    }
}

#[test]
fn a_line_without_end_is_not_kept_in_memory() {
    const LONG: u64 = 200 << 20;
    let long = BufReader::new(Endless {
        left: LONG,
        ends: true,
    });
    let before = peak_kib();
    let mut trace = Trace::new(long.chain(&b"\n8,0 1 1 0.1 1 Q R 8 + 8 [a]\n"[..]));
    assert!(trace.next().unwrap().is_some(), "what follows is read");
    assert_eq!(
        trace.complaints(),
        ["line 1 is malformed: longer than a line is"]
    );
    let grown = peak_kib() - before;
    assert!(grown < LONG >> 11, "{grown} KiB");
}

/// The most memory this process ever had.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    peak.map_or(0, |peak| {
        peak.trim().trim_end_matches(" kB").parse().unwrap()
    })
}

#[test]
fn an_error_of_the_file_is_passed_on() {
    let broken = Endless {
        left: 10,
        ends: false,
    };
    assert!(Trace::new(BufReader::new(broken)).next().is_err());
}

/// Lines that look like those of traces, and some that do not.
fn lines() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        Just("fio version 2 iolog".to_string()),
        Just("fio version 3 iolog".to_string()),
        "(8,0|8,16|8|,) [0-9]{1,3} [0-9]{1,20} [0-9.e]{1,8} 1 [QDGCm] [RWDFSAN]{0,5} [0-9]{0,21} [+] [0-9]{0,5}",
        "[0-9]{0,3} ?[ab] (add|open|read|write|sync|trim|wait|[a-z]{3}) [0-9]{0,21} [0-9-]{0,21}",
        ".{0,40}",
        "CPU0 [(]8,0[)]:",
    ];
    prop::collection::vec(word, 0..20).prop_map(|lines| lines.join("\n").into_bytes())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        read(bytes);
    }

    #[test]
    fn what_looks_like_a_trace_is_read_to_its_end(mut bytes in lines(), flips in prop::collection::vec(any::<(u16, u8)>(), 0..4)) {
        for (at, flip) in flips {
            let len = bytes.len();
            if let Some(byte) = bytes.get_mut(usize::from(at) % len.max(1)) {
                *byte ^= flip;
            }
        }
        let (operations, _) = read(&bytes);
        for operation in operations {
            prop_assert_eq!(operation.len == 0, operation.action == Action::Sync);
        }
    }

    #[test]
    fn what_is_written_is_read(operations in prop::collection::vec((0..3_usize, 0..4_u8, any::<u64>(), 1..u64::MAX), 0..40)) {
        let mut text = String::from("fio version 3 iolog\n");
        let mut expected = Vec::new();
        let mut names = Vec::new();
        for (name, action, offset, len) in operations {
            let (action, word) = [
                (Action::Read, "read"), (Action::Write, "write"), (Action::Trim, "trim"), (Action::Sync, "sync"),
            ][usize::from(action)];
            if !names.contains(&name) {
                names.push(name);
            }
            let file = names.iter().position(|other| *other == name).unwrap();
            writeln!(text, "5 file{name} {word} {offset} {len}").unwrap();
            expected.push(match action {
                Action::Sync => sync(file),
                _ => operation(file, action, offset, len),
            });
        }
        prop_assert_eq!(read(text), (expected, vec![]));
    }
}

#[test]
fn reading_goes_line_by_line() {
    /// Counts what was asked of it.
    struct Counted<'a>(&'a [u8], usize);
    impl Read for Counted<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.read(buffer)
        }
    }
    impl BufRead for Counted<'_> {
        fn fill_buf(&mut self) -> io::Result<&[u8]> {
            let end = self.0.len().min(64);
            Ok(&self.0[..end])
        }
        fn consume(&mut self, amount: usize) {
            self.1 += amount;
            self.0 = &self.0[amount..];
        }
    }
    let text = format!("fio version 2 iolog\n{}", "a read 0 1\n".repeat(1000));
    let mut input = Counted(text.as_bytes(), 0);
    let mut trace = Trace::new(&mut input);
    assert!(trace.next().unwrap().is_some());
    drop(trace);
    assert_eq!(input.1, 20 + 11, "no more than two lines");
}
