//! The probes in `examples`: as a site would write them, one file for each subject.

use super::fixture;
use std::{fs, path::Path};
use tapster_ebpf::{declaration, diagnostic::SourceFile, probe::Probe};

/// A file below `examples`.
#[derive(Debug)]
pub struct Example {
    /// Its path there: `network/connects.yaml`.
    pub name: String,
    pub text: String,
    pub probes: Vec<Probe>,
}

impl Example {
    fn read(directory: &Path, path: &Path) -> Self {
        let name = path.strip_prefix(directory).unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(path).unwrap();
        let (file, diagnostics) =
            declaration::parse(&SourceFile::new(format!("examples/{name}"), text.as_str()));
        let messages: Vec<String> = diagnostics.iter().map(ToString::to_string).collect();
        assert!(messages.is_empty(), "{}", messages.join("\n"));
        Self { name, text, probes: file.probes }
    }

    /// The lines of the comment that it begins with, without `# `.
    pub fn comment(&self) -> Vec<&str> {
        self.text.lines().map_while(|line| line.strip_prefix("# ")).collect()
    }
}

/// All of them, in order.
pub fn all() -> Vec<Example> {
    let directory = fixture::repository().join("examples");
    let entries = |path: &Path| fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    let subjects = entries(&directory).filter(|path| path.is_dir());
    let mut files: Vec<_> = subjects.flat_map(|subject| entries(&subject).collect::<Vec<_>>()).collect();
    files.sort();
    assert!(!files.is_empty(), "no examples");
    files.iter().map(|file| Example::read(&directory, file)).collect()
}
