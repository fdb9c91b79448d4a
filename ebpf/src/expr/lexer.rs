//! Splits a text into tokens.

use super::ParseError;
use std::ops::Range;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    Integer(u64),
    Text(String),
    Name(String),
    /// An operator or bracket, as written.
    Symbol(&'static str),
}

/// Operators, longest first, so that `<<` is not read as two `<`.
const SYMBOLS: [&str; 31] = [
    "->", "<<", ">>", "<=", ">=", "==", "!=", "&&", "||", "??", "+", "-", "*", "/", "%", "&", "|", "^", "~",
    "!", "<", ">", "?", ":", "(", ")", "[", "]", ".", ",", "=",
];

/// Suffixes of durations, and their nanoseconds.
const UNITS: [(&str, u64); 6] = [
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

fn error(span: Range<usize>, message: impl Into<String>) -> ParseError {
    ParseError { message: message.into(), span, hint: None }
}

pub(super) fn tokens(text: &str) -> Result<Vec<(Token, Range<usize>)>, ParseError> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let start = at;
        let token = match bytes[at] {
            byte if byte.is_ascii_whitespace() => {
                at += 1;
                continue;
            }
            b'0'..=b'9' => {
                at = word_end(bytes, at);
                Token::Integer(integer(&text[start..at], start..at)?)
            }
            b'a'..=b'z' | b'A'..=b'Z' | b'_' | b'$' => {
                at = word_end(bytes, at + 1);
                Token::Name(text[start..at].to_owned())
            }
            quote @ (b'"' | b'\'') => {
                let (content, end) = quoted(text, start, char::from(quote))?;
                at = end;
                Token::Text(content)
            }
            _ => {
                let rest = &text[at..];
                let Some(symbol) = SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol)) else {
                    let wrong = rest.chars().next().unwrap_or(' ');
                    return Err(error(
                        at..at + wrong.len_utf8(),
                        format!("`{}` is not part of an expression", wrong.escape_debug()),
                    ));
                };
                at += symbol.len();
                Token::Symbol(symbol)
            }
        };
        found.push((token, start..at));
    }
    Ok(found)
}

fn word_end(bytes: &[u8], mut at: usize) -> usize {
    while at < bytes.len() && (bytes[at].is_ascii_alphanumeric() || bytes[at] == b'_') {
        at += 1;
    }
    at
}

fn integer(word: &str, span: Range<usize>) -> Result<u64, ParseError> {
    let digits = word.replace('_', "");
    let lower = digits.to_ascii_lowercase();
    let parsed = if let Some(hex) = lower.strip_prefix("0x") {
        u64::from_str_radix(hex, 16).ok()
    } else if let Some(binary) = lower.strip_prefix("0b") {
        u64::from_str_radix(binary, 2).ok()
    } else if lower.len() > 1 && lower.starts_with('0') && lower.bytes().all(|byte| byte.is_ascii_digit()) {
        u64::from_str_radix(&lower, 8).ok()
    } else {
        let split = lower.find(|c: char| !c.is_ascii_digit()).unwrap_or(lower.len());
        let (number, suffix) = lower.split_at(split);
        let scale = match suffix {
            "" | "u" | "l" | "ul" | "ll" | "ull" => Some(1),
            unit => UNITS.iter().find(|(name, _)| *name == unit).map(|(_, scale)| *scale),
        };
        number.parse::<u64>().ok().zip(scale).and_then(|(number, scale)| number.checked_mul(scale))
    };
    parsed.ok_or_else(|| ParseError {
        message: format!("`{word}` is not an integer of 64 bits"),
        span,
        hint: Some("write decimal, 0x…, 0b… or a duration such as 10ms".into()),
    })
}

fn quoted(text: &str, start: usize, quote: char) -> Result<(String, usize), ParseError> {
    let mut content = String::new();
    let mut chars = text[start + 1..].char_indices();
    while let Some((at, found)) = chars.next() {
        if found == quote {
            return Ok((content, start + 1 + at + 1));
        }
        if found != '\\' {
            content.push(found);
            continue;
        }
        content.push(match chars.next() {
            Some((_, 'n')) => '\n',
            Some((_, 't')) => '\t',
            Some((_, same @ ('\\' | '"' | '\'' | '*' | '?' | '[' | '{'))) => same,
            _ => {
                return Err(error(
                    start + 1 + at..start + 2 + at,
                    "unknown escape in a string; known are \\n \\t \\\\ \\\" \\' \\* \\? \\[ \\{",
                ));
            }
        });
    }
    Err(error(start..text.len(), format!("this string has no closing {quote}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers() {
        for (text, value) in [
            ("0", 0),
            ("42", 42),
            ("0x2A", 42),
            ("0b101", 5),
            ("017", 15),
            ("1_000", 1000),
            ("10ms", 10_000_000),
            ("2s", 2_000_000_000),
            ("7ULL", 7),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(tokens(text).unwrap()[0].0, Token::Integer(value), "{text}");
        }
        for text in ["18446744073709551616", "0xg", "12abc", "0b2", "99999999999999h", "08"] {
            assert!(tokens(text).is_err(), "{text}");
        }
    }

    #[test]
    fn strings_and_symbols() {
        let found = tokens(r#"comm=="a\"b"&&x<<1"#).unwrap();
        assert_eq!(found[2].0, Token::Text("a\"b".into()));
        assert_eq!(found[5].0, Token::Symbol("<<"));
        assert!(tokens("\"open").is_err());
        assert!(tokens("a @ b").is_err());
        assert!(tokens("ä").is_err());
    }
}
