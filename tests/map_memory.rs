//! What a map allocates it gives back: an allocator that counts live bytes tells.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread;

use extent_map::map::{ExtentMap, Reclaimer};

struct Counting;

static LIVE: AtomicI64 = AtomicI64::new(0);

// SAFETY: passes every call on to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size() as i64, Ordering::Relaxed);
        // SAFETY: the caller's promises are those that `System` needs.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size() as i64, Ordering::Relaxed);
        // SAFETY: the caller's promises are those that `System` needs.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn live() -> i64 {
    LIVE.load(Ordering::Relaxed)
}

/// One extent takes 24 bytes in the map, so this is the size of one state.
const EXTENTS: u64 = 1000;
const STATE_BYTES: i64 = 24 * EXTENTS as i64;

fn fill(map: &ExtentMap<u64>) {
    (0..EXTENTS).for_each(|i| drop(map.insert(i * 4..i * 4 + 2, i << 32)));
}

fn churn(map: &ExtentMap<u64>, edits: u64) {
    for n in 0..edits {
        let start = n % EXTENTS * 4;
        drop(map.insert(start..start + 2, n << 32));
    }
}

/// One test, because the count is of the whole process.
#[test]
fn garbage_stays_small_and_dropping_frees_everything() {
    let round = || {
        let reclaimer = Reclaimer::new();
        let registered = live();
        let map = ExtentMap::with_reclaimer(&reclaimer);
        fill(&map);

        // A view that is kept, and readers that come and go, hold nothing back.
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let read = || {
                let view = map.pin();
                while !stop.load(Ordering::Relaxed) {
                    assert!(view.get(1).is_some());
                    thread::yield_now();
                }
            };
            let readers = [scope.spawn(read), scope.spawn(read)];
            churn(&map, 3000);
            stop.store(true, Ordering::Relaxed);
            // Joined one by one: the end of a scope does not wait for a thread's own destructors.
            for reader in readers {
                reader.join().unwrap();
            }
        });
        let kept = map.pin();
        assert!(kept.get(0).is_some());
        churn(&map, 1000);
        let garbage = live() - registered - STATE_BYTES;
        assert!(garbage < 16 * STATE_BYTES, "{garbage} bytes of garbage");

        // The map takes its garbage with it, while reclaimer and registration live on.
        drop(kept);
        drop(map);
        let left = live() - registered;
        assert!(left < 2 * STATE_BYTES / 3, "{left} bytes after the map");

        // Reclaimers that come and go leave nothing with a thread that lives on.
        let before = live();
        (0..200).for_each(|_| churn(&ExtentMap::new(), 3));
        assert_eq!(live(), before);
        drop(reclaimer);
    };
    // The first round also pays for what the process keeps.
    thread::scope(|scope| scope.spawn(round).join().unwrap());
    let before = live();
    thread::scope(|scope| scope.spawn(round).join().unwrap());
    assert_eq!(live(), before);

    // In a thread that lives on, dropping the last clone of a reclaimer frees the collector too.
    let one = || {
        let reclaimer = Reclaimer::new();
        churn(&ExtentMap::with_reclaimer(&reclaimer), 100);
    };
    one();
    let before = live();
    one();
    assert_eq!(live(), before);
}
