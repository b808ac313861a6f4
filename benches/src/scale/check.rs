//! The model beside the real server: how far to believe it.

use std::time::Duration;

use anyhow::{Context, Result};

use super::arrivals::Arrivals;
use super::costs::Costs;
use super::outcome::Case;
use crate::engine::{Kept, Room};
use crate::senders::Pace;
use crate::work::{Figures, Work};

/// Readers, and messages a second. In the last one a machine with two cores has more to do than it can.
const WORK: [(usize, u32); 5] = [(100, 2000), (1000, 10), (1000, 60), (5000, 10), (5000, 60)];
const TEXT: usize = 100;

/// Runs each kind of work with the room in the server and in a Redis, `runs` times, and prints the medians beside the model.
pub fn run(costs: &Costs, program: &str, runs: u8, time: Duration, seed: u64) -> Result<()> {
    println!(
        "| room | readers | msg/s | CPU per delivery, model | measured | model / measured | p50, model | measured |"
    );
    println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    // The readers and the senders have the other half.
    let costs = Costs { cores: u32::try_from(cores.div_ceil(2))?, hop_us: 0, ..costs.clone() };
    for kept in [Kept::Embedded, Kept::InMemory] {
        for (readers, rate) in WORK {
            let what = || format!("{}, {readers} readers, {rate} msg/s", kept.name());
            let work = Work::FanOut { readers, senders: 4, pace: Pace::Fixed { rate }, time, text: TEXT };
            let mut figures = Vec::new();
            for _ in 0..runs {
                figures.push(Room::start(program, kept)?.measure(work).with_context(what)?);
            }
            let case = Case {
                readers: readers as u64,
                rate: f64::from(rate),
                text: TEXT as u64,
                servers: (kept == Kept::InMemory).then_some(1),
                arrivals: Arrivals::Even,
                seed,
            };
            let model = case.run(&costs);
            let measured = median(&figures, |figures| figures.cpu);
            println!(
                "| {} | {readers} | {rate} | {:.2} µs | {:.2} µs | {:.2}x | {:.1} ms | {:.1} ms |",
                kept.name(),
                model.per_delivery / 1000.0,
                measured / 1000.0,
                model.per_delivery / measured,
                model.latency(0.5),
                median(&figures, |figures| figures.latency[0] as f64) / 1000.0,
            );
        }
    }
    println!(
        "\nMedians of {runs} runs of {} s each. The readers are on the server's cores here, and their work is in the measured latency; the \
         model has {} of {cores} cores for the server, and none of their work.",
        time.as_secs_f64(),
        costs.cores,
    );
    Ok(())
}

fn median(figures: &[Figures], figure: fn(&Figures) -> f64) -> f64 {
    let mut values: Vec<f64> = figures.iter().map(figure).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
