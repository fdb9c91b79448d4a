//! Attach kinds: which arguments an attach point has, and how each is read. One file per kind.

mod function;
mod perf;
mod prototype;
mod rawtracepoint;
mod tracepoint;
mod usdt;
mod user;

pub use function::{Signature, signature};
pub use crate::arch::Arch;
pub use crate::site::{Place, Site, Sites, UserFunctions, Wanted, left_out};

use crate::{
    btf::Btf,
    diagnostic::near,
    probe::{AttachPoint, FunctionMechanism, KernelVersion, Root},
    tracefs::Tracepoints,
    typed::{Mechanism, Node, Type, Typed},
};
use std::fmt;

/// What a kernel offers to the compiler.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    /// Its types, if it has BTF.
    pub btf: Option<&'a Btf>,
    /// Its tracepoints.
    pub tracepoints: &'a dyn Tracepoints,
    /// Its version.
    pub kernel: KernelVersion,
    /// CPUs that it may bring up; rows kept per CPU are that many.
    pub possible_cpus: u32,
    /// Its processor.
    pub arch: Arch,
    /// Functions that can be attached to.
    pub functions: &'a dyn Functions,
    /// Whether probes count while a command runs, whose tasks `traced` tells from all others; without one it is always true.
    pub command: bool,
}

/// What a compiler asks about functions of a kernel and of programs on it. The answers are looked up when they are
/// asked for, because they cost something and most probes need none.
pub trait Functions {
    /// Whether `fentry` and `fexit` programs are taken.
    fn traced(&self) -> Result<(), Missing>;
    /// Whether kprobes are taken.
    fn probing(&self) -> Result<(), Missing>;
    /// The functions of the kernel that a name or pattern means and a kprobe can be set on.
    fn probed(&self, wanted: &Wanted<'_>) -> Result<Sites, Missing>;
    /// The functions of a program or library that a name or pattern means.
    fn user(&self, root: &Root, binary: &str, wanted: &Wanted<'_>) -> Result<UserFunctions, Missing>;
    /// A probe that a program or library brings along.
    fn usdt(
        &self,
        root: &Root,
        binary: &str,
        provider: Option<&str>,
        name: &str,
    ) -> Result<crate::usdt::Found, Missing>;
    /// The mount namespace that processes must be in; `None` for any.
    fn namespace(&self, root: &Root) -> Result<Option<u32>, Missing>;
}

impl fmt::Debug for Target<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target").field("kernel", &self.kernel).finish_non_exhaustive()
    }
}

/// An argument as `args.NAME` finds it.
#[derive(Clone, Debug)]
pub struct Argument {
    /// Its name; `arg0` and so on also find it by number.
    pub name: String,
    /// Its type as C writes it, for lists and messages.
    pub ctype: String,
    /// How it is read; `Err` says why it cannot be.
    pub value: Result<ArgumentValue, String>,
}

/// What an argument is.
#[derive(Clone, Debug)]
pub enum ArgumentValue {
    /// A number, pointer or text.
    Value(Typed),
    /// An array inside the context.
    Array {
        /// Offset of the first element.
        offset: u32,
        /// Size of an element.
        element_size: u32,
        /// Type of an element.
        element: Type,
        /// Number of elements.
        count: u32,
    },
}

/// An attach point that this kernel has.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// How a program gets there.
    pub mechanism: Mechanism,
    /// Its arguments.
    pub arguments: Vec<Argument>,
    /// `retval`: the function's result; `None` where there is none, `Err` says why it cannot be read.
    pub result: Option<Result<Typed, String>>,
    /// Whether it is the return of a function.
    pub is_return: bool,
    /// `frame`: what tells a call of a function from others, the same at its entry and its return.
    pub frame: Option<Typed>,
    /// Whether only the numbers of arguments are known, not how many there are.
    pub untyped: bool,
    /// Arguments that some of several functions have, and why they are none of all: name, reason.
    pub unshared: Vec<(String, String)>,
    /// The functions; empty for events that are none's.
    pub sites: Sites,
    /// Places that pass the probe of a program.
    pub usdt: Option<crate::usdt::Sites>,
    /// Names and numbers of all functions of the event, also those of its other programs; given when it is checked.
    pub named: Vec<(String, u32)>,
    /// The goroutine whose call it is, which is a part of the key wherever `frame` is.
    pub goroutine: Option<Typed>,
}

impl Resolved {
    /// `func`: the number of the function, of those of the probe; `None` where there is none.
    pub fn function(&self) -> Option<Typed> {
        let number = match self.sites.list.as_slice() {
            [] => return None,
            [site] => Some(site.number),
            _ => None,
        };
        Some(Typed::new(Node::Function(number), Type::U64))
    }

    /// An event that is no function's.
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
            goroutine: None,
        }
    }
}

/// Why an attach point cannot be used: a sentence and what to do.
#[derive(Clone, Debug)]
pub struct Missing {
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

/// How an attach point is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// Whether it is one end of a whole call, so that only functions of which both can be seen will do.
    pub whole: bool,
    /// Most functions of a pattern.
    pub most: u32,
    /// Whether stacks of programs are taken there.
    pub stacks: bool,
}

/// Finds an attach point and its arguments on a kernel: one program for each result.
pub fn resolve(at: &AttachPoint, request: Request, target: &Target<'_>) -> Result<Vec<Resolved>, Missing> {
    let wanted = |function, at_return| {
        let Request { whole, most, stacks } = request;
        Wanted { function, at_return, whole, most, stacks }
    };
    let one = match at {
        AttachPoint::Tracepoint { category, name } => tracepoint::resolve(category, name, target),
        AttachPoint::RawTracepoint { category, name } => {
            rawtracepoint::resolve(category.as_deref(), name, target)
        }
        AttachPoint::Function { mechanism, function } => match mechanism {
            FunctionMechanism::Fentry => function::traced(&wanted(function, false), target),
            FunctionMechanism::Fexit => function::traced(&wanted(function, true), target),
            FunctionMechanism::Kprobe => function::probed(&wanted(function, false), target),
            FunctionMechanism::Kretprobe => function::probed(&wanted(function, true), target),
        },
        AttachPoint::Perf(event) => perf::resolve(event, target),
        AttachPoint::User { root, binary, function, at_return } => {
            return user::resolve(root, binary, &wanted(function, *at_return), target);
        }
        AttachPoint::Usdt { root, binary, provider, name } => {
            let found = target.functions.usdt(root, binary, provider.as_deref(), name)?;
            return usdt::resolve(&found, target);
        }
    };
    one.map(|resolved| vec![resolved])
}

/// The same attach point through a mechanism that does not let the verifier check types, for arguments
/// that it does not let through.
pub fn resolve_untracked(at: &AttachPoint, target: &Target<'_>) -> Option<Resolved> {
    match at {
        AttachPoint::RawTracepoint { category, name } => {
            rawtracepoint::resolve_untracked(category.as_deref(), name, target)
        }
        AttachPoint::Tracepoint { .. }
        | AttachPoint::Function { .. }
        | AttachPoint::User { .. }
        | AttachPoint::Usdt { .. }
        | AttachPoint::Perf(_) => None,
    }
}

/// The message for a tracepoint that this kernel does not have, or does not show.
fn no_tracepoint(kind: &str, category: Option<&str>, name: &str, target: &Target<'_>) -> Missing {
    if let Some(missing) = category.and_then(|category| target.tracepoints.unreadable(category, name)) {
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
