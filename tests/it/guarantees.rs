//! docs/guarantees.md names the module of each guarantee, and no module of `tests/it` is missing
//! there.

use std::collections::BTreeSet;
use std::path::Path;

use libtest_mimic::Trial;

use crate::support::suite::tests;

pub fn tests() -> Vec<Trial> {
    tests![every_module_has_a_guarantee, every_named_test_exists]
}

const PAGE: &str = include_str!("../../docs/guarantees.md");
/// Modules without a guarantee.
const OTHERS: [&str; 2] = ["guarantees", "main"];

/// The names in code in the last column of the tables.
fn named() -> BTreeSet<String> {
    let rows = PAGE.lines().filter(|line| line.starts_with("| "));
    let columns = rows.filter_map(|row| row.trim_end_matches(" |").rsplit(" | ").next());
    columns.flat_map(|column| column.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// The modules of `tests/it`, such as `resume` and `redis::failover`.
fn modules() -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it");
    let names = |folder: &Path, prefix: &str| -> Vec<String> {
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let sources = files.filter(|file| file.extension().is_some_and(|extension| extension == "rs"));
        sources.map(|file| format!("{prefix}{}", file.file_stem().unwrap().to_str().unwrap())).collect()
    };
    let redis = names(&root.join("redis"), "redis::").into_iter().filter(|name| name != "redis::mod");
    names(&root, "").into_iter().chain(redis).filter(|name| !OTHERS.contains(&name.as_str())).collect()
}

async fn every_module_has_a_guarantee() {
    let (modules, named) = (modules(), named());
    let missing: Vec<_> = modules.difference(&named).collect();
    assert!(missing.is_empty(), "not in docs/guarantees.md: {missing:?}");
}

async fn every_named_test_exists() {
    let modules = modules();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    // The Nix package has no `.ci`.
    let is_skipped = |name: &String| name.ends_with('…') || name.starts_with(".ci/");
    let is_there = |name: &String| is_skipped(name) || modules.contains(name) || root.join(name).exists();
    let missing: Vec<_> = named().into_iter().filter(|name| !is_there(name)).collect();
    assert!(missing.is_empty(), "docs/guarantees.md names {missing:?}");
}
