//! The processes of a command: the command and every process that it starts, kept by number in maps.
//!
//! A process is followed if its number is in the map. A fork of a followed process adds the child before it runs, and the end
//! of its last thread removes it. The process that starts the command is in the map as well, with a value that says that only
//! its children are followed. Numbers are those of the initial namespace.
//!
//! [`fork`], [`free`] and [`register`] maintain any number of such maps: one for each probe that uses `traced`. A call graph
//! has its own programs, made of the same parts.

use crate::{
    asm::{AsmError, Assembled, Assembler, JumpLabel},
    insn::{Alu, Cond, FP, Helper, Insn, R0, R1, R2, R3, R4, R6, R7, R8, Size, Src},
    map::{MapDef, MapKind},
};

/// Most processes that are followed at a time.
const MOST_PROCESSES: u32 = 8192;
/// The value of a process that belongs to the command.
pub(crate) const FOLLOWED: i32 = 1;
/// The value of the process that starts the command: only its children are followed.
pub(crate) const PARENT: i32 = 2;

/// Byte offsets of the fields of a task that the programs read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskOffsets {
    /// `task_struct.pid`
    pub pid: u32,
    /// `task_struct.tgid`
    pub tgid: u32,
}

/// Returns the definition of a map of processes.
pub(crate) fn map(name: &'static str) -> MapDef {
    MapDef { name, kind: MapKind::Hash, key_size: 4, value_size: 4, max_entries: MOST_PROCESSES }
}

/// Returns the definition of the map that [`fork`] has after the maps of processes: it counts the processes that were not
/// followed because too many are.
pub fn lost() -> MapDef {
    MapDef { name: "lost", kind: MapKind::PerCpuArray, key_size: 4, value_size: 8, max_entries: 1 }
}

/// Begins a program. `r6` is the context, `r7` the thread.
pub(crate) fn begin(asm: &mut Assembler) {
    asm.push(Insn::Alu64(Alu::Mov, R6, R1.into()));
    asm.push(Insn::Call(Helper::PidTgid));
    asm.push(Insn::Alu64(Alu::Mov, R7, R0.into()));
}

/// `*(u32 *)(fp - 4) = process`
pub(crate) fn process(asm: &mut Assembler) {
    asm.push(Insn::Alu64(Alu::Mov, R1, R7.into()));
    asm.push(Insn::Alu64(Alu::Rsh, R1, Src::Imm(32)));
    asm.push(Insn::Store(Size::W, FP, -4, R1));
}

/// Loads the first two arguments of a map helper.
pub(crate) fn map_and_key(asm: &mut Assembler, map: u32, key: i32) {
    asm.push(Insn::Map(R1, map));
    asm.push(Insn::Alu64(Alu::Mov, R2, FP.into()));
    asm.push(Insn::Alu64(Alu::Add, R2, Src::Imm(key)));
}

/// Looks up the current process in the map, into `r0`; jumps to `otherwise` if it is not there.
pub(crate) fn only_followed(asm: &mut Assembler, map: u32, otherwise: JumpLabel) {
    asm.comment("is the process followed?");
    process(asm);
    map_and_key(asm, map, -4);
    asm.push(Insn::Call(Helper::MapLookup));
    asm.jump_if(Cond::Eq, R0, 0, otherwise);
}

/// Reads a task that is an argument of a raw tracepoint: `pid` to `fp - 16`, `tgid` to `fp - 12`.
pub(crate) fn read_task(asm: &mut Assembler, argument: i16, task: TaskOffsets, otherwise: JumpLabel) {
    asm.comment("the task's numbers");
    asm.push(Insn::Load(Size::DW, R8, R6, argument * 8));
    for (place, offset) in [(-16, task.pid), (-12, task.tgid)] {
        asm.push(Insn::Alu64(Alu::Mov, R1, FP.into()));
        asm.push(Insn::Alu64(Alu::Add, R1, Src::Imm(place)));
        asm.push(Insn::Alu64(Alu::Mov, R2, Src::Imm(4)));
        asm.push(Insn::Alu64(Alu::Mov, R3, R8.into()));
        asm.push(Insn::Alu64(Alu::Add, R3, Src::Imm(offset.cast_signed())));
        asm.push(Insn::Call(Helper::ReadKernel));
        asm.jump_if(Cond::Ne, R0, 0, otherwise);
    }
}

/// Jumps to `otherwise` if the task that was read is a thread of the current process.
pub(crate) fn only_process(asm: &mut Assembler, otherwise: JumpLabel) {
    asm.comment("a thread of the same process is followed already");
    asm.push(Insn::Load(Size::W, R1, FP, -12));
    asm.push(Insn::Alu64(Alu::Mov, R2, R7.into()));
    asm.push(Insn::Alu64(Alu::Rsh, R2, Src::Imm(32)));
    asm.jump_if(Cond::Eq, R1, R2, otherwise);
}

/// Jumps to `otherwise` unless the task that was read is the first thread of a process, which is the last to be freed.
pub(crate) fn only_leader(asm: &mut Assembler, otherwise: JumpLabel) {
    asm.push(Insn::Load(Size::W, R1, FP, -16));
    asm.push(Insn::Load(Size::W, R2, FP, -12));
    asm.jump_if(Cond::Ne, R1, R2, otherwise);
}

/// `map[*(u32 *)(fp + key)] = value`; `r0` is 0 on success.
pub(crate) fn insert(asm: &mut Assembler, map: u32, key: i32, value: i32) {
    asm.push(Insn::StoreImm(Size::W, FP, -20, value));
    map_and_key(asm, map, key);
    asm.push(Insn::Alu64(Alu::Mov, R3, FP.into()));
    asm.push(Insn::Alu64(Alu::Add, R3, Src::Imm(-20)));
    asm.push(Insn::Alu64(Alu::Mov, R4, Src::Imm(0)));
    asm.push(Insn::Call(Helper::MapUpdate));
}

/// Adds 1 to a counter of a map. The counter is per CPU, but another thread may interrupt this one while it adds.
pub(crate) fn count(asm: &mut Assembler, map: u32, index: u32) {
    let none = asm.label();
    asm.comment("lost");
    asm.push(Insn::StoreImm(Size::W, FP, -8, index.cast_signed()));
    map_and_key(asm, map, -8);
    asm.push(Insn::Call(Helper::MapLookup));
    asm.jump_if(Cond::Eq, R0, 0, none);
    asm.push(Insn::Alu64(Alu::Mov, R1, Src::Imm(1)));
    asm.push(Insn::AtomicAdd(Size::DW, R0, 0, R1));
    asm.place(none);
}

fn finish(mut asm: Assembler, end: JumpLabel) -> Result<Assembled, AsmError> {
    asm.place(end);
    asm.push(Insn::Alu64(Alu::Mov, R0, Src::Imm(0)));
    asm.push(Insn::Exit);
    asm.finish()
}

/// Program of the raw tracepoint `sched_process_fork(parent, child)`: follows the child of a followed process. Maps 0 to
/// `maps` are the maps of processes, which all have the same contents; the next map is [`lost`].
pub fn fork(task: TaskOffsets, maps: u32) -> Result<Assembled, AsmError> {
    let mut asm = Assembler::default();
    let (lost, end) = (asm.label(), asm.label());
    begin(&mut asm);
    only_followed(&mut asm, 0, end);
    read_task(&mut asm, 1, task, end);
    only_process(&mut asm, end);
    for map in 0..maps {
        insert(&mut asm, map, -12, FOLLOWED);
        asm.jump_if(Cond::Ne, R0, 0, lost);
    }
    asm.jump(end);
    asm.place(lost);
    count(&mut asm, maps, 0);
    finish(asm, end)
}

/// Program of the raw tracepoint `sched_process_free(task)`: removes a process when its leader, which is the last to go, is
/// freed.
pub fn free(task: TaskOffsets, maps: u32) -> Result<Assembled, AsmError> {
    let mut asm = Assembler::default();
    let end = asm.label();
    begin(&mut asm);
    read_task(&mut asm, 0, task, end);
    only_leader(&mut asm, end);
    for map in 0..maps {
        map_and_key(&mut asm, map, -12);
        asm.push(Insn::Call(Helper::MapDelete));
    }
    finish(asm, end)
}

/// Program that the process that will start the command runs once: its children are followed, the process itself is not. It
/// has to be a program because only the kernel knows the number of a process in the initial namespace. Returns 0 on success.
pub fn register(maps: impl IntoIterator<Item = u32>) -> Result<Assembled, AsmError> {
    let mut asm = Assembler::default();
    let end = asm.label();
    begin(&mut asm);
    process(&mut asm);
    asm.push(Insn::Alu64(Alu::Mov, R0, Src::Imm(0)));
    for map in maps {
        insert(&mut asm, map, -4, PARENT);
        asm.jump_if(Cond::Ne, R0, 0, end);
    }
    asm.place(end);
    asm.push(Insn::Exit);
    asm.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_complete_for_any_number_of_maps() {
        let task = TaskOffsets { pid: 1256, tgid: 1260 };
        for maps in [1, 4, 32] {
            let uses = |assembled: &Assembled, map: u32| {
                assembled
                    .insns
                    .iter()
                    .filter(|insn| matches!(insn, Insn::Map(_, used) if *used == map))
                    .count()
            };
            let (fork, free) = (fork(task, maps).unwrap(), free(task, maps).unwrap());
            let register = register(0..maps).unwrap();
            for map in 0..maps {
                // The first also answers whose child it is.
                assert_eq!(uses(&fork, map), if map == 0 { 2 } else { 1 });
                assert_eq!((uses(&free, map), uses(&register, map)), (1, 1));
            }
            assert_eq!((uses(&fork, maps), uses(&free, maps), uses(&register, maps)), (1, 0, 0));
        }
    }
}
