use super::*;
use tempfile::TempDir;

/// A host on which probes run, with little BTF: three small types.
fn host() -> (TempDir, Host) {
    let dir = tempfile::tempdir().unwrap();
    let paths = Host { proc: dir.path().join("proc"), sys: dir.path().join("sys"), ..Host::default() };
    write(&paths.proc.join("sys/kernel/osrelease"), "6.1.7-host\n");
    write(&paths.proc.join("self/status"), "CapEff:\t000001ffffffffff\n");
    write(&paths.proc.join("self/uid_map"), "         0          0 4294967295\n");
    write(&paths.sys.join("devices/system/cpu/possible"), "0-5\n");
    write(&paths.sys.join("kernel/security/lockdown"), "none [integrity] confidentiality\n");
    let tracing = paths.sys.join("kernel/tracing");
    write(&tracing.join("available_events"), "block:block_rq_issue\nsched:sched_switch\nbroken\n");
    write(&tracing.join("events/sched/sched_switch/format"), "name: sched_switch\n");
    write(&tracing.join("secret/format"), "not for everyone\n");
    (dir, paths)
}

fn write(path: &Path, text: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// BTF with one integer type, `x`.
fn little_btf() -> Vec<u8> {
    let words: [u32; 10] = [0x0001_eb9f, 24, 0, 16, 16, 3, 1, 1 << 24, 4, 32];
    words.iter().flat_map(|word| word.to_le_bytes()).chain(*b"\0x\0").collect()
}

fn messages(missing: &[Missing]) -> String {
    let line = |one: &Missing| format!("{} [{}]", one.message, one.hint.as_deref().unwrap_or(""));
    missing.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn refused(kernel: &Kernel) -> String {
    messages(&kernel.requirements().unwrap_err())
}

#[test]
fn a_whole_host_is_described() {
    let (_dir, paths) = host();
    write(&paths.sys.join("kernel/btf/vmlinux"), little_btf());
    let kernel = Kernel::detect(&paths);
    assert_eq!((kernel.release.as_str(), kernel.version), ("6.1.7-host", KernelVersion(6, 1, 7)));
    assert_eq!(kernel.btf.as_ref().unwrap().len(), 1);
    assert_eq!(kernel.tracefs.as_ref().unwrap().directory(), paths.sys.join("kernel/tracing"));
    let target = kernel.target();
    assert_eq!((target.kernel, target.possible_cpus), (KernelVersion(6, 1, 7), 6));
    assert!(target.btf.is_some());
    assert!(kernel.requirements().is_ok());
    assert!(kernel.limitations().is_empty());
}

#[test]
fn tracepoints_are_read_when_asked_for() {
    let (_dir, paths) = host();
    let kernel = Kernel::detect(&paths);
    let tracepoints = kernel.target().tracepoints;
    assert_eq!(tracepoints.format("sched", "sched_switch").as_deref(), Some("name: sched_switch\n"));
    assert_eq!(tracepoints.format("sched", "none"), None);
    assert_eq!(tracepoints.format("..", "secret"), None, "stays among the events");
    let expected = [("block", "block_rq_issue"), ("sched", "sched_switch")];
    assert!(tracepoints.all().iter().map(|(category, name)| (category.as_str(), name.as_str())).eq(expected));
}

#[test]
fn tracefs_is_also_found_under_debugfs_or_where_told() {
    let (_dir, mut paths) = host();
    let elsewhere = paths.sys.join("kernel/debug/tracing");
    fs::create_dir(elsewhere.parent().unwrap()).unwrap();
    fs::rename(paths.sys.join("kernel/tracing"), &elsewhere).unwrap();
    fs::create_dir(paths.sys.join("kernel/tracing")).unwrap();
    assert_eq!(Kernel::detect(&paths).tracefs.unwrap().directory(), elsewhere);
    paths.tracefs = Some(paths.sys.join("nowhere"));
    let missing = Kernel::detect(&paths).tracefs.unwrap_err();
    let hint = missing.hint.unwrap();
    assert!(hint.starts_with("mount -t tracefs tracefs /") && hint.ends_with("/sys/nowhere"), "{hint}");
}

#[test]
fn one_of_btf_and_tracefs_will_do() {
    let (_dir, paths) = host();
    let kernel = Kernel::detect(&paths);
    assert!(kernel.requirements().is_ok());
    assert!(messages(&kernel.limitations()).contains("CONFIG_DEBUG_INFO_BTF"));
    fs::remove_dir_all(paths.sys.join("kernel/tracing")).unwrap();
    let kernel = Kernel::detect(&paths);
    let refused = refused(&kernel);
    assert!(
        refused.contains("this kernel has no BTF") && refused.contains("tracefs is not mounted"),
        "{refused}"
    );
    assert!(kernel.limitations().is_empty(), "said once");
    assert!(kernel.target().tracepoints.all().is_empty());
    assert_eq!(kernel.target().tracepoints.format("sched", "sched_switch"), None);
}

#[test]
fn damaged_btf_says_so() {
    let (_dir, mut paths) = host();
    let btf = paths.proc.join("btf");
    write(&btf, &little_btf()[..30]);
    paths.btf = Some(btf);
    let missing = Kernel::detect(&paths).btf.unwrap_err();
    assert!(missing.message.ends_with("is damaged: truncated BTF: the type section reaches past the end"));
}

#[test]
fn capabilities_are_asked_for_by_the_names_this_kernel_has() {
    let (_dir, paths) = host();
    let status = paths.proc.join("self/status");
    write(&status, "CapEff:\t0000000000000000\n");
    assert!(refused(&Kernel::detect(&paths)).starts_with("this process lacks CAP_BPF and CAP_PERFMON ["));
    write(&status, "CapEff:\t0000004000000000\n");
    assert!(refused(&Kernel::detect(&paths)).starts_with("this process lacks CAP_BPF ["));
    write(&status, "CapEff:\t000000c000000000\n");
    assert!(Kernel::detect(&paths).requirements().is_ok());
    write(&paths.proc.join("sys/kernel/osrelease"), "5.4.0-9\n");
    let limits = paths.proc.join("self/limits");
    write(
        &limits,
        "Limit                     Soft Limit           Hard Limit           Units     \nMax locked memory         unlimited            unlimited            bytes     \n",
    );
    let kernel = Kernel::detect(&paths);
    assert_eq!(kernel.locked_limit(), None);
    assert!(!messages(&kernel.limitations()).contains("LimitMEMLOCK"), "nothing limits it");
    write(&limits, "Max locked memory         65536                65536                bytes     \n");
    assert_eq!(kernel.locked_limit(), Some(65_536));
    assert!(refused(&kernel).starts_with("this process lacks CAP_SYS_ADMIN ["));
    let limitations = messages(&kernel.limitations());
    assert!(limitations.contains("Linux 5.4 is older than 5.10"), "{limitations}");
    assert!(limitations.contains("may have 64 KiB (RLIMIT_MEMLOCK)"), "{limitations}");
    assert!(limitations.contains("LimitMEMLOCK=infinity"), "{limitations}");
}

#[test]
fn a_format_that_cannot_be_read_is_no_tracepoint_that_is_missing() {
    let (_dir, paths) = host();
    let kernel = Kernel::detect(&paths);
    let unreadable =
        |name: &str| kernel.target().tracepoints.unreadable("sched", name).map(|missing| missing.message);
    assert_eq!((unreadable("sched_switch"), unreadable("none"), unreadable("../x")), (None, None, None));
    // The user who runs this test may read every file, but a directory is not one.
    fs::create_dir_all(paths.sys.join("kernel/tracing/events/sched/broken/format")).unwrap();
    let message = unreadable("broken").unwrap();
    assert!(message.contains("events/sched/broken/format` cannot be read: Is a directory"), "{message}");
}

#[test]
fn lockdown_and_user_namespaces_are_named() {
    let (_dir, paths) = host();
    write(&paths.sys.join("kernel/security/lockdown"), "none integrity [confidentiality]\n");
    write(&paths.proc.join("self/uid_map"), "0 100000 65536\n");
    let refused = refused(&Kernel::detect(&paths));
    assert!(refused.contains("locked down") && refused.contains("user namespace"), "{refused}");
}

#[test]
fn an_empty_host_is_no_panic() {
    let dir = tempfile::tempdir().unwrap();
    let paths = Host { proc: dir.path().into(), sys: dir.path().into(), ..Host::default() };
    let kernel = Kernel::detect(&paths);
    assert_eq!(kernel.target().possible_cpus, 1);
    let refused = kernel.requirements().unwrap_err();
    assert_eq!(refused.len(), 5, "{}", messages(&refused));
    assert!(kernel.limitations().iter().all(|one| !one.message.contains("older")));
}

#[test]
fn this_host_is_described() {
    let kernel = Kernel::detect(&Host::default());
    println!("{} {:?} {:?}", kernel.release, kernel.version, kernel.requirements());
    assert!(kernel.version > KernelVersion(4, 0, 0));
    assert!(kernel.possible_cpus >= 1);
    if let Ok(btf) = &kernel.btf {
        assert!(btf.find("task_struct", tapster_ebpf::btf::BtfKind::Struct).is_some());
    } else {
        println!("skipped: this kernel has no BTF");
    }
    if kernel.tracefs.is_err() {
        println!("skipped: tracefs cannot be read");
        return;
    }
    let all = kernel.all();
    assert!(all.iter().any(|(category, name)| category == "sched" && name == "sched_switch"));
    let format = kernel.format("sched", "sched_switch").unwrap();
    assert!(tapster_ebpf::tracefs::fields(&format).iter().any(|field| field.name == "prev_pid"));
}

/// How long start-up waits for the kernel's features; printed, not judged. For a release build.
#[test]
#[ignore = "a measurement"]
fn detect_takes() {
    for _ in 0..5 {
        let start = sys::monotonic_ns();
        let kernel = Kernel::detect(&Host::default());
        let detected = sys::monotonic_ns();
        let all = kernel.all().len();
        let listed = sys::monotonic_ns();
        let btf = kernel.btf.as_ref().unwrap();
        for name in ["task_struct", "request", "sk_buff", "inode", "nonexistent_struct"] {
            btf.find(name, tapster_ebpf::btf::BtfKind::Struct);
        }
        let found = sys::monotonic_ns();
        kernel.format("sched", "sched_switch").unwrap();
        let formatted = sys::monotonic_ns();
        println!(
            "detect {} us ({} types), {all} tracepoints {} us, 5 finds {} us, format {} us",
            (detected - start) / 1000,
            btf.len(),
            (listed - detected) / 1000,
            (found - listed) / 1000,
            (formatted - found) / 1000,
        );
    }
}
