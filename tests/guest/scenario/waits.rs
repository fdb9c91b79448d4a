//! Programs that sleep in one known way each: how long, by their own clock, and on what.

use crate::{
    kernel::Kernel,
    machine::Results,
    support::waits::{Truths, family},
};

pub(crate) fn check(_: &Kernel, results: &Results) -> String {
    let mut truths = Truths::default();
    for line in results.text("waits.json").lines() {
        truths.add(line);
    }
    truths.check(&family(), &results.metrics("after.prom"))
}
