//! The probes that run: the shipped library, and files given with `-c`.

mod overrides;
#[cfg(test)]
mod tests;

use crate::{
    lock::lock,
    mark::Mark,
    owner::{Trust, UntrustedFile},
};
use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};
use tapster_ebpf::{
    declaration,
    diagnostic::{Diagnostic, SourceFile, nearest},
    probe::{DeviceGroup, Library, Otlp, Probe, ProbeFile, Reason},
    yaml::{self, MAX_BYTES},
};

/// The shipped library: file name and text, as in `config/probes`.
pub const LIBRARY: [(&str, &str); 5] = [
    ("block.yaml", include_str!("../config/probes/block.yaml")),
    ("raid.yaml", include_str!("../config/probes/raid.yaml")),
    ("functions.yaml", include_str!("../config/probes/functions.yaml")),
    ("sched.yaml", include_str!("../config/probes/sched.yaml")),
    ("sched_who.yaml", include_str!("../config/probes/sched_who.yaml")),
];

/// The prefix of names of shipped files.
const SHIPPED: &str = "library/";

/// The command line's choice of probes.
#[derive(Clone, Debug, Default)]
pub struct ProbeSelection {
    /// Words: shipped probes or groups of them, files of probes, directories of such files, `-` for standard input.
    pub words: Vec<String>,
    /// More files of probes, directories of such files, `-`; without any, and without words, the library runs.
    pub files: Vec<PathBuf>,
    /// Only these probes, or groups of shipped ones, of all those and the library; empty for all.
    pub probes: Vec<String>,
    /// What is changed of shipped probes, as `NAME.KEY=VALUE` or an entry of `overrides:`; it goes before what files say.
    pub overrides: Vec<String>,
    /// Whose files are accepted.
    pub trust: Trust,
    /// The contents of standard input, which is read once.
    pub input: Input,
}

/// The word for standard input.
pub const STANDARD_INPUT: &str = "-";

/// The contents of standard input, once it was read: a reload finds the same.
#[derive(Clone, Debug, Default)]
pub struct Input(Arc<Mutex<Option<Vec<u8>>>>);

impl Input {
    /// The bytes, at most one more than a parser accepts.
    fn read(&self) -> io::Result<Vec<u8>> {
        let mut known = lock(&self.0);
        if let Some(bytes) = &*known {
            return Ok(bytes.clone());
        }
        let mut bytes = Vec::new();
        io::stdin().lock().take(most()).read_to_end(&mut bytes)?;
        Ok(known.insert(bytes).clone())
    }
}

/// Most bytes that are read of a file: one more than a parser accepts is enough to refuse it.
fn most() -> u64 {
    u64::try_from(MAX_BYTES + 1).unwrap_or(u64::MAX)
}

/// Where probes come from.
enum ProbeOrigin<'r> {
    Shipped(&'r str),
    Path(&'r Path),
}

/// Why the configuration cannot be used as a whole.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("cannot read `{}`: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Somebody else may write a file.
    #[error(transparent)]
    Stranger(Box<UntrustedFile>),
    /// `--probes` names nothing.
    #[error("there is no probe `{name}`{}", hint.as_deref().unwrap_or_default())]
    NoProbe {
        /// The name as given.
        name: String,
        /// The nearest known name.
        hint: Option<String>,
    },
    /// A word is neither the name of a shipped probe nor of a file.
    #[error("`{name}` is neither a shipped probe nor a file of probes{}", hint.as_deref().unwrap_or_default())]
    Neither {
        /// The name as given.
        name: String,
        /// The nearest shipped probe.
        hint: Option<String>,
    },
    /// Nothing is wrong, but there is nothing to do either.
    #[error("there is no probe to run\n  hint: give `probes`, or `library: true` for the shipped ones")]
    Nothing,
    /// There are probes, but all are off.
    #[error(
        "there is no probe to run: all are off (`enabled: false`)\n  hint: leave `enabled` out, or name those that should run: --probes {}",
        .0.join(",")
    )]
    Off(Vec<String>),
    /// The library itself is wrong, which is a bug.
    #[error("the shipped library is wrong, which is a bug in tapster:\n{0}")]
    Library(String),
}

/// Probes to run, and what is wrong with others.
#[derive(Debug, Default)]
pub struct Config {
    /// Declared probes, not yet compiled.
    pub probes: Vec<Probe>,
    /// Reasons of sleeps besides the shipped ones.
    pub reasons: Vec<Reason>,
    /// Groups of devices, in the order of the files.
    pub device_groups: Vec<DeviceGroup>,
    /// Destinations of metrics.
    pub otlp: Option<Otlp>,
    /// Mistakes in files.
    pub diagnostics: Vec<Diagnostic>,
    /// Files that others may write, and that were read all the same.
    pub strangers: Vec<UntrustedFile>,
    /// Probes of files that are off and were not named.
    pub off: Vec<Probe>,
    /// Files that could not be read.
    pub unread: Vec<ConfigError>,
}

/// The probes of the shipped library.
pub fn library() -> Result<Vec<Probe>, ConfigError> {
    let mut probes = Vec::new();
    for (name, text) in LIBRARY {
        let (file, diagnostics) = declaration::parse(&SourceFile::new(format!("{SHIPPED}{name}"), text));
        if !diagnostics.is_empty() {
            return Err(ConfigError::Library(diagnostics.iter().map(ToString::to_string).collect()));
        }
        probes.extend(file.probes);
    }
    Ok(probes)
}

/// The group of a shipped probe: the name of its file.
pub fn group(probe: &Probe) -> Option<&str> {
    probe.file.name.strip_prefix(SHIPPED)?.strip_suffix(".yaml")
}

/// Whether a word is the name of a probe or of its group.
pub fn is_called(probe: &Probe, word: &str) -> bool {
    probe.name.value == word || group(probe) == Some(word)
}

/// The words that name these probes.
fn known(probes: &[Probe]) -> impl Iterator<Item = &str> {
    probes.iter().flat_map(|probe| [probe.name.value.as_str()].into_iter().chain(group(probe)))
}

/// Reads a file of probes. The inner error is about its text; a file that is larger than a parser accepts is not read to its end.
pub fn read(path: &Path) -> Result<Result<Arc<SourceFile>, Diagnostic>, ConfigError> {
    let error = |source| ConfigError::Read { path: path.into(), source };
    let mut bytes = Vec::new();
    fs::File::open(path).map_err(error)?.take(most()).read_to_end(&mut bytes).map_err(error)?;
    Ok(source(&path.display().to_string(), bytes))
}

/// A text of probes from bytes.
fn source(name: &str, bytes: Vec<u8>) -> Result<Arc<SourceFile>, Diagnostic> {
    if bytes.len() > MAX_BYTES {
        return Err(yaml::too_large(&SourceFile::new(name, "")));
    }
    String::from_utf8(bytes).map(|text| SourceFile::new(name, text)).map_err(|wrong| {
        let at = wrong.utf8_error().valid_up_to();
        let message = format!("the byte 0x{:02x} is not UTF-8", wrong.as_bytes()[at]);
        let file = SourceFile::new(name, String::from_utf8_lossy(wrong.as_bytes()));
        Diagnostic::error(&file, at..at, message).hint("save the file as UTF-8")
    })
}

/// The files of a path: itself, or for a directory those that end in `.yaml` or `.yml` and are not hidden, sorted by
/// name. Directories in it are left out: a mounted `ConfigMap` keeps its versions there.
fn files(path: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    if !path.is_dir() {
        return Ok(vec![path.into()]);
    }
    let error = |source| ConfigError::Read { path: path.into(), source };
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(error)? {
        let found = entry.map_err(error)?.path();
        let is_hidden = found.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        let is_yaml = found.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
        // What cannot be looked at is kept, because reading it reports the error: its probes would seem to be removed. Anything else
        // that is no file might never end.
        let is_file = fs::metadata(&found).map_or(true, |file| file.is_file()) || found.is_symlink();
        if is_yaml && !is_hidden && is_file && !found.is_dir() {
            files.push(found);
        }
    }
    files.sort();
    Ok(files)
}

impl ProbeSelection {
    /// Where probes come from, by the words and the files of this selection.
    fn origins(&self, library: &[Probe]) -> Result<Vec<ProbeOrigin<'_>>, ConfigError> {
        let mut origins: Vec<ProbeOrigin<'_>> =
            self.files.iter().map(|path| ProbeOrigin::Path(path)).collect();
        for word in &self.words {
            if is_shipped(word, library) {
                origins.push(ProbeOrigin::Shipped(word));
            } else if is_path(word) {
                origins.push(ProbeOrigin::Path(Path::new(word)));
            } else {
                let near = nearest(word, known(library));
                let hint = near.map(|near| format!("; did you mean `{near}`?"));
                return Err(ConfigError::Neither { name: word.clone(), hint });
            }
        }
        Ok(origins)
    }

    /// The files and directories that probes are read from, without standard input.
    pub fn paths(&self) -> Vec<PathBuf> {
        // Read only if a word may name something in it; an error in it is reported elsewhere.
        let library = if self.words.is_empty() { Vec::new() } else { library().unwrap_or_default() };
        let words = self.words.iter().filter(|word| !is_shipped(word, &library)).map(PathBuf::from);
        let paths = self.files.iter().cloned().chain(words);
        paths.filter(|path| path.as_os_str() != STANDARD_INPUT).collect()
    }

    /// Marks of the files and directories; if they change, the configuration may have changed.
    pub fn marks(&self) -> Vec<Mark> {
        let paths = self.paths();
        let within = |path: &PathBuf| files(path).unwrap_or_default();
        let mut marks: Vec<Mark> = paths.iter().map(|path| Mark::of(path)).collect();
        marks.extend(paths.iter().filter(|path| path.is_dir()).flat_map(within).map(|path| Mark::of(&path)));
        marks
    }

    /// Reads a file, or standard input.
    fn read(&self, path: &Path) -> Result<Result<Arc<SourceFile>, Diagnostic>, ConfigError> {
        if path.as_os_str() != STANDARD_INPUT {
            return read(path);
        }
        let bytes = self.input.read().map_err(|source| ConfigError::Read { path: path.into(), source })?;
        Ok(source(STANDARD_INPUT, bytes))
    }
}

/// Whether a word names probes of the library.
fn is_shipped(word: &str, library: &[Probe]) -> bool {
    library.iter().any(|probe| is_called(probe, word))
}

/// Whether a word means a file, a directory, or standard input: it looks like a path, or a file of that name exists.
fn is_path(word: &str) -> bool {
    word == STANDARD_INPUT || word.contains(['/', '.']) || fs::exists(word).unwrap_or(false)
}

/// Reads everything that was requested, or fails.
pub fn load(selection: &ProbeSelection) -> Result<Config, ConfigError> {
    gather(selection)?.something()?.whole()
}

/// Reads as much of what was requested as can be read. Probes that are all off are no mistake: that they are is what is told.
pub fn survey(selection: &ProbeSelection) -> Result<Config, ConfigError> {
    let config = gather(selection)?;
    if config.off.is_empty() { config.something() } else { Ok(config) }
}

fn gather(selection: &ProbeSelection) -> Result<Config, ConfigError> {
    let mut library = library()?;
    let mut config = Config::default();
    let origins = selection.origins(&library)?;
    let is_alone = origins.is_empty();
    // All files are read first: one may change shipped probes that another asks for.
    let mut parts: Vec<Part> = Vec::new();
    for origin in origins {
        match origin {
            ProbeOrigin::Shipped(word) => parts.push(Part::Shipped(word.to_owned())),
            ProbeOrigin::Path(path) => match files(path) {
                Ok(files) => {
                    for file in files {
                        parts.extend(
                            config.read(&file, selection)?.map(|(source, file)| Part::File(source, file)),
                        );
                    }
                }
                Err(error) => config.unread.push(error),
            },
        }
    }
    let adjusted = overrides::adjust(&mut library, &parts, selection, &mut config.diagnostics);
    if is_alone {
        let named = |probe: &Probe| selection.probes.iter().any(|word| is_called(probe, word));
        let wanted = |probe: &Probe| probe.enabled || named(probe);
        config.probes.extend(library.iter().filter(|probe| wanted(probe)).cloned());
    }
    for part in parts {
        match part {
            Part::Shipped(word) => {
                config.probes.extend(library.iter().filter(|probe| is_called(probe, &word)).cloned());
            }
            Part::File(source, file) => config.take(&source, file, selection, &library),
        }
    }
    config.once();
    config.turn_off(&adjusted, selection);
    let silent = adjusted.without_probe(&config);
    config.diagnostics.extend(silent);
    restrict(&mut config, &selection.probes)?;
    Ok(config)
}

/// A part of what is requested.
enum Part {
    /// Shipped probes, by the word for them.
    Shipped(String),
    /// A file, as it was read.
    File(Arc<SourceFile>, ProbeFile),
}

impl Config {
    /// Reads a file, if that can be done; what is wrong with it is noted.
    fn read(
        &mut self,
        path: &Path,
        selection: &ProbeSelection,
    ) -> Result<Option<(Arc<SourceFile>, ProbeFile)>, ConfigError> {
        // This comes before the file is read, because errors show its lines. Standard input is trusted like the user who started
        // this process.
        if path.as_os_str() != STANDARD_INPUT {
            match &selection.trust {
                Trust::Everybody => {}
                Trust::Told(owners) => {
                    self.strangers.extend(owners.vouch(path).err().map(|stranger| *stranger));
                }
                Trust::Only(owners) => owners.vouch(path).map_err(ConfigError::Stranger)?,
            }
        }
        let source = match selection.read(path) {
            Ok(Ok(source)) => source,
            Ok(Err(diagnostic)) => {
                self.diagnostics.push(diagnostic);
                return Ok(None);
            }
            Err(error) => {
                self.unread.push(error);
                return Ok(None);
            }
        };
        let (file, diagnostics) = declaration::parse(&source);
        self.diagnostics.extend(diagnostics);
        Ok(Some((source, file)))
    }

    /// Takes a file into the configuration.
    fn take(
        &mut self,
        source: &Arc<SourceFile>,
        file: ProbeFile,
        selection: &ProbeSelection,
        library: &[Probe],
    ) {
        let ProbeFile { library: from_library, probes, reasons, device_groups, otlp, overrides: _ } = file;
        self.goes(otlp);
        let is_named = |probe: &Probe| selection.probes.iter().any(|word| is_called(probe, word));
        let (on, off): (Vec<_>, Vec<_>) =
            probes.into_iter().partition(|probe| probe.enabled || is_named(probe));
        self.probes.extend(on);
        self.off.extend(off);
        self.reasons.extend(reasons);
        self.device_groups.extend(device_groups);
        match from_library {
            Library::None => {}
            Library::All => {
                let wanted = |probe: &&Probe| probe.enabled || is_named(probe);
                self.probes.extend(library.iter().filter(wanted).cloned());
            }
            Library::Named(names) => {
                for name in names {
                    let found: Vec<Probe> =
                        library.iter().filter(|probe| is_called(probe, &name.value)).cloned().collect();
                    if found.is_empty() {
                        let near = nearest(&name.value, known(library));
                        let hint = near.map_or("`tapster list --library` shows them".into(), |near| {
                            format!("did you mean `{near}`?")
                        });
                        let message = format!("the library has no probe `{}`", name.value);
                        self.diagnostics.push(Diagnostic::error(source, name.span, message).hint(hint));
                    }
                    self.probes.extend(found);
                }
            }
        }
    }

    /// Refuses a configuration without errors in which there is nothing to run.
    fn something(self) -> Result<Self, ConfigError> {
        if !self.probes.is_empty() || !self.diagnostics.is_empty() || !self.unread.is_empty() {
            return Ok(self);
        }
        let off: Vec<String> = self.off.iter().map(|probe| probe.name.value.clone()).collect();
        Err(if off.is_empty() { ConfigError::Nothing } else { ConfigError::Off(off) })
    }

    /// Refuses a configuration of which a file could not be read.
    fn whole(mut self) -> Result<Self, ConfigError> {
        if self.unread.is_empty() { Ok(self) } else { Err(self.unread.swap_remove(0)) }
    }

    /// Takes the destinations of metrics, which only one file may set.
    fn goes(&mut self, otlp: Option<Otlp>) {
        match (&self.otlp, otlp) {
            (Some(first), Some(second)) if first.file.name != second.file.name => {
                let message = format!("`otlp` is given twice: `{}` has it as well", first.file.name);
                let diagnostic = Diagnostic::error(&second.file, second.span, message);
                self.diagnostics.push(diagnostic.hint("give it in one file"));
            }
            (None, otlp) => self.otlp = otlp,
            (Some(_), _) => {}
        }
    }

    /// Keeps one of each shipped probe: for example, two files may both name the library.
    fn once(&mut self) {
        let mut seen = std::collections::HashSet::new();
        self.probes.retain(|probe| {
            group(probe).is_none() || seen.insert((probe.name.value.clone(), probe.name.span.start))
        });
    }
}

/// Refuses words that name none of these probes; those that are `off` serve as hints too.
pub fn are_there(probes: &[Probe], off: &[Probe], words: &[String]) -> Result<(), ConfigError> {
    let Some(name) = words.iter().find(|word| !probes.iter().any(|probe| is_called(probe, word))) else {
        return Ok(());
    };
    let hint = nearest(name, known(probes).chain(known(off))).map(|near| format!("; did you mean `{near}`?"));
    Err(ConfigError::NoProbe { name: name.clone(), hint })
}

fn restrict(config: &mut Config, names: &[String]) -> Result<(), ConfigError> {
    if names.is_empty() {
        return Ok(());
    }
    // An unknown name may be in a file that could not be read.
    if config.unread.is_empty() {
        are_there(&config.probes, &config.off, names)?;
    }
    config.probes.retain(|probe| names.iter().any(|name| is_called(probe, name)));
    Ok(())
}
