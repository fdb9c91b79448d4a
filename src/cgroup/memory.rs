//! The memory limit of this process: the lowest of its cgroup and of those above it. The kernel accounts maps and programs
//! there too, since 5.11; before, they count as locked memory.

use super::mount;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// From here on, a limit of version 1 means none: version 1 has no word for it, and writes more bytes than any machine has.
const NONE: u64 = 1 << 60;

/// A limit of memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryLimit {
    /// The file of the limit.
    pub path: PathBuf,
    /// The limit in bytes.
    pub bytes: u64,
    /// Bytes in use by everything in that cgroup.
    pub taken: u64,
}

/// The limit of this process; `None` if there is none or it cannot be read. `proc` is where procfs is mounted.
pub fn memory_limit(proc: &Path) -> Option<MemoryLimit> {
    let own = fs::read_to_string(proc.join("self/cgroup")).ok()?;
    let line = |line: &str| {
        let mut fields = line.splitn(3, ':');
        Some((fields.next()?.parse::<u64>().ok()?, fields.next()?.to_owned(), fields.next()?.to_owned()))
    };
    let lines: Vec<_> = own.lines().filter_map(line).collect();
    let has_memory = |controllers: &str| controllers.split(',').any(|controller| controller == "memory");
    let version1 = lines.iter().find(|(_, controllers, _)| has_memory(controllers));
    let (files, (hierarchy, _, path)) = match version1 {
        Some(line) => (["memory.limit_in_bytes", "memory.usage_in_bytes"], line),
        None => (["memory.max", "memory.current"], lines.iter().find(|(number, ..)| *number == 0)?),
    };
    let mount = mount::mounts(proc).ok()?.into_iter().find(|mount| mount.hierarchy == *hierarchy)?;
    let below = mount.point.join(path.trim_start_matches('/'));
    // In a container, its own cgroup is mounted.
    let innermost = if below.is_dir() { below } else { mount.point.clone() };
    let levels = innermost.ancestors().take_while(|level| level.starts_with(&mount.point));
    let number = |path: PathBuf| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let limit = |level: &Path| {
        let [max, used] = files.map(|file| level.join(file));
        let bytes = number(max.clone()).filter(|bytes| *bytes < NONE)?;
        Some(MemoryLimit { path: max, bytes, taken: number(used).unwrap_or(0) })
    };
    levels.filter_map(limit).min_by_key(|limit| limit.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_limit_on_the_way_up() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        for name in ["proc/self", "v2/a/b", "v1/a/b"] {
            fs::create_dir_all(path(name)).unwrap();
        }
        let mounts = format!(
            "20 1 0:38 / {} rw - cgroup2 cgroup2 rw\n21 1 0:39 / {} rw - cgroup cgroup rw,memory\n",
            path("v2").display(),
            path("v1").display()
        );
        fs::write(path("proc/self/mountinfo"), mounts).unwrap();
        let limit = |own: &str| {
            fs::write(path("proc/self/cgroup"), own).unwrap();
            memory_limit(&path("proc"))
        };
        assert_eq!(limit("0::/a/b\n"), None);
        for (name, text) in
            [("v2/a/b/memory.max", "max"), ("v2/a/memory.max", "1000"), ("v2/a/memory.current", "10")]
        {
            fs::write(path(name), text).unwrap();
        }
        let of_a = MemoryLimit { path: path("v2/a/memory.max"), bytes: 1000, taken: 10 };
        assert_eq!(limit("0::/a/b\n"), Some(of_a));
        fs::write(path("v2/memory.max"), "500\n").unwrap();
        assert_eq!(limit("0::/a/b\n").unwrap().bytes, 500);
        assert_eq!(limit("0::/elsewhere\n").unwrap().bytes, 500, "a container sees its own at the top");
        fs::write(path("v1/a/memory.limit_in_bytes"), "9223372036854771712\n").unwrap();
        assert_eq!(limit("4:memory:/a/b\n0::/a/b\n"), None);
        fs::write(path("v1/a/b/memory.limit_in_bytes"), "7\n").unwrap();
        assert_eq!(limit("4:memory:/a/b\n0::/a/b\n").unwrap().bytes, 7);
        assert_eq!(limit(""), None);
    }
}
