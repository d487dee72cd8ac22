//! A line of an iolog of fio: `FILE ACTION [OFFSET LENGTH]`, from version 3 on behind a time.

use super::{Action, Line, number};

#[derive(Clone, Copy)]
pub(super) enum Version {
    Two,
    Three,
}

impl Version {
    pub(super) fn number(self) -> u32 {
        match self {
            Self::Two => 2,
            Self::Three => 3,
        }
    }
}

/// The version that the first line of a log tells; none if it is no such log.
pub(super) fn version(text: &str) -> Result<Option<Version>, String> {
    let Some(rest) = text.strip_prefix("fio version ") else {
        return Ok(None);
    };
    match rest {
        "2 iolog" => Ok(Some(Version::Two)),
        "3 iolog" => Ok(Some(Version::Three)),
        _ => Err(format!("{text:?} is no version that is known: 2 and 3 are")),
    }
}

pub(super) fn line(version: Version, text: &str) -> Result<Line<'_>, String> {
    let mut words = text.split_whitespace();
    if let Version::Three = version {
        number(words.next().unwrap_or(""))?;
    }
    let (Some(name), Some(action)) = (words.next(), words.next()) else {
        return Err("too short".into());
    };
    let action = match action {
        // Operations follow each other as fast as they can.
        "add" | "open" | "close" | "wait" => return Ok(Line::Nothing),
        "sync" | "datasync" => return Ok(Line::Actions(name, vec![(Action::Sync, 0, 0)])),
        "read" => Action::Read,
        "write" => Action::Write,
        "trim" => Action::Trim,
        other => return Err(format!("{other:?} is no action")),
    };
    let (Some(offset), Some(len)) = (words.next(), words.next()) else {
        return Err("no offset and length".into());
    };
    let (offset, len) = (number(offset)?, number(len)?);
    match len {
        0 => Err("a length of 0".into()),
        _ => Ok(Line::Actions(name, vec![(action, offset, len)])),
    }
}
