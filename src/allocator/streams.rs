//! Where requests without a goal begin to look: a few places, so that unrelated files do not meet.
//!
//! A stream always begins at its own place, and not where it was served last as in ext4: what becomes free behind it is
//! used again first, and the long runs ahead of it stay whole.

/// Places spread over the groups, one for each of a few classes of streams.
#[derive(Debug)]
pub(super) struct Streams {
    places: u64,
    groups: usize,
}

impl Streams {
    /// As many places as there are processors, but at least four groups for each.
    pub(super) fn new(groups: usize) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            places: processors.min(groups / 4).max(1) as u64,
            groups,
        }
    }

    /// The group to begin with.
    pub(super) fn group(&self, stream: u64) -> usize {
        (self.groups as u64 * (stream % self.places) / self.places) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_spread_over_the_groups_class_by_class() {
        let streams = Streams {
            places: 4,
            groups: 10,
        };
        assert_eq!(
            [0, 1, 2, 3].map(|stream| streams.group(stream)),
            [0, 2, 5, 7]
        );
        assert_eq!(
            [4, 5, 1 << 40].map(|stream| streams.group(stream)),
            [0, 2, 0]
        );
    }
}
