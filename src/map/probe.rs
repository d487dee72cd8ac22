//! For tests: seeing a writer at every step of an edit, and breaking the promises one by one.
//!
//! Without the feature `testing` all of this is nothing.

#![cfg_attr(not(feature = "testing"), allow(unreachable_pub))]

use core::fmt;

#[cfg(feature = "testing")]
use alloc::boxed::Box;

/// Where a writer is inside one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "testing"), allow(dead_code))]
pub enum Step {
    /// It has looked at what there is.
    Locked,
    /// The new nodes are filled; nobody sees them yet.
    Built,
    /// Readers know that something is about to change.
    Announced,
    /// Readers see the change.
    Published,
    /// The nodes that were replaced are out of the writer's hands. Not every edit comes here.
    Retired,
}

/// A promise broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "testing"), allow(dead_code))]
pub enum Mutation {
    /// Nodes are published with an ordering that does not bring their content along.
    RelaxedPublish,
    /// An edit that inserts over something first removes it, in a change of its own.
    PublishInPieces,
    /// Nodes are reused without waiting for readers.
    EarlyFree,
    /// A walk over several leaves, or several values, does not check that they belong together.
    WalkWithoutCheck,
    /// [`Editor::revalidate`](super::Editor::revalidate) does not look at the leaves.
    TrustStaleLook,
    /// A view answers from the extent it saw last without asking whether it is still there.
    CacheWithoutCheck,
    /// A lookup does not check that the length and the value it read belong together. Only in the builds for model
    /// checkers: elsewhere a lookup shall cost what it costs.
    ReadTorn,
    /// Neighbours that could merge do not.
    LeaveUnmerged,
}

/// What a test does to a map; nothing by default.
#[derive(Default)]
pub struct Probe {
    #[cfg(feature = "testing")]
    mutation: Option<Mutation>,
    #[cfg(feature = "testing")]
    #[allow(clippy::type_complexity, reason = "a hook")]
    hook: Option<Box<dyn Fn(Step) + Send + Sync>>,
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probe").finish_non_exhaustive()
    }
}

#[cfg(feature = "testing")]
impl Probe {
    /// A probe that does nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Breaks a promise.
    #[must_use]
    pub fn mutation(self, mutation: Mutation) -> Self {
        Self {
            mutation: Some(mutation),
            ..self
        }
    }

    /// Calls `hook` in the writer's thread, under the writer lock, at each step.
    #[must_use]
    pub fn on_step(self, hook: impl Fn(Step) + Send + Sync + 'static) -> Self {
        Self {
            hook: Some(Box::new(hook)),
            ..self
        }
    }

    pub(super) fn is(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    pub(super) fn at(&self, step: Step) {
        if let Some(hook) = &self.hook {
            hook(step);
        }
    }
}

#[cfg(not(feature = "testing"))]
impl Probe {
    pub(super) const fn is(&self, _: Mutation) -> bool {
        false
    }

    pub(super) const fn at(&self, _: Step) {}
}
