//! Random ways through the real kernel's types, as expressions.

use crate::support::random::Random;
use tapster_ebpf::{
    attach::{ArgumentValue, Resolved},
    btf::{Btf, BtfKind, TypeId},
    typed::Type,
};

/// Most members on one way.
const DEPTH: usize = 4;

/// What a way leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Number,
    Text,
    /// A pointer to a struct or union.
    Struct(TypeId),
    /// A pointer to bytes.
    String,
}

/// An expression and what it is.
#[derive(Clone, Debug)]
pub(crate) struct Way {
    pub(crate) text: String,
    pub(crate) end: End,
}

/// Ways from one event's arguments.
#[derive(Debug)]
pub(crate) struct Walker<'a> {
    pub(crate) btf: &'a Btf,
    /// Where ways begin: the arguments and the current task.
    pub(crate) roots: Vec<Way>,
}

fn behind(btf: &Btf, text: String, to: TypeId) -> Way {
    let end = match btf.kind(to) {
        BtfKind::Struct | BtfKind::Union => End::Struct(to),
        BtfKind::Int if btf.size(to) == Some(1) => End::String,
        _ => End::Number,
    };
    Way { text, end }
}

impl<'a> Walker<'a> {
    pub(crate) fn new(btf: &'a Btf, resolved: &Resolved) -> Self {
        let mut roots = Vec::new();
        for (index, argument) in resolved.arguments.iter().enumerate() {
            let text = if index % 3 == 2 { format!("arg{index}") } else { format!("args.{}", argument.name) };
            match &argument.value {
                Ok(ArgumentValue::Value(typed)) => roots.push(match typed.ty {
                    Type::Int { .. } | Type::Stack { .. } => Way { text, end: End::Number },
                    Type::Text { .. } => Way { text, end: End::Text },
                    Type::Bytes { .. } => unreachable!("no argument is bytes by itself"),
                    Type::Pointer { to, .. } => behind(btf, text, to),
                }),
                Ok(ArgumentValue::Array { count, .. }) if *count > 0 => {
                    roots.push(Way { text: format!("{text}[{}]", count - 1), end: End::Number });
                }
                _ => {}
            }
        }
        let way = |text: &str, end| Way { text: text.into(), end };
        roots.extend(["argv(curtask, 40)", "argv(curtask.stack, 24)"].map(|text| way(text, End::Text)));
        roots.push(way("*(u64 *)kaddr(jiffies)", End::Number));
        if let Some(queue) = btf.variable("runqueues") {
            let queues = ["percpu(runqueues)", "percpu(runqueues, 0)", "percpu(runqueues, tid & 3)"];
            roots.extend(queues.map(|text| way(text, End::Struct(queue.type_id))));
        }
        if let Some(task) = btf.find("task_struct", BtfKind::Struct) {
            roots.push(Way { text: "curtask".into(), end: End::Struct(task) });
        }
        Self { btf, roots }
    }

    /// A root, or a way from one.
    pub(crate) fn way(&self, random: &mut Random) -> Way {
        let mut way = self.roots[random.below(self.roots.len())].clone();
        let depth = random.below(DEPTH + 1);
        for _ in 0..depth {
            let End::Struct(id) = way.end else { break };
            if random.one_in(8) {
                // The same struct by a cast: the verifier loses track, the helper reads.
                let name = self.btf.name(id);
                if !name.is_empty() && self.btf.kind(id) == BtfKind::Struct {
                    way.text = format!("((struct {name} *){})", way.text);
                }
            }
            let Some(next) = self.member(random, &way.text, id, 0) else { break };
            way = next;
        }
        way
    }

    /// A member that is a value; nested structs and arrays are entered.
    fn member(&self, random: &mut Random, base: &str, id: TypeId, nested: usize) -> Option<Way> {
        let members: Vec<_> = self.btf.members(id).collect();
        if members.is_empty() || nested > 6 {
            return None;
        }
        let member = &members[random.below(members.len())];
        if member.name.is_empty() {
            let inner = self.btf.strip(member.type_id);
            return self
                .btf
                .kind(inner)
                .is_composite()
                .then(|| self.member(random, base, inner, nested + 1))
                .flatten();
        }
        self.value(random, format!("{base}.{}", member.name), member.type_id, nested)
    }

    fn value(&self, random: &mut Random, text: String, id: TypeId, nested: usize) -> Option<Way> {
        let btf = self.btf;
        let id = btf.strip(id);
        match btf.kind(id) {
            BtfKind::Int | BtfKind::Enum | BtfKind::Enum64 => Some(Way { text, end: End::Number }),
            BtfKind::Ptr => {
                let to = btf.strip(btf.target(id));
                if btf.kind(to) == BtfKind::Int && random.one_in(2) {
                    return Some(Way { text: format!("(*{text})"), end: End::Number });
                }
                Some(behind(btf, text, to))
            }
            BtfKind::Struct | BtfKind::Union => self.member(random, &text, id, nested + 1),
            BtfKind::Array => {
                let (element, count) = btf.array(id);
                if btf.size(btf.strip(element)) == Some(1) && random.one_in(2) {
                    // Of bytes that somebody must say that they are a text.
                    let is_text = btf.name(btf.strip(element)) == "char";
                    let text = if is_text { text } else { format!("str({text})") };
                    return Some(Way { text, end: End::Text });
                }
                let index = random.below(usize::try_from(count.clamp(1, 1000)).unwrap_or(1));
                let index = match random.below(3) {
                    0 => format!("cpu % {}", index + 1),
                    1 => format!("(u8)tid & {index}"),
                    _ => index.to_string(),
                };
                self.value(random, format!("{text}[{index}]"), element, nested + 1)
            }
            _ => None,
        }
    }

    /// A pointer to a struct that points to its own kind: the pointer and that member.
    pub(crate) fn list(&self, random: &mut Random) -> Option<(Way, String)> {
        for _ in 0..40 {
            let way = self.way(random);
            let End::Struct(id) = way.end else { continue };
            let own: Vec<String> = self
                .btf
                .members(id)
                .filter(|member| {
                    let pointer = self.btf.strip(member.type_id);
                    !member.name.is_empty()
                        && self.btf.kind(pointer) == BtfKind::Ptr
                        && self.btf.strip(self.btf.target(pointer)) == id
                })
                .map(|member| member.name.to_owned())
                .collect();
            if !own.is_empty() {
                return Some((way, own[random.below(own.len())].clone()));
            }
        }
        None
    }
}
