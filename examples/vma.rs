//! An address space: page faults take no lock, and see each `mmap`, `mprotect` and `munmap` whole or not at all.
//!
//! `cargo run --release --example vma`

use std::ops::{Range, RangeInclusive};
use std::thread;

use extent_map::map::{Extent, ExtentMap, Value};
use extent_map::{Error, Result};

/// Which page of a file lies there, and whether it may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Area(u64, bool);

impl Value for Area {
    fn pack(self) -> u64 {
        self.0 << 1 | u64::from(self.1)
    }

    fn unpack(bits: u64) -> Self {
        Self(bits >> 1, bits & 1 == 1)
    }

    fn advance(self, by: u64) -> Self {
        Self(self.0.wrapping_add(by) & u64::MAX >> 1, self.1)
    }

    fn can_merge(self, len: u64, next: Self) -> bool {
        next == self.advance(len)
    }
}

/// Addresses are counted in pages.
struct AddressSpace(ExtentMap<Area>);

impl AddressSpace {
    /// Maps `len` pages where there is room. Between look and edit no other writer can come.
    fn mmap(&self, len: u64, area: Area) -> Result<u64> {
        let mut editor = self.0.edit();
        let is_room = |gap: &RangeInclusive<u64>| gap.end() - gap.start() >= len;
        let gap = editor.gaps(1..).find(is_room).ok_or(Error::NoSpace)?;
        let start = *gap.start();
        editor.insert(start..start + len, area).map(|_| start)
    }

    fn mprotect(&self, pages: Range<u64>, writable: bool) -> Result<()> {
        let change = |part: Extent<Area>| Some(Area(part.value().0, writable));
        self.0.edit().update(pages, change).map(drop)
    }

    /// The page of the file to load, or none if the access is not allowed.
    fn fault(&self, page: u64, write: bool) -> Option<u64> {
        let Area(found, writable) = self.0.get(page)?.value_at(page)?;
        (writable || !write).then_some(found)
    }
}

fn main() -> Result<()> {
    let space = AddressSpace(ExtentMap::new());
    let text = space.mmap(100, Area(40, false))?;
    let heap = space.mmap(1_000, Area(7_000, true))?;
    assert_eq!(space.fault(text + 3, false), Some(43));
    assert_eq!(space.fault(text + 3, true), None);
    let seen = thread::scope(|scope| {
        let faults = (0..2_000_000).filter_map(|n| space.fault(heap + n % 1_000, false));
        let reader = scope.spawn(|| faults.count());
        for round in 0..100_000 {
            space.mprotect(heap + 10..heap + 990, round % 2 == 1)?;
        }
        Result::Ok(reader.join().unwrap_or(0))
    })?;
    println!("{seen} of 2000000 faults beside 100000 mprotects found their page");
    assert_eq!((seen, space.0.pin().iter().count()), (2_000_000, 2)); // merged again
    space.0.remove(heap + 10..heap + 20)?; // munmap
    println!("after munmap of ten: {:?}", space.0);
    assert_eq!(space.fault(heap + 15, false), None);
    assert_eq!(space.mmap(9, Area(0, false))?, heap + 10);
    Ok(())
}
