//! A control: counts the events that the kernel shows to programs, by a few instructions written here, at the same event.
//!
//! Some kernels run no tracing program, ours or others', while a task of the host's own control plane is current. The kernel
//! counts such an event but no program can. So a test does not guess its loss: a hand-written program, which shares neither
//! compiler nor maps with what is tested, is attached to the same raw tracepoint for the same time. As many events may be
//! missing as it did not see, and no more.

pub mod disk;
pub mod event;
pub mod sleeps;

use super::cases::Skip;
use std::{
    ffi::CStr,
    os::fd::{AsFd, OwnedFd},
};
use tapster::{
    host::Host,
    kernel::Kernel,
    sys::{Map, PossibleCpus, ProgramKind, attach_raw_tracepoint, create_map, load_program},
};
use tapster_ebpf::{
    asm::{Assembler, JumpLabel},
    btf::{Btf, BtfKind},
    insn::{Alu, Cond, FP, Helper, Insn, R0, R1, R2, R3, R6, R7, R8, Size, Src},
    program::{MapDef, MapKind},
};

/// A member through pointers: `[("request", "q"), ("request_queue", "disk")]`.
type Path<'a> = &'a [(&'a str, &'a str)];

/// The events that are counted, and by which key.
#[derive(Clone, Copy, Debug)]
struct Point<'a> {
    /// The raw tracepoint.
    event: &'static CStr,
    /// Arguments that must have, or must not have, these numbers.
    arguments: &'a [(i16, Cond, i32)],
    /// The argument that contains the members.
    object: i16,
    /// Members of this size that must have these numbers.
    members: &'a [(Path<'a>, Size, i32)],
    /// The member that is the key, and its bytes, at most 16.
    key: Option<(Path<'a>, u32)>,
    /// The argument that is added up; if `None`, events are counted.
    adds: Option<i16>,
}

/// A program that counts as long as it is kept.
#[derive(Debug)]
struct Control {
    map: Map,
    /// Closed first, so that nothing is counted any more.
    _link: OwnedFd,
    _program: OwnedFd,
}

/// The key on the stack; a map's key has 16 bytes, padded with zeros.
const KEY: i32 = -16;
/// The place on the stack for a member that is read.
const MEMBER: i32 = -24;

/// Structures differ between kernels; the control supports those since 5.18, such as that of this project's own machine.
fn offset(types: &Btf, (structure, member): (&str, &str)) -> Result<i32, Skip> {
    let found = types.find(structure, BtfKind::Struct).and_then(|id| types.member(id, member));
    let found = found.ok_or_else(|| Skip(format!("no control: `struct {structure}` has no `{member}`")))?;
    assert_eq!(found.bit_offset % 8, 0, "`{member}` of `struct {structure}` is a bitfield");
    Ok(i32::try_from(found.bit_offset / 8).unwrap())
}

/// Reads the member of the object in `r7` to `fp[to..to + bytes]`; jumps to `otherwise` if that fails. `r8` is overwritten.
fn read(
    asm: &mut Assembler,
    types: &Btf,
    path: Path<'_>,
    (to, bytes): (i32, i32),
    otherwise: JumpLabel,
) -> Result<(), Skip> {
    asm.push(Insn::Alu64(Alu::Mov, R8, R7.into()));
    for (index, step) in path.iter().enumerate() {
        let is_last = index + 1 == path.len();
        let (to, bytes) = if is_last { (to, bytes) } else { (MEMBER, 8) };
        asm.push(Insn::Alu64(Alu::Mov, R1, FP.into()));
        asm.push(Insn::Alu64(Alu::Add, R1, Src::Imm(to)));
        asm.push(Insn::Alu64(Alu::Mov, R2, Src::Imm(bytes)));
        asm.push(Insn::Alu64(Alu::Mov, R3, R8.into()));
        asm.push(Insn::Alu64(Alu::Add, R3, Src::Imm(offset(types, *step)?)));
        asm.push(Insn::Call(Helper::ReadKernel));
        asm.jump_if(Cond::Ne, R0, 0, otherwise);
        if !is_last {
            asm.push(Insn::Load(Size::DW, R8, FP, i16::try_from(MEMBER).unwrap()));
        }
    }
    Ok(())
}

fn program(types: &Btf, point: &Point<'_>) -> Result<Vec<Insn>, Skip> {
    let mut asm = Assembler::default();
    let end = asm.label();
    asm.push(Insn::Alu64(Alu::Mov, R6, R1.into()));
    for (argument, only_if, number) in point.arguments {
        let go_on = asm.label();
        asm.push(Insn::Load(Size::DW, R1, R6, argument * 8));
        asm.jump_if(*only_if, R1, *number, go_on);
        asm.jump(end);
        asm.place(go_on);
    }
    asm.push(Insn::Load(Size::DW, R7, R6, point.object * 8));
    for (path, size, number) in point.members {
        asm.push(Insn::StoreImm(Size::DW, FP, i16::try_from(MEMBER).unwrap(), 0));
        read(&mut asm, types, path, (MEMBER, size.bytes().cast_signed()), end)?;
        asm.push(Insn::Load(*size, R1, FP, i16::try_from(MEMBER).unwrap()));
        asm.jump_if(Cond::Ne, R1, *number, end);
    }
    for place in [KEY, KEY + 8] {
        asm.push(Insn::StoreImm(Size::DW, FP, i16::try_from(place).unwrap(), 0));
    }
    if let Some((path, bytes)) = point.key {
        assert!(bytes <= 16);
        read(&mut asm, types, path, (KEY, bytes.cast_signed()), end)?;
    }
    asm.push(Insn::Map(R1, 0));
    asm.push(Insn::Alu64(Alu::Mov, R2, FP.into()));
    asm.push(Insn::Alu64(Alu::Add, R2, Src::Imm(KEY)));
    asm.push(Insn::Call(Helper::MapLookup));
    asm.jump_if(Cond::Eq, R0, 0, end);
    match point.adds {
        Some(argument) => asm.push(Insn::Load(Size::DW, R1, R6, argument * 8)),
        None => asm.push(Insn::Alu64(Alu::Mov, R1, Src::Imm(1))),
    }
    asm.push(Insn::AtomicAdd(Size::DW, R0, 0, R1));
    asm.place(end);
    asm.push(Insn::Alu64(Alu::Mov, R0, Src::Imm(0)));
    asm.push(Insn::Exit);
    Ok(asm.finish().unwrap().insns)
}

/// A key padded as in the map.
fn padded(key: &[u8]) -> [u8; 16] {
    let mut padded = [0; 16];
    padded[..key.len()].copy_from_slice(key);
    padded
}

/// The number of hidden events, of which a control saw `seen`. Fails for a control that sees few of many, because it would
/// allow any loss.
fn hidden(events: u64, seen: u64) -> u64 {
    let hidden = events.saturating_sub(seen);
    assert!(events < MANY || hidden <= events / 2, "a control saw {seen} of {events} events");
    hidden
}

/// Fewer events may all meet one task that is current for long: for example, a timer that wakes all sleepers together.
const MANY: u64 = 100;

impl Control {
    /// Counts from now on the events with one of these keys; a point without a key has the single empty key.
    fn new(point: &Point<'_>, keys: &[&[u8]]) -> Result<Self, Skip> {
        let kernel = Kernel::detect(&Host::default());
        let types = kernel.btf.as_ref().map_err(|_| Skip("the kernel has no BTF".into()))?;
        let insns = program(types, point)?;
        let max_entries = u32::try_from(keys.len().max(1)).unwrap();
        let def = MapDef { name: "control", kind: MapKind::Hash, key_size: 16, value_size: 8, max_entries };
        let fd = create_map(&def).unwrap();
        let map = Map::open(fd.as_fd(), PossibleCpus::of_host().unwrap()).unwrap();
        let empty: &[&[u8]] = &[&[]];
        for key in if keys.is_empty() { empty } else { keys } {
            map.update(&padded(key), &[0; 8]).unwrap();
        }
        let program = load_program("control", ProgramKind::RawTracepoint, &insns, &[fd.as_fd()])
            .unwrap_or_else(|error| panic!("{error}"));
        let link = attach_raw_tracepoint(program.as_fd(), point.event).unwrap();
        Ok(Self { map, _link: link, _program: program })
    }

    /// The count of a key so far.
    fn count(&self, key: &[u8]) -> u64 {
        let value = self.map.lookup(&padded(key)).unwrap().expect("a key that the control was made with");
        u64::from_ne_bytes(value.try_into().unwrap())
    }
}

#[cfg(test)]
mod tests {
    use super::hidden;

    #[test]
    fn a_control_that_sees_little_is_none() {
        assert_eq!([hidden(10, 10), hidden(10, 12), hidden(10, 0), hidden(400, 200)], [0, 0, 10, 200]);
        assert!(std::panic::catch_unwind(|| hidden(400, 199)).is_err());
    }
}
