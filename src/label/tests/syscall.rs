//! The second opinions are the headers of the C library and the kernel's list of events.

use super::{super::syscall::SyscallDecoder, *};
use std::collections::BTreeSet;

#[test]
fn numbers_by_processor() {
    let mut x86 = SyscallDecoder::of("x86_64");
    let mut arm = SyscallDecoder::of("aarch64");
    let mut other = SyscallDecoder::of("riscv64");
    for (number, on_x86, on_arm, elsewhere) in [
        (0, "read", "io_setup", "0"),
        (59, "execve", "pipe2", "59"),
        (79, "getcwd", "newfstatat", "79"),
        (222, "timer_create", "mmap", "222"),
        (334, "rseq", "334", "334"),
        (423, "423", "423", "423"),
        (424, "pidfd_send_signal", "pidfd_send_signal", "pidfd_send_signal"),
        (435, "clone3", "clone3", "clone3"),
        (470, "listns", "listns", "listns"),
        (471, "471", "471", "471"),
        (1000, "unknown", "unknown", "unknown"),
        ((1 << 32) + 4, "compat_4", "compat_4", "compat_4"),
        (u64::MAX, "none", "none", "none"),
    ] {
        assert_eq!(
            [text(&mut x86, number), text(&mut arm, number), text(&mut other, number)],
            [on_x86, on_arm, elsewhere],
            "{number}"
        );
    }
}

/// Parses lines like `#define __NR_name 7`; the generic header has `__NR3264_name` if 32 bits have another call.
fn defined(header: &str) -> Option<Vec<(i64, String)>> {
    let Ok(text) = fs::read_to_string(header) else {
        eprintln!("skipped: there is no `{header}`");
        return None;
    };
    let parse = |line: &str| {
        let mut words = line.strip_prefix("#define __NR")?.split_whitespace();
        let (_, name) = words.next()?.split_once('_')?;
        Some((words.next()?.parse().ok()?, name.to_owned()))
    };
    Some(text.lines().filter_map(parse).collect())
}

#[test]
fn numbers_of_the_headers() {
    let headers = [
        ("x86_64", "/usr/include/x86_64-linux-gnu/asm/unistd_64.h", 350),
        ("aarch64", "/usr/include/asm-generic/unistd.h", 280),
    ];
    for (arch, header, least) in headers {
        let Some(defined) = defined(header) else { continue };
        let known = SyscallDecoder::of(arch);
        let mut same = 0;
        for (number, name) in defined {
            // Placeholders of the generic header, another name of 84, and calls that only 32-bit processes have.
            let is_other = ["syscalls", "arch_specific_syscall", "sync_file_range2"].contains(&name.as_str());
            if is_other || (403..424).contains(&number) {
                continue;
            }
            // The 64-bit name comes a hundred lines further down.
            let name = if arch == "aarch64" && name == "fstatat" { "newfstatat" } else { &name };
            assert!(known.names().contains(&(number, name)), "{arch}: {number} is {name}");
            same += 1;
        }
        assert!(same >= least, "{arch}: {same} in the header");
    }
}

/// Every event of this kernel has a name in the table, except those with another name inside the kernel.
#[test]
fn names_of_the_kernel() {
    let events = "/sys/kernel/tracing/events/syscalls";
    let Ok(directory) = fs::read_dir(events) else {
        eprintln!("skipped: `{events}` cannot be read");
        return;
    };
    let names: BTreeSet<&str> = SyscallDecoder::new().names().iter().map(|(_, name)| *name).collect();
    let inside = ["newstat", "newfstat", "newlstat", "newuname", "sendfile64", "umount"];
    // Calls that are newer than the table have a number, not a name.
    let later = |name: &str| name.starts_with("rseq_");
    for entry in directory.flatten() {
        let file = entry.file_name().to_string_lossy().into_owned();
        let Some(name) = file.strip_prefix("sys_enter_") else { continue };
        assert!(names.contains(name) || inside.contains(&name) || later(name), "`{name}` has no number");
    }
}
