//! System calls, by seccomp: only those that the exporter and its libraries make. Others get `EPERM`.
//!
//! The list covers what such a program does, not only the calls of one observed run: another version of the C library or another
//! processor may use a related call for the same thing.

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Length, SeccompCmpOp as Is, SeccompCondition as Condition,
    SeccompFilter, SeccompRule as Rule, TargetArch, apply_filter,
};
use std::collections::BTreeMap;

/// Calls that are allowed with any arguments.
const CALLS: &[i64] = &[
    // Probes.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_ioctl,
    // Files.
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_preadv2,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pwrite64,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_fstatfs,
    libc::SYS_statfs,
    libc::SYS_faccessat,
    libc::SYS_getxattr,
    libc::SYS_faccessat2,
    libc::SYS_readlinkat,
    libc::SYS_getdents64,
    libc::SYS_getcwd,
    libc::SYS_fcntl,
    libc::SYS_flock,
    libc::SYS_fadvise64,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_pipe2,
    libc::SYS_umask,
    // Memory.
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_membarrier,
    // Threads and time.
    libc::SYS_clone3,
    libc::SYS_set_robust_list,
    libc::SYS_get_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_rseq,
    libc::SYS_futex,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_getparam,
    libc::SYS_sched_getscheduler,
    libc::SYS_getcpu,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_times,
    libc::SYS_getrusage,
    libc::SYS_restart_syscall,
    libc::SYS_prctl,
    // Signals.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigpending,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_sigaltstack,
    // Waiting for files.
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_eventfd2,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_timerfd_gettime,
    libc::SYS_signalfd4,
    // Connections.
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_shutdown,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_socketpair,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_recvmmsg,
    // The host and the user.
    libc::SYS_uname,
    libc::SYS_sysinfo,
    libc::SYS_getrandom,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_capget,
    libc::SYS_prlimit64,
    libc::SYS_getrlimit,
];

/// Older numbers of the same calls, which only this processor has.
#[cfg(target_arch = "x86_64")]
const OLDER: &[i64] = &[
    libc::SYS_open,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_poll,
    libc::SYS_select,
    libc::SYS_epoll_wait,
    libc::SYS_epoll_create,
    libc::SYS_eventfd,
    libc::SYS_pipe,
    libc::SYS_dup2,
    libc::SYS_time,
    libc::SYS_arch_prctl,
    // Whether uprobes become calls is asked again when a program is replaced.
    crate::sys::SYS_UPROBE,
];
#[cfg(not(target_arch = "x86_64"))]
const OLDER: &[i64] = &[];

/// Sockets: family, type, and protocols. TCP and UDP, datagrams to the log and to systemd, and addresses of interfaces. MPTCP is
/// left out, because Landlock does not cover it.
const SOCKETS: [(i32, i32, &[i32]); 6] = [
    (libc::AF_INET, libc::SOCK_STREAM, &[0, libc::IPPROTO_TCP]),
    (libc::AF_INET6, libc::SOCK_STREAM, &[0, libc::IPPROTO_TCP]),
    (libc::AF_INET, libc::SOCK_DGRAM, &[0, libc::IPPROTO_UDP]),
    (libc::AF_INET6, libc::SOCK_DGRAM, &[0, libc::IPPROTO_UDP]),
    (libc::AF_UNIX, libc::SOCK_DGRAM, &[0]),
    (libc::AF_NETLINK, libc::SOCK_RAW, &[libc::NETLINK_ROUTE]),
];
/// The bits of a socket's type that are not flags.
const TYPE: u64 = 0xf;
/// Calls that send, and the index of their flags: one flag makes a connection, unseen by Landlock.
const SENDS: [(i64, u8); 3] = [(libc::SYS_sendto, 3), (libc::SYS_sendmsg, 2), (libc::SYS_sendmmsg, 3)];
/// Flags of `clone` for namespaces, none of which a thread needs.
const NAMESPACES: i32 = libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET;

fn number(value: i32) -> u64 {
    u64::from(value.cast_unsigned())
}

/// A filter with these rules; a call that fits a rule gets `action`, any other `otherwise`.
fn filter(
    rules: BTreeMap<i64, Vec<Rule>>,
    otherwise: SeccompAction,
    action: SeccompAction,
) -> Result<BpfProgram, String> {
    let processor = TargetArch::try_from(std::env::consts::ARCH).map_err(|error| error.to_string())?;
    let filter =
        SeccompFilter::new(rules, otherwise, action, processor).map_err(|error| error.to_string())?;
    filter.try_into().map_err(|error: seccompiler::BackendError| error.to_string())
}

fn rules() -> Result<BTreeMap<i64, Vec<Rule>>, String> {
    let rule = |conditions: Vec<Result<Condition, seccompiler::BackendError>>| {
        let conditions = conditions.into_iter().collect::<Result<_, _>>();
        conditions.and_then(Rule::new).map_err(|error| error.to_string())
    };
    let mut rules: BTreeMap<i64, Vec<Rule>> =
        CALLS.iter().chain(OLDER).map(|call| (*call, Vec::new())).collect();
    let mut sockets = Vec::new();
    for (family, kind, protocols) in SOCKETS {
        for protocol in protocols {
            sockets.push(rule(vec![
                Condition::new(0, Length::Dword, Is::Eq, number(family)),
                Condition::new(1, Length::Dword, Is::MaskedEq(TYPE), number(kind)),
                Condition::new(2, Length::Dword, Is::Eq, number(*protocol)),
            ])?);
        }
    }
    rules.insert(libc::SYS_socket, sockets);
    for (call, flags) in SENDS {
        let fast_open = Is::MaskedEq(number(libc::MSG_FASTOPEN));
        rules.insert(call, vec![rule(vec![Condition::new(flags, Length::Dword, fast_open, 0)])?]);
    }
    let thread = Condition::new(0, Length::Qword, Is::MaskedEq(number(NAMESPACES)), 0);
    rules.insert(libc::SYS_clone, vec![rule(vec![thread])?]);
    // A panic ends this process with it.
    let own = Condition::new(0, Length::Dword, Is::Eq, u64::from(std::process::id()));
    rules.insert(libc::SYS_tgkill, vec![rule(vec![own])?]);
    Ok(rules)
}

/// Limits system calls. Returns a description of what was done.
pub(super) fn limit() -> String {
    match apply() {
        Ok(count) => format!("on: {count} system calls are allowed"),
        Err(error) => format!("off: {error}"),
    }
}

fn apply() -> Result<usize, String> {
    let rules = rules()?;
    let count = rules.len();
    let refused = |errno: i32| SeccompAction::Errno(errno.cast_unsigned());
    let allowed = filter(rules, refused(libc::EPERM), SeccompAction::Allow)?;
    // Its flags are in memory, where no filter sees them. Without this call the C library uses `clone` instead.
    let clone3 = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    let hidden = filter(clone3, SeccompAction::Allow, refused(libc::ENOSYS))?;
    for program in [&hidden, &allowed] {
        apply_filter(program).map_err(|error| error.to_string())?;
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::{send_signal, send_signal_to_thread};

    /// Runs on its own thread, because rights that are given up do not come back.
    #[test]
    fn what_is_not_allowed_is_refused() {
        let done = std::thread::spawn(|| {
            assert!(limit().starts_with("on: "), "{}", limit());
            let refused = |result: std::io::Error| result.raw_os_error() == Some(libc::EPERM);
            let spawned = std::process::Command::new("/bin/true").spawn();
            assert!(spawned.is_err(), "a program was started");
            assert!(refused(std::os::unix::fs::chroot("/").unwrap_err()));
            assert!(refused(
                socket2::Socket::new(socket2::Domain::from(libc::AF_PACKET), socket2::Type::RAW, None)
                    .unwrap_err()
            ));
            // What goes on: files, memory, threads, sockets.
            assert!(std::fs::read_to_string("/proc/thread-self/status").unwrap().contains("Seccomp:\t2"));
            assert_eq!(std::thread::spawn(|| vec![1_u8; 1 << 22].len()).join().unwrap(), 1 << 22);
            let socket = |family, kind: socket2::Type, protocol: i32| {
                socket2::Socket::new(
                    socket2::Domain::from(family),
                    kind,
                    Some(socket2::Protocol::from(protocol)),
                )
            };
            let (stream, datagram) = (socket2::Type::STREAM, socket2::Type::DGRAM);
            let client = socket(libc::AF_INET, stream, libc::IPPROTO_TCP).unwrap();
            drop(socket(libc::AF_INET6, datagram, 0).unwrap());
            drop(std::os::unix::net::UnixDatagram::unbound().unwrap());
            // MPTCP, a stream to a daemon of this host, raw packets, a port of its own, a connection by sending.
            assert!(refused(socket(libc::AF_INET, stream, libc::IPPROTO_MPTCP).unwrap_err()));
            assert!(refused(socket(libc::AF_UNIX, stream, 0).unwrap_err()));
            assert!(refused(socket(libc::AF_INET, socket2::Type::RAW, 1).unwrap_err()));
            assert!(refused(client.listen(1).unwrap_err()));
            let nowhere: std::net::SocketAddr = "127.0.0.1:9".parse().unwrap();
            let sent = client.send_to_with_flags(b"x", &nowhere.into(), libc::MSG_FASTOPEN);
            assert!(refused(sent.unwrap_err()));
            // Another process is not ended: the parent of this one, which would be the end of the test.
            let parent = std::os::unix::process::parent_id();
            assert!(refused(send_signal(parent, 0).unwrap_err()));
            assert!(refused(send_signal_to_thread(parent, parent, 0).unwrap_err()));
        });
        done.join().unwrap();
    }
}
