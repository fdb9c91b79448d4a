//! Processors and modules that go and come back: what is counted is what happens on them, and what is said of a probe is so.

use crate::{kernel::Kernel, machine::Results};

pub(crate) fn check(kernel: &Kernel, results: &Results) -> String {
    let scrape = |name: &str| results.metrics(&format!("{name}.prom"));
    let on = |from: &str, to: &str, family: &str, cpu: &str| {
        scrape(to).since(&scrape(from), &format!("tapster_{family}_total"), &[("cpu", cpu)])
    };
    let mut figures = Vec::new();
    for family in ["samples", "switches"] {
        let of_one = scrape("one").sum(&format!("tapster_{family}_total"), &[("cpu", "1")]);
        assert!(of_one < 0.5, "{family}: the processor was offline");
        let came = on("two", "two-later", family, "1");
        let again = on("again", "again-later", family, "1");
        assert!(came > 0 && again > 0, "{family}: {came} after it came, {again} after it came again");
        assert!(on("again", "again-later", family, "0") > 0, "the other one goes on");
        figures.push(format!("{family} on processor 1: {came} and {again}"));
    }
    let reattached =
        scrape("again").sum("tapster_probe_reattached_total", &[("probe", "samples"), ("object", "cpu")]);
    assert!(reattached >= 2.0, "{reattached}");
    if results.has("other.prom") {
        let ticks = on("other", "other-later", "ticks", "1");
        assert!(ticks > 0, "the interval went on elsewhere");
        figures.push(format!("{ticks} ticks after processor 0 was taken off"));
    }
    let is_up = |name: &str, probe: &str| scrape(name).sum("tapster_probe_up", &[("probe", probe)]) > 0.5;
    let up = |name: &str| is_up(name, "one");
    let reason = |name: &str| scrape(name).values("tapster_probe_up", &[("probe", "one")], "reason").concat();
    assert_eq!((up("one"), reason("one").as_str()), (false, "compile"), "the module is not there");
    assert!(up("loaded") && up("reloaded"));
    assert_eq!((up("unloaded"), reason("unloaded").as_str()), (false, "waiting"));
    let counted = |from: &str, to: &str| scrape(to).since(&scrape(from), "tapster_one_total", &[]);
    let (first, second) = (counted("loaded", "loaded-later"), counted("reloaded", "reloaded-later"));
    assert!(first >= 64, "{first} bios of 64");
    assert!(second >= 96, "{second} bios of 96 after the module was loaded again");
    assert!(scrape("reloaded-later").sum("tapster_one_total", &[]) >= 160.0, "counts stay");
    figures.push(format!("{first} bios of a module that came later, {second} of the same loaded again"));
    if results.has("off.prom") {
        assert_eq!((up("off"), reason("off").as_str()), (false, "switched_off"));
        let (stopped, on) = (counted("off", "off-later"), counted("on", "on-later"));
        assert_eq!(stopped, 0, "it was not called, so what is said is so");
        assert!(up("on") && on >= 32, "{on} bios of 32 after it was switched on");
        figures.push(format!("{stopped} while the tracer was switched off, {on} after"));
    } else {
        assert!(kernel.release.starts_with("7."), "only the newest kernels refuse that");
    }
    let pair = ["reloaded-later", "both", "half", "still-half", "both-again"].map(|name| is_up(name, "pair"));
    assert_eq!(pair, [false, true, false, false, true], "both of its modules are there, or not");
    figures.join("; ")
}
