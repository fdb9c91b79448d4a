//! Texts of settings that are more than a word: lists of pairs, headers, times.

use hyper::header::{HeaderName, HeaderValue};

/// Headers that belong to the protocol.
const TAKEN: [&str; 6] =
    ["content-type", "content-length", "content-encoding", "transfer-encoding", "host", "te"];

/// `KEY=VALUE` pairs separated by commas; keys and values may contain `%XX`, as in W3C's baggage. The error does
/// not repeat values, which may be secret.
pub(super) fn pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut pairs = Vec::new();
    for (part, number) in text.split(',').map(str::trim).zip(1..) {
        if part.is_empty() {
            continue;
        }
        let Some((key, value)) = part.split_once('=') else {
            return Err(format!("entry {number} has no `=`: expected `KEY=VALUE`, separated by commas"));
        };
        let key = decode(key.trim()).ok_or_else(|| format!("the key of entry {number} has a wrong `%`"))?;
        if key.is_empty() {
            return Err(format!("entry {number} has no key before its `=`"));
        }
        let value = decode(value.trim())
            .ok_or_else(|| format!("the value of `{key}` has a wrong `%`: `%25` is one"))?;
        pairs.push((key, value));
    }
    Ok(pairs)
}

/// A list of headers.
pub(super) fn headers(text: &str) -> Result<Vec<(String, String)>, String> {
    pairs(text)?.iter().map(|(name, value)| header(name, value)).collect()
}

/// A header that HTTP can carry and that the protocol does not set itself.
pub(super) fn header(name: &str, value: &str) -> Result<(String, String), String> {
    let lower = name.to_ascii_lowercase();
    if HeaderName::from_bytes(lower.as_bytes()).is_err() {
        return Err(format!("`{name}` is not the name of a header"));
    }
    if HeaderValue::from_str(value).is_err() {
        return Err(format!("the value of the header `{name}` has a character that no header can have"));
    }
    if TAKEN.contains(&lower.as_str()) || lower.starts_with("grpc-") {
        return Err(format!("the header `{name}` belongs to the protocol"));
    }
    Ok((lower, value.to_owned()))
}

/// Decodes `%XX`; `None` if that is no hexadecimal number or the result no UTF-8.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first == b'%' {
            let digits = std::str::from_utf8(after.get(..2)?).ok()?;
            let is_hexadecimal = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
            bytes.push(is_hexadecimal.then(|| u8::from_str_radix(digits, 16).ok())??);
            rest = &after[2..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok()
}
