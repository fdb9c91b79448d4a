//! Records → calls: finds the entry of each return, and the caller of each call.
//!
//! A call is identified by the stack pointer at its entry, which is the same at its return. So a return ends the calls of its
//! thread that began at this place of the stack. Calls that began further down were left without a return: by `longjmp`, an
//! exception, or a jump. Likewise an entry ends what began below it, and what began at the same place, unless that is a
//! function that jumped here instead of calling.

use super::{
    plan::FollowedFunction,
    summary::{Ending, Summary},
};
use std::collections::HashMap;
use tapster_ebpf::callgraph::{ARGUMENTS, CallEvent, Record, Stacks, Task};

/// A line of the graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GraphLine<'a> {
    /// The thread.
    pub task: Task,
    /// Its name.
    pub comm: &'a str,
    /// Time of the event by `CLOCK_MONOTONIC`.
    pub time_ns: u64,
    /// Time since the outermost call of the thread began.
    pub since_ns: u64,
    /// Number of calls around it.
    pub depth: usize,
    /// Index of the function.
    pub function: usize,
    /// The event.
    pub step: CallStep,
}

/// An event of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallStep {
    /// It began.
    Enter([u64; ARGUMENTS]),
    /// It returned.
    Return {
        /// The value, unless a function that is not followed returned in its place.
        value: Option<u64>,
        /// Duration of the call.
        duration_ns: u64,
    },
}

#[derive(Clone, Debug)]
struct OpenCall {
    function: usize,
    stack: u64,
    caller: u64,
    entered_ns: u64,
    /// Time in calls made by it.
    inner_ns: u64,
    /// Its node in the tree of calls.
    node: usize,
    /// Whether it is part of what is shown.
    shown: bool,
    /// Whether it is a copy of a call that another process made.
    inherited: bool,
}

#[derive(Clone, Debug, Default)]
struct Thread {
    /// The task that last ran it.
    task: Task,
    comm: String,
    frames: Vec<OpenCall>,
    /// Number of frames that are shown.
    shown: usize,
    /// Number of calls in progress of each function, of those that are shown.
    open: HashMap<usize, u32>,
    base_ns: u64,
    last_ns: u64,
}

/// The owner of calls: a thread, or a goroutine, which runs on one thread and then on another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Flow {
    pid: u32,
    /// The thread; 0 if it does not matter.
    tid: u32,
    goroutine: u64,
}

/// All calls in progress, and the sums of those that ended.
#[derive(Debug)]
pub struct Graph<'f> {
    functions: &'f [FollowedFunction],
    triggered: bool,
    stacks: Option<Stacks>,
    threads: HashMap<Flow, Thread>,
    summary: Summary,
}

impl<'f> Graph<'f> {
    /// Begins a graph. `triggered`: only calls beneath a trigger are shown. `stacks`: whose stacks determine callers, if any
    /// do.
    pub fn new(functions: &'f [FollowedFunction], triggered: bool, stacks: Option<Stacks>) -> Self {
        Self { functions, triggered, stacks, threads: HashMap::new(), summary: Summary::new(functions.len()) }
    }

    /// Processes a record; records come in the order in which they were written.
    pub fn record(&mut self, record: &Record, print: &mut impl FnMut(&GraphLine<'_>)) {
        let Record { time_ns, task, ref event } = *record;
        match *event {
            CallEvent::Entry { function, stack, caller, arguments, comm, goroutine } => {
                let Some(function) = self.index(function) else { return };
                let end = comm.iter().position(|byte| *byte == 0).unwrap_or(comm.len());
                let thread = self.threads.entry(self.flow(task, goroutine)).or_default();
                thread.task = task;
                if thread.comm.as_bytes() != &comm[..end] {
                    thread.comm = crate::name::escape(&comm[..end]);
                }
                self.enter(time_ns, self.flow(task, goroutine), (function, stack, caller), arguments, print);
            }
            CallEvent::Return { stack, value, goroutine, .. } => {
                self.leave(time_ns, (task, goroutine), stack, Some(value), print);
            }
            CallEvent::Leave { stack, goroutine, .. } => {
                self.leave(time_ns, (task, goroutine), stack, None, print);
            }
            // Go starts other programs this way, but no copy of the program itself continues.
            CallEvent::Fork { child } => {
                let Some(parent) = self.threads.get(&self.flow(task, 0)) else { return };
                let mut copy = parent.clone();
                for frame in &mut copy.frames {
                    frame.inherited = true;
                }
                let flow = self.flow(child, 0);
                self.threads.insert(flow, copy);
            }
            // The memory of the calls is gone, and so are the other threads.
            CallEvent::Exec => self.close_process(task.pid, time_ns),
            CallEvent::End if self.stacks != Some(Stacks::Goroutine) => {
                self.close_all(self.flow(task, 0), Some(time_ns));
            }
            // Goroutines end with their process, whose first thread is the last to end in Go.
            CallEvent::End if task.tid == task.pid => self.close_process(task.pid, time_ns),
            CallEvent::End => {}
        }
    }

    /// Ends the graph and returns the sums: calls in progress stay so, and end at the last event of their thread.
    pub fn finish(mut self) -> Summary {
        let flows: Vec<Flow> = self.threads.keys().copied().collect();
        for flow in flows {
            self.close_all(flow, None);
        }
        self.summary
    }

    fn flow(&self, task: Task, goroutine: u64) -> Flow {
        let tid = if self.stacks == Some(Stacks::Goroutine) { 0 } else { task.tid };
        Flow { pid: task.pid, tid, goroutine }
    }

    fn close_process(&mut self, pid: u32, time_ns: u64) {
        let gone: Vec<Flow> = self.threads.keys().copied().filter(|flow| flow.pid == pid).collect();
        for flow in gone {
            self.close_all(flow, Some(time_ns));
        }
    }

    fn index(&self, function: u32) -> Option<usize> {
        usize::try_from(function).ok().filter(|index| *index < self.functions.len())
    }

    fn enter(
        &mut self,
        time_ns: u64,
        flow: Flow,
        (function, stack, caller): (usize, u64, u64),
        arguments: [u64; ARGUMENTS],
        print: &mut impl FnMut(&GraphLine<'_>),
    ) {
        let Some(thread) = self.threads.get_mut(&flow) else { return };
        let task = thread.task;
        let followed = &self.functions[function];
        while let Some(top) = thread.frames.last() {
            let below = &self.functions[top.function];
            let exits = below.exits.as_ref();
            // The call on top called this one.
            if top.stack > stack {
                break;
            }
            // The call on top jumped here: the return address is the one that it was given.
            if top.stack == stack && top.caller == caller {
                if top.function == function && exits.is_some_and(|exits| exits.repeats) {
                    // A loop to the first instruction of the function is no call.
                    thread.last_ns = time_ns;
                    return;
                }
                let jumps = exits.is_none_or(|exits| exits.may_jump_to(followed.address));
                if top.function != function && jumps {
                    break;
                }
            }
            let last_ns = thread.last_ns;
            thread.close(&mut self.summary, last_ns, Self::unseen(below));
        }
        let outer = thread.frames.last();
        let shown = !self.triggered || followed.is_trigger || outer.is_some_and(|outer| outer.shown);
        let node = match (shown, outer) {
            (true, outer) => {
                self.summary.node(outer.filter(|outer| outer.shown).map(|outer| outer.node), function)
            }
            (false, _) => 0,
        };
        // If callers are unknown, times count from the first call.
        if shown && thread.shown == 0 && (self.stacks.is_some() || thread.base_ns == 0) {
            thread.base_ns = time_ns;
        }
        thread.frames.push(OpenCall {
            function,
            stack,
            caller,
            entered_ns: time_ns,
            inner_ns: 0,
            node,
            shown,
            inherited: false,
        });
        thread.last_ns = time_ns;
        if shown {
            print(&GraphLine {
                task,
                comm: &thread.comm,
                time_ns,
                since_ns: time_ns.saturating_sub(thread.base_ns),
                depth: thread.shown,
                function,
                step: CallStep::Enter(arguments),
            });
            thread.shown += 1;
            *thread.open.entry(function).or_default() += 1;
            self.summary.begin(function);
        }
        if followed.at_once {
            self.leave(time_ns, (task, flow.goroutine), stack, None, print);
        } else if followed.exits.is_none() {
            // The depth of its callees would be unknown, so they are shown beside it.
            thread.close(&mut self.summary, time_ns, Ending::NotTaken);
        }
    }

    /// Why the end of a call that is no longer on the stack was not seen.
    fn unseen(function: &FollowedFunction) -> Ending {
        match &function.exits {
            None => Ending::NotTaken,
            Some(exits) if exits.has_unseen() => Ending::Jumped,
            Some(_) => Ending::Unwound,
        }
    }

    fn leave(
        &mut self,
        time_ns: u64,
        (task, goroutine): (Task, u64),
        stack: u64,
        value: Option<u64>,
        print: &mut impl FnMut(&GraphLine<'_>),
    ) {
        let flow = self.flow(task, goroutine);
        let Some(thread) = self.threads.get_mut(&flow) else {
            self.summary.without_entry += 1;
            return;
        };
        thread.task = task;
        let mut matched = false;
        while let Some(top) = thread.frames.last() {
            if top.stack > stack {
                break;
            }
            if top.stack < stack {
                let (last_ns, ending) = (thread.last_ns, Self::unseen(&self.functions[top.function]));
                thread.close(&mut self.summary, last_ns, ending);
                continue;
            }
            // If several began here because they jumped from one to the next, this is the return of all.
            matched = true;
            let (function, shown, duration_ns) =
                (top.function, top.shown, time_ns.saturating_sub(top.entered_ns));
            thread.close(&mut self.summary, time_ns, Ending::Returned);
            if shown {
                print(&GraphLine {
                    task,
                    comm: &thread.comm,
                    time_ns,
                    since_ns: time_ns.saturating_sub(thread.base_ns),
                    depth: thread.shown,
                    function,
                    step: CallStep::Return { value, duration_ns },
                });
            }
        }
        thread.last_ns = time_ns;
        if !matched {
            self.summary.without_entry += 1;
        }
    }

    /// Ends all calls of a thread that has ended or is no longer followed.
    fn close_all(&mut self, flow: Flow, ended_ns: Option<u64>) {
        let Some(mut thread) = self.threads.remove(&flow) else { return };
        while !thread.frames.is_empty() {
            let (time_ns, ending) = match ended_ns {
                Some(time_ns) => (time_ns, Ending::Ended),
                None => (thread.last_ns, Ending::Running),
            };
            thread.close(&mut self.summary, time_ns, ending);
        }
    }
}

impl Thread {
    /// Removes the innermost call.
    fn close(&mut self, summary: &mut Summary, time_ns: u64, ending: Ending) {
        let Some(frame) = self.frames.pop() else { return };
        let duration_ns = time_ns.saturating_sub(frame.entered_ns);
        if let Some(outer) = self.frames.last_mut() {
            outer.inner_ns = outer.inner_ns.saturating_add(duration_ns);
        }
        if !frame.shown {
            return;
        }
        self.shown -= 1;
        let open = self.open.entry(frame.function).or_default();
        *open = open.saturating_sub(1);
        let is_outermost = *open == 0;
        if *open == 0 {
            self.open.remove(&frame.function);
        }
        if !frame.inherited {
            let self_ns = duration_ns.saturating_sub(frame.inner_ns);
            summary.end(frame.function, frame.node, ending, duration_ns, self_ns, is_outermost);
        }
    }
}
