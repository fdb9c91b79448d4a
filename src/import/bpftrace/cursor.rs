//! Characters of a script → lexemes, each with its place.

use std::sync::Arc;
use tapster_ebpf::diagnostic::{Diagnostic, SourceFile, Span};

/// The smallest part of a script that has a meaning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Lexeme {
    Name(String),
    /// `$x`
    Variable(String),
    /// `@x`, and `@` alone.
    Map(String),
    /// `$1`, `$#`
    Parameter(String),
    Number(u64),
    Text(String),
    Sign(&'static str),
    End,
}

/// Signs, the longest first.
const SIGNS: [&str; 46] = [
    "<<=", ">>=", "...", "<<", ">>", "<=", ">=", "==", "!=", "&&", "||", "++", "--", "+=", "-=", "*=", "/=",
    "%=", "&=", "|=", "^=", "->", "..", "=>", "::", "+", "-", "*", "/", "%", "&", "|", "^", "~", "!", "<",
    ">", "=", "?", ":", ";", ",", ".", "(", ")", "{",
];
/// Signs that stand alone whatever follows.
const CLOSING: [&str; 5] = ["}", "[", "]", "#", "\\"];

/// A place in a script, from which lexemes are read.
#[derive(Clone, Debug)]
pub(super) struct Cursor<'t> {
    file: &'t Arc<SourceFile>,
    text: &'t str,
    pub(super) at: usize,
}

/// Whether a character may be within a name.
pub(super) fn is_name_part(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

impl<'t> Cursor<'t> {
    /// Begins to read `text`, which has the places of `file`.
    pub(super) fn new(file: &'t Arc<SourceFile>, text: &'t str) -> Self {
        Self { file, text, at: 0 }
    }

    /// What is left.
    pub(super) fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or("")
    }

    pub(super) fn error(&self, span: Span, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(self.file, span, message)
    }

    /// Passes blanks and comments.
    pub(super) fn skip_blanks(&mut self) -> Result<(), Diagnostic> {
        loop {
            let rest = self.rest();
            let blanks = rest.len() - rest.trim_start().len();
            self.at += blanks;
            let rest = self.rest();
            if rest.starts_with("//") {
                self.at += rest.find('\n').unwrap_or(rest.len());
            } else if rest.starts_with("/*") {
                let Some(end) = rest.find("*/") else {
                    let span = self.at..self.at + 2;
                    return Err(self.error(span, "the comment does not end").hint("end it with `*/`"));
                };
                self.at += end + 2;
            } else {
                return Ok(());
            }
        }
    }

    /// The next lexeme, which stays unread.
    pub(super) fn peek(&self) -> Result<(Lexeme, Span), Diagnostic> {
        self.clone().take()
    }

    /// Reads the next lexeme.
    pub(super) fn take(&mut self) -> Result<(Lexeme, Span), Diagnostic> {
        self.skip_blanks()?;
        let begin = self.at;
        let rest = self.rest();
        let Some(first) = rest.chars().next() else { return Ok((Lexeme::End, begin..begin)) };
        let lexeme = match first {
            '"' | '\'' => self.quoted(first)?,
            '0'..='9' => self.number()?,
            '$' => {
                self.at += 1;
                match self.word().as_str() {
                    "" if self.rest().starts_with('#') => {
                        self.at += 1;
                        Lexeme::Parameter("#".into())
                    }
                    "" => return Err(self.error(begin..begin + 1, "`$` without a name")),
                    word if word.starts_with(|c: char| c.is_ascii_digit()) => Lexeme::Parameter(word.into()),
                    word => Lexeme::Variable(word.into()),
                }
            }
            '@' => {
                self.at += 1;
                Lexeme::Map(self.word())
            }
            c if is_name_part(c) => Lexeme::Name(self.word()),
            _ => {
                let mut signs = SIGNS.iter().chain(&CLOSING);
                let Some(sign) = signs.find(|sign| rest.starts_with(**sign)) else {
                    let span = begin..begin + first.len_utf8();
                    return Err(self.error(span, format!("`{first}` has no meaning in a script of bpftrace")));
                };
                self.at += sign.len();
                Lexeme::Sign(sign)
            }
        };
        Ok((lexeme, begin..self.at))
    }

    fn word(&mut self) -> String {
        let rest = self.rest();
        let length = rest.find(|c: char| !is_name_part(c)).unwrap_or(rest.len());
        self.at += length;
        rest[..length].to_owned()
    }

    fn quoted(&mut self, quote: char) -> Result<Lexeme, Diagnostic> {
        let begin = self.at;
        let mut text = String::new();
        let mut characters = self.rest().char_indices().skip(1);
        while let Some((at, c)) = characters.next() {
            match c {
                '\\' => match characters.next().map(|(_, c)| c) {
                    Some('n') => text.push('\n'),
                    Some('t') => text.push('\t'),
                    Some('r') => text.push('\r'),
                    Some(c) => text.push(c),
                    None => break,
                },
                c if c == quote => {
                    self.at += at + 1;
                    return Ok(Lexeme::Text(text));
                }
                c => text.push(c),
            }
        }
        Err(self.error(begin..begin + 1, "the text does not end").hint("close it with the same quote"))
    }

    /// `10`, `0x1f`, `1e6`, `1_000`, `10ms`.
    fn number(&mut self) -> Result<Lexeme, Diagnostic> {
        let begin = self.at;
        let word = self.word().replace('_', "");
        let number = if let Some(digits) = word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")) {
            u64::from_str_radix(digits.trim_end_matches(['u', 'U', 'l', 'L']), 16).ok()
        } else {
            let digits = word.len() - word.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let (digits, suffix) = word.split_at(digits);
            let scale = match suffix.to_ascii_lowercase().as_str() {
                "" | "u" | "l" | "ul" | "ull" | "ll" | "ns" => Some(1),
                "us" => Some(1_000),
                "ms" => Some(1_000_000),
                "s" => Some(1_000_000_000),
                "m" => Some(60_000_000_000),
                "h" => Some(3_600_000_000_000),
                "d" => Some(86_400_000_000_000),
                other => other
                    .strip_prefix('e')
                    .and_then(|power| power.parse().ok())
                    .and_then(|power| 10_u64.checked_pow(power)),
            };
            // A leading 0 is octal, as in C.
            let radix = if digits.len() > 1 && digits.starts_with('0') { 8 } else { 10 };
            let digits = u64::from_str_radix(digits, radix).ok();
            digits.zip(scale).and_then(|(digits, scale)| digits.checked_mul(scale))
        };
        number.map(Lexeme::Number).ok_or_else(|| {
            let span = begin..self.at;
            self.error(span, format!("`{word}` is no number of 64 bits"))
                .hint("write it in decimal, as `0x…` or as `1e6`")
        })
    }
}
