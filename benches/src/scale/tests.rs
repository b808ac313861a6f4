//! What must be so, whatever things cost.

use clap::Parser;

use super::arrivals::Arrivals;
use super::costs::Costs;
use super::hop;
use super::outcome::{Case, What};
use super::plan::{self, Enough};

#[derive(Parser)]
struct Defaults {
    #[command(flatten)]
    costs: Costs,
}

fn costs() -> Costs {
    Defaults::parse_from(["defaults"]).costs
}

fn case(readers: u64, rate: f64, servers: Option<usize>) -> Case {
    Case { readers, rate, text: 100, servers, arrivals: Arrivals::Even, seed: 1 }
}

fn near(left: f64, right: f64) -> bool {
    (left / right - 1.0).abs() < 0.02
}

#[test]
fn at_a_low_rate_the_load_is_arithmetic() {
    let costs = costs();
    let outcome = case(1000, 10.0, None).run(&costs);
    let work = 10.0 * (1000.0 * (8000.0 + 120.0) + 12_000.0) / 1e9;
    assert!(near(outcome.used(What::Cpu), work / f64::from(costs.cores)), "{outcome:?}");
    let cold = case(80_000, 1.0, Some(8)).run(&costs);
    let work = 10_000.0 * (14_000.0 + 120.0) + 78_000.0 + 12_000.0 / 8.0;
    assert!(near(cold.used(What::Cpu), work / 1e9 / f64::from(costs.cores)), "{cold:?}");
    assert!(near(cold.egress, 10_000.0 * 227.0 * 8.0), "{}", cold.egress);
}

#[test]
fn under_load_there_are_four_hundred_rounds_a_second() {
    let outcome = case(100, 10_000.0, None).run(&costs());
    let work = 400.0 * 100.0 * 8000.0 + 10_000.0 * (100.0 * 120.0 + 12_000.0);
    let used = outcome.used(What::Cpu) * 8.0;
    // 600 messages are 24 rounds: one more or less is 4 %.
    assert!((used / (work / 1e9) - 1.0).abs() < 0.06, "{used}");
}

#[test]
fn with_more_than_it_can_do_a_server_is_late_and_a_delivery_is_cheaper() {
    let costs = Costs { cores: 2, ..costs() };
    let quiet = case(2000, 60.0, None).run(&costs);
    let full = case(50_000, 60.0, None).run(&costs);
    assert!(quiet.used(What::Cpu) < 0.9 && full.used(What::Cpu) > 0.95);
    assert!(full.latency(0.5) > 10.0 * quiet.latency(0.5));
    assert!(full.per_delivery < quiet.per_delivery / 2.0);
    // No longer than two passes over all readers, with what has gathered meanwhile.
    assert!(full.latency(0.99) < 2.0 * 25_000.0 * 0.014 * 1.3, "{}", full.latency(0.99));
}

#[test]
fn every_server_has_every_message_once_and_in_one_order() {
    let costs = costs();
    let messages = Arrivals::Random.messages(5000, 20_000.0, 5, 3);
    let (arrived, engine) = hop::through(&costs, &messages, 5, 100);
    let times = |server: usize| arrived[server].iter().map(|message| message.sent).collect::<Vec<_>>();
    for (server, arrived) in arrived.iter().enumerate() {
        assert_eq!(arrived.len(), 5000);
        assert_eq!(times(server), times(0));
        assert!(arrived.is_sorted_by_key(|message| message.at));
        assert!(arrived.iter().all(|message| message.at >= message.sent + 2 * costs.hop()));
    }
    // Batches: less than a call for each message and read.
    assert!(engine.busy < 5000 * 6 * costs.engine(1));
    assert!(engine.bytes > 5 * 5000 * 226);
}

#[test]
fn the_engine_reads_each_message_out_once_for_each_server() {
    let outcome = case(1000, 1.0, Some(10)).run(&costs());
    let bytes = 10.0 * (100.0 + 126.0 + 27.0 + 90.0);
    assert!(near(outcome.engine_egress, bytes * 8.0), "{}", outcome.engine_egress);
    let work = 11.0 * costs().engine(1) as f64;
    assert!(near(outcome.used(What::EngineCpu), work / 1e9), "{outcome:?}");
}

#[test]
fn one_server_less_is_not_enough() {
    let (costs, case) = (costs(), case(100_000, 60.0, None));
    let outcome = plan::servers(&costs, case, Enough::Load(0.7)).expect("a number");
    let fewer = Case { servers: Some(outcome.servers - 1), ..case }.run(&costs);
    assert!(outcome.used(What::Cpu) <= 0.7 && fewer.used(What::Cpu) > 0.7);
    let same = plan::servers(&costs, case, Enough::Load(0.7)).expect("a number");
    assert_eq!((same.servers, same.latency(0.99)), (outcome.servers, outcome.latency(0.99)));
}

#[test]
fn a_network_that_is_too_slow_ends_first() {
    let costs = Costs { network_gbit: 1, ..costs() };
    let outcome = case(50_000, 10_000.0, None).run(&costs);
    assert_eq!(outcome.first(), What::Network);
}
