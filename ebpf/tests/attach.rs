//! What attach kinds say of their programs reaches the instructions and the object.
#![allow(clippy::unwrap_used, reason = "a panic is the report")]

use tapster_testing::compiler as support;

use support::{case::parse, world::World};
use tapster_ebpf::{
    check,
    host::HostFacts,
    insn::{Alu, Insn, R0, Src},
    lower, object,
};

fn probe(at: &str) -> String {
    format!("probes: [{{ name: p, at: '{at}', labels: {{ cpu: cpu }}, metrics: [{{ counter: a_total }}] }}]")
}

#[test]
fn programs_return_what_their_mechanism_says() {
    let world = World::new();
    let target = world.target(1);
    let mut typed = check::check(&parse(&probe("rawtracepoint:test:untyped")).unwrap(), &target).unwrap();
    for returns in [0, 2] {
        for event in &mut typed.events {
            event.mechanism.returns = returns;
        }
        let program = lower::lower(typed.clone(), HostFacts::of(&target)).unwrap();
        let insns = &program.codes[0].assembled.insns;
        let end = [Insn::Alu64(Alu::Mov, R0, Src::Imm(returns)), Insn::Exit];
        assert!(insns.ends_with(&end), "{insns:?}");
    }
}

#[test]
fn other_loaders_read_the_object() {
    let world = World::new();
    for (at, section) in [("rawtracepoint:test:untyped", "RawTracePoint"), ("profile:hz:99", "PerfEvent")] {
        let program = tapster_ebpf::compile(&parse(&probe(at)).unwrap(), &world.target(2)).unwrap();
        let read = aya_obj::Object::parse(&object::write(&program).unwrap()).unwrap();
        assert_eq!(read.maps.len(), program.maps.len());
        for map in &program.maps {
            let own = &read.maps[map.name];
            assert_eq!(
                (own.map_type(), own.key_size(), own.value_size(), own.max_entries(), own.map_flags()),
                (map.kind.number(), map.key_size, map.value_size, map.max_entries, map.kind.flags()),
                "{}",
                map.name
            );
        }
        let code = &program.codes[0];
        let found = &read.programs[&code.name];
        assert_eq!(format!("{:?}", found.section), section);
        let slots: usize = code.assembled.insns.iter().map(Insn::slots).sum();
        assert_eq!(read.functions[&found.function_key()].instructions.len(), slots);
    }
}
