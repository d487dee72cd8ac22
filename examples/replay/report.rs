//! What a replay found.

/// One difference between a recording and what this crate did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The number of the recorded step.
    pub(crate) step: u64,
    /// What differed.
    pub(crate) field: String,
    /// What the recording has.
    pub(crate) expected: String,
    /// What came out here.
    pub(crate) got: String,
}

/// The result of replaying one recording.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// How many steps were replayed.
    pub(crate) steps: u64,
    /// Every difference, in order; later ones may follow from earlier ones.
    pub(crate) failures: Vec<Failure>,
}
