//! Programs at functions and probes of user programs. Files of programs come and go: a package is upgraded, a container
//! starts. What is attached to the file that was stays as long as some process runs it; the new one is attached to
//! beside it, and both feed the same maps.

use super::{
    LoadError,
    functions::Functions,
    refusal::{Asked, because},
};
use crate::{
    container,
    deadline::{self, Left, MayHang, Outcome},
    elf::{self, Binary},
    kernel::Kernel,
    status::ProgramStatus,
    symbol::mapping::mappings,
    sys::{self, LoadRefused, ProgInfo, ProgramKind},
};
use std::{
    collections::HashMap,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tapster_ebpf::{
    attach::Missing,
    probe::{AttachPoint, Root},
    program::{Code, Program},
    typed::Mechanism,
    usdt::{FileId, Sites},
};

/// Most versions of a file that a probe is attached to at a time.
const MOST_VERSIONS: usize = 4;
/// How long it may take to look which files processes run.
const LOOK: deadline::Limits =
    deadline::Limits { first: Duration::from_secs(10), next: Duration::from_secs(10) };

/// The programs of one code in the kernel.
#[derive(Debug)]
pub(super) struct Loaded {
    code: Code,
    what: What,
}

#[derive(Debug)]
enum What {
    /// At functions.
    Functions(Functions),
    /// At places that pass a probe of the program.
    Usdt {
        sites: Sites,
        kind: ProgramKind,
        /// What keeps it attached, before the program.
        links: Vec<OwnedFd>,
        program: OwnedFd,
    },
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
    /// What programs that are no longer there did.
    retired: HashMap<(AttachPoint, Mechanism), ProgInfo>,
}

/// Whether a program is one of a user program's.
pub(super) fn is_user(code: &Code) -> bool {
    code.at.binary().is_some()
}

/// Has the verifier look at the programs of a probe that are at user programs.
pub(super) fn load(program: &Program, maps: &[BorrowedFd<'_>]) -> Result<Vec<Loaded>, LoadError> {
    program.codes.iter().filter(|code| is_user(code)).map(|code| Loaded::new(code, maps)).collect()
}

impl Loaded {
    fn new(code: &Code, maps: &[BorrowedFd<'_>]) -> Result<Self, LoadError> {
        let what = match &code.usdt {
            Some(sites) => usdt(code, sites, maps)?,
            None => What::Functions(Functions::load(code, maps)?),
        };
        Ok(Self { code: code.clone(), what })
    }

    fn failed(&self, message: String) -> LoadError {
        LoadError::Program { at: self.code.at.to_string(), action: "attached", message }
    }

    /// Where its binary is looked for, and the binary.
    fn binary(&self) -> (&Root, &str) {
        let at = &self.code.at;
        at.binary().unwrap_or_else(|| unreachable!("`{at}` is in no binary: this is a bug in tapster"))
    }

    /// The file that it goes to, and what keeps that open.
    fn file(&self, kernel: &Kernel) -> Result<File, LoadError> {
        if let What::Functions(_) = &self.what {
            let place = self.code.sites.file.as_deref();
            let file = place
                .and_then(|place| kernel.program_file(place))
                .ok_or_else(|| self.failed("the file is not open: this is a bug in tapster".into()))?;
            let metadata = file.file.metadata().map_err(|error| self.failed(error.to_string()))?;
            return Ok(File { id: elf::file_id(&metadata), path: file.path.clone(), binary: None });
        }
        let (root, word) = self.binary();
        let binary = Binary::open(kernel.proc(), root, word)
            .map_err(|Missing { message, .. }| self.failed(message))?;
        Ok(File { id: binary.id, path: binary.path.clone(), binary: Some(binary) })
    }

    fn attach(&mut self, file: &File, maps: &[BorrowedFd<'_>], kernel: &Kernel) -> Result<(), LoadError> {
        let failed = |message: String| LoadError::Program {
            at: self.code.at.to_string(),
            action: "attached",
            message,
        };
        match &mut self.what {
            What::Functions(functions) => functions.attach(&self.code, maps, kernel),
            What::Usdt { sites, kind, links, program } => {
                let Some(binary) = file.binary.as_ref().filter(|binary| binary.id == sites.file) else {
                    // It will be looked at again.
                    return Err(failed(format!("`{}` changed while it was looked at", file.path.display())));
                };
                let path = binary.kernel_path();
                let attached = if *kind == ProgramKind::UprobeMulti {
                    sys::attach_usdt(program.as_fd(), &path, &sites.list).map(|link| vec![link])
                } else {
                    let each = |site| sys::attach_site(program.as_fd(), &path, site);
                    sites.list.iter().copied().map(each).collect()
                };
                *links = attached.map_err(|error: io::Error| {
                    failed(error.to_string() + &because(&error, Asked::UserProbe))
                })?;
                Ok(())
            }
        }
    }

    fn detach(&mut self) {
        match &mut self.what {
            What::Functions(functions) => functions.detach(),
            What::Usdt { links, .. } => links.clear(),
        }
    }

    fn info(&self) -> ProgInfo {
        match &self.what {
            What::Functions(functions) => functions.info(),
            What::Usdt { program, .. } => sys::prog_info(program.as_fd()).unwrap_or_default(),
        }
    }

    fn mechanism(&self) -> String {
        match &self.what {
            What::Functions(functions) => functions.mechanism(&self.code),
            What::Usdt { .. } => self.code.mechanism.name().into(),
        }
    }

    /// What tells its numbers from those of others.
    fn key(&self) -> (AttachPoint, Mechanism) {
        (self.code.at.clone(), self.code.mechanism)
    }
}

fn usdt(code: &Code, sites: &Sites, maps: &[BorrowedFd<'_>]) -> Result<What, LoadError> {
    let insns = &code.assembled.insns;
    // A kernel without such links may refuse the program already. For one place, too: kernels with the fix of CVE-2025-38466 ask
    // CAP_SYS_ADMIN for an event at it, and for a link they do not.
    let multi = sys::load_program(&code.name, ProgramKind::UprobeMulti, insns, maps)
        .ok()
        .filter(|program| sys::has_uprobe_multi(program.as_fd()));
    let (kind, program) = match multi {
        Some(program) => (ProgramKind::UprobeMulti, program),
        None => {
            let loaded = sys::load_program(&code.name, ProgramKind::Probe, insns, maps);
            let program =
                loaded.map_err(|LoadRefused { error, log }| LoadError::not_loaded(code, error, &log))?;
            (ProgramKind::Probe, program)
        }
    };
    Ok(What::Usdt { sites: sites.clone(), kind, links: Vec::new(), program })
}

/// A file that a program is about to be attached to.
struct File {
    id: FileId,
    path: PathBuf,
    binary: Option<Binary>,
}

impl User {
    /// Attaches programs that were loaded, ends of a pair before its starts.
    pub(super) fn attach(
        &mut self,
        loaded: Vec<Loaded>,
        maps: &[BorrowedFd<'_>],
        kernel: &Kernel,
    ) -> Result<(), LoadError> {
        for mut loaded in loaded.into_iter().rev() {
            let file = loaded.file(kernel)?;
            loaded.attach(&file, maps, kernel)?;
            let (root, word) = loaded.binary();
            let group = self.group(root, word);
            match group.versions.last_mut().filter(|version| version.id == file.id) {
                Some(version) => version.programs.push(loaded),
                None => {
                    group.versions.push(Version { id: file.id, path: file.path, programs: vec![loaded] });
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
        kernel: &Kernel,
        all: bool,
    ) -> Result<(), LoadError> {
        let mut done: Vec<(Root, String, Version)> = Vec::new();
        for code in program.codes.iter().filter(|code| is_user(code)).rev() {
            let mut loaded = Loaded::new(code, maps)?;
            let file = loaded.file(kernel)?;
            let (root, word) = loaded.binary();
            let (root, word) = (root.clone(), word.to_owned());
            let group = self.group(&root, &word);
            if !all && group.versions.last().is_some_and(|version| version.id == file.id) {
                continue;
            }
            // What was at the same file, under another content or for another container, must not count beside it.
            let same =
                |version: &Version| (version.id.device, version.id.inode) == (file.id.device, file.id.inode);
            let (gone, kept) = std::mem::take(&mut group.versions).into_iter().partition(same);
            group.versions = kept;
            self.retire(gone);
            loaded.attach(&file, maps, kernel)?;
            let of_file = |(of, name, version): &&mut (Root, String, Version)| {
                *of == root && *name == word && version.id == file.id
            };
            match done.iter_mut().find(of_file) {
                Some((.., version)) => version.programs.push(loaded),
                None => {
                    done.push((root, word, Version { id: file.id, path: file.path, programs: vec![loaded] }));
                }
            }
        }
        for (root, word, version) in done {
            let group = self.group(&root, &word);
            group.versions.push(version);
            let surplus = group.versions.len().saturating_sub(MOST_VERSIONS);
            let oldest: Vec<Version> = group.versions.drain(..surplus).collect();
            for version in &oldest {
                let path = version.path.display();
                tracing::warn!(%path, "processes that still run the oldest of {MOST_VERSIONS} replaced files are counted no longer");
            }
            self.retire(oldest);
        }
        Ok(())
    }

    /// Files that were replaced, which some process may still run.
    pub(super) fn replaced(&self) -> Vec<FileId> {
        let groups = self.groups.iter().filter_map(|group| group.versions.split_last());
        groups.flat_map(|(_, old)| old.iter().map(|version| version.id)).collect()
    }

    /// Lets go of files that were replaced and that no process runs any more.
    pub(super) fn release(&mut self, unused: &[FileId]) {
        for index in 0..self.groups.len() {
            let versions = std::mem::take(&mut self.groups[index].versions);
            let newest = versions.len().saturating_sub(1);
            let (kept, gone): (Vec<_>, Vec<_>) = versions
                .into_iter()
                .enumerate()
                .partition(|(place, version)| *place == newest || !unused.contains(&version.id));
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
            loaded.detach();
            add(self.retired.entry(loaded.key()).or_default(), loaded.info());
        }
    }

    fn programs(&self) -> impl Iterator<Item = &Loaded> {
        let versions = self.groups.iter().flat_map(|group| &group.versions);
        versions.flat_map(|version| &version.programs)
    }

    /// What the programs cost, one for each attach point: there may be a program for each place.
    pub(super) fn status(&self) -> Vec<ProgramStatus> {
        let mut all: Vec<((AttachPoint, Mechanism), ProgramStatus, ProgInfo)> = Vec::new();
        for loaded in self.programs() {
            let key = loaded.key();
            let instructions = u64::try_from(loaded.code.assembled.insns.len()).unwrap_or(0);
            if let Some((_, status, sum)) = all.iter_mut().find(|(known, ..)| *known == key) {
                add(sum, loaded.info());
                status.instructions = status.instructions.max(instructions);
                continue;
            }
            let status = ProgramStatus {
                attach_point: loaded.code.at.to_string(),
                mechanism: loaded.mechanism(),
                functions: loaded.code.sites.list.len(),
                instructions,
                ..ProgramStatus::default()
            };
            let mut sum = self.retired.get(&key).copied().unwrap_or_default();
            add(&mut sum, loaded.info());
            all.push((key, status, sum));
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

    /// Whether some are attached to by perf events, for which kernels ask more rights than for links.
    pub(super) fn has_events(&self) -> bool {
        self.programs().any(|loaded| match &loaded.what {
            What::Functions(functions) => functions.are_events(),
            What::Usdt { kind, .. } => *kind != ProgramKind::UprobeMulti,
        })
    }

    /// Functions that the kernel did not take, in sentences.
    pub(super) fn refused(&self) -> Vec<String> {
        let refused = |loaded: &Loaded| match &loaded.what {
            What::Functions(functions) => {
                let what = functions.refused(&loaded.code)?;
                Some(format!("{}: left out {what}", loaded.code.at))
            }
            What::Usdt { .. } => None,
        };
        self.programs().filter_map(refused).collect()
    }
}

fn add(sum: &mut ProgInfo, more: ProgInfo) {
    sum.runs += more.runs;
    sum.run_ns += more.run_ns;
    sum.missed += more.missed;
}

/// Looks which files processes run, as long as none of them holds it up.
#[derive(Debug, Default)]
pub(super) struct Look(Left);

impl MayHang for Look {
    fn left(&self) -> &Left {
        &self.0
    }
}

impl Look {
    /// Those of some files that no process runs; none if a process does not answer.
    pub(super) fn unused(self: &Arc<Self>, proc: &Path, files: Vec<FileId>) -> Vec<FileId> {
        let proc = proc.to_owned();
        let unused = move |_: &Self| {
            let running = mapped(&proc, &files);
            files.iter().filter(|id| !running.contains(id)).copied().collect()
        };
        match deadline::each(LOOK, vec![self.clone()], unused).pop() {
            Some(Outcome::Read(unused)) => unused,
            _ => Vec::new(),
        }
    }
}

/// Those of some files that are part of a process. Names are not compared, since a file may have another one by now; devices are
/// not, since file systems of several layers show another one here. Rather one too many is kept.
fn mapped(proc: &Path, files: &[FileId]) -> Vec<FileId> {
    let mut found: Vec<FileId> = Vec::new();
    for pid in container::processes(proc) {
        for mapping in mappings(&container::directory(proc, pid)) {
            let Some(inode) = mapping.inode else { continue };
            found.extend(files.iter().filter(|id| id.inode == inode.number));
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
    use std::fs;

    #[test]
    fn files_of_processes_are_told_from_their_maps() {
        let proc = tempfile::tempdir().unwrap();
        for (pid, maps) in [
            ("1", "55d0-55e0 r-xp 00001000 fe:00 77                         /usr/bin/server (deleted)\n"),
            ("2", "7f00-7f10 r--p 00000000 00:00 0 \n7f10-7f20 r-xp 00000000 fe:00 79   /usr/bin/previous\n"),
        ] {
            fs::create_dir(proc.path().join(pid)).unwrap();
            fs::write(proc.path().join(pid).join("maps"), maps).unwrap();
        }
        let files = [77, 78, 79].map(|inode| FileId { inode, ..FileId::default() });
        // Also one that has another name by now.
        assert_eq!(mapped(proc.path(), &files), [files[0], files[2]]);
    }
}
