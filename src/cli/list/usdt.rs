//! `tapster list usdt:BINARY…`: the USDT probes of a program or library.

use super::{functions::Listing, wanted::NameFilter};
use crate::elf::{self, Binary};
use std::{fmt::Write, path::Path};
use tapster_ebpf::{attach, attach::Missing, point::Subject, probe::Root, usdt::UsdtProbe};

/// The binary and the pattern of names in a request for USDT probes.
pub(super) fn wanted(pattern: &str) -> Option<(&str, &str)> {
    let (_, rest) = pattern
        .split_once(':')
        .filter(|(kind, _)| attach::kind(kind).is_some_and(|kind| kind.subject == Subject::UserProbe))?;
    let (binary, wanted) = rest.split_once(':').unwrap_or((rest, "*"));
    // Without a binary, the request is about the kernel's own events.
    (!binary.is_empty() && !binary.contains('*')).then_some((binary, wanted))
}

pub(super) fn list(proc: &Path, root: &Root, binary: &str, wanted: &str) -> Result<Listing, Missing> {
    let found = Binary::open(proc, root, binary).and_then(|binary| elf::usdt_probes(&binary))?;
    let mut text = String::new();
    let names = NameFilter::new(wanted);
    for probe in &found {
        let UsdtProbe { provider, name, locations, .. } = probe;
        if !names.means(&format!("{provider}:{name}")) {
            continue;
        }
        let _ = write!(text, "usdt:{binary}:{provider}:{name}");
        let _ = match locations.len() {
            1 => writeln!(text),
            count => writeln!(text, " ({count} places)"),
        };
        for (index, ctype) in arguments(probe) {
            let _ = writeln!(text, "    {ctype} arg{index}");
        }
    }
    if text.is_empty() {
        let hint = Some(format!("`tapster list usdt:{binary}` shows all that it has"));
        return Err(Missing { message: format!("no probe of `{binary}` matches `{wanted}`"), hint });
    }
    Ok(Listing { text, notes: Vec::new() })
}

/// Types by number; if places differ, all types.
fn arguments(probe: &UsdtProbe) -> Vec<(usize, String)> {
    let most = probe.locations.iter().map(|location| location.arguments.len()).max().unwrap_or(0);
    let types = |index: usize| {
        let mut types: Vec<String> = probe
            .locations
            .iter()
            .map(|location| match location.arguments.get(index) {
                Some(Ok(argument)) => argument.ctype(),
                Some(Err(_)) => "unreadable".into(),
                None => "none".into(),
            })
            .collect();
        types.sort();
        types.dedup();
        types.join("|")
    };
    (0..most).map(|index| (index, types(index))).collect()
}

#[cfg(test)]
mod tests {
    use super::wanted;

    #[test]
    fn patterns_that_name_a_binary() {
        assert_eq!(wanted("usdt:/usr/bin/python3"), Some(("/usr/bin/python3", "*")));
        assert_eq!(wanted("U:libc:*:setjmp"), Some(("libc", "*:setjmp")));
        assert_eq!(wanted("usdt:*"), None);
        assert_eq!(wanted("tracepoint:a:b"), None);
    }
}
