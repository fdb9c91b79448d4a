//! What is fuzzed: each takes any bytes and must not panic, hang or overflow the stack.
//!
//! `cargo fuzz run NAME` runs one with coverage; `ebpf/tests/fuzz.rs` runs all of them for a moment on
//! mutations of the seeds, as part of the tests.

use tapster_ebpf::{
    attach::{
        Arch, Functions, Missing, Place, Site, SiteRequest, Sites, Target, UnknownSymbol, UserFunctions,
    },
    btf::{Btf, BtfKind, direct_access},
    compile, declaration,
    diagnostic::SourceFile,
    expr,
    glob::is_pattern,
    probe::{KernelVersion, Root},
    tracefs::Tracepoints,
    usdt::{self, FileId, Location, UsdtProbe},
};

/// Places of the one probe that every program has.
const LOCATIONS: [&str; 2] = ["8@%rdi -4@-20(%rbp,%rax,4)", "8@$7 2@%ax"];

/// A kernel on which every tracepoint exists, with fields of every form.
struct Everything;

const FORMAT: &str = "format:\n\tfield:u64 wide;\toffset:8;\tsize:8;\tsigned:0;\n\
    \tfield:int narrow;\toffset:16;\tsize:4;\tsigned:1;\n\tfield:char name[16];\toffset:24;\tsize:16;\tsigned:0;\n\
    \tfield:__data_loc char[] path;\toffset:40;\tsize:4;\tsigned:0;\n\
    \tfield:const struct bio * pointer;\toffset:48;\tsize:8;\tsigned:0;\n\
    \tfield:unsigned long list[4];\toffset:56;\tsize:32;\tsigned:0;\n";

impl Tracepoints for Everything {
    fn format(&self, _: &str, _: &str) -> Option<String> {
        Some(FORMAT.into())
    }

    fn all(&self) -> Vec<(String, String)> {
        vec![("block".into(), "block_rq_issue".into())]
    }
}

impl Functions for Everything {
    fn traced(&self) -> Result<(), Missing> {
        Ok(())
    }

    fn probing(&self) -> Result<(), Missing> {
        Ok(())
    }

    fn probed(&self, wanted: &SiteRequest<'_>) -> Result<Sites, Missing> {
        let names = if is_pattern(wanted.function) { vec!["first", "second"] } else { vec![wanted.function] };
        Ok(Sites { list: names.into_iter().map(Site::kernel).collect(), ..Sites::default() })
    }

    fn user(&self, _: &Root, binary: &str, wanted: &SiteRequest<'_>) -> Result<UserFunctions, Missing> {
        let site = Site::new(wanted.function, Place::File { entry: 1, at: vec![1] });
        Ok(UserFunctions {
            file: binary.into(),
            go: binary.contains("go"),
            sites: vec![site],
            ..UserFunctions::default()
        })
    }

    fn usdt(&self, _: &Root, _: &str, provider: Option<&str>, name: &str) -> Result<UsdtProbe, Missing> {
        Ok(UsdtProbe {
            provider: provider.unwrap_or("test").into(),
            name: name.into(),
            file: FileId::default(),
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
        match name.len() {
            0..16 => Ok(0xffff_ffff_8200_0000),
            length => Err(UnknownSymbol {
                why: Missing { message: format!("no symbol `{name}`"), hint: None },
                is_absent: length % 2 == 0,
            }),
        }
    }

    fn namespace(&self, _: &Root) -> Result<Option<u32>, Missing> {
        Ok(None)
    }
}

fn compile_all(text: &str, btf: Option<&Btf>) {
    let (file, diagnostics) = declaration::parse(&SourceFile::new("fuzz.yaml", text));
    for diagnostic in &diagnostics {
        assert!(!diagnostic.to_string().is_empty());
    }
    for kernel in [KernelVersion(5, 10, 0), KernelVersion(6, 18, 0)] {
        let target = Target {
            btf,
            tracepoints: &Everything,
            kernel,
            possible_cpus: 2,
            arch: Arch::X86_64,
            functions: &Everything,
            command: false,
        };
        for probe in &file.probes {
            match compile(probe, &target) {
                Ok(program) => {
                    drop(tapster_ebpf::object::write(&program).expect("what compiles can be written"));
                }
                Err(diagnostics) => {
                    assert!(diagnostics.iter().all(|diagnostic| !diagnostic.to_string().is_empty()));
                }
            }
        }
    }
}

/// A file of probes, compiled as far as it goes.
pub(crate) fn yaml(data: &[u8]) {
    compile_all(&String::from_utf8_lossy(data), None);
}

/// An expression: printed and read again it is the same, and in a probe it compiles or is refused.
pub(crate) fn expression(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let Ok(first) = expr::parse(&text) else { return };
    let printed = first.to_string();
    // Printing adds blanks, which may push an expression over the limit of its length.
    if printed.len() <= 4096 {
        match expr::parse(&printed) {
            Ok(second) => assert_eq!(second.to_string(), printed, "{text}"),
            Err(error) => panic!("`{text}` was printed as `{printed}`, which is refused: {error}"),
        }
    }
    let quoted = printed.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n").replace('\t', "\\t");
    compile_all(
        &format!(
            "probes:\n  - name: fuzz\n    at: tracepoint:a:b\n    where: \"{quoted}\"\n    labels: {{ l: \"{quoted}\" }}\n    metrics:\n      - {{ histogram: h, value: \"{quoted}\", unit: ns }}\n      - {{ max: m, value: \"{quoted}\" }}\n"
        ),
        None,
    );
}

/// Notes of a program, and operands: read in full, each argument with a size that values have.
pub(crate) fn usdt(data: &[u8]) {
    let mut texts = vec![String::from_utf8_lossy(data).into_owned()];
    if let Ok(notes) = usdt::notes(data) {
        texts.extend(notes.into_iter().map(|note| note.arguments));
    }
    for text in texts {
        for arch in [Arch::X86_64, Arch::Aarch64] {
            for argument in usdt::arguments(&text, arch) {
                match argument {
                    Ok(argument) => assert!(matches!(argument.size, 1 | 2 | 4 | 8), "{text}"),
                    Err(why) => assert!(!why.is_empty()),
                }
            }
        }
    }
}

/// BTF: every type looked at, then used to compile a probe.
pub(crate) fn btf(data: &[u8]) {
    let Ok(btf) = Btf::parse(data.to_vec()) else { return };
    for id in btf.ids().take(2000) {
        let _ = (btf.display(id), btf.size(id), btf.strip(id), btf.has_tag(id, "user"), btf.enumerators(id));
        let _ = (btf.parameters(id), btf.array(id), btf.is_signed(id));
        for name in btf.member_names(id).into_iter().take(50) {
            let _ = btf.member(id, name);
        }
        for offset in [0, 1, 8, 4095] {
            for size in [1, 8] {
                let _ = direct_access(&btf, id, offset, size);
            }
        }
        let _ = btf.find(btf.name(id), BtfKind::Struct);
    }
    let _ = btf.enumerator("REQ_OP_READ");
    compile_all(
        "probes:\n  - name: fuzz\n    start: { at: 'rawtracepoint:a:b', key: args.rq, save: { n: args.rq.q.disk.disk_name } }\n    end:\n      at: 'rawtracepoint:a:b'\n      key: bio\n      each: { name: bio, from: args.rq.bio, next: bio.bi_next, limit: 8 }\n    labels: { l: bio.bi_opf & 0xff, n: start.n, t: '((struct request *)args.rq).cmd_flags' }\n    metrics: [{ histogram: h, value: duration }]\n",
        Some(&btf),
    );
}
