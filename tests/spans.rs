//! Whoever looks on through `tracing` sees where calls enter the layers that do I/O.
#![cfg(feature = "tracing")]

use std::sync::{Arc, Mutex};

use extent_map::device::MemoryDevice;
use extent_map::file::{AllocateMode, Volume, VolumeOptions};
use extent_map::units::FileNumber;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Keeps each span that is entered as the names of all that it is inside of.
#[derive(Clone, Default)]
struct Entered(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    names: Vec<&'static str>,
    inside: Vec<&'static str>,
    paths: Vec<String>,
}

impl Subscriber for Entered {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("extent_map")
    }
    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut seen = self.0.lock().unwrap();
        seen.names.push(span.metadata().name());
        Id::from_u64(seen.names.len() as u64)
    }
    fn enter(&self, id: &Id) {
        let mut seen = self.0.lock().unwrap();
        let name = seen.names[id.into_u64() as usize - 1];
        seen.inside.push(name);
        let path = seen.inside.join(" > ");
        seen.paths.push(path);
    }
    fn exit(&self, _: &Id) {
        self.0.lock().unwrap().inside.pop();
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, _: &Event<'_>) {}
}

#[test]
fn calls_are_seen_entering_files_delayed_allocation_the_queue_and_the_log() {
    let entered = Entered::default();
    tracing::subscriber::with_default(entered.clone(), || {
        let device = Arc::new(MemoryDevice::new(8 << 20));
        let volume = Volume::format_persistent(device, &VolumeOptions::new()).unwrap();
        let file = volume.file(FileNumber(1)).unwrap();
        file.write_at(0, &[1; 5000]).unwrap();
        file.sync_all().unwrap();
        file.allocate(AllocateMode::PunchHole, 0, 4096).unwrap();
    });
    let seen = entered.0.lock().unwrap();
    assert!(seen.inside.is_empty());
    for path in [
        "write",
        "sync > write_back > place",
        "sync > write_back > send > submit",
        "sync > commit",
        "sync > commit > flush",
        "allocate > punch",
    ] {
        assert!(
            seen.paths.iter().any(|seen| seen == path),
            "{path} in {:?}",
            seen.paths
        );
    }
}
