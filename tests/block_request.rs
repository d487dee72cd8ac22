//! Requests that own their memory: what a device does with them by itself, and that none ends unheard.

use std::sync::{Arc, Mutex};

use extent_map::device::{
    BlockDevice, Buffer, Buffers, Completion, FaultyDevice, MemoryDevice, OperationKind, Request,
};
use extent_map::{Error, Result};

#[path = "common/io.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod io;

use io::{is_io, read};

/// The tag of a request, its bytes, and how it ended.
type End = (u64, Vec<u8>, Result<()>);

/// What ended, in that order.
#[derive(Default)]
struct Ended(Mutex<Vec<End>>);

impl Completion for Ended {
    fn completed(&self, tag: u64, buffers: Buffers, result: Result<()>) {
        let mut ended = self.0.lock().unwrap();
        ended.push((tag, buffers.to_vec(), result));
    }
}

impl Ended {
    fn take(&self) -> Vec<End> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

fn device() -> (Arc<FaultyDevice>, Arc<Ended>) {
    let device = FaultyDevice::new(Arc::new(MemoryDevice::new(1 << 16)));
    (Arc::new(device), Arc::default())
}

fn zeroed(lens: &[usize]) -> Buffers {
    lens.iter().map(|len| Buffer::zeroed(*len)).collect()
}

#[test]
fn a_device_without_a_start_of_its_own_carries_requests_out_at_once() {
    let (device, ended) = device();
    let data: Buffers = [&[1; 10][..], &[], &[2; 20]]
        .map(Buffer::copy_of)
        .into_iter()
        .collect();
    device.start(Request::write(5, data, (ended.clone(), 7)));
    device.start(Request::read(0, zeroed(&[8, 32]), (ended.clone(), 8)));
    device.start(Request::write_zeroes(6, 9, (ended.clone(), 9)));
    device.start(Request::discard(100, 50, (ended.clone(), 10)));
    device.start(Request::flush((ended.clone(), 11)));
    let written = [vec![1; 10], vec![2; 20]].concat();
    let seen = [vec![0; 5], written.clone(), vec![0; 5]].concat();
    let expected = [
        (7, written, Ok(())),
        (8, seen, Ok(())),
        (9, vec![], Ok(())),
        (10, vec![], Ok(())),
        (11, vec![], Ok(())),
    ];
    assert_eq!(ended.take(), expected);
    assert_eq!(read(&*device, 4, 3), [0, 1, 0]);
}

#[test]
fn a_write_that_must_be_durable_is_flushed() {
    let (device, ended) = device();
    let write = |fua| {
        let data = Buffer::copy_of(&[1; 10]).into();
        device.start(Request::write(0, data, (ended.clone(), 0)).with_fua(fua));
        device
            .take_log()
            .iter()
            .map(|op| op.kind)
            .collect::<Vec<_>>()
    };
    assert_eq!(write(false), [OperationKind::Write]);
    assert_eq!(write(true), [OperationKind::Write, OperationKind::Flush]);
    device.fail_at(Some(OperationKind::Write), 0);
    assert_eq!(write(true), [OperationKind::Write]);
    let failed: Vec<_> = ended
        .take()
        .into_iter()
        .map(|(.., end)| is_io(end))
        .collect();
    assert_eq!(failed, [false, false, true]);
}

#[test]
fn errors_come_back_with_the_buffers() {
    let (device, ended) = device();
    let data = Buffer::copy_of(&[1; 10]);
    let outside = Request::write((1 << 16) - 9, data.into(), (ended.clone(), 1));
    device.start(outside);
    let [(1, data, Err(Error::InvalidInput(_)))] = &ended.take()[..] else {
        panic!("not refused");
    };
    assert_eq!(*data, [1; 10]);
}

#[test]
fn a_request_that_is_dropped_has_failed() {
    let (_, ended) = device();
    drop(Request::read(0, zeroed(&[3]), (ended.clone(), 1)));
    let [(1, _, result)] = &ended.take()[..] else {
        panic!("nobody heard of it");
    };
    assert!(is_io(result.clone()));
}
