//! Prints the result of a check, and decides whether it fails.

use anyhow::{Result, bail};

use super::Figure;
use super::baseline::{Baseline, Comparable, Conditions, Verdict};

/// The share by which a figure may differ from the recorded one. In ten runs, five of them on a
/// machine with a load of four times its cores, all figures were within 0.8 % of the median.
const TOLERANCE: f64 = 0.03;
/// The tolerance with another compiler, C library or valgrind. This value is an estimate.
const ROUGH_TOLERANCE: f64 = 0.15;
/// A difference that never counts: a twentieth of an allocation. It is nothing for instructions.
const SLACK: f64 = 0.05;

/// Prints each figure with its verdict. Fails if a figure is worse than recorded or was never
/// recorded.
pub fn check(recorded: &Baseline, here: &Conditions, figures: &[Figure]) -> Result<()> {
    let comparable = recorded.comparable(here);
    let tolerance = if comparable == Comparable::Exactly { TOLERANCE } else { ROUGH_TOLERANCE };
    if comparable != Comparable::Exactly {
        println!("The baseline was recorded elsewhere:");
        here.differences(recorded.conditions())
            .iter()
            .for_each(|difference| println!("  {difference}"));
    }
    if comparable == Comparable::No {
        figures.iter().for_each(|figure| println!("{figure}"));
        println!("NOT CHECKED: there is no baseline for this kind of machine");
        return Ok(());
    }
    let (mut failures, mut better) = (0, 0);
    for figure in figures {
        let words = match recorded.judge(figure, tolerance, SLACK) {
            Verdict::AsRecorded(share) => format!("{:+.1} %", share * 100.0),
            Verdict::Worse(share) => {
                failures += 1;
                format!("{:+.1} %  TOO MUCH", share * 100.0)
            }
            Verdict::Better(share) => {
                better += 1;
                format!("{:+.1} %  MUCH BETTER", share * 100.0)
            }
            Verdict::NotRecorded => {
                failures += 1;
                "NEVER RECORDED".to_owned()
            }
        };
        println!("{figure}  {words}");
    }
    let allowed = tolerance * 100.0;
    if better > 0 {
        println!(
            "MUCH BETTER means more than {allowed} % below the baseline: record it with \
             `bench cost --record`"
        );
    }
    if failures > 0 {
        bail!(
            "{failures} of {} figures are more than {allowed} % above the baseline or not in it. \
             If the change is worth it, record it with `bench cost --record`",
            figures.len()
        );
    }
    Ok(())
}
