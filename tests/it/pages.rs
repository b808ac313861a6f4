//! `docs/guarantees.md` names a test for each guarantee, and each test that it names exists.

use std::path::Path;

use crate::support::suite::tests;
use libtest_mimic::Trial;

pub fn tests() -> Vec<Trial> {
    tests![each_guarantee_names_a_test_that_exists]
}

async fn each_guarantee_names_a_test_that_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let rows = include_str!("../../docs/guarantees.md").lines().filter_map(|line| line.strip_prefix("| "));
    let mut count = 0;
    for (guarantee, names) in rows.filter_map(|row| row.split_once(" | ")) {
        if guarantee == "guarantee" || guarantee == "---" {
            continue;
        }
        count += 1;
        // A name with a slash is a path; `memory::…` is a group of tests and not a module.
        let names: Vec<_> = names.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "no test: {guarantee}");
        for name in names.into_iter().filter(|name| !name.ends_with('…')) {
            let module = root.join("tests/it").join(format!("{}.rs", name.replace("::", "/")));
            let exists = if name.contains('/') { root.join(name).exists() } else { module.exists() };
            // A package has no `.ci` and no fuzz targets.
            assert!(exists || name.starts_with(".ci/") || name == "fuzz/", "{name}, of: {guarantee}");
        }
    }
    assert!(count > 50, "{count}");
}
