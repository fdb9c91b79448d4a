//! A report that keeps to a command: what its children slept, by their own clocks.

use crate::{kernel::Kernel, machine::Results};
use serde_json::Value;

/// How far a sum may be from a program's own clock.
const TOLERANCE: f64 = 0.02;

/// Sleeps by reason, of each of which one child has all.
pub(crate) fn check(_: &Kernel, results: &Results) -> String {
    assert_eq!(results.text("command.status").trim(), "7");
    let report: Value = serde_json::from_str(results.text("command.json")).unwrap();
    assert_eq!(report["losses"].as_array().map(Vec::len), Some(0), "{report}");
    let rows = report["metrics"][0]["rows"].as_array().unwrap();
    let of = |reason: &Value| -> f64 {
        let rows = rows.iter().filter(|row| row["labels"]["reason"] == *reason);
        rows.map(|row| row["sum"].as_f64().unwrap()).sum()
    };
    let mut figures = Vec::new();
    for line in results.text("command.out").lines() {
        let child: Value = serde_json::from_str(line).unwrap();
        let number = |name: &str| child[name].as_f64().unwrap();
        let slept = number("seconds") - number("run_seconds") - number("run_queue_seconds");
        let counted: f64 = child["reasons"].as_array().unwrap().iter().map(of).sum();
        let off = counted / slept - 1.0;
        assert!(off.abs() <= TOLERANCE, "time: {counted} s, by its clock {slept} s: {line}\n{report}");
        figures.push(format!("{} {:+.2} % off", child["kind"].as_str().unwrap(), off * 100.0));
    }
    assert_eq!(figures.len(), 2, "{}", results.text("command.out"));
    figures.join(", ")
}
