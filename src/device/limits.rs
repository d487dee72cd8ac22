//! What a device can do at once, and what it is good at.

/// What a queue in front of a device should know about it. The default is right for every device that implements
/// nothing but the operations that block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Limits {
    /// Bytes that one read or write may have. Discards and zeroes may be as large as the device.
    pub max_bytes: u64,
    /// Buffers that one read or write may have.
    pub max_segments: usize,
    /// What offsets, lengths and the memory of buffers should be multiples of, in bytes. A device that insists refuses
    /// others.
    pub alignment: usize,
    /// Queues of the hardware: requests of separate ones need not wait for each other. At least 1.
    pub queues: usize,
    /// Requests that are useful to have under way at the same time, in each queue. At least 1.
    pub depth: usize,
    /// Whether [`BlockDevice::start`](super::BlockDevice::start) may return before the request has ended. Where it does
    /// not, a thread that submits something may as well carry it out by the operations that block.
    pub asynchronous: bool,
    /// Whether a write with [`fua`](super::Request::fua) that is started costs less than a write and a flush.
    pub native_fua: bool,
    /// Whether a discard does more than nothing and less than a write of that size.
    pub cheap_discard: bool,
    /// Whether making bytes zero costs less than writing zeros.
    pub cheap_zeroes: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_bytes: 1 << 20,
            // More than the usual systems take in one call would be cut in pieces there.
            max_segments: 1024,
            alignment: 1,
            queues: 1,
            depth: 64,
            asynchronous: false,
            native_fua: false,
            cheap_discard: false,
            cheap_zeroes: false,
        }
    }
}
