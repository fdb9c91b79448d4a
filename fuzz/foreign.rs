//! What is fuzzed of the exporter: bytes that users of the host, containers and clients write. Each takes any bytes and must not
//! panic, and costs what its budget says, whatever the bytes promise.
//!
//! `tests/fuzz.rs` runs all of them for a moment on mutations of the seeds, as part of the tests; CONTRIBUTING says how to run one with
//! coverage.

use std::{fs::File, io::Write, path::Path, time::Duration};
use tapster::{
    container::{Container, pod_uid},
    elf::{self, Binary, FileSymbols, MachineCode, Name, ReadLimits},
    exposition::{Format, encode},
    family::{FamilyKind, MetricFamily},
    import::{ForeignFormat, ImportHints, import},
    kernel::offline::{self, KernelHints},
    symbol::mapping,
};
use tapster_ebpf::{attach::Arch, diagnostic::SourceFile, probe::KernelVersion};

/// What a file may cost here: little, so that it is seen soon that something costs more.
const LIMITS: ReadLimits = ReadLimits {
    bytes: 16 << 20,
    symbols: 1 << 16,
    memory: 1 << 20,
    code: 1 << 20,
    unpacked: 1 << 20,
    time: Duration::from_secs(5),
};
/// Longest name that demangling makes of a symbol which is shorter.
const LONGEST_NAME: usize = 16 << 10;
/// Most functions of a file that are looked at.
const FUNCTIONS: usize = 64;

fn file(data: &[u8]) -> std::io::Result<File> {
    let mut file = tempfile::tempfile_in("/dev/shm")?;
    file.write_all(data)?;
    Ok(file)
}

/// What somebody says is a kernel: BTF, ELF, boot images, archives, packed or not; then probes are compiled for it.
pub(crate) fn kernels(data: &[u8]) {
    let said = KernelHints { version: Some(KernelVersion(6, 1, 0)), arch: Some(Arch::X86_64) };
    let (file, _) = tapster_ebpf::declaration::parse(&SourceFile::new("fuzz", KERNEL_PROBES));
    for kernel in offline::of_bytes(Path::new("fuzz"), data.to_vec(), said).into_iter().flatten() {
        for probe in &file.probes {
            kernel.forget();
            match tapster_ebpf::compile(probe, &kernel.target()) {
                Ok(program) => drop(kernel.refuses(&program)),
                Err(errors) => drop(kernel.doubt_of(&errors)),
            }
            let _ = (kernel.doubts(), kernel.beliefs());
        }
    }
}

/// Probes of the kernel of each kind.
const KERNEL_PROBES: &str = "probes:
  - { name: t, at: 'tracepoint:block:block_rq_issue', labels: { a: args.dev, b: args.comm }, metrics: [{ counter: t_total }] }
  - { name: s, at: 'tracepoint:syscalls:sys_enter_fsync', labels: { a: args.fd }, metrics: [{ counter: s_total }] }
  - { name: r, at: 'rawtracepoint:sched:sched_switch', labels: { a: args.prev.pid }, metrics: [{ counter: r_total }] }
  - { name: f, at: 'fentry:vfs_read', labels: { a: args.count }, metrics: [{ counter: f_total }] }
  - { name: k, at: 'kprobe:vfs_*', labels: { a: arg0 }, metrics: [{ counter: k_total }] }
";

/// A program or library: its symbols by place, its functions with where they end, its build id and its probes.
pub(crate) fn elf(data: &[u8]) {
    if let Ok(symbols) = FileSymbols::read(&data, LIMITS) {
        assert!(symbols.memory() <= 4 << 20, "{} bytes are kept", symbols.memory());
        for offset in [0, 1, 0x1000, 0x1020, u64::MAX] {
            let _ = (symbols.at(offset), symbols.address(offset));
        }
    }
    let _ = elf::build_id(&data);
    let file = file(data).expect("a file in memory can be made");
    let binary = || {
        let file = file.try_clone().expect("a file can be opened twice");
        let id = elf::file_id(&file.metadata().expect("an open file can be looked at"));
        Binary { path: "fuzz".into(), place: "fuzz".into(), file, id, limits: LIMITS }
    };
    let _ = elf::usdt_probes(&binary());
    if let Ok(functions) = elf::read(binary()) {
        let mut left = functions.most_code();
        for function in functions.list.iter().take(FUNCTIONS) {
            let _ = functions.exits(function, &mut left);
        }
        for address in [functions.start, 0, u64::MAX] {
            let _ = functions.at(address);
        }
    }
}

/// A symbol of some language: what is shown of it is not much longer than it is.
pub(crate) fn names(data: &[u8]) {
    let symbol = String::from_utf8_lossy(data);
    let name = Name::new(&symbol);
    for shown in [&*elf::short(&symbol), &name.shown] {
        assert!(shown.len() <= symbol.len().max(LONGEST_NAME), "{} bytes of {}", shown.len(), symbol.len());
    }
    assert!(name.is(&name.shown), "a name is itself");
}

/// Code of a function: ways out of it are in it.
pub(crate) fn code(data: &[u8]) {
    let Some((address, bytes)) = data.split_first_chunk() else { return };
    let address = u64::from_le_bytes(*address);
    let (first, second) = bytes.split_at(bytes.len() / 2);
    let part = |address, offset: usize, bytes: &[u8]| MachineCode {
        address,
        offset: u64::try_from(offset).unwrap_or(0),
        bytes: bytes.to_vec(),
    };
    let parts = [part(address, 0, first), part(address.rotate_left(32), first.len(), second)];
    for arch in [Arch::X86_64, Arch::Aarch64] {
        for sized in [false, true] {
            let Ok(exits) = elf::exits(arch, &parts, sized) else { continue };
            for place in exits.returns.iter().chain(exits.jumps.iter().map(|(place, _)| place)) {
                assert!(usize::try_from(*place).is_ok_and(|place| place < bytes.len()), "{place:#x}");
            }
        }
    }
}

/// The dynamic linker's list of libraries.
pub(crate) fn libraries(data: &[u8]) {
    for name in ["libc", "libc.so.6", ""] {
        let found = elf::libraries_named(data, name).unwrap_or_default();
        assert!(found.iter().all(|path| path.as_os_str().len() <= data.len()));
    }
}

/// Mappings of a process, whose files may have any name.
pub(crate) fn maps(data: &[u8]) {
    let found = mapping::read(data);
    assert!(found.len() <= data.split(|byte| *byte == b'\n').count());
}

/// Paths of cgroups.
pub(crate) fn containers(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    for container in [Container::of(&text), Container::in_path(&text)].into_iter().flatten() {
        assert!(text.replace("\\x2d", "-").contains(container.shown()), "{container:?} is not in `{text}`");
    }
    if let Some(uid) = pod_uid(&text) {
        assert!(text.replace('_', "-").contains(&uid.replace('_', "-")), "`{uid}` is not in `{text}`");
    }
}

/// Values of labels: each sample stays one line, whatever they are made of.
pub(crate) fn labels(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut family = MetricFamily::new("tapster_fuzz", "Fuzz.", FamilyKind::Gauge, &["value", "other"]);
    for (index, value) in text.split('\0').enumerate() {
        family.push(&[value, &index.to_string()], 1.0);
    }
    let samples = family.samples.len();
    for (format, end) in [(Format::Text, ""), (Format::OpenMetrics, "# EOF\n")] {
        let encoded = encode([family.clone()], format);
        assert_eq!(encoded.left_out, []);
        let body = String::from_utf8(encoded.body).expect("what is exposed is UTF-8");
        let lines = body.strip_suffix(end).unwrap_or(&body).split_terminator('\n');
        let of_samples = lines.filter(|line| !line.starts_with('#'));
        assert!(
            of_samples.clone().all(|line| line.starts_with("tapster_fuzz{value=\"") && line.ends_with(" 1")
                || line.ends_with(" 1.0")),
            "{body}"
        );
        assert_eq!(of_samples.count(), samples, "{body}");
    }
    assert_eq!(encode([family], Format::Protobuf).left_out, []);
}

/// What a client would like to get.
pub(crate) fn accept(data: &[u8]) {
    let _ = Format::negotiate(Some(&String::from_utf8_lossy(data)));
}

/// A script of bpftrace, or the YAML of `ebpf_exporter`: whatever it is, what comes of it is a file of probes without a mistake.
pub(crate) fn imports(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let hints =
        ImportHints { parameters: vec!["1".into(), "two".into()], code: Some(text.clone().into_owned()) };
    for (name, format) in [("fuzz.bt", ForeignFormat::Bpftrace), ("fuzz.yaml", ForeignFormat::EbpfExporter)] {
        let file = SourceFile::new(name, text.clone());
        match import(&file, format, &hints) {
            Ok(made) => {
                let (parsed, diagnostics) =
                    tapster_ebpf::declaration::parse(&SourceFile::new("made", &made.text));
                let wrong = diagnostics.iter().find(|diagnostic| diagnostic.is_error());
                assert!(
                    wrong.is_none(),
                    "{}\n{}",
                    wrong.map(ToString::to_string).unwrap_or_default(),
                    made.text
                );
                assert_eq!(parsed.probes.len(), made.probes.len());
                for remark in &made.remarks {
                    assert!(!remark.told(&file).to_string().contains('\n'));
                }
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}
