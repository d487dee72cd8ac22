//! What the pages tell a reader to type is what CI types, so none of it can rot; and the recipes of the justfile are
//! the steps of CI.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// What CI does not run as it is written, and why that will do.
const OTHERWISE: [(&str, &str); 10] = [
    (
        "cargo bench --bench versus",
        "minutes; CI runs --check-only",
    ),
    (
        "cargo bench --features uring --bench device",
        "wants a disk; CI compiles it",
    ),
    (
        "cargo run --release --example scaling",
        "a simulation; CI runs its test",
    ),
    (
        ".ci/sanitizers thread",
        "reports what is none without an instrumented std",
    ),
    (".ci/coverage", "wants the tools of LLVM"),
    (".ci/mutants status", "hours"),
    (
        "cargo deny check licenses bans sources",
        "cargo-deny takes minutes to build",
    ),
    ("cargo deny check advisories", "fetches its database"),
    ("cargo install just", "for those who like recipes"),
    ("just --list", "likewise"),
];

fn read(page: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(page)).unwrap()
}

/// The commands of a page: the lines of its `sh` blocks, and what is quoted and begins like one.
fn commands(page: &str) -> Vec<String> {
    let mut commands = Vec::new();
    for (number, part) in page.split("```").enumerate() {
        if number % 2 == 0 {
            let quoted = part.split('`').skip(1).step_by(2);
            let starts = ["cargo ", "just ", ".ci/"];
            let typed = quoted.filter(|text| starts.iter().any(|start| text.starts_with(start)));
            commands.extend(typed.map(String::from));
        } else if let Some(block) = part.strip_prefix("sh\n") {
            commands.extend(block.lines().map(String::from));
        }
    }
    commands
}

/// A command without what only says how much of it there is to be, where, and how loudly.
fn essence(command: &str) -> Vec<&str> {
    let words = command.split(|c: char| c.is_whitespace() || "\"()".contains(c));
    let words =
        words.skip_while(|word| !["cargo", "just"].contains(word) && !word.starts_with(".ci/"));
    let mut essence = Vec::new();
    let mut words = words.filter(|word| !word.is_empty() && *word != "--quiet");
    while let Some(word) = words.next().filter(|word| *word != "--") {
        match word {
            "--target-dir" => _ = words.next(),
            _ => essence.push(word),
        }
    }
    essence
}

/// The names of CI's steps.
fn steps(ci: &str) -> Vec<&str> {
    let steps = ci.lines().filter_map(|line| line.strip_prefix("step \""));
    steps
        .filter_map(|step| Some(step.split_once('"')?.0))
        .collect()
}

/// What a step is called as a recipe.
fn recipe_of(step: &str) -> String {
    let words = step.split(|c: char| !c.is_alphanumeric() && c != '_');
    words
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join("-")
}

/// The recipes of a justfile, each with its one command.
fn recipes(justfile: &str) -> BTreeMap<&str, &str> {
    let lines: Vec<&str> = justfile.lines().collect();
    lines
        .windows(2)
        .filter_map(|pair| Some((pair[0].strip_suffix(':')?, pair[1].strip_prefix("    ")?)))
        .collect()
}

/// The commands of `page` that nobody runs.
fn not_run(page: &str, ci: &str, recipes: &BTreeMap<&str, &str>) -> Vec<String> {
    let run: Vec<Vec<&str>> = ci.lines().map(essence).collect();
    let is_run = |command: &String| {
        let essence = essence(command);
        match essence[..] {
            [".ci/run"] => true,
            [".ci/run", ..] => recipes.contains_key(essence[1..].join("-").as_str()),
            ["just", recipe] if recipes.contains_key(recipe) => true,
            _ => {
                run.contains(&essence)
                    || OTHERWISE
                        .iter()
                        .any(|(known, _)| *known == essence.join(" "))
            }
        }
    };
    commands(page)
        .into_iter()
        .filter(|command| !is_run(command))
        .collect()
}

#[test]
fn every_command_of_the_pages_is_run_by_ci() {
    let (ci, justfile) = (read(".ci/run"), read("justfile"));
    let mut said = String::new();
    for page in ["README.md", "CONTRIBUTING.md"] {
        let text = read(page);
        assert!(commands(&text).len() > 5, "{page}: {:?}", commands(&text));
        assert_eq!(not_run(&text, &ci, &recipes(&justfile)), [""; 0], "{page}");
        said += &text;
    }
    for (known, _) in OTHERWISE {
        assert!(said.contains(known), "no page says `{known}` any more");
    }
}

#[test]
fn the_recipes_are_the_steps_of_ci() {
    let (ci, justfile) = (read(".ci/run"), read("justfile"));
    let mut recipes = recipes(&justfile);
    assert_eq!(recipes.remove("ci"), Some(".ci/run"));
    for step in steps(&ci) {
        let command = recipes.remove(recipe_of(step).as_str());
        assert_eq!(
            command,
            Some(format!(".ci/run \"{step}\"").as_str()),
            "{step}"
        );
    }
    assert!(recipes.is_empty(), "no step of CI: {recipes:?}");
}

#[test]
fn what_nobody_runs_is_noticed() {
    let ci = "all=(cargo run --quiet --example all --)\nstep \"unit tests\" cargo test --target-dir x --lib\n";
    let recipes = BTreeMap::from([("unit-tests", ".ci/run \"unit tests\"")]);
    let page = "`cargo run --example all -- --seed 7`, `just unit-tests`, `.ci/run \"unit tests\"`\n```sh\ncargo test --lib\n```\n";
    assert_eq!(commands(page).len(), 4);
    assert_eq!(not_run(page, ci, &recipes), [""; 0]);
    let bad =
        "`cargo run --example al`, `just tests`\n```sh\ncargo test\n```\n`cargo test --lib x`";
    assert_eq!(not_run(bad, ci, &recipes), commands(bad));
    assert_eq!(
        steps(ci).into_iter().map(recipe_of).collect::<Vec<_>>(),
        ["unit-tests"]
    );
}
