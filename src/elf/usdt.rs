//! Probes that a program or library brings along: its notes, with addresses turned into places in the file.

use super::{Binary, Bytes, debug_file, missing, open, parse};
use object::{Architecture, Object, ObjectSection, ObjectSegment, ObjectSymbol, ReadCache};
use std::collections::{HashMap, HashSet};
use tapster_ebpf::{
    attach::{Arch, Missing},
    diagnostic::near,
    usdt::{self, Argument, Found, Location, Note, Operand, Site},
};

/// Longest section of notes that is read.
const LONGEST: u64 = 16 << 20;

/// All probes of a file, by provider and name.
pub fn probes(binary: &Binary) -> Result<Vec<Found>, Missing> {
    let shown = binary.path.display().to_string();
    let file = binary.file.try_clone().map_err(|error| missing(format!("`{shown}`: {error}"), None))?;
    let bytes = ReadCache::new(file);
    let file = parse(&bytes, &shown)?;
    let arch = match file.architecture() {
        Architecture::X86_64 if file.is_64() => Arch::X86_64,
        Architecture::Aarch64 => Arch::Aarch64,
        other => {
            return Err(missing(
                format!("where `{shown}`, built for {other:?}, has arguments of its probes is not known"),
                "USDT probes are read in 64-bit programs of x86-64 and arm64".to_owned(),
            ));
        }
    };
    let Some(section) = file.section_by_name(".note.stapsdt") else {
        return Err(missing(
            format!("`{shown}` brings no USDT probes along"),
            "they are compiled in where the program's build was told so; its functions are there for uprobe"
                .to_owned(),
        ));
    };
    let damaged = |why: String| missing(format!("the notes of `{shown}` are damaged: {why}"), None);
    if section.size() > LONGEST {
        return Err(damaged(format!("they take {} bytes", section.size())));
    }
    let data = section.data().map_err(|error| damaged(error.to_string()))?;
    let notes = usdt::notes(data).map_err(|error| damaged(error.to_string()))?;
    let base = file.section_by_name(".stapsdt.base").map(|section| section.address());
    let mut symbols = Symbols { file: &file, found: None };
    let mut probes: Vec<Found> = Vec::new();
    let mut seen = HashSet::new();
    let mut index: HashMap<(String, String), usize> = HashMap::new();
    for note in notes {
        let location = location(&file, &note, base, arch, &mut symbols).map_err(damaged)?;
        let at = *index.entry((note.provider.clone(), note.name.clone())).or_insert_with(|| {
            probes.push(Found {
                provider: note.provider.clone(),
                name: note.name.clone(),
                file: binary.id,
                locations: Vec::new(),
            });
            probes.len() - 1
        });
        // Two notes about one instruction would be two events for each pass.
        if seen.insert((at, location.site.offset)) {
            probes[at].locations.push(location);
        }
    }
    probes.sort_by(|a, b| (&a.provider, &a.name).cmp(&(&b.provider, &b.name)));
    Ok(probes)
}

/// One probe of a file.
pub fn probe(binary: &Binary, word: &str, provider: Option<&str>, name: &str) -> Result<Found, Missing> {
    let all = probes(binary)?;
    let shown = binary.path.display();
    let did_you_mean = |near: Vec<String>| {
        if near.is_empty() {
            Some(format!("`tapster list 'usdt:{word}:*'` shows what it has"))
        } else {
            let near: Vec<String> = near.iter().map(|near| format!("`usdt:{word}:{near}`")).collect();
            Some(format!("did you mean {}?", near.join(" or ")))
        }
    };
    if let Some(provider) = provider
        && all.iter().all(|found| found.provider != provider)
    {
        let providers: HashSet<&str> = all.iter().map(|found| found.provider.as_str()).collect();
        let mut close: Vec<String> = near(provider, providers.iter().copied(), 3)
            .into_iter()
            .map(|near| format!("{near}:{name}"))
            .collect();
        if close.is_empty() && providers.len() == 1 {
            close.extend(providers.iter().map(|only| format!("{only}:{name}")));
        }
        return Err(missing(format!("`{shown}` has no provider `{provider}`"), did_you_mean(close)));
    }
    let of_provider = |found: &&Found| provider.is_none_or(|provider| found.provider == provider);
    let mut named: Vec<&Found> = all.iter().filter(of_provider).filter(|found| found.name == name).collect();
    match (named.pop(), named.as_slice()) {
        (Some(found), []) => Ok(found.clone()),
        (Some(last), others) => {
            let full = others.iter().copied().chain([last]).map(|found| format!("{}:{name}", found.provider));
            Err(missing(
                format!("several providers of `{shown}` have a probe `{name}`"),
                did_you_mean(full.collect()),
            ))
        }
        (None, _) => {
            // In D scripts and in documentation a dash stands for what is two underscores in a program.
            let dashes = name.replace('-', "__");
            let names = all.iter().filter(of_provider).map(|found| found.name.as_str());
            let mut close = near(&dashes, names, 3);
            close.dedup();
            let full = close.iter().filter_map(|near| {
                let found = all.iter().filter(of_provider).find(|found| found.name == *near)?;
                Some(format!("{}:{near}", found.provider))
            });
            let full = full.collect();
            Err(missing(format!("`{shown}` has no probe `{name}`"), did_you_mean(full)))
        }
    }
}

type File<'b> = object::File<'b, &'b Bytes>;

/// Where a note's probe is in the file.
fn location(
    file: &File<'_>,
    note: &Note,
    base: Option<u64>,
    arch: Arch,
    symbols: &mut Symbols<'_, '_>,
) -> Result<Location, String> {
    // What moved the section that both have an address of has moved the others as far.
    let moved = base.map_or(0, |base| base.wrapping_sub(note.base));
    let address = note.address.wrapping_add(moved);
    let place = |address: u64| {
        file.segments().find_map(|segment| {
            let (offset, size) = segment.file_range();
            let distance = address.checked_sub(segment.address()).filter(|distance| *distance < size)?;
            offset.checked_add(distance)
        })
    };
    let of = format!("{}:{}", note.provider, note.name);
    let offset =
        place(address).ok_or_else(|| format!("`{of}` at {address:#x} is in no part that is loaded"))?;
    let semaphore = match note.semaphore {
        0 => 0,
        semaphore => {
            let semaphore = semaphore.wrapping_add(moved);
            place(semaphore).ok_or_else(|| {
                format!("the semaphore of `{of}` at {semaphore:#x} is in no part that is loaded")
            })?
        }
    };
    let arguments = usdt::arguments(&note.arguments, arch).into_iter().map(|argument| match argument {
        Ok(Argument { operand: Operand::Symbol { name, addend }, size, signed }) => {
            let Some(symbol) = symbols.address(&name) else {
                return Err(format!(
                    "it is at the symbol `{name}`, which the file does not tell: install its debug symbols"
                ));
            };
            let distance = symbol.wrapping_add(addend.cast_unsigned()).wrapping_sub(address).cast_signed();
            Ok(Argument { size, signed, operand: Operand::Relative { distance } })
        }
        other => other,
    });
    Ok(Location { arguments: arguments.collect(), address, site: Site { offset, semaphore } })
}

/// Addresses by name, looked up when one is asked for.
struct Symbols<'f, 'b> {
    file: &'f File<'b>,
    found: Option<HashMap<String, u64>>,
}

impl Symbols<'_, '_> {
    fn address(&mut self, name: &str) -> Option<u64> {
        let file = self.file;
        let all = self.found.get_or_insert_with(|| {
            let mut all = HashMap::new();
            collect(file, &mut all);
            let debug = file.build_id().ok().flatten().and_then(debug_file).and_then(|path| open(&path).ok());
            if let Some(bytes) = debug
                && let Ok(debug) = object::File::parse(&bytes)
            {
                collect(&debug, &mut all);
            }
            all
        });
        all.get(name).copied()
    }
}

fn collect(file: &File<'_>, all: &mut HashMap<String, u64>) {
    for symbol in file.symbols().chain(file.dynamic_symbols()) {
        if symbol.is_definition()
            && let Ok(name) = symbol.name()
        {
            all.entry(name.to_owned()).or_insert(symbol.address());
        }
    }
}
