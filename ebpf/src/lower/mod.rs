//! Typed probe → instructions.
//!
//! Registers: `r6` has the context, `r7` the row, `r8` the element of `each`, `r9` its count; `r1` to `r4` have values of
//! expressions, `r0` and `r5` are free within one operation. Values that live longer are on the stack. A helper is called
//! only while no value is in `r1` to `r4`: an operand that calls one is computed before the other operand is put into a
//! register.

mod cgroup;
mod condition;
mod event;
mod expression;
mod lets;
mod metric;
mod path;
mod session;
mod stack;
mod start;
mod state;
mod text;
mod update;
mod words;

use lets::LetSlots;
pub use session::joins_ends;

use crate::{
    arch::Arch,
    asm::{AsmError, Assembled, Assembler, immediate, offset},
    host::{HostFacts, Session},
    insn::{Alu, Cond, FP, Helper, Insn, R0, R1, R2, R5, R6, R9, Reg, Size, Src},
    layout::{DropReason, Layout, MAX_ROW},
    point::LinkKind,
    probe::KernelVersion,
    program::{Code, DROPS, Program},
    typed::{
        AccessMode, BinaryOperator, CgroupTest, Role, Type, Typed, TypedEvent, TypedKind, TypedProbe,
        UnaryOperator,
    },
};

/// Size of a program's stack, bytes.
const STACK: u32 = 512;

/// The reason why a typed probe cannot become a program.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LowerError {
    /// The stack is too small: keys, texts, saved values and named expressions are on it.
    #[error("`{at}` needs {bytes} bytes of stack, a program has {STACK}")]
    Stack {
        /// The attach point.
        at: String,
        /// Bytes that it needs.
        bytes: u32,
    },
    /// The row is too large for one value of a map.
    #[error("the metrics take {0} bytes for each label set, more than {MAX_ROW}")]
    Row(u32),
    /// The program of a session is too long: it contains both events of a pair.
    #[error("the program is too long: a jump spans {0} instructions")]
    Session(usize),
    /// The instructions cannot be assembled.
    #[error(transparent)]
    Asm(#[from] AsmError),
}

impl LowerError {
    /// The remedy, for a message.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Stack { .. } => {
                "use fewer labels, shorter texts (str(pointer, 16)), fewer saved values or fewer `let`s"
            }
            Self::Row(_) => "use fewer histograms, a lower schema or a narrower range of buckets",
            Self::Session(_) | Self::Asm(_) => "split the probe into several",
        }
    }
}

/// Compiles a typed probe for a host.
pub fn lower(probe: TypedProbe, host: HostFacts) -> Result<Program, LowerError> {
    let layout = Layout::new(&probe, host);
    if layout.row_size > MAX_ROW {
        return Err(LowerError::Row(layout.row_size));
    }
    let mut codes = Vec::new();
    for (index, event) in probe.events.iter().enumerate() {
        codes.push(Code {
            name: format!("{}_{index}", probe.name),
            at: event.at.clone(),
            mechanism: event.mechanism,
            usdt: event.usdt.clone(),
            sites: event.sites.clone(),
            one_by_one: event.mechanism.link == (LinkKind::KernelProbe { at_return: true })
                && !host.returns_have_stack()
                && uses_frame(event),
            assembled: Lowering::new(&probe, event, &layout, host).assembled()?,
        });
    }
    let session = session::joined(&probe, &layout, host)?;
    Ok(Program { session, ..Program::new(probe, layout, codes) })
}

/// The allocated bytes of the stack, from the top down.
#[derive(Debug, Default)]
struct StackBytes {
    used: u32,
    peak: u32,
}

impl StackBytes {
    /// Allocates `size` bytes; returns their offset from the frame pointer.
    fn take(&mut self, size: u32) -> i16 {
        self.used += size.next_multiple_of(8);
        self.peak = self.peak.max(self.used);
        // Beyond the limit the program is refused, so the offset no longer matters.
        i16::try_from(self.used).map_or(i16::MIN, |used| -used)
    }

    /// The slots beyond this many bytes that were ever in use.
    fn words(&self, used: u32) -> impl Iterator<Item = i16> + use<> {
        (used / 8 + 1..=self.peak / 8).filter_map(|word| i16::try_from(word * 8).ok()).map(|offset| -offset)
    }
}

/// The place of the instructions relative to the loop of `each`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WalkPosition {
    No,
    /// Directly before the loop: `r9` is 0, and any number for the verifier.
    Ahead,
    /// In a loop that ends by its count in `r9`, which the verifier follows.
    Counted,
    /// In a loop that also ends by a count of the kernel; for the verifier `r9` is any number.
    ByKernel,
}

/// A program that is being written.
struct Lowering<'a> {
    probe: &'a TypedProbe,
    event: &'a TypedEvent,
    layout: &'a Layout,
    host: HostFacts,
    asm: Assembler,
    stack: StackBytes,
    lets: LetSlots,
    walk: WalkPosition,
    /// Slot of the time at the beginning of the program.
    now: Option<i16>,
    duration: Option<i16>,
    saved: Vec<i16>,
    /// Slot of the number of reads that failed in this run; it is counted at the end.
    faults: Option<i16>,
    /// Slot of a 0 of which the verifier knows nothing, in a program without a walk whose states would be too many.
    unknown: Option<i16>,
    /// Slot of a `u32` key for arrays.
    index: i16,
    /// The session that the program is a part of: the functions that it calls, and whether it is the part for returns.
    end_of_session: Option<(Session, bool)>,
    /// Slot of the stack pointer that the entry of a session left for the return.
    entered: Option<i16>,
    /// Slots of answers about cgroups that were computed before a loop.
    cgroup_tests: Vec<(CgroupTest, i16)>,
}

impl<'a> Lowering<'a> {
    fn new(probe: &'a TypedProbe, event: &'a TypedEvent, layout: &'a Layout, host: HostFacts) -> Self {
        let mut stack = StackBytes::default();
        let index = stack.take(8);
        Self {
            probe,
            event,
            layout,
            host,
            asm: Assembler::default(),
            stack,
            lets: LetSlots::new(event),
            walk: WalkPosition::No,
            now: None,
            duration: None,
            saved: Vec::new(),
            faults: None,
            unknown: None,
            index,
            end_of_session: None,
            entered: None,
            cgroup_tests: Vec::new(),
        }
    }

    /// Writes the program.
    fn assembled(mut self) -> Result<Assembled, LowerError> {
        self.program();
        if self.stack.peak > STACK {
            return Err(LowerError::Stack { at: self.event.at.to_string(), bytes: self.stack.peak });
        }
        Ok(self.asm.finish()?)
    }

    fn mov(&mut self, dst: Reg, src: impl Into<Src>) {
        self.asm.mov(dst, src);
    }

    fn alu(&mut self, op: Alu, dst: Reg, src: impl Into<Src>) {
        self.asm.alu(op, dst, src);
    }

    /// `dst = value`, in as few slots as possible.
    fn constant(&mut self, dst: Reg, value: u64) {
        self.asm.constant(dst, value);
    }

    fn load_slot(&mut self, dst: Reg, offset: i16) {
        self.asm.load_slot(dst, offset);
    }

    fn store_slot(&mut self, offset: i16, src: Reg) {
        self.asm.push(Insn::Store(Size::DW, FP, offset, src));
    }

    /// Loads a value from its slot.
    fn load_value(&mut self, dst: Reg, slot: i16, ty: &Type) {
        self.load_slot(dst, slot);
        self.unlink(dst, ty);
    }

    /// In a loop, makes the verifier forget that a number is a copy. Otherwise, what it learns from a condition about the
    /// copy it would also note for the original, which lives on and would multiply the states of all that follows. The number
    /// stays the same, but after arithmetic the verifier treats it as a new one (`dst_reg->id = 0` in
    /// `adjust_reg_min_max_vals`).
    fn unlink(&mut self, dst: Reg, ty: &Type) {
        if self.walk != WalkPosition::No && !is_tracked(ty) {
            self.alu(Alu::Or, dst, 0);
        }
    }

    /// Hides from the verifier what it knows of a number that is about to be stored and was computed on one of several paths.
    /// A value that outlives a round would multiply the states of every round by the number of paths. In a loop with the
    /// kernel's bound the verifier also compares what it knows of all stored values, whether they are used or not. Outside of
    /// walks this matters to old kernels only, see [`Self::prepare_to_hide`].
    fn hide(&mut self, dst: Reg, value: &Typed) {
        if is_tracked(&value.ty) || !value.any(&chooses) {
            return;
        }
        match self.walk {
            WalkPosition::No => self.hide_from_old(dst),
            WalkPosition::Counted => {}
            WalkPosition::Ahead => self.alu(Alu::Add, dst, R9),
            WalkPosition::ByKernel => {
                self.alu(Alu::Add, dst, R9);
                self.alu(Alu::Sub, dst, R9);
            }
        }
    }

    /// As above, for a text that was stored.
    fn hide_text(&mut self, slot: i16, size: u32, value: &Typed) {
        if (matches!(self.walk, WalkPosition::Ahead | WalkPosition::ByKernel) || self.unknown.is_some())
            && value.any(&chooses)
        {
            for word in words(slot, size) {
                self.load_slot(R1, word);
                self.hide(R1, value);
                self.store_slot(word, R1);
            }
        }
    }

    /// Makes the verifier forget the contents of a slot that nobody reads again.
    fn forget_slot(&mut self, slot: i16) {
        self.asm.push(Insn::StoreImm(Size::DW, FP, slot, 0));
    }

    /// Makes the 0 that hides, where an old verifier needs it: until 6.1 it follows a loop once more for each state before it that
    /// differs in a stored value or in what was never stored, and the loops over the frames of a stack and over the names of a cgroup
    /// have thousands of instructions. Of a number and itself it does not know that they are the same.
    fn prepare_to_hide(&mut self) {
        let loops =
            |typed: &Typed| matches!(typed.kind, TypedKind::Stack { .. } | TypedKind::CgroupMatches(_));
        let is_old = self.host.kernel < KernelVersion(6, 1, 0);
        if is_old && self.event.each.is_none() && self.event.computes(&loops) {
            self.asm.comment("a 0 that is any number for the verifier");
            self.call(Helper::CpuId);
            self.alu(Alu::Xor, R0, R0);
            let slot = self.stack.take(8);
            self.store_slot(slot, R0);
            self.unknown = Some(slot);
        }
    }

    /// Hides from an old verifier what it knows of a number, see [`Self::prepare_to_hide`]; clobbers `r5`.
    fn hide_from_old(&mut self, dst: Reg) {
        if let Some(unknown) = self.unknown {
            self.load_slot(R5, unknown);
            self.alu(Alu::Add, dst, R5);
        }
    }

    /// Writes a part that has several paths. In a loop with the kernel's bound its scratch slots are forgotten afterwards, so
    /// that the paths make no difference for the verifier.
    fn tidied(&mut self, part: impl FnOnce(&mut Self)) {
        let peak = std::mem::replace(&mut self.stack.peak, self.stack.used);
        part(self);
        if self.walk == WalkPosition::ByKernel {
            for slot in self.stack.words(self.stack.used) {
                self.forget_slot(slot);
            }
        }
        self.stack.peak = self.stack.peak.max(peak);
    }

    /// `dst = fp + offset`
    fn stack_address(&mut self, dst: Reg, offset: i16) {
        self.mov(dst, FP);
        self.alu(Alu::Add, dst, i32::from(offset));
    }

    /// Slot of the time that was read at the beginning.
    fn time(&self) -> i16 {
        self.now.expect(
            "programs read the clock first where they keep a start, take one or note when a value was set",
        )
    }

    fn call(&mut self, helper: Helper) {
        self.asm.push(Insn::Call(helper));
    }

    /// Whether nothing else can write to a row before this program ends: the row is per CPU, no other program of the probe
    /// writes to it, and the kernel does not begin the program a second time on a CPU (it counts a missed run instead).
    fn is_alone(&self) -> bool {
        let writers =
            self.probe.events.iter().filter(|event| matches!(event.role, Role::End | Role::Single)).count();
        writers == 1
            && self.layout.per_cpu
            && self.event.mechanism.link.is_raw_tracepoint()
            && self.host.runs_raw_tracepoints_once()
    }

    /// `r0 = lookup(map, key)`
    fn lookup(&mut self, map: u32, key: i16) {
        self.asm.push(Insn::Map(R1, map));
        self.stack_address(R2, key);
        self.call(Helper::MapLookup);
    }

    /// Stores a `u32` index on the stack; returns its slot.
    fn index_key(&mut self, value: u32) -> i16 {
        let slot = self.index;
        // All eight bytes, so that the verifier knows that what was there before is gone.
        self.asm.push(Insn::StoreImm(Size::DW, FP, slot, immediate(value)));
        slot
    }

    /// Counts one drop; clobbers `r0` to `r5`.
    fn drop_event(&mut self, reason: DropReason) {
        self.mov(R1, 1);
        self.drop_events(reason);
    }

    /// Counts as many drops as `r1` contains; clobbers `r0` to `r5`.
    fn drop_events(&mut self, reason: DropReason) {
        let amount = self.stack.take(8);
        self.store_slot(amount, R1);
        let key = self.index_key(reason.index());
        self.lookup(DROPS, key);
        let done = self.asm.label();
        self.asm.jump_if(Cond::Eq, R0, 0, done);
        self.load_slot(R1, amount);
        self.asm.push(Insn::AtomicAdd(Size::DW, R0, 0, R1));
        self.asm.place(done);
        self.stack.used -= 8;
    }

    /// Stores a value of any type on the stack.
    fn store_value(&mut self, value: &Typed, slot: i16) {
        if value.ty.is_wide() {
            let room = value.ty.room();
            self.text(value, slot, room);
            self.hide_text(slot, room, value);
        } else {
            self.eval(value, 0);
            self.hide(R1, value);
            self.store_slot(slot, R1);
        }
    }

    /// Stores values side by side, each at its part of the key.
    fn store_parts(&mut self, values: &[Typed], slots: &[crate::layout::Slot], base: i16) {
        for (value, slot) in values.iter().zip(slots) {
            let place = base + offset(slot.offset);
            self.tidied(|this| this.store_part(value, place, slot.size));
        }
    }

    fn store_part(&mut self, value: &Typed, place: i16, size: u32) {
        if value.ty.is_wide() {
            // A shorter text than the part's room leaves zeros behind it.
            self.text(value, place, size);
            self.hide_text(place, size, value);
        } else {
            self.eval(value, 0);
            self.hide(R1, value);
            self.store_slot(place, R1);
        }
    }
}

/// Whether the event reads the stack pointer, which identifies a call.
fn uses_frame(event: &TypedEvent) -> bool {
    let stack = |typed: &Typed| {
        let pointers = [Arch::X86_64, Arch::Aarch64].map(Arch::stack_pointer);
        matches!(typed.kind, TypedKind::Field { offset, .. } if pointers.contains(&offset))
    };
    event.computes(&stack)
}

/// Whether the verifier tracks the value as a pointer, with which it allows no arithmetic.
fn is_tracked(ty: &Type) -> bool {
    matches!(ty, Type::Pointer { access: AccessMode::Direct, .. })
}

/// The slots of this many bytes from `slot` on.
fn words(slot: i16, size: u32) -> impl Iterator<Item = i16> {
    (0..size / 8).map(move |word| slot + offset(word * 8))
}

/// Whether computing the expression has several paths.
fn chooses(typed: &Typed) -> bool {
    match &typed.kind {
        // Pointers other than the element are tested before.
        TypedKind::Load { base, .. } => !matches!(base.kind, TypedKind::Item),
        TypedKind::Stack { .. }
        | TypedKind::State { .. }
        | TypedKind::Traced(_)
        | TypedKind::CgroupMatches(_)
        | TypedKind::Path(_)
        | TypedKind::TextAt { .. }
        | TypedKind::BytesAt { .. }
        | TypedKind::WordsBetween { .. }
        | TypedKind::WordsOf { .. }
        | TypedKind::MappedAt { .. }
        | TypedKind::Extreme(..)
        | TypedKind::Conditional(..)
        | TypedKind::Unary(UnaryOperator::Not, _) => true,
        TypedKind::Binary(operator, ..) => {
            operator.compares()
                || matches!(
                    operator,
                    BinaryOperator::And | BinaryOperator::Or | BinaryOperator::Div | BinaryOperator::Mod
                )
        }
        _ => false,
    }
}

/// Register of the context, for the whole program.
const CONTEXT: Reg = R6;
