//! Files of user programs come and go: a package is upgraded, a container starts. A program that is attached in the old file
//! stays as long as a process executes that file; another is attached in the new file, and both feed the same maps.

use super::{
    LoadError, Maps,
    links::{Loaded, ProgramLinks},
};
use crate::{
    container,
    deadline::{self, HangingThreads, MayHang, Outcome},
    elf::{self, Binary},
    kernel::Kernel,
    symbol::mapping::mappings,
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tapster_ebpf::{
    attach::Missing,
    program::{Code, Program},
    usdt::FileId,
};

/// Most versions of a file in which a probe is attached at a time.
const MOST_VERSIONS: usize = 4;
/// How long determining the files that processes execute may take.
const LOOK: deadline::TimeLimits =
    deadline::TimeLimits { first: Duration::from_secs(10), next: Duration::from_secs(10) };

/// Whether a code is for a user program.
pub(super) fn is_user(code: &Code) -> bool {
    code.at.binary().is_some()
}

/// A file in which a program is about to be attached.
pub(super) struct File {
    pub(super) id: FileId,
    pub(super) path: PathBuf,
    /// The USDT probes in it, for such a code.
    pub(super) binary: Option<Binary>,
}

impl File {
    /// The file of a code, kept open; `None` for code in the kernel.
    pub(super) fn of(code: &Code, kernel: &Kernel) -> Result<Option<Self>, LoadError> {
        let Some((root, word)) = code.at.binary() else { return Ok(None) };
        let failed = |message| LoadError::attaching(code, message);
        if code.usdt.is_none() {
            let place = code.sites.file.as_deref();
            let file = place
                .and_then(|place| kernel.program_file(place))
                .ok_or_else(|| failed("the file is not open: this is a bug in tapster".into()))?;
            let metadata = file.file.metadata().map_err(|error| failed(error.to_string()))?;
            return Ok(Some(Self { id: elf::file_id(&metadata), path: file.path.clone(), binary: None }));
        }
        let binary =
            Binary::open(kernel.proc(), root, word).map_err(|Missing { message, .. }| failed(message))?;
        Ok(Some(Self { id: binary.id, path: binary.path.clone(), binary: Some(binary) }))
    }
}

/// Whether both codes are for what one word of the configuration names now or named before.
fn is_one_word(one: &Code, other: &Code) -> bool {
    one.at.binary() == other.at.binary()
}

/// The versions of a code's file in which programs of a list are attached, the newest last.
fn versions(list: &[Arc<Loaded>], code: &Code) -> Vec<(PathBuf, FileId)> {
    let mut versions: Vec<(PathBuf, FileId)> = Vec::new();
    for loaded in list.iter().filter(|loaded| is_one_word(&loaded.code, code)) {
        let Some((path, id)) = &loaded.file else { continue };
        if !versions.iter().any(|(_, known)| known == id) {
            versions.push((path.clone(), *id));
        }
    }
    versions
}

fn newest(list: &[Arc<Loaded>], code: &Code) -> Option<FileId> {
    versions(list, code).last().map(|(_, id)| *id)
}

/// The programs of a list in files that were replaced.
fn replaced(list: &[Arc<Loaded>]) -> impl Iterator<Item = (&Arc<Loaded>, FileId)> {
    let of_file = list.iter().filter_map(|loaded| Some((loaded, loaded.file_id()?)));
    of_file.filter(|(loaded, id)| newest(list, &loaded.code) != Some(*id))
}

impl ProgramLinks {
    /// Attaches in files that differ from before. `all`: also in those that are the same.
    pub(super) fn renew(
        &self,
        program: &Program,
        maps: &Maps,
        kernel: &Kernel,
        all: bool,
    ) -> Result<(), LoadError> {
        let before = self.all();
        let mut gone = Vec::new();
        let attached = attach_anew(&before, program, maps, kernel, all, &mut gone);
        let (done, result) = match attached {
            Ok(done) => (done, Ok(())),
            Err(error) => (Vec::new(), Err(error)),
        };
        let codes: Vec<Code> = done.iter().map(|loaded| loaded.code.clone()).collect();
        // Old and new programs are exchanged in one step, so that no reader sees the probe without programs.
        self.exchange(&gone, done);
        for code in &codes {
            self.let_go_of_the_oldest(code);
        }
        result
    }

    /// Detaches from the oldest versions of a file if there are too many.
    fn let_go_of_the_oldest(&self, code: &Code) {
        let mut all = self.all();
        let versions = versions(&all, code);
        let oldest = &versions[..versions.len().saturating_sub(MOST_VERSIONS)];
        for (path, _) in oldest {
            let path = path.display();
            tracing::warn!(%path, "processes that still run the oldest of {MOST_VERSIONS} replaced files are counted no longer");
        }
        let is_oldest = |own| oldest.iter().any(|(_, id)| *id == own);
        all.retain(|loaded| is_one_word(&loaded.code, code) && loaded.file_id().is_some_and(is_oldest));
        self.exchange(&all, Vec::new());
    }

    /// Files that were replaced and that a process may still execute.
    pub(super) fn replaced(&self) -> Vec<FileId> {
        let mut files: Vec<FileId> = Vec::new();
        for (_, id) in replaced(&self.all()) {
            if !files.contains(&id) {
                files.push(id);
            }
        }
        files
    }

    /// Detaches from files that were replaced and that no process executes any more.
    pub(super) fn release(&self, unused: &[FileId]) {
        let all = self.all();
        let gone: Vec<Arc<Loaded>> =
            replaced(&all).filter(|(_, id)| unused.contains(id)).map(|(loaded, _)| loaded.clone()).collect();
        let mut paths: Vec<&PathBuf> =
            gone.iter().filter_map(|loaded| Some(&loaded.file.as_ref()?.0)).collect();
        paths.dedup();
        for path in paths {
            tracing::info!(path = %path.display(), "no process runs the replaced file any more");
        }
        self.exchange(&gone, Vec::new());
    }
}

/// Attaches programs in the present files that differ from before. Programs that must not count beside them are detached and
/// pushed to `gone`.
fn attach_anew(
    before: &[Arc<Loaded>],
    program: &Program,
    maps: &Maps,
    kernel: &Kernel,
    all: bool,
    gone: &mut Vec<Arc<Loaded>>,
) -> Result<Vec<Loaded>, LoadError> {
    let maps = maps.all();
    let mut done = Vec::new();
    for (index, code) in program.codes.iter().enumerate().rev().filter(|(_, code)| is_user(code)) {
        let mut loaded = Loaded::new(index, code, &maps, kernel.btf.as_ref().ok())?;
        let file = File::of(code, kernel)?;
        let id = file.as_ref().map(|file| file.id);
        if !all && newest(before, code) == id {
            continue;
        }
        // Programs in the same file, from before its content or its container changed.
        let is_same = |own: FileId| id.is_some_and(|id| (own.device, own.inode) == (id.device, id.inode));
        for old in
            before.iter().filter(|old| is_one_word(&old.code, code) && old.file_id().is_some_and(is_same))
        {
            old.detach();
            gone.push(old.clone());
        }
        loaded.attach(file, &maps, kernel)?;
        done.push(loaded);
    }
    Ok(done)
}

/// Determines the files that processes execute, unless an earlier attempt still hangs.
#[derive(Debug, Default)]
pub(super) struct ExecutableLookup(HangingThreads);

impl MayHang for ExecutableLookup {
    fn left(&self) -> &HangingThreads {
        &self.0
    }
}

impl ExecutableLookup {
    /// The files that no process executes; none if a process does not answer.
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

/// The files that a process has mapped. Names are not compared, because a file may have another name by now; devices are not,
/// because layered file systems show another device here. In doubt a file counts as mapped.
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
        // Also a file that has another name by now.
        assert_eq!(mapped(proc.path(), &files), [files[0], files[2]]);
    }
}
