//! What the threads do: kinds of operations, and how often each comes.

use std::fmt;
use std::str::FromStr;

/// A kind of operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Read,
    Write,
    Append,
    Fallocate,
    Punch,
    Truncate,
    Fault,
    Sync,
}

/// How many kinds there are.
pub(crate) const KINDS: usize = 8;

impl Kind {
    pub(crate) const ALL: [Self; KINDS] = [
        Self::Read,
        Self::Write,
        Self::Append,
        Self::Fallocate,
        Self::Punch,
        Self::Truncate,
        Self::Fault,
        Self::Sync,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Append => "append",
            Self::Fallocate => "fallocate",
            Self::Punch => "punch",
            Self::Truncate => "truncate",
            Self::Fault => "fault",
            Self::Sync => "sync",
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// The mixes that have a name.
pub(crate) const NAMED: [(&str, &str); 7] = [
    ("lookup95", "read=95,write=5"),
    ("append", "append=99,truncate=1"),
    ("random-write", "write=100"),
    (
        "mixed",
        "read=55,write=20,append=10,fallocate=4,punch=5,truncate=2,fault=4",
    ),
    ("truncate-storm", "append=60,truncate=40"),
    ("fsync", "write=50,append=25,sync=25"),
    ("fault-storm", "fault=60,fallocate=20,punch=20"),
];

/// Of a hundred operations, which are of what kind.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Mix {
    name: String,
    kinds: Vec<Kind>,
}

impl Mix {
    /// The kind of an operation, chosen by a number below a hundred.
    #[inline(always)]
    pub(crate) fn kind(&self, number: u64) -> Kind {
        self.kinds[number as usize]
    }

    /// How many of a hundred operations are of this kind.
    pub(crate) fn share(&self, kind: Kind) -> usize {
        self.kinds.iter().filter(|other| **other == kind).count()
    }
}

impl FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = NAMED.iter().find(|(name, _)| *name == text);
        let mut kinds = Vec::new();
        for part in named.map_or(text, |(_, parts)| parts).split(',') {
            let (name, share) = part.split_once('=').ok_or_else(|| {
                let names = NAMED.map(|(name, _)| name).join(", ");
                format!("{part:?} is no mix: one of {names}, or parts like read=90,write=10")
            })?;
            let kind = Kind::named(name.trim()).ok_or_else(|| {
                let names = Kind::ALL.map(Kind::name).join(", ");
                format!("{name:?} is no operation: there are {names}")
            })?;
            let share = share.trim().parse::<u8>().ok().filter(|it| *it <= 100);
            let share =
                share.ok_or_else(|| format!("{part:?} has no whole number from 0 to 100"))?;
            if kinds.contains(&kind) {
                return Err(format!("{name:?} is there twice"));
            }
            kinds.resize(kinds.len() + usize::from(share), kind);
        }
        match kinds.len() {
            100 => Ok(Self {
                name: text.into(),
                kinds,
            }),
            sum => Err(format!("the parts add up to {sum}, not to 100")),
        }
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if !self.name.contains('=') {
            let shares = Kind::ALL.map(|kind| (kind, self.share(kind)));
            let some = shares.iter().filter(|(_, share)| *share > 0);
            let parts: Vec<_> = some
                .map(|(kind, share)| format!("{} {share}", kind.name()))
                .collect();
            write!(f, " ({})", parts.join(", "))?;
        }
        Ok(())
    }
}
