//! Names of probes and metrics.

use std::collections::BTreeSet;
use tapster_ebpf::declaration::OWN_NAMES;

/// Longest part of a name that comes from the script.
const LONGEST: usize = 60;
/// What names of shipped probes begin with.
const SHIPPED: [&str; 3] = ["block_", "raid_", "sched_"];
/// Words at the end of a map's name that say a unit, which the metric's name says itself.
const UNITS: [&str; 18] = [
    "us", "usec", "usecs", "ms", "msec", "msecs", "ns", "nsec", "nsecs", "s", "sec", "secs", "bytes",
    "total", "count", "sum", "bucket", "info",
];

/// The names of one file: each is given out once.
#[derive(Debug)]
pub(super) struct FileNames {
    /// The script's name, as names begin with it.
    pub(super) base: String,
    probes: BTreeSet<String>,
    families: BTreeSet<String>,
}

/// A text as a part of a name: lower case letters, digits and `_`.
pub(super) fn word(text: &str) -> String {
    let plain: String =
        text.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).collect();
    let mut parts: Vec<&str> = plain.split('_').filter(|part| !part.is_empty()).collect();
    let mut length = parts.iter().map(|part| part.len() + 1).sum::<usize>();
    while length > LONGEST && parts.len() > 1 {
        length -= parts.pop().map_or(0, |part| part.len() + 1);
    }
    parts.join("_").chars().take(LONGEST).collect()
}

impl FileNames {
    /// Names that begin with that of the file: `tools/biolatency.bt` is `biolatency`.
    pub(super) fn new(file: &str) -> Self {
        let name = file.rsplit('/').next().unwrap_or(file);
        let stem = name.split('.').next().unwrap_or(name);
        let mut base = word(stem);
        if base.is_empty() || base.starts_with(|c: char| c.is_ascii_digit()) {
            base = if base.is_empty() { "script".into() } else { format!("script_{base}") };
        }
        // Names of the exporter's own families, and of the library's, are not the script's.
        let mut reserved = OWN_NAMES.iter().chain(&SHIPPED);
        if reserved
            .any(|taken| base == *taken || taken.ends_with('_') && format!("{base}_").starts_with(taken))
        {
            base = format!("script_{base}");
        }
        Self { base, probes: BTreeSet::new(), families: BTreeSet::new() }
    }

    /// The base and these words, without units at their end.
    fn joined(&self, words: &[&str]) -> String {
        let mut parts = vec![self.base.clone()];
        for text in words.iter().map(|text| word(text)) {
            let mut pieces: Vec<&str> = text.split('_').filter(|piece| !piece.is_empty()).collect();
            while pieces.last().is_some_and(|last| UNITS.contains(last)) {
                pieces.pop();
            }
            let text = pieces.join("_");
            if !text.is_empty() && text != self.base {
                parts.push(text);
            }
        }
        parts.join("_")
    }

    /// A name for a probe.
    pub(super) fn probe(&mut self, words: &[&str]) -> String {
        let name = self.joined(words);
        let mut free = name.clone();
        let mut number = 2;
        while !self.probes.insert(free.clone()) {
            free = format!("{name}_{number}");
            number += 1;
        }
        free
    }

    /// A name for a metric with this suffix: `_seconds`, `_bytes_total`.
    pub(super) fn metric(&mut self, words: &[&str], suffix: &str) -> String {
        let name = self.joined(words);
        let mut number = 1;
        loop {
            let free =
                if number == 1 { format!("{name}{suffix}") } else { format!("{name}_{number}{suffix}") };
            // Readers derive names of one family from each other, with and without `_total`.
            let family = free.strip_suffix("_total").unwrap_or(&free).to_owned();
            let is_free = !self.families.iter().any(|known| {
                known == &family
                    || known
                        .strip_prefix(&family)
                        .or_else(|| family.strip_prefix(known.as_str()))
                        .is_some_and(|rest| {
                            matches!(rest, "_sum" | "_count" | "_bucket" | "_created" | "_info")
                        })
            });
            if is_free {
                self.families.insert(family);
                return free;
            }
            number += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_the_script_and_the_map_once() {
        let mut names = FileNames::new("/tmp/bio-Latency.bt");
        assert_eq!(names.metric(&["usecs"], "_seconds"), "bio_latency_seconds");
        assert_eq!(names.metric(&["lat_ms"], "_seconds"), "bio_latency_lat_seconds");
        assert_eq!(names.metric(&["usecs"], "_seconds"), "bio_latency_2_seconds");
        assert_eq!(names.metric(&[""], "_total"), "bio_latency_total");
        assert_eq!(names.metric(&[""], ""), "bio_latency_2");
        assert_eq!(names.probe(&["x"]), "bio_latency_x");
        assert_eq!(names.probe(&["x"]), "bio_latency_x_2");
        assert_eq!(FileNames::new("-").base, "script");
        assert_eq!(FileNames::new("probe.bt").base, "script_probe");
        assert_eq!(FileNames::new("9lives.bt").base, "script_9lives");
    }
}
