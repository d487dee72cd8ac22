//! Time, cores and chance.

use std::time::Duration;

/// How much processor time this thread has used: other work on the machine does not count.
#[cfg(target_os = "linux")]
pub(crate) fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Elsewhere: the time on the wall.
#[cfg(not(target_os = "linux"))]
pub(crate) fn thread_time() -> Duration {
    static START: std::sync::LazyLock<std::time::Instant> =
        std::sync::LazyLock::new(std::time::Instant::now);
    START.elapsed()
}

/// How much processor time `work` takes.
pub(crate) fn timed<R>(work: impl FnOnce() -> R) -> Duration {
    let start = thread_time();
    std::hint::black_box(work());
    thread_time() - start
}

/// Keeps this thread on one core, where the system allows it.
pub(crate) fn stay_on(core: usize) {
    #[cfg(target_os = "linux")]
    {
        let mut cores = rustix::thread::CpuSet::new();
        cores.set(core);
        // On a machine with fewer cores the thread stays free.
        let _ = rustix::thread::sched_setaffinity(None, &cores);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = core;
}

/// The same random numbers in every run (Knuth's MMIX generator).
#[derive(Clone)]
pub(crate) struct Random(u64);

impl Default for Random {
    fn default() -> Self {
        Self(0x5EED)
    }
}

impl Random {
    /// A number below `bound`.
    #[inline(always)]
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        ((u128::from(self.0) * u128::from(bound)) >> 64) as u64
    }

    /// Makes what follows depend on `word`.
    #[inline(always)]
    pub(crate) fn mix(&mut self, word: u64) {
        self.0 ^= word;
    }
}
