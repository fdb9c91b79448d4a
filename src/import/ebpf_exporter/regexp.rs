//! Their regular expressions → ours. Theirs look for a match anywhere in a text, and show the group, if there is one; ours match
//! the whole of it.

use super::{get, items, text};
use crate::import::sheet::YamlValue;
use std::collections::BTreeSet;
use tapster_ebpf::{probe::Decoder, yaml::Node};

/// Most expressions of a label.
const MAX_EXPRESSIONS: usize = 64;

/// The expressions of a label.
#[derive(Debug)]
pub(super) struct SaidExpressions {
    /// Expression → what is shown.
    pub(super) rows: Vec<(String, YamlValue)>,
    /// Whether a text may match none.
    pub(super) leaves_others: bool,
}

/// The expressions of a decoder `regexp`.
pub(super) fn regexp(node: &Node) -> Result<SaidExpressions, String> {
    let listed = get(node, "regexps").map(items).unwrap_or_default();
    if listed.is_empty() || listed.len() > MAX_EXPRESSIONS {
        return Err(format!("a label has 1 to {MAX_EXPRESSIONS} regular expressions"));
    }
    let (mut rows, mut known) = (Vec::new(), BTreeSet::new());
    let mut leaves_others = true;
    for written in listed.iter().filter_map(text) {
        let whole = whole(written)?;
        leaves_others &= !matches!(whole.as_str(), "(.*)" | "(.*?.*.*)");
        if known.insert(whole.clone()) {
            rows.push((whole, YamlValue::text("$1")));
        }
    }
    Ok(SaidExpressions { rows, leaves_others })
}

/// An expression that matches all of a text in which the one that is written matches; its first group is what is shown.
fn whole(written: &str) -> Result<String, String> {
    let compiled = |pattern: &str| {
        let why = |error| format!("`{written}` is no regular expression here: {error}");
        Decoder::expression(pattern).map_err(why)
    };
    let groups = compiled(written)?.captures_len() - 1;
    let begins = written.strip_prefix('^');
    let inner = begins.unwrap_or(written);
    let ends = inner.strip_suffix('$').filter(|rest| !rest.ends_with('\\'));
    let inner = ends.unwrap_or(inner);
    // Of `^a|b$` each sign belongs to one side.
    let (begins, ends, inner) = if has_branches(inner) {
        (None, None, format!("(?:{written})"))
    } else {
        (begins, ends, inner.to_owned())
    };
    let (before, behind) =
        (if begins.is_some() { "" } else { ".*?" }, if ends.is_some() { "" } else { ".*" });
    let joined = format!("{before}{inner}{behind}");
    let joined = if groups == 1 { joined } else { format!("({joined})") };
    compiled(&joined).map(|_| joined)
}

/// Whether an expression is several, joined by `|` outside of brackets.
fn has_branches(expression: &str) -> bool {
    let (mut depth, mut is_class) = (0_u32, false);
    let mut characters = expression.chars();
    while let Some(c) = characters.next() {
        match c {
            '\\' => drop(characters.next()),
            '[' => is_class = true,
            ']' => is_class = false,
            _ if is_class => {}
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            '|' if depth == 0 => return true,
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_match_the_whole_text_and_show_the_same() {
        for (written, text, shown) in [
            ("^(kswapd).*$", "kswapd0", Some("kswapd")),
            ("^(kswapd).*$", "akswapd0", None),
            ("^.*$", "any thing", Some("any thing")),
            ("nginx", "my nginx here", Some("my nginx here")),
            ("n(gin)x", "my nginx here", Some("gin")),
            ("^(system.slice/.*)$", "system.slice/a", Some("system.slice/a")),
            ("^a|b$", "xb", Some("xb")),
            ("^a|b$", "bx", None),
            ("^(a)(b)$", "ab", Some("ab")),
            ("^(a|b)c", "bcd", Some("b")),
            ("[|]", "a|b", Some("a|b")),
        ] {
            let expression = Decoder::expression(&whole(written).unwrap()).unwrap();
            let found = expression.captures(text).and_then(|found| Some(found.get(1)?.as_str().to_owned()));
            assert_eq!(found.as_deref(), shown, "{written} of `{text}`: {}", whole(written).unwrap());
        }
        assert!(whole("(").unwrap_err().contains("is no regular expression here"));
    }
}
