//! `cgroup_skb:PATH:ingress` and `cgroup_skb:PATH:egress`: packets that sockets of a cgroup and of those below it receive or send
//! (links 5.7). They begin with their network's header.

use super::{Description, Missing, Resolved, Target, never_untracked, packet};
use crate::{
    point::{AttachKind, AttachPoint, FunctionCount, Mechanism, PacketHook, Subject},
    probe::KernelVersion,
    target::LinkLayer,
};

const INGRESS: Mechanism =
    Mechanism::of_packets("cgroup_skb_ingress", "cgroup_skb/ingress", PacketHook::CgroupIngress);
const EGRESS: Mechanism =
    Mechanism::of_packets("cgroup_skb_egress", "cgroup_skb/egress", PacketHook::CgroupEgress);

/// The oldest kernel on which it is tested; `BPF_LINK_TYPE_CGROUP` is of 5.7.
const OLDEST: KernelVersion = KernelVersion(5, 10, 0);

pub(super) static CGROUP_SKB: Description = Description {
    kind: AttachKind {
        name: "cgroup_skb",
        short: "cs",
        form: "cgroup_skb:PATH:ingress|egress",
        subject: Subject::Own,
        several: FunctionCount::Never,
        mechanisms: &[INGRESS, EGRESS],
    },
    parse: |text| {
        packet::checked(packet::directed("cgroup_skb", text), |[path, direction]| {
            let refuse = |hint| Some(Err((format!("`{path}` is no path of a cgroup"), hint)));
            if path.is_empty() {
                return None;
            }
            if !path.starts_with('/') {
                let hint =
                    format!("begin with / at the root of the hierarchy: `cgroup_skb:/{path}:{direction}`");
                return refuse(hint);
            }
            if path.split('/').any(|part| part == "..") {
                return refuse("write it without `..`".to_owned());
            }
            let hint = "name the one above them: packets of those below it are seen as well".to_owned();
            Some(packet::one_place("cgroup_skb", path, "cgroup", hint).map_or(Ok(()), Err))
        })
    },
    resolve: |at, _, target| resolve(at, target).map(|resolved| vec![resolved]),
    untracked: never_untracked,
};

fn resolve(at: &AttachPoint, target: &Target<'_>) -> Result<Resolved, Missing> {
    packet::since(at, OLDEST, "count by `rawtracepoint:net:net_dev_queue`", target)?;
    target.functions.cgroup(&at.parts()[0])?;
    let (mechanism, hook) = match at.name() {
        "ingress" => (INGRESS, PacketHook::CgroupIngress),
        _ => (EGRESS, PacketHook::CgroupEgress),
    };
    Ok(packet::event(mechanism, hook, LinkLayer::None, packet::SKB))
}
