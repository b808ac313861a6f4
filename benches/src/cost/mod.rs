//! Counts the instructions and allocations of a call and of a delivery. Unlike times, the counts
//! are the same on a busy machine and on a quiet one.

mod baseline;
mod callgrind;
mod lock_step;
mod report;

use std::fmt;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Args;

use self::baseline::{Baseline, Conditions};
use self::callgrind::{Count, ProfiledServer};
use self::lock_step::LockStep;

/// The readers of a message. With so many, most of the cost of a message is the deliveries.
const READERS: usize = 20;
/// The calls that arrive in one read, as on a busy server.
const BURST: usize = 16;
/// The numbers of rounds of the two runs. Start, connecting and end are in both, and cancel out in
/// the difference.
const ROUNDS: [usize; 2] = [100, 600];
/// The number of measurements of which `--record` takes the median.
const RECORDED: usize = 3;
const SEND: LockStep = LockStep { readers: 0, per_connection: 1, burst: 1 };

/// What to count, and what to do with the figures.
#[derive(Debug, Args)]
pub struct CostBench {
    /// The server program, of the release build.
    #[arg(long, default_value = "target/release/messenger-server")]
    server: String,
    /// The file with the recorded figures.
    #[arg(long, default_value = "benches/cost.txt")]
    baseline: PathBuf,
    /// Fail if a figure is higher than the recorded one.
    #[arg(long, conflicts_with = "record")]
    check: bool,
    /// Record the figures.
    #[arg(long)]
    record: bool,
}

/// One measured value.
#[derive(Debug, Clone)]
struct Figure {
    name: String,
    value: f64,
}

/// The cost of one call or one delivery.
#[derive(Debug, Clone, Copy)]
struct Cost {
    instructions: f64,
    allocations: f64,
}

impl CostBench {
    pub fn run(&self) -> Result<()> {
        if callgrind::version().is_none() {
            let ci = std::env::var("CI").as_deref() == Ok("true");
            ensure!(self.check && !ci, "valgrind is missing (Debian: apt-get install valgrind)");
            println!("SKIPPED: valgrind is missing");
            return Ok(());
        }
        // Counting takes half a minute, so an unreadable file is reported before.
        let recorded = if self.check { Some(Baseline::read(&self.baseline)?) } else { None };
        let (here, figures) = (Conditions::here(), self.measure()?);
        if let Some(recorded) = recorded {
            return report::check(&recorded, &here, &figures);
        }
        for figure in &figures {
            println!("{figure}");
        }
        if self.record {
            Baseline::new(here, &figures).write(&self.baseline)?;
            println!("recorded in {}", self.baseline.display());
        }
        Ok(())
    }

    /// Measures once, or gives the median of several measurements if they are recorded.
    fn measure(&self) -> Result<Vec<Figure>> {
        let times = if self.record { RECORDED } else { 1 };
        let runs = (0..times).map(|_| measure_once(&self.server)).collect::<Result<Vec<_>>>()?;
        let median = |index: usize| {
            let mut values: Vec<f64> =
                runs.iter().map(|figures: &Vec<Figure>| figures[index].value).collect();
            values.sort_by(f64::total_cmp);
            Figure { name: runs[0][index].name.clone(), value: values[values.len() / 2] }
        };
        Ok((0..runs[0].len()).map(median).collect())
    }
}

fn measure_once(program: &str) -> Result<Vec<Figure>> {
    let send = round(program, SEND)?;
    let burst = round(program, LockStep { burst: BURST, ..SEND })?.each(BURST);
    let delivery = |per_connection| -> Result<Cost> {
        let cost = round(program, LockStep { readers: READERS, per_connection, burst: 1 })?;
        Ok(cost.minus(send).each(READERS))
    };
    let costs = [
        ("SendMessage", send),
        ("SendMessage, 16 in flight on a connection", burst),
        ("delivery, a connection for each reader", delivery(1)?),
        ("delivery, one connection for all readers", delivery(READERS)?),
    ];
    Ok(costs.iter().flat_map(|(name, cost)| cost.figures(name)).collect())
}

/// The cost of one round.
fn round(program: &str, work: LockStep) -> Result<Cost> {
    let [short, long] = ROUNDS.map(|rounds| -> Result<Count> {
        let counted = ProfiledServer::start(program)?;
        work.run(counted.server.address, rounds)?;
        counted.end()
    });
    let (short, long) = (short?, long?);
    let rounds = (ROUNDS[1] - ROUNDS[0]) as f64;
    let each = |short: u64, long: u64| (long as f64 - short as f64) / rounds;
    Ok(Cost {
        instructions: each(short.instructions, long.instructions),
        allocations: each(short.allocations, long.allocations),
    })
}

impl Cost {
    fn minus(self, other: Self) -> Self {
        Self {
            instructions: self.instructions - other.instructions,
            allocations: self.allocations - other.allocations,
        }
    }

    fn each(self, of: usize) -> Self {
        let of = of as f64;
        Self { instructions: self.instructions / of, allocations: self.allocations / of }
    }

    fn figures(self, name: &str) -> [Figure; 2] {
        [("instructions", self.instructions), ("allocations", self.allocations)]
            .map(|(unit, value)| Figure { name: format!("{name}: {unit}"), value })
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<56} {:>10.2}", self.name, self.value)
    }
}
