//! The tasks of the comparison, and the figures that the table shows of each.

use std::time::Duration;

use crate::senders::Pace;
use crate::work::{Figures, Work};

/// One kind of work. It is measured once in a run, also if it has several rows in the table.
pub struct Task {
    pub name: String,
    pub work: Work,
    pub gentle: Gentle,
    /// nats-server has no such call.
    pub grpc_only: bool,
    pub rows: Vec<Row>,
}

/// The work for a server that cannot take the work of the others.
pub enum Gentle {
    Same,
    /// Less work, with a remark that says how much.
    Less(Work, &'static str),
}

/// One row of the table.
pub struct Row {
    pub name: String,
    pub unit: &'static str,
    pub figure: RowValue,
}

#[derive(Clone, Copy)]
pub enum RowValue {
    /// The table shows the median of all runs.
    Number(fn(&Figures) -> f64),
    /// The table shows the sum of all runs, because a median would hide a single fault.
    Count(fn(&Figures) -> u64),
    /// The table shows the words of the last run.
    Words(fn(&Figures) -> String),
}

/// All tasks; each is measured for the given time.
pub fn all(seconds: f64) -> Vec<Task> {
    let time = Duration::from_secs_f64(seconds);
    let fan_out = |readers, pace| Work::FanOut { readers, senders: 4, pace, time, text: 100 };
    let fixed = |rate| Pace::Fixed { rate };
    let full = Pace::Full { in_flight: 16 };
    let slow = |rate| Work::SlowReader { readers: 10, senders: 4, rate, time, text: 4096 };
    let unary = Work::Unary { senders: 4, in_flight: 64, time, text: 100 };
    vec![
        task("full rate, 100 readers", fan_out(100, full), vec![per_delivery()]),
        task("full rate, 1000 readers", fan_out(1000, full), vec![per_delivery()]),
        task(
            "2000 msg/s, 100 readers",
            fan_out(100, fixed(2000)),
            vec![per_delivery(), median(), tail()],
        )
        .less(fan_out(100, fixed(50)), "50 msg/s"),
        task("60 msg/s, 1000 readers", fan_out(1000, fixed(60)), vec![per_delivery()])
            .less(fan_out(1000, fixed(5)), "5 msg/s"),
        Task {
            grpc_only: true,
            ..task(
                "SendMessage, 64 in flight",
                unary,
                vec![figure("", "ns CPU per call", |figures| figures.cpu)],
            )
        },
        task(
            "a slow reader of 10, 2000 msg/s of 4 KiB",
            slow(2000),
            vec![
                median(),
                tail(),
                Row {
                    name: ", lost by the others".to_owned(),
                    unit: "messages",
                    figure: RowValue::Count(|figures| figures.lost),
                },
                figure(", server's growth", "MiB", |figures| figures.growth),
                Row {
                    name: ", what became of it".to_owned(),
                    unit: "",
                    figure: RowValue::Words(|figures| figures.slow.clone().unwrap_or_default()),
                },
            ],
        )
        .less(slow(200), "200 msg/s"),
        task(
            "idle reader, own connection",
            Work::Idle { readers: 1000, per_connection: 1 },
            vec![memory()],
        ),
        task(
            "idle reader, 100 per connection",
            Work::Idle { readers: 1000, per_connection: 100 },
            vec![memory()],
        ),
        task(
            "empty server",
            Work::Idle { readers: 1, per_connection: 1 },
            vec![figure("", "MiB", |figures| figures.rate)],
        ),
    ]
}

pub fn task(name: &str, work: Work, mut rows: Vec<Row>) -> Task {
    for row in &mut rows {
        row.name.insert_str(0, name);
    }
    Task { name: name.to_owned(), work, gentle: Gentle::Same, grpc_only: false, rows }
}

impl Task {
    fn less(self, work: Work, how: &'static str) -> Self {
        Self { gentle: Gentle::Less(work, how), ..self }
    }

    /// The work for a server, and a remark if it is less than the others get.
    pub fn work_for(&self, gentle: bool) -> (Work, Option<&'static str>) {
        match self.gentle {
            Gentle::Less(work, how) if gentle => (work, Some(how)),
            _ => (self.work, None),
        }
    }
}

/// A row with a number. Its name is appended to that of the task.
pub fn figure(name: &str, unit: &'static str, value: fn(&Figures) -> f64) -> Row {
    Row { name: name.to_owned(), unit, figure: RowValue::Number(value) }
}

pub fn per_delivery() -> Row {
    figure("", "ns CPU per delivery", |figures| figures.cpu)
}

pub fn median() -> Row {
    figure(", p50", "µs", |figures| figures.latency[0] as f64)
}

pub fn tail() -> Row {
    figure(", p99", "µs", |figures| figures.latency[1] as f64)
}

fn memory() -> Row {
    figure("", "KiB", |figures| figures.memory)
}
