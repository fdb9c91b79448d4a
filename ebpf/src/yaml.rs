//! Parses YAML to a tree in which every node knows its place, within limits that no honest file reaches.
//!
//! Here a scalar is only text; [`crate::declaration`] gives it meaning.

use crate::diagnostic::{Diagnostic, SourceFile, Span};
use saphyr_parser::{Event, Parser, ScalarStyle};
use std::{collections::HashMap, fmt, sync::Arc};

/// Largest file that is read, bytes.
pub const MAX_BYTES: usize = 1 << 20;
/// Deepest nesting.
const MAX_DEPTH: usize = 32;
/// Most nodes after aliases are expanded, against "billion laughs" files.
const MAX_NODES: usize = 100_000;

/// A node and its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Its place; the span of a scalar includes its quotes.
    pub span: Span,
    /// Its contents.
    pub data: Data,
}

/// The contents of a node.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// A scalar; `quoted` distinguishes `"1"` from `1`.
    Scalar {
        /// The text without quotes, escapes resolved.
        text: String,
        /// Whether it was quoted or a block scalar.
        quoted: bool,
    },
    /// `[a, b]`
    Sequence(Vec<Node>),
    /// `{a: b}`, in the order written.
    Mapping(Vec<(Node, Node)>),
}

impl Node {
    /// The kind of node in words.
    pub fn kind(&self) -> &'static str {
        match &self.data {
            Data::Scalar { text, quoted: false } if text.is_empty() || text == "~" || text == "null" => {
                "nothing"
            }
            Data::Scalar { .. } => "a scalar",
            Data::Sequence(_) => "a list",
            Data::Mapping(_) => "a mapping",
        }
    }

    /// The contents of the node as a text, without places and layout: two nodes with the same text here mean the same. The
    /// order of keys counts, because labels and metrics keep it.
    pub fn meaning(&self) -> String {
        NodeContent(self).to_string()
    }

    /// Whether the node is empty: `key:` with no value, `~` or `null`.
    pub fn is_null(&self) -> bool {
        self.kind() == "nothing"
    }

    /// The place in `file` of a part of this scalar's text, given by its byte range in that text.
    ///
    /// Folding, block scalars and quotes put white space and escapes between the characters, so this walks the text and the
    /// file side by side.
    pub fn part(&self, file: &SourceFile, part: Span) -> Span {
        let Data::Scalar { text, .. } = &self.data else { return self.span.clone() };
        let Some(source) = file.text.get(self.span.clone()) else { return self.span.clone() };
        let mut places = Vec::with_capacity(text.len() + 1);
        let mut at = 0;
        for wanted in text.chars() {
            let found = if wanted.is_whitespace() {
                Some(at)
            } else {
                source[at..].find(wanted).map(|distance| at + distance)
            };
            let Some(found) = found else { return self.span.clone() };
            places.extend(std::iter::repeat_n(found, wanted.len_utf8()));
            at = found + source[found..].chars().next().map_or(0, char::len_utf8);
        }
        places.push(at);
        let first = places[part.start.min(text.len())];
        let last = if part.end > part.start {
            let last = places[(part.end - 1).min(text.len())];
            last + source[last..].chars().next().map_or(0, char::len_utf8)
        } else {
            first
        };
        self.span.start + first..self.span.start + last.max(first)
    }
}

/// A node without its places.
struct NodeContent<'n>(&'n Node);

impl fmt::Display for NodeContent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.data {
            // A quoted number is not a number, so quotes are part of what is said.
            Data::Scalar { text, quoted: true } => write!(f, "{text:?}"),
            Data::Scalar { text, quoted: false } => write!(f, "={text:?}"),
            Data::Sequence(items) => {
                f.write_str("[")?;
                items.iter().try_for_each(|item| write!(f, "{},", NodeContent(item)))?;
                f.write_str("]")
            }
            Data::Mapping(entries) => {
                f.write_str("{")?;
                entries
                    .iter()
                    .try_for_each(|(key, value)| write!(f, "{}:{},", NodeContent(key), NodeContent(value)))?;
                f.write_str("}")
            }
        }
    }
}

/// Parses a file that has at most one document; `None` for an empty file.
pub fn parse(file: &Arc<SourceFile>) -> Result<Option<Node>, Diagnostic> {
    let text = &file.text;
    if text.len() > MAX_BYTES {
        return Err(too_large(file));
    }
    Loader { file, offsets: Offsets::new(text), anchors: HashMap::new(), nodes: 0 }.document(text)
}

/// Blanks a part of a text, except for line breaks and indentation, so that places stay right.
pub fn veil(text: &mut String, span: Span) {
    let veiled = text.get(span.clone()).map(|part| part.bytes().map(veiled_byte).collect::<String>());
    if let Some(veiled) = veiled {
        text.replace_range(span, &veiled);
    }
}

fn veiled_byte(byte: u8) -> char {
    if matches!(byte, b'\n' | b'\r' | b' ') { char::from(byte) } else { '*' }
}

/// Removes all but the keys from a text. It is for files that are not YAML, where secrets may be anywhere.
pub fn keys_only(text: &str) -> String {
    let shown = |line: &str| {
        let key = line.find(':').map_or(0, |colon| colon + 1);
        line[..key].chars().chain(line[key..].bytes().map(veiled_byte)).collect::<String>()
    };
    text.split_inclusive('\n').map(shown).collect()
}

/// The message about a file above the size limit.
pub fn too_large(file: &Arc<SourceFile>) -> Diagnostic {
    let message = format!("the file has more than {MAX_BYTES} bytes, the most that is read");
    Diagnostic::error(file, 0..0, message).hint("split it into several files")
}

/// Converts the parser's character indices to byte offsets.
struct Offsets(Option<Vec<usize>>);

impl Offsets {
    fn new(text: &str) -> Self {
        Self((!text.is_ascii()).then(|| text.char_indices().map(|(at, _)| at).chain([text.len()]).collect()))
    }

    fn byte(&self, index: usize) -> usize {
        self.0.as_ref().map_or(index, |bytes| bytes[index.min(bytes.len() - 1)])
    }

    fn span(&self, span: saphyr_parser::Span) -> Span {
        let start = self.byte(span.start.index());
        start..self.byte(span.end.index()).max(start)
    }
}

struct Loader<'a> {
    file: &'a Arc<SourceFile>,
    offsets: Offsets,
    anchors: HashMap<usize, (Node, usize)>,
    nodes: usize,
}

type YamlEvents<'a> = Parser<'a, saphyr_parser::StrInput<'a>>;

impl Loader<'_> {
    fn document(&mut self, text: &str) -> Result<Option<Node>, Diagnostic> {
        let mut events = Parser::new_from_str(text);
        let mut root = None;
        while let Some((event, span)) = self.next(&mut events)? {
            match event {
                Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd | Event::Nothing => {}
                Event::StreamEnd => break,
                event if root.is_none() => root = Some(self.node(event, span, &mut events, 0)?),
                _ => {
                    return Err(Diagnostic::error(self.file, span, "a second document in one file")
                        .hint("use one file for each"));
                }
            }
        }
        Ok(root)
    }

    fn next<'t>(&self, events: &mut YamlEvents<'t>) -> Result<Option<(Event<'t>, Span)>, Diagnostic> {
        match events.next_event() {
            None => Ok(None),
            Some(Ok((event, span))) => Ok(Some((event, self.offsets.span(span)))),
            Some(Err(error)) => {
                let at = self.offsets.byte(error.marker().index());
                let mut diagnostic =
                    Diagnostic::error(self.file, at..at, format!("not valid YAML: {}", error.info()));
                diagnostic.hint = self.advice(at, error.info()).map(Into::into);
                Err(diagnostic)
            }
        }
    }

    /// The hint for the most frequent mistakes.
    fn advice(&self, at: usize, info: &str) -> Option<&'static str> {
        let text = &self.file.text;
        let start = text[..at.min(text.len())].rfind('\n').map_or(0, |newline| newline + 1);
        let line = text[start..].lines().next().unwrap_or("");
        let indent = &line[..line.len() - line.trim_start().len()];
        if indent.contains('\t') {
            Some("indent with spaces, YAML takes no tabs")
        } else if info.contains("mapping values are not allowed") && line.contains(" ? ") {
            Some("put the whole expression in quotes: `: ` ends an unquoted one")
        } else if info.contains("mapping values are not allowed") {
            Some("put a text with `: ` in it in quotes, or look at the indentation")
        } else if info.contains("flow") {
            Some("a `[` or `{` is not closed before this place")
        } else {
            None
        }
    }

    fn inside<'t>(&self, events: &mut YamlEvents<'t>, span: &Span) -> Result<(Event<'t>, Span), Diagnostic> {
        self.next(events)?
            .ok_or_else(|| Diagnostic::error(self.file, span.clone(), "the file ends inside this"))
    }

    /// An expression that begins with `!` is a tag in YAML, and its text would be lost silently.
    fn no_tag(&self, event: &Event<'_>, span: &Span) -> Result<(), Diagnostic> {
        let (Event::Scalar(_, _, _, tag) | Event::SequenceStart(_, tag) | Event::MappingStart(_, tag)) =
            event
        else {
            return Ok(());
        };
        match tag {
            Some(tag) if !tag.is_yaml_core_schema() => {
                let message = format!("YAML takes `{}{}` for a tag", tag.handle, tag.suffix);
                Err(Diagnostic::error(self.file, span.clone(), message)
                    .hint("quote an expression that begins with `!`"))
            }
            _ => Ok(()),
        }
    }

    fn count(&mut self, nodes: usize, span: &Span) -> Result<(), Diagnostic> {
        self.nodes += nodes;
        if self.nodes > MAX_NODES {
            let message = format!("more than {MAX_NODES} values after aliases are expanded");
            return Err(Diagnostic::error(self.file, span.clone(), message)
                .hint("write fewer aliases, or several files"));
        }
        Ok(())
    }

    fn node<'t>(
        &mut self,
        event: Event<'t>,
        mut span: Span,
        events: &mut YamlEvents<'t>,
        depth: usize,
    ) -> Result<Node, Diagnostic> {
        if depth > MAX_DEPTH {
            return Err(Diagnostic::error(self.file, span, format!("nested deeper than {MAX_DEPTH} levels")));
        }
        self.count(1, &span)?;
        let before = self.nodes;
        self.no_tag(&event, &span)?;
        let (anchor, data) = match event {
            Event::Alias(id) => {
                // An alias inside its own anchor is not yet known, so a cycle ends here too.
                let Some((node, size)) = self.anchors.get(&id).cloned() else {
                    return Err(Diagnostic::error(
                        self.file,
                        span,
                        "this alias has no finished anchor before it",
                    ));
                };
                self.count(size, &span)?;
                return Ok(node);
            }
            Event::Scalar(text, style, anchor, _) => {
                (anchor, Data::Scalar { text: text.into_owned(), quoted: style != ScalarStyle::Plain })
            }
            Event::SequenceStart(anchor, _) => {
                let mut items = Vec::new();
                loop {
                    let (event, item) = self.inside(events, &span)?;
                    if event == Event::SequenceEnd {
                        span.end = item.end.max(span.end);
                        break;
                    }
                    items.push(self.node(event, item, events, depth + 1)?);
                }
                (anchor, Data::Sequence(items))
            }
            Event::MappingStart(anchor, _) => {
                let mut entries: Vec<(Node, Node)> = Vec::new();
                let mut seen: HashMap<String, Span> = HashMap::new();
                loop {
                    let (event, item) = self.inside(events, &span)?;
                    if event == Event::MappingEnd {
                        span.end = item.end.max(span.end);
                        break;
                    }
                    let key = self.node(event, item, events, depth + 1)?;
                    let (event, item) = self.inside(events, &span)?;
                    let value = self.node(event, item, events, depth + 1)?;
                    if let Data::Scalar { text, .. } = &key.data
                        && let Some(first) = seen.insert(text.clone(), key.span.clone())
                    {
                        let (line, _) = self.file.position(first.start);
                        return Err(Diagnostic::error(
                            self.file,
                            key.span,
                            "the same key twice in one mapping",
                        )
                        .hint(format!("first on line {line}")));
                    }
                    entries.push((key, value));
                }
                (anchor, Data::Mapping(entries))
            }
            _ => return Err(Diagnostic::error(self.file, span, "expected a value")),
        };
        let node = Node { span, data };
        if anchor != 0 {
            self.anchors.insert(anchor, (node.clone(), self.nodes - before + 1));
        }
        Ok(node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Option<Node>, Diagnostic> {
        parse(&SourceFile::new("t.yaml", text))
    }

    fn scalar_at<'a>(node: &'a Node, key: &str) -> &'a Node {
        let Data::Mapping(entries) = &node.data else { panic!("not a mapping") };
        entries
            .iter()
            .find(|(k, _)| matches!(&k.data, Data::Scalar { text, .. } if text == key))
            .map(|(_, v)| v)
            .unwrap()
    }

    #[test]
    fn the_meaning_is_without_layout() {
        let meaning = |text: &str| load(text).unwrap().unwrap().meaning();
        let same = ["a: [x, 'y']\nb: {c: 1}\n", "# said\na:\n  - x\n  - \"y\"   # again\nb:\n  c:   1\n"];
        assert_eq!(meaning(same[0]), meaning(same[1]));
        for other in [
            "a: [x, y]\nb: {c: 1}\n",
            "a: ['y', x]\nb: {c: 1}\n",
            "b: {c: 1}\na: [x, 'y']\n",
            "a: [x, 'y']\nb: {c: '1'}\n",
            "a: [x, 'y', '']\nb: {c: 1}\n",
            "a: ['x,', 'y']\nb: {c: 1}\n",
        ] {
            assert_ne!(meaning(same[0]), meaning(other), "{other}");
        }
    }

    #[test]
    fn spans_are_bytes_even_after_wide_characters() {
        let text = "ä: ü\nwhere: args.x == 1\n";
        let node = load(text).unwrap().unwrap();
        let value = scalar_at(&node, "where");
        assert_eq!(&text[value.span.clone()], "args.x == 1");
    }

    #[test]
    fn parts_of_every_scalar_style_are_found() {
        for text in [
            "e: a + bad.x\n",
            "e: \"a + bad.x\"\n",
            "e: 'a + bad.x'\n",
            "e: a\n   + bad.x\n",
            "e: >\n  a +\n  bad.x\n",
            "e: |\n  a +\n  bad.x\n",
        ] {
            let file = SourceFile::new("t", text);
            let node = parse(&file).unwrap().unwrap();
            let scalar = scalar_at(&node, "e");
            let Data::Scalar { text: value, .. } = &scalar.data else { panic!() };
            let at = value.find("bad").unwrap();
            let part = scalar.part(&file, at..at + 3);
            assert_eq!(part.start, text.find("bad").unwrap(), "{text:?}");
            assert_eq!(&text[part], "bad", "{text:?}");
        }
    }

    #[test]
    fn bombs_are_refused_quickly() {
        let mut text = String::from("a: &a [x,x,x,x,x,x,x,x,x,x]\n");
        for (this, last) in ('b'..='k').zip('a'..) {
            let aliases = vec![format!("*{last}"); 10].join(",");
            text.extend([format!("{this}: &{this} [{aliases}]\n")]);
        }
        assert!(load(&text).unwrap_err().message.contains("after aliases"));
        assert!(load(&"[".repeat(10_000)).is_err());
        assert!(load(&("[".repeat(40) + &"]".repeat(40))).unwrap_err().message.contains("nested deeper"));
        assert!(load(&"x".repeat(10 << 20)).unwrap_err().message.contains("the most that is read"));
        assert!(load("a: &a [*a]").is_err());
    }

    #[test]
    fn a_tag_is_not_lost_without_a_word() {
        for text in ["where: !x\n", "where: !x && y\n", "where: !foo [1]\n"] {
            assert!(load(text).unwrap_err().message.contains("for a tag"), "{text}");
        }
        assert!(load("where: '!x'\n").is_ok());
        assert!(load("where: !!str x\n").is_ok());
    }

    #[test]
    fn refuses_twice_the_same_key_and_a_second_document() {
        assert!(load("a: 1\na: 2\n").unwrap_err().message.contains("same key twice"));
        assert!(load("a: 1\n---\nb: 2\n").unwrap_err().message.contains("second document"));
        assert!(load("").unwrap().is_none());
        assert!(load("a: [1").is_err());
    }
}
