//! Decoders with names of the kernel, whose numbers are this kernel's.

use super::Checker;
use crate::{
    btf::{BtfKind, TypeId},
    diagnostic::{Spanned, nearest},
    probe::Decoder,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

impl Checker<'_> {
    /// A decoder whose enumerators are replaced by their numbers on this kernel. `own` are the enumerations that the label's value is
    /// declared as, one for each event.
    pub(super) fn known(&mut self, decoder: &Spanned<Decoder>, own: &BTreeSet<Option<TypeId>>) -> Decoder {
        let span = decoder.span.clone();
        match &decoder.value {
            Decoder::Table { rows, named, default } => Decoder::Table {
                rows: self.numbered(rows, named),
                named: Vec::new(),
                default: default.clone(),
            },
            Decoder::Enumeration { name, strip, default } => {
                let id = match name {
                    Some(name) => self.enumeration(&span, name),
                    None => self.own(&span, own),
                };
                let rows = id.map(|id| self.names(id, strip.as_ref())).unwrap_or_default();
                Decoder::Table { rows, named: Vec::new(), default: default.clone() }
            }
            Decoder::Flags { rows, named, of } => {
                let mut rows = self.numbered(rows, named);
                if let Some((name, strip)) = of
                    && let Some(id) = self.enumeration(&span, name)
                {
                    rows = self.names(id, strip.as_ref());
                }
                Decoder::Flags { rows, named: Vec::new(), of: None }
            }
            decoder => decoder.clone(),
        }
    }

    /// Rows of a table and those of its enumerators; one that this kernel does not have is left out.
    fn numbered(&self, rows: &BTreeMap<i64, String>, named: &[(String, String)]) -> BTreeMap<i64, String> {
        let mut rows = rows.clone();
        for (name, text) in named {
            if let Some(number) = self.target.btf.and_then(|btf| btf.enumerator(name)) {
                rows.insert(number, text.clone());
            }
        }
        rows
    }

    /// The enumeration that the value has at every event.
    fn own(&mut self, span: &Range<usize>, own: &BTreeSet<Option<TypeId>>) -> Option<TypeId> {
        let mut each = own.iter();
        match (each.next(), each.next()) {
            (Some(Some(id)), None) => return Some(*id),
            (_, None) => self.error(
                span.clone(),
                "the value's type is no enumeration",
                "name one: {enum: NAME}, or an enumerator of one that has no name",
            ),
            (_, Some(_)) => self.error(
                span.clone(),
                "the value is not of one enumeration at every event",
                "name one: {enum: NAME}",
            ),
        }
        None
    }

    /// An enumeration by its name, or by that of one of its enumerators.
    fn enumeration(&mut self, span: &Range<usize>, name: &str) -> Option<TypeId> {
        let Some(btf) = self.target.btf else {
            let hint =
                "its configuration lacks CONFIG_DEBUG_INFO_BTF; a table has the numbers itself: {0: read}";
            self.error(span.clone(), "names cannot be looked up: this kernel has no BTF", hint);
            return None;
        };
        let found = btf.enumeration(name.trim_start_matches("enum ")).or_else(|| btf.enumeration_of(name));
        if found.is_none() {
            let near = nearest(name, btf.names(BtfKind::Enum));
            let hint = near.map_or_else(
                || "a table has the numbers itself: {0: read, 1: write}".to_owned(),
                |near| format!("did you mean `{near}`?"),
            );
            self.error(span.clone(), format!("this kernel has no enumeration `{name}`"), hint);
        }
        found
    }

    /// Number → name, without the prefix. Where two names have one number, the first is meant.
    fn names(&mut self, id: TypeId, strip: Option<&Spanned<String>>) -> BTreeMap<i64, String> {
        let Some(btf) = self.target.btf else { return BTreeMap::new() };
        let prefix = strip.map_or("", |strip| strip.value.as_str());
        let mut rows = BTreeMap::new();
        let mut stripped = false;
        for (name, number) in btf.enumerators(id) {
            let text = name.strip_prefix(prefix).filter(|rest| !rest.is_empty());
            stripped |= text.is_some();
            rows.entry(number).or_insert_with(|| text.unwrap_or(name).to_owned());
        }
        if let (Some(strip), false) = (strip, stripped) {
            let message = format!("no name of the enumeration begins with `{prefix}`");
            let hint = btf.enumerators(id).first().map_or_else(
                || "leave `strip` out".to_owned(),
                |(name, _)| format!("its first name is `{name}`"),
            );
            self.error(strip.span.clone(), message, hint);
        }
        rows
    }
}
