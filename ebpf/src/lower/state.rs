//! Reads and changes the state: values that events leave for others.
//!
//! All values and keys of an event's changes are computed before its row is looked for, and written after that on every path:
//! an event reads what was there before it, and what it writes does not depend on whether there was room for its row.

use super::{
    Lowering, offset,
    update::{EXISTS, NOEXIST},
};
use crate::{
    asm::JumpLabel,
    insn::{Alu, Cond, FP, Helper, Insn, R0, R1, R2, R3, R4, Reg, Size},
    layout::{CPU_STATE, DropReason, KeyedState, StatePlace, TASK_STATE},
    program::map_named,
    typed::{StateEffect, Type, Typed, TypedChange},
};

/// `BPF_LOCAL_STORAGE_GET_F_CREATE`
const CREATE: i32 = 1;

/// A change whose key and value are on the stack.
#[derive(Debug)]
pub(super) struct ReadyChange<'t> {
    change: &'t TypedChange,
    /// The key; for what is not kept by key unused.
    key: i16,
    /// The value, or what is added.
    value: i16,
}

impl<'a> Lowering<'a> {
    fn place(&self, state: usize) -> &'a StatePlace {
        &self.layout.state.places[state]
    }

    /// The words of a state where nothing was set.
    fn default(&self, state: usize) -> &'a [u64] {
        &self.probe.states[state].default
    }

    /// Reads a state into the register.
    pub(super) fn read_state(&mut self, state: usize, key: &[Typed], dst: Reg, ty: &Type) {
        let at = self.find_state(state, key);
        let default = self.default(state)[0];
        let (end, found) = (self.asm.label(), self.asm.label());
        self.asm.jump_if(Cond::Ne, R0, 0, found);
        self.constant(dst, default);
        self.asm.jump(end);
        self.asm.place(found);
        self.asm.push(Insn::Load(Size::DW, dst, R0, at));
        if !matches!(self.place(state), StatePlace::Key(_)) {
            self.add_constant(dst, default);
        }
        self.asm.place(end);
        self.unlink(dst, ty);
    }

    /// Copies a state that is a text or bytes to the stack.
    pub(super) fn copy_state(&mut self, state: usize, key: &[Typed], slot: i16, room: u32) {
        let at = self.find_state(state, key);
        let default = self.default(state);
        let is_difference = !matches!(self.place(state), StatePlace::Key(_));
        let word = |index: u32| default.get(usize::try_from(index).unwrap_or(usize::MAX)).copied();
        let (end, found) = (self.asm.label(), self.asm.label());
        self.asm.jump_if(Cond::Ne, R0, 0, found);
        for index in 0..room / 8 {
            self.constant(R1, word(index).unwrap_or(0));
            self.store_slot(slot + offset(index * 8), R1);
        }
        self.asm.jump(end);
        self.asm.place(found);
        for index in 0..room / 8 {
            match word(index) {
                Some(default) => {
                    self.asm.push(Insn::Load(Size::DW, R1, R0, at + offset(index * 8)));
                    if is_difference {
                        self.add_constant(R1, default);
                    }
                }
                None => self.mov(R1, 0),
            }
            self.store_slot(slot + offset(index * 8), R1);
        }
        self.asm.place(end);
    }

    fn add_constant(&mut self, dst: Reg, value: u64) {
        match i32::try_from(value.cast_signed()) {
            Ok(0) => {}
            Ok(small) => self.alu(Alu::Add, dst, small),
            Err(_) => {
                self.constant(crate::insn::R5, value);
                self.alu(Alu::Add, dst, crate::insn::R5);
            }
        }
    }

    fn add_to_slot(&mut self, slot: i16, value: u64) {
        if value != 0 {
            self.load_slot(R1, slot);
            self.add_constant(R1, value);
            self.store_slot(slot, R1);
        }
    }

    /// `r0` = what holds the state for this CPU, task or key, or 0; returns the offset of the value in it.
    fn find_state(&mut self, state: usize, key: &[Typed]) -> i16 {
        let place = self.place(state);
        let used = self.stack.used;
        let mut slot = self.index;
        if let StatePlace::Key(keyed) = place {
            slot = self.store_key(keyed, key);
        }
        self.find_stored(place, slot);
        self.stack.used = used;
        place_offset(place)
    }

    fn store_key(&mut self, keyed: &KeyedState, key: &[Typed]) -> i16 {
        let slot = self.stack.take(keyed.key_size);
        self.store_parts(key, &keyed.key, slot);
        slot
    }

    /// The same where the key is on the stack already. Makes nothing.
    fn find_stored(&mut self, place: &StatePlace, key: i16) {
        match place {
            StatePlace::Cpu(_) => {
                let key = self.index_key(0);
                self.lookup(map_named(self.layout, CPU_STATE), key);
            }
            StatePlace::Task(_) if self.layout.state.with_task => self.with_task(0),
            StatePlace::Task(_) => {
                let key = self.store_task();
                self.lookup(map_named(self.layout, TASK_STATE), key);
            }
            StatePlace::Key(keyed) => self.lookup(map_named(self.layout, keyed.map), key),
        }
    }

    /// `r0` = what is kept with the current task.
    fn with_task(&mut self, flags: i32) {
        self.call(Helper::TaskBtf);
        self.mov(R2, R0);
        self.asm.push(Insn::Map(R1, map_named(self.layout, TASK_STATE)));
        self.mov(R3, 0);
        self.mov(R4, flags);
        self.call(Helper::TaskStorageGet);
    }

    /// Stores the number of the current task as a key.
    fn store_task(&mut self) -> i16 {
        self.call(Helper::PidTgid);
        self.asm.push(Insn::Alu32(Alu::Mov, R0, R0.into()));
        let slot = self.index;
        self.store_slot(slot, R0);
        slot
    }

    /// Computes all that the event writes.
    pub(super) fn ready_changes(&mut self) -> Vec<ReadyChange<'a>> {
        let event = self.event;
        let mut ready = Vec::new();
        for change in &event.changes {
            self.prepare(change.expressions());
            self.asm.comment(format!("what is written: {}", self.probe.states[change.state].name));
            let mut key = self.index;
            match (self.place(change.state), &change.effect) {
                (StatePlace::Key(keyed), _) => key = self.store_key(keyed, &change.key),
                (_, StateEffect::Forget) => {
                    key = self.stack.take(8);
                    if let [number] = change.key.as_slice() {
                        self.store_part(number, key, 8);
                    }
                }
                _ => {}
            }
            let room = self.probe.states[change.state].ty.room();
            let value = match &change.effect {
                StateEffect::Set(value) | StateEffect::Add(value) => {
                    // A value by key is written as it is in the map.
                    let before = match self.place(change.state) {
                        StatePlace::Key(keyed) => keyed.value.offset,
                        StatePlace::Cpu(_) | StatePlace::Task(_) => 0,
                    };
                    let whole = self.stack.take(before + room);
                    self.store_part(value, whole + offset(before), room);
                    whole
                }
                StateEffect::Clear | StateEffect::Forget => self.index,
            };
            ready.push(ReadyChange { change, key, value });
        }
        ready
    }

    /// Writes what was computed, in its order.
    pub(super) fn write_changes(&mut self, ready: &[ReadyChange<'a>]) {
        for ReadyChange { change, key, value } in ready {
            let name = &self.probe.states[change.state].name;
            self.asm.comment(format!("state.{name}"));
            match self.place(change.state) {
                StatePlace::Key(keyed) => self.change_by_key(keyed, change, *key, *value),
                place => match &change.effect {
                    StateEffect::Forget => self.delete(TASK_STATE, *key),
                    _ => self.change_in_place(place, change, *value),
                },
            }
        }
    }

    fn delete(&mut self, map: &str, key: i16) {
        self.asm.push(Insn::Map(R1, map_named(self.layout, map)));
        self.stack_address(R2, key);
        self.call(Helper::MapDelete);
    }

    /// Changes a value per CPU or task.
    fn change_in_place(&mut self, place: &StatePlace, change: &TypedChange, value: i16) {
        let end = self.asm.label();
        if matches!(change.effect, StateEffect::Clear) {
            self.find_stored(place, self.index);
            self.asm.jump_if(Cond::Eq, R0, 0, end);
        } else {
            self.find_or_make(place, end);
        }
        let at = place_offset(place);
        let default = self.default(change.state);
        match &change.effect {
            StateEffect::Set(_) => {
                for (index, default) in (0..).zip(default) {
                    self.load_slot(R1, value + offset(index * 8));
                    self.add_constant(R1, default.wrapping_neg());
                    self.asm.push(Insn::Store(Size::DW, R0, at + offset(index * 8), R1));
                }
            }
            StateEffect::Add(_) => {
                self.load_slot(R1, value);
                self.asm.push(Insn::AtomicAdd(Size::DW, R0, at, R1));
            }
            StateEffect::Clear | StateEffect::Forget => {
                for index in (0..).take(default.len()) {
                    self.asm.push(Insn::StoreImm(Size::DW, R0, at + offset(index * 8), 0));
                }
            }
        }
        self.asm.place(end);
    }

    /// `r0` = what holds the values of this CPU or task, which is made if it is not there. Where that fails, counts it and jumps
    /// to `never`.
    fn find_or_make(&mut self, place: &StatePlace, never: JumpLabel) {
        if matches!(place, StatePlace::Task(_)) && self.layout.state.with_task {
            let found = self.asm.label();
            self.with_task(CREATE);
            self.asm.jump_if(Cond::Ne, R0, 0, found);
            // The kernel is in an operation on the same storage, or has no memory.
            self.drop_event(DropReason::Busy);
            self.asm.jump(never);
            self.asm.place(found);
            return;
        }
        self.find_stored(place, self.index);
        if matches!(place, StatePlace::Cpu(_)) {
            self.asm.jump_if(Cond::Eq, R0, 0, never);
            return;
        }
        let found = self.asm.label();
        self.asm.jump_if(Cond::Ne, R0, 0, found);
        let used = self.stack.used;
        let size = self.layout.state.task_size;
        let zeros = self.stack.take(size);
        for word in 0..size / 8 {
            self.asm.push(Insn::StoreImm(Size::DW, FP, zeros + offset(word * 8), 0));
        }
        let map = map_named(self.layout, TASK_STATE);
        // The number of the task is still where the look-up had it.
        self.asm.push(Insn::Map(R1, map));
        self.stack_address(R2, self.index);
        self.stack_address(R3, zeros);
        self.mov(R4, NOEXIST);
        self.call(Helper::MapUpdate);
        let error = self.stack.take(8);
        self.store_slot(error, R0);
        self.lookup(map, self.index);
        self.asm.jump_if(Cond::Ne, R0, 0, found);
        self.load_slot(R0, error);
        self.count_failure(DropReason::State);
        self.asm.jump(never);
        self.asm.place(found);
        self.stack.used = used;
    }

    fn change_by_key(&mut self, keyed: &KeyedState, change: &TypedChange, key: i16, value: i16) {
        if keyed.timeout_ns.is_some() && matches!(change.effect, StateEffect::Set(_) | StateEffect::Add(_)) {
            let now = self.time();
            self.load_slot(R1, now);
            self.store_slot(value, R1);
        }
        match &change.effect {
            StateEffect::Set(_) => {
                self.update(keyed, key, value, 0);
                self.count_failure(DropReason::State);
            }
            StateEffect::Add(_) => self.add_by_key(keyed, change, key, value),
            StateEffect::Clear | StateEffect::Forget => self.delete(keyed.map, key),
        }
    }

    /// `r0` = the result of `map[key] = value`.
    fn update(&mut self, keyed: &KeyedState, key: i16, value: i16, flags: i32) {
        self.asm.push(Insn::Map(R1, map_named(self.layout, keyed.map)));
        self.stack_address(R2, key);
        self.stack_address(R3, value);
        self.mov(R4, flags);
        self.call(Helper::MapUpdate);
    }

    /// Adds to a value; one that is not there is made of its default. Of two CPUs that make it, one makes it and the other adds.
    fn add_by_key(&mut self, keyed: &KeyedState, change: &TypedChange, key: i16, value: i16) {
        let map = map_named(self.layout, keyed.map);
        let amount = value + offset(keyed.value.offset);
        let default = self.default(change.state)[0];
        let (add, failed, end) = (self.asm.label(), self.asm.label(), self.asm.label());
        self.lookup(map, key);
        self.asm.jump_if(Cond::Ne, R0, 0, add);
        self.add_to_slot(amount, default);
        self.update(keyed, key, value, NOEXIST);
        self.widen_error(R0);
        self.asm.jump_if(Cond::Ne, R0, EXISTS, failed);
        self.add_to_slot(amount, default.wrapping_neg());
        self.lookup(map, key);
        self.asm.jump_if(Cond::Eq, R0, 0, end);
        self.asm.place(add);
        self.load_slot(R1, amount);
        self.asm.push(Insn::AtomicAdd(Size::DW, R0, offset(keyed.value.offset), R1));
        if keyed.timeout_ns.is_some() {
            self.load_slot(R1, value);
            self.asm.push(Insn::Store(Size::DW, R0, 0, R1));
        }
        self.asm.jump(end);
        self.asm.place(failed);
        self.count_failure(DropReason::State);
        self.asm.place(end);
    }
}

/// Offset of a value in what holds it.
fn place_offset(place: &StatePlace) -> i16 {
    match place {
        StatePlace::Cpu(slot) | StatePlace::Task(slot) => offset(slot.offset),
        StatePlace::Key(keyed) => offset(keyed.value.offset),
    }
}
