//! Variables of the kernel, by their names: one for all, and one for each CPU.
#![allow(clippy::unwrap_used, reason = "a panic is the report")]

use tapster_testing::compiler as support;

use support::{
    case::{Case, Frame, compile, context},
    world::{NODE, SYMBOLS, World},
};
use tapster_ebpf::vm::Environment;

/// How far the variables of each CPU are from where symbols say. There are two CPUs, and what stands behind them means nothing.
const DISTANCES: [u64; 3] = [0xffff_8880_1000_0000, 0xffff_8880_2000_0000, 0xffff_8880_3000_0000];

fn compiled(head: &str, expressions: &[&str]) -> Result<Case, String> {
    let expressions: Vec<String> = expressions.iter().map(|text| (*text).to_owned()).collect();
    let head = format!("    at: \"rawtracepoint:test:untyped\"\n{head}");
    compile(&Frame { head }, &expressions, &World::new().target(2))
}

fn address(name: &str) -> u64 {
    SYMBOLS.iter().find(|(known, _)| *known == name).unwrap().1
}

/// A node with this number in its `big`, and a text in its `name`.
fn node(big: u64) -> Vec<u8> {
    let mut bytes = vec![0; NODE];
    bytes[8..16].copy_from_slice(&big.to_le_bytes());
    bytes[40..44].copy_from_slice(b"name");
    bytes
}

fn numbers(first: u32) -> Vec<u8> {
    (first..first + 4).flat_map(u32::to_le_bytes).collect()
}

/// A machine whose second CPU runs the program.
fn machine() -> Environment {
    let words = |words: &[u64]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    let mut environment = Environment { cpu: 1, ..Environment::default() };
    let mut put = |at: u64, bytes: Vec<u8>| drop(environment.kernel.insert(at, bytes));
    put(address("untyped"), words(&[11, 12, 13]));
    put(address("one_node"), node(1000));
    put(address("some_numbers"), numbers(20));
    put(address("__per_cpu_offset"), words(&DISTANCES));
    for (distance, cpu) in DISTANCES.into_iter().zip(0..) {
        put(distance + address("node_of_cpu"), node(2000 + u64::from(cpu)));
        put(distance + address("numbers_of_cpu"), numbers(30 + 10 * cpu));
    }
    environment
}

/// Arguments: an index, the address of the function, and the numbers of a CPU that exists and of one that does not.
const ARGUMENTS: [u64; 4] = [2, 0xffff_ffff_8100_0040, 0, 2];

#[test]
fn values_of_variables() {
    let known = [
        ("*(u64 *)kaddr(untyped)", 11),
        ("((unsigned long *)kaddr(untyped))[1]", 12),
        ("((u64 *)kaddr(\"untyped\"))[arg0]", 13),
        ("kaddr(some_function) == arg1", 1),
        ("arg1 == kaddr(untyped) ? 1 : 7", 7),
        ("kaddr(one_node).big", 1000),
        ("kaddr(one_node).big + kaddr(some_numbers)[3]", 1023),
        ("*kaddr(some_numbers)", 20),
        ("kaddr(some_numbers)[arg0]", 22),
        ("kaddr(one_node).name == \"name\"", 1),
        ("((struct node *)kaddr(untyped)).next", 11),
        ("percpu(node_of_cpu).big", 2001),
        ("percpu(node_of_cpu, 0).big", 2000),
        ("percpu(node_of_cpu, 1).big", 2001),
        ("percpu(node_of_cpu, arg2).big", 2000),
        ("percpu(node_of_cpu, cpu).big", 2001),
        ("percpu(node_of_cpu, arg3).big", 0),
        ("percpu(node_of_cpu, 0 - 1 - arg2).big", 0),
        ("percpu(node_of_cpu).name == \"name\"", 1),
        ("percpu(numbers_of_cpu)[3]", 43),
        ("percpu(numbers_of_cpu, 0)[arg0]", 32),
        ("percpu(numbers_of_cpu, arg2)[1] + *percpu(numbers_of_cpu)", 71),
        ("*(u64 *)kaddr(nothing) ?? 5", 5),
        ("percpu(nothing).big ?? 6", 6),
        ("own.big - mine.big", 1000_u64.wrapping_sub(2001)),
    ];
    let expressions: Vec<&str> = known.iter().map(|(text, _)| *text).collect();
    let lets = "    let: { own: kaddr(one_node), mine: percpu(node_of_cpu) }\n";
    let case = compiled(lets, &expressions).unwrap();
    let (environment, context) = (machine(), context(&ARGUMENTS));
    let mut vm = case.machine(environment.clone());
    case.run(&mut vm, &context, 10);
    let rows = case.rows(&vm);
    assert_eq!(rows, case.expected(&environment, &context, 10), "{}", case.yaml);
    for ((text, expected), got) in known.iter().zip(&rows[0].1) {
        assert_eq!(got, expected, "{text}");
    }
    assert!(case.program.has_addresses);
    assert!(!compiled("", &["arg0"]).unwrap().program.has_addresses);
}

/// Memory that is not there is 0, as everywhere.
#[test]
fn variables_that_cannot_be_read() {
    let expressions = ["*(u64 *)kaddr(untyped)", "percpu(node_of_cpu).big", "kaddr(one_node).big + 1"];
    let case = compiled("", &expressions).unwrap();
    let (environment, context) = (Environment::default(), context(&ARGUMENTS));
    let mut vm = case.machine(environment.clone());
    case.run(&mut vm, &context, 10);
    assert_eq!(case.rows(&vm), case.expected(&environment, &context, 10));
    assert_eq!(case.rows(&vm)[0].1, [0, 0, 1]);
}

#[test]
fn what_is_no_variable_is_refused() {
    for (expression, says) in [
        ("kaddr(node_of_cpu)", "each CPU has a `node_of_cpu` of its own"),
        ("percpu(one_node).big", "there is one `one_node`, and not one for each CPU"),
        ("*kaddr(untyped)", "a `void *` points to nothing that can be read"),
        ("kaddr(untyped).big", "a `void *` points to nothing that can be read"),
        ("kaddr(one_node).bigg", "did you mean `big`?"),
        ("kaddr()", "`kaddr` takes the name of a symbol"),
        ("kaddr(untyped, 1)", "`kaddr` takes the name of a symbol"),
        ("kaddr(arg0 + 1)", "`kaddr` takes the name of a symbol"),
        ("kaddr(\"\")", "`kaddr` takes the name of a symbol"),
        ("kaddr(nothing)", "this kernel has no symbol `nothing`"),
        // What is hidden may well be there.
        ("kaddr(hidden) ?? 1", "this kernel has no symbol `hidden`"),
        ("percpu()", "`percpu` takes the name of a variable"),
        ("percpu(3, node_of_cpu)", "`percpu` takes the name of a variable"),
        ("percpu(node_of_cpu, 1, 2)", "`percpu` takes the name of a variable"),
        ("percpu(node_of_cpus).big", "did you mean `node_of_cpu`?"),
        ("percpu(untyped)", "BTF has no variable `untyped` of each CPU"),
        ("percpu(node_of_cpu, 2).big", "this host has no CPU 2"),
        ("percpu(node_of_cpu, -1).big", "this host has no CPU -1"),
        ("percpu(node_of_cpu, comm).big", "a CPU must be a number, found a text"),
        ("kadr(untyped)", "did you mean `kaddr`?"),
    ] {
        let refused = compiled("", &[expression]).unwrap_err();
        assert!(refused.contains(says), "{expression}: {refused}");
    }
}
