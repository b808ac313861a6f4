//! Every server under every kind of work, interleaved: what the machine does to one run it does to the next one of another server.

mod peers;
pub mod table;
pub mod tasks;

use std::path::Path;

use anyhow::Result;

use self::peers::Peer;
use self::table::{Cell, remarks};
use self::tasks::{Figure, Task};
use crate::plot;
use crate::server::Server;
use crate::wire::Protocol;
use crate::work::{Figures, measure};

/// Measures everything `runs` times, and writes `performance.md` and `performance.svg` into `out`.
pub fn run(messenger: &str, runs: usize, seconds: f64, out: &Path) -> Result<()> {
    let ((peers, absent), tasks) = (peers::find(messenger)?, tasks::all(seconds));
    for peer in &absent {
        eprintln!("left out: {}, {}", peer.name, peer.why);
    }
    let mut cells: Vec<Vec<Cell>> = tasks.iter().map(|_| peers.iter().map(|_| Cell::default()).collect()).collect();
    for run in 0..runs {
        for (task, cells) in tasks.iter().zip(&mut cells) {
            for (peer, cell) in peers.iter().zip(cells) {
                let impossible = task.grpc_only && peer.protocol == Protocol::Nats;
                // What has failed once would only cost everybody its time again.
                if !impossible && cell.problem.is_none() {
                    eprint!("run {}/{runs}  {:<42} {:<18} ", run + 1, task.name, peer.name);
                    one(task, peer, cell);
                }
            }
        }
    }
    std::fs::write(out.join("performance.md"), table::markdown(&peers, &absent, &tasks, &cells, runs, seconds)?)?;
    let bars = tasks.iter().zip(&cells).flat_map(|(task, cells)| {
        let peers = &peers;
        task.rows.iter().filter_map(move |row| {
            let Figure::Number(figure) = row.figure else { return None };
            // Bars of different work side by side would be a lie.
            let value = |(peer, cell): (&Peer, &Cell)| {
                (peer.name, cell.median(figure).filter(|_| task.work_for(peer.gentle).1.is_none()))
            };
            Some((format!("{} ({})", row.name, row.unit), peers.iter().zip(cells).map(value).collect()))
        })
    });
    std::fs::write(out.join("performance.svg"), plot::bars(&bars.collect::<Vec<_>>()))?;
    Ok(())
}

fn one(task: &Task, peer: &Peer, cell: &mut Cell) {
    let (work, less) = task.work_for(peer.gentle);
    match Server::start(&peer.command).and_then(|server| measure(&server, peer.protocol, work)) {
        Ok(figures) => {
            let rows: Vec<_> = task.rows.iter().map(|row| value(row.figure, &figures) + " " + row.unit).collect();
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

fn value(figure: Figure, figures: &Figures) -> String {
    match figure {
        Figure::Number(number) => format!("{:.1}", number(figures)),
        Figure::Count(count) => count(figures).to_string(),
        Figure::Words(words) => words(figures),
    }
}
