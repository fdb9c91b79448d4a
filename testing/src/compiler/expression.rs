//! Makes random expressions as text. Not all are well typed: `case` leaves out those that the checker refuses.

use super::random::Random;

pub const INTEGERS: [&str; 8] = ["u8", "s8", "u16", "s16", "u32", "s32", "u64", "s64"];
pub const OPERATORS: [&str; 18] =
    ["+", "-", "*", "/", "%", "<<", ">>", "&", "|", "^", "==", "!=", "<", "<=", ">", ">=", "&&", "||"];

/// Paths to numbers in `struct node`, some through other structs.
const NODE_NUMBERS: [&str; 29] = [
    "big",
    "sbig",
    "ua",
    "ub",
    "uc",
    "sa",
    "sb",
    "la",
    "lb",
    "one",
    "two",
    "flag",
    "word",
    "low",
    "lo",
    "hi",
    "col",
    "crosses",
    "far",
    "inside.a",
    "inside.f",
    "inner.a",
    "inner.b",
    "inner.c",
    "inner.d",
    "inner.e",
    "words[0]",
    "words[4]",
    "numbers[3]",
];
const INNER_NUMBERS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// The names that expressions may use, and the generator.
#[derive(Debug)]
pub struct Grammar {
    pub random: Random,
    /// Names of numbers.
    pub numbers: Vec<String>,
    /// Names of texts.
    pub texts: Vec<String>,
    /// Pointers to `struct node`.
    pub nodes: Vec<String>,
    /// Pointers to `struct inner`.
    pub inners: Vec<String>,
    /// Pointers to text.
    pub strings: Vec<String>,
}

impl Grammar {
    /// For the arguments of `test:untyped`: first numbers, then pointers.
    pub fn untyped(random: Random) -> Self {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        Self {
            random,
            numbers: owned(&["arg0", "arg1", "arg2", "arg3", "arg4", "tid", "pid", "uid", "gid"]),
            texts: owned(&["comm"]),
            nodes: owned(&["((struct node *)arg5)", "((struct node *)arg6)", "((struct node *)arg9)"]),
            inners: owned(&["((struct inner *)arg7)"]),
            strings: owned(&["arg8", "(char *)arg8"]),
        }
    }

    /// For the arguments of `test:typed`: pointers that the verifier would track.
    pub fn typed(random: Random) -> Self {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        Self {
            random,
            numbers: owned(&[
                "args.small",
                "args.half",
                "args.number",
                "args.size",
                "args.big",
                "args.sbig",
                "args.color",
                "tid",
                "cpu",
                "nsecs",
                "cgroup",
            ]),
            texts: owned(&["comm", "str(args.text)"]),
            nodes: owned(&["args.node"]),
            inners: owned(&["args.inner"]),
            strings: owned(&["args.text"]),
        }
    }

    /// For these names only.
    pub fn over(random: Random, numbers: Vec<String>, texts: Vec<String>, strings: Vec<String>) -> Self {
        Self { random, numbers, texts, nodes: Vec::new(), inners: Vec::new(), strings }
    }

    fn choose(&mut self, from: impl Fn(&Self) -> &Vec<String>) -> String {
        let index = self.random.word();
        let names = from(self);
        names[usize::try_from(index % u64::try_from(names.len()).unwrap()).unwrap()].clone()
    }

    pub fn constant(&mut self) -> String {
        let value = self.random.value();
        match self.random.below(4) {
            0 => format!("{value:#x}"),
            1 => value.to_string(),
            2 if value.cast_signed() > i64::MIN => format!("{}", value.cast_signed()),
            _ => self.random.below(70).to_string(),
        }
    }

    fn cast(&mut self, of: &str) -> String {
        format!("({}){of}", self.random.pick(&INTEGERS))
    }

    /// The `let` of an event of several: `own`, a number, and `text`.
    pub fn own_values(&mut self) -> String {
        let (number, text) = (self.number(2), self.text(1));
        format!("        let: {{ own: '({number}) + 0', text: 'str({text}, 20)' }}\n")
    }

    /// A number, in brackets if it needs them.
    pub fn number(&mut self, depth: usize) -> String {
        if depth == 0 {
            return match self.random.below(8) {
                0 | 1 => self.constant(),
                2 | 3 => {
                    let name = self.choose(|grammar| &grammar.numbers);
                    self.cast(&name)
                }
                4 if !self.nodes.is_empty() => {
                    let base = self.node(1);
                    format!("{base}.{}", self.random.pick(&NODE_NUMBERS))
                }
                _ => self.choose(|grammar| &grammar.numbers),
            };
        }
        let below = depth - 1;
        match self.random.below(24) {
            19..=22 if self.nodes.is_empty() => self.number(below),
            0..=7 => {
                let (a, operator, b) = (self.number(below), self.random.pick(&OPERATORS), self.number(below));
                format!("({a} {operator} {b})")
            }
            8 => {
                // A shallow left side and a deep right one, and a chain without brackets.
                let (a, b) = (self.number(0), self.number(below));
                let (first, second) =
                    (self.random.pick(&["+", "-", "*", "|"]), self.random.pick(&["-", "<<", "/", "%", ">="]));
                let c = self.number(0);
                format!("({a} {first} {b} {second} {c})")
            }
            9 | 10 => {
                let operand = self.number(below);
                format!("({}{operand})", self.random.pick(&["-", "~", "!"]))
            }
            11 | 12 => {
                let operand = self.number(below);
                let cast = self.cast(&operand);
                format!("({cast})")
            }
            13 | 14 => {
                let (c, a, b) = (self.number(below), self.number(below), self.number(below));
                format!("({c} ? {a} : {b})")
            }
            15 => {
                let (a, b) = (self.number(below), self.number(below));
                format!("{}({a}, {b})", self.random.pick(&["min", "max"]))
            }
            16 => {
                let operand = self.number(below);
                format!("{}({operand})", self.random.pick(&["major", "minor", "ntohs", "ntohl", "bswap64"]))
            }
            17 | 18 if self.random.one_in(3) => {
                // A text that is never as long as what is looked for is refused; `comm` may be.
                let (text, is_alone) = (self.text(below), self.random.one_in(3));
                let text = if is_alone { "comm".into() } else { format!("(tid ? {text} : comm)") };
                let sought = self.random.pick(&["a", "b", "ab", "bc", "efg", "abcdefg", "fgh!", "abcdefgh!"]);
                format!("{}({text}, \"{sought}\")", self.random.pick(&["prefix", "contains"]))
            }
            17 | 18 => {
                let (a, mut b) = (self.text(below), self.text(below));
                // A literal may be longer than the other text can be, which the checker refuses.
                if b.starts_with('"') && !self.random.one_in(3) {
                    b = format!("(tid ? {b} : {b})");
                }
                format!("({a} {} {b})", self.random.pick(&["==", "!="]))
            }
            19..=21 => self.member(depth),
            22 => match self.random.below(4) {
                0 => {
                    let (a, b) = (self.node(1), self.node(1));
                    format!("({a} {} {b})", self.random.pick(&["==", "!=", "<", "-"]))
                }
                1 => {
                    let node = self.node(1);
                    format!("({node} {} 0)", self.random.pick(&["==", "!="]))
                }
                2 => {
                    let node = self.node(1);
                    format!("({node} && {})", self.number(below))
                }
                _ => {
                    let node = self.node(2);
                    format!("({}{node})", self.random.pick(&["!", "(u64)", "~"]))
                }
            },
            _ => self.number(0),
        }
    }

    /// A number behind a pointer.
    fn member(&mut self, depth: usize) -> String {
        match self.random.below(6) {
            0 => {
                let base = self.inner(depth);
                format!("{base}.{}", self.random.pick(&INNER_NUMBERS))
            }
            1 => {
                let (base, index) = (self.node(2), self.number(depth - 1));
                format!("{base}.words[{index} & 3]")
            }
            2 => {
                let (base, index) = (self.node(2), self.number(depth - 1));
                format!("{base}.table[{index} & 1].{}", self.random.pick(&INNER_NUMBERS))
            }
            3 => {
                let base = self.node(2);
                format!("(*{base}.numbers)")
            }
            _ => {
                let base = self.node(depth.min(3));
                format!("{base}.{}", self.random.pick(&NODE_NUMBERS))
            }
        }
    }

    pub fn node(&mut self, depth: usize) -> String {
        let name = self.choose(|grammar| &grammar.nodes);
        if depth == 0 {
            return name;
        }
        match self.random.below(6) {
            0 | 1 => format!("{}.next", self.node(depth - 1)),
            2 => format!("((struct node *){})", self.node(depth - 1)),
            3 => {
                let (a, b) = (self.node(depth - 1), self.node(depth - 1));
                format!("({} ? {a} : {b})", self.number(0))
            }
            _ => name,
        }
    }

    fn inner(&mut self, depth: usize) -> String {
        match self.random.below(4) {
            0 => format!("{}.inner", self.node(depth.min(2))),
            1 => format!("{}.inside", self.node(depth.min(2))),
            2 => format!("((struct inner *){}.inner)", self.node(depth.min(2))),
            _ => self.choose(|grammar| &grammar.inners),
        }
    }

    pub fn text(&mut self, depth: usize) -> String {
        match self.random.below(10) {
            0 | 1 => {
                let text = self.random.pick(&[
                    "",
                    "a",
                    "ab",
                    "abc",
                    "abcd",
                    "abcdef",
                    "abcdefg",
                    "abcdefgh",
                    "abcdefgh!",
                    "test",
                ]);
                format!("\"{text}\"")
            }
            2 => self.choose(|grammar| &grammar.texts),
            3 if !self.strings.is_empty() => {
                let pointer = self.choose(|grammar| &grammar.strings);
                let size = self.random.pick(&["", ", 2", ", 5", ", 8", ", 9", ", 16", ", 100"]);
                format!("str({pointer}{size})")
            }
            4 if !self.nodes.is_empty() => {
                let base = self.node(2);
                let size = self.random.pick(&["", ", 8", ", 3"]);
                format!("str({base}.text{size})")
            }
            5 | 6 if !self.nodes.is_empty() => {
                let base = self.node(2);
                format!("{base}.{}", self.random.pick(&["name", "tag"]))
            }
            // Each is a thousand instructions, and a program here has the values of sixty expressions.
            9 if !self.nodes.is_empty() && self.random.one_in(8) => {
                // A node begins with a pointer, and what follows is seldom one.
                let base = self.node(1);
                format!("argv({base}{})", self.random.pick(&[", 2", ", 9", ", 16", ", 25"]))
            }
            7 if depth > 0 => {
                let text = self.text(depth - 1);
                format!("str({text}, {})", self.random.pick(&["2", "3", "5", "8", "9", "16", "100"]))
            }
            _ if depth > 0 => {
                let (c, a, b) = (self.number(depth - 1), self.text(depth - 1), self.text(depth - 1));
                format!("({c} ? {a} : {b})")
            }
            _ => "comm".into(),
        }
    }
}
