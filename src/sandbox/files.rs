//! Files and ports, by Landlock (since Linux 5.13; ports since 6.7).

use super::Sandbox;
use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus,
};
use std::path::Path;

/// Rights that are known here; of those that the kernel does not know it takes the others.
const RIGHTS: ABI = ABI::V5;
/// Directories that are read besides the configuration's: authorities that the host trusts.
const SYSTEM: [&str; 5] =
    ["/etc/ssl", "/etc/pki", "/etc/ca-certificates", "/usr/share/ca-certificates", "/usr/lib/ssl"];
/// Those that names of hosts are found by, with the libraries that do it; only where connections are made. Their files are
/// exchanged by others now and then, so directories it must be.
const NAMES: [&str; 7] =
    ["/etc", "/usr", "/lib", "/lib64", "/run/systemd/resolve", "/run/NetworkManager", "/run/resolvconf"];
/// The device mapper is asked through this file.
const MAPPER: &str = "mapper/control";

/// Limits files and ports; what was done, in words, and whether files of other processes are out of reach now.
pub(super) fn limit(sandbox: &Sandbox) -> (String, bool) {
    if sandbox.needs.processes {
        let why = "off: probes of programs and stacks of programs need files of other processes, which Landlock lets nobody see";
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
            let ports =
                if sandbox.connects { "no port is opened" } else { "no port is opened, no connection made" };
            (
                format!(
                    "{partly}no file is written, none read but those of the configuration and the system, {ports}"
                ),
                true,
            )
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
        .create()?;
    let names = NAMES.iter().filter(|_| sandbox.connects);
    let system = SYSTEM.iter().chain(names).map(Path::new);
    for path in sandbox.files.iter().map(std::path::PathBuf::as_path).chain(system) {
        // A file that is exchanged by another is found in its directory.
        let directory = if path.is_dir() { Some(path) } else { path.parent() };
        let directory = directory.map(|path| if path.as_os_str().is_empty() { Path::new(".") } else { path });
        // What is not there needs no rule.
        let Some(Ok(open)) = directory.map(PathFd::new) else { continue };
        rules = rules.add_rule(PathBeneath::new(open, read))?;
    }
    if sandbox.needs.mapper
        && let Ok(open) = PathFd::new(Path::new("/dev").join(MAPPER))
    {
        let ask = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::IoctlDev;
        rules = rules.add_rule(PathBeneath::new(open, ask))?;
    }
    rules.restrict_self().map(|status| status.ruleset)
}
