//! `UNSAFE.md` says why each unsafe block is sound: no block is missing there, and none is there that is gone.

use std::collections::BTreeMap;
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

fn read_below(folder: &Path, home: &Path, files: &mut BTreeMap<String, Blocks>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_below(&path, home, files);
            continue;
        }
        let blocks = unsafe_blocks(&fs::read_to_string(&path).unwrap());
        if !blocks.is_empty() {
            let name = path.strip_prefix(home).unwrap().to_str().unwrap();
            files.insert(name.into(), blocks);
        }
    }
}

#[test]
fn every_unsafe_block_has_its_argument() {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = BTreeMap::new();
    read_below(&home.join("src"), &home.join("src"), &mut files);
    assert!(
        files.len() > 10,
        "only {} files with unsafe code",
        files.len()
    );
    let page = fs::read_to_string(home.join("UNSAFE.md")).unwrap();
    let mistakes = mistakes(&page, &files);
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
