//! Arguments of USDT probes as programs read them: every form of operand on both processors, compiled and run on registers
//! and memory that are known.

#![allow(clippy::unwrap_used, reason = "a panic is a test's report")]

use tapster_testing::compiler as support;

use support::{
    case::{Frame, compile},
    world::World,
};
use tapster_ebpf::{
    attach::{Arch, Functions, Missing, SiteRequest, Sites, Target, UnknownSymbol, UserFunctions},
    probe::Root,
    usdt::{self, FileId, Location, UsdtOperand, UsdtProbe, UsdtSite},
    vm::Environment,
};

/// A program with one probe, at these places.
struct Brought<'a> {
    arch: Arch,
    places: &'a [&'a str],
}

/// Where the symbol `table` is, from the place of the probe.
const DISTANCE: i64 = -0x2000;

impl Functions for Brought<'_> {
    fn traced(&self) -> Result<(), Missing> {
        Ok(())
    }

    fn probing(&self) -> Result<(), Missing> {
        Ok(())
    }

    fn probed(&self, _: &SiteRequest<'_>) -> Result<Sites, Missing> {
        Ok(Sites::default())
    }

    fn user(&self, _: &Root, _: &str, _: &SiteRequest<'_>) -> Result<UserFunctions, Missing> {
        Ok(UserFunctions::default())
    }

    fn usdt(&self, _: &Root, _: &str, _: Option<&str>, name: &str) -> Result<UsdtProbe, Missing> {
        let location = |(text, offset): (&&str, u64)| {
            let mut arguments = usdt::arguments(text, self.arch);
            for argument in arguments.iter_mut().flatten() {
                if let UsdtOperand::Symbol { addend, .. } = argument.operand {
                    argument.operand = UsdtOperand::Relative { distance: DISTANCE + addend };
                }
            }
            Location { site: UsdtSite { offset, semaphore: 0 }, address: offset, arguments }
        };
        Ok(UsdtProbe {
            provider: "test".into(),
            name: name.into(),
            file: FileId::default(),
            locations: self.places.iter().zip(0x100..).map(location).collect(),
        })
    }

    fn symbol(&self, name: &str) -> Result<u64, UnknownSymbol> {
        Err(UnknownSymbol {
            why: Missing { message: format!("no symbol `{name}`"), hint: None },
            is_absent: true,
        })
    }

    fn namespace(&self, _: &Root) -> Result<Option<u32>, Missing> {
        Ok(None)
    }
}

fn target<'a>(world: &'a World, brought: &'a Brought<'a>) -> Target<'a> {
    Target { arch: brought.arch, functions: brought, ..world.target(1) }
}

/// The first arguments of a probe with these operands.
fn read(arch: Arch, operands: &[(&str, u64)], registers: &[u64], memory: &[(u64, &[u8])]) {
    let text: Vec<&str> = operands.iter().map(|(operand, _)| *operand).collect();
    let text = text.join(" ");
    let (world, brought) = (World::new(), Brought { arch, places: &[&text] });
    let names: Vec<String> = (0..operands.len()).map(|index| format!("arg{index}")).collect();
    let frame = Frame { head: "    at: \"usdt:/bin/program:test:point\"\n".into() };
    let case = compile(&frame, &names, &target(&world, &brought)).unwrap();
    assert_eq!(case.program.codes[0].mechanism.name, "usdt");
    let mut environment = Environment { cpus: 1, ..Environment::default() };
    environment.user.extend(memory.iter().map(|(address, bytes)| (*address, bytes.to_vec())));
    let context: Vec<u8> = registers.iter().flat_map(|word| word.to_le_bytes()).collect();
    let expected = case.expected(&environment, &context, 0);
    let mut machine = case.machine(environment);
    case.run(&mut machine, &context, 0);
    let rows = case.rows(&machine);
    assert_eq!(rows, expected, "the evaluator and the program");
    for ((operand, wanted), found) in operands.iter().zip(&rows[0].1) {
        assert_eq!(found, wanted, "{operand}");
    }
}

#[test]
fn operands_of_x86_64_are_read() {
    // r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di, orig_ax, ip, cs, flags, sp, ss
    let mut registers = [0_u64; 21];
    registers[10] = 0x1122_3344_5566_f788;
    registers[5] = 0xffff_ffff_8000_0000;
    registers[4] = 0x7ff0_0000_1010;
    registers[14] = 0x7ff0_0000_1000;
    registers[13] = 3;
    registers[16] = 0x5550_0000_4000;
    registers[19] = 0x7ff0_0000_1000;
    let block: Vec<u8> = (0x80..0xc0).collect();
    let table = [0xfe, 0xff, 0xff, 0xff, 7, 0, 0, 0];
    read(
        Arch::X86_64,
        &[
            ("8@%rax", 0x1122_3344_5566_f788),
            ("-8@%rax", 0x1122_3344_5566_f788),
            ("4@%eax", 0x5566_f788),
            ("-4@%ebx", (-0x8000_0000_i64).cast_unsigned()),
            ("4@%ebx", 0x8000_0000),
            ("2@%ax", 0xf788),
            ("-2@%ax", (-0x878_i64).cast_unsigned()),
            ("1@%al", 0x88),
            ("-1@%al", (-0x78_i64).cast_unsigned()),
            ("1@%ah", 0xf7),
            ("-1@%ah", (-9_i64).cast_unsigned()),
            ("-4@$-1", u64::MAX),
            ("4@$-1", 0xffff_ffff),
            ("8@$0x10", 16),
            ("1@(%rdi)", 0x80),
            ("-1@1(%rdi)", (-0x7f_i64).cast_unsigned()),
            ("2@-16(%rbp)", 0x8180),
            ("-4@-12(%rbp)", u64::from(0x8786_8584_u32) | 0xffff_ffff_0000_0000),
            ("8@8(%rsp)", 0x8f8e_8d8c_8b8a_8988),
            ("1@(%rdi,%rsi,8)", 0x98),
            ("1@-2(%rdi,%rsi)", 0x81),
            ("-4@table(%rip)", (-2_i64).cast_unsigned()),
            ("4@4+table(%rip)", 7),
            // What is nowhere is 0.
            ("8@(%rcx)", 0),
            ("8@64(%rcx)", 0),
        ],
        &registers,
        &[(0x7ff0_0000_1000, &block), (0x5550_0000_2000, &table)],
    );
}

#[test]
fn operands_of_arm64_are_read() {
    // x0 to x30, sp, pc, pstate
    let mut registers = [0_u64; 34];
    registers[0] = 0xffff_ffff_ffff_fff0;
    registers[1] = 0xaaaa_aaaa_0001_1000;
    registers[2] = 2;
    registers[3] = 0x1234_5678_ffff_fffe;
    registers[29] = 0xaaaa_aaaa_0001_1020;
    registers[31] = 0xaaaa_aaaa_0001_1000;
    // An address of the lower half, as programs have it.
    registers[1] &= 0x0000_ffff_ffff_ffff;
    registers[29] &= 0x0000_ffff_ffff_ffff;
    registers[31] &= 0x0000_ffff_ffff_ffff;
    let block: Vec<u8> = (0x80..0xc0).collect();
    read(
        Arch::Aarch64,
        &[
            ("8@x0", 0xffff_ffff_ffff_fff0),
            ("-4@w0", (-16_i64).cast_unsigned()),
            ("4@w0", 0xffff_fff0),
            ("2@w0", 0xfff0),
            ("-4@5", 5),
            ("8@xzr", 0),
            ("1@[x1]", 0x80),
            ("4@[sp, 4]", 0x8786_8584),
            ("-4@[x29, #-32]", u64::from(0x8382_8180_u32) | 0xffff_ffff_0000_0000),
            ("1@[x1, x2]", 0x82),
            ("2@[x1, x2, lsl 3]", 0x9190),
            ("1@[x29, w3, sxtw]", 0x9e),
            ("1@[x29, w3, sxtw #2]", 0x98),
            ("8@[x1, w3, uxtw]", 0),
        ],
        &registers,
        &[(registers[1], &block)],
    );
}

#[test]
fn places_with_other_operands_are_other_programs() {
    let world = World::new();
    let compiled = |places: &[&str], expressions: &[&str]| {
        let brought = Brought { arch: Arch::X86_64, places };
        let expressions: Vec<String> = expressions.iter().map(ToString::to_string).collect();
        let frame = Frame { head: "    at: \"usdt:/bin/program:point\"\n".into() };
        let case = compile(&frame, &expressions, &target(&world, &brought))?;
        let sites = |sites: &usdt::UsdtSites| sites.list.iter().map(|site| site.offset).collect::<Vec<_>>();
        Ok::<_, String>(
            case.program.codes.iter().map(|code| sites(code.usdt.as_ref().unwrap())).collect::<Vec<_>>(),
        )
    };
    let places = ["8@%rax 4@%ebx", "8@%rax 4@%ecx", "8@%rax 4@%ebx", "8@%rdx 4@%ebx"];
    assert_eq!(compiled(&places, &["arg0", "arg1"]).unwrap(), [vec![0x100, 0x102], vec![0x101], vec![0x103]]);
    assert_eq!(compiled(&places, &["arg0"]).unwrap(), [vec![0x100, 0x102, 0x101], vec![0x103]]);
    assert_eq!(compiled(&places, &["pid"]).unwrap(), [vec![0x100, 0x102, 0x101, 0x103]]);
    let error = compiled(&["8@%rax 4@%ebx", "8@%rax"], &["arg1"]).unwrap_err();
    assert!(error.contains("has no argument number 1"), "{error}");
    let error = compiled(&["8@%rax", "8@%rip"], &["arg0"]).unwrap_err();
    assert!(error.contains("`8@%rip` is a form of operand that is not known"), "{error}");
    assert_eq!(compiled(&["8@%rax", "8@%rip"], &["pid"]).unwrap(), [vec![0x100, 0x101]]);
    let many: Vec<String> = (0..65).map(|number| format!("8@{number}(%rax)")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(compiled(&many[..64], &["arg0"]).unwrap().len(), 64);
    let error = compiled(&many, &["arg0"]).unwrap_err();
    assert!(error.contains("in 65 ways"), "{error}");
}
