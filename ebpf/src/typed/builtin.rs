//! Values that need no memory to be read.

/// A value from a helper or a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Builtin {
    /// Process id (thread group).
    Pid,
    /// Thread id.
    Tid,
    /// User id.
    Uid,
    /// Group id.
    Gid,
    /// Number of the CPU.
    Cpu,
    /// Time by the monotonic clock, nanoseconds.
    Nsecs,
    /// Cgroup v2 id of the current task.
    Cgroup,
    /// Address of the current `task_struct`.
    Task,
    /// Bytes of the packet, fragments included.
    PacketLength,
    /// Cgroup v2 id of the socket that the packet belongs to; 0 for none.
    PacketCgroup,
}
