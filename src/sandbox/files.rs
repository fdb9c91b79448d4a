//! Files and ports, by Landlock (since Linux 5.13; ports since 6.7).

use super::Sandbox;
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Rights that this version knows; the kernel ignores those that it does not know.
const RIGHTS: ABI = ABI::V5;
/// Directories that are read beside those of the configuration: this process's own files and tracefs, which libraries look for
/// here wherever the host's are, and authorities that the host trusts.
const SYSTEM: [&str; 7] = [
    "/proc",
    "/sys",
    "/etc/ssl",
    "/etc/pki",
    "/etc/ca-certificates",
    "/usr/share/ca-certificates",
    "/usr/lib/ssl",
];
/// Directories with the files and libraries by which host names are resolved; only if connections are made. Their files are
/// exchanged by others now and then, so the rules are for directories.
const NAMES: [&str; 7] =
    ["/etc", "/usr", "/lib", "/lib64", "/run/systemd/resolve", "/run/NetworkManager", "/run/resolvconf"];
/// Files for resolving host names that are links on some hosts.
const RESOLVER: [&str; 3] = ["/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf"];
/// Most links that are followed.
const MOST_LINKS: usize = 16;

/// The directories in which a file is looked for: its own, and those that its links lead to. A file that replaces it is
/// found in them.
fn ways(path: &Path) -> Vec<PathBuf> {
    let mut directories = Vec::new();
    let mut next = Some(std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf()));
    for _ in 0..MOST_LINKS {
        let Some(path) = next.take() else { break };
        if path.is_dir() && !path.is_symlink() {
            directories.push(path);
            break;
        }
        let Some(directory) = path.parent() else { break };
        directories.push(directory.to_path_buf());
        next = fs::read_link(&path).ok().map(|target| directory.join(target));
    }
    // Directories on the way may be links as well.
    if let Ok(place) = path.canonicalize() {
        directories.push(if place.is_dir() { place } else { place.parent().unwrap_or(&place).to_path_buf() });
    }
    directories
}

/// Limits files and ports. Returns a description of what was done, and whether files of other processes are out of reach now.
pub(super) fn limit(sandbox: &Sandbox) -> (String, bool) {
    if sandbox.needs.processes {
        let why = "off: probes of programs and labels of their functions, or of interfaces in other networks, need files of other processes, which Landlock lets nobody see";
        return (why.into(), false);
    }
    match restrict(sandbox) {
        Ok(RulesetStatus::NotEnforced) => ("off: this kernel does not have it".into(), false),
        Ok(status) => {
            let partly = if status == RulesetStatus::PartiallyEnforced {
                "as far as this kernel has it: "
            } else {
                ""
            };
            let names = if sandbox.needs.root { "the names of users and devices, " } else { "" };
            let (files, ports) = if sandbox.connects {
                ("the configuration, `/proc`, `/sys` and the system", "no TCP port is opened")
            } else {
                ("the configuration, `/proc` and `/sys`", "no TCP port is opened, no TCP connection made")
            };
            (format!("{partly}no file is written, none read but those of {names}{files}, {ports}"), true)
        }
        Err(error) => (format!("off: {error}"), false),
    }
}

fn restrict(sandbox: &Sandbox) -> Result<RulesetStatus, RulesetError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let mut net: BitFlags<AccessNet> = AccessNet::BindTcp.into();
    if !sandbox.connects {
        net |= AccessNet::ConnectTcp;
    }
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(RIGHTS))?
        .handle_access(net)?
        .scope(Scope::Signal)?
        .create()?;
    let is_named = |_: &&&str| sandbox.connects;
    let system = SYSTEM.iter().chain(NAMES.iter().filter(is_named)).map(PathBuf::from);
    let resolver = RESOLVER.iter().filter(is_named).flat_map(|path| ways(Path::new(path)));
    let own = sandbox.files.iter().flat_map(|path| ways(path));
    let mut directories: Vec<PathBuf> =
        sandbox.directories.iter().cloned().chain(system).chain(resolver).chain(own).collect();
    directories.sort();
    directories.dedup();
    // A directory that does not exist needs no rule, and a rule for `/` would be none.
    for directory in directories.iter().filter(|path| path.is_dir() && path.parent().is_some()) {
        if let Ok(open) = PathFd::new(directory) {
            rules = rules.add_rule(PathBeneath::new(open, read))?;
        }
    }
    if let Ok(open) = PathFd::new(&sandbox.listed) {
        rules = rules.add_rule(PathBeneath::new(open, AccessFs::ReadDir))?;
    }
    if sandbox.needs.mapper
        && let Ok(open) = PathFd::new(&sandbox.mapper)
    {
        let ask = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::IoctlDev;
        rules = rules.add_rule(PathBeneath::new(open, ask))?;
    }
    rules.restrict_self().map(|status| status.ruleset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_are_followed_to_where_files_are_exchanged() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().canonicalize().unwrap().join(name);
        for directory in ["live/host", "archive/host", "probes/..1"] {
            fs::create_dir_all(path(directory)).unwrap();
        }
        fs::write(path("archive/host/cert1.pem"), "").unwrap();
        symlink("../../archive/host/cert1.pem", path("live/host/cert.pem")).unwrap();
        let found = ways(&path("live/host/cert.pem"));
        assert!(found.contains(&path("live/host")) && found.contains(&path("archive/host")), "{found:?}");
        // As a `ConfigMap` is mounted.
        fs::write(path("probes/..1/a.yaml"), "").unwrap();
        symlink("..1", path("probes/..data")).unwrap();
        symlink("..data/a.yaml", path("probes/a.yaml")).unwrap();
        let found = ways(&path("probes/a.yaml"));
        assert!(found.iter().all(|found| found.starts_with(path("probes"))), "{found:?}");
        assert_eq!(ways(&path("probes")), [path("probes"), path("probes")]);
        // A link to a directory that is switched: the link itself is found in its own.
        symlink("archive", path("current")).unwrap();
        assert_eq!(ways(&path("current")), [path(""), path("archive"), path("archive")]);
        assert_eq!(ways(&path("nowhere/file")), [path("nowhere")]);
        symlink("round", path("round")).unwrap();
        assert!(ways(&path("round")).len() <= MOST_LINKS);
    }
}
