//! The lines of a script that are for C's preprocessor: they are blanked, so that places stay right.

use super::super::remark::Remark;
use tapster_ebpf::diagnostic::{SourceFile, Span};

/// A script without lines for the preprocessor.
#[derive(Debug)]
pub(super) struct Prepared {
    /// As long as the file, byte for byte.
    pub(super) text: String,
    /// `#define NAME VALUE`
    pub(super) constants: Vec<(String, String)>,
    pub(super) remarks: Vec<Remark>,
}

/// A condition that is open: whether its lines count, and whether any branch did.
struct OpenCondition {
    counts: bool,
    counted: bool,
}

/// Removes the preprocessor's lines, and those of branches that do not count: BTF is there, and nothing else is defined.
pub(super) fn prepare(file: &SourceFile) -> Prepared {
    let (mut text, mut constants) = (String::with_capacity(file.text.len()), Vec::new());
    let (mut open, mut includes) = (Vec::<OpenCondition>::new(), None::<Span>);
    let (mut at, mut is_continued) = (0, false);
    for line in file.text.split_inclusive('\n') {
        let span = at..at + line.len();
        at = span.end;
        let words = line.trim();
        let counts = open.iter().all(|condition| condition.counts);
        let is_directive = words.starts_with('#') || is_continued;
        if is_directive {
            let directive = words.trim_start_matches('#').trim_start();
            let (word, rest) = directive.split_once(char::is_whitespace).unwrap_or((directive, ""));
            let rest = rest.trim();
            match word {
                _ if is_continued => {}
                "include" if counts => {
                    includes = Some(includes.map_or_else(|| span.clone(), |first| first.start..span.end));
                }
                "define" if counts => {
                    let (name, value) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
                    constants.push((name.to_owned(), value.trim().to_owned()));
                }
                "ifdef" | "ifndef" | "if" => {
                    let is_known = rest.contains("BPFTRACE_HAVE_BTF") && !rest.contains("!defined");
                    let counts = is_known == (word != "ifndef");
                    open.push(OpenCondition { counts, counted: counts });
                }
                "else" | "elif" => {
                    if let Some(last) = open.last_mut() {
                        last.counts = !last.counted && word == "else";
                        last.counted |= last.counts;
                    }
                }
                "endif" => drop(open.pop()),
                _ => {}
            }
            is_continued = words.ends_with('\\');
        }
        if is_directive || !counts {
            text.extend(line.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }));
        } else {
            text.push_str(line);
        }
    }
    let said = "types and constants come from the kernel's BTF, and need no `#include`";
    let remarks = includes.map(|span| Remark::note(trimmed(file, span), said)).into_iter().collect();
    Prepared { text, constants, remarks }
}

/// A span without blanks at its ends.
pub(super) fn trimmed(file: &SourceFile, span: Span) -> Span {
    let Some(text) = file.text.get(span.clone()) else { return span };
    let begin = span.start + (text.len() - text.trim_start().len());
    begin..(span.start + text.trim_end().len()).max(begin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_preprocessor_are_blanked_and_places_stay() {
        let text = "#!/usr/bin/env bpftrace\n#include <a.h>\n#define LIMIT 10\n#ifndef BPFTRACE_HAVE_BTF\nstruct é {};\n#else\nkept\n#endif\n#if OTHER\ngone\n#else\nkept too\n#endif\n";
        let prepared = prepare(&SourceFile::new("a.bt", text));
        assert_eq!(prepared.text.len(), text.len());
        let lines: Vec<&str> = prepared.text.lines().map(str::trim).collect();
        assert_eq!(lines, ["", "", "", "", "", "", "kept", "", "", "", "", "kept too", ""]);
        assert_eq!(prepared.constants, [("LIMIT".into(), "10".into())]);
        assert_eq!(prepared.remarks.len(), 1);
        assert_eq!(prepared.text.find("kept"), text.find("kept"));
    }
}
