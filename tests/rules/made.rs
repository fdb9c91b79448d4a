//! Rules as they are made of templates: the files that are checked in, and what `tapster rules` prints.

use crate::support::{
    cases::Outcome,
    command::{output, tool},
    exporter::binary,
    families, fixture,
    golden::Golden,
    promql, yaml,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    fs,
};
use tapster::rules::{self, Settings, TEMPLATES};
use tapster_ebpf::yaml::Node;

const PAGE: &str = "../docs/alerts.md";
const MARK: &str = "<!-- thresholds: ";
const END: &str = "<!-- end of thresholds -->";

/// The page with the tables of today between their marks, and how often each threshold stands there. A mark names how thresholds
/// begin.
fn with_tables(page: &str) -> (String, BTreeMap<String, usize>) {
    let all = rules::thresholds();
    let mut count: BTreeMap<String, usize> = all.iter().map(|one| (one.name.clone(), 0)).collect();
    let mut text = String::new();
    let mut rest = page;
    while let Some((before, behind)) = rest.split_once(MARK) {
        let (words, behind) = behind.split_once(" -->").expect("a mark is closed");
        let (_, after) = behind.split_once(END).unwrap_or_else(|| panic!("no `{END}` behind `{words}`"));
        write!(text, "{before}{MARK}{words} -->\n| threshold | default | |\n|---|---|---|\n").unwrap();
        for one in all.iter().filter(|one| words.split(' ').any(|word| one.name.starts_with(word))) {
            writeln!(text, "| `{}` | {} | {} |", one.name, one.default, one.help).unwrap();
            *count.get_mut(&one.name).unwrap() += 1;
        }
        text += END;
        rest = after;
    }
    (text + rest, count)
}

/// After a change of a template or of a threshold: `TAPSTER_ACCEPT=1 cargo test --test rules`.
pub(crate) fn files_are_up_to_date() -> Outcome {
    let mut golden = Golden::new("rules");
    let settings = Settings::default();
    for template in &TEMPLATES {
        golden.compare(&format!("../config/rules/{}", template.file), &rules::file(template, &settings));
    }
    let (page, count) = with_tables(&fs::read_to_string(fixture::file(PAGE)).unwrap());
    golden.compare(PAGE, &page);
    for (name, count) in &count {
        if *count != 1 {
            golden.fail(format!("docs/alerts.md has `{name}` in {count} tables of thresholds"));
        }
    }
    golden.finish();
    Ok(format!("{} files, {} thresholds", TEMPLATES.len(), count.len()))
}

/// The rules in a text: their names and expressions.
fn expressions(root: &Node) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for group in yaml::items(root, "groups") {
        for rule in yaml::items(group, "rules") {
            let text = |key: &str| yaml::get(rule, key).map(yaml::text).unwrap_or_default().to_owned();
            all.push((text("record") + &text("alert"), text("expr")));
        }
    }
    all
}

fn parsed(text: &str) -> Node {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("rules.yaml");
    fs::write(&file, text).unwrap();
    yaml::read(&file)
}

/// No rule has a number of its own, and none reads one from a series.
pub(crate) fn numbers_are_thresholds() -> Outcome {
    let mut rules = 0;
    for template in &TEMPLATES {
        let (_, name) = template.file.rsplit_once('/').unwrap_or(("", template.file));
        let root = yaml::read(&fixture::file(format!("../config/rules/templates/{name}")));
        for (name, expr) in expressions(&root) {
            assert!(!expr.contains("scalar("), "`{name}` reads a number from a series");
            for number in promql::names(&expr).numbers {
                // The states 0 and 1, the one that a member is less than all; a quantile is in its name.
                let is_meant = match number.as_str() {
                    "0" | "1" => true,
                    "0.99" => name.contains("p99"),
                    "0.5" => name.contains("p50"),
                    // How many devices of a host, which is in the name too.
                    "3" => name.contains("worst3"),
                    // How many members RAID 6 may lack.
                    "2" => name.contains("TapsterRaidArray") || name.contains("_bears:"),
                    // The least room of a probe that can be full.
                    "10" => name == "TapsterSeriesNearLimit",
                    _ => false,
                };
                assert!(is_meant, "`{name}` has the number {number}");
            }
            rules += 1;
        }
    }
    Ok(format!("{rules} rules"))
}

/// With a selector, no rule looks at a series that does not have it, nor counts across clusters.
pub(crate) fn selectors_reach_every_series() -> Outcome {
    let mut settings = Settings::default();
    settings.set_selector("cluster=\"a\"").unwrap();
    settings.set_cluster("cluster").unwrap();
    let mut selectors = 0;
    for template in &TEMPLATES {
        for (name, expr) in expressions(&parsed(&rules::file(template, &settings))) {
            for selector in promql::names(&expr).selectors {
                assert!(
                    selector.labels.iter().any(|label| label == "cluster"),
                    "`{name}`: `{}` of any cluster",
                    selector.metric
                );
                selectors += 1;
            }
            for (at, _) in expr.match_indices(" by (").chain(expr.match_indices(" on (")) {
                let labels = expr[at..].split(')').next().unwrap();
                assert!(labels.contains("cluster"), "`{name}` counts across clusters:{labels})");
            }
        }
    }
    Ok(format!("{selectors} selectors"))
}

/// Labels that the rules know of `tapster_block_device_info`, beside `device` and `group`.
pub(crate) fn device_info() -> BTreeSet<String> {
    let root = yaml::read(&fixture::file("../config/rules/templates/thresholds.yaml"));
    let texts = yaml::items(&root, "texts");
    let name = |node: &&Node| yaml::get(node, "name").map(yaml::text) == Some("device_info");
    let text = texts.iter().find(name).and_then(|node| yaml::get(node, "text")).map(yaml::text);
    let labels = text.expect("there is such a text").split(", ").map(str::to_owned);
    labels.chain(["device".to_owned(), "group".to_owned()]).collect()
}

/// A label that the rules do not know would make a device's group a series of another label set than its latency.
pub(crate) fn labels_of_devices_are_known() -> Outcome {
    let known = device_info();
    let (_, served) = families::ARRAYS.iter().find(|(name, _)| *name == "tapster_block_device_info").unwrap();
    for label in *served {
        assert!(known.contains(*label), "`device_info` in thresholds.yaml lacks `{label}`");
    }
    Ok(format!("{} labels of {}", served.len(), known.len()))
}

fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = output(binary().arg("rules").args(arguments));
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// The command: the files' rules by default, everything that can be set, and what it says of what is wrong.
pub(crate) fn printed() -> Outcome {
    let (status, all, _) = run(&[]);
    assert_eq!(status, Some(0));
    let printed = expressions(&parsed(&all));
    let mut files = Vec::new();
    for template in TEMPLATES.iter().filter(|template| !template.is_optional) {
        files.extend(expressions(&yaml::read(&fixture::file(format!("../config/rules/{}", template.file)))));
    }
    assert_eq!(printed, files);

    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("rules.yaml");
    let set = [
        "--selector",
        "cluster=\"a\", region!~\"x|y\\\\.z\"",
        "--cluster-label",
        "cluster",
        "--runbook-url",
        "https://wiki.example/alerts",
        "--set",
        "raid_slow_ratio=2.5",
        "--set",
        "slo_bound_seconds=0.0000152587890625",
        "--job",
        "tapster|storage",
        "--nodes",
        "kube_node_info{cluster=\"a\", node!=\"edge\"}",
    ];
    let groups: Vec<String> = rules::groups().iter().map(|group| format!("--group={group}")).collect();
    let arguments: Vec<&str> = set.iter().copied().chain(groups.iter().map(String::as_str)).collect();
    let (status, text, said) = run(&arguments);
    assert_eq!(status, Some(0), "{said}");
    for expected in [
        "slow_ratio10m{cluster=\"a\", region!~\"x|y\\\\.z\"}\n          > 2.5\n",
        "le=\"0.0000152587890625\", device!=\"~gone\", operation=~\"read|write\", cluster=\"a\"",
        "runbook_url: https://wiki.example/alerts#tapsterdown\n",
        "up{job=~\"tapster|storage\", cluster=\"a\"",
        "group by (node, cluster) (kube_node_info{cluster=\"a\", node!=\"edge\"})",
        "{{ $value }} hosts of {{ $labels.cluster }} (",
        "# selector: cluster=\"a\", region!~\"x|y\\\\.z\"\n",
    ] {
        assert!(text.contains(expected), "no `{expected}` in:\n{text}");
    }
    fs::write(&file, &text).unwrap();
    let checked = output(tool("promtool")?.args(["check", "rules", "--lint=all", "--lint-fatal"]).arg(&file));
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));

    let (status, object, _) = run(&["--format", "operator", "--name", "tapster-a", "--group", "tapster-slo"]);
    assert_eq!(status, Some(0));
    let root = parsed(&object);
    let spec = yaml::get(&root, "spec").unwrap();
    assert_eq!(yaml::get(&root, "kind").map(yaml::text), Some("PrometheusRule"));
    assert_eq!(yaml::get(yaml::get(&root, "metadata").unwrap(), "name").map(yaml::text), Some("tapster-a"));
    let optional = expressions(&yaml::read(&fixture::file("../config/rules/optional/slo.yaml")));
    assert_eq!(expressions(spec), optional);

    let (status, classic, _) =
        run(&["--classic-histograms", groups[0].as_str(), "--group", "tapster-raid-slow"]);
    assert_eq!(
        (status, classic.contains("histogram_count"), all.contains("histogram_count")),
        (Some(0), false, true)
    );
    let names = |text: &str| expressions(&parsed(text)).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(names(&classic), names(&run(&[groups[0].as_str(), "--group=tapster-raid-slow"]).1));

    let (status, list, _) = run(&["--list", "--set", "raid_slow_ratio=3"]);
    assert_eq!((status, list.lines().count()), (Some(0), rules::thresholds().len()));
    assert!(list.contains("  raid_slow_ratio "), "{list}");
    assert!(list.lines().any(|line| line.split_whitespace().take(2).eq(["raid_slow_ratio", "3"])), "{list}");
    for (arguments, expected) in [
        (
            ["--set", "raid_slow_ratoi=2"],
            "error: there is no threshold `raid_slow_ratoi`\n  hint: did you mean `raid_slow_ratio`?\n",
        ),
        (
            ["--set", "raid_slow_ratio=two"],
            "error: `two` is no value for `raid_slow_ratio`\n  hint: a decimal number, in times: `1.8`\n",
        ),
        (
            ["--selector", "cluster=\"a\"} or vector(1) or up{job=\"\""],
            "error: the selector `cluster=\"a\"} or vector(1) or up{job=\"\"` is malformed: a comma is missing behind the value of `cluster`\n  hint: write it as between the braces of PromQL: `cluster=\"a\", job=~\"tapster.*\"`\n",
        ),
        (
            ["--group", "x"],
            "error: there is no group `x`\n  hint: there are tapster-block, tapster-block-latency, tapster-events, tapster-exporter, tapster-exporter-lasting, tapster-fleet, tapster-block-median, tapster-nodes, tapster-block-peers, tapster-raid-slow, tapster-raid-slow-hour, tapster-raid-state, tapster-sched, tapster-slo\n",
        ),
        (
            ["--runbook-url", "wiki"],
            "error: `wiki` is no address of a page\n  hint: http:// or https://, without what stands behind `#`: that is the alert's\n",
        ),
    ] {
        assert_eq!(run(&arguments), (Some(2), String::new(), expected.into()));
    }
    Ok(format!("{} rules, {} with everything set", printed.len(), expressions(&parsed(&text)).len()))
}
