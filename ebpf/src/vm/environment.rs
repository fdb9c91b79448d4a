//! The machine as a program sees it through helpers and pointers.

use std::collections::BTreeMap;

/// Blocks of kernel or user memory by address; accesses between them fault.
pub type Memory = BTreeMap<u64, Vec<u8>>;

/// The machine as helpers report it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Environment {
    /// The next result of `ktime_get_ns`, nanoseconds.
    pub ktime_ns: u64,
    /// The time by which each call of `ktime_get_ns` moves the clock, nanoseconds.
    pub ktime_step_ns: u64,
    /// Thread group id in the upper half, thread id in the lower.
    pub pid_tgid: u64,
    /// Group id in the upper half, user id in the lower.
    pub uid_gid: u64,
    /// Name of the current task; at most 15 bytes are used.
    pub comm: Vec<u8>,
    /// Address of the current `task_struct`.
    pub task: u64,
    /// Id of the current task's cgroup.
    pub cgroup_id: u64,
    /// The cookie of the attachment.
    pub cookie: u64,
    /// Whether a session program runs at a return.
    pub is_return: bool,
    /// The eight bytes that the entry of a call leaves for its return; programs read and write them.
    pub session_cookie: [u8; 8],
    /// CPU on which the program runs.
    pub cpu: u32,
    /// Number of CPUs of the machine; `Vm::new` reads it once.
    pub cpus: u32,
    /// Addresses of the kernel stack, innermost first; empty for none.
    pub kernel_stack: Vec<u64>,
    /// Frames of the current process's stack, as `struct bpf_stack_build_id`: four words for each.
    pub user_stack: Vec<[u64; 4]>,
    /// Kernel memory.
    pub kernel: Memory,
    /// Memory of the current process.
    pub user: Memory,
    /// The packet, for programs that see packets; no program can change it.
    pub packet: Vec<u8>,
    /// Id of the cgroup of the packet's socket.
    pub packet_cgroup: u64,
    /// Most instructions of a run.
    pub step_limit: usize,
}

impl Default for Environment {
    fn default() -> Self {
        Self {
            ktime_ns: 1_000_000_000,
            ktime_step_ns: 0,
            pid_tgid: (0x3e8 << 32) | 0x3e9,
            uid_gid: 0,
            comm: b"test".to_vec(),
            task: 0xffff_8880_0100_0000,
            cgroup_id: 1,
            cookie: 0,
            is_return: false,
            session_cookie: [0; 8],
            cpu: 0,
            cpus: 2,
            kernel_stack: Vec::new(),
            user_stack: Vec::new(),
            kernel: Memory::new(),
            user: Memory::new(),
            packet: Vec::new(),
            packet_cgroup: 0,
            step_limit: 1_000_000,
        }
    }
}

/// The byte at an address; `None` if no block contains it.
pub(super) fn byte(memory: &Memory, address: u64) -> Option<u8> {
    let (start, block) = memory.range(..=address).next_back()?;
    block.get(usize::try_from(address - start).ok()?).copied()
}

/// `size` bytes at an address; `None` if any of them faults.
pub(super) fn bytes(memory: &Memory, address: u64, size: u64) -> Option<Vec<u8>> {
    (0..size).map(|i| byte(memory, address.checked_add(i)?)).collect()
}
