//! Probes from what other tools of eBPF have: scripts of bpftrace, and the declarations of metrics of `ebpf_exporter`.
//!
//! Only their formats are read. What cannot be carried over is said with its place, see ADR 50.

mod bpftrace;
mod ebpf_exporter;
mod remark;
mod sheet;

pub use remark::{Remark, RemarkKind};

use sheet::{Sheet, SheetItem};
use std::sync::Arc;
use tapster_ebpf::{
    declaration,
    diagnostic::{Diagnostic, SourceFile, Span},
    probe::Probe,
    yaml::{self, Data},
};

/// Largest file that is read, bytes: as large as a file of probes may be.
pub const MAX_BYTES: usize = yaml::MAX_BYTES;

/// Most remarks about one file.
const MAX_REMARKS: usize = 500;

/// Whose file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForeignFormat {
    /// A script of bpftrace.
    Bpftrace,
    /// The YAML of `ebpf_exporter`.
    EbpfExporter,
}

impl ForeignFormat {
    /// The format of a file, by the end of its name, else by its content.
    pub fn of(file: &Arc<SourceFile>) -> Self {
        let ends = |end: &str| file.name.to_ascii_lowercase().ends_with(end);
        if ends(".bt") {
            return Self::Bpftrace;
        }
        let first = file.text.lines().next().unwrap_or("");
        if first.starts_with("#!") {
            return Self::Bpftrace;
        }
        let is_theirs = match yaml::parse(file) {
            Ok(Some(root)) => match root.data {
                Data::Mapping(entries) => entries.iter().any(|(key, _)| ebpf_exporter::is_section(key)),
                _ => false,
            },
            _ => false,
        };
        if is_theirs || ends(".yaml") || ends(".yml") { Self::EbpfExporter } else { Self::Bpftrace }
    }
}

/// What is known besides the file.
#[derive(Clone, Debug, Default)]
pub struct ImportHints {
    /// What `$1` and so on of a script are.
    pub parameters: Vec<String>,
    /// The C code that belongs to the YAML of `ebpf_exporter`: only the names of its sections are read.
    pub code: Option<String>,
}

/// What a file became.
#[derive(Debug)]
pub struct Imported {
    /// A file of probes, with comments; only comments where there are no probes.
    pub text: String,
    /// What is said of it, in the order of the places.
    pub remarks: Vec<Remark>,
    /// The probes of it.
    pub probes: Vec<Probe>,
}

/// Parts of the new file with the places that they are from.
#[derive(Debug, Default)]
struct ImportedPieces {
    items: Vec<(Span, SheetItem)>,
    remarks: Vec<Remark>,
    /// Places whose parts stay together: the remarks about one stand before its probes.
    groups: Vec<Span>,
}

/// Makes a file of probes. An error is about the whole: the file is not of its format.
pub fn import(
    file: &Arc<SourceFile>,
    format: ForeignFormat,
    hints: &ImportHints,
) -> Result<Imported, Box<Diagnostic>> {
    if file.text.len() > MAX_BYTES {
        let message = format!("the file is larger than {MAX_BYTES} bytes");
        return Err(Box::new(Diagnostic::error(file, 0..0, message).hint("split it")));
    }
    let pieces = match format {
        ForeignFormat::Bpftrace => {
            let made = bpftrace::translate(file, &hints.parameters)?;
            ImportedPieces { items: made.items, remarks: made.remarks, groups: made.actions }
        }
        ForeignFormat::EbpfExporter => ebpf_exporter::translate(file, hints.code.as_deref())?,
    };
    Ok(accepted(file, pieces))
}

/// Writes the file; a probe that is not well declared is taken out, and what is wrong with it is said.
fn accepted(file: &Arc<SourceFile>, mut pieces: ImportedPieces) -> Imported {
    let name = file.name.rsplit('/').next().unwrap_or(&file.name).to_owned();
    loop {
        let (sheet, spans) = lay_out(file, &name, &mut pieces);
        let written = sheet.write();
        let source = SourceFile::new(format!("{name}.yaml"), written.text);
        let (parsed, diagnostics) = declaration::parse(&source);
        let wrong: Vec<(usize, String)> = diagnostics
            .iter()
            .filter(|diagnostic| diagnostic.is_error())
            .filter_map(|diagnostic| {
                let (line, _) = source.position(diagnostic.span.start);
                let item = written.begins.iter().rposition(|begin| *begin <= line)?;
                Some((spans.get(item).copied().flatten()?, diagnostic.message.clone()))
            })
            .collect();
        let is_refused = diagnostics.iter().any(Diagnostic::is_error);
        if !is_refused {
            return Imported { text: source.text.clone(), remarks: pieces.remarks, probes: parsed.probes };
        }
        let mut at = 0;
        let mut gone = Vec::new();
        pieces.items.retain(|(span, _)| {
            let message = wrong.iter().find(|(item, _)| *item == at).map(|(_, message)| message);
            at += 1;
            gone.extend(message.map(|message| (span.clone(), message.clone())));
            message.is_none()
        });
        if gone.is_empty() {
            // What is wrong with the whole, such as its size, is better with less.
            let half = pieces.items.len() / 2;
            let rest = pieces.items.split_off(half);
            gone.extend(rest.into_iter().map(|(span, _)| (span, "the file is too large".to_owned())));
        }
        for (span, message) in gone {
            let text = format!("`tapster check` refuses the probe that this would be: {message}");
            pieces.remarks.push(Remark::loss(span, text));
        }
    }
}

/// Remarks and probes in the order of their places; for each item of the sheet which of the pieces it is.
fn lay_out(file: &SourceFile, name: &str, pieces: &mut ImportedPieces) -> (Sheet, Vec<Option<usize>>) {
    pieces
        .remarks
        .sort_by(|a, b| (a.span.start, a.span.end, &a.text).cmp(&(b.span.start, b.span.end, &b.text)));
    pieces.remarks.dedup();
    if pieces.remarks.len() > MAX_REMARKS {
        pieces.remarks.truncate(MAX_REMARKS - 1);
        let end = file.text.len();
        pieces
            .remarks
            .push(Remark::loss(end..end, format!("more than {MAX_REMARKS} places, the others unsaid")));
    }
    let anchor = |span: &Span| {
        let group = pieces.groups.iter().find(|group| group.start <= span.start && span.end <= group.end);
        group.map_or(span.start, |group| group.start)
    };
    let remarks = pieces
        .remarks
        .iter()
        .map(|remark| (anchor(&remark.span), 0, SheetItem::Comment(remark.comment(file)), None));
    let probes = pieces.items.iter().enumerate();
    let probes = probes.map(|(at, (span, item))| (anchor(span), 1, item.clone(), Some(at)));
    let mut all: Vec<_> = remarks.chain(probes).collect();
    all.sort_by_key(|(anchor, kind, ..)| (*anchor, *kind));
    let (mut items, mut of) = (Vec::new(), Vec::new());
    for (_, _, item, piece) in all {
        items.push(item);
        of.push(piece);
    }
    let mut head = vec![format!("Made of {name} by `tapster import`.")];
    if pieces.items.is_empty() {
        head.push("Nothing of it is a probe; what stands below says why.".into());
    }
    (Sheet { head, items }, of)
}
