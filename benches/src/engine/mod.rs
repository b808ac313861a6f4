//! What it costs that an engine keeps the room: the same server and the same work with the room in the server, in a Redis in memory,
//! and in a Redis that has it on disk.

mod redis;
mod room;

use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;

pub use self::room::{Kept, Room};
use crate::compare::table::{Cell, remarks};
use crate::compare::tasks::{Figure, Row, Task, figure, median, per_delivery, tail, task};
use crate::machine;
use crate::senders::Pace;
use crate::work::Work;

/// What to measure, and how often.
#[derive(Debug, Args)]
pub struct EngineBench {
    /// The server program.
    #[arg(long, default_value = "target/release/messenger-server")]
    server: String,
    #[arg(long, default_value = "3", value_parser = clap::value_parser!(u8).range(1..))]
    runs: u8,
    #[arg(long, default_value = "3")]
    seconds: f64,
}

impl EngineBench {
    /// Measures, interleaved, and prints the medians as a table. Ends with the first message that is lost, refused or out of order.
    pub fn run(&self) -> Result<()> {
        let tasks = tasks(Duration::from_secs_f64(self.seconds));
        let redis = machine::first_line("redis-server", &["--version"]).context("apt-get install redis-server")?;
        let version = machine::first_line(&self.server, &["--version"]).context("cargo build --release")?;
        // By work, then by what keeps the room.
        let mut cells: Vec<[Cell; 3]> = tasks.iter().map(|_| Default::default()).collect();
        for run in 0..self.runs {
            for (task, cells) in tasks.iter().zip(&mut cells) {
                for (kept, cell) in Kept::ALL.into_iter().zip(cells) {
                    let what = || format!("run {}/{}  {:<28} {:<28}", run + 1, self.runs, task.name, kept.name());
                    let room = Room::start(&self.server, kept).with_context(what)?;
                    let figures = room.measure(task.work).with_context(what)?;
                    eprintln!("{} {:.0} ns{}", what(), figures.cpu, remarks(std::slice::from_ref(&figures)));
                    cell.figures.push(figures);
                }
            }
        }
        print(&tasks, &cells);
        println!(
            "\nMedians of {} interleaved runs of {} s each. In brackets: as a multiple of the embedded room's in the same run, the median \
             of all runs.\n",
            self.runs, self.seconds
        );
        println!(
            "- Machine: {}.\n- {version}; {}.",
            machine::describe(),
            redis.split(" sha=").next().unwrap_or(&redis)
        );
        Ok(())
    }
}

fn tasks(time: Duration) -> Vec<Task> {
    let calls = |senders, in_flight| Work::Unary { senders, in_flight, time, text: 100 };
    let fan_out = |readers, pace| Work::FanOut { readers, senders: 4, pace, time, text: 100 };
    let full = Pace::Full { in_flight: 16 };
    let per_call = || figure("", "ns CPU per call", |figures| figures.cpu);
    let engine = || figure(", the engine", "ns CPU per message", |figures| figures.engine[0]);
    let together = || figure(", the engine", "messages at once", |figures| figures.engine[1]);
    vec![
        task("`SendMessage`, one at a time", calls(1, 1), vec![median(), tail(), per_call(), engine()]),
        task(
            "`SendMessage`, 64 in flight",
            calls(4, 64),
            vec![figure("", "calls/s", |figures| figures.rate), per_call(), engine(), together()],
        ),
        task(
            "full rate, 100 readers",
            fan_out(100, full),
            vec![figure("", "deliveries/s", |figures| figures.rate), per_delivery()],
        ),
        // What a message costs the server once, whoever reads, is here a tenth of that for each delivery.
        task("full rate, 1000 readers", fan_out(1000, full), vec![per_delivery()]),
        task("60 msg/s, 1000 readers", fan_out(1000, Pace::Fixed { rate: 60 }), vec![per_delivery()]),
        task(
            "2000 msg/s, 100 readers",
            fan_out(100, Pace::Fixed { rate: 2000 }),
            vec![per_delivery(), median(), tail(), engine()],
        ),
    ]
}

fn print(tasks: &[Task], cells: &[[Cell; 3]]) {
    println!("| work | unit | {} |", Kept::ALL.map(Kept::name).join(" | "));
    println!("| --- | --- |{}", " ---: |".repeat(Kept::ALL.len()));
    for (task, cells) in tasks.iter().zip(cells) {
        for row in &task.rows {
            let entries: Vec<_> = cells.iter().map(|cell| entry(row, cell, &cells[0])).collect();
            println!("| {} | {} | {} |", row.name, row.unit, entries.join(" | "));
        }
    }
}

fn entry(row: &Row, cell: &Cell, embedded: &Cell) -> String {
    let Figure::Number(figure) = row.figure else { return String::new() };
    // There is no engine without one.
    let Some(value) = cell.median(figure).filter(|value| *value > 0.0) else { return "–".to_owned() };
    // Run by run: what the machine did to one it did to the other, more or less.
    let pairs = cell.figures.iter().zip(&embedded.figures);
    let mut ratios: Vec<f64> = pairs.map(|(own, embedded)| figure(own) / figure(embedded)).collect();
    ratios.sort_by(f64::total_cmp);
    match ratios[ratios.len() / 2] {
        ratio if ratio.is_finite() && !std::ptr::eq(cell, embedded) => format!("{value:.0} ({ratio:.2}x)"),
        _ => format!("{value:.0}"),
    }
}
