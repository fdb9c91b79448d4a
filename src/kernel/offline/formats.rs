//! Tracepoints as BTF has them: which there are, and the fields of their records.
//!
//! A tracepoint's record is that of its class, `struct trace_event_raw_CLASS`, and BTF does not say which class that is. It is
//! certain where there is a class of the tracepoint's own name (`TRACE_EVENT`), or only one class whose arguments are its own
//! (`DEFINE_EVENT`). Where several have its arguments, fields that all of them have at one place are certain, and others in doubt.

use tapster_ebpf::btf::{Btf, BtfKind, Member, TypeId};

/// The category of system calls, whose records are no structs of their own.
const SYSCALLS: &str = "syscalls";
/// Most classes; kernels have some two thousand.
const CLASSES: usize = 20_000;
/// What functions of system calls begin with.
const ENTRIES: [&str; 2] = ["__x64_sys_", "__arm64_sys_"];
/// What the elements of an array with a length of its own are, which BTF does not tell.
pub(super) const ELEMENTS: &str = "?[]";

/// What BTF says of a tracepoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum EventFormat {
    /// Its fields, in the form of a format file.
    Known(String),
    /// It exists, and has these fields; which others it has is not known.
    Partly(String),
    /// It exists; of its fields nothing is known.
    Unknown,
    /// There is none in the kernel itself.
    Absent,
}

/// Whether the kernel itself has a tracepoint, by the type that programs name to attach to it.
pub(super) fn exists(btf: &Btf, name: &str) -> bool {
    btf.find(&format!("btf_trace_{name}"), BtfKind::Typedef).is_some()
}

/// Names of the kernel's own tracepoints.
pub(super) fn names(btf: &Btf) -> impl Iterator<Item = &str> {
    btf.names(BtfKind::Typedef).filter_map(|name| name.strip_prefix("btf_trace_"))
}

/// What BTF says of a tracepoint.
pub(super) fn format(btf: &Btf, category: &str, name: &str) -> EventFormat {
    if category == SYSCALLS {
        return system_call(btf, name);
    }
    if !exists(btf, name) {
        return EventFormat::Absent;
    }
    // By convention one without an event, which only raw tracepoints reach.
    if name.ends_with("_tp") {
        return EventFormat::Unknown;
    }
    match classes(btf, name).as_slice() {
        [] => EventFormat::Unknown,
        [record] => EventFormat::Known(fields(btf, *record).concat()),
        [first, others @ ..] => {
            let mut common = fields(btf, *first);
            for other in others {
                let other = fields(btf, *other);
                common.retain(|field| other.contains(field));
            }
            EventFormat::Partly(common.concat())
        }
    }
}

/// The records of all classes of which a tracepoint may be.
fn classes(btf: &Btf, name: &str) -> Vec<TypeId> {
    if let Some(record) = btf.find(&format!("trace_event_raw_{name}"), BtfKind::Struct) {
        return vec![record];
    }
    let own = arguments(btf, &format!("__traceiter_{name}"));
    let class = |id: TypeId| btf.name(id).strip_prefix("trace_event_raw_");
    let records = || btf.ids().filter(|id| btf.kind(*id) == BtfKind::Struct && class(*id).is_some());
    if records().nth(CLASSES).is_some() {
        return Vec::new();
    }
    records()
        .filter(|id| {
            let class = class(*id).unwrap_or_default();
            // A class whose arguments are not known may be the one.
            let other = arguments(btf, &format!("__bpf_trace_{class}"));
            own.is_none() || other.is_none() || own == other
        })
        .collect()
}

/// Types of a function's parameters without the first, which all such functions have.
fn arguments(btf: &Btf, function: &str) -> Option<Vec<TypeId>> {
    let prototype = btf.target(btf.find(function, BtfKind::Func)?);
    Some(btf.parameters(prototype).into_iter().skip(1).map(|(_, ty)| ty).collect())
}

/// The fields of a record, each in a line as in a format file. What cannot be in one is left out, as the kernel does not have it.
fn fields(btf: &Btf, record: TypeId) -> Vec<String> {
    btf.members(record).filter_map(|member| field(btf, &member)).collect()
}

fn field(btf: &Btf, member: &Member<'_>) -> Option<String> {
    let Member { name, type_id, bit_offset, bitfield_bits } = *member;
    if name == "ent" || name == "__data" || bitfield_bits.is_some() {
        return None;
    }
    let (offset, size) = (bit_offset / 8, btf.size(type_id)?);
    let located = [("__data_loc_", "__data_loc"), ("__rel_loc_", "__rel_loc")]
        .into_iter()
        .find_map(|(prefix, word)| Some((word, name.strip_prefix(prefix)?)));
    let ty = btf.strip(type_id);
    let declared = match (located, btf.kind(ty)) {
        (Some((word, name)), _) => format!("{word} {ELEMENTS} {name}"),
        (None, BtfKind::Array) => {
            let (element, count) = btf.array(ty);
            format!("{} {name}[{count}]", btf.display(element))
        }
        (None, _) => format!("{} {name}", btf.display(type_id)),
    };
    let signed = u8::from(btf.is_signed(ty));
    Some(format!("\tfield:{declared};\toffset:{offset};\tsize:{size};\tsigned:{signed};\n"))
}

/// `sys_enter_NAME` or `sys_exit_NAME`. BTF has the function of a call, which gets its registers, not its arguments.
fn system_call(btf: &Btf, name: &str) -> EventFormat {
    let number = "\tfield:int __syscall_nr;\toffset:8;\tsize:4;\tsigned:1;\n";
    let (call, is_exit) = match (name.strip_prefix("sys_enter_"), name.strip_prefix("sys_exit_")) {
        (Some(call), _) => (call, false),
        (_, Some(call)) => (call, true),
        (None, None) => return EventFormat::Absent,
    };
    let has = |prefix: &&str| btf.find(&format!("{prefix}{call}"), BtfKind::Func).is_some();
    // Without `CONFIG_FTRACE_SYSCALLS` there is no description of system calls.
    if !ENTRIES.iter().any(has) || btf.find("syscall_metadata", BtfKind::Struct).is_none() {
        return EventFormat::Absent;
    }
    if is_exit {
        EventFormat::Known(format!("{number}\tfield:long ret;\toffset:16;\tsize:8;\tsigned:1;\n"))
    } else {
        EventFormat::Partly(number.into())
    }
}
