//! Rust code, cut into what matters to those who look for names in it.

/// One word, `::`, or single other character of Rust code.
pub(crate) type Token<'a> = &'a str;

/// The tokens of `source`, without comments, literals and lifetimes.
pub(crate) fn tokens(source: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut rest = source;
    while let Some(next) = rest.chars().next() {
        let word = rest
            .find(|c: char| !c.is_alphanumeric() && c != '_')
            .unwrap_or(rest.len());
        let len = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let Some(len) = literal(rest) {
            len
        } else if word > 0 {
            tokens.push(&rest[..word]);
            word
        } else if rest.starts_with("::") {
            tokens.push("::");
            2
        } else {
            if !next.is_whitespace() {
                tokens.push(&rest[..next.len_utf8()]);
            }
            next.len_utf8()
        };
        rest = &rest[len..];
    }
    tokens
}

/// The length of the block comment, which may hold others, that `rest` starts with.
fn block_comment(rest: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < rest.len() {
        match &rest.as_bytes()[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

/// The length of the string, character or lifetime that `rest` starts with.
fn literal(rest: &str) -> Option<usize> {
    let prefix = ["br", "b", "cr", "c", "r", ""].into_iter().find(|prefix| {
        let after = rest.strip_prefix(prefix).unwrap_or_default();
        after.trim_start_matches('#').starts_with('"')
            && (after.starts_with('"') || prefix.ends_with('r'))
    });
    if let Some(prefix) = prefix {
        let quote = rest.find('"')?;
        let end = match prefix.ends_with('r') {
            true => format!("\"{}", &rest[prefix.len()..quote]),
            false => return Some(quote + 1 + escaped(&rest[quote + 1..], '"')),
        };
        return Some(quote + 1 + rest[quote + 1..].find(&end)? + end.len());
    }
    let after = rest.strip_prefix('\'')?;
    let mut chars = after.chars();
    match (chars.next()?, chars.next()) {
        ('\\', _) => Some(1 + escaped(after, '\'')),
        (one, Some('\'')) => Some(2 + one.len_utf8()),
        _ => Some(1),
    }
}

/// The length of `rest` up to and with the first `end` that no backslash precedes.
fn escaped(rest: &str, end: char) -> usize {
    let mut skip = false;
    for (at, c) in rest.char_indices() {
        match c {
            _ if skip => skip = false,
            '\\' => skip = true,
            _ if c == end => return at + 1,
            _ => {}
        }
    }
    rest.len()
}
