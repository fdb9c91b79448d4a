//! What each family took of the last scrape, for the landing page.

use crate::{
    exposition::{Format, ScrapeSize},
    lock::lock,
    source::Selection,
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

/// What each family took of the last scrape, by its name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ScrapeSizes {
    /// The format of the scrape; `None` before the first one.
    pub(super) format: Option<Format>,
    families: HashMap<Arc<str>, ScrapeSize>,
}

impl ScrapeSizes {
    pub(super) fn of(format: Format) -> Self {
        Self { format: Some(format), families: HashMap::new() }
    }

    pub(super) fn add(&mut self, family: Arc<str>, size: ScrapeSize) {
        *self.families.entry(family).or_default() += size;
    }

    /// What families of these names took together.
    pub(super) fn together<'n>(&self, names: impl IntoIterator<Item = &'n String>) -> ScrapeSize {
        let mut sum = ScrapeSize::default();
        names.into_iter().filter_map(|name| self.families.get(name.as_str())).for_each(|size| sum += *size);
        sum
    }

    /// What all families took.
    pub(super) fn all(&self) -> ScrapeSize {
        let mut sum = ScrapeSize::default();
        self.families.values().for_each(|size| sum += *size);
        sum
    }
}

/// The sizes of the last scrape.
#[derive(Debug, Default)]
pub(super) struct LastSizes(Mutex<ScrapeSizes>);

impl LastSizes {
    pub(super) fn get(&self) -> ScrapeSizes {
        lock(&self.0).clone()
    }

    /// Notes a scrape of these probes. Of a part of them, only the sizes of that part are others than before.
    pub(super) fn note(&self, sizes: ScrapeSizes, selection: &Selection) {
        let mut known = lock(&self.0);
        if *selection == Selection::All || known.format != sizes.format {
            *known = sizes;
        } else {
            known.families.extend(sizes.families);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_scrape_leaves_the_rest() {
        let size = |series| ScrapeSize { series, bytes: 10 * series };
        let of = |format, families: &[(&str, u64)]| {
            let mut sizes = ScrapeSizes::of(format);
            for (name, series) in families {
                sizes.add((*name).into(), size(*series));
            }
            sizes
        };
        let last = LastSizes::default();
        assert_eq!(last.get().all(), ScrapeSize::default());
        last.note(of(Format::Text, &[("a", 1), ("b", 20)]), &Selection::All);
        last.note(of(Format::Text, &[("a", 3)]), &Selection::Only(vec!["x".into()]));
        assert_eq!(last.get().all(), size(23));
        assert_eq!(last.get().together(&["a".to_owned(), "c".to_owned()]), size(3));
        last.note(of(Format::Protobuf, &[("a", 3)]), &Selection::Only(vec!["x".into()]));
        assert_eq!(last.get().all(), size(3), "sizes of two formats are not added");
        last.note(of(Format::Text, &[("b", 1)]), &Selection::All);
        assert_eq!(last.get().all(), size(1));
    }
}
