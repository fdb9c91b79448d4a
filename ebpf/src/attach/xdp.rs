//! `xdp:INTERFACE`: packets as the driver of an interface gets them, before the kernel joins them to larger ones or anything else
//! sees them (links 5.9, reading them 5.18). One program at a time is at an interface: ours does not take another's place.

use super::{Description, Missing, Resolved, Target, never_untracked, packet};
use crate::{
    point::{AttachKind, AttachPoint, FunctionCount, Mechanism, PacketHook, Subject},
    probe::KernelVersion,
    target::LinkLayer,
};

const MECHANISM: Mechanism = Mechanism::of_packets("xdp", "xdp", PacketHook::Xdp);

/// Fields of `struct xdp_md`: name, offset.
const FIELDS: &[(&str, u32)] = &[("ifindex", 12), ("rx_queue_index", 16)];

/// `bpf_xdp_load_bytes`, `bpf_xdp_get_buff_len`
const OLDEST: KernelVersion = KernelVersion(5, 18, 0);

pub(super) static XDP: Description = Description {
    kind: AttachKind {
        name: "xdp",
        short: "xd",
        form: "xdp:INTERFACE",
        subject: Subject::Own,
        several: FunctionCount::Never,
        mechanisms: &[MECHANISM],
    },
    parse: |text| {
        let parts = || packet::one_interface("xdp", text).map_or_else(|| Ok(vec![text.to_owned()]), Err);
        packet::is_interface(text).then(parts)
    },
    resolve: |at, _, target| resolve(at, target).map(|resolved| vec![resolved]),
    untracked: never_untracked,
};

fn resolve(at: &AttachPoint, target: &Target<'_>) -> Result<Resolved, Missing> {
    packet::since(at, OLDEST, "count what the stack gets: `rawtracepoint:net:netif_receive_skb`", target)?;
    if target.functions.interface(at.name())? == LinkLayer::None {
        return Err(Missing {
            message: format!(
                "`{}` has no Ethernet header, and XDP programs are for packets with one",
                at.name()
            ),
            hint: Some(format!("count at `tc:{}:ingress`", at.name())),
        });
    }
    Ok(packet::event(MECHANISM, PacketHook::Xdp, LinkLayer::Ethernet, FIELDS))
}
