//! Programs at functions and probes of user programs. Files of programs come and go: a package is upgraded, a container
//! starts. What is attached to the file that was stays as long as some process runs it; the new one is attached to
//! beside it, and both feed the same maps.

use super::{LoadError, useful_lines};
use crate::{
    container, elf,
    elf::Binary,
    status::ProgramStatus,
    sys::{self, LoadRefused, ProgInfo, ProgramKind},
};
use std::{
    collections::HashMap,
    fs,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};
use tapster_ebpf::{
    attach::Missing,
    probe::{AttachPoint, Root},
    program::{Code, Program},
    typed::Mechanism,
    usdt::{FileId, Site},
};

/// Most versions of a file that a probe is attached to at a time.
const MOST_VERSIONS: usize = 4;

/// A program in the kernel.
#[derive(Debug)]
pub(super) struct Loaded {
    at: AttachPoint,
    mechanism: Mechanism,
    instructions: u64,
    kind: ProgramKind,
    fd: OwnedFd,
    links: Vec<OwnedFd>,
}

/// Programs attached to one version of a file.
#[derive(Debug)]
struct Version {
    id: FileId,
    path: PathBuf,
    programs: Vec<Loaded>,
}

/// What a word of the configuration means, and what it has meant while that still runs.
#[derive(Debug)]
struct Group {
    root: Root,
    word: String,
    /// The newest last.
    versions: Vec<Version>,
}

/// The programs of a probe.
#[derive(Debug, Default)]
pub(super) struct User {
    groups: Vec<Group>,
    /// What programs that are no longer there did, by attach point.
    retired: HashMap<AttachPoint, ProgInfo>,
}

/// Whether a program is one of a user program's.
pub(super) fn is_user(code: &Code) -> bool {
    matches!(code.mechanism, Mechanism::Uprobe | Mechanism::Uretprobe | Mechanism::Usdt)
}

/// Has the verifier look at the programs of a probe that are at user programs.
pub(super) fn load(program: &Program, maps: &[BorrowedFd<'_>]) -> Result<Vec<Loaded>, LoadError> {
    program.codes.iter().filter(|code| is_user(code)).map(|code| load_one(code, maps)).collect()
}

fn load_one(code: &Code, maps: &[BorrowedFd<'_>]) -> Result<Loaded, LoadError> {
    let insns = &code.assembled.insns;
    let several = code.usdt.as_ref().is_some_and(|sites| sites.list.len() > 1);
    // A kernel without such links may refuse the program already.
    let multi = several
        .then(|| sys::load_program(&code.name, ProgramKind::UprobeMulti, insns, maps).ok())
        .flatten()
        .filter(|program| sys::has_uprobe_multi(program.as_fd()));
    let (kind, fd) = match multi {
        Some(fd) => (ProgramKind::UprobeMulti, fd),
        None => {
            let loaded = sys::load_program(&code.name, ProgramKind::Uprobe, insns, maps);
            let fd = loaded.map_err(|LoadRefused { error, log }| LoadError::Verifier {
                at: code.at.to_string(),
                error,
                log: useful_lines(&log),
            })?;
            (ProgramKind::Uprobe, fd)
        }
    };
    Ok(Loaded {
        at: code.at.clone(),
        mechanism: code.mechanism,
        instructions: u64::try_from(insns.len()).unwrap_or(0),
        kind,
        fd,
        links: Vec::new(),
    })
}

impl Loaded {
    fn attach(&mut self, binary: &Binary, code: &Code) -> Result<(), LoadError> {
        let failed =
            |message: String| LoadError::Program { at: code.at.to_string(), action: "attached", message };
        let path = binary.kernel_path();
        let sites: Vec<Site> = match &code.usdt {
            Some(sites) if sites.file == binary.id => sites.list.clone(),
            // It will be looked at again.
            Some(_) => {
                return Err(failed(format!("`{}` changed while it was looked at", binary.path.display())));
            }
            None => {
                let (_, function) = code.at.names();
                let offset = elf::locate(binary, function).map_err(|missing| failed(missing.message))?;
                vec![Site { offset, semaphore: 0 }]
            }
        };
        let at_return = code.mechanism == Mechanism::Uretprobe;
        self.links = if self.kind == ProgramKind::UprobeMulti {
            sys::attach_usdt(self.fd.as_fd(), &path, &sites).map(|link| vec![link])
        } else {
            sites.iter().map(|site| sys::attach_site(self.fd.as_fd(), &path, *site, at_return)).collect()
        }
        .map_err(|error| failed(error.to_string()))?;
        Ok(())
    }
}

impl User {
    /// Attaches programs that were loaded, ends of a pair before its starts.
    pub(super) fn attach(
        &mut self,
        program: &Program,
        loaded: Vec<Loaded>,
        proc: &Path,
    ) -> Result<(), LoadError> {
        let codes: Vec<&Code> = program.codes.iter().filter(|code| is_user(code)).collect();
        for (code, mut loaded) in codes.into_iter().zip(loaded).rev() {
            let (root, word) = binary_of(code);
            let group = self.group(root, word);
            let binary = open(proc, root, word, code)?;
            loaded.attach(&binary, code)?;
            match group.versions.last_mut().filter(|version| version.id == binary.id) {
                Some(version) => version.programs.push(loaded),
                None => {
                    group.versions.push(Version { id: binary.id, path: binary.path, programs: vec![loaded] });
                }
            }
        }
        Ok(())
    }

    fn group(&mut self, root: &Root, word: &str) -> &mut Group {
        let known = self.groups.iter().position(|group| group.root == *root && group.word == word);
        let index = known.unwrap_or_else(|| {
            self.groups.push(Group { root: root.clone(), word: word.into(), versions: Vec::new() });
            self.groups.len() - 1
        });
        &mut self.groups[index]
    }

    /// Attaches to files that are others now. `all`: also to those that are the same.
    pub(super) fn renew(
        &mut self,
        program: &Program,
        maps: &[BorrowedFd<'_>],
        proc: &Path,
        all: bool,
    ) -> Result<(), LoadError> {
        let mut done: Vec<(Root, String, FileId, PathBuf, Vec<Loaded>)> = Vec::new();
        for code in program.codes.iter().filter(|code| is_user(code)).rev() {
            let (root, word) = binary_of(code);
            let binary = open(proc, root, word, code)?;
            let group = self.group(root, word);
            if !all && group.versions.last().is_some_and(|version| version.id == binary.id) {
                continue;
            }
            let mut loaded = load_one(code, maps)?;
            // What was at the same file, under another content or for another container, must not count beside it.
            let same = |version: &Version| {
                (version.id.device, version.id.inode) == (binary.id.device, binary.id.inode)
            };
            let (gone, kept) = std::mem::take(&mut group.versions).into_iter().partition(same);
            group.versions = kept;
            self.retire(gone);
            loaded.attach(&binary, code)?;
            match done
                .iter_mut()
                .find(|(known, name, id, ..)| known == root && name == word && *id == binary.id)
            {
                Some((.., programs)) => programs.push(loaded),
                None => done.push((root.clone(), word.into(), binary.id, binary.path, vec![loaded])),
            }
        }
        for (root, word, id, path, programs) in done {
            let group = self.group(&root, &word);
            group.versions.push(Version { id, path, programs });
            let surplus = group.versions.len().saturating_sub(MOST_VERSIONS);
            let oldest = group.versions.drain(..surplus).collect();
            self.retire(oldest);
        }
        Ok(())
    }

    /// Lets go of files that were replaced and that no process runs any more.
    pub(super) fn release(&mut self, proc: &Path) {
        let replaced: Vec<(FileId, PathBuf)> = self
            .groups
            .iter()
            .filter_map(|group| group.versions.split_last())
            .flat_map(|(_, old)| old.iter().map(|version| (version.id, version.path.clone())))
            .collect();
        if replaced.is_empty() {
            return;
        }
        let running = mapped(proc, &replaced);
        for index in 0..self.groups.len() {
            let versions = std::mem::take(&mut self.groups[index].versions);
            let newest = versions.len().saturating_sub(1);
            let (kept, gone): (Vec<_>, Vec<_>) = versions
                .into_iter()
                .enumerate()
                .partition(|(place, version)| *place == newest || running.contains(&version.id));
            self.groups[index].versions = kept.into_iter().map(|(_, version)| version).collect();
            let gone: Vec<Version> = gone.into_iter().map(|(_, version)| version).collect();
            for version in &gone {
                tracing::info!(path = %version.path.display(), "no process runs the replaced file any more");
            }
            self.retire(gone);
        }
    }

    /// Detaches, and keeps what the kernel counted.
    fn retire(&mut self, versions: Vec<Version>) {
        for mut loaded in versions.into_iter().flat_map(|version| version.programs) {
            loaded.links.clear();
            let info = sys::prog_info(loaded.fd.as_fd()).unwrap_or_default();
            add(self.retired.entry(loaded.at).or_default(), info);
        }
    }

    /// What the programs cost, one for each attach point: there may be a program for each place.
    pub(super) fn status(&self) -> Vec<ProgramStatus> {
        let mut all: Vec<(&AttachPoint, ProgramStatus, ProgInfo)> = Vec::new();
        let versions = self.groups.iter().flat_map(|group| &group.versions);
        for loaded in versions.flat_map(|version| &version.programs) {
            let info = sys::prog_info(loaded.fd.as_fd()).unwrap_or_default();
            if let Some((_, status, sum)) = all.iter_mut().find(|(at, ..)| **at == loaded.at) {
                add(sum, info);
                status.instructions = status.instructions.max(loaded.instructions);
                continue;
            }
            let status = ProgramStatus {
                attach_point: loaded.at.to_string(),
                mechanism: loaded.mechanism.name().into(),
                instructions: loaded.instructions,
                ..ProgramStatus::default()
            };
            let mut sum = self.retired.get(&loaded.at).copied().unwrap_or_default();
            add(&mut sum, info);
            all.push((&loaded.at, status, sum));
        }
        all.into_iter()
            .map(|(_, status, sum)| ProgramStatus {
                runs: sum.runs,
                run_ns: sum.run_ns,
                missed: sum.missed,
                ..status
            })
            .collect()
    }
}

fn add(sum: &mut ProgInfo, more: ProgInfo) {
    sum.runs += more.runs;
    sum.run_ns += more.run_ns;
    sum.missed += more.missed;
}

fn binary_of(code: &Code) -> (&Root, &str) {
    code.at
        .binary()
        .unwrap_or_else(|| unreachable!("`{}` is in no binary: this is a bug in tapster", code.at))
}

fn open(proc: &Path, root: &Root, word: &str, code: &Code) -> Result<Binary, LoadError> {
    Binary::open(proc, root, word).map_err(|Missing { message, .. }| LoadError::Program {
        at: code.at.to_string(),
        action: "attached",
        message,
    })
}

/// Those of some files that are part of a process. Devices are not compared: file systems of several layers show
/// another one here. Rather one too many is kept.
fn mapped(proc: &Path, files: &[(FileId, PathBuf)]) -> Vec<FileId> {
    let mut found: Vec<FileId> = Vec::new();
    for pid in container::processes(proc) {
        let Ok(maps) = fs::read_to_string(container::directory(proc, pid).join("maps")) else { continue };
        for line in maps.lines() {
            let mut words = line.split_whitespace().skip(4);
            let Some(inode) = words.next().and_then(|inode| inode.parse::<u64>().ok()) else { continue };
            let of_inode = files.iter().filter(|(id, _)| id.inode == inode && inode != 0);
            let name =
                |path: &Path| path.file_name().is_some_and(|name| line.contains(&*name.to_string_lossy()));
            found.extend(of_inode.filter(|(_, path)| name(path)).map(|(id, _)| *id));
        }
        found.sort_unstable_by_key(|id| (id.inode, id.device, id.modified_ns));
        found.dedup();
        if found.len() == files.len() {
            break;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_processes_are_told_from_their_maps() {
        let proc = tempfile::tempdir().unwrap();
        for (pid, maps) in [
            ("1", "55d0-55e0 r-xp 00001000 fe:00 77                         /usr/bin/server (deleted)\n"),
            ("2", "7f00-7f10 r--p 00000000 00:00 0 \n7f10-7f20 r--p 00000000 fe:00 79   /usr/bin/other\n"),
        ] {
            fs::create_dir(proc.path().join(pid)).unwrap();
            fs::write(proc.path().join(pid).join("maps"), maps).unwrap();
        }
        let file = |inode, name: &str| (FileId { inode, ..FileId::default() }, PathBuf::from(name));
        let files = [file(77, "/usr/bin/server"), file(78, "/usr/bin/server"), file(79, "/usr/bin/server")];
        assert_eq!(mapped(proc.path(), &files), [files[0].0]);
    }
}
