//! Probes that a program brings along: its own values, and its own counts.

use crate::{
    kernel::Kernel,
    machine::Results,
    support::metrics::{Metrics, whole},
};

pub(crate) fn check(_: &Kernel, results: &Results) -> String {
    if results.has("skipped") {
        return results.text("skipped").trim().to_owned();
    }
    let (first, second) = (results.metrics("first.prom"), results.metrics("second.prom"));
    let count = |metrics: &Metrics, name: &str, labels: &[(&str, &str)]| {
        whole(metrics.sum(&format!("tapster_{name}_total"), labels))
    };
    let listened = |name: &str| results.text(name).lines().any(|line| line == "listened 0");
    assert!(!listened("first") && !listened("second"), "the program sees its semaphore");
    assert!(listened("third"), "nobody listens any more");
    // In the second run the file is another, in which the operands are elsewhere.
    for (metrics, runs, orders) in [(&first, 2, 320), (&second, 3, 350)] {
        let highest = [
            ("a", "-1"),
            ("b", "-2"),
            ("c", "-3"),
            ("d", "-4"),
            ("e", "255"),
            ("f", "65535"),
            ("g", "4294967295"),
            ("h", "18446744073709551615"),
        ];
        assert_eq!(count(metrics, "widths", &highest), runs);
        assert_eq!(count(metrics, "widths", &[]), 3 * runs);
        for (long, short) in [("11", "-1"), ("-12", "2"), ("13", "-3"), ("-14", "4")] {
            assert_eq!(
                count(metrics, "element", &[("long", long), ("short", short)]),
                runs,
                "{long} {short}"
            );
        }
        for (number, times) in [("10", 1), ("20", 2), ("30", 3)] {
            assert_eq!(count(metrics, "step", &[("number", number)]), times * runs, "{number}");
        }
        for number in ["41", "-42"] {
            assert_eq!(count(metrics, "round", &[("number", number)]), runs, "{number}");
        }
        assert_eq!(count(metrics, "returned", &[]), runs);
        assert_eq!(metrics.histogram("tapster_all_order_duration_seconds", &[]).count(), orders);
        let contained = metrics.histogram("tapster_contained_order_duration_seconds", &[]).count();
        assert_eq!(contained, 20, "orders of one container");
        assert_eq!(count(metrics, "probe_dropped", &[]), 0, "dropped");
    }
    let milk = first.histogram("tapster_all_order_duration_seconds", &[("item", "milk")]).count();
    assert_eq!(milk, 100 + 7);
    "320 orders, 20 of them in a container, and 30 of a file that replaced the first".into()
}
