//! One kind of work, so many times, for a program that counts instructions: what a request costs is the difference to
//! a run with none of them, divided.

use std::sync::Arc;

use clap::ValueEnum;
use extent_map::Result;
use extent_map::device::{BlockDevice, Limits, Request};

use crate::random::{BLOCK, BLOCKS, Batches, DEPTH, Raw, queue};

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Work {
    /// Calls of a device that does nothing.
    Raw,
    /// Batches of 32 random reads that are not merged, of the same device.
    Direct,
    /// The same of a device that works by itself.
    Started,
}

/// Does nothing: all instructions are those of the way to it.
#[derive(Debug)]
struct Nothing {
    asynchronous: bool,
}

impl BlockDevice for Nothing {
    fn size(&self) -> u64 {
        BLOCKS * BLOCK as u64
    }
    fn read_at(&self, _: u64, _: &mut [u8]) -> Result<()> {
        Ok(())
    }
    fn write_at(&self, _: u64, _: &[u8]) -> Result<()> {
        Ok(())
    }
    fn flush(&self) -> Result<()> {
        Ok(())
    }
    fn discard(&self, _: u64, _: u64) -> Result<()> {
        Ok(())
    }
    fn start(&self, request: Request) {
        request.complete(Ok(()));
    }
    fn limits(&self) -> Limits {
        Limits {
            asynchronous: self.asynchronous,
            ..Limits::default()
        }
    }
}

/// Does it `times` times, rounded up to whole batches.
pub(crate) fn run(work: Work, times: u64) {
    let asynchronous = matches!(work, Work::Started);
    let device = Arc::new(Nothing { asynchronous });
    let queue = queue(device.clone());
    let batches = times.div_ceil(DEPTH as u64);
    match work {
        Work::Raw => {
            let mut raw = Raw::new(device, false);
            (0..batches).for_each(|_| raw.batch());
        }
        Work::Direct | Work::Started => {
            let mut through = Batches::new(&queue, false);
            (0..batches).for_each(|_| through.batch());
        }
    }
}
