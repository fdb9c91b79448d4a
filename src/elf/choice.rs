//! The functions of a program or library for a name or pattern, and where probes for them go.

use super::{
    FileFunctions, Function, Go, Missing,
    budget::{Budget, Unread},
    debug_file,
    exits::{Exits, UnknownExits},
    image::{ByteSource, ElfSymbol, Image},
    missing,
    name::{Name, Pattern},
};
use tapster_ebpf::{
    attach::{Place, Site, SiteRequest, UserFunctions, left_out},
    diagnostic::near,
    glob::{Glob, is_pattern},
};

/// Suffixes of functions that compilers derive from a function: their arguments may differ.
const VARIANTS: [&str; 3] = [".isra.", ".constprop.", ".part."];

/// How the returns of a function are probed.
enum ReturnProbes {
    /// At these places in the file.
    At(Vec<u64>),
    /// By the kernel's return probe.
    Probe,
    /// Not at all, because the function does this.
    Not(&'static str),
}

/// Finds the wanted functions in a file that was read.
pub fn choose(file: &FileFunctions, wanted: &SiteRequest<'_>) -> Result<UserFunctions, Missing> {
    let shown = file.path.display().to_string();
    // A probe on the choosing function would see one call for each process, and none of the chosen function.
    let pattern = Pattern::new(wanted.function);
    let is_meant = |name: &&String| Name::new(name).matches(&pattern);
    let at_start: Vec<&str> = file.chosen.iter().filter(is_meant).map(String::as_str).collect();
    let named = named(file, wanted.function, &shown)
        .map_err(|missing| chosen_only(&at_start, &shown).unwrap_or(missing))?;
    let pattern = named.len() > 1;
    let (variants, chosen): (Vec<_>, Vec<_>) = named
        .into_iter()
        .partition(|(function, _)| pattern && VARIANTS.iter().any(|variant| function.name.contains(variant)));
    wanted.check_count(chosen.len(), &format!("`{shown}`"))?;
    let mut found = UserFunctions {
        file: file.path.clone(),
        id: file.id,
        go: file.go == Some(Go::Recent),
        ..UserFunctions::default()
    };
    let mut without: Vec<(&'static str, String)> = Vec::new();
    let mut code = file.most_code();
    for (function, name) in chosen {
        let of_ends = wanted.at_return || wanted.whole;
        let exits = if of_ends || file.has_mark(&function, wanted.stacks) {
            file.exits(&function, &mut code)
        } else {
            Err(UnknownExits::NoCode)
        };
        let site = |at| Site::new(name.clone(), Place::File { entry: function.offset, at });
        let begins = file.entry(&function, exits.as_ref().ok(), wanted.stacks);
        let entry = || site(vec![begins]);
        let ends = of_ends.then(|| ends(file, &function, exits));
        match ends {
            Some(ReturnProbes::Not(why)) => without.push((why, name.clone())),
            Some(ReturnProbes::At(places)) if wanted.at_return => found.sites.push(site(places)),
            Some(ReturnProbes::Probe) if wanted.at_return => found.by_return_probe.push(entry()),
            Some(ReturnProbes::At(_) | ReturnProbes::Probe) | None => found.sites.push(entry()),
        }
    }
    let names: Vec<&str> = variants.iter().map(|(function, _)| function.name.as_str()).collect();
    found.left_out.extend(left_out("that the compiler changed", &names));
    found.left_out.extend(left_out("that are chosen among several as a program starts", &at_start));
    let mut whys: Vec<&'static str> = without.iter().map(|(why, _)| *why).collect();
    whys.sort_unstable();
    whys.dedup();
    for why in &whys {
        let names: Vec<&str> =
            without.iter().filter(|(other, _)| other == why).map(|(_, name)| name.as_str()).collect();
        found.left_out.extend(left_out(&format!("that {why}"), &names));
    }
    if !found.sites.is_empty() || !found.by_return_probe.is_empty() {
        return Ok(found);
    }
    let function = wanted.function;
    Err(match (whys.as_slice(), without.as_slice()) {
        ([why], _) => missing(
            format!("returns of `{function}` of `{shown}` cannot be seen: of functions that {why}"),
            "its entry can be: at: \"uprobe:BINARY:FUNCTION\"".to_owned(),
        ),
        _ => missing(
            format!("no function of `{shown}` that matches `{function}` can be probed"),
            format!("of those that match: {}", found.left_out.join(", ")),
        ),
    })
}

/// The error if all matching names stand for one of several functions.
fn chosen_only(names: &[&str], shown: &str) -> Option<Missing> {
    let (first, rest) = names.split_first()?;
    let more = if rest.is_empty() { String::new() } else { format!(" and {} others", rest.len()) };
    let is = if rest.is_empty() { "is" } else { "are" };
    Some(missing(
        format!("`{first}`{more} of `{shown}` {is} chosen among several functions when a program starts"),
        "name the one that is chosen, for example that of the widest registers".to_owned(),
    ))
}

/// The functions with a name, each with the name that is shown.
fn named(file: &FileFunctions, wanted: &str, shown: &str) -> Result<Vec<(Function, String)>, Missing> {
    if let Some(digits) = wanted.strip_prefix("0x") {
        let address = u64::from_str_radix(digits, 16).map_err(|_| {
            missing(format!("`{wanted}` is not an address"), "write it as `nm` shows it: 0x1139".to_owned())
        })?;
        let function = file.at(address).ok_or_else(|| {
            missing(format!("`{wanted}` at {address:#x} is in no part of `{shown}` that is loaded"), None)
        })?;
        let name = Name::new(&function.name).shown;
        return Ok(vec![(function, name)]);
    }
    if file.list.is_empty() {
        return Err(missing(
            format!("`{shown}` is stripped: it has no symbols"),
            "install its debug symbols, or give an address: 0x…".to_owned(),
        ));
    }
    let symbols: Vec<(Function, String)> = file
        .list
        .iter()
        .filter(|function| function.name == wanted || function.aliases.iter().any(|alias| alias == wanted))
        .map(|function| (function.clone(), wanted.to_owned()))
        .collect();
    if !symbols.is_empty() {
        return Ok(symbols);
    }
    let names: Vec<Name> = file.list.iter().map(|function| Name::new(&function.name)).collect();
    let pairs = || file.list.iter().zip(&names);
    let taken = |(function, name): (&Function, &Name)| (function.clone(), name.shown.clone());
    let exact: Vec<_> = pairs().filter(|(_, name)| name.is(wanted)).map(taken).collect();
    if !exact.is_empty() {
        return Ok(exact);
    }
    let pattern = Pattern::new(wanted);
    let matching: Vec<_> = pairs().filter(|(_, name)| name.matches(&pattern)).map(taken).collect();
    if is_pattern(wanted) && !matching.is_empty() {
        return Ok(matching);
    }
    Err(absent(file, wanted, shown, &names))
}

/// How the returns of a function are probed. A return probe replaces the return address on the stack, which ends a program
/// built by Go and a program on whose very first function it is set.
fn ends(file: &FileFunctions, function: &Function, exits: Result<Exits, UnknownExits>) -> ReturnProbes {
    let exits = match (file.go, exits) {
        (Some(Go::Old), _) => {
            return ReturnProbes::Not("a Go before 1.18 compiled, whose calls are not known here");
        }
        (_, Ok(exits)) => exits,
        (Some(Go::Recent), Err(_)) => {
            return ReturnProbes::Not(
                "do not wholly read as code, and a return probe would end a Go program",
            );
        }
        (None, Err(_)) if function.address == file.start => return ReturnProbes::Not("begin the program"),
        (None, Err(_)) => return ReturnProbes::Probe,
    };
    if exits.returns.is_empty() && exits.jumps.is_empty() && !exits.has_unseen() {
        return ReturnProbes::Not("do not return");
    }
    let at_once = exits.returns.contains(&function.offset);
    // Go computes addresses of jumps only within a function.
    let leaves =
        !exits.jumps.is_empty() || !exits.conditional.is_empty() || file.go.is_none() && exits.computed;
    match file.go {
        _ if !leaves && !at_once => ReturnProbes::At(exits.returns),
        Some(_) => ReturnProbes::Not("end by jumping elsewhere, and a return probe would end a Go program"),
        None if function.address == file.start => ReturnProbes::Not("begin the program"),
        None => ReturnProbes::Probe,
    }
}

/// The error if there is no such function, with near names.
fn absent(file: &FileFunctions, wanted: &str, shown: &str, names: &[Name]) -> Missing {
    if is_pattern(wanted) {
        let start = Glob::new(wanted).prefix();
        let message = format!("no function of `{shown}` matches `{wanted}`");
        return missing(message, near_beginning(&start, names.iter().map(|name| name.shown.as_str())));
    }
    let budget = Budget::new(file.limits);
    match symbol_named(&file.file, wanted, &budget).unwrap_or_default() {
        Some(symbol) if symbol.is_undefined() => missing(
            format!("`{shown}` only calls `{wanted}`, which is in a library of its"),
            format!("`ldd {shown}` shows them; attach there, as in uprobe:libc.so.6:{wanted}"),
        ),
        Some(_) => missing(format!("`{wanted}` of `{shown}` is not a function"), None),
        None => {
            let variant = file.list.iter().find(|function| {
                let rest = function.name.strip_prefix(wanted);
                rest.is_some_and(|rest| VARIANTS.iter().any(|variant| rest.starts_with(variant)))
            });
            let hint = match variant {
                Some(variant) => {
                    Some(format!("the compiler made `{}` of it, whose arguments may be others", variant.name))
                }
                None => {
                    let near = near(wanted, names.iter().map(|name| name.shown.as_str()), 3);
                    let near: Vec<String> = near.iter().map(|name| format!("`{name}`")).collect();
                    (!near.is_empty()).then(|| format!("did you mean {}?", near.join(" or ")))
                }
            };
            missing(format!("`{shown}` has no function `{wanted}`"), hint)
        }
    }
}

/// A symbol of a file, or of its debug file, of any kind.
fn symbol_named(source: &dyn ByteSource, name: &str, budget: &Budget) -> Result<Option<ElfSymbol>, Unread> {
    let image = Image::read(source, budget)?;
    let own = symbol_in(&image, name)?;
    if own.is_some() {
        return Ok(own);
    }
    let Some(debug) = image.build_id()?.and_then(|id| debug_file(&id)) else { return Ok(None) };
    symbol_in(&Image::read(&debug, budget)?, name)
}

fn symbol_in(image: &Image<'_>, name: &str) -> Result<Option<ElfSymbol>, Unread> {
    for table in image.tables() {
        let names = image.names_of(&table);
        let mut found = None;
        image.symbols(&table, |symbol| {
            if found.is_none() && names.get(symbol.name)?.as_deref() == Some(name) {
                found = Some(symbol);
            }
            Ok(())
        })?;
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// A hint for a pattern that begins with `start` and matches nothing: patterns with near beginnings of names.
pub fn near_beginning<'n>(start: &str, names: impl Iterator<Item = &'n str>) -> Option<String> {
    let length = start.chars().count();
    if length == 0 {
        return None;
    }
    let mut beginnings: Vec<&str> = names
        .filter_map(|name| {
            let end = name.char_indices().nth(length).map_or(name.len(), |(at, _)| at);
            name.get(..end).filter(|beginning| beginning.chars().count() == length)
        })
        .collect();
    beginnings.sort_unstable();
    beginnings.dedup();
    let near: Vec<String> =
        near(start, beginnings.iter().copied(), 3).iter().map(|near| format!("`{near}*`")).collect();
    (!near.is_empty()).then(|| format!("did you mean {}?", near.join(" or ")))
}
