//! Epochs that never end, for loom without `--cfg crossbeam_loom`: nothing deferred ever runs, and no memory is reused.
//! Without the steps of real epochs, loom can go through all executions of three threads.

/// Where handles come from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Collector;

impl Collector {
    pub(crate) fn register(&self) -> LocalHandle {
        LocalHandle
    }
}

/// What a thread pins with.
pub(crate) struct LocalHandle;

impl LocalHandle {
    pub(crate) fn pin(&self) -> Guard {
        Guard
    }
}

/// What lives under it lives anyway.
pub(crate) struct Guard;

impl Guard {
    pub(crate) fn defer(&self, _: impl FnOnce() + Send + 'static) {}

    pub(crate) fn flush(&self) {}
}
