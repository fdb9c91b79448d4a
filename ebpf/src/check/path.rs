//! `path`: where a file is, of a `struct file`, `struct path` or `struct dentry`.

use super::{
    cgroup::filled,
    expression::number,
    scope::{Operand, Problems, Scope},
};
use crate::{
    btf::{Btf, BtfKind},
    expr::{self, Expr},
    probe::Expression,
    typed::{DentryOffsets, MOST_PATH, PathRead, Type, Typed, TypedKind},
};

/// Fewest bytes: what is cut says so, and some of the path should be left.
const FEWEST: u32 = 16;
/// Bytes unless a size is given.
const DEFAULT: u32 = 128;
const HINT: &str = "path(args.file), path(args.file.f_path.dentry), path(args.file, 64)";

impl Scope<'_> {
    /// `path(FILE)`, `path(FILE, SIZE)`
    pub(super) fn path(
        &self,
        expression: &Expression,
        call: &Expr,
        arguments: &[Expr],
    ) -> Result<Typed, Problems> {
        let wrong =
            |at: &Expr, message: &str| self.problem(expression, at.span.clone(), message, Some(HINT.into()));
        let (file, size) = match arguments {
            [file] => (file, None),
            [file, size] => (file, Some(size)),
            _ => return Err(wrong(call, "`path` takes a file, and optionally a size")),
        };
        let limit = size.map_or(Ok(DEFAULT), |size| {
            let constant = match self.value(expression, size)?.kind {
                TypedKind::Constant(value) => u32::try_from(value).ok(),
                _ => None,
            };
            let message = format!("the size of a path must be a constant from {FEWEST} to {MOST_PATH}");
            constant.filter(|size| (FEWEST..=MOST_PATH).contains(size)).ok_or_else(|| wrong(size, &message))
        })?;
        let btf = self.btf(expression, call.span.clone())?;
        let of = match self.operand(expression, file)? {
            Operand::Lvalue(place) if btf.kind(btf.strip(place.type_id)).is_composite() => {
                btf.strip(place.type_id)
            }
            _ => match self.value(expression, file)?.ty {
                Type::Pointer { to, .. } => to,
                _ => 0,
            },
        };
        let (dentry, root) = match btf.name(of) {
            "file" => ("task.f_path.dentry", Some("task.f_path.mnt.mnt_root")),
            "path" => ("task.dentry", Some("task.mnt.mnt_root")),
            "dentry" => ("task", None),
            _ => {
                let message = "`path` takes a `struct file *`, a `struct path` or a `struct dentry *`";
                return Err(wrong(file, message));
            }
        };
        if self.item.is_some() {
            let message = "`path` is a walk of its own, and cannot be used in a probe with `each`";
            return Err(self.problem(expression, call.span.clone(), message, None));
        }
        let Some(offsets) = offsets(btf) else {
            let message = "this kernel's types do not tell the name of a `struct dentry`";
            return Err(self.missing(expression, call.span.clone(), message, None));
        };
        let part = |text: &str| {
            let parsed = expr::parse(text).map_err(|error| wrong(call, &error.message))?;
            self.value(expression, &filled(parsed, file, &call.span)).map(number)
        };
        let dentry = part(dentry)?;
        let root = root.map(part).transpose()?;
        let read = PathRead { dentry, root, offsets, limit };
        Ok(Typed::new(TypedKind::Path(Box::new(read)), Type::text(limit)))
    }
}

/// Where a kernel has the names of a path.
fn offsets(btf: &Btf) -> Option<DentryOffsets> {
    let [dentry, name] = ["dentry", "qstr"].map(|name| btf.find(name, BtfKind::Struct));
    let (dentry, name) = (dentry?, name?);
    let bytes = |of, name| btf.member(of, name).map(|found| found.bit_offset / 8);
    let start = bytes(dentry, "d_name")?;
    Some(DentryOffsets {
        parent: bytes(dentry, "d_parent")?,
        name: start + bytes(name, "name")?,
        length: start + bytes(name, "len")?,
    })
}
