//! Sleeps and switches of tasks.

use super::{super::cases::Skip, Control, Path, Point, hidden};
use tapster_ebpf::insn::{Cond, Size};

/// Arguments of `sched_switch`: whether the task that leaves was preempted, and its state.
const PREEMPT: i16 = 0;
const STATE: i16 = 3;
/// The state of a task that never runs again.
const TASK_DEAD: i32 = 0x80;

/// Distinguishes tasks of one command from others of the same name: children inherit it, and it changes nothing while there is
/// memory.
pub(crate) const MARK: i32 = 321;
const MARKED: (Path<'_>, Size, i32) =
    (&[("task_struct", "signal"), ("signal_struct", "oom_score_adj")], Size::H, MARK);
/// A wake-up of a task that is still on its processor ends no sleep.
const OFF_CPU: (Path<'_>, Size, i32) = (&[("task_struct", "on_cpu")], Size::W, 0);
const COMM: Option<(Path<'_>, u32)> = Some((&[("task_struct", "comm")], 16));

/// The first command of a shell, so that it and its children are counted.
pub fn mark() -> String {
    format!("echo {MARK} >/proc/self/oom_score_adj; ")
}

/// Counts sleeps and wake-ups by the name of the task.
#[derive(Debug)]
pub struct SleepControl {
    left: Control,
    woken: Control,
}

impl SleepControl {
    /// Counts tasks with these names; if `marked`, only those with the mark.
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

    /// How often tasks with this name went to sleep.
    pub fn left(&self, name: &str) -> u64 {
        self.left.count(name.as_bytes())
    }

    /// Most of `sleeps` that a program cannot have seen completely, because their beginning or their end was hidden.
    pub fn lost(&self, name: &str, sleeps: u64) -> u64 {
        [&self.left, &self.woken].map(|control| hidden(sleeps, control.count(name.as_bytes()))).iter().sum()
    }

    /// Most wake-ups of tasks with this name that no program can have seen, once all of them are awake. Going to sleep is never
    /// hidden, because the task itself is current then.
    pub fn lost_wakeups(&self, name: &str) -> u64 {
        let of = |control: &Control| control.count(name.as_bytes());
        hidden(of(&self.left), of(&self.woken))
    }
}

/// Counts switches between tasks: all, and those from and to tasks with a name.
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

    /// How often a task with this name came to a processor without a program seeing it: each time it left one, it came back.
    pub fn lost(&self, name: &str) -> u64 {
        let of = |control: &Control| control.count(name.as_bytes());
        hidden(of(&self.from), of(&self.to))
    }
}
