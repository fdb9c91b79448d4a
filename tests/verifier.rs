//! Whatever the checker accepts, the verifier accepts: random probes over this kernel's own attach points
//! and types are loaded, never attached.
//!
//! `TAPSTER_VERIFIER_PROBES` says how many, 10 000 take half a minute with `--release`;
//! `TAPSTER_VERIFIER_SEED` where to begin, so that one probe can be loaded again: both are printed where one
//! is refused.
#![allow(
    clippy::unwrap_used,
    clippy::format_push_string,
    clippy::format_collect,
    reason = "a panic is the report"
)]

#[path = "verifier/packets.rs"]
mod packets;
#[path = "verifier/probe.rs"]
mod probe;
#[path = "verifier/symbols.rs"]
mod symbols;
use tapster_testing::compiler as support;
#[path = "verifier/walk.rs"]
mod walk;

use std::{
    collections::BTreeMap,
    os::fd::AsFd,
    time::{Duration, Instant},
};
use support::case;
use symbols::Symbols;
use tapster::{
    host::Host,
    kernel::Kernel,
    load::{self, Attached, LoadError},
    sys::{Capabilities, Capability, prog_info},
};
use tapster_ebpf::{attach::Target, probe::KernelVersion};

/// As many as a minute is enough for.
const PROBES: u64 = 600;
/// Refused ones that are shown.
const SHOWN: usize = 12;

fn variable(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// The kernel at hand, if this process may load programs into it; says so if not.
fn kernel() -> Option<Kernel> {
    let capabilities = Capabilities::of_process().unwrap();
    let may_load = capabilities.has(Capability::Bpf) && capabilities.has(Capability::Perfmon);
    if !may_load && !capabilities.has(Capability::SysAdmin) {
        println!("skipped: needs CAP_BPF and CAP_PERFMON, or CAP_SYS_ADMIN");
        return None;
    }
    let kernel = Kernel::detect(&Host::default());
    match (&kernel.btf, &kernel.tracefs) {
        (Ok(_), Ok(_)) => Some(kernel),
        _ => {
            println!("skipped: needs the kernel's BTF and tracefs");
            None
        }
    }
}

/// Most instructions that the verifier went through for one of a probe's programs; 0 where it does not tell.
fn followed(loaded: &Attached) -> u64 {
    let programs = (0..loaded.program.codes.len()).filter_map(|index| loaded.program_fd(index));
    programs.map(|fd| prog_info(fd.as_fd()).unwrap().verified_insns).max().unwrap_or(0)
}

#[test]
fn what_is_checked_is_verified() {
    let Some(kernel) = kernel() else { return };
    let types = kernel.btf.as_ref().unwrap();
    let points = probe::Points::of(&kernel);
    let (wanted, first) = (variable("TAPSTER_VERIFIER_PROBES", PROBES), variable("TAPSTER_VERIFIER_SEED", 1));
    let (mut loaded, mut tried, mut refused) = (0, 0, Vec::new());
    let (mut programs, mut instructions) = (0, 0);
    let mut longest = (0, 0);
    let mut kinds: BTreeMap<&str, u64> = BTreeMap::new();
    let mut unchecked: BTreeMap<String, u64> = BTreeMap::new();
    let (mut compiling, mut loading) = (Duration::ZERO, Duration::ZERO);
    while loaded < wanted && refused.len() < SHOWN {
        let seed = first + tried;
        tried += 1;
        assert!(tried < wanted * 20 + 100, "hardly any probe is accepted by the checker: {unchecked:?}");
        let start = Instant::now();
        let Some(yaml) = probe::probe(seed, &kernel, types, &points) else { continue };
        let parsed = case::parse(&yaml).unwrap_or_else(|error| panic!("seed {seed}\n{yaml}\n{error:?}"));
        let target = Target { functions: &Symbols(&kernel), ..kernel.target() };
        let compiled = tapster_ebpf::compile(&parsed, &target);
        compiling += start.elapsed();
        let program = match compiled {
            Ok(program) => program,
            Err(diagnostics) => {
                for one in diagnostics {
                    let mut words = String::new();
                    // Names are between backticks, and of no interest here.
                    for part in one.message.split('`').step_by(2) {
                        words += part;
                    }
                    *unchecked.entry(words.replace(|c: char| c.is_ascii_digit(), "")).or_default() += 1;
                }
                continue;
            }
        };
        for code in &program.codes {
            programs += 1;
            instructions += code.assembled.insns.len();
            *kinds.entry(code.mechanism.name).or_default() += 1;
        }
        loaded += 1;
        let start = Instant::now();
        let result = load::load(program.clone(), Some(types));
        loading += start.elapsed();
        longest = longest.max((result.as_ref().map_or(0, followed), seed));
        if let Err(error) = result {
            let listing = match &error {
                LoadError::Verifier { at, .. } => program
                    .codes
                    .iter()
                    .find(|code| code.at.to_string() == *at)
                    .map(|code| code.assembled.listing())
                    .filter(|_| std::env::var_os("TAPSTER_VERIFIER_LISTING").is_some())
                    .unwrap_or_default(),
                _ => String::new(),
            };
            println!("TAPSTER_VERIFIER_SEED={seed} TAPSTER_VERIFIER_PROBES=1\n{yaml}{listing}{error}\n");
            refused.push(seed);
        }
    }
    println!(
        "{loaded} probes loaded of {tried} made, {programs} programs {kinds:?}, {instructions} instructions; compiled in {:.1} s, loaded in {:.1} s; the verifier followed at most {} instructions, for seed {}",
        compiling.as_secs_f64(),
        loading.as_secs_f64(),
        longest.0,
        longest.1
    );
    if std::env::var_os("TAPSTER_VERIFIER_LISTING").is_some() {
        println!("not accepted by the checker: {unchecked:#?}");
    }
    assert!(refused.is_empty(), "the verifier refused what the checker accepted: seeds {refused:?}");
}

/// A walk with so many conditions that no verifier could go all ways through it: each round has to look to it like
/// the one before, and each condition must be forgotten where its ways meet.
#[test]
fn a_wide_walk_is_followed_once() {
    let Some(kernel) = kernel() else { return };
    if kernel.version < KernelVersion(6, 9, 0) {
        println!("skipped: before Linux 6.9 a walk is followed round by round");
        return;
    }
    let mut yaml = String::from(
        "probes:\n  - name: wide\n    at: \"rawtracepoint:sched:sched_process_fork\"\n    each: { name: item, from: args.child, next: item.real_parent, limit: 4096, size: item.flags, within: args.child.flags }\n    let:\n      before: 'args.parent.flags & 1 ? 7 : args.child.exit_state'\n",
    );
    for index in 0..12 {
        yaml += &format!(
            "      l{index}: 'item.flags & {} ? item.exit_code : item.group_leader.prio > {index}'\n",
            1 << index
        );
    }
    yaml += "    labels:\n";
    for index in 0..10 {
        yaml += &format!("      n{index}: 'item.group_leader.flags > {index} && item.prio > {index}'\n");
    }
    yaml += "      text: 'item.flags & 2 ? \"two\" : item.group_leader.comm'\n    metrics:\n";
    for index in 0..30 {
        yaml += &format!(
            "      - histogram: m{index}\n        unit: none\n        value: 'l{} + ((struct task_struct *)(u64)item.group_leader).prio % (before ? before : {index})'\n        buckets: [1, 2, 3, 10]\n        where: 'before > {index} || item.comm == \"a\"'\n",
            index % 12
        );
    }
    let program = tapster_ebpf::compile(&case::parse(&yaml).unwrap(), &kernel.target()).unwrap();
    let instructions = u64::try_from(program.codes[0].assembled.insns.len()).unwrap();
    let loaded = load::load(program, kernel.btf.as_ref().ok()).unwrap();
    let followed = followed(&loaded);
    // Each instruction some times, and not the 2 to the power of 42 ways that there are. Until 6.15 a verifier also compares registers that
    // nobody reads any more: 6.12 follows 16 times as many as there are, 7.3 three times.
    let most = instructions * if kernel.version < KernelVersion(6, 15, 0) { 25 } else { 10 };
    println!("{instructions} instructions, the verifier followed {followed}");
    assert!(followed < most, "{instructions} instructions, the verifier followed {followed}");
}
