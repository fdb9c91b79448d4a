//! Containers by the cgroups of their processes, from the names that container runtimes give to cgroups. No runtime is
//! contacted.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};
use tapster_ebpf::{attach::Missing, probe::Root};

/// Length of a container's id.
const ID: usize = 64;
/// Fewest characters that count as an id.
const SHORTEST: usize = 6;
/// Most containers that a message names.
const SHOWN: usize = 5;

/// A container.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Container {
    /// A container of Docker, containerd, CRI-O or Podman: 64 hexadecimal digits.
    Id(String),
    /// A container of LXC, or a machine of systemd.
    Name(String),
}

impl Container {
    /// The innermost container of a process, from the text of its `cgroup` file.
    pub fn of(cgroups: &str) -> Option<Self> {
        // `NUMBER:CONTROLLERS:PATH`; the number is 0 for version 2, whose paths have the same form.
        let mut paths = cgroups.lines().filter_map(|line| line.splitn(3, ':').nth(2));
        paths.find_map(Self::in_path)
    }

    /// The innermost container in the path of a cgroup.
    pub fn in_path(path: &str) -> Option<Self> {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        (0..parts.len()).rev().find_map(|index| {
            let above = index.checked_sub(1).and_then(|above| parts.get(above)).copied();
            Self::in_part(parts[index], above)
        })
    }

    /// `docker-ID.scope`, `cri-containerd-ID.scope`, `crio-ID.scope`, `libpod-ID.scope`, `…:cri-containerd:ID`, `ID`,
    /// `lxc.payload.NAME`, `lxc/NAME`, `machine-NAME.scope`, `systemd-nspawn@NAME.service`.
    fn in_part(part: &str, above: Option<&str>) -> Option<Self> {
        let bare = part.strip_suffix(".scope").unwrap_or(part);
        let (runtime, id) = bare.rsplit_once(['-', ':']).unwrap_or(("", bare));
        if id.len() == ID && is_id(id) {
            // The monitor of a container is outside of it.
            return (!runtime.ends_with("conmon")).then(|| Self::Id(id.into()));
        }
        let name = part
            .strip_prefix("lxc.payload.")
            .or_else(|| part.strip_prefix("machine-")?.strip_suffix(".scope"))
            .or_else(|| part.strip_prefix("systemd-nspawn@")?.strip_suffix(".service"))
            .or_else(|| (above == Some("lxc")).then_some(part))?;
        // systemd escapes a dash in a name like this.
        Some(Self::Name(name.replace("\\x2d", "-")))
    }

    fn is(&self, wanted: &str) -> bool {
        match self {
            Self::Id(id) => wanted.len() >= SHORTEST && id.starts_with(wanted),
            Self::Name(name) => name == wanted,
        }
    }

    /// Its name, or the first 12 digits of its id, as runtimes show it.
    pub fn shown(&self) -> &str {
        match self {
            Self::Id(id) => &id[..12],
            Self::Name(name) => name,
        }
    }
}

/// Whether a text is an id or a part of one.
pub fn is_id(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The UID of the pod in the path of a cgroup: `kubepods-burstable-podUID.slice` with `_` for `-`,
/// `kubepods-podUID.slice:cri-containerd:ID`, `podUID` below `kubepods`. Of nested pods, the innermost.
pub fn pod_uid(path: &str) -> Option<String> {
    let parts: Vec<&str> = path.split('/').collect();
    (0..parts.len()).rev().find_map(|index| {
        let slice = parts[index].split(':').next()?;
        match slice.strip_suffix(".slice") {
            Some(slice) if slice.contains("kubepods-") => {
                slice.rsplit_once("-pod").map(|(_, uid)| uid.replace('_', "-"))
            }
            Some(_) => None,
            None => {
                let is_below = parts[..index].iter().rev().take(2).any(|part| *part == "kubepods");
                slice.strip_prefix("pod").filter(|uid| is_below && !uid.is_empty()).map(str::to_owned)
            }
        }
    })
}

/// The first process of the container that has this name, or whose id begins with this. Fails if there is none, or several.
pub fn process(proc: &Path, wanted: &str) -> Result<u32, Missing> {
    let mut all: Vec<(Container, u32)> =
        processes(proc).filter_map(|pid| Some((of(proc, pid)?, pid))).collect();
    all.sort();
    all.dedup_by(|second, first| second.0 == first.0);
    let found: Vec<&(Container, u32)> = all.iter().filter(|(container, _)| container.is(wanted)).collect();
    let list = |containers: &mut dyn Iterator<Item = &Container>| {
        let mut names: Vec<String> = containers.map(|container| format!("`{}`", container.shown())).collect();
        if names.len() > SHOWN {
            names.truncate(SHOWN);
            names.push("…".into());
        }
        names.join(", ")
    };
    match found.as_slice() {
        [(_, pid)] => Ok(*pid),
        [] => Err(Missing {
            message: format!("no process runs in a container `{wanted}`"),
            hint: Some(if all.is_empty() {
                "no cgroup of this host is a container's: the exporter must see all processes (hostPID, --pid=host)".into()
            } else {
                format!(
                    "there are {}; Docker's ids: docker inspect -f {{{{.Id}}}} NAME",
                    list(&mut all.iter().map(|(container, _)| container))
                )
            }),
        }),
        several => Err(Missing {
            message: format!("`{wanted}` is the beginning of {} containers", several.len()),
            hint: Some(format!("they are {}", list(&mut several.iter().map(|(container, _)| container)))),
        }),
    }
}

/// Whether a process still exists and is in that container.
pub fn is_in(proc: &Path, pid: u32, wanted: &str) -> bool {
    of(proc, pid).is_some_and(|container| container.is(wanted))
}

fn of(proc: &Path, pid: u32) -> Option<Container> {
    Container::of(&fs::read_to_string(directory(proc, pid).join("cgroup")).ok()?)
}

/// The mount namespace of a container's processes; `None` if `root` is no container, or shares the mount namespace of this
/// process.
pub fn namespace(proc: &Path, root: &Root) -> Result<Option<u32>, Missing> {
    let Root::Container(name) = root else { return Ok(None) };
    namespace_of(proc, process(proc, name)?, root)
}

/// Like [`namespace`], with one of its processes known.
pub fn namespace_of(proc: &Path, pid: u32, root: &Root) -> Result<Option<u32>, Missing> {
    let of = |directory: &Path| fs::metadata(directory.join("ns/mnt")).map(|metadata| metadata.ino());
    let number = of(&directory(proc, pid)).map_err(|error| Missing {
        message: format!("the mount namespace of {root} cannot be seen: {error}"),
        hint: None,
    })?;
    let own = of(&proc.join("self")).ok();
    Ok(u32::try_from(number).ok().filter(|_| own != Some(number)))
}

/// The directory of a process in procfs.
pub fn directory(proc: &Path, pid: u32) -> PathBuf {
    proc.join(pid.to_string())
}

/// The numbers of all processes.
pub fn processes(proc: &Path) -> impl Iterator<Item = u32> + use<> {
    let entries = fs::read_dir(proc).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const B: &str = "0123456789ff0123456789abcdef0123456789abcdef0123456789abcdef0123";

    #[test]
    fn containers_of_all_runtimes() {
        for path in [
            format!("/system.slice/docker-{A}.scope"),
            format!("/docker/{A}"),
            format!("/kubepods.slice/kubepods-pod1.slice/cri-containerd-{A}.scope"),
            format!("/kubepods/burstable/pod0a1b/{A}"),
            format!("/system.slice/containerd.service/kubepods-pod1.slice:cri-containerd:{A}"),
            format!("/kubepods.slice/kubepods-pod1.slice/crio-{A}.scope"),
            format!("/machine.slice/libpod-{A}.scope/container"),
            format!("/../../kubepods.slice/crio-{A}.scope/init.scope"),
        ] {
            assert_eq!(Container::of(&format!("0::{path}\n")), Some(Container::Id(A.into())), "{path}");
        }
        let inner = format!("0::/docker/{A}/docker/{B}\n");
        assert_eq!(Container::of(&inner), Some(Container::Id(B.into())), "the innermost");
        let first_version = format!("12:cpu,cpuacct:/docker/{A}\n1:name=systemd:/docker/{A}\n0::/\n");
        assert_eq!(Container::of(&first_version), Some(Container::Id(A.into())));
        for (path, name) in [
            ("/lxc.payload.web/system.slice/nginx.service", "web"),
            ("/lxc/web", "web"),
            ("/machine.slice/machine-deb\\x2d12.scope/payload", "deb-12"),
            ("/machine.slice/systemd-nspawn@web.service/payload", "web"),
        ] {
            assert_eq!(Container::of(&format!("0::{path}\n")), Some(Container::Name(name.into())), "{path}");
        }
        for path in [
            "/".to_owned(),
            "/system.slice/postgresql@15-main.service".to_owned(),
            format!("/kubepods.slice/crio-conmon-{A}.scope"),
            format!("/system.slice/docker-{}.scope", &A[1..]),
            "/lxc.monitor.web".to_owned(),
        ] {
            assert_eq!(Container::of(&format!("0::{path}\n")), None, "{path}");
        }
        assert_eq!(Container::of("nonsense"), None);
    }

    #[test]
    fn pods_of_all_drivers() {
        let uid = "0a1b2c3d-0000-4000-8000-0123456789ab";
        let flat = uid.replace('-', "_");
        for path in [
            format!(
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{flat}.slice/cri-containerd-{A}.scope"
            ),
            format!("/kubepods.slice/kubepods-pod{flat}.slice/crio-{A}.scope/container"),
            format!(
                "/system.slice/containerd.service/kubepods-besteffort-pod{flat}.slice:cri-containerd:{A}"
            ),
            format!(
                "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{flat}.slice/cri-containerd-{A}.scope"
            ),
            format!("/kubepods/besteffort/pod{uid}/{A}"),
            format!("/kubepods/pod{uid}/{A}/inner"),
            format!("/docker/{B}/kubelet/kubepods/burstable/pod{uid}/{A}"),
        ] {
            assert_eq!(pod_uid(&path).as_deref(), Some(uid), "{path}");
        }
        for path in ["/", "/system.slice/pods.service", "/podman/pod1", "/kubepods.slice", "/kubepods/pod"] {
            assert_eq!(pod_uid(path), None, "{path}");
        }
    }

    #[test]
    fn one_container_is_meant() {
        let proc = tempfile::tempdir().unwrap();
        let put = |pid: &str, path: &str| {
            fs::create_dir(proc.path().join(pid)).unwrap();
            fs::write(proc.path().join(pid).join("cgroup"), format!("0::{path}\n")).unwrap();
        };
        let message = |wanted: &str| {
            let Missing { message, hint } = process(proc.path(), wanted).unwrap_err();
            format!("{message}; {}", hint.unwrap())
        };
        put("1", "/");
        assert!(message("web").contains("hostPID"), "{}", message("web"));
        put("300", &format!("/docker/{A}"));
        put("20", &format!("/docker/{A}/inner"));
        put("400", &format!("/system.slice/docker-{B}.scope"));
        put("500", "/lxc.payload.web");
        fs::create_dir(proc.path().join("self")).unwrap();
        assert_eq!(process(proc.path(), &A[..12]).unwrap(), 20);
        assert_eq!(process(proc.path(), B).unwrap(), 400);
        assert_eq!(process(proc.path(), "web").unwrap(), 500);
        assert!(message("0123456789").starts_with("`0123456789` is the beginning of 2 containers"));
        assert!(
            message("we").contains("there are `0123456789ab`, `0123456789ff`, `web`"),
            "{}",
            message("we")
        );
        assert!(message(&A[..4]).contains("no process runs"), "too short to be an id");
        assert!(is_in(proc.path(), 20, &A[..6]) && !is_in(proc.path(), 1, &A[..6]));
    }
}
