//! `UNSAFE.md` says why each unsafe block is sound: no block is missing there, and none is there that is gone. The comments
//! in the code name the invariants of that page by number.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

#[path = "common/tokens.rs"]
mod tokens;

use tokens::tokens;

/// How many unsafe blocks each function has, and how many unsafe implementations there are, as `impl`.
type Blocks = BTreeMap<String, usize>;

fn unsafe_blocks(source: &str) -> Blocks {
    let tokens = tokens(source);
    let mut blocks = Blocks::new();
    let mut function = "";
    for (at, token) in tokens.iter().enumerate() {
        match (*token, tokens.get(at + 1)) {
            // In a macro the name of a function is `$name`.
            ("fn", Some(&"$")) => function = tokens[at + 2],
            ("fn", Some(name)) => function = name,
            ("unsafe", Some(&"{")) => *blocks.entry(function.into()).or_default() += 1,
            ("unsafe", Some(&"impl")) => *blocks.entry("impl".into()).or_default() += 1,
            _ => {}
        }
    }
    blocks
}

/// A row of the page: functions, and how many blocks they have together.
type Row = (Vec<String>, usize);

/// The rows below each heading that names a file.
fn rows(page: &str) -> BTreeMap<String, Vec<Row>> {
    let mut files = BTreeMap::new();
    let quoted = |text: &str| {
        text.split('`')
            .skip(1)
            .step_by(2)
            .map(String::from)
            .collect::<Vec<_>>()
    };
    for section in page.split("\n## ").skip(1) {
        let (heading, text) = section.split_once('\n').unwrap_or((section, ""));
        let Some(path) = heading.strip_prefix("`src/") else {
            continue;
        };
        let row = |line: &str| {
            let mut cells = line.split(" | ");
            let names = quoted(cells.next()?);
            Some((names, cells.next()?.parse().ok()?))
        };
        let rows = text.lines().filter_map(row).collect();
        files.insert(path.trim_end_matches('`').into(), rows);
    }
    files
}

/// What a page gets wrong about the unsafe code of `files`.
fn mistakes(page: &str, files: &BTreeMap<String, Blocks>) -> Vec<String> {
    let mut page = rows(page);
    let mut mistakes = Vec::new();
    for (path, blocks) in files {
        let mut blocks = blocks.clone();
        for (names, said) in page.remove(path).unwrap_or_default() {
            let there: usize = names.iter().filter_map(|name| blocks.remove(name)).sum();
            if there != said {
                mistakes.push(format!("{path}: {names:?} have {there} blocks, not {said}"));
            }
        }
        mistakes.extend(
            blocks
                .keys()
                .map(|name| format!("{path}: {name} is missing")),
        );
    }
    mistakes.extend(page.keys().map(|path| format!("{path} has no unsafe code")));
    mistakes
}

/// Whether a word is the number of an invariant, such as `R1`.
fn is_number(word: &str) -> bool {
    matches!(word.as_bytes(), [b'A'..=b'Z', b'1'..=b'9'])
}

/// The numbers in a text.
fn numbers(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_alphanumeric() && c != '_');
    words.filter(|word| is_number(word)).collect()
}

/// The comments that say why unsafe code is sound, or what it asks for, and in which line each begins.
fn arguments(source: &str) -> Vec<(usize, String)> {
    let mut arguments: Vec<(usize, String)> = Vec::new();
    let mut in_one = false;
    for (at, line) in source.lines().enumerate() {
        let line = line.trim_start();
        if line.starts_with("// SAFETY:") || line == "/// # Safety" {
            arguments.push((at + 1, String::new()));
            in_one = true;
        }
        in_one &= line.starts_with("//");
        if let Some((_, text)) = arguments.last_mut().filter(|_| in_one) {
            text.push_str(line);
            text.push('\n');
        }
    }
    arguments
}

/// What is wrong with the numbers in the code with unsafe blocks. The page defines those that it has in bold.
fn misnumbered(page: &str, sources: &BTreeMap<String, String>) -> Vec<String> {
    let bold = page.split("**").skip(1).step_by(2);
    let defined: BTreeSet<&str> = bold.filter(|word| is_number(word)).collect();
    let mut mistakes = Vec::new();
    for (path, source) in sources {
        for (line, argument) in arguments(source) {
            let named = numbers(&argument);
            if named.is_empty() {
                mistakes.push(format!("{path}:{line} names no invariant"));
            }
            let unknown = named.difference(&defined);
            mistakes.extend(unknown.map(|number| format!("{path}:{line} {number} is not there")));
        }
    }
    let named: BTreeSet<&str> = sources
        .values()
        .flat_map(|source| numbers(source))
        .collect();
    let idle = defined.difference(&named);
    mistakes.extend(idle.map(|number| format!("nothing names {number}")));
    mistakes
}

/// Reads all source files below a folder, by their paths from `home`.
fn read_below(folder: &Path, home: &Path, files: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_below(&path, home, files);
            continue;
        }
        let name = path.strip_prefix(home).unwrap().to_str().unwrap();
        files.insert(name.into(), fs::read_to_string(&path).unwrap());
    }
}

/// The page, and the sources with unsafe code.
fn page_and_sources() -> (String, BTreeMap<String, String>) {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = BTreeMap::new();
    read_below(&home.join("src"), &home.join("src"), &mut sources);
    sources.retain(|_, source| !unsafe_blocks(source).is_empty());
    let files = sources.len();
    assert!(files > 10, "only {files} files with unsafe code");
    (fs::read_to_string(home.join("UNSAFE.md")).unwrap(), sources)
}

#[test]
fn every_unsafe_block_has_its_argument() {
    let (page, sources) = page_and_sources();
    let blocks = |(path, source): (&String, &String)| (path.clone(), unsafe_blocks(source));
    let files = sources.iter().map(blocks).collect();
    let mistakes = mistakes(&page, &files);
    assert!(mistakes.is_empty(), "\n{}", mistakes.join("\n"));
}

#[test]
fn every_argument_names_its_invariants() {
    let (page, sources) = page_and_sources();
    let arguments: usize = sources.values().map(|source| arguments(source).len()).sum();
    assert!(arguments > 100, "only {arguments} comments found");
    let mistakes = misnumbered(&page, &sources);
    assert!(mistakes.is_empty(), "\n{}", mistakes.join("\n"));
}

#[test]
fn a_page_that_is_behind_is_noticed() {
    let source = "unsafe impl Send for A {} // unsafe {\n
        fn f() { unsafe { g() }; \"unsafe { }\"; }
        macro_rules! m { () => { unsafe fn $h() { unsafe { unsafe { x() } } } } }";
    let files = BTreeMap::from([("map/a.rs".into(), unsafe_blocks(source))]);
    let good = "# Page\n\n## `src/map/a.rs`\n\n| where | blocks | why |\n|---|---|---|\n\
        | `impl`, `f` | 2 | x |\n| `h` | 2 | y |\n";
    assert_eq!(mistakes(good, &files), [""; 0]);
    let behind = [
        good.replace("`impl`, `f` | 2", "`f` | 1"),
        good.replace("| `h` | 2", "| `h` | 1"),
        good.replace("`h`", "`i`"),
        good.replace("a.rs", "b.rs"),
        format!("{good}\n## `src/map/b.rs`\n"),
        "# Page".into(),
    ];
    for page in behind {
        assert_ne!(mistakes(&page, &files), [""; 0], "{page}");
    }
}

#[test]
fn an_argument_without_its_invariants_is_noticed() {
    let page = "- **R1** one; **N2** two (R9)\n- **R3** three";
    let source = "// SAFETY: this is\n// so (R1).\nunsafe { f() } // R3\n
        /// # Safety\n        /// Ask (N2).\n        unsafe fn h() {}";
    let mistakes = |page: &str, source: &str| {
        misnumbered(page, &BTreeMap::from([("map/a.rs".into(), source.into())]))
    };
    assert_eq!(mistakes(page, source), [""; 0]);
    let behind = [
        ("(R1)", "R1_, R10, r1", "map/a.rs:1 names no invariant"),
        ("// so", "f(); // so", "map/a.rs:1 names no invariant"),
        ("N2", "R", "map/a.rs:5 names no invariant"),
        ("R1", "R1, R9", "map/a.rs:1 R9 is not there"),
        ("// R3", "", "nothing names R3"),
    ];
    for (good, bad, mistake) in behind {
        let mistakes = mistakes(page, &source.replace(good, bad));
        assert!(mistakes.iter().any(|m| m == mistake), "{bad}: {mistakes:?}");
    }
    let undefined = mistakes(&page.replace("**R1**", "R1"), source);
    assert_eq!(undefined, ["map/a.rs:1 R1 is not there"]);
}
