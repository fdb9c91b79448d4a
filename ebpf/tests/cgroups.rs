//! `cgroup_matches`: compiled programs beside the evaluator and beside the path itself, with cgroups of both versions in memory as the
//! kernel has them, with and without those above them by level.
#![allow(
    clippy::unwrap_used,
    clippy::format_push_string,
    clippy::format_collect,
    reason = "a panic is the report"
)]

use tapster_testing::compiler as support;

use support::{
    case::{self, Case, Frame, compile, context},
    world::{World, cgroup as at},
};
use tapster_ebpf::{
    glob::PathGlob,
    layout::{CGROUPS, DropReason},
    probe::KernelVersion,
    program::DROPS,
    vm::{Environment, Vm},
};

const TASK: u64 = 0xffff_8880_0000_1000;
const SET: u64 = 0xffff_8880_0000_2000;
const FIRST: u64 = 0xffff_8880_0100_0000;
/// Bytes between two cgroups.
const APART: u64 = 0x1_0000;
const NODE: u64 = 0x4000;
const ROOT: u64 = 0x5000;
const NAME: u64 = 0x6000;
/// The number of a hierarchy of version 1.
const OLD: u32 = 3;

/// Cgroups in memory.
#[derive(Debug, Default)]
struct Groups {
    env: Environment,
    /// Those above each, the root first, and the group itself.
    lines: Vec<Vec<u64>>,
}

fn put(block: &mut [u8], offset: usize, value: u64) {
    block[offset..offset + 8].copy_from_slice(&value.to_le_bytes());
}

impl Groups {
    fn new() -> Self {
        let env = Environment { cpus: 1, task: TASK, ..Environment::default() };
        Self { env, lines: Vec::new() }
    }

    /// Makes a cgroup; the line of a root is empty.
    fn add(&mut self, above: &[u64], name: &str, hierarchy: u32) -> Vec<u64> {
        let number = u64::try_from(self.lines.len()).unwrap();
        let here = FIRST + number * APART;
        let line = [above, &[here]].concat();
        let mut group = vec![0; at::ANCESTORS + 8 * line.len()];
        put(&mut group, at::STATE_CGROUP, here);
        put(&mut group, at::STATE_PARENT, above.last().copied().unwrap_or(0));
        let level = u32::try_from(above.len()).unwrap();
        group[at::LEVEL..at::LEVEL + 4].copy_from_slice(&level.to_le_bytes());
        put(&mut group, at::NODE, here + NODE);
        put(&mut group, at::ROOT, here + ROOT);
        for (index, group_above) in line.iter().enumerate() {
            put(&mut group, at::ANCESTORS + 8 * index, *group_above);
        }
        let mut node = vec![0; 24];
        put(&mut node, at::NODE_NAME, here + NAME);
        put(&mut node, at::NODE_ID, 1000 + number);
        let mut root = vec![0; 8];
        root[at::HIERARCHY..at::HIERARCHY + 4].copy_from_slice(&hierarchy.to_le_bytes());
        let name = [name.as_bytes(), &[0]].concat();
        for (offset, block) in [(0, group), (NODE, node), (ROOT, root), (NAME, name)] {
            self.env.kernel.insert(here + offset, block);
        }
        self.lines.push(line.clone());
        line
    }

    /// Makes the cgroups of a path; returns the line of the last.
    fn path(&mut self, path: &str, hierarchy: u32) -> Vec<u64> {
        let root = self.add(&[], "", hierarchy);
        path.split('/')
            .filter(|name| !name.is_empty())
            .fold(root, |above, name| self.add(&above, name, hierarchy))
    }

    /// Puts the task into a cgroup of version 2 and one of the processor controller.
    fn task(&mut self, group: u64, old: u64) {
        let mut task = vec![0; 24];
        put(&mut task, at::TASK_CGROUPS, SET);
        let mut set = vec![0; 24];
        put(&mut set, at::SET_CPU, old);
        put(&mut set, at::SET_DEFAULT, group);
        self.env.kernel.insert(TASK, task);
        self.env.kernel.insert(SET, set);
    }
}

/// The same of the event's task, of the current one and of the cgroup.
fn questions(patterns: &[&str]) -> Vec<String> {
    let each = |pattern: &&str| {
        ["args.task, ", "", "args.group, "].map(|of| format!("cgroup_matches({of}\"{pattern}\")"))
    };
    patterns.iter().flat_map(each).collect()
}

fn compiled(expressions: &[String], world: &World) -> Case {
    compile(&Frame::at("test:task"), expressions, &world.target(1)).unwrap()
}

/// The answers of the program, which are those of the language.
fn answers(case: &Case, vm: &mut Vm, groups: &Groups, group: u64) -> Vec<u64> {
    let context = context(&[TASK, 0, group]);
    vm.env = groups.env.clone();
    case.run(vm, &context, 0);
    let (got, expected) = (case.rows(vm), case.expected(&groups.env, &context, 0));
    assert_eq!(got, expected, "{}", case.yaml);
    got[0].1.clone()
}

fn dropped(vm: &Vm, reason: DropReason) -> u64 {
    let drops = vm.map(usize::try_from(DROPS).unwrap());
    u64::from_le_bytes(drops.get_cpu(&reason.index().to_le_bytes(), 0).unwrap()[..8].try_into().unwrap())
}

fn remembered(case: &Case, vm: &Vm) -> usize {
    vm.map(usize::try_from(case.program.map_named(CGROUPS).unwrap()).unwrap()).iter().count()
}

const PATTERNS: [&str; 7] = [
    "/kubepods/*",
    "/kubepods",
    "/*.slice/*/pod?",
    "/{kubepods,system.slice}/[!x]*/*",
    "/a",
    "/kubepods/besteffort/pod1/*/*",
    "/*/*",
];

#[test]
fn the_path_decides() {
    let names = |path: &str| path.split('/').filter(|name| !name.is_empty()).map(str::to_owned).collect();
    let mut matched = 0;
    for world in [World::new(), World::without_ancestors()] {
        let case = compiled(&questions(&PATTERNS), &world);
        let mut vm = case.machine(Environment { cpus: 1, ..Environment::default() });
        let mut groups = Groups::new();
        for path in [
            "/",
            "/kubepods",
            "/kubepods2",
            "/kubepods/besteffort/pod1/0123/nested/more",
            "/system.slice/a/pod7",
            "/system.slice/x/pod7",
            "/system.slice/xa/pod12",
            "/a/kubepods/b",
            "/kubepods/besteffort/pod1/0123",
        ] {
            let line = groups.path(path, 0);
            let group = *line.last().unwrap();
            groups.task(group, group);
            let path: Vec<String> = names(path);
            for _ in 0..2 {
                let answers = answers(&case, &mut vm, &groups, group);
                for (pattern, answers) in PATTERNS.iter().zip(answers.chunks(3)) {
                    let expected = u64::from(PathGlob::new(pattern).unwrap().matches(&path));
                    assert_eq!(answers, [expected; 3], "{pattern} {path:?}");
                    matched += expected;
                }
            }
        }
        assert_eq!(remembered(&case, &vm), 9 * PATTERNS.len(), "once for each cgroup and pattern");
        assert_eq!(dropped(&vm, DropReason::Fault), 0);
    }
    assert!(matched > 50, "{matched}");
}

/// Names are read in pieces of 63 bytes.
#[test]
fn long_names() {
    for world in [World::new(), World::without_ancestors()] {
        for length in [1, 61, 62, 63, 64, 65, 125, 126, 127, 189, 252, 254, 255] {
            let name = "n".repeat(length);
            let patterns = [
                format!("/{name}"),
                format!("/{}x", &name[1..]),
                format!("/{}?", &name[1..]),
                format!("/{}", &name[1..]),
                "/n*".into(),
                "/*n".into(),
                format!("/{}*m", &name[1..]),
                format!("/*{name}"),
            ];
            // A text in an expression has at most 255 bytes.
            let pairs = patterns.iter().map(String::as_str).zip([1, 0, 1, 0, 1, 1, 0, 1]);
            let (patterns, expected): (Vec<&str>, Vec<u64>) =
                pairs.filter(|(text, _)| *text != "/" && text.len() < 256).unzip();
            let case = compiled(&questions(&patterns), &world);
            let mut vm = case.machine(Environment { cpus: 1, ..Environment::default() });
            let mut groups = Groups::new();
            let group = *groups.path(&format!("/{name}"), 0).last().unwrap();
            groups.task(group, group);
            let answers = answers(&case, &mut vm, &groups, group);
            let expected: Vec<u64> = expected.into_iter().flat_map(|answer| [answer; 3]).collect();
            assert_eq!(answers, expected, "{length}");
        }
    }
}

/// As `cgroup(TASK)` does it: the processor's controller in version 1 where the task is below its root, else version 2.
#[test]
fn the_same_version_as_the_label() {
    for world in [World::new(), World::without_ancestors()] {
        let case = compiled(&questions(&["/old/*", "/new/*"]), &world);
        let mut groups = Groups::new();
        let new = *groups.path("/new/a", 0).last().unwrap();
        let old = groups.path("/old/a", OLD);
        for (controller, expected) in [(old[2], [1, 0]), (old[0], [0, 1]), (new, [0, 1])] {
            groups.task(new, controller);
            let mut vm = case.machine(Environment { cpus: 1, ..Environment::default() });
            let answers = answers(&case, &mut vm, &groups, old[2]);
            assert_eq!(answers[..2], [expected[0]; 2], "{controller:#x}");
            assert_eq!(answers[3..5], [expected[1]; 2], "{controller:#x}");
            assert_eq!((answers[2], answers[5]), (1, 0), "a cgroup is what it is");
        }
        // Cgroups of two hierarchies may have one id.
        let keys: Vec<u64> = {
            let mut vm = case.machine(Environment { cpus: 1, ..Environment::default() });
            groups.task(new, old[2]);
            answers(&case, &mut vm, &groups, new);
            let map = vm.map(usize::try_from(case.program.map_named(CGROUPS).unwrap()).unwrap());
            map.iter().map(|(key, _)| u64::from_le_bytes(key[..8].try_into().unwrap())).collect()
        };
        assert!(keys.iter().any(|key| key >> 48 == u64::from(OLD)), "{keys:x?}");
        assert!(keys.iter().any(|key| key >> 48 == 0), "{keys:x?}");
    }
}

/// What is remembered is not looked up again, and what is forgotten is.
#[test]
fn answers_are_remembered() {
    let case = compiled(&["cgroup_matches(args.task, \"/a\")".into()], &World::new());
    let mut vm = case.machine(Environment { cpus: 1, ..Environment::default() });
    let mut groups = Groups::new();
    let group = *groups.path("/a", 0).last().unwrap();
    groups.task(group, group);
    assert_eq!(answers(&case, &mut vm, &groups, group), [1]);
    groups.env.kernel.insert(group + NAME, b"b\0".to_vec());
    let context = context(&[TASK, 0, group]);
    vm.env = groups.env.clone();
    case.run(&mut vm, &context, 0);
    assert_eq!(case.rows(&vm)[0].1, [1]);
    let map = usize::try_from(case.program.map_named(CGROUPS).unwrap()).unwrap();
    let keys: Vec<Vec<u8>> = vm.map(map).iter().map(|(key, _)| key).collect();
    assert_eq!(keys.len(), 1);
    vm.map_mut(map).remove(&keys[0]).unwrap();
    assert_eq!(answers(&case, &mut vm, &groups, group), [0]);
}

/// Where there is no room for an answer, it is found each time.
#[test]
fn more_cgroups_than_are_remembered() {
    let case = compiled(&["cgroup_matches(args.task, \"/a*\")".into()], &World::new());
    let mut vm = case.machine(Environment { cpus: 1, ..Environment::default() });
    let map = case.program.map_named(CGROUPS).unwrap();
    let room = case.program.maps[usize::try_from(map).unwrap()].max_entries;
    for number in 0..u64::from(room) {
        let key = [(1 << 40 | number).to_le_bytes(), [0; 8]].concat();
        vm.map_mut(usize::try_from(map).unwrap()).insert(&key, &[0; 8]).unwrap();
    }
    let mut groups = Groups::new();
    for (path, expected) in [("/a1", 1), ("/b", 0), ("/a2", 1)] {
        let group = *groups.path(path, 0).last().unwrap();
        groups.task(group, group);
        for _ in 0..2 {
            assert_eq!(answers(&case, &mut vm, &groups, group), [expected], "{path}");
        }
    }
    assert_eq!(remembered(&case, &vm), usize::try_from(room).unwrap());
}

/// Before 6.1 a program climbs, and a cgroup that is too far below is counted as one that was not looked at.
#[test]
fn deep_cgroups() {
    for (world, depth, expected, drops) in [
        (World::without_ancestors(), 65, 1, 0),
        (World::without_ancestors(), 66, 0, 2),
        (World::new(), 500, 1, 0),
    ] {
        let case = compiled(&["cgroup_matches(args.task, \"/d\")".into()], &world);
        let mut vm = case.machine(Environment { cpus: 1, ..Environment::default() });
        let mut groups = Groups::new();
        let group = *groups.path(&"/d".repeat(depth), 0).last().unwrap();
        groups.task(group, group);
        for _ in 0..2 {
            vm.env = groups.env.clone();
            case.run(&mut vm, &context(&[TASK, 0, group]), 0);
            assert_eq!(case.rows(&vm)[0].1, [expected], "{depth}");
        }
        assert_eq!(dropped(&vm, DropReason::EachLimit), drops, "{depth}");
    }
}

/// What cannot be read does not match, is counted, and is tried again.
#[test]
fn unreadable_cgroups() {
    for world in [World::new(), World::without_ancestors()] {
        let case = compiled(&["cgroup_matches(args.task, \"/a/b\")".into()], &world);
        let mut vm = case.machine(Environment { cpus: 1, ..Environment::default() });
        let mut groups = Groups::new();
        let line = groups.path("/a/b", 0);
        groups.task(line[2], line[2]);
        let name = groups.env.kernel.remove(&(line[1] + NAME)).unwrap();
        for faults in 1..3 {
            assert_eq!(answers(&case, &mut vm, &groups, line[2]), [0]);
            assert_eq!(dropped(&vm, DropReason::Fault), faults);
        }
        assert_eq!(remembered(&case, &vm), 0);
        groups.env.kernel.insert(line[1] + NAME, name);
        assert_eq!(answers(&case, &mut vm, &groups, line[2]), [1]);
        // No task, no cgroup.
        let context = context(&[0, 0, 0]);
        case.run(&mut vm, &context, 0);
        assert_eq!(case.rows(&vm)[0].1, [0]);
    }
}

/// A value like any other: beside values that wait in registers, in a `let`, negated, as a filter; and in a walk, where it is
/// computed before the first round.
#[test]
fn among_other_values() {
    let world = World::new();
    let mut groups = Groups::new();
    let group = *groups.path("/a/b", 0).last().unwrap();
    groups.task(group, group);
    for kernel in [KernelVersion(6, 1, 0), KernelVersion(6, 9, 0)] {
        let target = tapster_ebpf::attach::Target { kernel, ..world.target(1) };
        let expressions = [
            "tid * 2 + cgroup_matches(args.task, \"/a\")",
            "cgroup_matches(\"/a\") + cgroup_matches(\"/b\") * (tid + cgroup_matches(args.group, \"/a/?\"))",
            "!cgroup_matches(\"/c\") ? 7 : 8",
            "mine ? tid : pid",
            "other",
        ]
        .map(str::to_owned);
        for head in [
            "    at: rawtracepoint:test:task\n",
            "    at: rawtracepoint:test:task\n    each: { name: item, from: args.node, next: item.next, limit: 4 }\n    where: item.big != 5 || cgroup_matches(\"/x\")\n    labels: { item: item, whose: mine }\n",
        ] {
            let head = format!(
                "{head}    let: {{ mine: 'cgroup_matches(args.task, \"/a/*\")', other: 'mine + cgroup_matches(\"/x\")' }}\n"
            );
            let case = compile(&Frame { head }, &expressions, &target).unwrap();
            let mut vm = case.machine(Environment { cpus: 1, ..Environment::default() });
            // Two elements of a list.
            let nodes = [FIRST - 2 * APART, FIRST - APART];
            for (node, next) in [(nodes[0], nodes[1]), (nodes[1], 0)] {
                let mut block = vec![0; support::world::NODE];
                put(&mut block, 0, next);
                groups.env.kernel.insert(node, block);
            }
            let context = context(&[TASK, nodes[0], group]);
            vm.env = groups.env.clone();
            case.run(&mut vm, &context, 0);
            let (got, expected) = (case.rows(&vm), case.expected(&groups.env, &context, 0));
            assert_eq!(got, expected, "{}", case.yaml);
            assert!(!got.is_empty());
        }
    }
    let program = compiled(
        &["cgroup_matches(\"/b\") + cgroup_matches(\"/a\") + cgroup_matches(\"/b\")".into()],
        &world,
    );
    let patterns: Vec<&str> = program.program.layout.cgroups.patterns.iter().map(PathGlob::text).collect();
    assert_eq!(patterns, ["/a", "/b"], "each once");
}

#[test]
fn what_is_refused() {
    let world = World::new();
    for (expression, message) in [
        ("cgroup_matches()", "`cgroup_matches` takes a pattern of paths"),
        ("cgroup_matches(args.task, \"/a\", 1)", "`cgroup_matches` takes a pattern of paths"),
        ("cgroup_matches(args.task)", "the pattern of cgroups must be a text in quotes"),
        ("cgroup_matches(comm)", "the pattern of cgroups must be a text in quotes"),
        ("cgroup_matches(\"kubepods\")", "this is no pattern of cgroups: a path begins with `/`"),
        (
            "cgroup_matches(\"/a/**\")",
            "this is no pattern of cgroups: `*` stays within one name, and what is below a path that matches counts as well",
        ),
        (
            "cgroup_matches(args.node, \"/a\")",
            "`cgroup_matches` takes a `struct task_struct *` or a `struct cgroup *`",
        ),
        (
            "cgroup_matches(tid, \"/a\")",
            "`cgroup_matches` takes a `struct task_struct *` or a `struct cgroup *`",
        ),
    ] {
        let yaml = Frame::at("test:task").yaml(&[expression.to_owned()]);
        let probe = case::parse(&yaml).unwrap();
        let problems = tapster_ebpf::compile(&probe, &world.target(1)).unwrap_err();
        assert_eq!(problems[0].message, message, "{expression}");
    }
    let head = "    at: rawtracepoint:test:task\n    each: { name: item, from: args.node, next: item.next, limit: 4 }\n    let: { of: '(struct cgroup *)item.big' }\n";
    for of in ["of", "(struct task_struct *)item"] {
        let yaml = Frame { head: head.into() }.yaml(&[format!("cgroup_matches({of}, \"/a\")")]);
        let problems = tapster_ebpf::compile(&case::parse(&yaml).unwrap(), &world.target(1)).unwrap_err();
        assert_eq!(problems[0].message, "the cgroup that is compared must be known before the walk", "{of}");
    }
}
