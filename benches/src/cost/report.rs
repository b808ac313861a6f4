//! What a check says, and whether it fails.

use anyhow::{Result, bail};

use super::Figure;
use super::baseline::{Baseline, Comparable, Conditions, Verdict};

/// What a figure may differ from the recorded one, as a share of it. Of ten runs, half of them on a machine with four times as much to
/// do as it has cores, all were within 0.8 % of the median, and most within 0.3 %.
const TOLERANCE: f64 = 0.03;
/// The same where the compiler or the C library is another one: only what nobody would do on purpose. Not measured,
/// as the other one is.
const ROUGH_TOLERANCE: f64 = 0.15;
/// What is nothing, however small the recorded figure: a twentieth of an allocation. A figure in instructions is never that small.
const SLACK: f64 = 0.05;

/// Prints each figure with its verdict. An error if one of them is worse, or was never recorded.
pub fn check(recorded: &Baseline, here: &Conditions, figures: &[Figure]) -> Result<()> {
    let comparable = recorded.comparable(here);
    let tolerance = if comparable == Comparable::Exactly { TOLERANCE } else { ROUGH_TOLERANCE };
    if comparable != Comparable::Exactly {
        println!("The baseline was recorded elsewhere:");
        here.differences(recorded.conditions()).iter().for_each(|difference| println!("  {difference}"));
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
            "MUCH BETTER than recorded, by more than {allowed} %: record it with `bench cost --record`, or it can get lost unseen"
        );
    }
    if failures > 0 {
        bail!(
            "{failures} of {} figures are more than {allowed} % above the baseline, or not in it. If that is the price of something that \
             is worth it, record it with `bench cost --record`, and say in the commit what it bought",
            figures.len()
        );
    }
    Ok(())
}
