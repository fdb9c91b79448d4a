//! `tapster import`: probes from scripts of bpftrace, and from declarations of `ebpf_exporter`.

use super::{
    FAILURE, HostArgs, USAGE,
    output::{print, save},
    report,
    stop::Stop,
};
use crate::{
    import::{self, ForeignFormat, ImportHints, Imported, RemarkKind},
    kernel::Kernel,
};
use clap::{Args, ValueEnum};
use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};
use tapster_ebpf::{diagnostic::SourceFile, probe::Probe};

/// What follows the flags in `--help`.
pub(super) const AFTER_HELP: &str = "\
Standard output has the file of probes, or only comments if none was made; standard error has a line for each place that was
not carried over as it was, and what `tapster check` says of the result:

  tapster import runqlat.bt -o runqlat.yaml && sudo tapster check runqlat.yaml

Exit status: 0 if this kernel takes all probes, 1 if there is none or it does not, 2 if the file cannot be read.
docs/bpftrace.md says what becomes of what.";

/// Formats by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FormatName {
    /// A script of bpftrace
    #[value(name = "bpftrace")]
    Bpftrace,
    /// The YAML of `ebpf_exporter`
    #[value(name = "ebpf_exporter", alias = "ebpf-exporter")]
    EbpfExporter,
}

/// Flags of `import`.
#[derive(Args, Debug)]
pub struct ImportArgs {
    /// Script of bpftrace (`.bt`), YAML of `ebpf_exporter`, or `-` for standard input
    #[arg(value_name = "FILE|-")]
    pub file: PathBuf,
    /// Parameters of a script, its `$1` and so on
    #[arg(value_name = "PARAMETER")]
    pub parameters: Vec<String>,
    /// What the file is [default: by the end of its name, else by its content]
    #[arg(long, value_enum)]
    pub format: Option<FormatName>,
    /// File to write instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Where the host's files are.
    #[command(flatten)]
    pub host: HostArgs,
}

pub(super) fn import(args: &ImportArgs) -> Result<u8, Stop> {
    let is_input = args.file.as_os_str() == "-";
    let name = args.file.display().to_string();
    let text = if is_input { read(io::stdin()) } else { File::open(&args.file).and_then(read) };
    let text = text.map_err(|error| Stop::usage(format!("cannot read `{name}`: {error}")))?;
    let file = SourceFile::new(name, text);
    let format = match args.format {
        Some(FormatName::Bpftrace) => ForeignFormat::Bpftrace,
        Some(FormatName::EbpfExporter) => ForeignFormat::EbpfExporter,
        None => ForeignFormat::of(&file),
    };
    let code =
        (format == ForeignFormat::EbpfExporter && !is_input).then(|| code_beside(&args.file)).flatten();
    let hints = ImportHints { parameters: args.parameters.clone(), code };
    let imported = match import::import(&file, format, &hints) {
        Ok(imported) => imported,
        Err(diagnostic) => {
            report(&[*diagnostic]);
            return Ok(USAGE);
        }
    };
    match &args.output {
        Some(path) => save(path, imported.text.as_bytes())?,
        None => print(&imported.text)?,
    }
    for remark in &imported.remarks {
        tell!("{}", remark.told(&file));
    }
    tell!("{}: {}", file.name, summary(&imported));
    Ok(checked(args, &imported))
}

/// Reads a whole file, as far as it may be read.
fn read(from: impl Read) -> io::Result<String> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(import::MAX_BYTES).unwrap_or(u64::MAX);
    from.take(limit + 1).read_to_end(&mut bytes)?;
    String::from_utf8(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not text (UTF-8)"))
}

/// The C code that `ebpf_exporter` keeps beside a file: `NAME.bpf.c`. Without it less is said, and nothing is wrong.
fn code_beside(file: &Path) -> Option<String> {
    File::open(file.with_extension("bpf.c")).and_then(read).ok()
}

/// How much of the file became probes.
fn summary(imported: &Imported) -> String {
    let metrics = imported.probes.iter().map(|probe| probe.metrics.len()).sum::<usize>();
    let losses = imported.remarks.iter().filter(|remark| remark.kind == RemarkKind::Loss).count();
    let notes = imported.remarks.len() - losses;
    let counted =
        |number: usize, word: &str| format!("{number} {word}{}", if number == 1 { "" } else { "s" });
    format!(
        "{} with {}, {}, {}",
        counted(imported.probes.len(), "probe"),
        counted(metrics, "metric"),
        counted(notes, "note"),
        if losses == 0 { "nothing left out".to_owned() } else { format!("{losses} left out") },
    )
}

/// Says what `check` would: whether this kernel takes the probes. Those that are off are not tried.
fn checked(args: &ImportArgs, imported: &Imported) -> u8 {
    let tried: Vec<&Probe> = imported.probes.iter().filter(|probe| probe.enabled).collect();
    let off = imported.probes.len() - tried.len();
    if off > 0 {
        tell!("{off} {} off until what only its C code says is put in", if off == 1 { "is" } else { "are" });
    }
    if imported.probes.is_empty() {
        return FAILURE;
    }
    if tried.is_empty() {
        return 0;
    }
    let kernel = Kernel::detect(&args.host.host());
    let target = kernel.target();
    let mut diagnostics = Vec::new();
    let mut compiled = 0;
    for probe in &tried {
        match tapster_ebpf::compile(probe, &target) {
            Ok(_) => compiled += 1,
            Err(more) => diagnostics.extend(more),
        }
    }
    if let Some(path) = &args.output {
        // The places are the same, and the name is that of the file.
        let text = SourceFile::new(path.display().to_string(), imported.text.clone());
        for diagnostic in &mut diagnostics {
            diagnostic.file = Arc::clone(&text);
        }
    }
    let is_wrong = report(&diagnostics);
    tell!("`tapster check` here: {compiled} of {} compiled for Linux {}", tried.len(), kernel.release);
    if is_wrong || compiled < tried.len() { FAILURE } else { 0 }
}
