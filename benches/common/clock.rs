//! The time that a thread uses, and the core it is on.

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
