//! docs/operations.md explains every log line with its level.

use crate::support::suite::tests;
use libtest_mimic::Trial;
use std::fs;
use std::path::Path;

pub fn tests() -> Vec<Trial> {
    tests![every_log_line_is_documented]
}

const PAGE: &str = include_str!("../../docs/operations.md");

/// The level and the text of each log line in the sources.
fn lines(folder: &Path, all: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            lines(&entry, all);
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            let source = fs::read_to_string(&entry).unwrap();
            for level in ["error", "warn", "info", "debug"] {
                for call in source.split(&format!("{level}!(")).skip(1) {
                    // The text is the last string of the call, after the fields.
                    let call = call.split("\")").next().unwrap();
                    let text = call.rsplit('"').next().unwrap();
                    all.push((level.to_owned(), text.to_owned()));
                }
            }
        }
    }
}

async fn every_log_line_is_documented() {
    let mut all = Vec::new();
    lines(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut all);
    assert!(all.len() > 20, "{all:?}");
    for (level, text) in all {
        let row = PAGE.lines().find(|row| row.starts_with("| `") && row.contains(&format!("`{text}`")));
        let row = row.unwrap_or_else(|| panic!("docs/operations.md does not explain the line {text:?} ({level})"));
        assert!(row.contains(&format!("| {level} |")), "{text:?} is of the level {level}: {row}");
    }
}
