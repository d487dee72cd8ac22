//! This crate's map.

use extent_map::map::{Extent, ExtentMap};

use super::extents::{Extents, Run};

pub(crate) type Ours = ExtentMap<u64>;

impl From<Extent<u64>> for Run {
    #[inline(always)]
    fn from(extent: Extent<u64>) -> Self {
        Self {
            first: extent.start(),
            last: extent.last(),
            value: extent.value(),
        }
    }
}

impl Extents for Ours {
    const NAME: &'static str = "ExtentMap";

    #[inline(always)]
    fn reader(&self) -> impl Fn(u64) -> Option<Run> {
        let view = self.pin();
        move |block| view.get(block).map(Run::from)
    }

    fn replace(&self, first: u64, last: u64, value: Option<u64>) {
        match value {
            Some(value) => self.insert(first..=last, value),
            None => self.remove(first..=last),
        }
        .expect("not empty");
    }
}
