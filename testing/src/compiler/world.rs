//! A small artificial kernel for tests: two structs, two tracepoints, and memory with some of those structs in it.

use super::{btf::Builder, random::Random};
use std::collections::BTreeMap;
use tapster_ebpf::{
    attach::{
        Arch, Functions, Missing, Place, Site, SiteRequest, Sites, Target, UnknownSymbol, UserFunctions,
    },
    btf::Btf,
    probe::{KernelVersion, Root},
    tracefs::Tracepoints,
    usdt::{self, FileId, Location, UsdtProbe},
};

/// Locations of the only USDT probe, which every program has.
const LOCATIONS: [&str; 3] =
    ["8@%rdi -4@%eax 2@%dh", "8@%rdi -4@-20(%rbp,%rax,4) 1@$200", "8@8(%rbx) -4@$-1 8@%xmm0"];

/// Bytes of `struct node`.
pub const NODE: usize = 168;
/// Offsets of its pointers.
const NEXT: usize = 0;
const INNER: usize = 88;
const TEXT: usize = 96;
const NUMBERS: usize = 112;

/// Symbols, with their addresses. BTF has the variables whose type the name says; `node_of_cpu` and `numbers_of_cpu` are in each CPU.
pub const SYMBOLS: [(&str, u64); 7] = [
    ("untyped", 0xffff_ffff_8200_0000),
    ("some_function", 0xffff_ffff_8100_0040),
    ("one_node", 0xffff_ffff_8200_0100),
    ("some_numbers", 0xffff_ffff_8200_0200),
    ("node_of_cpu", 0x1_0000),
    ("numbers_of_cpu", 0x1_0100),
    ("__per_cpu_offset", 0xffff_ffff_8200_0300),
];

/// Tracepoints `test:untyped`, which is not in BTF, `test:typed`, `test:task` with a `task_struct`, and `test:record` with a
/// format; those of `alike` have formats of which two agree; and the one at which a task is gone.
#[derive(Debug)]
pub struct World {
    pub btf: Btf,
}

/// Offsets in the structs of cgroups, which are as [`World::new`] has them; before 6.1 a cgroup did not know those above it.
pub mod cgroup {
    pub const TASK_CGROUPS: usize = 16;
    pub const SET_CPU: usize = 8;
    pub const SET_DEFAULT: usize = 16;
    pub const STATE_CGROUP: usize = 0;
    pub const STATE_PARENT: usize = 8;
    pub const LEVEL: usize = 20;
    pub const NODE: usize = 24;
    pub const ROOT: usize = 32;
    pub const ANCESTORS: usize = 40;
    pub const NODE_NAME: usize = 8;
    pub const NODE_ID: usize = 16;
    pub const HIERARCHY: usize = 4;
}

/// Fields of every width and sign, texts of every form.
const RECORD: &str = "format:
	field:u8 a;	offset:8;	size:1;	signed:0;
	field:s8 b;	offset:9;	size:1;	signed:1;
	field:u16 c;	offset:10;	size:2;	signed:0;
	field:s16 d;	offset:12;	size:2;	signed:1;
	field:u32 e;	offset:16;	size:4;	signed:0;
	field:int f;	offset:20;	size:4;	signed:1;
	field:unsigned long g;	offset:24;	size:8;	signed:0;
	field:long h;	offset:32;	size:8;	signed:1;
	field:char name[16];	offset:40;	size:16;	signed:0;
	field:__data_loc char[] near;	offset:56;	size:4;	signed:0;
	field:__rel_loc char[] far;	offset:60;	size:4;	signed:0;
	field:short many[4];	offset:64;	size:8;	signed:1;
	field:const char * text;	offset:72;	size:8;	signed:0;
";

/// A number and something else, which all of `alike` have.
const ALIKE: [(&str, &str); 3] = [
    (
        "one",
        "	field:int number;	offset:8;	size:4;	signed:1;
	field:const char * text;	offset:16;	size:8;	signed:0;
",
    ),
    (
        "two",
        "	field:int number;	offset:8;	size:4;	signed:1;
	field:char name[16];	offset:16;	size:16;	signed:0;
",
    ),
    (
        "other",
        "	field:int number;	offset:12;	size:4;	signed:1;
	field:const char *const * list;	offset:16;	size:8;	signed:0;
	field:struct node **nodes;	offset:24;	size:8;	signed:0;
	field:const unsigned * counts;	offset:32;	size:8;	signed:0;
	field:const struct node *const node;	offset:40;	size:8;	signed:0;
",
    ),
];
/// `sched:sched_process_free`
const FREE: &str = "format:\n\tfield:pid_t pid;\toffset:24;\tsize:4;\tsigned:1;\n";

impl Tracepoints for World {
    fn format(&self, category: &str, name: &str) -> Option<String> {
        let known = self.all().contains(&(category.into(), name.into()));
        let alike = ALIKE.iter().find(|(known, _)| category == "alike" && *known == name);
        known.then(|| match (alike, name) {
            (Some((_, fields)), _) => (*fields).into(),
            (None, "record") => RECORD.into(),
            (None, "sched_process_free") => FREE.into(),
            (None, _) => String::new(),
        })
    }

    fn all(&self) -> Vec<(String, String)> {
        let test = ["untyped", "typed", "stop", "more", "record", "task", "file"].map(|name| ("test", name));
        let all = test.into_iter().chain(ALIKE.map(|(name, _)| ("alike", name)));
        let all = all.chain([("sched", "sched_process_free")]);
        all.map(|(category, name)| (category.into(), name.into())).collect()
    }
}

/// A function of the kernel; two names of one function have one address.
fn function(name: &str) -> Site {
    let address = name.starts_with("one_function_").then_some(0xffff_ffff_8100_0000);
    Site::new(name, Place::Kernel { symbol: name.into(), address })
}

/// A file for each word; a word with a link means the file itself.
fn file(binary: &str) -> FileId {
    let binary = binary.trim_end_matches(".link");
    FileId { inode: binary.bytes().map(u64::from).sum(), ..FileId::default() }
}

/// Every function exists, and a pattern matches two.
impl Functions for World {
    fn traced(&self) -> Result<(), Missing> {
        Ok(())
    }

    fn probing(&self) -> Result<(), Missing> {
        Ok(())
    }

    fn probed(&self, wanted: &SiteRequest<'_>) -> Result<Sites, Missing> {
        let list = match wanted.function.split_once('*') {
            None => vec![function(wanted.function)],
            Some((before, after)) => {
                ["first", "second"].map(|name| Site::kernel(&format!("{before}{name}{after}"))).into()
            }
        };
        Ok(Sites { list, ..Sites::default() })
    }

    fn user(&self, _: &Root, binary: &str, wanted: &SiteRequest<'_>) -> Result<UserFunctions, Missing> {
        let site = |entry| Site::new(wanted.function, Place::File { entry, at: vec![entry] });
        let count = if wanted.function.contains('*') { 2 } else { 1 };
        let sites = (1..=count).map(site).collect();
        Ok(UserFunctions { file: binary.into(), id: file(binary), sites, ..UserFunctions::default() })
    }

    fn usdt(&self, _: &Root, binary: &str, provider: Option<&str>, name: &str) -> Result<UsdtProbe, Missing> {
        Ok(UsdtProbe {
            provider: provider.unwrap_or("test").into(),
            name: name.into(),
            file: file(binary),
            locations: LOCATIONS
                .iter()
                .map(|text| Location {
                    site: usdt::UsdtSite { offset: 0x100, semaphore: 0 },
                    address: 0x100,
                    arguments: usdt::arguments(text, Arch::X86_64),
                })
                .collect(),
        })
    }

    fn symbol(&self, name: &str) -> Result<u64, UnknownSymbol> {
        SYMBOLS.iter().find(|(known, _)| *known == name).map(|(_, address)| *address).ok_or_else(|| {
            UnknownSymbol {
                why: Missing { message: format!("this kernel has no symbol `{name}`"), hint: None },
                // As if the kernel hid them.
                is_absent: !name.starts_with("hidden"),
            }
        })
    }

    fn namespace(&self, _: &Root) -> Result<Option<u32>, Missing> {
        Ok(None)
    }
}

/// From 6.9 on, loops are bounded in another way.
const KERNELS: [KernelVersion; 2] = [KernelVersion(6, 1, 0), KernelVersion(6, 9, 0)];

impl World {
    pub fn new() -> Self {
        Self { btf: Btf::parse(types(true)).unwrap() }
    }

    /// The same with cgroups as before 6.1.
    pub fn without_ancestors() -> Self {
        Self { btf: Btf::parse(types(false)).unwrap() }
    }

    pub fn target(&self, possible_cpus: u32) -> Target<'_> {
        Target {
            btf: Some(&self.btf),
            tracepoints: self,
            kernel: KERNELS[0],
            possible_cpus,
            arch: Arch::X86_64,
            functions: self,
            command: false,
        }
    }

    /// The target for one kernel after the other, up to `newest`.
    pub fn target_in_turn(&self, possible_cpus: u32, turn: u64, newest: KernelVersion) -> Target<'_> {
        let kernel = KERNELS[usize::from(turn % 2 == 1)].min(newest);
        Target { kernel, ..self.target(possible_cpus) }
    }
}

/// Offsets in the structs of files.
pub mod file {
    pub const PARENT: usize = 8;
    pub const NAME: usize = 16;
    pub const NAME_LENGTH: usize = 4;
    pub const NAME_BYTES: usize = 8;
    pub const MOUNT_ROOT: usize = 8;
    pub const PATH: usize = 16;
    pub const PATH_MOUNT: usize = 0;
    pub const PATH_DENTRY: usize = 8;
}

fn types(ancestors: bool) -> Vec<u8> {
    let mut b = Builder::new();
    let u8_ = b.int("unsigned char", 1, false);
    let s8 = b.int("signed char", 1, true);
    let char_ = b.int("char", 1, true);
    let u16_ = b.int("unsigned short", 2, false);
    let s16 = b.int("short", 2, true);
    let u32_ = b.int("unsigned int", 4, false);
    let s32 = b.int("int", 4, true);
    let u64_ = b.int("unsigned long", 8, false);
    let s64 = b.int("long", 8, true);
    let text = b.pointer(char_);
    let numbers = b.pointer(u32_);
    b.pointer(0);
    let name = b.array(char_, u32_, 12);
    let short_name = b.array(char_, u32_, 5);
    let words = b.array(u16_, u32_, 5);
    let color = b.enumeration("color", &[("RED", -1), ("GREEN", 7)]);
    let inner = b.structure(
        "inner",
        16,
        &[
            ("a", u8_, 0, 0),
            ("b", s8, 8, 0),
            ("c", u16_, 16, 0),
            ("d", s16, 32, 0),
            ("e", u32_, 64, 0),
            ("f", s32, 96, 0),
        ],
    );
    let table = b.array(inner, u32_, 2);
    let inner_pointer = b.pointer(inner);
    let halves = b.structure("", 4, &[("lo", s16, 0, 0), ("hi", s16, 16, 0)]);
    let either = b.union("", 4, &[("word", u32_, 0, 0), ("low", s8, 0, 0), ("", halves, 0, 0)]);
    // A type may be referred to before it is written: the struct is the next one.
    let node_pointer = b.pointer(either + 2);
    let node = b.structure(
        "node",
        u32::try_from(NODE).unwrap(),
        &[
            ("next", node_pointer, 0, 0),
            ("big", u64_, 64, 0),
            ("sbig", s64, 128, 0),
            ("ua", u32_, 192, 3),
            ("ub", u32_, 195, 13),
            ("uc", u32_, 208, 16),
            ("sa", s32, 224, 5),
            ("sb", s32, 229, 27),
            ("la", u64_, 256, 40),
            ("lb", s64, 296, 24),
            ("name", name, 320, 0),
            ("words", words, 416, 0),
            ("one", u8_, 496, 1),
            ("two", s8, 497, 7),
            ("flag", u8_, 504, 0),
            ("", either, 512, 0),
            ("tag", short_name, 544, 0),
            ("inside", inner, 592, 0),
            ("inner", inner_pointer, 704, 0),
            ("text", text, 768, 0),
            ("col", color, 832, 0),
            ("numbers", numbers, 896, 0),
            ("table", table, 960, 0),
            ("crosses", u32_, 1240, 20),
            ("far", u64_, 1280, 0),
        ],
    );
    assert_eq!(node, node_pointer + 1);
    // Needed for programs for both ends of calls.
    for name in ["bpf_session_is_return", "bpf_session_cookie"] {
        b.function(name, &[]);
    }
    b.tracepoint(
        "typed",
        &[
            ("node", node_pointer),
            ("inner", inner_pointer),
            ("small", s8),
            ("half", u16_),
            ("number", s32),
            ("size", u32_),
            ("text", text),
            ("big", u64_),
            ("sbig", s64),
            ("color", color),
        ],
    );
    // What a kernel walks over.
    b.structure("bpf_iter__node", 16, &[("meta", u64_, 0, 0), ("node", node_pointer, 64, 0)]);
    b.function("bpf_iter_node", &[("meta", u64_), ("node", node_pointer)]);
    b.function("bpf_iter_node_new", &[("meta", u64_)]);
    let mm = b.structure("mm_struct", 32, &[("arg_start", u64_, 64, 0), ("arg_end", u64_, 128, 0)]);
    let mm = b.pointer(mm);
    let (set, group) = cgroups(&mut b, (s32, u32_, u64_, text), ancestors);
    let members = [("pid", s32, 32, 0), ("tgid", s32, 64, 0), ("cgroups", set, 128, 0), ("mm", mm, 192, 0)];
    let task = b.structure("task_struct", 32, &members);
    let task = b.pointer(task);
    b.tracepoint("task", &[("task", task), ("node", node_pointer), ("group", group)]);
    let four = b.array(u32_, u32_, 4);
    let all = [("one_node", node), ("some_numbers", four), ("node_of_cpu", node), ("numbers_of_cpu", four)]
        .map(|(name, of)| b.variable(name, of));
    b.section(".data", &all[..2]);
    b.section(".data..percpu", &all[2..]);
    let (file, dentry) = files(&mut b, u32_, text);
    b.tracepoint("file", &[("file", file), ("dentry", dentry)]);
    b.finish()
}

/// The cgroups of a task, and a cgroup: pointers.
fn cgroups(b: &mut Builder, (s32, u32_, u64_, text): (u32, u32, u32, u32), ancestors: bool) -> (u32, u32) {
    let bits = |bytes: usize| u32::try_from(bytes * 8).unwrap();
    b.enumeration("cgroup_subsys_id", &[("cpuset_cgrp_id", 0), ("cpu_cgrp_id", 1)]);
    let node = b.structure(
        "kernfs_node",
        24,
        &[("name", text, bits(cgroup::NODE_NAME), 0), ("id", u64_, bits(cgroup::NODE_ID), 0)],
    );
    let node = b.pointer(node);
    let root = b.structure("cgroup_root", 8, &[("hierarchy_id", s32, bits(cgroup::HIERARCHY), 0)]);
    let root = b.pointer(root);
    // The structs point to each other: these are pointers to the two that follow.
    let state_pointer = b.pointer(root + 3);
    let group_pointer = b.pointer(root + 5);
    let state = b.structure(
        "cgroup_subsys_state",
        16,
        &[
            ("cgroup", group_pointer, bits(cgroup::STATE_CGROUP), 0),
            ("parent", state_pointer, bits(cgroup::STATE_PARENT), 0),
        ],
    );
    let list = b.array(group_pointer, u32_, 0);
    let mut members = vec![
        ("self", state, 0, 0),
        ("level", s32, bits(cgroup::LEVEL), 0),
        ("kn", node, bits(cgroup::NODE), 0),
        ("root", root, bits(cgroup::ROOT), 0),
    ];
    members.extend(ancestors.then_some(("ancestors", list, bits(cgroup::ANCESTORS), 0)));
    let group = b.structure("cgroup", 40, &members);
    assert_eq!((state, group), (root + 3, root + 5));
    let states = b.array(state_pointer, u32_, 2);
    let set = b.structure(
        "css_set",
        24,
        &[("subsys", states, 0, 0), ("dfl_cgrp", group_pointer, bits(cgroup::SET_DEFAULT), 0)],
    );
    (b.pointer(set), group_pointer)
}

/// A file and a directory's entry: pointers.
fn files(b: &mut Builder, u32_: u32, text: u32) -> (u32, u32) {
    let bits = |bytes: usize| u32::try_from(bytes * 8).unwrap();
    let name = b.structure(
        "qstr",
        16,
        &[("len", u32_, bits(file::NAME_LENGTH), 0), ("name", text, bits(file::NAME_BYTES), 0)],
    );
    let dentry = b.pointer(name + 2);
    let members = [("d_parent", dentry, bits(file::PARENT), 0), ("d_name", name, bits(file::NAME), 0)];
    assert_eq!(b.structure("dentry", 32, &members), name + 2);
    let mount = b.structure("vfsmount", 16, &[("mnt_root", dentry, bits(file::MOUNT_ROOT), 0)]);
    let mount = b.pointer(mount);
    let members = [("mnt", mount, bits(file::PATH_MOUNT), 0), ("dentry", dentry, bits(file::PATH_DENTRY), 0)];
    let path = b.structure("path", 16, &members);
    let file = b.structure("file", 32, &[("f_path", path, bits(file::PATH), 0)]);
    (b.pointer(file), dentry)
}

/// Blocks of memory by address: three nodes, what they point to, and texts.
pub type Blocks = BTreeMap<u64, Vec<u8>>;

/// Addresses of things in [`memory`].
#[derive(Clone, Debug)]
pub struct Places {
    pub nodes: Vec<u64>,
    pub inners: Vec<u64>,
    pub texts: Vec<u64>,
}

/// Size of [`memory`] in bytes.
pub const MEMORY: usize = 0x1000;

/// Fills [`MEMORY`] bytes at `start`; `bad` is an address that faults.
pub fn memory(random: &mut Random, start: u64, bad: u64) -> (Vec<u8>, Places) {
    let mut bytes: Vec<u8> = (0..MEMORY).map(|_| random.word().to_le_bytes()[0]).collect();
    let at = |offset: usize| start + u64::try_from(offset).unwrap();
    let nodes: Vec<usize> = (0..3).map(|index| 0x100 + index * 0x100).collect();
    let inners: Vec<usize> = (0..2).map(|index| 0x500 + index * 0x40).collect();
    let texts: Vec<usize> = (0..4).map(|index| 0x600 + index * 0x100).collect();
    for (offset, text) in texts.iter().zip(["", "ab", "abcdefg", "abcdefgh"]) {
        bytes[*offset..*offset + text.len()].copy_from_slice(text.as_bytes());
        bytes[offset + text.len()] = 0;
    }
    // A text without a NUL within any capacity.
    bytes[texts[3] + 8] = b'!';
    for byte in &mut bytes[texts[3] + 9..texts[3] + 0x100] {
        *byte = (*byte).max(1);
    }
    for (index, node) in nodes.iter().enumerate() {
        let mut put = |offset: usize, value: u64| {
            bytes[node + offset..node + offset + 8].copy_from_slice(&value.to_le_bytes());
        };
        // The last node ends the list, with a null pointer or a bad one.
        let next = nodes.get(index + 1).map_or(if random.one_in(2) { 0 } else { bad }, |next| at(*next));
        put(NEXT, next);
        put(INNER, if random.one_in(4) { bad } else { at(inners[random.below(2)]) });
        put(TEXT, if random.one_in(4) { 0 } else { at(texts[random.below(4)]) });
        put(NUMBERS, at(nodes[0]));
        if random.one_in(2) {
            put(40, u64::from_le_bytes(*b"abcdefgh"));
        }
        if random.one_in(2) {
            put(48, random.word() & 0xffff_ff00_0000_ffff);
        }
    }
    let places = |offsets: &[usize]| offsets.iter().map(|offset| at(*offset)).collect();
    let places = Places { nodes: places(&nodes), inners: places(&inners), texts: places(&texts) };
    (bytes, places)
}
