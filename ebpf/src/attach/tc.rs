//! `tc:INTERFACE:ingress` and `tc:INTERFACE:egress`: packets that an interface receives or sends, by a link to its traffic control
//! (TCX, 6.6). Before that, programs are filters of a queueing discipline, which outlive the process that adds them.

use super::{Description, Missing, Resolved, Target, never_untracked, packet};
use crate::{
    point::{AttachKind, AttachPoint, FunctionCount, Mechanism, PacketHook, Subject},
    probe::KernelVersion,
};

const INGRESS: Mechanism = Mechanism::of_packets("tcx_ingress", "tcx/ingress", PacketHook::TcIngress);
const EGRESS: Mechanism = Mechanism::of_packets("tcx_egress", "tcx/egress", PacketHook::TcEgress);

/// `BPF_TCX_INGRESS`
const OLDEST: KernelVersion = KernelVersion(6, 6, 0);

pub(super) static TC: Description = Description {
    kind: AttachKind {
        name: "tc",
        short: "tcx",
        form: "tc:INTERFACE:ingress|egress",
        subject: Subject::Own,
        several: FunctionCount::Never,
        mechanisms: &[INGRESS, EGRESS],
    },
    parse: |text| {
        packet::checked(packet::directed("tc", text), |[name, _]| {
            packet::is_interface(name).then(|| packet::one_interface("tc", name).map_or(Ok(()), Err))
        })
    },
    resolve: |at, _, target| resolve(at, target).map(|resolved| vec![resolved]),
    untracked: never_untracked,
};

fn resolve(at: &AttachPoint, target: &Target<'_>) -> Result<Resolved, Missing> {
    let hint = "count what the stack gets and sends: `rawtracepoint:net:netif_receive_skb`, `net_dev_queue`";
    packet::since(at, OLDEST, hint, target)?;
    let layer = target.functions.interface(&at.parts()[0])?;
    let (mechanism, hook) = match at.name() {
        "ingress" => (INGRESS, PacketHook::TcIngress),
        _ => (EGRESS, PacketHook::TcEgress),
    };
    Ok(packet::event(mechanism, hook, layer, packet::SKB))
}
