//! The results as a Markdown table.

use std::fmt::{self, Write as _};

use super::peers::{Absent, Peer};
use super::tasks::{Row, RowValue, Task};
use crate::machine;
use crate::work::Figures;

/// The results of all runs of one server under one task.
#[derive(Default)]
pub struct Cell {
    pub figures: Vec<Figures>,
    pub problem: Option<String>,
}

impl Cell {
    pub fn median(&self, figure: fn(&Figures) -> f64) -> Option<f64> {
        let mut values: Vec<f64> = self.figures.iter().map(figure).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    }
}

/// The median of the ratios of two servers' figures, each within one run. Such ratios are steadier
/// than a ratio of medians, because a disturbance meets both servers. `None` if there is no figure.
pub fn median_ratio(dividends: &Cell, divisors: &Cell, figure: fn(&Figures) -> f64) -> Option<f64> {
    let pairs = dividends.figures.iter().zip(&divisors.figures);
    let ratios = pairs.map(|(dividend, divisor)| figure(dividend) / figure(divisor));
    let mut ratios: Vec<f64> = ratios.filter(|ratio| ratio.is_finite()).collect();
    ratios.sort_by(f64::total_cmp);
    ratios.get(ratios.len() / 2).copied()
}

/// What went wrong in the runs, summed up: lost, late, disordered and refused messages.
pub fn remarks(figures: &[Figures]) -> String {
    let sum = |count: fn(&Figures) -> u64| figures.iter().map(count).sum::<u64>();
    let refusal = figures.iter().find_map(|figures| figures.refusal).unwrap_or_default();
    [
        (sum(|figures| figures.lost), "lost", ""),
        (sum(|figures| figures.late), "deliveries still owed at the end", ""),
        (sum(|figures| figures.disordered), "out of order", ""),
        (sum(|figures| figures.refused), "messages refused with", refusal),
    ]
    .into_iter()
    .filter(|(count, ..)| *count > 0)
    .fold(String::new(), |text, (count, what, how)| {
        format!("{text}, {count} {what} {how}").trim_end().to_owned()
    })
}

/// Writes one row for each figure and one column for each server. `cells` are ordered by task, then
/// by server. The first server is the messenger.
pub fn markdown(
    peers: &[Peer],
    absent: &[Absent],
    tasks: &[Task],
    cells: &[Vec<Cell>],
    runs: usize,
    seconds: f64,
) -> Result<String, fmt::Error> {
    let mut text = String::new();
    let names: Vec<_> = peers.iter().map(|peer| peer.name).collect();
    writeln!(text, "| work | unit | {} |", names.join(" | "))?;
    writeln!(text, "| --- | --- |{}", " ---: |".repeat(peers.len()))?;
    for (task, cells) in tasks.iter().zip(cells) {
        for row in &task.rows {
            write!(text, "| {} | {} |", row.name, row.unit)?;
            for (peer, cell) in peers.iter().zip(cells) {
                write!(text, " {} |", entry(task, row, peer, cell, &cells[0]))?;
            }
            writeln!(text)?;
        }
    }
    writeln!(
        text,
        "\nMedians of {runs} interleaved runs of {seconds} s each.\n\n\
         - (0.50x): the messenger's figure is half of the peer's, as the median of the runs' own \
         ratios.\n\
         - (50 msg/s): the peer could not take the work of this row and got only so much, so its \
         figure is not comparable.\n\
         - –: there is no such work.\n"
    )?;
    for peer in absent {
        writeln!(text, "- Left out: **{}**, {}.", peer.name, peer.why)?;
    }
    writeln!(text, "- Machine: {}.", machine::describe())?;
    for peer in peers {
        writeln!(text, "- {}: {}.", peer.name, peer.version)?;
    }
    Ok(text)
}

fn entry(task: &Task, row: &Row, peer: &Peer, cell: &Cell, messenger: &Cell) -> String {
    let less = task.work_for(peer.gentle).1;
    let (mut text, ratio) = match row.figure {
        RowValue::Count(_) if cell.figures.is_empty() => (None, None),
        RowValue::Count(count) => {
            (Some(cell.figures.iter().map(count).sum::<u64>().to_string()), None)
        }
        RowValue::Words(words) => (cell.figures.last().map(words), None),
        RowValue::Number(figure) => (
            cell.median(figure).map(|value| format!("{value:.1}")),
            median_ratio(messenger, cell, figure),
        ),
    };
    if let (Some(text), Some(less)) = (&mut text, less) {
        let _ = write!(text, " ({less})");
    } else if let (Some(text), Some(ratio), false) =
        (&mut text, ratio, std::ptr::eq(cell, messenger))
    {
        let _ = write!(text, " ({ratio:.2}x)");
    }
    match (text, &cell.problem) {
        (Some(text), None) => text + &remarks(&cell.figures),
        // Some runs succeeded, but the table must also say that another one failed.
        (Some(text), Some(problem)) => format!("{text}{}; then: {problem}", remarks(&cell.figures)),
        (None, Some(problem)) => problem.replace('|', "/"),
        (None, None) => "–".to_owned(),
    }
}
