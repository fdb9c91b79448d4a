//! Sleeps and switches of tasks.

use super::{super::cases::Skip, Control, Path, Point, hidden};
use tapster_ebpf::insn::{Cond, Size};

/// Arguments of `sched_switch`: whether the task that leaves was preempted, and its state.
const PREEMPT: i16 = 0;
const STATE: i16 = 3;
/// The state of a task that never comes back.
const TASK_DEAD: i32 = 0x80;

/// Tells tasks of one command from others of the same name: the children of a process have it as well, and it changes
/// nothing while there is memory.
const MARK: i32 = 321;
const MARKED: (Path<'_>, Size, i32) =
    (&[("task_struct", "signal"), ("signal_struct", "oom_score_adj")], Size::H, MARK);
/// A wake-up of a task that is still on its processor ends no sleep.
const OFF_CPU: (Path<'_>, Size, i32) = (&[("task_struct", "on_cpu")], Size::W, 0);
const COMM: Option<(Path<'_>, u32)> = Some((&[("task_struct", "comm")], 16));

/// What a shell does first, so that it and its children are the ones that are counted.
pub fn mark() -> String {
    format!("echo {MARK} >/proc/self/oom_score_adj; ")
}

/// Sleeps and wake-ups, by the name of the task.
#[derive(Debug)]
pub struct SleepControl {
    left: Control,
    woken: Control,
}

impl SleepControl {
    /// Of tasks of these names; only of those that are marked, if so.
    pub fn new(names: &[&str], marked: bool) -> Result<Self, Skip> {
        let keys: Vec<&[u8]> = names.iter().map(|name| name.as_bytes()).collect();
        let of = if marked { &[MARKED][..] } else { &[] };
        let left = Point {
            event: c"sched_switch",
            arguments: &[(PREEMPT, Cond::Eq, 0), (STATE, Cond::Ne, 0), (STATE, Cond::Ne, TASK_DEAD)],
            object: 1,
            members: of,
            key: COMM,
            adds: None,
        };
        let asleep: Vec<_> = of.iter().copied().chain([OFF_CPU]).collect();
        let woken = Point {
            event: c"sched_wakeup",
            arguments: &[],
            object: 0,
            members: &asleep,
            key: COMM,
            adds: None,
        };
        Ok(Self { left: Control::new(&left, &keys)?, woken: Control::new(&woken, &keys)? })
    }

    /// How often tasks of this name went to sleep.
    pub fn left(&self, name: &str) -> u64 {
        self.left.count(name.as_bytes())
    }

    /// How many of so many sleeps a program cannot have seen whole: either their beginnings or their ends were hidden.
    pub fn lost(&self, name: &str, sleeps: u64) -> u64 {
        [&self.left, &self.woken].map(|control| hidden(sleeps, control.count(name.as_bytes()))).iter().sum()
    }

    /// How many wake-ups of tasks of this name no program can have seen, now that all of them are awake. That a task goes to
    /// sleep is never hidden: it is current then.
    pub fn lost_wakeups(&self, name: &str) -> u64 {
        let of = |control: &Control| control.count(name.as_bytes());
        hidden(of(&self.left), of(&self.woken))
    }
}

/// Switches between tasks: all of them, and those from and to tasks of a name.
#[derive(Debug)]
pub struct SwitchControl {
    all: Control,
    from: Control,
    to: Control,
}

impl SwitchControl {
    pub fn new(names: &[&str]) -> Result<Self, Skip> {
        let keys: Vec<&[u8]> = names.iter().map(|name| name.as_bytes()).collect();
        let all =
            Point { event: c"sched_switch", arguments: &[], object: 1, members: &[], key: None, adds: None };
        let from = Point { arguments: &[(STATE, Cond::Ne, TASK_DEAD)], key: COMM, ..all };
        let to = Point { object: 2, key: COMM, ..all };
        Ok(Self {
            all: Control::new(&all, &[])?,
            from: Control::new(&from, &keys)?,
            to: Control::new(&to, &keys)?,
        })
    }

    pub fn all(&self) -> u64 {
        self.all.count(&[])
    }

    /// How often a task of this name came to a processor and no program saw it: each time it left one, it came back.
    pub fn lost(&self, name: &str) -> u64 {
        let of = |control: &Control| control.count(name.as_bytes());
        hidden(of(&self.from), of(&self.to))
    }
}
