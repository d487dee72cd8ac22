//! A volume on a device that fails: no error is hidden, nothing leaks, and what was durable stays.

use std::sync::Arc;

use arbitrary::{Arbitrary, Unstructured};
use extent_map::device::{BlockDevice, FaultyDevice, MemoryDevice, Operation, OperationKind};
use extent_map::file::{File, Volume};
use extent_map::testing::{self, FileOp, Op, Shape, Violation};
use extent_map::units::FileNumber;

use super::expected::{Expected, STALE};
use super::faulted::{Change, Faulted};

/// The part of the device that is full of stale bytes at first; scripts rarely get further.
const STALE_BYTES: u64 = 1 << 20;

/// Runs `data` as operations on a volume whose device fails now and then.
pub fn run(data: &[u8]) {
    run_through(|device| device, data);
}

/// As [`run`] with something between the volume and the device.
pub fn run_through(wrap: impl Fn(Arc<FaultyDevice>) -> Arc<dyn BlockDevice>, data: &[u8]) {
    let Ok(script) = Faulted::arbitrary(&mut Unstructured::new(data)) else {
        return;
    };
    let mut faulty = Faulty::new(script.shape, wrap);
    for (change, op) in &script.steps {
        faulty.step(change, op);
    }
    faulty.recover();
}

/// A volume, its device, and what is to be expected of it.
struct Faulty {
    shape: Shape,
    device: Arc<FaultyDevice>,
    volume: Volume,
    files: Vec<File>,
    expected: Expected,
    /// Free blocks at first.
    free: u64,
    /// What stays broken.
    bad: Option<Fault>,
}

/// What fails.
#[derive(Clone, Debug)]
enum Fault {
    Once(Option<OperationKind>, u64),
    Bytes(Option<OperationKind>, std::ops::Range<u64>),
}

impl Fault {
    /// Which of `operations`, during which it was there, it has struck.
    fn struck(&self, operations: &[Operation]) -> Vec<OperationKind> {
        let of_kind = |kind: &Option<OperationKind>| {
            let kind = *kind;
            move |operation: &&Operation| kind.is_none_or(|kind| operation.kind == kind)
        };
        match self {
            Self::Once(kind, nth) => {
                let mut counted = operations.iter().filter(of_kind(kind));
                let struck = counted.nth(*nth as usize);
                struck.map(|operation| operation.kind).into_iter().collect()
            }
            Self::Bytes(kind, bytes) => {
                let counted = operations.iter().filter(of_kind(kind));
                let struck = counted.filter(|operation| {
                    operation.offset < bytes.end && bytes.start < operation.offset + operation.len
                });
                struck.map(|operation| operation.kind).collect()
            }
        }
    }
}

impl Faulty {
    fn new(shape: Shape, wrap: impl Fn(Arc<FaultyDevice>) -> Arc<dyn BlockDevice>) -> Self {
        let memory = MemoryDevice::new(shape.device_size());
        let stale = vec![STALE; STALE_BYTES as usize];
        memory.write_at(0, &stale).expect("inside the device");
        let device = Arc::new(FaultyDevice::new(Arc::new(memory)));
        let volume = Volume::format(wrap(device.clone()), &shape.options()).expect("good options");
        let open = |number| volume.file(FileNumber(number)).expect("a new file");
        Self {
            shape,
            files: (1..=Shape::FILES as u64).map(open).collect(),
            free: volume.statfs().free_blocks,
            device,
            volume,
            expected: Expected::new(shape),
            bad: None,
        }
    }

    fn step(&mut self, change: &Change, op: &Op) {
        let mut once = None;
        match change {
            Change::Nothing => {}
            Change::Once { kind, nth } => once = Some(Fault::Once(*kind, *nth)),
            Change::Bad { kind, clusters } => {
                let size = self.shape.cluster_bytes();
                let bytes = clusters.start * size..clusters.end * size;
                self.bad = Some(Fault::Bytes(*kind, bytes));
            }
            Change::Repair => self.bad = None,
        }
        let faults: Vec<Fault> = self.bad.iter().cloned().chain(once).collect();
        for fault in &faults {
            match fault.clone() {
                Fault::Once(kind, nth) => self.device.fail_at(kind, nth),
                Fault::Bytes(kind, bytes) => self.device.fail_range(kind, bytes),
            }
        }
        let outcome = op.apply(&self.volume, &self.files);
        let log = self.device.take_log();
        self.device.clear_faults();
        let struck: Vec<_> = faults.iter().flat_map(|fault| fault.struck(&log)).collect();
        self.expected.judge(op, &outcome, &struck);
        self.check(op);
    }

    /// Checks the invariants. After a failed write a clean page may differ from the volume, as in Linux.
    fn check(&self, op: &Op) {
        let excused = |violation: &Violation| {
            let number = violation.file.map_or(0, |file| file.0 as usize - 1);
            let differs = violation.invariant == 10 && violation.text.contains("clean and differs");
            differs && self.expected.has_lost_data(number)
        };
        let mut violations = testing::check(&self.volume).err().unwrap_or_default();
        violations.retain(|violation| !excused(violation));
        assert_eq!(violations, [], "after {op:?}");
        self.device.take_log();
    }

    /// Once the device works again everything can be written back, read, and taken away.
    fn recover(mut self) {
        for number in 0..Shape::FILES {
            self.step(&Change::Repair, &Op::File(number, FileOp::SyncAll));
        }
        // Everybody has been told of everything.
        for number in 0..Shape::FILES {
            assert_eq!(self.files[number].sync_all(), Ok(()));
        }
        self.step(&Change::Repair, &Op::Sync);
        assert_eq!(testing::check_synced(&self.volume), Ok(()));
        self.compare();
        self.step(&Change::Repair, &Op::DropCaches);
        self.compare();
        for file in &self.files {
            assert_eq!(file.set_len(0), Ok(()));
        }
        assert_eq!(self.volume.statfs().free_blocks, self.free);
    }

    fn compare(&mut self) {
        for (number, file) in self.files.iter().enumerate() {
            let mut bytes = vec![0xee; file.size() as usize];
            assert_eq!(file.read_at(0, &mut bytes), Ok(bytes.len()));
            self.expected.compare_all(number, &bytes);
        }
    }
}
