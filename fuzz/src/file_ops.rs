//! A volume against a dense model of it: every answer and everything a caller can see.

use std::mem;
use std::sync::Arc;

use arbitrary::{Arbitrary, Unstructured};
use extent_map::device::MemoryDevice;
use extent_map::file::{File, Volume};
use extent_map::testing::{self, Observation, Op, Oracle, Script, Shape};
use extent_map::units::FileNumber;

/// Runs `data` as operations on the files of a volume, compares each answer with the model's, and in the end
/// everything.
pub fn run(data: &[u8]) {
    if let Ok(script) = Script::arbitrary(&mut Unstructured::new(data)) {
        let oracle = script.shape.oracle().expect("a shape that can be drawn");
        compare(&script, oracle);
    }
}

/// Runs `script` on a volume and compares it with `oracle`.
pub fn compare(script: &Script, mut oracle: Oracle) {
    let device = MemoryDevice::new(script.shape.device_size());
    let volume = Volume::format(Arc::new(device), &script.shape.options()).expect("good options");
    let open = |number| volume.file(FileNumber(number)).expect("a new file");
    let files: Vec<File> = (1..=Shape::FILES as u64).map(open).collect();
    for op in &script.ops {
        assert_eq!(op.apply(&volume, &files), oracle.apply(op), "{op:?}");
        assert_eq!(testing::check(&volume), Ok(()), "after {op:?}");
    }
    assert_eq!(volume.sync(), Ok(()));
    oracle.apply(&Op::Sync);
    for (number, file) in files.iter().enumerate() {
        let mut seen = Observation::of(file).expect("a small file");
        let mut expected = oracle.observe(number);
        let (bytes, expected_bytes) = (
            mem::take(&mut seen.content),
            mem::take(&mut expected.content),
        );
        assert_eq!(seen, expected, "file {number}");
        let differs = || bytes.iter().zip(&expected_bytes).position(|(a, b)| a != b);
        assert!(
            bytes == expected_bytes,
            "file {number} differs at {:?}",
            differs()
        );
    }
    assert_eq!(testing::check_synced(&volume), Ok(()));
}
