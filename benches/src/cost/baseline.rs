//! The recorded figures, their conditions, and the comparison with new figures.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::Figure;
use super::callgrind;
use crate::machine::first_line;

const HEAD: &str = "\
# The cost of calls and deliveries in the release build of the server, written by
# `bench cost --record`. `bench cost --check` fails when it is higher. See benches/README.md.
";
/// The conditions of the counts, besides the code of the messenger. Counts of different targets are
/// not comparable at all.
const CONDITIONS: [&str; 4] = ["target", "rustc", "libc", "valgrind"];

/// The conditions under which the figures were counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conditions([String; CONDITIONS.len()]);

/// The recorded figures, as `benches/cost.txt` has them.
#[derive(Debug, Clone)]
pub struct Baseline {
    conditions: Conditions,
    figures: BTreeMap<String, f64>,
}

/// How far a baseline can be compared with new figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparable {
    Exactly,
    /// The compiler or the C library differs, so the same source gives other code.
    Roughly,
    No,
}

/// A figure compared with the recorded one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Verdict {
    AsRecorded(f64),
    Worse(f64),
    Better(f64),
    NotRecorded,
}

impl Conditions {
    pub fn here() -> Self {
        let target = format!(
            "{}-{}",
            std::env::consts::ARCH,
            if cfg!(target_env = "musl") { "musl" } else { "gnu" }
        );
        let unknown = || "unknown".to_owned();
        Self([
            target,
            first_line("rustc", &["--version"]).unwrap_or_else(unknown),
            first_line("getconf", &["GNU_LIBC_VERSION"]).unwrap_or_else(unknown),
            callgrind::version().unwrap_or_else(unknown),
        ])
    }

    /// The conditions that differ from `other`, in words.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let pairs = CONDITIONS.iter().zip(self.0.iter().zip(&other.0));
        pairs
            .filter(|(_, (a, b))| a != b)
            .map(|(name, (a, b))| format!("{name}: {b} then, {a} now"))
            .collect()
    }
}

impl Baseline {
    pub fn new(conditions: Conditions, figures: &[Figure]) -> Self {
        Self {
            conditions,
            figures: figures.iter().map(|figure| (figure.name.clone(), figure.value)).collect(),
        }
    }

    pub fn read(path: &Path) -> Result<Self> {
        let text =
            fs::read_to_string(path).with_context(|| format!("can't read {}", path.display()))?;
        Self::parse(&text).with_context(|| {
            format!("{} is not as `bench cost --record` writes it", path.display())
        })
    }

    pub fn write(&self, path: &Path) -> Result<()> {
        fs::write(path, self.to_text()).with_context(|| format!("can't write {}", path.display()))
    }

    pub fn conditions(&self) -> &Conditions {
        &self.conditions
    }

    /// How far the baseline can be compared with figures counted under `conditions`.
    pub fn comparable(&self, conditions: &Conditions) -> Comparable {
        if self.conditions == *conditions {
            Comparable::Exactly
        } else if self.conditions.0[0] == conditions.0[0] {
            Comparable::Roughly
        } else {
            Comparable::No
        }
    }

    /// Compares a figure with the recorded one. A difference counts when it exceeds both
    /// `tolerance`, a share of the recorded figure, and `slack`, an absolute amount.
    pub fn judge(&self, figure: &Figure, tolerance: f64, slack: f64) -> Verdict {
        let Some(recorded) = self.figures.get(&figure.name) else { return Verdict::NotRecorded };
        let more = figure.value - recorded;
        // The share is infinite if the recorded figure is zero.
        let share = if more == 0.0 { 0.0 } else { more / recorded };
        if more.abs() <= (recorded * tolerance).max(slack) {
            Verdict::AsRecorded(share)
        } else if more > 0.0 {
            Verdict::Worse(share)
        } else {
            Verdict::Better(share)
        }
    }

    fn parse(text: &str) -> Result<Self> {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let mut fields =
            lines.map(|line| line.rsplit_once(": ").with_context(|| format!("no colon: {line}")));
        let mut conditions = CONDITIONS.map(str::to_owned);
        for (name, condition) in CONDITIONS.iter().zip(&mut conditions) {
            let (field, value) = fields.next().with_context(|| format!("no {name}"))??;
            ensure!(field == *name, "{field} instead of {name}");
            value.clone_into(condition);
        }
        let mut figures = BTreeMap::new();
        for field in fields {
            let (name, value) = field?;
            figures.insert(
                name.to_owned(),
                value.trim().parse().with_context(|| format!("{name}: no number"))?,
            );
        }
        Ok(Self { conditions: Conditions(conditions), figures })
    }

    fn to_text(&self) -> String {
        let mut text = HEAD.to_owned();
        // Writing to a String does not fail.
        for (name, condition) in CONDITIONS.iter().zip(&self.conditions.0) {
            let _ = writeln!(text, "{name}: {condition}");
        }
        text.push('\n');
        for (name, value) in &self.figures {
            let _ = writeln!(text, "{name}: {value:.2}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(value: f64) -> Figure {
        Figure { name: "a delivery: instructions".to_owned(), value }
    }

    fn baseline(value: f64) -> Baseline {
        let conditions =
            ["x86_64-gnu", "rustc 1.95.0 (5980761 2026-04-14)", "glibc 2.36", "valgrind-3.19.0"];
        Baseline::new(Conditions(conditions.map(str::to_owned)), &[figure(value)])
    }

    #[test]
    fn a_written_baseline_is_read_back() {
        let (written, text) = (baseline(5575.25), baseline(5575.25).to_text());
        let read = Baseline::parse(&text).unwrap();
        assert_eq!((read.conditions, read.figures), (written.conditions, written.figures));
        assert!(Baseline::parse("target: x86_64-gnu\n").is_err());
        assert!(Baseline::parse(&text.replace("5575.25", "many")).is_err());
    }

    #[test]
    fn more_is_worse_and_less_is_better() {
        let baseline = baseline(1000.0);
        assert_eq!(baseline.judge(&figure(1020.0), 0.03, 1.0), Verdict::AsRecorded(0.02));
        assert_eq!(baseline.judge(&figure(1040.0), 0.03, 1.0), Verdict::Worse(0.04));
        assert_eq!(baseline.judge(&figure(900.0), 0.03, 1.0), Verdict::Better(-0.1));
        let other = Figure { name: "another".to_owned(), value: 0.0 };
        assert_eq!(baseline.judge(&other, 0.03, 1.0), Verdict::NotRecorded);
    }

    #[test]
    fn a_difference_within_the_slack_does_not_count() {
        assert_eq!(baseline(0.0).judge(&figure(0.0), 0.03, 0.2), Verdict::AsRecorded(0.0));
        assert!(matches!(baseline(0.0).judge(&figure(0.1), 0.03, 0.2), Verdict::AsRecorded(_)));
        assert!(matches!(baseline(0.0).judge(&figure(1.0), 0.03, 0.2), Verdict::Worse(_)));
    }

    #[test]
    fn another_compiler_is_roughly_comparable_another_target_is_not() {
        let (recorded, mut here) = (baseline(1.0), baseline(1.0).conditions);
        assert_eq!(recorded.comparable(&here), Comparable::Exactly);
        here.0[1] = "rustc 1.96.0".to_owned();
        assert_eq!(recorded.comparable(&here), Comparable::Roughly);
        assert_eq!(here.differences(&recorded.conditions).len(), 1);
        here.0[0] = "aarch64-gnu".to_owned();
        assert_eq!(recorded.comparable(&here), Comparable::No);
    }
}
