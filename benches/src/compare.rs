//! Every server under every kind of work, interleaved: what the machine does to one run it does to the next one of another server.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use crate::plot;
use crate::senders::Pace;
use crate::server::Server;
use crate::wire::Protocol;
use crate::work::{Figures, Work, measure};

/// A server to compare.
struct Peer {
    name: &'static str,
    command: String,
    protocol: Protocol,
    /// How many deliveries a second it is asked for at most; slow ones would take an hour to drain what the others do in seconds.
    slow: bool,
}

/// One row of the result: a kind of work, and which figure counts.
struct Row {
    name: &'static str,
    unit: &'static str,
    work: Work,
    figure: fn(&Figures) -> f64,
    /// NATS has no such work.
    grpc_only: bool,
}

/// What all runs of one server under one kind of work gave.
struct Cell {
    figures: Vec<Figures>,
    problem: Option<String>,
}

/// Measures everything `runs` times, and writes `performance.md` and `performance.svg` into `out`.
pub fn run(messenger: &str, runs: usize, seconds: f64, out: &Path) -> Result<()> {
    let (peers, rows) = (peers(messenger), rows(seconds));
    let mut cells: Vec<Vec<Cell>> =
        rows.iter().map(|_| peers.iter().map(|_| Cell { figures: Vec::new(), problem: None }).collect()).collect();
    for run in 0..runs {
        for (row, cells) in rows.iter().zip(&mut cells) {
            for (peer, cell) in peers.iter().zip(cells) {
                if (row.grpc_only && peer.protocol == Protocol::Nats)
                    || cell.problem.is_some()
                    || (peer.slow && run > 0)
                {
                    continue;
                }
                let result = Server::start(&peer.command).and_then(|server| measure(&server, peer.protocol, row.work));
                match result {
                    Ok(figures) => {
                        eprintln!(
                            "run {}/{runs}  {:<34} {:<18} {:>9.1} {}{}",
                            run + 1,
                            row.name,
                            peer.name,
                            (row.figure)(&figures),
                            row.unit,
                            remarks(&figures)
                        );
                        cell.figures.push(figures);
                    }
                    Err(error) => {
                        eprintln!("run {}/{runs}  {:<34} {:<18} {error:#}", run + 1, row.name, peer.name);
                        cell.problem = Some(format!("{error:#}"));
                    }
                }
            }
        }
    }
    std::fs::write(out.join("performance.md"), table(&peers, &rows, &cells, runs)?)?;
    let bars = rows.iter().zip(&cells).map(|(row, cells)| {
        let medians = peers.iter().zip(cells).map(|(peer, cell)| (peer.name, cell.median(row.figure))).collect();
        (format!("{} ({})", row.name, row.unit), medians)
    });
    std::fs::write(out.join("performance.svg"), plot::bars(&bars.collect::<Vec<_>>()))?;
    Ok(())
}

fn peers(messenger: &str) -> Vec<Peer> {
    let here = std::env::current_exe().unwrap_or_default();
    let own = |name: &str| format!("MESSENGER_SERVER_PORT={{port}} {}", here.with_file_name(name).display());
    let grpc = |name, command, slow| Peer { name, command, protocol: Protocol::Grpc, slow };
    let python = format!("MESSENGER_SERVER_PORT={{port}} python3 {}/peers/python.py", env!("CARGO_MANIFEST_DIR"));
    vec![
        grpc("messenger", format!("MESSENGER_SERVER_PORT={{port}} {messenger}"), false),
        grpc("tonic + broadcast", own("peer-tonic-broadcast"), false),
        grpc("Python grpcio", python, true),
        Peer {
            name: "nats-server",
            command: "nats-server -a 127.0.0.1 -p {port}".to_owned(),
            protocol: Protocol::Nats,
            slow: false,
        },
        grpc("floor", own("peer-floor"), false),
    ]
}

fn rows(seconds: f64) -> Vec<Row> {
    let time = Duration::from_secs_f64(seconds);
    let fan_out = |readers, pace| Work::FanOut { readers, senders: 4, pace, time, text: 100 };
    let full = Pace::Full { in_flight: 16 };
    let cpu: fn(&Figures) -> f64 = |figures| figures.cpu;
    let memory: fn(&Figures) -> f64 = |figures| figures.memory;
    let row = |name, unit, work, figure, grpc_only| Row { name, unit, work, figure, grpc_only };
    vec![
        row("full rate, 100 readers", "ns CPU per delivery", fan_out(100, full), cpu, false),
        row("full rate, 1000 readers", "ns CPU per delivery", fan_out(1000, full), cpu, false),
        row("2000 msg/s, 100 readers", "ns CPU per delivery", fan_out(100, Pace::Fixed { rate: 2000 }), cpu, false),
        row(
            "2000 msg/s, 100 readers, p50",
            "µs",
            fan_out(100, Pace::Fixed { rate: 2000 }),
            |f| f.latency[0] as f64,
            false,
        ),
        row("60 msg/s, 1000 readers", "ns CPU per delivery", fan_out(1000, Pace::Fixed { rate: 60 }), cpu, false),
        row(
            "SendMessage, 64 in flight",
            "ns CPU per call",
            Work::Unary { senders: 4, in_flight: 64, time, text: 100 },
            cpu,
            true,
        ),
        row("idle reader, own connection", "KiB", Work::Idle { readers: 1000, per_connection: 1 }, memory, false),
        row("idle reader, 100 per connection", "KiB", Work::Idle { readers: 1000, per_connection: 100 }, memory, false),
        row("empty server", "MiB", Work::Idle { readers: 1, per_connection: 1 }, |figures| figures.rate, false),
    ]
}

impl Cell {
    fn median(&self, figure: fn(&Figures) -> f64) -> Option<f64> {
        let mut values: Vec<f64> = self.figures.iter().map(figure).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    }

    fn sum(&self, count: fn(&Figures) -> u64) -> u64 {
        self.figures.iter().map(count).sum()
    }
}

fn remarks(figures: &Figures) -> String {
    let mut text = String::new();
    if figures.lost > 0 {
        let _ = write!(text, ", {} lost", figures.lost);
    }
    if figures.disordered > 0 {
        let _ = write!(text, ", {} out of order", figures.disordered);
    }
    if let Some(failure) = figures.failures.first() {
        let _ = write!(text, ", {failure}");
    }
    text
}

fn table(peers: &[Peer], rows: &[Row], cells: &[Vec<Cell>], runs: usize) -> Result<String> {
    let mut text = String::new();
    let names: Vec<_> = peers.iter().map(|peer| peer.name).collect();
    writeln!(text, "| work | unit | {} |", names.join(" | "))?;
    writeln!(text, "| --- | --- |{}", " ---: |".repeat(peers.len()))?;
    for (row, cells) in rows.iter().zip(cells) {
        write!(text, "| {} | {} |", row.name, row.unit)?;
        let own = cells[0].median(row.figure);
        for (index, cell) in cells.iter().enumerate() {
            match (cell.median(row.figure), own) {
                (Some(value), Some(own)) if index > 0 => write!(text, " {value:.1} ({:.2}x)", own / value)?,
                (Some(value), _) => write!(text, " {value:.1}")?,
                (None, _) => write!(text, " {}", cell.problem.as_deref().unwrap_or("–"))?,
            }
            let (lost, disordered) = (cell.sum(|figures| figures.lost), cell.sum(|figures| figures.disordered));
            if lost > 0 {
                write!(text, ", {lost} lost")?;
            }
            if disordered > 0 {
                write!(text, ", {disordered} out of order")?;
            }
            write!(text, " |")?;
        }
        writeln!(text)?;
    }
    writeln!(
        text,
        "\nMedians of {runs} interleaved runs. In brackets: the messenger's figure as a multiple of the peer's."
    )?;
    Ok(text)
}
