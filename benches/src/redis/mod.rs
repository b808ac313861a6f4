//! Measures the cost of a room in Redis: the same work with the room in the server's memory, in a
//! Redis in memory, and in a Redis on disk.

mod process;
mod setup;

use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;

pub use self::setup::{RedisSetup, Storage};
use crate::compare::table::{Cell, median_ratio, remarks};
use crate::compare::tasks::{Row, RowValue, Task, figure, median, per_delivery, tail, task};
use crate::machine;
use crate::senders::Pace;
use crate::work::Work;

/// What to measure, and for how long.
#[derive(Debug, Args)]
pub struct RedisBench {
    /// The server program.
    #[arg(long, default_value = "target/release/messenger-server")]
    server: String,
    #[arg(long, default_value = "3", value_parser = clap::value_parser!(u8).range(1..))]
    runs: u8,
    #[arg(long, default_value = "3")]
    seconds: f64,
}

impl RedisBench {
    /// Measures interleaved runs and prints the medians as a table. Stops at the first message that
    /// is lost, refused or out of order.
    pub fn run(&self) -> Result<()> {
        let tasks = tasks(Duration::from_secs_f64(self.seconds));
        let redis = machine::first_line("redis-server", &["--version"])
            .context("apt-get install redis-server")?;
        let version =
            machine::first_line(&self.server, &["--version"]).context("cargo build --release")?;
        // Ordered by task, then by storage.
        let mut cells: Vec<[Cell; 3]> = tasks.iter().map(|_| Default::default()).collect();
        for run in 0..self.runs {
            for (task, cells) in tasks.iter().zip(&mut cells) {
                for (storage, cell) in Storage::ALL.into_iter().zip(cells) {
                    let what = || {
                        format!(
                            "run {}/{}  {:<28} {:<28}",
                            run + 1,
                            self.runs,
                            task.name,
                            storage.name()
                        )
                    };
                    let setup = RedisSetup::start(&self.server, storage).with_context(what)?;
                    let figures = setup.measure(task.work).with_context(what)?;
                    eprintln!(
                        "{} {:.0} ns{}",
                        what(),
                        figures.cpu,
                        remarks(std::slice::from_ref(&figures))
                    );
                    cell.figures.push(figures);
                }
            }
        }
        print(&tasks, &cells);
        println!(
            "\nMedians of {} interleaved runs of {} s each. The factor in brackets is the median of \
             the runs' own ratios to the room in memory.\n",
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
    let redis = || figure(", Redis", "ns CPU per message", |figures| figures.redis_cpu);
    let batch = || figure(", Redis", "messages in a batch", |figures| figures.redis_batch);
    vec![
        task(
            "`SendMessage`, one at a time",
            calls(1, 1),
            vec![median(), tail(), per_call(), redis()],
        ),
        task(
            "`SendMessage`, 64 in flight",
            calls(4, 64),
            vec![figure("", "calls/s", |figures| figures.rate), per_call(), redis(), batch()],
        ),
        task(
            "full rate, 100 readers",
            fan_out(100, full),
            vec![figure("", "deliveries/s", |figures| figures.rate), per_delivery()],
        ),
        // The work of a message that does not depend on its readers is spread over more deliveries.
        task("full rate, 1000 readers", fan_out(1000, full), vec![per_delivery()]),
        task(
            "60 msg/s, 1000 readers",
            fan_out(1000, Pace::Fixed { rate: 60 }),
            vec![per_delivery()],
        ),
        task(
            "2000 msg/s, 100 readers",
            fan_out(100, Pace::Fixed { rate: 2000 }),
            vec![per_delivery(), median(), tail(), redis()],
        ),
    ]
}

fn print(tasks: &[Task], cells: &[[Cell; 3]]) {
    println!("| work | unit | {} |", Storage::ALL.map(Storage::name).join(" | "));
    println!("| --- | --- |{}", " ---: |".repeat(Storage::ALL.len()));
    for (task, cells) in tasks.iter().zip(cells) {
        for row in &task.rows {
            let entries: Vec<_> = cells.iter().map(|cell| entry(row, cell, &cells[0])).collect();
            println!("| {} | {} | {} |", row.name, row.unit, entries.join(" | "));
        }
    }
}

fn entry(row: &Row, cell: &Cell, in_memory: &Cell) -> String {
    let RowValue::Number(figure) = row.figure else { return String::new() };
    // A room in memory has no figures of Redis.
    let Some(value) = cell.median(figure).filter(|value| *value > 0.0) else {
        return "–".to_owned();
    };
    match median_ratio(cell, in_memory, figure) {
        Some(ratio) if !std::ptr::eq(cell, in_memory) => format!("{value:.0} ({ratio:.2}x)"),
        _ => format!("{value:.0}"),
    }
}
