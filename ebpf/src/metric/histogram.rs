//! `histogram`: a distribution. A row contains the sum of the values, then the counts of the buckets.
//!
//! [`crate::histogram`] defines the buckets, `buckets` reads `buckets:`, and `row` has the instructions that find a bucket.

mod buckets;

pub(crate) use buckets::{BUCKETS, EXPONENTIAL, LINEAR};

use super::{Cell, RowKind, add_words};
use crate::{
    diagnostic::{Diagnostic, SourceFile},
    histogram::Buckets,
    insn::{R1, R7},
    key::{Form, Key},
    names::FamilyKind,
    reader::{Fields, Reader},
    row::RowWriter,
    unit::Unit,
    yaml::Node,
};
use std::sync::Arc;

/// A distribution.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram(pub Buckets);

/// A declared histogram. Its bounds become exact once the unit is known, which may follow from the value's type.
#[derive(Clone, Debug, PartialEq)]
pub struct Declared {
    /// Its `buckets:`; if not declared, the unit decides.
    pub buckets: Option<Node>,
}

impl RowKind for Histogram {
    const KEY: Key = Key::new(
        "histogram",
        Form::Name,
        "Name of a histogram: sum and buckets of `value`; also native if its buckets are exponential.",
    );
    const OPTIONS: &'static [Key] = &[Key::new(
        "buckets",
        Form::Either(&[Form::List(&Form::Number), Form::Mapping(BUCKETS)]),
        "[Bounds](#buckets) of a histogram in base units: a list, or a scheme.",
    )];
    const FAMILY: FamilyKind = FamilyKind::Histogram;
    type Declared = Declared;

    fn declare(_: &mut Reader, fields: &Fields<'_>) -> Declared {
        Declared { buckets: fields.get("buckets").cloned() }
    }

    fn typed(declared: &Declared, file: &Arc<SourceFile>, unit: Unit) -> Result<Self, Vec<Diagnostic>> {
        let buckets = match &declared.buckets {
            Some(node) => buckets::read(file, node, unit)?,
            None => buckets::by_unit(unit),
        };
        Ok(Self(buckets))
    }

    fn size(&self) -> u32 {
        8 + 8 * self.0.slots()
    }

    fn update(&self, row: &mut RowWriter<'_>, cell: Cell) {
        row.add(R7, cell.offset, R1);
        row.bucket(&self.0, cell.offset + 8, cell.signed, cell.done);
    }

    fn join(&self, words: &mut [u64], other: &[u64], _: bool) {
        add_words(words, other);
    }

    fn number(&self, _: &[u64], _: bool) -> Option<i128> {
        None
    }

    fn buckets(&self) -> Option<&Buckets> {
        Some(&self.0)
    }
}
