//! USDT probes of a program or library: its notes, with addresses turned into places in the file.

use super::{
    Binary,
    budget::{Budget, Unread},
    debug_file,
    image::{self, Image},
    missing, parse, unread,
};
use std::{
    collections::{HashMap, HashSet},
    os::unix::fs::FileExt,
};
use tapster_ebpf::{
    attach::{Arch, Missing},
    diagnostic::near,
    usdt::{self, Location, Note, UsdtArgument, UsdtOperand, UsdtProbe, UsdtSite},
};

/// Longest section of notes that is read: the largest programs have some 2000 notes of 100 bytes.
const LONGEST: u64 = 4 << 20;

/// All probes of a file, by provider and name.
pub fn probes(binary: &Binary) -> Result<Vec<UsdtProbe>, Missing> {
    let shown = binary.path.display().to_string();
    let budget = Budget::new(binary.limits);
    let image = parse(&binary.file, &budget, &shown)?;
    let unread = |why: Unread| unread(&shown, &why);
    let arch = match image.machine {
        image::X86_64 if image.is_wide() => Arch::X86_64,
        image::AARCH64 if image.is_wide() => Arch::Aarch64,
        other => {
            return Err(missing(
                format!(
                    "where `{shown}`, for the processor {other} of ELF's list, has arguments of its probes is not known"
                ),
                "USDT probes are read in 64-bit programs of x86-64 and arm64".to_owned(),
            ));
        }
    };
    let Some(section) = image.section_named(".note.stapsdt").map_err(unread)? else {
        return Err(missing(
            format!("`{shown}` brings no USDT probes along"),
            "they are compiled in where the program's build was told so; its functions are there for uprobe"
                .to_owned(),
        ));
    };
    let damaged = |why: String| missing(format!("the notes of `{shown}` are damaged: {why}"), None);
    if section.size > LONGEST {
        return Err(damaged(format!("they take {} bytes, {LONGEST} are read", section.size)));
    }
    let data = image.bytes(section.offset, section.size).map_err(unread)?;
    let notes = usdt::notes(&data).map_err(|error| damaged(error.to_string()))?;
    let base = image.section_named(".stapsdt.base").map_err(unread)?.map(|section| section.address);
    let symbols = symbols(&image, &notes, arch, &budget).map_err(unread)?;
    let mut probes: Vec<UsdtProbe> = Vec::new();
    let mut seen = HashSet::new();
    let mut index: HashMap<(String, String), usize> = HashMap::new();
    for note in notes {
        let location = location(&image, &note, base, arch, &symbols).map_err(damaged)?;
        let at = *index.entry((note.provider.clone(), note.name.clone())).or_insert_with(|| {
            probes.push(UsdtProbe {
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

/// A place of a probe as some headers make it: the `nop` of one byte that is always there, followed by one of five bytes.
const BOTH_NOPS: [u8; 6] = [0x90, 0x0f, 0x1f, 0x44, 0x00, 0x00];

/// One probe of a file. `calls`: whether the kernel turns the longer `nop`, where a place has one, into a call: then the
/// probe goes there.
pub fn probe(
    binary: &Binary,
    word: &str,
    provider: Option<&str>,
    name: &str,
    calls: bool,
) -> Result<UsdtProbe, Missing> {
    let mut found = named(binary, word, provider, name)?;
    if calls {
        for location in &mut found.locations {
            pass_first_nop(binary, location);
        }
    }
    Ok(found)
}

/// Moves a place to its second `nop`, if it has one. The program's state is the same at both.
fn pass_first_nop(binary: &Binary, location: &mut Location) {
    let mut bytes = [0; BOTH_NOPS.len()];
    if binary.file.read_exact_at(&mut bytes, location.site.offset).is_err() || bytes != BOTH_NOPS {
        return;
    }
    location.site.offset += 1;
    for argument in location.arguments.iter_mut().flatten() {
        if let UsdtOperand::Relative { distance } = &mut argument.operand {
            *distance -= 1;
        }
    }
}

fn named(binary: &Binary, word: &str, provider: Option<&str>, name: &str) -> Result<UsdtProbe, Missing> {
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
    let of_provider = |found: &&UsdtProbe| provider.is_none_or(|provider| found.provider == provider);
    let mut named: Vec<&UsdtProbe> =
        all.iter().filter(of_provider).filter(|found| found.name == name).collect();
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
            // D scripts and documentation write a dash where the program has two underscores.
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

/// Where a note's probe is in the file.
fn location(
    image: &Image<'_>,
    note: &Note,
    base: Option<u64>,
    arch: Arch,
    symbols: &HashMap<String, u64>,
) -> Result<Location, String> {
    // The other addresses have moved as far as the section whose address is in both.
    let moved = base.map_or(0, |base| base.wrapping_sub(note.base));
    let address = note.address.wrapping_add(moved);
    let place = |address: u64| {
        image.segments.iter().filter(|segment| segment.is_loaded()).find_map(|segment| {
            let from = address.checked_sub(segment.address).filter(|from| *from < segment.size)?;
            segment.offset.checked_add(from)
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
        Ok(UsdtArgument { operand: UsdtOperand::Symbol { name, addend }, size, signed }) => {
            let Some(symbol) = symbols.get(&name) else {
                return Err(format!(
                    "it is at the symbol `{name}`, which the file does not tell: install its debug symbols"
                ));
            };
            let distance = symbol.wrapping_add(addend.cast_unsigned()).wrapping_sub(address).cast_signed();
            Ok(UsdtArgument { size, signed, operand: UsdtOperand::Relative { distance } })
        }
        other => other,
    });
    Ok(Location { arguments: arguments.collect(), address, site: UsdtSite { offset, semaphore } })
}

/// Addresses, by name, of the symbols at which arguments are.
fn symbols(
    image: &Image<'_>,
    notes: &[Note],
    arch: Arch,
    budget: &Budget,
) -> Result<HashMap<String, u64>, Unread> {
    let arguments = notes.iter().flat_map(|note| usdt::arguments(&note.arguments, arch));
    let wanted: HashSet<String> = arguments
        .filter_map(|argument| match argument {
            Ok(UsdtArgument { operand: UsdtOperand::Symbol { name, .. }, .. }) => Some(name),
            _ => None,
        })
        .collect();
    let mut found = HashMap::new();
    if wanted.is_empty() {
        return Ok(found);
    }
    collect(image, &wanted, &mut found)?;
    if let Some(debug) = image.build_id()?.and_then(|id| debug_file(&id))
        && let Ok(debug) = Image::read(&debug, budget)
    {
        collect(&debug, &wanted, &mut found)?;
    }
    Ok(found)
}

fn collect(
    image: &Image<'_>,
    wanted: &HashSet<String>,
    found: &mut HashMap<String, u64>,
) -> Result<(), Unread> {
    for table in image.tables() {
        let names = image.names_of(&table);
        image.symbols(&table, |symbol| {
            if symbol.is_definition()
                && let Some(name) = names.get(symbol.name)?
                && wanted.contains(&name)
            {
                found.entry(name).or_insert(symbol.address);
            }
            Ok(())
        })?;
    }
    Ok(())
}
