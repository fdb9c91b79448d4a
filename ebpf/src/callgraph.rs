//! The programs of a call graph: at the entry and the exits of functions they write records into a ring, for the processes
//! that are followed. They are independent of probes: no YAML, no labels, no rows.
//!
//! The first word of each record contains its kind and its function. Uprobes get the word as their cookie (5.15), or have it
//! as a constant. Only [`decode`] and the programs know the layout of a record.
//!
//! The map [`PIDS`] contains the processes that are followed, see [`mod@follow`].

use crate::{
    arch::Arch,
    asm::{AsmError, Assembled, Assembler, JumpLabel},
    follow::{self, FOLLOWED, TaskOffsets},
    insn::{Alu, Cond, FP, Helper, Insn, R0, R1, R2, R3, R6, R7, R8, R9, Reg, Size, Src},
    map::{MapDef, MapKind},
};

/// Number of the map of records.
pub const RING: u32 = 0;
/// Number of the map of followed processes.
pub const PIDS: u32 = 1;
/// Number of the map that counts losses.
pub const LOST: u32 = 2;

/// Index in [`LOST`] of the number of records that did not fit into the ring.
pub const LOST_RECORDS: u32 = 0;
/// Index in [`LOST`] of the number of processes that were not followed because too many are.
pub const LOST_PROCESSES: u32 = 1;

/// Number of arguments in a record.
pub const ARGUMENTS: usize = 4;
/// Flag that leaves the reader asleep: the reader polls. Waking it costs more than everything else that the programs do.
const NO_WAKEUP: i32 = 1;

/// The kind of a record, as its first word contains it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RecordKind {
    /// A function begins.
    Entry = 1,
    /// A function is about to return.
    Return = 2,
    /// A function is about to jump to another one, which will return in its place.
    Leave = 3,
    /// A process begins as a copy of another.
    Fork = 4,
    /// A process replaces its program.
    Exec = 5,
    /// A thread ends.
    End = 6,
}

impl RecordKind {
    /// The first word of a record of this kind and function.
    pub fn word(self, function: u32) -> u64 {
        u64::from(self as u8) | u64::from(function) << 32
    }
}

/// The kind of stack that the stack pointer is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stacks {
    /// The stack of the thread.
    Thread,
    /// The stack of a goroutine. Each record contains the goroutine, and the stack pointer counts from the end of its stack,
    /// because stacks are moved when they grow. Go 1.17 and later, which keep the goroutine in a register.
    Goroutine,
}

/// How a program gets the first word of its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstWord {
    /// From the cookie of its attachment, 5.15.
    Cookie,
    /// It has the word as a constant.
    Fixed(u64),
}

/// Returns the maps, in the order of their indices. `ring_bytes` is a power of 2 and at least one page.
pub fn maps(ring_bytes: u32) -> [MapDef; 3] {
    let map = |name, kind, key_size, value_size, max_entries| MapDef {
        name,
        kind,
        key_size,
        value_size,
        max_entries,
    };
    [
        map("ring", MapKind::Ring, 0, 0, ring_bytes),
        follow::map("pids"),
        map("lost", MapKind::PerCpuArray, 4, 8, 2),
    ]
}

/// A thread, as the kernel numbers it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Task {
    /// The process.
    pub pid: u32,
    /// The thread.
    pub tid: u32,
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Time by `CLOCK_MONOTONIC`, nanoseconds.
    pub time_ns: u64,
    /// The thread that caused the event.
    pub task: Task,
    /// The event.
    pub event: CallEvent,
}

/// The event of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallEvent {
    /// A function begins.
    Entry {
        /// Index of the function.
        function: u32,
        /// The stack pointer.
        stack: u64,
        /// The return address.
        caller: u64,
        /// Its first arguments; a function may have fewer.
        arguments: [u64; ARGUMENTS],
        /// Name of the thread.
        comm: [u8; 16],
        /// The goroutine, in a Go program.
        goroutine: u64,
    },
    /// A function is about to return; the stack is as it was at the entry.
    Return {
        /// Index of the function.
        function: u32,
        /// The stack pointer.
        stack: u64,
        /// Its result; meaningless if it has none.
        value: u64,
        /// The goroutine, in a Go program.
        goroutine: u64,
    },
    /// A function is about to jump to another one.
    Leave {
        /// Index of the function.
        function: u32,
        /// The stack pointer.
        stack: u64,
        /// The goroutine, in a Go program.
        goroutine: u64,
    },
    /// The process of the thread was copied.
    Fork {
        /// The copy, which has one thread.
        child: Task,
    },
    /// The process now runs another program, and this thread is its only one.
    Exec,
    /// The thread has ended.
    End,
}

/// Offset of `g.stack.hi`: the second word of the struct that the goroutine's register points to.
const GOROUTINE_STACK_END: i32 = 8;

/// Sizes of records, in bytes: the common part, an entry, a return, a fork.
const HEAD: i32 = 24;
const ENTRY: i32 = 96;
const EXIT: i32 = 48;
const FORK: i32 = 32;

/// Decodes a record; `None` for bytes that none of these programs writes.
pub fn decode(bytes: &[u8]) -> Option<Record> {
    let word = |index: usize| -> Option<u64> {
        Some(u64::from_le_bytes(bytes.get(index * 8..index * 8 + 8)?.try_into().ok()?))
    };
    let [low, high] = halves(word(0)?);
    let [tid, pid] = halves(word(2)?);
    let (function, is) = (high, |kind: RecordKind| low == u32::from(kind as u8));
    let event = if is(RecordKind::Entry) {
        let mut arguments = [0; ARGUMENTS];
        for (index, argument) in arguments.iter_mut().enumerate() {
            *argument = word(5 + index)?;
        }
        let comm = bytes.get(72..88)?.try_into().ok()?;
        CallEvent::Entry {
            function,
            stack: word(3)?,
            caller: word(4)?,
            arguments,
            comm,
            goroutine: word(11)?,
        }
    } else if is(RecordKind::Return) {
        CallEvent::Return { function, stack: word(3)?, value: word(4)?, goroutine: word(5)? }
    } else if is(RecordKind::Leave) {
        CallEvent::Leave { function, stack: word(3)?, goroutine: word(5)? }
    } else if is(RecordKind::Fork) {
        let [tid, pid] = halves(word(3)?);
        CallEvent::Fork { child: Task { pid, tid } }
    } else if is(RecordKind::Exec) {
        CallEvent::Exec
    } else if is(RecordKind::End) {
        CallEvent::End
    } else {
        return None;
    };
    Some(Record { time_ns: word(1)?, task: Task { pid, tid }, event })
}

fn halves(word: u64) -> [u32; 2] {
    [word & u64::from(u32::MAX), word >> 32].map(|half| u32::try_from(half).expect("32 bits are left"))
}

/// A program that is being written. `r6` is the context, `r7` the thread, `r9` the record.
struct ProgramWriter {
    asm: Assembler,
    end: JumpLabel,
    lost: JumpLabel,
}

impl ProgramWriter {
    fn new() -> Self {
        let mut asm = Assembler::default();
        let (end, lost) = (asm.label(), asm.label());
        follow::begin(&mut asm);
        Self { asm, end, lost }
    }

    /// Jumps to the end unless the process is in the map. With `shown`, also if only its children are followed.
    fn only_followed(&mut self, shown: bool) {
        follow::only_followed(&mut self.asm, PIDS, self.end);
        if shown {
            self.asm.push(Insn::Load(Size::W, R1, R0, 0));
            self.asm.jump_if(Cond::Ne, R1, FOLLOWED, self.end);
        }
    }

    /// Reserves a record of this many bytes.
    fn reserve(&mut self, bytes: i32) {
        self.asm.comment("a record");
        self.asm.push(Insn::Map(R1, RING));
        self.asm.push(Insn::Alu64(Alu::Mov, R2, Src::Imm(bytes)));
        self.asm.push(Insn::Alu64(Alu::Mov, R3, Src::Imm(0)));
        self.asm.push(Insn::Call(Helper::RingReserve));
        self.asm.jump_if(Cond::Eq, R0, 0, self.lost);
        self.asm.push(Insn::Alu64(Alu::Mov, R9, R0.into()));
    }

    fn put(&mut self, offset: i16, value: Reg) {
        self.asm.push(Insn::Store(Size::DW, R9, offset, value));
    }

    fn constant(&mut self, offset: i16, value: u64) {
        self.asm.push(Insn::Imm64(R1, value));
        self.put(offset, R1);
    }

    fn now(&mut self) {
        self.asm.push(Insn::Call(Helper::KtimeNs));
    }

    /// Reads a register of the interrupted program, at the offset that [`Arch`] gives.
    fn register(&mut self, into: Reg, offset: u32) {
        self.asm.push(Insn::Load(Size::DW, into, R6, small(offset)));
    }

    /// Puts the stack pointer into `r8` and into the record, with the goroutine if there is one.
    fn stack(&mut self, arch: Arch, stacks: Stacks, goroutine: i16) {
        self.register(R8, arch.stack_pointer());
        match stacks {
            Stacks::Thread => self.constant(goroutine, 0),
            Stacks::Goroutine => {
                self.asm.comment("the goroutine, and the end of its stack");
                self.register(R1, arch.goroutine());
                self.put(goroutine, R1);
                self.asm.push(Insn::Alu64(Alu::Mov, R3, R1.into()));
                self.asm.push(Insn::Alu64(Alu::Add, R3, Src::Imm(GOROUTINE_STACK_END)));
                self.asm.push(Insn::Alu64(Alu::Mov, R1, FP.into()));
                self.asm.push(Insn::Alu64(Alu::Add, R1, Src::Imm(-16)));
                self.asm.push(Insn::Alu64(Alu::Mov, R2, Src::Imm(8)));
                self.asm.push(Insn::Call(Helper::ReadUser));
                self.asm.push(Insn::Load(Size::DW, R1, FP, -16));
                self.asm.push(Insn::Alu64(Alu::Sub, R8, R1.into()));
            }
        }
        self.put(24, R8);
    }

    fn submit(&mut self) {
        self.asm.push(Insn::Alu64(Alu::Mov, R1, R9.into()));
        self.asm.push(Insn::Alu64(Alu::Mov, R2, Src::Imm(NO_WAKEUP)));
        self.asm.push(Insn::Call(Helper::RingSubmit));
    }

    /// Writes the end of the program, and before it the branch for records that did not fit.
    fn finish(mut self) -> Result<Assembled, AsmError> {
        self.asm.jump(self.end);
        self.asm.place(self.lost);
        follow::count(&mut self.asm, LOST, LOST_RECORDS);
        self.asm.place(self.end);
        self.asm.push(Insn::Alu64(Alu::Mov, R0, Src::Imm(0)));
        self.asm.push(Insn::Exit);
        self.asm.finish()
    }

    /// Writes the first word.
    fn word(&mut self, word: FirstWord) {
        match word {
            FirstWord::Cookie => {
                self.asm.push(Insn::Alu64(Alu::Mov, R1, R6.into()));
                self.asm.push(Insn::Call(Helper::AttachCookie));
                self.put(0, R0);
            }
            FirstWord::Fixed(word) => self.constant(0, word),
        }
    }
}

fn small(offset: u32) -> i16 {
    i16::try_from(offset).expect("registers and stack offsets are below 32 KiB")
}

/// Program of a uprobe at the entry of a function.
pub fn entry(arch: Arch, stacks: Stacks, word: FirstWord) -> Result<Assembled, AsmError> {
    let mut program = ProgramWriter::new();
    program.only_followed(true);
    program.reserve(ENTRY);
    program.word(word);
    program.put(16, R7);
    program.stack(arch, stacks, 88);
    program.asm.comment("where it returns to");
    if let Some(link) = arch.link() {
        program.register(R1, link);
        program.put(32, R1);
    } else {
        program.asm.push(Insn::Alu64(Alu::Mov, R1, R9.into()));
        program.asm.push(Insn::Alu64(Alu::Add, R1, Src::Imm(32)));
        program.asm.push(Insn::Alu64(Alu::Mov, R2, Src::Imm(8)));
        program.register(R3, arch.stack_pointer());
        program.asm.push(Insn::Call(Helper::ReadUser));
    }
    program.asm.comment("arguments");
    let registers = (0_u32..).map_while(|index| match stacks {
        Stacks::Thread => arch.argument(index),
        Stacks::Goroutine => arch.go_argument(index),
    });
    for (register, place) in registers.zip([40, 48, 56, 64]) {
        program.register(R1, register);
        program.put(place, R1);
    }
    program.asm.comment("name of the thread");
    program.asm.push(Insn::Alu64(Alu::Mov, R1, R9.into()));
    program.asm.push(Insn::Alu64(Alu::Add, R1, Src::Imm(72)));
    program.asm.push(Insn::Alu64(Alu::Mov, R2, Src::Imm(16)));
    program.asm.push(Insn::Call(Helper::Comm));
    program.asm.comment("the time last: what came before is not the function's");
    program.now();
    program.put(8, R0);
    program.submit();
    program.finish()
}

/// Program of a uprobe at an instruction that ends a function. After a jump the result has no meaning.
pub fn exit(arch: Arch, stacks: Stacks, word: FirstWord) -> Result<Assembled, AsmError> {
    let mut program = ProgramWriter::new();
    program.asm.comment("the time first: what comes after is not the function's");
    program.now();
    program.asm.push(Insn::Alu64(Alu::Mov, R8, R0.into()));
    program.only_followed(true);
    program.reserve(EXIT);
    program.put(8, R8);
    program.word(word);
    program.put(16, R7);
    program.stack(arch, stacks, 40);
    program.register(R1, arch.result());
    program.put(32, R1);
    program.submit();
    program.finish()
}

/// Program of the raw tracepoint `sched_process_fork(parent, child)`: follows the child of a followed process.
pub fn fork(task: TaskOffsets) -> Result<Assembled, AsmError> {
    let mut program = ProgramWriter::new();
    program.only_followed(false);
    follow::read_task(&mut program.asm, 1, task, program.end);
    follow::only_process(&mut program.asm, program.end);
    let followed = program.asm.label();
    follow::insert(&mut program.asm, PIDS, -12, FOLLOWED);
    program.asm.jump_if(Cond::Eq, R0, 0, followed);
    follow::count(&mut program.asm, LOST, LOST_PROCESSES);
    program.asm.jump(program.end);
    program.asm.place(followed);
    program.reserve(FORK);
    program.constant(0, RecordKind::Fork.word(0));
    program.now();
    program.put(8, R0);
    program.put(16, R7);
    program.asm.push(Insn::Load(Size::W, R1, FP, -16));
    program.asm.push(Insn::Store(Size::W, R9, 24, R1));
    program.asm.push(Insn::Load(Size::W, R1, FP, -12));
    program.asm.push(Insn::Store(Size::W, R9, 28, R1));
    program.submit();
    program.finish()
}

fn plain(kind: RecordKind) -> Result<Assembled, AsmError> {
    let mut program = ProgramWriter::new();
    program.only_followed(true);
    program.reserve(HEAD);
    program.constant(0, kind.word(0));
    program.now();
    program.put(8, R0);
    program.put(16, R7);
    program.submit();
    program.finish()
}

/// Program of the raw tracepoint `sched_process_exec`.
pub fn exec() -> Result<Assembled, AsmError> {
    plain(RecordKind::Exec)
}

/// Program of the raw tracepoint `sched_process_exit`, which each thread passes.
pub fn end() -> Result<Assembled, AsmError> {
    plain(RecordKind::End)
}

/// Program of the raw tracepoint `sched_process_free(task)`, see [`follow::free`].
pub fn free(task: TaskOffsets) -> Result<Assembled, AsmError> {
    let mut program = ProgramWriter::new();
    follow::read_task(&mut program.asm, 0, task, program.end);
    follow::only_leader(&mut program.asm, program.end);
    follow::map_and_key(&mut program.asm, PIDS, -12);
    program.asm.push(Insn::Call(Helper::MapDelete));
    program.finish()
}

/// Program that the process that will start the command runs once, see [`follow::register`].
pub fn register() -> Result<Assembled, AsmError> {
    follow::register([PIDS])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(words: &[u64]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn records_are_read_as_they_are_written() {
        let task = Task { pid: 7, tid: 9 };
        let head = |kind: RecordKind, function| [kind.word(function), 1000, 0x7 << 32 | 0x9];
        let mut entry = head(RecordKind::Entry, 5).to_vec();
        entry.extend([0x7fff_0000, 0x40_1000, 1, 2, 3, 4, u64::from_le_bytes(*b"hasher\0\0"), 0, 6]);
        let read = decode(&bytes(&entry)).unwrap();
        assert_eq!((read.time_ns, read.task), (1000, task));
        assert_eq!(
            read.event,
            CallEvent::Entry {
                function: 5,
                stack: 0x7fff_0000,
                caller: 0x40_1000,
                arguments: [1, 2, 3, 4],
                comm: *b"hasher\0\0\0\0\0\0\0\0\0\0",
                goroutine: 6,
            }
        );
        let with = |kind, more: &[u64]| decode(&bytes(&[&head(kind, 5)[..], more].concat()));
        let event = |record: Option<Record>| record.unwrap().event;
        assert_eq!(
            event(with(RecordKind::Return, &[8, 9, 6])),
            CallEvent::Return { function: 5, stack: 8, value: 9, goroutine: 6 }
        );
        assert_eq!(
            event(with(RecordKind::Leave, &[8, 9, 0])),
            CallEvent::Leave { function: 5, stack: 8, goroutine: 0 }
        );
        assert_eq!(
            event(with(RecordKind::Fork, &[0xb << 32 | 0xc])),
            CallEvent::Fork { child: Task { pid: 0xb, tid: 0xc } }
        );
        assert_eq!(event(with(RecordKind::Exec, &[])), CallEvent::Exec);
        assert_eq!(event(with(RecordKind::End, &[])), CallEvent::End);
        // Cut short, or of no kind.
        assert_eq!(with(RecordKind::Return, &[8]), None);
        assert_eq!(decode(&bytes(&entry)[..95]), None);
        assert_eq!(decode(&bytes(&[0, 0, 0])), None);
        assert_eq!(decode(&bytes(&[7, 0, 0])), None);
        assert_eq!(decode(&[]), None);
    }

    #[test]
    fn programs_are_complete() {
        let task = TaskOffsets { pid: 1256, tgid: 1260 };
        for arch in [Arch::X86_64, Arch::Aarch64] {
            for (stacks, word) in
                [(Stacks::Thread, FirstWord::Cookie), (Stacks::Goroutine, FirstWord::Fixed(u64::MAX))]
            {
                entry(arch, stacks, word).unwrap();
                exit(arch, stacks, word).unwrap();
            }
        }
        for program in [fork(task), exec(), end(), free(task), register()] {
            program.unwrap();
        }
    }

    #[test]
    fn an_exit_reads_what_it_should() {
        let listing = exit(Arch::X86_64, Stacks::Thread, FirstWord::Cookie).unwrap().listing();
        for line in [
            "call get_attach_cookie#174",
            "call ringbuf_reserve#131",
            "r8 = *(u64 *)(r6 +152)",
            "r1 = *(u64 *)(r6 +80)",
        ] {
            assert!(listing.contains(line), "{line}\n{listing}");
        }
        let listing = entry(Arch::Aarch64, Stacks::Thread, FirstWord::Fixed(3)).unwrap().listing();
        assert!(listing.contains("r1 = *(u64 *)(r6 +240)"), "{listing}");
        assert!(!listing.contains("get_attach_cookie"), "{listing}");
    }
}
