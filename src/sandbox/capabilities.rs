//! Capabilities that are kept and dropped.

use super::Needs;
use caps::{CapSet, Capability, CapsHashSet};
use std::{fs, str::FromStr};

/// Which capabilities are kept, of those that the process has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeptCapabilities {
    /// Those that the running probes, and a reload, need.
    Needed,
    /// All of them.
    All,
    /// These.
    Only(Vec<Capability>),
}

impl FromStr for KeptCapabilities {
    type Err = String;

    /// `auto`, `all`, `none`, or names with commas between, with or without `CAP_`.
    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            "auto" => Ok(Self::Needed),
            "all" => Ok(Self::All),
            "none" => Ok(Self::Only(Vec::new())),
            names => {
                let read = |name: &str| {
                    let canonical = caps::to_canonical(name.trim());
                    canonical.parse().map_err(|_| format!("there is no capability `{}`", name.trim()))
                };
                names.split(',').map(read).collect::<Result<_, _>>().map(Self::Only)
            }
        }
    }
}

/// Whether reading maps needs a capability: before Linux 5.19 it does unless this setting is 0.
fn maps_need_bpf() -> bool {
    let text = fs::read_to_string("/proc/sys/kernel/unprivileged_bpf_disabled").unwrap_or_default();
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    text.trim() != "0" && version < (5, 19)
}

/// The capabilities that this thread may have.
pub(super) fn permitted() -> CapsHashSet {
    caps::read(None, CapSet::Permitted).unwrap_or_default()
}

/// Drops the capabilities that are not kept. Returns a description of what was done.
pub(super) fn drop(keep: &KeptCapabilities, needs: &Needs) -> String {
    let had = match caps::read(None, CapSet::Permitted) {
        Ok(had) => had,
        Err(error) => return format!("kept, since they cannot be read: {error}"),
    };
    let mut note = String::new();
    let mut wanted: CapsHashSet = match keep {
        KeptCapabilities::Needed => needs.capabilities().into_iter().collect(),
        KeptCapabilities::All => {
            return format!("all kept, as `--capabilities.keep=all` asks for: {}", list(&had));
        }
        KeptCapabilities::Only(these) => these.iter().copied().collect(),
    };
    if !wanted.contains(&Capability::CAP_BPF) && had.contains(&Capability::CAP_BPF) && maps_need_bpf() {
        wanted.insert(Capability::CAP_BPF);
        note.push_str("; CAP_BPF too, since this kernel lets nobody else read maps");
    }
    let kept: CapsHashSet = had.intersection(&wanted).copied().collect();
    // A capability that is not in the bounding set cannot come back by a program with file capabilities. Lowering it needs
    // CAP_SETPCAP, which only root has: a process with only the documented ones cannot do it, and `no_new_privs` has the same
    // effect.
    if had.contains(&Capability::CAP_SETPCAP) {
        let bounding = caps::read(None, CapSet::Bounding).unwrap_or_default();
        for capability in bounding.difference(&kept) {
            if let Err(error) = caps::drop(None, CapSet::Bounding, *capability) {
                tracing::debug!(%capability, %error, "it stays in the bounding set");
            }
        }
    }
    let done = caps::clear(None, CapSet::Ambient)
        .and_then(|()| caps::set(None, CapSet::Effective, &kept))
        .and_then(|()| caps::set(None, CapSet::Inheritable, &CapsHashSet::new()))
        .and_then(|()| caps::set(None, CapSet::Permitted, &kept));
    match done {
        Ok(()) => format!("kept: {}{note}", list(&kept)),
        Err(error) => format!("kept: {}, since the kernel refuses to take any: {error}", list(&had)),
    }
}

/// The names of these capabilities.
fn list(capabilities: &CapsHashSet) -> String {
    if capabilities.is_empty() {
        return "none".into();
    }
    let mut names: Vec<String> = capabilities.iter().map(ToString::to_string).collect();
    names.sort();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_capabilities() {
        let read = |text: &str| text.parse::<KeptCapabilities>();
        assert_eq!(read("auto"), Ok(KeptCapabilities::Needed));
        assert_eq!(read("all"), Ok(KeptCapabilities::All));
        assert_eq!(read("none"), Ok(KeptCapabilities::Only(Vec::new())));
        assert_eq!(
            read("CAP_BPF, perfmon"),
            Ok(KeptCapabilities::Only(vec![Capability::CAP_BPF, Capability::CAP_PERFMON]))
        );
        assert_eq!(read("bpf,cap_nothing"), Err("there is no capability `cap_nothing`".into()));
        assert!(read("").is_err());
    }
}
