//! What several functions of one pattern have in common: arguments by name, by number, and their numbers.

#![allow(clippy::unwrap_used, reason = "a panic is the report")]

use tapster_testing::compiler as support;

use support::btf::Builder;
use tapster_ebpf::{
    attach::{
        Arch, ArgumentValue, Functions, Missing, Place, ResolveOptions, Resolved, Site, SiteRequest, Sites,
        Target, UnknownSymbol, UserFunctions, resolve,
    },
    btf::{Btf, BtfKind},
    compile, declaration,
    diagnostic::SourceFile,
    insn::{Helper, Insn},
    probe::{Decoder, KernelVersion, Root},
    program::Program,
    tracefs::Tracepoints,
    usdt::FileId,
};

/// Functions `__traceiter_one`, `_two` and `_three` that BTF knows, and `unknown`; a program whose returns are seen in
/// two ways.
struct Host(Btf);

impl Tracepoints for Host {
    fn format(&self, _: &str, _: &str) -> Option<String> {
        None
    }

    fn all(&self) -> Vec<(String, String)> {
        Vec::new()
    }
}

impl Functions for Host {
    fn traced(&self) -> Result<(), Missing> {
        Ok(())
    }

    fn probing(&self) -> Result<(), Missing> {
        Ok(())
    }

    fn probed(&self, wanted: &SiteRequest<'_>) -> Result<Sites, Missing> {
        let list = match wanted.function {
            "two*" => vec!["__traceiter_one", "__traceiter_two"],
            "alike*" => vec!["__traceiter_one", "__traceiter_three"],
            "un*" => vec!["__traceiter_one", "unknown"],
            name => vec![name],
        };
        Ok(Sites { list: list.into_iter().map(Site::kernel).collect(), ..Sites::default() })
    }

    fn usdt(
        &self,
        _: &Root,
        _: &str,
        _: Option<&str>,
        name: &str,
    ) -> Result<tapster_ebpf::usdt::UsdtProbe, Missing> {
        Err(Missing { message: format!("no probe `{name}`"), hint: None })
    }

    fn symbol(&self, name: &str) -> Result<u64, UnknownSymbol> {
        Err(UnknownSymbol {
            why: Missing { message: format!("no symbol `{name}`"), hint: None },
            is_absent: true,
        })
    }

    fn namespace(&self, root: &Root) -> Result<Option<u32>, Missing> {
        Ok(matches!(root, Root::Container(_)).then_some(7))
    }

    fn user(&self, _: &Root, binary: &str, wanted: &SiteRequest<'_>) -> Result<UserFunctions, Missing> {
        let site = |name: &str, entry, at: &[u64]| Site::new(name, Place::File { entry, at: at.to_vec() });
        let mut found = UserFunctions {
            file: binary.into(),
            id: FileId { inode: binary.bytes().map(u64::from).sum(), ..FileId::default() },
            go: binary.contains("go"),
            left_out: vec!["1 that do not return (`c`)".into()],
            ..UserFunctions::default()
        };
        if wanted.at_return {
            found.sites.push(site("b", 0x20, &[0x28, 0x2a]));
            found.by_return_probe.push(site("a", 0x10, &[0x10]));
        } else {
            found.sites.extend([site("a", 0x10, &[0x10]), site("b", 0x20, &[0x20])]);
        }
        Ok(found)
    }
}

impl Host {
    fn new() -> Self {
        let mut types = Builder::new();
        let int = types.int("int", 4, true);
        let long = types.int("long", 8, true);
        let node = types.structure("node", 8, &[("value", long, 0, 0)]);
        let node = types.pointer(node);
        types.tracepoint("one", &[("node", node), ("number", int)]);
        types.tracepoint("two", &[("node", node), ("number", long), ("more", int)]);
        types.tracepoint("three", &[("node", node), ("number", int), ("more", int)]);
        Self(Btf::parse(types.finish()).unwrap())
    }

    fn target(&self, kernel: KernelVersion) -> Target<'_> {
        Target {
            btf: Some(&self.0),
            tracepoints: self,
            kernel,
            possible_cpus: 2,
            arch: Arch::X86_64,
            functions: self,
            command: false,
        }
    }

    fn resolve(&self, at: &str) -> Vec<Resolved> {
        let request = ResolveOptions { whole: false, most: 10, stacks: false };
        resolve(&tapster_ebpf::attach::parse(at).unwrap(), request, &self.target(KernelVersion(6, 12, 0)))
            .unwrap()
    }

    fn program(&self, probe: &str, kernel: KernelVersion) -> Program {
        let text = format!("probes: [{{ name: p, {probe}, metrics: [{{ counter: a_total, help: x }}] }}]");
        let (file, diagnostics) = declaration::parse(&SourceFile::new("p.yaml", text));
        assert!(diagnostics.is_empty(), "{}", diagnostics[0]);
        compile(&file.probes[0], &self.target(kernel)).unwrap()
    }
}

fn value<'r>(resolved: &'r Resolved, name: &str) -> Option<&'r ArgumentValue> {
    let argument = resolved.arguments.iter().find(|argument| argument.name == name)?;
    argument.value.as_ref().ok()
}

#[test]
fn arguments_that_all_have_are_typed() {
    let host = Host::new();
    let [one] = host.resolve("kprobe:__traceiter_two").try_into().unwrap();
    let [two] = host.resolve("kprobe:two*").try_into().unwrap();
    let [alike] = host.resolve("kprobe:alike*").try_into().unwrap();
    // A tracepoint's function has a pointer before its arguments.
    let shown = |resolved: &Resolved| -> Vec<String> {
        resolved.arguments.iter().map(|argument| format!("{} {}", argument.ctype, argument.name)).collect()
    };
    assert_eq!(shown(&two)[1..4], ["struct node * node", "u64 arg2", "u64 arg3"]);
    assert_eq!(shown(&alike)[1..4], ["struct node * node", "int number", "u64 arg3"]);
    assert_eq!(two.arguments.len(), 6, "all registers are there by number");
    let text = |value: Option<&ArgumentValue>| format!("{value:?}");
    assert_eq!(text(value(&two, "node")), text(value(&one, "node")));
    let why = |resolved: &Resolved, name: &str| {
        let found = resolved.unshared.iter().find(|(unshared, _)| unshared == name);
        found.map(|(_, why)| why.clone()).unwrap_or_default()
    };
    assert_eq!(
        why(&two, "number"),
        "it is argument 2 of `__traceiter_two`, a `long`, and not of one place and type in all"
    );
    assert_eq!(why(&alike, "more"), "`__traceiter_one` has none of that name");
    let [unknown] = host.resolve("kprobe:un*").try_into().unwrap();
    assert_eq!(why(&unknown, "node"), "`unknown` has none of that name");
    assert_eq!(shown(&unknown)[1], "u64 arg1");
}

#[test]
fn functions_have_one_number_at_both_ends() {
    let host = Host::new();
    for (kernel, one_by_one) in [(KernelVersion(6, 12, 0), false), (KernelVersion(6, 18, 0), true)] {
        let program = host.program("function: \"two*\", labels: { func: func }", kernel);
        let [start, end] = program.codes.as_slice() else { panic!("{:?}", program.codes) };
        for code in [start, end] {
            let numbers: Vec<(u32, &str)> =
                code.sites.list.iter().map(|site| (site.number, site.name.as_str())).collect();
            assert_eq!(numbers, [(0, "__traceiter_one"), (1, "__traceiter_two")]);
            assert!(code.assembled.insns.contains(&Insn::Call(Helper::AttachCookie)));
        }
        assert_eq!((start.one_by_one, end.one_by_one), (false, one_by_one));
        let Decoder::Table { rows, .. } = &program.labels[0].decoder else { panic!("no table") };
        assert_eq!(rows.values().collect::<Vec<_>>(), ["__traceiter_one", "__traceiter_two"]);
        assert_eq!(program.layout.start.unwrap().key_size, 16, "frame and function");
    }
    // One function needs no number, and no cookie for it.
    let program = host.program("function: __traceiter_one, labels: { func: func }", KernelVersion(6, 12, 0));
    assert_eq!(program.layout.start.unwrap().key_size, 8);
    for code in &program.codes {
        assert!(!code.assembled.insns.contains(&Insn::Call(Helper::AttachCookie)));
    }
    // An entry alone does not look at the stack.
    let program = host.program("at: \"kretprobe:two*\", labels: { func: func }", KernelVersion(6, 18, 0));
    assert!(!program.codes[0].one_by_one);
}

#[test]
fn returns_of_a_program_are_seen_in_two_ways() {
    let host = Host::new();
    let program = host.program("function: \"/bin/c:*\", labels: { func: func }", KernelVersion(6, 12, 0));
    let shown: Vec<(&str, Vec<u32>, usize)> = program
        .codes
        .iter()
        .map(|code| {
            let numbers = code.sites.list.iter().map(|site| site.number).collect();
            (code.mechanism.name, numbers, code.sites.left_out.len())
        })
        .collect();
    assert_eq!(shown, [("uprobe", vec![0, 1], 1), ("uprobe_ret", vec![1], 1), ("uretprobe", vec![0], 0)]);
    // Process, frame and function; of a goroutine, that too.
    assert_eq!(program.layout.start.unwrap().key_size, 24);
    let program = host.program("function: \"/bin/go:*\"", KernelVersion(6, 12, 0));
    assert_eq!(program.layout.start.unwrap().key_size, 32);
    let program = host.program(
        "start: { at: \"uprobe:/bin/go:a\", key: [frame, func] }, end: { at: \"uretprobe:/bin/go:a\", key: [frame, func] }",
        KernelVersion(6, 12, 0),
    );
    assert_eq!(program.layout.start.unwrap().key_size, 24);
}

#[test]
fn many_functions_are_found_as_few_are() {
    let mut types = Builder::new();
    let int = types.int("int", 4, true);
    for number in 0..500 {
        // Every name twice, of which the first counts; and types of the names that are no functions.
        types.structure(&format!("f{}", number % 250), 4, &[("x", int, 0, 0)]);
        types.function(&format!("f{}", number % 250), &[("x", int)]);
    }
    let bytes = types.finish();
    let many = Btf::parse(bytes.clone()).unwrap();
    for number in (0..260).rev() {
        let name = format!("f{number}");
        let one = Btf::parse(bytes.clone()).unwrap();
        let first = one.ids().find(|id| one.kind(*id) == BtfKind::Func && one.name(*id) == name);
        assert_eq!(one.find(&name, BtfKind::Func), first, "{name}, alone");
        assert_eq!(many.find(&name, BtfKind::Func), first, "{name}, one of many");
        assert_eq!(first.is_some(), number < 250);
    }
}

/// A probe of a container must not count others: where the kernel cannot tell them apart, it does not run at all.
#[test]
fn a_container_that_cannot_be_told_apart_is_refused() {
    let host = Host::new();
    let target = host.target(KernelVersion(6, 6, 0));
    for (root, refused) in [("", false), ("    container: abcdef\n", true)] {
        let yaml = format!(
            "probes:\n  - name: case\n    at: uprobe:file:a\n{root}    metrics: [{{ counter: case_total }}]\n"
        );
        let (file, _) = declaration::parse(&SourceFile::new("case.yaml", yaml));
        assert_eq!(compile(&file.probes[0], &target).is_err(), refused, "{root}");
    }
}
