//! Walks over objects: the program counts each object, and nothing where there is none.
#![allow(clippy::unwrap_used, reason = "a panic is the report")]

use tapster_testing::compiler as support;

use support::{
    case::{Frame, compile, context, parse},
    world::World,
};
use tapster_ebpf::{attach, compile as compile_probe, vm::Environment};

const NODE: u64 = 0xffff_8880_0000_1000;

#[test]
fn an_object_is_counted_and_none_is_not() {
    let head = "    at: \"iter:node\"\n    where: args.node.big != 3\n    labels: { big: args.node.big }\n";
    let case = compile(&Frame { head: head.into() }, &["1".to_owned()], &World::new().target(2)).unwrap();
    let mut node = vec![0; 168];
    for (big, rows) in [(5_u64, 1), (3, 0)] {
        node[8..16].copy_from_slice(&big.to_le_bytes());
        let environment = Environment { kernel: [(NODE, node.clone())].into(), ..Environment::default() };
        // The walk's own, then the object.
        for (object, rows) in [(NODE, rows), (0, 0)] {
            let context = context(&[7, object]);
            let mut vm = case.machine(environment.clone());
            case.run(&mut vm, &context, 10);
            let found = case.rows(&vm);
            assert_eq!(found.len(), rows, "{big} {object:#x}");
            assert_eq!(found, case.expected(&environment, &context, 10));
        }
    }
}

#[test]
fn what_a_kernel_walks_over() {
    let world = World::new();
    // Functions for walks within programs are none.
    assert_eq!(attach::objects(&world.target(2)), ["node"]);
}

#[test]
fn what_is_no_gauge_or_no_single_event_is_refused() {
    let refused = |body: &str| {
        let yaml = format!("probes:\n  - name: walk\n{body}");
        let world = World::new();
        let found = parse(&yaml).and_then(|probe| compile_probe(&probe, &world.target(2)));
        found.err().unwrap_or_default().iter().map(ToString::to_string).collect::<String>()
    };
    for (body, says) in [
        ("    at: iter:nodes\n    metrics: [{ sum: a, value: 1 }]\n", "this kernel has no `iter:nodes`"),
        (
            "    at: iter:node\n    metrics: [{ counter: a_total }]\n",
            "`a_total` would fall whenever an object goes",
        ),
        (
            "    at: iter:node\n    metrics: [{ histogram: a, value: args.node.big }]\n",
            "`a` would fall whenever an object goes",
        ),
        (
            "    start: { at: \"iter:node\", key: args.node.big }\n    end: { at: \"rawtracepoint:test:typed\", key: args.big }\n    metrics: [{ max: a_seconds, value: duration }]\n",
            "`iter:node` is no event, so nothing begins or ends there",
        ),
        (
            "    events: [{ at: \"iter:node\", values: { a: 1 } }, { at: \"rawtracepoint:test:typed\", values: { a: 1 } }]\n    metrics: [{ sum: a }]\n",
            "`iter:node` is read at a scrape, and the other events happen at any time",
        ),
        (
            "    at: iter:node\n    labels: { a: { value: args.node, as: usym } }\n    metrics: [{ sum: a, value: 1 }]\n",
            "no program runs at `iter:node` whose function `usym` could name",
        ),
        ("    at: iter:node\n    metrics: [{ sum: a, value: args.meta }]\n", "has no argument `meta`"),
    ] {
        let found = refused(body);
        assert!(found.contains(says), "{body}: {found}");
    }
    for metric in ["sum: a, value: 1", "gauge: a, value: args.node.big", "max: a, value: args.node.big"] {
        let body = format!("    at: iter:node\n    metrics: [{{ {metric} }}]\n");
        assert_eq!(refused(&body), "", "{metric}");
    }
}
