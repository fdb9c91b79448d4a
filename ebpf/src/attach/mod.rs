//! Attach kinds: the form of each, the arguments of its attach points and how they are read, the rights of its programs and
//! the link that they need. Each kind or pair of kinds has one file, and each kind one line in [`KINDS`].

mod cgroup_skb;
mod function;
mod iter;
mod kprobe;
mod packet;
mod perf;
mod prototype;
mod rawtracepoint;
mod tc;
mod tracepoint;
mod usdt;
mod user;
mod xdp;

pub use crate::{
    arch::Arch,
    missing::{Missing, UnknownSymbol},
    site::{Place, Site, SiteRequest, Sites, UserFunctions, left_out},
    target::{Functions, LinkLayer, Target},
};
pub use function::{Signature, signature};
pub use iter::{objects, point as objects_of};
pub use packet::points as packets_at;
pub use perf::{EventFamily, EventName, FAMILIES, PerfEvent};
pub use rawtracepoint::{is_listed, point as raw_tracepoint};
pub use tracepoint::point as tracepoint;
pub(crate) use usdt::USDT;

use crate::{
    diagnostic::{near, nearest},
    glob::is_pattern,
    point::{AttachKind, AttachPoint, Mechanism},
    typed::{Type, Typed, TypedKind},
};
use std::fmt;

/// An attach kind, as its file describes it.
pub struct Description {
    /// The facts that need no kernel.
    pub kind: AttachKind,
    /// Parses the text after the kind.
    parse: fn(&str) -> Parsed,
    /// Finds an attach point and its arguments on a kernel. Each result is a program of its own.
    resolve: fn(&AttachPoint, ResolveOptions, &Target<'_>) -> Result<Vec<Resolved>, Missing>,
    /// Finds the attach point through a mechanism without typed pointers, for arguments that the verifier refuses with types.
    untracked: fn(&AttachPoint, &Target<'_>) -> Option<Resolved>,
}

/// The reason why a text is no attach point: a message and a hint.
pub type PointRefusal = (String, String);

/// The parts of the text after a kind, or the mistake in one of them; `None` if the text does not have the kind's form.
type Parsed = Option<Result<Vec<String>, PointRefusal>>;

/// All attach kinds, in the order in which messages name them.
pub static KINDS: &[&Description] = &[
    &tracepoint::TRACEPOINT,
    &rawtracepoint::RAW_TRACEPOINT,
    &function::FENTRY,
    &function::FEXIT,
    &kprobe::KPROBE,
    &kprobe::KRETPROBE,
    &user::UPROBE,
    &user::URETPROBE,
    &usdt::DESCRIPTION,
    &perf::PROFILE,
    &perf::INTERVAL,
    &perf::SOFTWARE,
    &perf::HARDWARE,
    &iter::ITER,
    &xdp::XDP,
    &tc::TC,
    &cgroup_skb::CGROUP_SKB,
];

impl fmt::Debug for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)
    }
}

fn description(word: &str) -> Option<&'static Description> {
    KINDS.iter().copied().find(|found| found.kind.name == word || found.kind.short == word)
}

/// Finds the attach kind by its name or bpftrace's short name.
pub fn kind(word: &str) -> Option<&'static AttachKind> {
    description(word).map(|description| &description.kind)
}

/// The forms of attach points, for a message to a user who wrote none.
fn forms() -> String {
    let names: Vec<&str> = KINDS.iter().map(|description| description.kind.name).collect();
    let examples = [&tracepoint::TRACEPOINT, &function::FENTRY].map(|description| description.kind.form);
    format!("write for example {}; kinds are {}", examples.join(" or "), names.join(", "))
}

/// Parses `kind:…`; an error is a message and a hint.
pub fn parse(text: &str) -> Result<AttachPoint, PointRefusal> {
    if text.is_empty() {
        return Err(("the attach point is empty".into(), forms()));
    }
    // A short name alone is no kind: it may be anything.
    let found = match text.split_once(':') {
        Some((word, rest)) => description(word).map(|description| (description, Some(rest))),
        None => description(text).filter(|found| found.kind.name == text).map(|found| (found, None)),
    };
    let Some((description, rest)) = found else {
        let Some((word, _)) = text.split_once(':') else {
            return Err((format!("`{text}` is not an attach point"), forms()));
        };
        let near = nearest(word, KINDS.iter().map(|description| description.kind.name));
        let hint = near.map_or_else(forms, |near| format!("did you mean `{near}`?"));
        return Err((format!("`{word}` is not an attach kind"), hint));
    };
    let kind = &description.kind;
    match rest.and_then(description.parse) {
        Some(parts) => parts.map(|parts| AttachPoint::new(kind, parts)),
        None => {
            let article = if kind.name.starts_with(['i', 'x']) { "an" } else { "a" };
            Err((format!("`{text}` is not {article} {}", kind.name), format!("write {}", kind.form)))
        }
    }
}

/// Splits a text at colons, if the number of parts is one of these counts and each part is a name.
fn names(text: &str, counts: &[usize]) -> Parsed {
    let parts: Vec<&str> = text.split(':').collect();
    (counts.contains(&parts.len()) && parts.iter().all(|part| is_name(part)))
        .then(|| Ok(parts.into_iter().map(str::to_owned).collect()))
}

/// Characters of patterns besides those of names.
const PATTERN: [char; 9] = ['*', '?', '[', ']', '!', '^', '{', ',', '}'];

/// Whether a text is a name, or a pattern of names.
fn is_name_or_pattern(part: &str) -> bool {
    is_name(part) || is_pattern(part) && is_name(&part.replace(PATTERN, "x"))
}

fn is_name(part: &str) -> bool {
    !part.is_empty()
        && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
        // Names become names of files.
        && !part.starts_with('.')
}

/// For kinds whose attach points have no mechanism without typed pointers.
fn never_untracked(_: &AttachPoint, _: &Target<'_>) -> Option<Resolved> {
    None
}

/// An argument, as `args.NAME` finds it.
#[derive(Clone, Debug)]
pub struct Argument {
    /// Its name; `arg0` and so on also find it by number.
    pub name: String,
    /// Its type as C writes it, for lists and messages.
    pub ctype: String,
    /// Its value; `Err` is the reason why it cannot be read.
    pub value: Result<ArgumentValue, String>,
}

/// The value of an argument.
#[derive(Clone, Debug)]
pub enum ArgumentValue {
    /// A number, pointer or text.
    Value(Typed),
    /// An array inside the context.
    Array {
        /// Offset of the first element, bytes.
        offset: u32,
        /// Size of an element, bytes.
        element_size: u32,
        /// Type of the elements.
        element: Type,
        /// Number of elements.
        count: u32,
    },
}

/// An attach point that this kernel has.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// Its mechanism.
    pub mechanism: Mechanism,
    /// Its arguments.
    pub arguments: Vec<Argument>,
    /// `retval`: the result of the function; `None` if there is none, `Err` is the reason why it cannot be read.
    pub result: Option<Result<Typed, String>>,
    /// Whether it is at the return of a function.
    pub is_return: bool,
    /// `frame`: a value that identifies a call of a function; it is equal at the entry and the return.
    pub frame: Option<Typed>,
    /// Whether only the numbers of arguments are known, and not their count.
    pub untyped: bool,
    /// Arguments that only some of several functions have: name, and the reason why not all have it.
    pub unshared: Vec<(String, String)>,
    /// The functions, or the tracepoint; empty for other events.
    pub sites: Sites,
    /// Places of the USDT probe, if it is one.
    pub usdt: Option<crate::usdt::UsdtSites>,
    /// Names and numbers of all functions of the event, including those of its other programs; assigned when the event is
    /// checked.
    pub named: Vec<(String, u32)>,
    /// What holds at each event that counts; at others the program does nothing.
    pub condition: Option<Typed>,
    /// The goroutine of the call, which is part of the key if `frame` is.
    pub goroutine: Option<Typed>,
    /// What several arguments are computed from: named expressions of the event, before those of the probe. Each is computed
    /// once.
    pub lets: Vec<(String, Typed)>,
}

impl Resolved {
    /// `func` and `tracepoint`: the number of the function or tracepoint in the probe; `None` for other events.
    pub fn function(&self) -> Option<Typed> {
        // One program may be for several tracepoints, each of which is looked at by itself.
        let number = match self.sites.list.as_slice() {
            [] => return None,
            [site] if self.named.len() == 1 || !matches!(site.place, Place::Tracepoint { .. }) => {
                Some(site.number)
            }
            _ => None,
        };
        Some(Typed::new(TypedKind::Function(number), Type::U64))
    }

    /// Makes an attach point of an event that is not a function.
    pub(crate) fn event(mechanism: Mechanism, arguments: Vec<Argument>) -> Self {
        Self {
            mechanism,
            arguments,
            result: None,
            is_return: false,
            frame: None,
            untyped: false,
            unshared: Vec::new(),
            sites: Sites::default(),
            usdt: None,
            named: Vec::new(),
            condition: None,
            goroutine: None,
            lets: Vec::new(),
        }
    }
}

/// Options for resolving an attach point.
#[derive(Clone, Copy, Debug)]
pub struct ResolveOptions {
    /// Whether it is one end of a whole call: functions are left out unless both ends can be probed.
    pub whole: bool,
    /// Most functions that a pattern may match.
    pub most: u32,
    /// Whether the event takes stacks of programs.
    pub stacks: bool,
}

impl ResolveOptions {
    /// The request for the functions of an attach point.
    fn wanted(self, function: &str, at_return: bool) -> SiteRequest<'_> {
        let Self { whole, most, stacks } = self;
        SiteRequest { function, at_return, whole, most, stacks }
    }
}

fn of(at: &AttachPoint) -> &'static Description {
    description(at.kind.name).expect("an attach point has a kind of the table")
}

/// Finds an attach point and its arguments on a kernel. Each result is a program of its own.
pub fn resolve(
    at: &AttachPoint,
    request: ResolveOptions,
    target: &Target<'_>,
) -> Result<Vec<Resolved>, Missing> {
    (of(at).resolve)(at, request, target)
}

/// Finds the attach point through a mechanism without typed pointers, for arguments that the verifier refuses with types.
pub fn resolve_untracked(at: &AttachPoint, target: &Target<'_>) -> Option<Resolved> {
    (of(at).untracked)(at, target)
}

/// The error for a tracepoint that this kernel does not have, or does not show.
fn no_tracepoint(kind: &str, category: Option<&str>, name: &str, target: &Target<'_>) -> Missing {
    if let Some(missing) = target.tracepoints.unreadable(category.unwrap_or_default(), name) {
        return missing;
    }
    let all = target.tracepoints.all();
    if let Some((other, _)) =
        all.iter().find(|(found, known)| known == name && category.is_some_and(|category| category != found))
    {
        return Missing {
            message: format!("this kernel has no tracepoint `{}:{name}`", category.unwrap_or("")),
            hint: Some(format!("did you mean `{kind}:{other}:{name}`?")),
        };
    }
    let nearest: Vec<String> = near(name, all.iter().map(|(_, name)| name.as_str()), 3)
        .into_iter()
        .filter_map(|near| all.iter().find(|(_, name)| name == near))
        .map(|(category, name)| format!("`{kind}:{category}:{name}`"))
        .collect();
    let hint = if all.is_empty() {
        "tracefs cannot be read: run as root, or mount it: mount -t tracefs tracefs /sys/kernel/tracing"
            .into()
    } else if nearest.is_empty() {
        "`tapster list PATTERN` shows what there is".into()
    } else {
        format!("did you mean {}?", nearest.join(" or "))
    };
    let full = category.map_or_else(|| name.to_owned(), |category| format!("{category}:{name}"));
    Missing { message: format!("this kernel has no tracepoint `{full}`"), hint: Some(hint) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn kinds_are_told_apart_and_described_in_full() {
        let words: BTreeSet<&str> =
            KINDS.iter().flat_map(|found| [found.kind.name, found.kind.short]).collect();
        assert_eq!(words.len(), KINDS.len() * 2, "each word means one kind");
        for Description { kind, .. } in KINDS {
            assert!(kind.form.starts_with(&format!("{}:", kind.name)), "{kind:?}");
            assert!(!kind.mechanisms.is_empty(), "{kind:?}");
            assert_eq!(super::kind(kind.short), super::kind(kind.name));
        }
    }

    #[test]
    fn short_names_need_something_behind_them() {
        assert_eq!(parse("t:a:b").unwrap().to_string(), "tracepoint:a:b");
        assert_eq!(parse("t").unwrap_err().0, "`t` is not an attach point");
        assert_eq!(parse("tracepoint").unwrap_err().0, "`tracepoint` is not a tracepoint");
        assert_eq!(parse("").unwrap_err().0, "the attach point is empty");
        assert_eq!(parse(":a").unwrap_err().0, "`` is not an attach kind");
    }

    #[test]
    fn attach_points() {
        for text in [
            "tracepoint:sched:sched_switch",
            "rawtracepoint:block:block_rq_issue",
            "rawtracepoint:sys_enter",
            "fentry:bio_endio",
            "kretprobe:vfs_read",
            "uprobe:/usr/bin/psql:main",
            "uretprobe:libc.so.6:malloc",
            "usdt:/usr/bin/python3:python:gc__start",
            "usdt:libc:setjmp",
            "tracepoint:syscalls:sys_enter_*",
            "tracepoint:{sched,irq}:*_{entry,exit}",
            "kprobe:vfs_{read,write}*",
            "uprobe:/bin/story:f::{lambda(int, char)#1}",
            "uprobe:/bin/story:story::hasher::*(char const*)",
            "kprobe:ext[34]_*",
            "profile:hz:99",
            "interval:ms:500",
            "software:page-faults:1",
            "iter:task_file",
            "xdp:eth0.12",
            "tc:br-0:egress",
            "cgroup_skb:/kubepods.slice/cri:ab.scope:ingress",
        ] {
            assert_eq!(parse(text).unwrap().to_string(), text);
        }
        for (text, message, hint) in [
            ("tracepont:a:b", "`tracepont` is not an attach kind", "did you mean `tracepoint`?"),
            ("software:page-fault:1", "`software` has no `page-fault`", "did you mean `page-faults`?"),
            (
                "profile:hz:20000",
                "`profile:hz:20000` is more often than 10 000 times a second",
                "take longer between two",
            ),
            ("interval:s:x", "`interval:s` needs a whole number behind it", "for example interval:s:1"),
            ("usdt:a:b:c:d", "`usdt:a:b:c:d` is not a usdt", "write usdt:BINARY:PROVIDER:NAME"),
            ("usdt:a::c", "`usdt:a::c` is not a usdt", "write usdt:BINARY:PROVIDER:NAME"),
            ("usdt:a", "`usdt:a` is not a usdt", "write usdt:BINARY:PROVIDER:NAME"),
            ("uprobe:/bin/a:b:c", "`uprobe:/bin/a:b:c` is not a uprobe", "write uprobe:BINARY:FUNCTION"),
            ("kprobe:../*", "`kprobe:../*` is not a kprobe", "write kprobe:FUNCTION"),
            ("kprobe:a,b", "`kprobe:a,b` is not a kprobe", "write kprobe:FUNCTION"),
            ("tracepoint:a:b}", "`tracepoint:a:b}` is not a tracepoint", "write tracepoint:CATEGORY:NAME"),
            (
                "rawtracepoint:sched:sched_*",
                "`rawtracepoint:sched:sched_*` is a pattern, and a rawtracepoint takes one name",
                "write tracepoint:sched:sched_*",
            ),
            ("xdp:eth0:ingress", "`xdp:eth0:ingress` is not an xdp", "write xdp:INTERFACE"),
            ("xdp:an_interface_of_16", "`xdp:an_interface_of_16` is not an xdp", "write xdp:INTERFACE"),
            ("tc:eth0", "`tc:eth0` is not a tc", "write tc:INTERFACE:ingress|egress"),
            (
                "xdp:eth*",
                "`eth*` is a pattern, and `xdp` takes one interface",
                "write an attach point for each, below `all_of`",
            ),
            (
                "tc:eth*:egress",
                "`eth*` is a pattern, and `tc` takes one interface",
                "write an attach point for each, below `all_of`",
            ),
            (
                "cgroup_skb:/kubepods/*:egress",
                "`/kubepods/*` is a pattern, and `cgroup_skb` takes one cgroup",
                "name the one above them: packets of those below it are seen as well",
            ),
            (
                "tc:eth0:in",
                "`tc` has no direction `in`",
                "write `tc:eth0:ingress` for what is received, `tc:eth0:egress` for what is sent",
            ),
            (
                "cgroup_skb:a:egress",
                "`a` is no path of a cgroup",
                "begin with / at the root of the hierarchy: `cgroup_skb:/a:egress`",
            ),
            ("cgroup_skb:/../a:egress", "`/../a` is no path of a cgroup", "write it without `..`"),
            ("tracepoint:a", "`tracepoint:a` is not a tracepoint", "write tracepoint:CATEGORY:NAME"),
            (
                "tracepoint:a:../x",
                "`tracepoint:a:../x` is not a tracepoint",
                "write tracepoint:CATEGORY:NAME",
            ),
        ] {
            assert_eq!(parse(text).unwrap_err(), (message.to_owned(), hint.to_owned()));
        }
    }
}
