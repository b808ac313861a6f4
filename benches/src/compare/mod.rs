//! Measures every server under every kind of work. The runs are interleaved, so that a disturbance
//! of the machine meets all servers alike.

mod peers;
pub mod table;
pub mod tasks;

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use self::peers::Peer;
use self::table::{Cell, remarks};
use self::tasks::{RowValue, Task};
use crate::plot;
use crate::server::Server;
use crate::wire::Protocol;
use crate::work::{Figures, measure};

/// Which servers to compare, and how long.
#[derive(Debug, Args)]
pub struct CompareBench {
    /// The messenger's server program.
    #[arg(long, default_value = "target/release/messenger-server")]
    messenger: String,
    /// The peers to compare with, by their names in the table; all that are built without it.
    #[arg(long, value_delimiter = ',')]
    peers: Vec<String>,
    #[arg(long, default_value = "3")]
    runs: usize,
    #[arg(long, default_value = "3")]
    seconds: f64,
    /// Draw the figures as bars into this file.
    #[arg(long)]
    svg: Option<PathBuf>,
}

impl CompareBench {
    /// Measures all tasks, and prints the medians as a Markdown table.
    pub fn run(&self) -> Result<()> {
        let (peers, absent) = peers::find(&self.messenger, &self.peers)?;
        for peer in &absent {
            eprintln!("left out: {}, {}", peer.name, peer.why);
        }
        let tasks = tasks::all(self.seconds);
        let no_cells = || peers.iter().map(|_| Cell::default()).collect();
        let mut cells: Vec<Vec<Cell>> = tasks.iter().map(|_| no_cells()).collect();
        for run in 0..self.runs {
            for (task, cells) in tasks.iter().zip(&mut cells) {
                for (peer, cell) in peers.iter().zip(cells) {
                    let impossible = task.grpc_only && peer.protocol == Protocol::Nats;
                    // A peer that has failed once would fail again.
                    if !impossible && cell.problem.is_none() {
                        let (runs, task_name, name) = (self.runs, &task.name, peer.name);
                        eprint!("run {}/{runs}  {task_name:<42} {name:<18} ", run + 1);
                        measure_cell(task, peer, cell);
                    }
                }
            }
        }
        let (runs, seconds) = (self.runs, self.seconds);
        print!("{}", table::markdown(&peers, &absent, &tasks, &cells, runs, seconds)?);
        if let Some(svg) = &self.svg {
            std::fs::write(svg, plot::bars(&bars(&peers, &tasks, &cells)))?;
        }
        Ok(())
    }
}

fn measure_cell(task: &Task, peer: &Peer, cell: &mut Cell) {
    let (work, less) = task.work_for(peer.gentle);
    let server = Server::start(&peer.command);
    match server.and_then(|server| measure(&server, peer.protocol, work)) {
        Ok(figures) => {
            let value = |row: &tasks::Row| to_text(row.figure, &figures) + " " + row.unit;
            let rows: Vec<_> = task.rows.iter().map(value).collect();
            let less = less.map(|less| format!(" ({less})")).unwrap_or_default();
            let remarks = remarks(std::slice::from_ref(&figures));
            eprintln!("{}{less}{remarks}", rows.join(", ").trim_end());
            cell.problem = figures.failures.first().cloned();
            cell.figures.push(figures);
        }
        Err(error) => {
            eprintln!("{error:#}");
            cell.problem = Some(format!("{error:#}"));
        }
    }
}

fn to_text(figure: RowValue, figures: &Figures) -> String {
    match figure {
        RowValue::Number(number) => format!("{:.1}", number(figures)),
        RowValue::Count(count) => count(figures).to_string(),
        RowValue::Words(words) => words(figures),
    }
}

/// The rows with numbers, as groups of bars.
fn bars<'a>(peers: &[Peer], tasks: &[Task], cells: &[Vec<Cell>]) -> Vec<plot::Group<'a>> {
    let mut groups = Vec::new();
    for (task, cells) in tasks.iter().zip(cells) {
        for row in &task.rows {
            let RowValue::Number(figure) = row.figure else { continue };
            // A peer that got less work has no bar, because its figure is not comparable.
            let value = |(peer, cell): (&Peer, &Cell)| {
                let value = cell.median(figure);
                (peer.name, value.filter(|_| task.work_for(peer.gentle).1.is_none()))
            };
            let values = peers.iter().zip(cells).map(value).collect();
            groups.push((format!("{} ({})", row.name, row.unit), values));
        }
    }
    groups
}
