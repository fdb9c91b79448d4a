//! Bytes as labels, in keys, and kept from a start.
#![allow(clippy::unwrap_used, reason = "a panic is the report")]

use tapster_testing::compiler as support;

use support::{
    case::{Case, Frame, compile, context},
    world::World,
};
use tapster_ebpf::vm::Environment;

/// Where the node is, and the offsets of two of its fields.
const NODE: u64 = 0xffff_8880_0000_1000;
const TAG: usize = 68;
const INSIDE: usize = 74;
const INNER: usize = 88;

fn compiled(head: &str) -> Result<Case, String> {
    compile(&Frame { head: head.into() }, &["1".to_owned()], &World::new().target(2))
}

/// Keys of the rows after one run, with a node whose bytes count up and whose `inner` points to itself.
fn keys(case: &Case, argument: u64) -> Vec<Vec<u8>> {
    let mut node: Vec<u8> = (1..=168).collect();
    node[INNER..INNER + 8].copy_from_slice(&NODE.to_le_bytes());
    let environment = Environment { kernel: [(NODE, node)].into(), ..Environment::default() };
    let context = context(&[argument; 10]);
    let mut vm = case.machine(environment.clone());
    case.run(&mut vm, &context, 10);
    let rows = case.rows(&vm);
    assert_eq!(rows, case.expected(&environment, &context, 10), "{}", case.yaml);
    rows.into_iter().map(|(key, _)| key).collect()
}

/// Bytes that count up from the first, and zeros up to `room`.
fn padded(first: usize, count: usize, room: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = (first..first + count).map(|byte| u8::try_from(byte + 1).unwrap()).collect();
    bytes.resize(room, 0);
    bytes
}

#[test]
fn labels_have_all_bytes_and_zeros_up_to_a_word() {
    let case = compiled(
        "    at: \"rawtracepoint:test:typed\"\n    labels: { tag: 'bytes(args.node.tag)', some: 'bytes(args.node.inside, 3)', at: 'bytes(args.node.inner, 9)' }\n",
    )
    .unwrap();
    let expected = [padded(TAG, 5, 8), padded(INSIDE, 3, 8), padded(0, 9, 16)].concat();
    assert_eq!(keys(&case, NODE), [expected]);
    // Nothing is there: zeros.
    assert_eq!(keys(&case, 0), [vec![0; 32]]);
}

#[test]
fn an_array_of_the_context() {
    let case =
        compiled("    at: \"tracepoint:test:record\"\n    labels: { many: 'bytes(args.many)' }\n").unwrap();
    let environment = Environment::default();
    let mut vm = case.machine(environment.clone());
    let record: Vec<u8> = (0..=255).collect();
    case.run(&mut vm, &record, 10);
    let rows = case.rows(&vm);
    assert_eq!(rows, case.expected(&environment, &record, 10));
    assert_eq!(rows[0].0, (64..72).collect::<Vec<u8>>());
}

#[test]
fn keys_and_what_is_kept() {
    let case = compiled(
        "    start: { at: \"rawtracepoint:test:typed\", key: ['bytes(args.node.tag)'], save: { id: 'bytes(args.node.inside, 5)' } }\n    end: { at: \"rawtracepoint:test:typed\", key: ['bytes(args.node.tag)'] }\n    let: { same: 'start.id' }\n    labels: { id: same, which: 'duration > 5 ? start.id : bytes(args.node.inside, 5)' }\n",
    );
    // Start and end of one event are refused, so the end is at another.
    assert!(case.is_err());
    let case = compiled(
        "    start: { at: \"rawtracepoint:test:task\", key: ['bytes(args.node.tag)'], save: { id: 'bytes(args.node.inside, 5)' } }\n    end: { at: \"rawtracepoint:test:typed\", key: ['bytes(args.node.tag)'] }\n    let: { same: 'start.id' }\n    labels: { id: same, which: 'duration > 5 ? start.id : bytes(args.node.inside, 5)' }\n",
    )
    .unwrap();
    let id = padded(INSIDE, 5, 8);
    assert_eq!(keys(&case, NODE), [[id.clone(), id].concat()]);
}

#[test]
fn what_bytes_are_not_for_is_refused() {
    let with = |label: &str| {
        compiled(&format!("    at: \"rawtracepoint:test:typed\"\n    labels: {{ a: {label} }}\n"))
            .map(|_| ())
            .unwrap_err()
    };
    for (label, says) in [
        ("'bytes(args.node.tag) + 1'", "an operand of `+` must be a number, found bytes"),
        ("'bytes(args.node.tag) == 1'", "must be a number, found bytes"),
        ("'str(bytes(args.node.tag))'", "an address must be a number, found bytes"),
        ("'bytes(args.big)'", "`bytes` takes an array or a struct, or a pointer and a size"),
        ("'bytes(args.node.inner)'", "how many bytes is not known"),
        ("'bytes(args.node.tag, 6)'", "there are only 5 bytes"),
        ("'bytes(args.node.inner, 65)'", "the number of bytes must be a constant from 1 to 64"),
        ("'bytes(args.node.inner, args.big)'", "the number of bytes must be a constant from 1 to 64"),
        ("'bytes()'", "`bytes` takes an array or a struct, or a pointer and a size"),
        ("'args.big ? bytes(args.node.tag) : 1'", "the sides of `? :` are not both bytes, and as many"),
        ("{ value: 'bytes(args.node.tag)', as: hex }", "this decoder does not take bytes"),
        ("{ value: args.big, as: bytes }", "this decoder does not take a number"),
        ("{ value: comm, as: bytes }", "this decoder does not take a text"),
    ] {
        let refused = with(label);
        assert!(refused.contains(says), "{label}: {refused}");
    }
}
