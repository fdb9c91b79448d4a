//! A fleet in a real Prometheus: what each rule and each query of a dashboard costs there. docs/scale.md has the result.
//!
//! ```text
//! tests/scale/measure --nodes 1000       # writes its table in docs/scale.md
//! ```
#![allow(clippy::unwrap_used, reason = "a panic is a test's report")]
#![allow(clippy::cast_precision_loss, reason = "samples are f64, as Prometheus keeps them")]

mod chunks;
mod fleet;
mod index;
mod scrape;
mod server;
mod survey;
mod table;

use std::path::PathBuf;
use tapster_testing::{
    cases::{Cases, say},
    fixture::repository,
};

/// The table for as many nodes as are asked for. What is measured is kept below a directory if one is given.
#[test]
#[ignore = "takes minutes, and gigabytes for thousands of nodes"]
fn measure() {
    let nodes = std::env::var("TAPSTER_SCALE_NODES").map_or(100, |text| text.parse().expect("a number of nodes"));
    let temporary = tempfile::tempdir().unwrap();
    let directory = std::env::var("TAPSTER_SCALE_DIRECTORY").map_or(temporary.path().to_owned(), PathBuf::from);
    let mut cases = Cases::new("scale");
    cases.run(&format!("{nodes} nodes"), || {
        let survey = survey::measure(nodes, &directory)?;
        say(table::text(&survey));
        table::write(&repository().join("docs/scale.md"), &survey);
        Ok(format!("{} rules, {} queries", survey.rules.len(), survey.panels.len()))
    });
    cases.finish();
}
