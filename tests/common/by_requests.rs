//! A device that is asked by requests only.

use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};

use extent_map::Result;
use extent_map::device::{BlockDevice, Buffer, Buffers, Completion, Limits, Request};

/// Turns every operation into a request to another device and waits for its end.
#[derive(Debug)]
pub(crate) struct ByRequests<D>(pub(crate) D);

struct Waiter(Sender<(Buffers, Result<()>)>);

impl Completion for Waiter {
    fn completed(&self, _: u64, buffers: Buffers, result: Result<()>) {
        // Nobody waits any more where a test has failed.
        let _ = self.0.send((buffers, result));
    }
}

impl<D: BlockDevice> ByRequests<D> {
    fn wait(&self, request: impl FnOnce((Arc<dyn Completion>, u64)) -> Request) -> Result<Buffers> {
        let (sender, receiver) = channel();
        self.0.start(request((Arc::new(Waiter(sender)), 0)));
        let (buffers, result) = receiver.recv().unwrap();
        result.map(|()| buffers)
    }
}

impl<D: BlockDevice> BlockDevice for ByRequests<D> {
    fn size(&self) -> u64 {
        self.0.size()
    }
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let memory = Buffer::zeroed(buffer.len());
        let read = self.wait(|waiting| Request::read(offset, memory.into(), waiting))?;
        buffer.copy_from_slice(&read.to_vec());
        Ok(())
    }
    fn write_at(&self, offset: u64, data: &[u8]) -> Result<()> {
        let memory = Buffer::copy_of(data);
        self.wait(|waiting| Request::write(offset, memory.into(), waiting))
            .map(drop)
    }
    fn write_vectored_at(&self, offset: u64, data: &[std::io::IoSlice<'_>]) -> Result<()> {
        let memory: Buffers = data.iter().map(|part| Buffer::copy_of(part)).collect();
        self.wait(|waiting| Request::write(offset, memory, waiting).with_fua(true))
            .map(drop)
    }
    fn flush(&self) -> Result<()> {
        self.wait(Request::flush).map(drop)
    }
    fn discard(&self, offset: u64, len: u64) -> Result<()> {
        self.wait(|waiting| Request::discard(offset, len, waiting))
            .map(drop)
    }
    fn write_zeroes(&self, offset: u64, len: u64) -> Result<()> {
        self.wait(|waiting| Request::write_zeroes(offset, len, waiting))
            .map(drop)
    }
    fn limits(&self) -> Limits {
        self.0.limits()
    }
}
