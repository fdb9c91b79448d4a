//! Where hierarchies of cgroups are mounted.
//!
//! There is one hierarchy of version 2, with the number 0, and any number of version 1. A machine has either, or both
//! ("hybrid").

use crate::host::HostError;
use std::{
    ffi::OsString,
    fs,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};
use tapster_ebpf::attach::Missing;

/// A hierarchy and its mount point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    /// Its number, as in `/proc/self/cgroup`; 0 for version 2.
    pub(super) hierarchy: u64,
    pub(super) point: PathBuf,
}

/// One mount of each hierarchy: of the whole hierarchy if there is such a mount, else of a part.
pub(super) fn mounts(proc: &Path) -> Result<Vec<Mount>, HostError> {
    let read = |name: &str| {
        let path = proc.join(name);
        fs::read(&path).map_err(|source| HostError::Unreadable { decoder: "cgroup", path, source })
    };
    let table = read("self/mountinfo")?;
    // Missing if the kernel has no cgroups, and then there is no mount either.
    let numbers = read("self/cgroup").unwrap_or_default();
    let numbers = String::from_utf8_lossy(&numbers);
    let mut found: Vec<(bool, Mount)> = Vec::new();
    for line in table.split(|byte| *byte == b'\n').filter_map(MountLine::parse) {
        let Some(hierarchy) = line.hierarchy(&numbers) else { continue };
        let is_whole = line.root == b"/";
        let mount = Mount { hierarchy, point: PathBuf::from(OsString::from_vec(line.point)) };
        match found.iter_mut().find(|(_, known)| known.hierarchy == hierarchy) {
            Some(known) if is_whole && !known.0 => *known = (true, mount),
            Some(_) => {}
            None => found.push((is_whole, mount)),
        }
    }
    if found.is_empty() {
        return Err(HostError::NoCgroups { path: proc.join("self/mountinfo") });
    }
    Ok(found.into_iter().map(|(_, mount)| mount).collect())
}

/// Where hierarchies are mounted; nothing where that cannot be read.
pub(crate) fn mount_points(proc: &Path) -> Vec<PathBuf> {
    mounts(proc).into_iter().flatten().map(|mount| mount.point).collect()
}

/// The directory of a cgroup of version 2, by its path below the root of their hierarchy.
pub(crate) fn directory(proc: &Path, path: &str) -> Result<PathBuf, Missing> {
    let mount = mounts(proc).into_iter().flatten().find(|mount| mount.hierarchy == 0);
    let Some(Mount { point, .. }) = mount else {
        return Err(Missing {
            message: "no hierarchy of cgroups of version 2 is mounted".into(),
            hint: Some("mount -t cgroup2 cgroup2 /sys/fs/cgroup; in a container, that of the host".into()),
        });
    };
    let directory = point.join(path.trim_start_matches('/'));
    if directory.is_dir() {
        return Ok(directory);
    }
    let message = format!("there is no cgroup `{path}` below `{}`", point.display());
    Err(Missing { message, hint: Some("`systemd-cgls` and `/proc/PID/cgroup` show which there are".into()) })
}

/// A line of mountinfo:
/// `20 41 31 0:38 / /sys/fs/cgroup/cpu rw,relatime shared:4 - cgroup cgroup rw,cpu,cpuacct`.
struct MountLine<'t> {
    root: Vec<u8>,
    point: Vec<u8>,
    kind: &'t [u8],
    /// Options of the file system; for version 1 they include its controllers.
    options: &'t [u8],
}

impl<'t> MountLine<'t> {
    fn parse(line: &'t [u8]) -> Option<Self> {
        let mut fields = line.split(|byte| *byte == b' ');
        let root = unescape(fields.nth(3)?);
        let point = unescape(fields.next()?);
        fields.find(|field| *field == b"-")?;
        let kind = fields.next()?;
        Some(Self { root, point, kind, options: fields.nth(1).unwrap_or_default() })
    }

    /// The number of its hierarchy, from the lines `NUMBER:CONTROLLERS:PATH` of `/proc/self/cgroup`; `None` for another file
    /// system.
    fn hierarchy(&self, numbers: &str) -> Option<u64> {
        match self.kind {
            b"cgroup2" => Some(0),
            b"cgroup" => numbers.lines().find_map(|line| {
                let (number, rest) = line.split_once(':')?;
                let (controllers, _) = rest.split_once(':')?;
                let is_mine = !controllers.is_empty()
                    && controllers.split(',').all(|controller| {
                        self.options.split(|byte| *byte == b',').any(|option| option == controller.as_bytes())
                    });
                number.parse().ok().filter(|number| is_mine && *number != 0)
            }),
            _ => None,
        }
    }
}

/// Decodes escapes such as `\040`, which the kernel writes for a space.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, after @ ..] = rest {
        let octal = match rest {
            [b'\\', digits @ ..] => digits.get(..3).and_then(octal),
            _ => None,
        };
        bytes.push(octal.unwrap_or(*first));
        rest = if octal.is_some() { &rest[4..] } else { after };
    }
    bytes
}

fn octal(digits: &[u8]) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_by_its_path() {
        let proc = tempfile::tempdir().unwrap();
        let point = proc.path().join("cg");
        fs::create_dir_all(point.join("a/b")).unwrap();
        fs::create_dir(proc.path().join("self")).unwrap();
        let table = |kind: &str| {
            let line = format!("2 1 0:38 / {} rw shared:4 - {kind} none rw,cpu", point.display());
            fs::write(proc.path().join("self/mountinfo"), line).unwrap();
            fs::write(proc.path().join("self/cgroup"), "3:cpu:/\n0::/\n").unwrap();
        };
        table("cgroup2");
        assert_eq!(directory(proc.path(), "/a/b").unwrap(), point.join("a/b"));
        assert_eq!(directory(proc.path(), "/").unwrap(), point.join(""));
        let none = directory(proc.path(), "/a/c").unwrap_err();
        assert_eq!(none.message, format!("there is no cgroup `/a/c` below `{}`", point.display()));
        table("cgroup");
        let old = directory(proc.path(), "/a/b").unwrap_err();
        assert_eq!(old.message, "no hierarchy of cgroups of version 2 is mounted");
    }

    #[test]
    fn one_mount_of_each_hierarchy() {
        let proc = tempfile::tempdir().unwrap();
        fs::create_dir(proc.path().join("self")).unwrap();
        let whole = "2 1 0:38 / /cg rw shared:4 master:1 - cgroup2 none rw";
        let part = "1 1 0:38 /part /with\\040space rw - cgroup2 c rw";
        let cpu = "22 1 0:20 / /cpu rw - cgroup cgroup rw,xattr,cpuacct,cpu";
        let named = "23 1 0:21 / /systemd rw - cgroup cgroup rw,xattr,name=systemd";
        let unknown = "24 1 0:22 / /pids rw - cgroup cgroup rw,pids";
        let other = "25 1 0:23 / / rw - ext4 /dev/vda rw";
        for (table, expected) in [
            (vec![whole], vec![(0, "/cg")]),
            (vec![part, cpu], vec![(0, "/with space"), (7, "/cpu")]),
            (vec![other, part, whole], vec![(0, "/cg")]),
            (vec![cpu, unknown, named, "", "- - -"], vec![(7, "/cpu"), (1, "/systemd")]),
            (vec![other], vec![]),
        ] {
            fs::write(proc.path().join("self/mountinfo"), table.join("\n")).unwrap();
            fs::write(proc.path().join("self/cgroup"), "7:cpu,cpuacct:/\n1:name=systemd:/\n0::/\n").unwrap();
            let found = match mounts(proc.path()) {
                Ok(found) => found,
                Err(error) => {
                    assert!(matches!(error, HostError::NoCgroups { .. }), "{error}");
                    Vec::new()
                }
            };
            let mut found: Vec<_> =
                found.iter().map(|mount| (mount.hierarchy, mount.point.to_str().unwrap())).collect();
            found.sort_by_key(|(hierarchy, _)| expected.iter().position(|(number, _)| number == hierarchy));
            assert_eq!(found, expected, "{table:?}");
        }
    }
}
