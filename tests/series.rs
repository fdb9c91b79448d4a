//! No scrape has a series twice, whatever a site declares. A Prometheus from 2.53 on drops the second of two and warns at
//! each scrape; older ones, and `promtool`, take either without a word. So scrapes are read here by what knows neither.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a panic is a test's report")]
#![allow(clippy::unnecessary_wraps, reason = "cases are alike")]

use tapster_testing as support;

use std::{collections::BTreeSet, fmt::Write, fs};
use support::compiler::random::Random;
use support::{
    cases::{Cases, Outcome, Skip, say},
    command::root,
    exporter::Tapster,
    http,
    series::{Series, names},
};
use tapster::{
    config,
    exporter::{Exporter, StartOptions},
    exposition::{Format, encode},
    family::FamilyKind,
    host::Host,
    kernel::Kernel,
    source::{Selection, Source},
};
use tapster_ebpf::{
    check, declaration,
    diagnostic::{Diagnostic, SourceFile},
    probe::Probe,
};

/// How often random configurations are tried, and their probes.
const ROUNDS: u64 = 12;
const PROBES: usize = 5;

const ACCEPT: [(&str, &str); 3] = [
    ("text", "text/plain;version=0.0.4"),
    ("OpenMetrics", "application/openmetrics-text;version=1.0.0"),
    (
        "protobuf",
        "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
    ),
];

/// Whether a probe is in files of programs, which would concern every process that runs them.
fn is_of_programs(probe: &Probe) -> bool {
    let mut points = probe.starts.iter().chain(&probe.ends).flat_map(|event| &event.at);
    points.any(|at| at.value.binary().is_some())
}

/// All shipped probes of the kernel in one exporter.
fn shipped() -> Outcome {
    let library = config::library().unwrap();
    let names: BTreeSet<&str> = library
        .iter()
        .filter(|probe| !is_of_programs(probe))
        .map(|probe| probe.name.value.as_str())
        .collect();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("all.yaml");
    let list: Vec<&str> = names.iter().copied().collect();
    fs::write(&file, format!("library: [{}]\n", list.join(", "))).unwrap();
    let tapster = Tapster::start(&["--run-stats", "-c", file.to_str().unwrap()]);
    let mut counts = Vec::new();
    for (name, accept) in ACCEPT {
        let response = http::get(tapster.address, "/metrics", Some(accept)).unwrap();
        let series = match name {
            "protobuf" => Series::of_protobuf(&response.body),
            _ => Series::of_text(response.text()),
        };
        series.assert_unique(name);
        counts.push(format!("{name} {}", series.samples.len()));
    }
    // Two programs of each of these stand at one event.
    let metrics = tapster.scrape();
    for probe in ["sched_run_queue", "sched_container_run_queue", "sched_command_run_queue"] {
        let labels = [("probe", probe), ("attach_point", "rawtracepoint:sched:sched_switch")];
        let found = metrics.0.iter().filter(|sample| {
            sample.name == "tapster_probe_runs_total"
                && labels.iter().all(|(label, value)| sample.labels[*label] == *value)
        });
        assert_eq!(found.count(), 1, "{probe}");
        assert!(metrics.sum("tapster_probe_runs_total", &labels) > 0.0, "{probe}");
    }
    assert_eq!(metrics.find("tapster_scrape_families_left_out", &[]), Some(0.0));
    let up = metrics.sum("tapster_probe_up", &[]);
    Ok(format!("{up} of {} probes up; series: {}", list.len(), counts.join(", ")))
}

/// Names that are nearly the same, and sometimes are.
fn metric(random: &mut Random) -> (String, &'static str, String) {
    let name = format!("{}_{}", random.pick(&["wait", "run", "sleep"]), random.below(20));
    let endings = ["_count", "_sum", "_created", "_bucket", "_total"];
    let name = if random.one_in(12) { name + random.pick(&endings) } else { name };
    let value = random.pick(&["pid", "(s32)args.prev.prio", "nsecs", "1"]);
    match random.below(5) {
        0 | 1 => (format!("{name}_total"), "counter", format!("counter: {name}_total, value: '{value}'")),
        2 => (name.clone(), "gauge", format!("gauge: {name}, value: '{value}'")),
        3 => (name.clone(), "gauge", format!("max: {name}, value: '{value}'")),
        _ => {
            (name.clone(), "histogram", format!("histogram: {name}, value: '{value}', buckets: [1, 5, 100]"))
        }
    }
}

/// A label whose values read alike for many keys, or not at all.
fn label(random: &mut Random) -> String {
    random
        .pick(&[
            "pid",
            "comm",
            "{ value: pid, as: { 0: idle, default: '' } }",
            "{ value: tid, as: { default: same } }",
            "{ value: cpu, as: block_device }",
            "{ value: pid, as: errno }",
            "{ value: cgroup, as: cgroup }",
            "{ value: '(u8)tid', as: hex }",
        ])
        .to_owned()
}

/// Probes, and their families by type.
fn configuration(random: &mut Random) -> (String, Vec<(String, &'static str)>) {
    let (mut yaml, mut families) = (String::from("probes:\n"), Vec::new());
    for number in 0..PROBES {
        writeln!(yaml, "  - name: p{number}").unwrap();
        if random.one_in(3) {
            // Start and end at the same event, so that a probe has two programs there.
            yaml += "    start: { at: 'rawtracepoint:sched:sched_switch', key: args.next.pid }\n    end: { at: 'rawtracepoint:sched:sched_switch', key: args.prev.pid }\n";
        } else {
            yaml += "    at: 'rawtracepoint:sched:sched_switch'\n";
        }
        yaml += "    labels:\n";
        for index in 0..random.below(4) {
            writeln!(yaml, "      {}{index}: {}", random.pick(&["job", "instance", "l"]), label(random))
                .unwrap();
        }
        if yaml.ends_with("labels:\n") {
            yaml += "      only: cpu\n";
        }
        yaml += "    metrics:\n";
        for _ in 0..=random.below(3) {
            let (name, kind, text) = metric(random);
            writeln!(yaml, "      - {{ {text} }}").unwrap();
            families.push((name, kind));
        }
    }
    (yaml, families)
}

/// Whether two families have a name in common, or one has an ending that is another's.
fn collide(families: &[(String, &'static str)]) -> bool {
    let mut taken = BTreeSet::new();
    let reserved = ["_total", "_bucket", "_sum", "_count", "_created"];
    families.iter().any(|(name, kind)| {
        let ends = reserved.iter().any(|ending| name.ends_with(ending)) && *kind != "counter";
        ends || !names(name, kind).into_iter().all(|name| taken.insert(name))
    })
}

/// Random configurations: each is refused if names collide and only then, and what runs has each series once.
fn random_configurations() -> Outcome {
    let kernel = Kernel::detect(&Host::default());
    let options = StartOptions { run_stats: false, attach: true, command: false };
    let (mut refused, mut series) = (0, 0);
    for seed in 0..ROUNDS * 20 {
        let mut random = Random(seed);
        let (yaml, families) = configuration(&mut random);
        let (file, mut diagnostics) = declaration::parse(&SourceFile::new("random.yaml", &yaml));
        let (probes, more) = check::select(file.probes, &kernel.target());
        diagnostics.extend(more);
        let is_refused = diagnostics.iter().any(Diagnostic::is_error);
        assert_eq!(is_refused, collide(&families), "{diagnostics:?}\n{yaml}");
        if is_refused {
            refused += 1;
            continue;
        }
        let (exporter, failures, _) =
            Exporter::start(&probes, &kernel, &Host::default(), Vec::new(), options);
        assert!(failures.is_empty(), "{failures:?}\n{yaml}");
        std::thread::sleep(std::time::Duration::from_millis(20));
        let counted = exporter.select(&Selection::All);
        assert!(counted.iter().any(|family| family.kind != FamilyKind::Gauge && !family.samples.is_empty()));
        for format in [Format::Text, Format::OpenMetrics, Format::Protobuf] {
            let encoded = encode(counted.clone(), format);
            assert_eq!(encoded.left_out, [], "{yaml}");
            let read = match format {
                Format::Protobuf => Series::of_protobuf(&encoded.body),
                Format::Text | Format::OpenMetrics => {
                    Series::of_text(std::str::from_utf8(&encoded.body).unwrap())
                }
            };
            read.assert_unique(&yaml);
            series += read.samples.len();
        }
        if seed - refused >= ROUNDS {
            break;
        }
    }
    assert!(refused > 0, "some of them collide");
    Ok(format!("{series} series of {ROUNDS} configurations, {refused} refused"))
}

fn run(cases: &mut Cases) -> Result<(), Skip> {
    root()?;
    cases.run("all shipped probes", shipped);
    cases.run("random configurations", random_configurations);
    Ok(())
}

#[test]
fn no_series_is_there_twice() {
    let mut cases = Cases::new("series");
    if let Err(Skip(reason)) = run(&mut cases) {
        say(format_args!("series: skipped: {reason}"));
    }
    cases.finish();
}

/// What the exporter has of its own is refused as a metric of a site, so that a family that is added later is as well.
#[test]
fn names_of_the_exporter_are_refused() {
    use support::families::{ACCOUNT, ARRAYS, OWN, PUSH, STACKS, WEB};
    for (family, _) in ARRAYS.iter().chain(&OWN).chain(&PUSH).chain(&WEB).chain(&STACKS).chain(&ACCOUNT) {
        // `process_…` are not tapster's, and cannot be a site's: those have `tapster_` in front.
        let Some(name) = family.strip_prefix("tapster_") else { continue };
        // A counter is a family without its `_total` to some readers.
        let own =
            if name.ends_with("_total") { ("counter", name.to_owned()) } else { ("gauge", name.to_owned()) };
        for (kind, name) in [own, ("counter", format!("{}_total", name.trim_end_matches("_total")))] {
            let yaml = format!(
                "probes:\n  - name: p\n    at: 'tracepoint:sched:sched_switch'\n    metrics: [{{ {kind}: {name}, value: pid }}]\n"
            );
            let (_, diagnostics) = declaration::parse(&SourceFile::new("own.yaml", &yaml));
            assert!(
                diagnostics.iter().any(|diagnostic| diagnostic.message.contains("own")
                    || diagnostic.message.contains("cannot end in `_info`")),
                "`{name}` may be a site's: {diagnostics:?}"
            );
        }
    }
}
