//! Arguments of a USDT probe: `SIZE@OPERAND`, with the operand as the compiler wrote it for the assembler.
//!
//! Source: `sys/sdt.h` and the wiki page `UserSpaceProbeImplementation` of `SystemTap`; operands as the GNU assembler accepts
//! them, for x86-64 in AT&T syntax.

use crate::arch::Arch;

/// Most arguments of a probe that are read; `sys/sdt.h` makes 12.
const MOST: usize = 64;

/// An argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsdtArgument {
    /// Size: 1, 2, 4 or 8 bytes.
    pub size: u32,
    /// Whether it can be negative.
    pub signed: bool,
    /// Its place.
    pub operand: UsdtOperand,
}

impl UsdtArgument {
    /// Its type in short form: `s32`.
    pub fn ctype(&self) -> String {
        format!("{}{}", if self.signed { 's' } else { 'u' }, self.size * 8)
    }
}

/// The place of an argument. Registers are offsets in the registers that the kernel saves (`struct pt_regs`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UsdtOperand {
    /// A constant.
    Constant(i64),
    /// A register, shifted by this many bits.
    Register {
        /// Offset of the register, bytes.
        offset: u32,
        /// Bits to shift right: 8 for `%ah`.
        shift: u8,
    },
    /// Memory at a register.
    Memory {
        /// Register with the address.
        base: Option<u32>,
        /// An index register that is added to the address.
        index: Option<Index>,
        /// Bytes that are added to the address.
        displacement: i32,
    },
    /// Memory at a symbol of the file.
    Symbol {
        /// Name of the symbol.
        name: String,
        /// Bytes that are added to its address.
        addend: i64,
    },
    /// Memory at this distance from the place of the probe. It replaces a symbol once that is resolved.
    Relative {
        /// The distance, bytes.
        distance: i64,
    },
}

/// A register that is multiplied and added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Index {
    /// Offset of the register, bytes.
    pub offset: u32,
    /// Exponent of the factor, base 2.
    pub shift: u8,
    /// The part of the register that is used.
    pub extend: Extend,
}

/// The part of an index register that is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extend {
    /// All 64 bits.
    Whole,
    /// The lower 32 bits.
    Unsigned,
    /// The lower 32 bits, sign-extended.
    Signed,
}

/// A register by its name: its offset and width in bytes, and the bits to shift right.
#[derive(Clone, Copy, Debug)]
struct Register {
    offset: u32,
    size: u32,
    shift: u8,
}

/// Parses the arguments of a note. An argument that is not understood is an error at its index.
pub fn arguments(text: &str, arch: Arch) -> Vec<Result<UsdtArgument, String>> {
    words(text).into_iter().take(MOST).map(|word| argument(word, arch)).collect()
}

/// Splits at blanks outside of brackets.
fn words(text: &str) -> Vec<&str> {
    let mut depth = 0_u32;
    text.split(|c: char| {
        match c {
            '[' | '(' => depth += 1,
            ']' | ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c.is_ascii_whitespace() && depth == 0
    })
    .filter(|word| !word.is_empty())
    .collect()
}

fn argument(word: &str, arch: Arch) -> Result<UsdtArgument, String> {
    let (size, operand) = match word.split_once('@') {
        Some((size, operand)) => (Some(size), operand),
        None => (None, word),
    };
    let (size, signed) = match size {
        Some(size) => {
            let digits = size.strip_prefix('-').unwrap_or(size);
            if digits.ends_with('f') {
                return Err(format!("`{word}` is a floating point number, which programs do not see"));
            }
            let bytes = digits.parse().ok().filter(|bytes| matches!(bytes, 1 | 2 | 4 | 8));
            (
                Some(bytes.ok_or_else(|| format!("`{size}` of `{word}` is not a size"))?),
                size.len() > digits.len(),
            )
        }
        None => (None, false),
    };
    let (operand, natural) = match arch {
        Arch::X86_64 => x86_64(operand),
        Arch::Aarch64 => aarch64(operand),
    }
    .ok_or_else(|| format!("`{word}` is a form of operand that is not known"))?;
    Ok(UsdtArgument { size: size.or(natural).unwrap_or(8), signed, operand })
}

fn number(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let value = match digits.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok()?,
        None if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok()?,
        None => return None,
    };
    // The upper half is what a negative number looks like without its sign.
    Some(if negative { value.wrapping_neg() } else { value }.cast_signed())
}

/// `SYMBOL`, `SYMBOL+8`, `8+SYMBOL`, `SYMBOL-8`
fn symbol(text: &str) -> Option<UsdtOperand> {
    let is_name = |name: &str| {
        name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'$'))
            && !name.starts_with(|c: char| c.is_ascii_digit() || c == '$')
            && !name.is_empty()
    };
    let (mut name, mut addend) = (None, 0_i64);
    let mut rest = text;
    while !rest.is_empty() {
        let sign = rest.strip_prefix(['+', '-']).map_or(0, |_| 1);
        let end = rest[sign..].find(['+', '-']).map_or(rest.len(), |end| end + sign);
        let (term, behind) = rest.split_at(end);
        rest = behind;
        match number(term) {
            Some(value) => addend = addend.checked_add(value)?,
            None if name.is_none() => name = Some(term.strip_prefix('+').unwrap_or(term)),
            None => return None,
        }
    }
    let name = name.filter(|name| is_name(name))?;
    Some(UsdtOperand::Symbol { name: name.to_owned(), addend })
}

/// Offset of a register of x86-64 in `struct pt_regs`.
fn x86_64_register(name: &str) -> Option<Register> {
    // 64, 32, 16 and 8 bits of each, and bits 8 to 15 where they have a name.
    const NAMES: [(u32, [&str; 5]); 16] = [
        (0, ["r15", "r15d", "r15w", "r15b", ""]),
        (1, ["r14", "r14d", "r14w", "r14b", ""]),
        (2, ["r13", "r13d", "r13w", "r13b", ""]),
        (3, ["r12", "r12d", "r12w", "r12b", ""]),
        (4, ["rbp", "ebp", "bp", "bpl", ""]),
        (5, ["rbx", "ebx", "bx", "bl", "bh"]),
        (6, ["r11", "r11d", "r11w", "r11b", ""]),
        (7, ["r10", "r10d", "r10w", "r10b", ""]),
        (8, ["r9", "r9d", "r9w", "r9b", ""]),
        (9, ["r8", "r8d", "r8w", "r8b", ""]),
        (10, ["rax", "eax", "ax", "al", "ah"]),
        (11, ["rcx", "ecx", "cx", "cl", "ch"]),
        (12, ["rdx", "edx", "dx", "dl", "dh"]),
        (13, ["rsi", "esi", "si", "sil", ""]),
        (14, ["rdi", "edi", "di", "dil", ""]),
        (19, ["rsp", "esp", "sp", "spl", ""]),
    ];
    let name = name.strip_prefix('%').filter(|name| !name.is_empty())?;
    NAMES.iter().find_map(|(index, names)| {
        let form = names.iter().position(|known| *known == name)?;
        let (size, shift) = [(8, 0), (4, 0), (2, 0), (1, 0), (1, 8)][form];
        Some(Register { offset: index * 8, size, shift })
    })
}

/// A whole register, for addresses.
fn x86_64_address(name: &str) -> Option<u32> {
    x86_64_register(name.trim()).filter(|register| register.size == 8).map(|register| register.offset)
}

/// The operand, and its size if its name contains that.
fn x86_64(text: &str) -> Option<(UsdtOperand, Option<u32>)> {
    if let Some(constant) = text.strip_prefix('$') {
        return Some((UsdtOperand::Constant(number(constant)?), None));
    }
    if let Some(Register { offset, size, shift }) = x86_64_register(text) {
        return Some((UsdtOperand::Register { offset, shift }, Some(size)));
    }
    let Some((displacement, inside)) = text.split_once('(') else {
        return symbol(text).map(|symbol| (symbol, None));
    };
    let inside = inside.strip_suffix(')')?;
    if inside.trim() == "%rip" {
        // A mere number counts from the end of an instruction that is not there.
        return symbol(displacement).map(|symbol| (symbol, None));
    }
    let displacement = if displacement.is_empty() { 0 } else { number(displacement)? };
    let parts: Vec<&str> = inside.split(',').map(str::trim).collect();
    let (base, index, scale) = match parts.as_slice() {
        [base] => (*base, None, "1"),
        [base, index] => (*base, Some(*index), "1"),
        [base, index, scale] => (*base, Some(*index), *scale),
        _ => return None,
    };
    let base = if base.is_empty() { None } else { Some(x86_64_address(base)?) };
    let index = match index {
        Some(index) => {
            let shift = match scale {
                "1" | "" => 0,
                "2" => 1,
                "4" => 2,
                "8" => 3,
                _ => return None,
            };
            Some(Index { offset: x86_64_address(index)?, shift, extend: Extend::Whole })
        }
        None => None,
    };
    if base.is_none() && index.is_none() {
        return None;
    }
    Some((UsdtOperand::Memory { base, index, displacement: i32::try_from(displacement).ok()? }, None))
}

/// `x0` to `x30`, `w0` to `w30`, `sp`; `None` for the zero register, which is not saved.
fn aarch64_register(name: &str) -> Option<Register> {
    let name = match name {
        "sp" => return Some(Register { offset: 31 * 8, size: 8, shift: 0 }),
        "wsp" => return Some(Register { offset: 31 * 8, size: 4, shift: 0 }),
        "fp" => "x29",
        "lr" => "x30",
        name => name,
    };
    let (size, digits) = match name.strip_prefix('x') {
        Some(digits) => (8, digits),
        None => (4, name.strip_prefix('w')?),
    };
    let index = digits.parse().ok().filter(|index: &u32| *index <= 30 && index.to_string() == digits)?;
    Some(Register { offset: index * 8, size, shift: 0 })
}

fn aarch64(text: &str) -> Option<(UsdtOperand, Option<u32>)> {
    let plain = |text: &str| number(text.strip_prefix('#').unwrap_or(text));
    if let Some(value) = plain(text) {
        return Some((UsdtOperand::Constant(value), None));
    }
    match text {
        "xzr" => return Some((UsdtOperand::Constant(0), Some(8))),
        "wzr" => return Some((UsdtOperand::Constant(0), Some(4))),
        _ => {}
    }
    if let Some(Register { offset, size, shift }) = aarch64_register(text) {
        return Some((UsdtOperand::Register { offset, shift }, Some(size)));
    }
    let inside = text.strip_prefix('[')?.strip_suffix(']')?;
    let parts: Vec<&str> = inside.split(',').map(str::trim).collect();
    let whole = |name: &str| {
        aarch64_register(name).filter(|register| register.size == 8).map(|register| register.offset)
    };
    let base = Some(whole(parts.first()?)?);
    let memory = |index, displacement| Some((UsdtOperand::Memory { base, index, displacement }, None));
    match parts.as_slice() {
        [_] => memory(None, 0),
        [_, offset] => match plain(offset) {
            Some(value) => memory(None, i32::try_from(value).ok()?),
            None => memory(Some(Index { offset: whole(offset)?, shift: 0, extend: Extend::Whole }), 0),
        },
        [_, index, how] => {
            let (how, amount) = how.split_once(char::is_whitespace).unwrap_or((how, "0"));
            let register = aarch64_register(index)?;
            let extend = match (how, register.size) {
                ("lsl" | "sxtx" | "uxtx", 8) => Extend::Whole,
                ("uxtw", 4) => Extend::Unsigned,
                ("sxtw", 4) => Extend::Signed,
                _ => return None,
            };
            let shift = plain(amount.trim()).and_then(|shift| u8::try_from(shift).ok());
            let shift = shift.filter(|shift| *shift <= 4)?;
            memory(Some(Index { offset: register.offset, shift, extend }), 0)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str, arch: Arch) -> UsdtArgument {
        let found = arguments(text, arch);
        assert_eq!(found.len(), 1, "{text}");
        found.into_iter().next().unwrap().unwrap_or_else(|why| panic!("{text}: {why}"))
    }

    fn memory(base: Option<u32>, index: Option<(u32, u8, Extend)>, displacement: i32) -> UsdtOperand {
        let index = index.map(|(offset, shift, extend)| Index { offset, shift, extend });
        UsdtOperand::Memory { base, index, displacement }
    }

    #[test]
    fn operands_of_x86_64() {
        let register = |offset| UsdtOperand::Register { offset, shift: 0 };
        let symbol = |name: &str, addend| UsdtOperand::Symbol { name: name.into(), addend };
        for (text, size, signed, operand) in [
            ("8@%rbx", 8, false, register(40)),
            ("-4@%eax", 4, true, register(80)),
            ("2@%r14w", 2, false, register(8)),
            ("-1@%dil", 1, true, register(112)),
            ("1@%ah", 1, false, UsdtOperand::Register { offset: 80, shift: 8 }),
            ("8@%rsp", 8, false, register(152)),
            ("%rdi", 8, false, register(112)),
            ("%r9d", 4, false, register(64)),
            ("-4@$-1", 4, true, UsdtOperand::Constant(-1)),
            ("8@$0xffffffffffffffff", 8, false, UsdtOperand::Constant(-1)),
            ("4@$8192", 4, false, UsdtOperand::Constant(8192)),
            ("8@-144(%rbp)", 8, false, memory(Some(32), None, -144)),
            ("4@0(%r13)", 4, false, memory(Some(16), None, 0)),
            ("4@(%r12)", 4, false, memory(Some(24), None, 0)),
            ("8@0x10(%rax)", 8, false, memory(Some(80), None, 16)),
            ("8@-8(%rdx,%rcx)", 8, false, memory(Some(96), Some((88, 0, Extend::Whole)), -8)),
            ("-2@4(%rdi,%rsi,8)", 2, true, memory(Some(112), Some((104, 3, Extend::Whole)), 4)),
            ("8@(%rdi, %rsi, 2)", 8, false, memory(Some(112), Some((104, 1, Extend::Whole)), 0)),
            ("8@(,%rax,4)", 8, false, memory(None, Some((80, 2, Extend::Whole)), 0)),
            ("-4@NBuffers(%rip)", 4, true, symbol("NBuffers", 0)),
            ("-4@40+CheckpointStats(%rip)", 4, true, symbol("CheckpointStats", 40)),
            ("8@_ZN3foo3barE-8(%rip)", 8, false, symbol("_ZN3foo3barE", -8)),
            ("8@counter.0", 8, false, symbol("counter.0", 0)),
        ] {
            assert_eq!(one(text, Arch::X86_64), UsdtArgument { size, signed, operand }, "{text}");
        }
    }

    #[test]
    fn operands_of_arm64() {
        let register = |index: u32| UsdtOperand::Register { offset: index * 8, shift: 0 };
        for (text, size, signed, operand) in [
            ("8@x0", 8, false, register(0)),
            ("-4@w30", 4, true, register(30)),
            ("8@fp", 8, false, register(29)),
            ("8@sp", 8, false, register(31)),
            ("w3", 4, false, register(3)),
            ("-4@5", 4, true, UsdtOperand::Constant(5)),
            ("8@#-7", 8, false, UsdtOperand::Constant(-7)),
            ("8@xzr", 8, false, UsdtOperand::Constant(0)),
            ("4@[sp]", 4, false, memory(Some(248), None, 0)),
            ("8@[sp, 24]", 8, false, memory(Some(248), None, 24)),
            ("-4@[x29, #-20]", 4, true, memory(Some(232), None, -20)),
            ("8@[x1, x2]", 8, false, memory(Some(8), Some((16, 0, Extend::Whole)), 0)),
            ("8@[x1, x2, lsl 3]", 8, false, memory(Some(8), Some((16, 3, Extend::Whole)), 0)),
            ("4@[x1,w2,sxtw #2]", 4, false, memory(Some(8), Some((16, 2, Extend::Signed)), 0)),
            ("4@[x1, w2, uxtw]", 4, false, memory(Some(8), Some((16, 0, Extend::Unsigned)), 0)),
        ] {
            assert_eq!(one(text, Arch::Aarch64), UsdtArgument { size, signed, operand }, "{text}");
        }
    }

    #[test]
    fn arguments_are_told_apart() {
        let found = arguments("8@[sp, 24]  -4@w1 8@[x1, x2, lsl 3] 4@7", Arch::Aarch64);
        assert_eq!(found.len(), 4);
        assert!(found.iter().all(Result::is_ok), "{found:?}");
        let found = arguments("8@%xmm0 -4@%eax 1@(%rdi, %rsi, 2)", Arch::X86_64);
        assert_eq!(found.iter().map(Result::is_ok).collect::<Vec<_>>(), [false, true, true]);
        assert_eq!(arguments("", Arch::X86_64), []);
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for text in [
            "8@%xmm0",
            "8f@%rax",
            "-8f@-8(%rbp)",
            "3@%rax",
            "@%rax",
            "8@",
            "8@%",
            "8@%rip",
            "8@%fs:40",
            "8@$symbol",
            "8@1520(%rip)",
            "8@(%eax)",
            "8@(%rax,%rcx,3)",
            "8@(%rax",
            "8@()",
            "8@(,)",
            "8@foo(,%rax,4)",
            "8@a+b(%rip)",
            "8@99999999999(%rax)",
            "8@[x0]",
            "--4@%eax",
            "4@%rax@1",
            "8@%r16",
            "8@-symbol",
        ] {
            assert!(arguments(text, Arch::X86_64)[0].is_err(), "{text}");
        }
        for text in [
            "8@d0",
            "8@x31",
            "8@x01",
            "8@%rax",
            "8@[w0]",
            "8@[x0, 8]!",
            "8@[x0, w1]",
            "8@[x0, w1, lsl 2]",
            "8@[x0, x1, lsl 9]",
            "8@[]",
            "8@[x0, #:lo12:symbol]",
            "8@symbol",
            "16@x0",
        ] {
            assert!(arguments(text, Arch::Aarch64)[0].is_err(), "{text}");
        }
    }
}
