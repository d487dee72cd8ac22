//! Where the threads do it: one of so many places after the other.

use clap::ValueEnum;

use super::random::Random;

/// How places are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Distribution {
    /// Each as often as any other
    Uniform,
    /// The n-th best liked one n times less often than the best
    Zipf,
    /// One after the other
    Sequential,
}

/// The choices of one thread.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    distribution: Distribution,
    next: u64,
}

impl Places {
    pub(crate) fn new(distribution: Distribution, next: u64) -> Self {
        Self { distribution, next }
    }

    /// One of the numbers below `count`, which is not 0.
    #[inline(always)]
    pub(crate) fn choose(&mut self, count: u64, random: &mut Random) -> u64 {
        match self.distribution {
            Distribution::Uniform => below(random, count),
            Distribution::Zipf => scattered(liked(random, count), count),
            Distribution::Sequential => {
                self.next += 1;
                self.next % count
            }
        }
    }
}

/// A number below `count`, without a division.
#[inline(always)]
pub(crate) fn below(random: &mut Random, count: u64) -> u64 {
    ((u128::from(random.any()) * u128::from(count)) >> 64) as u64
}

/// A number below `count`; `n` comes about `n + 1` times less often than 0.
fn liked(random: &mut Random, count: u64) -> u64 {
    // The share of numbers below n is ln(n + 1) / ln(count + 1).
    let number = ((count + 1) as f64).powf(random.fraction()) - 1.0;
    (number as u64).min(count - 1)
}

/// Another order of the numbers below `count`: those that are liked most are no neighbours.
fn scattered(number: u64, count: u64) -> u64 {
    /// A prime larger than any count.
    const STEP: u128 = (1 << 61) - 1;
    (u128::from(number) * STEP % u128::from(count)) as u64
}
