//! A small volume for a model, and what must hold of it once everything has come to rest.

use std::sync::Arc;

use extent_map::device::MemoryDevice;
use extent_map::file::{AllocateMode, File, Volume, VolumeOptions};
use extent_map::mapping::MemoryStore;
use extent_map::testing;
use extent_map::units::FileNumber;
use shuttle::thread;

use crate::model::{Case, checked, ensure, violated};

pub(crate) const PAGE: u64 = 4096;

/// A volume of 4 KiB blocks and its files 1 and 2.
pub(crate) struct World<'c> {
    case: &'c Case,
    pub(crate) volume: Volume,
    pub(crate) file: File,
    pub(crate) other: File,
}

/// What a thread does, and under which name it tells of it.
pub(crate) type Act<'a> = (&'static str, &'a (dyn Fn() + Sync));

impl<'c> World<'c> {
    /// A volume with `clusters` clusters of `ratio` blocks for files, whose extents cannot become more than
    /// `max_extents` for one file.
    pub(crate) fn shaped(
        case: &'c Case,
        clusters: u64,
        ratio: u64,
        max_extents: usize,
        options: VolumeOptions,
    ) -> Self {
        let options = options.cluster_blocks(ratio).low_space_clusters(0);
        let device = MemoryDevice::new((clusters + 1) * ratio * PAGE);
        let store = MemoryStore::with_max_extents(max_extents).with_probe(case.probe.clone());
        let options = options.probe(case.probe.clone());
        let volume = Volume::with_store(Arc::new(device), Arc::new(store), &options).unwrap();
        let [file, other] = [1, 2].map(|number| volume.file(FileNumber(number)).unwrap());
        Self {
            case,
            volume,
            file,
            other,
        }
    }

    /// A volume with `clusters` clusters of `ratio` blocks.
    pub(crate) fn new(case: &'c Case, clusters: u64, ratio: u64) -> Self {
        Self::shaped(case, clusters, ratio, usize::MAX, VolumeOptions::new())
    }

    /// A roomy volume whose file is a hole of `pages` pages.
    pub(crate) fn with_hole(case: &'c Case, pages: u64) -> Self {
        let world = Self::new(case, 16, 1);
        world.file.set_len(pages * PAGE).unwrap();
        world
    }

    /// A volume with `clusters` clusters of four blocks, whose file has one of them and data in its first block only.
    pub(crate) fn with_one_cluster(case: &'c Case, clusters: u64) -> Self {
        let world = Self::new(case, clusters, 4);
        world.set_pages(4);
        world.write(0, 1);
        world.sync();
        world
    }

    /// Does everything at once.
    pub(crate) fn race<const N: usize>(&self, acts: [Act<'_>; N]) {
        thread::scope(|scope| {
            for (name, act) in acts {
                scope.spawn(move || self.case.story.thread(name, act));
            }
        });
    }

    pub(crate) fn content(&self) -> Vec<u8> {
        content_of(&self.file)
    }

    /// The byte that fills page `index`; a page that is torn violates I22.
    pub(crate) fn byte_of(&self, index: u64) -> u8 {
        let content = self.content();
        let page = content.get((index * PAGE) as usize..).unwrap_or_default();
        let page = &page[..page.len().min(PAGE as usize)];
        let Some(first) = page.first() else {
            violated(22, format!("page {index} lies behind the end"));
        };
        ensure(22, page.iter().all(|byte| byte == first), || {
            format!("page {index} is torn")
        });
        *first
    }

    /// The first byte of page `index`, of which no other is read.
    pub(crate) fn first_byte_of(&self, index: u64) -> u8 {
        let mut byte = [0xee];
        let len = self.file.read_at(index * PAGE, &mut byte);
        ensure(22, len == Ok(1), || format!("read: {len:?}"));
        byte[0]
    }

    /// Asserts that the pages are filled as one of these says (I22).
    pub(crate) fn expect_pages<const N: usize>(&self, allowed: &[[u8; N]]) {
        let mut pages = [0; N];
        for (index, page) in (0..).zip(&mut pages) {
            *page = self.byte_of(index);
        }
        ensure(22, allowed.contains(&pages), || {
            format!("pages {pages:?}, not one of {allowed:?}")
        });
    }

    pub(crate) fn write(&self, index: u64, byte: u8) {
        let page = [byte; PAGE as usize];
        let written = self.file.write_at(index * PAGE, &page);
        ensure(21, written == Ok(page.len()), || {
            format!("write: {written:?}")
        });
    }

    pub(crate) fn store(&self, index: u64, byte: u8) {
        let page = [byte; PAGE as usize];
        let stored = self.file.store_mapped(index * PAGE, &page);
        ensure(22, stored == Ok(page.len()), || {
            format!("store: {stored:?}")
        });
    }

    pub(crate) fn allocate(&self, mode: AllocateMode, index: u64, pages: u64) {
        let outcome = self.file.allocate(mode, index * PAGE, pages * PAGE);
        ensure(22, outcome == Ok(()), || format!("{mode:?}: {outcome:?}"));
    }

    pub(crate) fn set_pages(&self, pages: u64) {
        let outcome = self.file.set_len(pages * PAGE);
        ensure(22, outcome == Ok(()), || format!("set_len: {outcome:?}"));
    }

    pub(crate) fn sync(&self) {
        let outcome = self.file.sync_all();
        ensure(4, outcome == Ok(()), || format!("sync: {outcome:?}"));
    }

    pub(crate) fn forget(&self) {
        self.file.shrink_status(|_| true);
    }

    /// What must hold once everything has come to rest, whatever was done before: all invariants of the checker;
    /// after a sync nothing is delayed or promised (I19); what was read is what the device has (I10); and all space
    /// comes back (I14).
    pub(crate) fn check(&self) {
        checked(testing::check(&self.volume));
        let content = [&self.file, &self.other].map(content_of);
        self.sync();
        ensure(19, self.other.sync_all() == Ok(()), || {
            "sync of the other".into()
        });
        checked(testing::check_synced(&self.volume));
        ensure(19, self.volume.drop_caches() == Ok(()), || {
            "caches stay".into()
        });
        let durable = [&self.file, &self.other].map(content_of);
        ensure(10, durable == content, || {
            "what was read is not on the device".into()
        });
        self.other.set_len(0).unwrap();
        self.set_pages(0);
        let statfs = self.volume.statfs();
        ensure(14, statfs.free_blocks == statfs.blocks, || {
            "space is lost".into()
        });
        checked(testing::check_synced(&self.volume));
    }
}

fn content_of(file: &File) -> Vec<u8> {
    let mut content = vec![0xee; file.size() as usize];
    let len = file.read_at(0, &mut content);
    ensure(22, len == Ok(content.len()), || format!("read: {len:?}"));
    content
}
