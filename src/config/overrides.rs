//! What `overrides:` and `--override` change of shipped probes.
//!
//! Key by key, the strongest value holds: a probe's own name goes before its group's, and a flag before a file, whatever name either
//! has.

use super::{Config, Part, ProbeSelection, SHIPPED, group, is_called, known};
use std::collections::{BTreeMap, HashSet};
use tapster_ebpf::{
    declaration,
    diagnostic::{Diagnostic, SourceFile, nearest},
    probe::{Effect, Effects, Override, Probe, SourcePlace, Values, without_effect},
};

/// The name of the flag, in messages.
const FLAG: &str = "--override";

/// What was changed.
#[derive(Debug, Default)]
pub(super) struct Adjusted {
    /// What was said.
    overrides: Vec<Override>,
    /// Names of probes that are off because of it.
    off: HashSet<String>,
    /// Whether the command line has some of the probes, not those that the configuration has.
    is_part: bool,
}

/// The text of a flag as entries of `overrides:`: `block.devices.exclude=loop*` is `block: {devices: {exclude: loop*}}`.
fn written_out(flag: &str) -> String {
    let is_name =
        |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let Some((path, value)) = flag.split_once('=') else { return flag.to_owned() };
    let names: Vec<&str> = path.split('.').collect();
    if names.len() < 2 || !names.iter().all(|name| is_name(name)) {
        return flag.to_owned();
    }
    let [first, rest @ ..] = names.as_slice() else { return flag.to_owned() };
    let opened = rest.join(": {");
    format!("{first}: {{{opened}: {value}{}", "}".repeat(rest.len()))
}

/// The overrides of files, then of flags. Of two flags the later one goes before the other; files have no order, so two must not
/// say the same.
fn read(
    parts: &[Part],
    selection: &ProbeSelection,
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<(usize, Override)> {
    let mut all: Vec<(usize, Override)> = Vec::new();
    let mut said: BTreeMap<(String, &str), String> = BTreeMap::new();
    for part in parts {
        let Part::File(_, file) = part else { continue };
        for one in &file.overrides {
            for (key, place) in one.values.keys() {
                let place = place.span();
                match said.insert((one.name.value.clone(), key), one.file.name.clone()) {
                    Some(other) if other != one.file.name => {
                        let message = format!(
                            "`{key}` of `{}` is given twice: `{other}` has it as well",
                            one.name.value
                        );
                        diagnostics
                            .push(Diagnostic::error(&one.file, place, message).hint("give it in one file"));
                    }
                    _ => {}
                }
            }
            all.push((0, one.clone()));
        }
    }
    for (flag, layer) in selection.overrides.iter().zip(1..) {
        // Each flag is a file of its own, and places are told apart by the name.
        let name = if selection.overrides.len() == 1 { FLAG.to_owned() } else { format!("{FLAG} {layer}") };
        let (overrides, wrong) = declaration::parse_overrides(&SourceFile::new(name, written_out(flag)));
        diagnostics.extend(wrong);
        all.extend(overrides.into_iter().map(|one| (layer, one)));
    }
    all
}

/// Changes the library as files and flags say.
pub(super) fn adjust(
    library: &mut [Probe],
    parts: &[Part],
    selection: &ProbeSelection,
    diagnostics: &mut Vec<Diagnostic>,
) -> Adjusted {
    let mut all = read(parts, selection, diagnostics);
    if all.is_empty() {
        return Adjusted::default();
    }
    // Weaker ones first; within a layer groups before probes.
    let is_group = |name: &str| !library.iter().any(|probe| probe.name.value == name);
    all.sort_by_key(|(layer, one)| (*layer, !is_group(&one.name.value)));
    let own: Vec<&str> = parts
        .iter()
        .flat_map(|part| match part {
            Part::Shipped(_) => &[][..],
            Part::File(_, file) => file.probes.as_slice(),
        })
        .map(|probe| probe.name.value.as_str())
        .collect();
    all.retain(|(_, one)| {
        let name = one.name.value.as_str();
        if library.iter().any(|probe| is_called(probe, name)) {
            return true;
        }
        let (message, hint) = if own.contains(&name) {
            let message = format!("`{name}` is no shipped probe, and only these are changed here");
            (message, "change it where it is declared".to_owned())
        } else {
            let near = nearest(name, known(library));
            let hint = near.map_or("`tapster list --library` shows them".into(), |near| {
                format!("did you mean `{near}`?")
            });
            (format!("the library has no probe `{name}`"), hint)
        };
        diagnostics.push(Diagnostic::error(&one.file, one.name.span.clone(), message).hint(hint));
        false
    });
    let overrides: Vec<Override> = all.into_iter().map(|(_, one)| one).collect();
    let mut effects = Effects::default();
    let mut off = HashSet::new();
    // As shipped, for messages.
    let before = library.to_vec();
    for probe in library.iter_mut() {
        let about: Vec<&Override> =
            overrides.iter().filter(|one| is_called(probe, &one.name.value)).collect();
        let values = about.iter().fold(Values::default(), |values, one| values.under(&one.values));
        let strongest: HashSet<SourcePlace> = values.keys().into_iter().map(|(_, place)| place).collect();
        for (_, place) in about.iter().flat_map(|one| one.values.keys()) {
            if !strongest.contains(&place) {
                effects.note(place, Effect::Overruled);
            }
        }
        if values.enabled.as_ref().is_some_and(|enabled| !enabled.value) {
            off.insert(probe.name.value.clone());
        }
        probe.adjust(&values, &mut effects);
    }
    let about = |one: &Override| before.iter().filter(|probe| is_called(probe, &one.name.value)).collect();
    let told: Vec<(&Override, Vec<&Probe>)> = overrides.iter().map(|one| (one, about(one))).collect();
    without_effect(&told, &mut effects);
    diagnostics.append(&mut effects.diagnostics);
    let is_part = !selection.probes.is_empty() || parts.iter().any(|part| matches!(part, Part::Shipped(_)));
    Adjusted { overrides, off, is_part }
}

impl Config {
    /// Leaves out shipped probes that are off, unless the command line has their own name.
    pub(super) fn turn_off(&mut self, adjusted: &Adjusted, selection: &ProbeSelection) {
        let is_named = |probe: &Probe| {
            selection.words.iter().chain(&selection.probes).any(|word| *word == probe.name.value)
        };
        let is_off = |probe: &Probe| {
            group(probe).is_some() && adjusted.off.contains(&probe.name.value) && !is_named(probe)
        };
        let (off, on): (Vec<_>, Vec<_>) = std::mem::take(&mut self.probes).into_iter().partition(is_off);
        self.probes = on;
        for probe in off {
            // Variants are one probe.
            if self.off.iter().all(|known| known.name.value != probe.name.value) {
                self.off.push(probe);
            }
        }
    }
}

impl Adjusted {
    /// Warns of overrides of probes that do not run, unless that is what was asked for.
    pub(super) fn without_probe(&self, config: &Config) -> Vec<Diagnostic> {
        if self.is_part {
            return Vec::new();
        }
        let runs = |name: &str| {
            let mut probes = config.probes.iter().chain(&config.off);
            probes.any(|probe| probe.file.name.starts_with(SHIPPED) && is_called(probe, name))
        };
        let silent = self.overrides.iter().filter(|one| !runs(&one.name.value) && !one.values.is_off());
        silent
            .map(|one| {
                let name = &one.name.value;
                let message = format!("`{name}` does not run, so this changes nothing");
                let hint =
                    format!("add it: library: [{name}], or `library: true` for all that are on by default");
                Diagnostic::warning(&one.file, one.name.span.clone(), message).hint(hint)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_written_out() {
        for (flag, text) in [
            ("block.schema=2", "block: {schema: 2}"),
            ("block_io.devices.exclude=[loop*, ram*]", "block_io: {devices: {exclude: [loop*, ram*]}}"),
            ("block.bounds=[2^-10, 1]", "block: {bounds: [2^-10, 1]}"),
            ("block: {schema: 2}", "block: {schema: 2}"),
            ("block=2", "block=2"),
            ("block. x=2", "block. x=2"),
        ] {
            assert_eq!(written_out(flag), text);
        }
    }
}
