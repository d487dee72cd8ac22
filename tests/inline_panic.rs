//! A device that panics while a file leaves the mapping store of a persistent volume: the file stays as it was.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::SeqCst};

use extent_map::device::MemoryDevice;
use extent_map::file::{Volume, VolumeOptions};
use extent_map::testing;
use extent_map::units::FileNumber;

use around::Around;

#[path = "common/around.rs"]
#[allow(dead_code, reason = "others use the rest")]
mod around;

const FILE: FileNumber = FileNumber(1);

/// Lets the device panic in operation number `nth` while a file becomes too long for the store; whether there was one.
fn leave_inline_with_a_panic(nth: i64) -> bool {
    let memory = Arc::new(MemoryDevice::new(1 << 20));
    let before = Arc::new(AtomicI64::new(i64::MAX));
    let now = Arc::clone(&before);
    let device = Arc::new(Around::new(memory.clone(), move |_, carry_out| {
        if now.fetch_sub(1, SeqCst) == 0 {
            // Not `panic!`, which would also write a message.
            resume_unwind(Box::new("on purpose"));
        }
        carry_out()
    }));
    let options = VolumeOptions::new()
        .background_writeback(false)
        .inline_limit(600);
    let volume = Volume::format_persistent(device, &options).unwrap();
    let file = volume.file(FILE).unwrap();
    file.write_at(0, &[1; 500]).unwrap();
    file.sync_all().unwrap();
    before.store(nth, SeqCst);
    let write = || file.write_at(500, &[2; 5000]);
    if catch_unwind(AssertUnwindSafe(write)).is_ok() {
        return false;
    }
    before.store(i64::MAX, SeqCst);
    assert_eq!(testing::check(&volume), Ok(()), "operation {nth}");
    assert_eq!(volume.sync(), Ok(()), "operation {nth}");
    assert_eq!(Volume::check(&*memory), Ok(Vec::new()), "operation {nth}");
    assert_eq!(file.write_at(500, &[3; 5000]), Ok(5000), "operation {nth}");
    drop(file);
    volume.close().unwrap();
    let volume = Volume::open(memory, &options).unwrap();
    let mut content = [0; 6000];
    let len = volume.file(FILE).unwrap().read_at(0, &mut content);
    assert_eq!(len, Ok(5500), "operation {nth}");
    assert_eq!(content[..500], [1; 500]);
    assert_eq!(content[500..5500], [3; 5000]);
    true
}

#[test]
fn a_file_that_a_panic_of_the_device_kept_from_leaving_the_store_can_leave_it_later() {
    let panics = (0..).take_while(|nth| leave_inline_with_a_panic(*nth));
    assert!(panics.count() > 0);
}
