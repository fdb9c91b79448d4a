//! Versions of the kernel, and ranges of them for which a probe is.

use std::fmt;

/// A kernel version, the first two or three numbers of `uname -r`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct KernelVersion(pub u16, pub u16, pub u16);

impl KernelVersion {
    /// Parses `6.1`, `5.10.3` or a release such as `6.18.44-fc`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.trim().splitn(3, '.');
        let mut number = |required: bool| {
            let part = parts.next();
            let digits: String = part.unwrap_or("").chars().take_while(char::is_ascii_digit).collect();
            if digits.is_empty() && !required { Some(0) } else { digits.parse().ok() }
        };
        Some(Self(number(true)?, number(true)?, number(false)?))
    }
}

impl fmt::Display for KernelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(major, minor, patch) = self;
        write!(f, "{major}.{minor}")?;
        if *patch > 0 { write!(f, ".{patch}") } else { Ok(()) }
    }
}

/// A range: `>=5.18`, `<6.1`, or several comparisons joined by commas, all of which must be true.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelRange {
    /// Comparisons as written.
    pub text: String,
    least: Option<KernelVersion>,
    below: Option<KernelVersion>,
}

impl KernelRange {
    /// Parses a range; `None` if the text is not one.
    pub fn parse(text: &str) -> Option<Self> {
        let mut range = Self { text: text.to_owned(), ..Self::default() };
        for part in text.split(',') {
            let part = part.trim();
            if let Some(version) = part.strip_prefix(">=") {
                range.least = range.least.max(Some(KernelVersion::parse(version)?));
            } else {
                let version = KernelVersion::parse(part.strip_prefix('<')?)?;
                range.below = Some(range.below.map_or(version, |below| below.min(version)));
            }
        }
        Some(range)
    }

    /// Whether the range is empty.
    pub fn is_empty(&self) -> bool {
        self.least.zip(self.below).is_some_and(|(least, below)| least >= below)
    }

    /// Whether a kernel is in the range.
    pub fn contains(&self, version: KernelVersion) -> bool {
        self.least.is_none_or(|least| version >= least) && self.below.is_none_or(|below| version < below)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_ranges() {
        let version = |text| KernelVersion::parse(text).unwrap();
        for (range, kernel, inside) in [
            (">=5.18", "5.18.0-1-amd64", true),
            (">=5.18", "5.17.99", false),
            ("<6.1", "6.0.12", true),
            ("<6.1", "6.1.0", false),
            (">=5.10, <6.2", "6.1.44", true),
            (">=6.18", "6.18.44-fc-v669", true),
            (">=6.9", "6.10", true),
            (">=5.10, >=6.2", "6.1.0", false),
            ("<6.2, <5.10", "6.1.0", false),
        ] {
            assert_eq!(
                KernelRange::parse(range).unwrap().contains(version(kernel)),
                inside,
                "{range} {kernel}"
            );
        }
        assert!(KernelRange::parse(">=6.2, <6.1").unwrap().is_empty());
        assert!(!KernelRange::parse(">=6.1, <6.2").unwrap().is_empty());
        for text in ["", "5.18", ">5", "=6.1", ">=x"] {
            assert!(KernelRange::parse(text).is_none(), "{text}");
        }
    }
}
