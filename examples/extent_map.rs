//! A virtual disk: which sectors of the guest lie where in a file. Without snapshots, what has a place is overwritten
//! there; readers look places up meanwhile and never wait.
//!
//! `cargo run --release --example extent_map`

use std::fs::File;
use std::io::Result;
use std::os::unix::fs::FileExt;
use std::thread;

use extent_map::map::ExtentMap;

const SECTORS: u64 = 20_000;

struct Disk {
    /// From sectors of the guest to sectors of the file.
    places: ExtentMap<u64>,
    file: File,
}

impl Disk {
    /// Writes to each sector its number, and finds a place for those that have none at the end of the file.
    fn write(&self, start: u64, len: u64) -> Result<()> {
        let sectors = start..start + len;
        let mut editor = self.places.edit();
        let mut end = self.file.metadata()?.len() / 512;
        let extents = editor.overlapping(sectors.clone());
        for part in extents.filter_map(|extent| extent.clip(sectors.clone())) {
            self.put(part.start(), part.len(), part.value())?;
        }
        for gap in editor.gaps(sectors).collect::<Vec<_>>() {
            let len = gap.end() - gap.start() + 1;
            self.put(*gap.start(), len, end)?; // first the data: who finds the place finds it
            editor.insert(gap, end)?;
            end += len;
        }
        Ok(())
    }

    fn put(&self, sector: u64, len: u64, place: u64) -> Result<()> {
        let bytes = (sector..sector + len).flat_map(|sector| sector.to_le_bytes().repeat(64));
        let bytes: Vec<u8> = bytes.collect();
        self.file.write_all_at(&bytes, place * 512)
    }

    /// The number in a sector that was written.
    fn read(&self, sector: u64) -> Option<u64> {
        let place = self.places.get(sector)?.value_at(sector)?;
        let mut bytes = [0; 8];
        let read = self.file.read_exact_at(&mut bytes, place * 512);
        Some(read.map_or(u64::MAX, |()| u64::from_le_bytes(bytes)))
    }
}

fn main() -> Result<()> {
    let (places, file) = (ExtentMap::new(), tempfile::tempfile()?);
    let disk = Disk { places, file };
    disk.write(0, SECTORS / 2)?;
    let (written, wrong) = thread::scope(|scope| {
        let is_wrong = |sector: &u64| match disk.read(*sector) {
            Some(number) => number != *sector,
            None => *sector < SECTORS / 2, // written before
        };
        let sectors = (0..500_000).map(|n| n * 7_919 % SECTORS);
        let reader = scope.spawn(move || sectors.filter(is_wrong).count());
        let written = (0..500).try_for_each(|n| disk.write(n * 6_007 % 19_900, 1 + n % 64));
        (written, reader.join().unwrap_or(usize::MAX))
    });
    assert!(written.is_ok() && wrong == 0, "{written:?}, {wrong} wrong");
    println!("500000 reads beside 500 writes saw no hole and no other data");
    let view = disk.places.pin();
    let mapped: u64 = view.iter().map(|extent| extent.len()).sum();
    println!("{mapped} of {SECTORS} sectors have a place");
    assert_eq!(mapped * 512, disk.file.metadata()?.len());
    let freed = disk.places.remove(1_000..2_000)?; // the guest trims
    println!("trimmed, and free in the file: {freed:?}");
    assert_eq!((freed.len(), disk.read(1_500)), (1, None));
    Ok(())
}
