//! `path`: compiled programs beside the evaluator and beside the names that were put into memory, of files, paths and entries of directories.
#![allow(
    clippy::unwrap_used,
    clippy::format_push_string,
    clippy::format_collect,
    reason = "a panic is the report"
)]

use tapster_testing::compiler as support;

use support::{
    case::{self, Case, Frame, compile, context},
    world::{World, file as at},
};
use tapster_ebpf::{
    layout::DropReason,
    probe::KernelVersion,
    program::DROPS,
    vm::{Environment, Vm},
};

const FILE: u64 = 0xffff_8880_0000_1000;
const MOUNT: u64 = 0xffff_8880_0000_2000;
const FIRST: u64 = 0xffff_8880_0100_0000;
const APART: u64 = 0x1000;
const NAME: u64 = 0x800;

/// Entries of directories in memory.
struct Entries {
    env: Environment,
    count: u64,
}

fn put(block: &mut [u8], offset: usize, value: u64) {
    block[offset..offset + 8].copy_from_slice(&value.to_le_bytes());
}

impl Entries {
    fn new() -> Self {
        Self { env: Environment { cpus: 1, ..Environment::default() }, count: 0 }
    }

    /// Makes an entry; a root is above itself.
    fn add(&mut self, parent: Option<u64>, name: &str) -> u64 {
        let here = FIRST + self.count * APART;
        self.count += 1;
        let mut entry = vec![0; 32];
        put(&mut entry, at::PARENT, parent.unwrap_or(here));
        let length = u32::try_from(name.len()).unwrap().to_le_bytes();
        entry[at::NAME + at::NAME_LENGTH..at::NAME + at::NAME_LENGTH + 4].copy_from_slice(&length);
        put(&mut entry, at::NAME + at::NAME_BYTES, here + NAME);
        self.env.kernel.insert(here, entry);
        self.env.kernel.insert(here + NAME, [name.as_bytes(), b"\0"].concat());
        here
    }

    /// Makes the entries of a path, and returns all, the root first.
    fn path(&mut self, path: &str) -> Vec<u64> {
        let mut all = vec![self.add(None, "/")];
        for name in path.split('/').filter(|name| !name.is_empty()) {
            all.push(self.add(all.last().copied(), name));
        }
        all
    }

    /// Makes the file of an entry in a mount of what is below another.
    fn file(&mut self, entry: u64, root: u64) {
        let mut mount = vec![0; 16];
        put(&mut mount, at::MOUNT_ROOT, root);
        let mut file = vec![0; 32];
        put(&mut file, at::PATH + at::PATH_MOUNT, MOUNT);
        put(&mut file, at::PATH + at::PATH_DENTRY, entry);
        self.env.kernel.insert(MOUNT, mount);
        self.env.kernel.insert(FILE, file);
    }
}

/// A probe with these labels.
fn compiled(labels: &[&str], kernel: KernelVersion) -> Case {
    let world = World::new();
    let labels: Vec<String> =
        labels.iter().zip(0..).map(|(value, index)| format!("l{index}: '{value}'")).collect();
    let head = format!("    at: rawtracepoint:test:file\n    labels: {{ {} }}\n", labels.join(", "));
    let target = tapster_ebpf::attach::Target { kernel, ..world.target(1) };
    compile(&Frame { head }, &["1".into()], &target).unwrap()
}

/// The labels that the program makes of a file, which are those of the language.
fn texts(case: &Case, entries: &Entries, entry: u64) -> (Vec<String>, Vm) {
    let context = context(&[FILE, entry]);
    let mut vm = case.machine(entries.env.clone());
    // Twice: what the first left in memory does not matter to the second.
    case.run(&mut vm, &context, 0);
    case.run(&mut vm, &context, 0);
    let (got, expected) = (case.rows(&vm), case.expected(&entries.env, &context, 0));
    assert_eq!(got, expected, "{}", case.yaml);
    assert_eq!(got.len(), 1);
    let key = &got[0].0;
    let text = |slot: &tapster_ebpf::layout::Slot| {
        let bytes = &key[usize::try_from(slot.offset).unwrap()..][..usize::try_from(slot.size).unwrap()];
        let end = bytes.iter().position(|byte| *byte == 0).unwrap();
        assert!(bytes[end..].iter().all(|byte| *byte == 0), "{bytes:?}");
        String::from_utf8(bytes[..end].to_vec()).unwrap()
    };
    (case.program.layout.labels.iter().map(text).collect(), vm)
}

fn dropped(vm: &Vm, reason: DropReason) -> u64 {
    let drops = vm.map(usize::try_from(DROPS).unwrap());
    u64::from_le_bytes(drops.get_cpu(&reason.index().to_le_bytes(), 0).unwrap()[..8].try_into().unwrap())
}

const LABELS: [&str; 3] = ["path(args.file, 64)", "path(args.file.f_path, 64)", "path(args.dentry, 64)"];

#[test]
fn within_the_mount_and_within_the_file_system() {
    for kernel in [KernelVersion(5, 10, 0), KernelVersion(6, 9, 0)] {
        let case = compiled(&LABELS, kernel);
        for (path, mounted_at, in_mount) in [
            ("/", 0, "/"),
            ("/a", 0, "/a"),
            ("/usr/lib/libc.so.6", 0, "/usr/lib/libc.so.6"),
            ("/usr/lib/libc.so.6", 1, "/lib/libc.so.6"),
            ("/usr/lib/libc.so.6", 3, "/"),
        ] {
            let mut entries = Entries::new();
            let all = entries.path(path);
            let last = *all.last().unwrap();
            entries.file(last, all[mounted_at]);
            let (texts, vm) = texts(&case, &entries, last);
            assert_eq!(texts, [in_mount, in_mount, path], "{path} from {mounted_at}");
            for reason in [DropReason::Fault, DropReason::Busy] {
                assert_eq!(dropped(&vm, reason), 0);
            }
        }
    }
}

/// Sockets, pipes and the like are in no directory.
#[test]
fn without_a_directory() {
    let case = compiled(&LABELS, KernelVersion(6, 9, 0));
    for name in ["[eventfd]", ""] {
        let mut entries = Entries::new();
        let entry = entries.add(None, name);
        let root = entries.add(None, "/");
        entries.file(entry, root);
        let (texts, _) = texts(&case, &entries, entry);
        assert_eq!(texts, [name; 3]);
    }
}

/// What does not fit is missing at the beginning, and the text says so.
#[test]
fn long_paths() {
    let labels =
        ["path(args.dentry, 16)", "path(args.dentry, 20)", "path(args.dentry)", "path(args.dentry, 256)"];
    // The rooms without the NUL and the mark.
    let rooms = [11, 15, 123, 251];
    let case = compiled(&labels[..3], KernelVersion(6, 9, 0));
    let longest = compiled(&labels[3..], KernelVersion(6, 9, 0));
    for length in (0..30).chain(100..140).chain(230..=255) {
        for before in ["", "/a", "/directory/of/files"] {
            let mut entries = Entries::new();
            let name = "n".repeat(length);
            let path = if length == 0 && before.is_empty() { "/".into() } else { format!("{before}/{name}") };
            let path = if length == 0 && !before.is_empty() { before.to_owned() } else { path };
            let last = *entries.path(&path).last().unwrap();
            let (mut found, _) = texts(&case, &entries, last);
            found.extend(texts(&longest, &entries, last).0);
            for (found, room) in found.iter().zip(rooms) {
                if path.len() <= room {
                    assert_eq!(*found, path);
                    continue;
                }
                let rest = found.strip_prefix("~cut").unwrap();
                assert!(path.ends_with(rest) && rest.len() <= room, "{found} of {path}");
                // One name more would not fit.
                let next = path[..path.len() - rest.len()].rsplit('/').next().unwrap();
                assert!(rest.len() + next.len() + 1 > room, "{found} of {path} in {room}");
                assert!(rest.is_empty() || rest.starts_with('/'), "{found}");
            }
        }
    }
}

#[test]
fn more_names_than_are_followed() {
    let case = compiled(&["path(args.dentry, 256)"], KernelVersion(6, 9, 0));
    for (names, expected) in [(63, "/d".repeat(63)), (64, format!("~cut{}", "/d".repeat(64)))] {
        let mut entries = Entries::new();
        let last = *entries.path(&"/d".repeat(names)).last().unwrap();
        assert_eq!(texts(&case, &entries, last).0, [expected], "{names}");
    }
}

/// What cannot be read is an empty text, and is counted.
#[test]
fn unreadable() {
    let case = compiled(&["path(args.dentry)"], KernelVersion(6, 9, 0));
    let mut entries = Entries::new();
    let all = entries.path("/a/b/c");
    entries.env.kernel.remove(&(all[1] + NAME));
    let (found, vm) = texts(&case, &entries, all[3]);
    assert_eq!((found, dropped(&vm, DropReason::Fault)), (vec![String::new()], 2));
    let (found, vm) = texts(&case, &entries, 0);
    assert_eq!((found, dropped(&vm, DropReason::Fault)), (vec![String::new()], 0));
}

/// As a text like others: compared, searched, cut, chosen; and memory that another run uses is not waited for.
#[test]
fn a_text_like_others() {
    let labels = [
        "prefix(path(args.dentry), \"/usr/\")",
        "contains(path(args.dentry), \"lib\")",
        "str(path(args.dentry), 5)",
        "path(args.dentry) == \"/usr/lib/x\" ? path(args.dentry, 32) : \"no\"",
        "name",
    ];
    let world = World::new();
    let labels: Vec<String> =
        labels.iter().zip(0..).map(|(value, index)| format!("l{index}: '{value}'")).collect();
    let head = format!(
        "    at: rawtracepoint:test:file\n    let: {{ name: 'path(args.file.f_path.dentry, 40)' }}\n    labels: {{ {} }}\n",
        labels.join(", ")
    );
    let case = compile(&Frame { head }, &["1".into()], &world.target(1)).unwrap();
    for path in ["/usr/lib/x", "/usr/bin/y", "/"] {
        let mut entries = Entries::new();
        let all = entries.path(path);
        let last = *all.last().unwrap();
        entries.file(last, all[0]);
        let context = context(&[FILE, last]);
        let mut vm = case.machine(entries.env.clone());
        case.run(&mut vm, &context, 0);
        assert_eq!(case.rows(&vm), case.expected(&entries.env, &context, 0), "{path}");
        let map = usize::try_from(case.program.map_named("paths").unwrap()).unwrap();
        let mut memory = vm.map(map).get_cpu(&[0; 4], 0).unwrap().to_vec();
        assert_eq!(memory[..8], [0; 8], "it is given back");
        memory[0] = 1;
        vm.map_mut(map).insert(&[0; 4], &memory).unwrap();
        case.run(&mut vm, &context, 0);
        assert!(dropped(&vm, DropReason::Busy) > 0);
    }
}

#[test]
fn what_is_refused() {
    let world = World::new();
    let files = "`path` takes a `struct file *`, a `struct path` or a `struct dentry *`";
    for (expression, message) in [
        ("path() == \"a\"", "`path` takes a file, and optionally a size"),
        ("path(args.file, 64, 1) == \"a\"", "`path` takes a file, and optionally a size"),
        ("path(args.file, 8) == \"a\"", "the size of a path must be a constant from 16 to 256"),
        ("path(args.file, tid) == \"a\"", "the size of a path must be a constant from 16 to 256"),
        ("path(tid) == \"a\"", files),
        ("path(comm) == \"a\"", files),
        ("path(curtask) == \"a\"", files),
    ] {
        let yaml = Frame::at("test:file").yaml(&[expression.to_owned()]);
        let problems = tapster_ebpf::compile(&case::parse(&yaml).unwrap(), &world.target(1)).unwrap_err();
        assert_eq!(problems[0].message, message, "{expression}");
    }
    let head = "    at: rawtracepoint:test:file\n    each: { name: item, from: args.dentry, next: item.d_parent, limit: 4 }\n";
    let yaml = Frame { head: head.into() }.yaml(&["path(item) == \"a\"".to_owned()]);
    let problems = tapster_ebpf::compile(&case::parse(&yaml).unwrap(), &world.target(1)).unwrap_err();
    assert_eq!(problems[0].message, "`path` is a walk of its own, and cannot be used in a probe with `each`");
}
