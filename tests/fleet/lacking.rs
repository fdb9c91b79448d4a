//! What is lacking is said where a person looks, and nothing goes out that only those should know who have the right.

use super::{
    host,
    rights::Nobody,
    support::{
        cases::{Cases, Outcome, Skip},
        command::output,
        exporter::Tapster,
        metrics::Metrics,
    },
};
use std::{fs, path::Path};

/// What a user without rights needs for tracepoints.
const LEAST: &str = "bpf,perfmon,dac_read_search";
/// Functions by address, stacks of the kernel, and what stacks say, at events that there always are.
const NAMES: &str = r"
library: [sched_off_cpu]
probes:
  - name: timers
    at: tracepoint:timer:hrtimer_start
    labels: { by: { value: args.function, as: ksym } }
    metrics: [{ counter: timers_total, help: Timers. }]
  - name: wakeups
    at: rawtracepoint:sched:sched_waking
    labels: { stack: kstack(8) }
    metrics: [{ counter: wakeups_total, help: Wake-ups. }]
";

/// What looks like an address of the kernel in a text, if anything does.
fn address(text: &str) -> Option<&str> {
    let words = text.split(|character: char| !character.is_ascii_alphanumeric());
    words.map(|word| word.trim_start_matches("0x")).find(|word| {
        word.len() == 16 && word.starts_with("ffff") && word.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

/// A counter of this name is above zero for some label that holds.
fn counts(metrics: &Metrics, name: &str, label: &str, holds: impl Fn(&str) -> bool) -> bool {
    let samples = metrics.0.iter().filter(|sample| sample.name == name && sample.value > 0.0);
    samples.into_iter().any(|sample| holds(&sample.labels[label]))
}

fn names_of_functions() -> Outcome {
    let nobody = Nobody::new();
    let file = nobody.directory().join("names.yaml");
    fs::write(&file, NAMES).unwrap();
    let file = file.to_str().unwrap();
    // With the sandbox and without, and by root who gives the right up at the start.
    let starts: [(&str, &dyn Fn() -> Result<Tapster, Skip>); 3] = [
        ("nobody", &|| nobody.start(LEAST, &["-c", file])),
        ("nobody without a sandbox", &|| nobody.start(LEAST, &["-c", file, "--sandbox=off"])),
        ("root who keeps none", &|| Ok(Tapster::start(&["-c", file, "--capabilities.keep=none"]))),
    ];
    let probes = ["sched_off_cpu", "timers", "wakeups"];
    for (who, start) in starts {
        let tapster = start()?;
        let body = tapster.get("/metrics");
        let metrics = Metrics::parse(body.text());
        for probe in probes {
            let labels = [("probe", probe), ("reason", "symbols")];
            assert_eq!(metrics.find("tapster_probe_up", &labels), Some(1.0), "{who}: {probe}");
        }
        assert!(counts(&metrics, "tapster_timers_total", "by", |by| by == "[unknown]"), "{who}");
        assert!(
            counts(&metrics, "tapster_wakeups_total", "stack", |stack| stack.contains("[unknown]")),
            "{who}"
        );
        let (page, said) = (tapster.get("/"), tapster.log().join("\n"));
        for (place, text) in [("/metrics", body.text()), ("/", page.text()), ("log", &said)] {
            assert_eq!(address(text), None, "{who}: {place}");
        }
        for (place, text) in [("/", page.text()), ("log", &said)] {
            assert!(text.contains("CAP_SYSLOG") && text.contains("`short`"), "{who}: {place}: {text}");
        }
    }
    let checked = output(nobody.command(LEAST)?.args(["check", file]));
    let checked = String::from_utf8_lossy(&checked.stdout);
    assert!(
        checked.contains("every reason but `short` is `unknown`: functions of the kernel have no names"),
        "{checked}"
    );
    // Whoever has the right has the names, and nothing to be told.
    let tapster = Tapster::start(&["-c", file]);
    let body = tapster.get("/metrics");
    let metrics = Metrics::parse(body.text());
    let named = counts(&metrics, "tapster_timers_total", "by", |by| !by.starts_with('['));
    if !named && Path::new("/proc/sys/kernel/kptr_restrict").exists() {
        let restrict = fs::read_to_string("/proc/sys/kernel/kptr_restrict").unwrap();
        assert_eq!(restrict.trim(), "2", "root has names: {}", body.text());
        return Err(Skip("addresses are hidden from root, too".into()));
    }
    for probe in probes {
        assert_eq!(
            metrics.find("tapster_probe_up", &[("probe", probe), ("reason", "")]),
            Some(1.0),
            "{probe}"
        );
    }
    assert_eq!(address(body.text()), None);
    Ok("without CAP_SYSLOG no name and no address, said by metrics, page, log and check".into())
}

#[test]
fn what_is_lacking_is_said() {
    let Some(mut cases) = Cases::as_root("lacking") else { return };
    let _host = host();
    cases.run("names of functions", names_of_functions);
    cases.finish();
}
