//! Programs that sleep in one known way each: how long, by their own clock, and on what.

use crate::{
    kernel::Kernel,
    machine::Results,
    support::{
        sleep::unexplained,
        waits::{Truths, family},
    },
};

fn truths(results: &Results) -> Truths {
    let mut truths = Truths::default();
    for line in results.text("waits.json").lines() {
        truths.add(line);
    }
    truths
}

pub(crate) fn check(kernel: &Kernel, results: &Results) -> String {
    truths(results).check(&family(), &results.metrics("after.prom"), &kernel.release)
}

/// Programs that work side by side: how much of all sleep has no reason.
pub(crate) fn check_mixed(_: &Kernel, results: &Results) -> String {
    unexplained(&results.metrics("after.prom"), &results.metrics("before.prom"))
}
