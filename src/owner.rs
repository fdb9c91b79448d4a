//! Who may write a file of the configuration. Its contents become programs in the kernel, so whoever may write it has the rights
//! of this process: its owner, those whom its mode lets write, and the same for every directory on the way to it.

use crate::sys;
use std::{
    collections::VecDeque,
    env,
    ffi::OsString,
    fs::{self, Metadata},
    io,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Component, Path, PathBuf},
};

const ROOT: u32 = 0;
/// Bits of a mode that let the group write, and all users.
const GROUP_WRITES: u32 = 0o020;
const ALL_WRITE: u32 = 0o002;
/// Bit of a mode that lets all users read.
const ALL_READ: u32 = 0o004;
/// Bit of a directory in which a user may remove only his own files.
const STICKY: u32 = 0o1000;
/// Most links that are followed, the kernel's limit.
const MOST_LINKS: usize = 40;

/// Users whose files are accepted: root, the user who runs this process, the user who called `sudo` for it, and those of
/// `--config.owner`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owners(Vec<u32>);

/// Whose files are accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// Everybody's: a user who names the file at a terminal has looked at it.
    #[default]
    Everybody,
    /// Everybody's, with a warning for files that [`Trust::Only`] would refuse.
    Told(Owners),
    /// Only those of these users.
    Only(Owners),
}

/// A file that somebody else may write.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{}` {why}, so that others decide what runs in the kernel with the rights of tapster{}\n  hint: {hint}", place.display(), way(place, file))]
pub struct UntrustedFile {
    /// The file.
    file: PathBuf,
    /// The file, or a directory on the way to it.
    place: PathBuf,
    why: String,
    hint: String,
}

fn way(place: &Path, file: &Path) -> String {
    if place == file { String::new() } else { format!(" (it is on the way to `{}`)", file.display()) }
}

/// Why others may write, and a hint.
type Explanation = (String, String);

impl Owners {
    /// The owners of this process, and `others`.
    pub fn of_process(others: &[u32]) -> Self {
        let caller = env::var("SUDO_UID").ok().and_then(|uid| uid.parse().ok());
        Self([ROOT, sys::effective_user()].into_iter().chain(caller).chain(others.iter().copied()).collect())
    }

    fn has(&self, user: u32) -> bool {
        self.0.contains(&user)
    }

    /// Checks a file and every directory on the way to it, along links. What does not exist or cannot be checked passes:
    /// reading it reports the error.
    pub fn vouch(&self, path: &Path) -> Result<(), Box<UntrustedFile>> {
        let stranger = |place: &Path, (why, hint): Explanation| {
            Box::new(UntrustedFile { file: path.into(), place: place.into(), why, hint })
        };
        match fs::metadata(path) {
            Ok(found) if found.is_file() || found.is_dir() => {}
            // A pipe of a shell has no directories. A terminal belongs to the user at it.
            Ok(found) if found.file_type().is_fifo() => {
                return self.judge_owner(path, &found).map_err(|why| stranger(path, why));
            }
            Ok(_) | Err(_) => return Ok(()),
        }
        self.walk(path)
            .map_err(|failure| match failure {
                PathFailure::Why(place, why) => Some(stranger(&place, why)),
                PathFailure::Unseen => None,
            })
            .or_else(|stranger| stranger.map_or(Ok(()), Err))
    }

    fn walk(&self, path: &Path) -> Result<(), PathFailure> {
        let mut ahead: VecDeque<OsString> = parts(&std::path::absolute(path)?);
        let (mut place, mut links) = (PathBuf::from("/"), 0);
        let mut directory = place.symlink_metadata()?;
        self.judge(&place, &directory)?;
        while let Some(name) = ahead.pop_front() {
            if name == ".." {
                place.pop();
                directory = place.symlink_metadata()?;
                continue;
            }
            let next = place.join(&name);
            let found = next.symlink_metadata()?;
            // In such a directory others can make files, but cannot replace those of its owner.
            if directory.mode() & STICKY != 0 && directory.mode() & (GROUP_WRITES | ALL_WRITE) != 0 {
                self.judge_owner(&next, &found).map_err(|why| PathFailure::Why(next.clone(), why))?;
            }
            if found.is_symlink() {
                links += 1;
                if links > MOST_LINKS {
                    return Err(PathFailure::Unseen);
                }
                let target = fs::read_link(&next)?;
                if target.is_absolute() {
                    place = "/".into();
                    directory = place.symlink_metadata()?;
                }
                for part in parts(&target).into_iter().rev() {
                    ahead.push_front(part);
                }
                continue;
            }
            self.judge(&next, &found)?;
            (place, directory) = (next, found);
        }
        Ok(())
    }

    fn judge(&self, place: &Path, found: &Metadata) -> Result<(), PathFailure> {
        let judged = self.judge_owner(place, found).and_then(|()| self.judge_mode(place, found));
        judged.map_err(|why| PathFailure::Why(place.into(), why))
    }

    fn judge_owner(&self, place: &Path, found: &Metadata) -> Result<(), Explanation> {
        let owner = found.uid();
        if self.has(owner) {
            return Ok(());
        }
        let who = sys::effective_user();
        let others =
            if who == ROOT { "root".into() } else { format!("root or user {who}, who runs tapster") };
        let hint = format!(
            "`chown root {}`, or `--config.owner {owner}` if that user may do what root may",
            place.display()
        );
        Err((format!("belongs to user {owner} and not to {others}"), hint))
    }

    fn judge_mode(&self, place: &Path, found: &Metadata) -> Result<(), Explanation> {
        let mode = found.mode();
        let is_sticky = found.is_dir() && mode & STICKY != 0;
        if mode & (GROUP_WRITES | ALL_WRITE) == 0 || is_sticky || is_in_read_only_volume(place, found) {
            return Ok(());
        }
        // A user's own group has the user's number. The group's bits also include what an access list allows.
        let is_own = self.has(found.gid()) && !sys::has_access_list(place).unwrap_or(true);
        let who = if mode & ALL_WRITE != 0 {
            "every user".to_owned()
        } else if !is_own {
            format!("group {}, or who is in its access list,", found.gid())
        } else {
            return Ok(());
        };
        let why = format!("has the mode {:04o}: {who} may write to it", mode & 0o7777);
        Err((why, format!("`chmod go-w {}`", place.display())))
    }
}

/// Whether it is in a volume that is mounted read only, as that of a `ConfigMap`. The root file system does not count:
/// `ProtectSystem=strict` shows it read only to the service alone, and others write to it.
fn is_in_read_only_volume(place: &Path, found: &Metadata) -> bool {
    let is_of_root = fs::metadata("/").map_or(true, |root| root.dev() == found.dev());
    !is_of_root && sys::is_read_only(place).unwrap_or(false)
}

/// Why a path was not checked to its end.
enum PathFailure {
    /// Others may write to this.
    Why(PathBuf, Explanation),
    /// It cannot be checked.
    Unseen,
}

impl From<io::Error> for PathFailure {
    fn from(_: io::Error) -> Self {
        Self::Unseen
    }
}

/// The names in a path.
fn parts(path: &Path) -> VecDeque<OsString> {
    let name = |part: Component<'_>| match part {
        Component::Normal(_) | Component::ParentDir => Some(part.as_os_str().to_owned()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().filter_map(name).collect()
}

/// Whether everybody may read a file, which must not be so for a key.
pub fn is_open_to_all(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.mode() & ALL_READ != 0)
}

/// The warning about a key that everybody may read.
pub fn open_to_all(path: &Path) -> String {
    format!("every user may read the key `{0}`: `chmod o-r {0}`", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        fs::Permissions,
        os::unix::fs::{PermissionsExt, symlink},
    };

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    /// A directory of this user's with a file in it, and those who may own both.
    fn site() -> (tempfile::TempDir, PathBuf, Owners) {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("probes.yaml");
        fs::write(&file, "").unwrap();
        mode(&file, 0o644);
        (directory, file, Owners::of_process(&[]))
    }

    fn said(owners: &Owners, path: &Path) -> String {
        owners.vouch(path).map_or_else(|stranger| stranger.to_string(), |()| String::new())
    }

    #[test]
    fn a_file_that_others_may_write_is_not_taken() {
        let (directory, file, owners) = site();
        assert_eq!(said(&owners, &file), "");
        mode(&file, 0o646);
        let text = said(&owners, &file);
        assert!(text.contains("probes.yaml` has the mode 0646: every user may write to it"), "{text}");
        assert!(text.contains("hint: `chmod go-w ") && !text.contains("on the way"), "{text}");
        mode(&file, 0o644);
        mode(directory.path(), 0o777);
        let text = said(&owners, &file);
        assert!(text.contains("has the mode 0777") && text.contains("on the way to"), "{text}");
        // As /tmp is: each may make files, and remove his own.
        mode(directory.path(), 0o1777);
        assert_eq!(said(&owners, &file), "");
        assert_eq!(said(&owners, &directory.path().join("none")), "", "reading it says so");
    }

    #[test]
    fn a_file_of_another_user_is_not_taken() {
        let (_directory, file, _) = site();
        let owner = file.metadata().unwrap().uid();
        let nobody = Owners(vec![owner + 1]);
        // The root directory is somebody else's already where this is not root.
        let text = said(&nobody, &file);
        assert!(text.contains("belongs to user 0 and not to "), "{text}");
        assert!(text.contains("--config.owner 0"), "{text}");
        assert_eq!(said(&Owners(vec![0, owner]), &file), "");
    }

    #[test]
    fn a_group_of_a_users_own_may_write() {
        let (_directory, file, owners) = site();
        mode(&file, 0o664);
        let group = file.metadata().unwrap().gid();
        let others = Owners(owners.0.iter().copied().filter(|user| *user != group).collect());
        let text = if others.has(0) { said(&others, &file) } else { "group".into() };
        assert!(text.contains("group"), "{text}");
        assert_eq!(said(&Owners([owners.0, vec![group]].concat()), &file), "");
    }

    #[test]
    fn links_are_followed_to_what_others_may_write() {
        let (directory, file, owners) = site();
        let path = |name: &str| directory.path().join(name);
        // As a `ConfigMap` is mounted, but that it may be written to.
        fs::create_dir(path("..1")).unwrap();
        fs::rename(&file, path("..1/a.yaml")).unwrap();
        symlink("..1", path("..data")).unwrap();
        symlink("..data/a.yaml", path("a.yaml")).unwrap();
        assert_eq!(said(&owners, &path("a.yaml")), "");
        mode(&path("..1"), 0o757);
        assert!(said(&owners, &path("a.yaml")).contains("..1` has the mode 0757"));
        symlink(path("..1/../a.yaml"), path("b.yaml")).unwrap();
        assert!(said(&owners, &path("b.yaml")).contains("..1` has the mode 0757"));
        symlink("round", path("round")).unwrap();
        assert_eq!(said(&owners, &path("round")), "", "reading it says so");
    }
}
