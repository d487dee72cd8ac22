//! The house rules of `src`: who may import whom, where `unsafe` and synchronisation primitives may be
//! named, how long a file may get.

use std::fs;
use std::path::{Path, PathBuf};

#[path = "common/tokens.rs"]
mod tokens;

use tokens::{Token, tokens};

/// What the non-test code of each layer may import, from the top layer down.
const LAYERS: [(&str, &[&str]); 10] = [
    // Words only.
    ("guide", &[]),
    (
        "testing",
        &[
            "file",
            "delalloc",
            "status",
            "allocator",
            "mapping",
            "map",
            "block",
            "device",
        ],
    ),
    (
        "file",
        &[
            "delalloc",
            "status",
            "allocator",
            "mapping",
            "block",
            "device",
        ],
    ),
    ("delalloc", &["status", "allocator", "mapping", "block"]),
    ("status", &["map"]),
    ("allocator", &[]),
    ("mapping", &["block", "device"]),
    ("map", &[]),
    ("block", &["device"]),
    ("device", &[]),
];

/// What everything may import, itself importing no layer; the last two are names in the crate's root.
const SHARED: [&str; 8] = [
    "units", "error", "stats", "spans", "sync", "probe", "Error", "Result",
];

const UNSAFE_ALLOWED: [&str; 2] = ["map/", "device/uring/"];
const MAX_LINES: usize = 600;

/// Every name in the crate's root that a path in `tokens` goes through, when the code stands in `module`.
fn imports<'a>(module: &[&'a str], tokens: &[Token<'a>]) -> Vec<&'a str> {
    let mut found = Vec::new();
    // The module, how many names of it are inline modules, and the brace depth of each of those.
    let mut module = module.to_vec();
    let mut inline: Vec<usize> = Vec::new();
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(&token) = tokens.get(at) {
        match token {
            "{" => depth += 1,
            "}" => {
                depth = depth.saturating_sub(1);
                if inline.last() == Some(&depth) {
                    inline.pop();
                    module.pop();
                }
            }
            "mod" if tokens.get(at + 2) == Some(&"{") => {
                inline.push(depth);
                module.push(tokens[at + 1]);
            }
            "crate" | "super" | "self" if at == 0 || tokens[at - 1] != "::" => {
                at += follow(module.len(), &tokens[at..], &mut found);
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    found
}

/// Follows the path, or group of paths, at the start of `tokens` from a module `depth` levels below the crate's
/// root and notes what it names in the root. Returns how many tokens it took.
fn follow<'a>(mut depth: usize, tokens: &[Token<'a>], found: &mut Vec<&'a str>) -> usize {
    let mut at = 0;
    while let Some(&token) = tokens.get(at) {
        match token {
            "self" => {}
            "crate" => depth = 0,
            "super" => depth = depth.saturating_sub(1),
            "{" => {
                at += 1;
                while tokens.get(at).is_some_and(|&token| token != "}") {
                    at += match tokens[at] {
                        "," => 1,
                        _ => follow(depth, &tokens[at..], found),
                    };
                }
                return at + 1;
            }
            name => {
                if depth == 0 {
                    found.push(name);
                }
                // Whatever follows lies inside `name`.
                depth = usize::MAX;
            }
        }
        at += 1;
        if tokens.get(at) != Some(&"::") {
            return at;
        }
        at += 1;
    }
    at
}

/// What `source`, the file `path` below `src`, does against the rules.
fn violations(path: &str, source: &str) -> Vec<String> {
    let mut violations = Vec::new();
    let mut module: Vec<&str> = path.trim_end_matches(".rs").split('/').collect();
    module.retain(|name| *name != "mod" && *name != "lib");
    let tokens = tokens(source);
    if let Some(&home) = module.first() {
        let allowed = LAYERS
            .iter()
            .find_map(|&(layer, allowed)| (layer == home).then_some(allowed));
        if allowed.is_none() && !SHARED.contains(&home) {
            violations.push(format!("{home} has no place in the table of layers"));
        }
        for import in imports(&module, &tokens) {
            let fine = import == home
                || SHARED.contains(&import)
                || allowed.is_some_and(|allowed| allowed.contains(&import));
            if !fine {
                violations.push(format!("{home} must not import {import}"));
            }
        }
    } else if let Some(declared) = tokens.iter().position(|token| *token == "testing")
        && !tokens[..declared].ends_with(&["cfg", "(", "feature", "=", ")", "]", "pub", "mod"])
    {
        violations.push("testing must be behind its feature".into());
    }
    if tokens.contains(&"unsafe") && !UNSAFE_ALLOWED.iter().any(|place| path.starts_with(place)) {
        violations.push("unsafe code has no place here".into());
    }
    if module.first() != Some(&"sync") && names_primitives(&tokens) {
        violations.push("synchronisation primitives come from crate::sync".into());
    }
    if source.lines().count() > MAX_LINES {
        violations.push(format!("longer than {MAX_LINES} lines"));
    }
    if !source.starts_with("//!") {
        violations.push("does not begin with its documentation".into());
    }
    violations
}

/// Whether a primitive is named by its home. `Arc` and `Weak` only count and never wait.
fn names_primitives(tokens: &[Token<'_>]) -> bool {
    const CRATES: [&str; 5] = ["crossbeam_epoch", "loom", "parking_lot", "shuttle", "spin"];
    const STD: [&str; 3] = ["alloc", "core", "std"];
    let crates = tokens
        .windows(2)
        .any(|pair| CRATES.contains(&pair[0]) && pair[1] == "::");
    let std = tokens.windows(5).any(|path| {
        STD.contains(&path[0])
            && path[1..4] == ["::", "sync", "::"]
            && !["Arc", "Weak"].contains(&path[4])
            || path[0] == "use" && STD.contains(&path[1]) && path[2..4] == ["::", "{"]
    });
    crates || std
}

/// All files below `folder`, and a complaint for each folder without a `mod.rs`.
fn walk(folder: &Path, files: &mut Vec<PathBuf>, complaints: &mut Vec<String>) {
    let entries = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    for path in entries {
        if path.is_dir() {
            if !path.join("mod.rs").is_file() {
                complaints.push(format!("{}: no mod.rs", path.display()));
            }
            walk(&path, files, complaints);
        } else {
            files.push(path);
        }
    }
}

#[test]
fn every_source_file_keeps_the_house_rules() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut files, mut complaints) = (Vec::new(), Vec::new());
    walk(&src, &mut files, &mut complaints);
    assert!(files.len() > 40, "only {} files found", files.len());
    for file in files {
        let path = file.strip_prefix(&src).unwrap().to_str().unwrap();
        let source = fs::read_to_string(&file).unwrap();
        let found = violations(path, &source);
        complaints.extend(found.iter().map(|what| format!("src/{path}: {what}")));
    }
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

/// Everything that the Rust files below `folder` say.
fn everything_in(folder: &Path) -> String {
    let mut all = String::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all += &everything_in(&path);
        } else if path.extension().is_some_and(|end| end == "rs") {
            all += &fs::read_to_string(&path).unwrap();
        }
    }
    all
}

#[test]
fn every_protection_that_can_be_taken_away_is_in_the_code_and_a_test_takes_it_away() {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (src, tests) = (home.join("src"), everything_in(&home.join("tests")));
    for probe in ["probe.rs", "map/probe.rs"] {
        let source = fs::read_to_string(src.join(probe)).unwrap();
        let (_, list) = source.split_once("pub enum Mutation {").unwrap();
        let (list, _) = list.split_once('}').unwrap();
        let lines = list.lines().map(str::trim);
        let names = lines.filter_map(|line| line.strip_suffix(','));
        let names: Vec<_> = names.filter(|name| !name.starts_with("//")).collect();
        assert!(names.len() >= 8, "{probe}: {names:?}");
        let code = everything_in(&src);
        for name in names {
            assert!(
                code.contains(&format!("Mutation::{name}")),
                "{name} does nothing"
            );
            assert!(tests.contains(name), "no test takes {name} away");
        }
    }
}

#[test]
fn the_scanner_sees_imports_that_run_upwards_or_sideways() {
    let upwards = [
        ("map/editor.rs", "use crate::status::Status;"),
        ("status/mod.rs", "use crate::allocator::Ledger;"),
        ("status/mod.rs", "use super::mapping::Mapping;"),
        ("status/tree.rs", "use super::super::block;"),
        (
            "status/tree.rs",
            "use crate::{units::FileBlock, mapping::{self, Mapping}};",
        ),
        (
            "status/tree.rs",
            "use crate::units::{FileBlock, FileRange}; use crate::file;",
        ),
        (
            "status/tree.rs",
            "fn f() { let x = crate::delalloc::Probe::default(); }",
        ),
        (
            "status/tree.rs",
            "mod tests { use super::super::super::file::File; }",
        ),
        ("status/tree.rs", "mod tests { } use super::super::file;"),
        ("status/tree.rs", "use crate::*;"),
        (
            "delalloc/admit.rs",
            "use super::super::{block::Bio, map::ExtentMap};",
        ),
        ("file/mod.rs", "use crate::testing::check;"),
        ("device/mod.rs", "use crate::block::Bio;"),
        ("units.rs", "use crate::file::File;"),
        ("elsewhere/mod.rs", ""),
        ("lib.rs", "pub mod testing;"),
    ];
    for (path, code) in upwards {
        assert_eq!(
            violations(path, &format!("//! x\n{code}")).len(),
            1,
            "{path}: {code}"
        );
    }
}

#[test]
fn the_scanner_sees_unsafe_code_and_primitives_and_missing_docs() {
    let long = "// x\n".repeat(MAX_LINES);
    let bad = [
        ("file/mod.rs", "fn f() { unsafe { g() } }"),
        ("block/queue.rs", "unsafe impl Send for Q {}"),
        ("file/mod.rs", "use std::sync::Mutex;"),
        ("file/mod.rs", "use std::sync::{Arc, Mutex};"),
        ("file/mod.rs", "use std::sync::atomic::AtomicU64;"),
        ("file/mod.rs", "use std::{fmt, sync::Mutex};"),
        (
            "file/mod.rs",
            "static LOCK: parking_lot::Mutex<()> = parking_lot::const_mutex(());",
        ),
        ("map/mod.rs", "use core::sync::atomic::AtomicU64;"),
        ("map/mod.rs", "use alloc::{boxed::Box, sync::Arc};"),
        ("map/mod.rs", "use crossbeam_epoch::Collector;"),
        ("map/mod.rs", "use loom::cell::UnsafeCell;"),
        ("map/mod.rs", "use shuttle::thread;"),
        ("map/mod.rs", &long),
    ];
    for (path, code) in bad {
        assert_eq!(
            violations(path, &format!("//! x\n{code}")).len(),
            1,
            "{path}: {code}"
        );
    }
    assert_eq!(violations("file/mod.rs", "use std::fmt;").len(), 1);
}

#[test]
fn the_scanner_lets_good_code_pass() {
    let good = r##"//! unsafe in words; crate::testing
        use std::sync::{Arc as Count};
        use std::sync::Arc;
        use super::{Status, tree::StatusTree};
        use crate::{error::Result, map::ExtentMap, units::{FileBlock, FileRange}};
        /* crate::file /* nested */ unsafe */
        pub(crate) fn f<'a>(x: &'a str) -> char {
            let _ = ("crate::file \" unsafe", r#"unsafe "crate::file" "#, b"unsafe", '"', '\'');
            self::g::<'a>(x); crate::Error::NoSpace; 'u'
        }
        mod tests { use super::*; use super::super::Status; }
        "##;
    let expected = ["synchronisation primitives come from crate::sync"];
    assert_eq!(violations("status/editor.rs", good), expected);
    let good = good.replace("use std::sync::{Arc as Count};", "");
    assert_eq!(violations("status/editor.rs", &good), [""; 0]);
    let gated = "//! x\n#[cfg(feature = \"testing\")]\npub mod testing;";
    assert_eq!(violations("lib.rs", gated), [""; 0]);
}
