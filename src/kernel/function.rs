//! The functions of this kernel, and of programs on this host, that probes can attach to.

use super::{
    Kernel, Missing,
    symbols::{FunctionSymbols, traceable},
};
use crate::{
    cgroup, container,
    elf::{self, Binary},
    sys,
};
use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, PoisonError},
};
use tapster_ebpf::{
    attach::{
        Arch, Functions, LinkLayer, Place, Site, SiteRequest, Sites, UnknownSymbol, UserFunctions, left_out,
    },
    diagnostic::near,
    glob::{Glob, is_pattern},
    probe::{KernelVersion, Root},
    usdt::UsdtProbe,
};

/// Functions that were read so far: each file once, for all probes.
#[derive(Debug, Default)]
pub(super) struct FunctionCache {
    symbols: OnceLock<Option<FunctionSymbols>>,
    traceable: OnceLock<Option<HashSet<String>>>,
    programs: Mutex<HashMap<PathBuf, Arc<elf::FileFunctions>>>,
}

/// The processor for which this program is built. Calling conventions of others are unknown: registers of x86-64 stand in, and
/// kprobes and uprobes are refused.
pub(super) fn arch() -> Option<Arch> {
    match std::env::consts::ARCH {
        "x86_64" => Some(Arch::X86_64),
        "aarch64" => Some(Arch::Aarch64),
        _ => None,
    }
}

/// Refuses kernels in which no function calls a program by itself.
pub(super) fn no_trampolines(arch: Arch, version: KernelVersion) -> Result<(), Missing> {
    let (name, since) = match arch {
        Arch::X86_64 => ("x86-64", KernelVersion(5, 5, 0)),
        Arch::Aarch64 => ("arm64", KernelVersion(6, 0, 0)),
    };
    // The version is zeros where it is not known; the kernel decides then.
    if version >= since || version == KernelVersion::default() {
        return Ok(());
    }
    Err(Missing {
        message: format!("{name} has no fentry and fexit before Linux {since}"),
        hint: Some("use kprobe".into()),
    })
}

fn known_registers() -> Result<(), Missing> {
    arch().map(drop).ok_or_else(|| Missing {
        message: format!("where `{}` has arguments of functions is not known", std::env::consts::ARCH),
        hint: Some("functions are probed on x86-64 and arm64".into()),
    })
}

impl Functions for Kernel {
    fn traced(&self) -> Result<(), Missing> {
        if let Some(arch) = arch() {
            no_trampolines(arch, self.version)?;
        }
        match &self.tracefs {
            // This list has the functions whose entry can be patched, as these programs require.
            Ok(tracefs) if !tracefs.has("available_filter_functions") => Err(Missing {
                message: "this kernel has no fentry and fexit".into(),
                hint: Some("it was built without CONFIG_FUNCTION_TRACER".into()),
            }),
            // Without tracefs it is unknown; the kernel decides when the program is loaded.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    fn probing(&self) -> Result<(), Missing> {
        known_registers()?;
        match &self.tracefs {
            Ok(tracefs) if !tracefs.has("kprobe_events") => Err(Missing {
                message: "this kernel has no kprobes".into(),
                hint: Some("it was built without CONFIG_KPROBE_EVENTS".into()),
            }),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    fn probed(&self, wanted: &SiteRequest<'_>) -> Result<Sites, Missing> {
        self.probing()?;
        self.named(wanted)
    }

    fn user(&self, root: &Root, binary: &str, wanted: &SiteRequest<'_>) -> Result<UserFunctions, Missing> {
        known_registers()?;
        elf::choose(&*self.program(root, binary)?, wanted)
    }

    fn usdt(
        &self,
        root: &Root,
        binary: &str,
        provider: Option<&str>,
        name: &str,
    ) -> Result<UsdtProbe, Missing> {
        known_registers()?;
        let binary_file = Binary::open(&self.proc, root, binary)?;
        elf::usdt_probe(&binary_file, binary, provider, name, sys::has_uprobe_call())
    }

    fn symbol(&self, name: &str) -> Result<u64, UnknownSymbol> {
        self.address_of(name)
    }

    fn namespace(&self, root: &Root) -> Result<Option<u32>, Missing> {
        container::namespace(&self.proc, root)
    }

    fn interface(&self, name: &str) -> Result<LinkLayer, Missing> {
        match sys::interface(name) {
            Ok(interface) if interface.is_ethernet => Ok(LinkLayer::Ethernet),
            Ok(_) => Ok(LinkLayer::None),
            Err(error) if sys::errno(&error) == Some(libc::ENODEV) => Err(Missing {
                message: format!("there is no network interface `{name}`"),
                hint: Some(
                    "`ip link` shows which there are; in a pod, those of the host need `hostNetwork: true`"
                        .into(),
                ),
            }),
            Err(error) => {
                Err(Missing { message: format!("network interface `{name}`: {error}"), hint: None })
            }
        }
    }

    fn cgroup(&self, path: &str) -> Result<(), Missing> {
        cgroup::directory(&self.proc, path).map(drop)
    }
}

/// Finds a function by its name.
fn one(symbols: &FunctionSymbols, function: &str) -> Result<Sites, Missing> {
    if let Some(symbol) = symbols.find(function) {
        let place = Place::Kernel { symbol: function.into(), address: symbol.address };
        return Ok(Sites { list: vec![Site::new(function, place)], ..Sites::default() });
    }
    // A function that the compiler derived from it: parts cut off, parameters removed.
    let variant = symbols.names().find(|name| is_variant_of(name, function));
    let hint = match variant {
        Some(variant) => format!("the compiler made `{variant}` of it, whose arguments may be others"),
        None => {
            let near = near(function, symbols.names(), 3);
            let near: Vec<String> = near.iter().map(|name| format!("`{name}`")).collect();
            if near.is_empty() {
                "it may be part of its callers, or in a module that is not loaded".into()
            } else {
                format!("did you mean {}?", near.join(" or "))
            }
        }
    };
    Err(Missing { message: format!("this kernel has no function `{function}`"), hint: Some(hint) })
}

fn is_variant_of(name: &str, function: &str) -> bool {
    name.strip_prefix(function).is_some_and(|rest| rest.starts_with('.'))
}

impl Kernel {
    /// The functions that a name or pattern means, whether they can be probed or not.
    pub(super) fn named(&self, wanted: &SiteRequest<'_>) -> Result<Sites, Missing> {
        let Some(symbols) = self.symbols() else {
            if is_pattern(wanted.function) {
                return Err(Missing {
                    message: format!("the functions that match `{}` are not known", wanted.function),
                    hint: Some(format!("`{}` cannot be read", self.kallsyms().display())),
                });
            }
            return Ok(Sites { list: vec![Site::kernel(wanted.function)], ..Sites::default() });
        };
        if is_pattern(wanted.function) {
            self.matching(symbols, wanted)
        } else {
            one(symbols, wanted.function)
        }
    }

    /// Names of the functions of the kernel and of loaded modules; `None` if they cannot be read.
    pub fn function_names(&self) -> Option<Vec<&str>> {
        self.symbols().map(|symbols| symbols.names().collect())
    }

    /// Whether a function with this name exists now; true if names cannot be read, because the kernel decides then.
    pub fn has_function(&self, name: &str) -> bool {
        self.symbols().is_none_or(|symbols| symbols.find(name).is_some())
    }

    /// The module of a function; `None` for the kernel itself.
    pub fn module_of(&self, function: &str) -> Option<&str> {
        let symbols = self.symbols()?;
        symbols.module(symbols.find(function)?)
    }

    /// Whether the tracer's list has a function; true if there is no list.
    pub fn may_trace(&self, function: &str) -> bool {
        self.traceable().is_none_or(|traceable| traceable.contains(function))
    }

    pub(super) fn symbols(&self) -> Option<&FunctionSymbols> {
        self.functions.symbols.get_or_init(|| FunctionSymbols::read(&self.kallsyms())).as_ref()
    }

    fn traceable(&self) -> Option<&HashSet<String>> {
        let read = || traceable(&self.tracefs.as_ref().ok()?.directory().join("available_filter_functions"));
        self.functions.traceable.get_or_init(read).as_ref()
    }

    /// The functions of a program or library, by path or name.
    fn program(&self, root: &Root, word: &str) -> Result<Arc<elf::FileFunctions>, Missing> {
        let binary = Binary::open(&self.proc, root, word)?;
        let place = binary.place.clone();
        let mut programs = self.functions.programs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = programs.get(&place) {
            return Ok(known.clone());
        }
        let read = Arc::new(elf::read(binary)?);
        programs.insert(place, read.clone());
        Ok(read)
    }

    /// Where procfs is mounted.
    pub fn proc(&self) -> &Path {
        &self.proc
    }

    /// A program or library as it was read, whatever has its name by now.
    pub fn program_file(&self, path: &Path) -> Option<Arc<elf::FileFunctions>> {
        self.functions.programs.lock().unwrap_or_else(PoisonError::into_inner).get(path).cloned()
    }

    /// All functions that match a pattern and can be probed by their name.
    fn matching(&self, symbols: &FunctionSymbols, wanted: &SiteRequest<'_>) -> Result<Sites, Missing> {
        let glob = Glob::new(wanted.function);
        let traceable = self.traceable();
        let mut sites = Sites::default();
        let (mut changed, mut shared, mut untraced) = (Vec::new(), Vec::new(), Vec::new());
        // If a function has several names, a call of it is one call.
        let (mut addresses, mut again) = (HashSet::new(), Vec::new());
        for (name, address, count) in symbols.functions().filter(|(name, ..)| glob.matches(name)) {
            if name.contains('.') {
                changed.push(name);
            } else if traceable.is_some_and(|traceable| !traceable.contains(name)) {
                untraced.push(name);
            } else if count > 1 {
                shared.push(name);
            } else if address.is_some_and(|address| !addresses.insert(address)) {
                again.push(name);
            } else {
                let place = Place::Kernel { symbol: name.into(), address };
                sites.list.push(Site::new(name, place));
            }
        }
        sites.left_out.extend(left_out("that cannot be traced", &untraced));
        sites.left_out.extend(left_out("that the compiler changed", &changed));
        sites.left_out.extend(left_out("whose name others have too", &shared));
        sites.left_out.extend(left_out("that are other names of these", &again));
        wanted.check_count(sites.list.len(), "this kernel")?;
        if !sites.list.is_empty() {
            return Ok(sites);
        }
        let function = wanted.function;
        Err(if sites.left_out.is_empty() {
            let hint = elf::near_beginning(&glob.prefix(), symbols.names());
            Missing {
                message: format!("no function of this kernel matches `{function}`"),
                hint: Some(hint.unwrap_or_else(|| "they may be in a module that is not loaded".into())),
            }
        } else {
            Missing {
                message: format!("no function that matches `{function}` can be probed"),
                hint: Some(format!("of those that match: {}", sites.left_out.join(", "))),
            }
        })
    }
}
