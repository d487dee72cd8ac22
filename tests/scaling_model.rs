//! The simulator of the example `scaling`, on cases that can be worked out by hand.

#[path = "../examples/scaling/model.rs"]
mod model;

use model::{Operation, Step, sections, share_of_ideal, shared_line_writes, throughput};

const TRANSFER: f64 = 40.0;
const DURATION: f64 = 1e6;

fn step(resource: Option<u64>, hold: f64) -> Step {
    let lines = u32::from(resource.is_some());
    Step {
        resource,
        hold,
        lines,
    }
}

/// One operation, repeated, for any worker.
fn only(steps: &[Step]) -> impl Fn(usize) -> Vec<Operation> + use<> {
    let operation = steps.to_vec();
    move |_| vec![operation.clone()]
}

#[track_caller]
fn assert_near(found: f64, expected: f64) {
    assert!(
        (found - expected).abs() < 0.01 * expected,
        "{found}, not {expected}"
    );
}

#[test]
fn one_worker_waits_for_nobody() {
    let trace = only(&[step(Some(1), 30.0), step(None, 70.0)]);
    assert_near(throughput(&[trace(0)], TRANSFER, DURATION), 1.0 / 100.0);
}

#[test]
fn workers_that_share_nothing_are_ideal() {
    let own = |worker| vec![vec![step(Some(worker as u64), 50.0), step(None, 10.0)]];
    assert_near(share_of_ideal(64, own, TRANSFER, DURATION), 1.0);
}

#[test]
fn one_section_is_passed_on_at_the_price_of_a_transfer() {
    let trace = only(&[step(Some(1), 60.0)]);
    let traces = [trace(0), trace(1), trace(2)];
    assert_near(
        throughput(&traces, TRANSFER, DURATION),
        1.0 / (60.0 + TRANSFER),
    );
    assert_near(
        share_of_ideal(3, trace, TRANSFER, DURATION),
        60.0 / 100.0 / 3.0,
    );
}

#[test]
fn a_section_that_is_seldom_needed_only_costs_its_transfer() {
    let trace = only(&[step(Some(1), 10.0), step(None, 990.0)]);
    let share = share_of_ideal(4, trace, TRANSFER, DURATION);
    assert_near(share, 1000.0 / (1000.0 + TRANSFER));
}

#[test]
fn each_line_of_a_section_is_moved() {
    let wide = Step {
        lines: 3,
        ..step(Some(1), 60.0)
    };
    let traces = [vec![vec![wide]], vec![vec![wide]]];
    assert_near(
        throughput(&traces, TRANSFER, DURATION),
        1.0 / (60.0 + 3.0 * TRANSFER),
    );
}

#[test]
fn two_resources_are_used_at_once() {
    let trace = |worker: usize| vec![vec![step(Some(worker as u64 % 2), 100.0)]];
    assert_near(share_of_ideal(2, trace, TRANSFER, DURATION), 1.0);
    let four = 2.0 * 100.0 / (100.0 + TRANSFER) / 4.0;
    assert_near(share_of_ideal(4, trace, TRANSFER, DURATION), four);
}

#[test]
fn an_operation_counts_when_its_last_step_is_done() {
    let traces = [vec![vec![step(None, 10.0); 5], vec![step(None, 50.0)]]];
    assert_near(throughput(&traces, TRANSFER, DURATION), 2.0 / 100.0);
    assert_eq!(throughput(&traces, TRANSFER, 45.0), 0.0);
    assert_near(throughput(&traces, TRANSFER, 55.0), 1.0 / 55.0);
}

#[test]
fn only_what_others_need_too_counts_as_shared() {
    let wide = Step {
        lines: 3,
        ..step(Some(1), 20.0)
    };
    let operation = [wide, step(None, 500.0), step(Some(2), 5.0)];
    assert_eq!(shared_line_writes(&operation), 4);
    assert_eq!(sections(&operation), (2, 25.0));
}
