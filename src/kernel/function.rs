//! Which functions can be attached to, of this kernel and of programs on this host.

use super::{Kernel, Missing};
use crate::{
    container,
    elf::{self, Binary},
};
use std::{collections::HashSet, fs};
use tapster_ebpf::{
    attach::{Arch, Functions},
    diagnostic::near,
    probe::{KernelVersion, Root},
    usdt::Found,
};

/// The processor that this program is made for. Others have no conventions written down for them; there the registers
/// of x86-64 stand in, and kprobes and uprobes are refused.
pub(super) fn arch() -> Option<Arch> {
    match std::env::consts::ARCH {
        "x86_64" => Some(Arch::X86_64),
        "aarch64" => Some(Arch::Aarch64),
        _ => None,
    }
}

fn known_registers() -> Result<(), Missing> {
    arch().map(drop).ok_or_else(|| Missing {
        message: format!("where `{}` has arguments of functions is not known", std::env::consts::ARCH),
        hint: Some("functions are probed on x86-64 and arm64".into()),
    })
}

impl Functions for Kernel {
    fn traced(&self) -> Result<(), Missing> {
        let refuse =
            |message: &str, hint: &str| Err(Missing { message: message.into(), hint: Some(hint.into()) });
        if arch() == Some(Arch::Aarch64) && self.version < KernelVersion(6, 0, 0) {
            return refuse("arm64 has no fentry and fexit before Linux 6.0", "use kprobe");
        }
        match &self.tracefs {
            // The list of functions whose entry can be patched, which is what these programs need.
            Ok(tracefs) if !tracefs.has("available_filter_functions") => {
                refuse("this kernel has no fentry and fexit", "it was built without CONFIG_FUNCTION_TRACER")
            }
            // Without tracefs nobody knows; the kernel says when it is asked to load.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    fn probed(&self, function: &str) -> Result<(), Missing> {
        known_registers()?;
        if let Ok(tracefs) = &self.tracefs
            && !tracefs.has("kprobe_events")
        {
            return Err(Missing {
                message: "this kernel has no kprobes".into(),
                hint: Some("it was built without CONFIG_KPROBE_EVENTS".into()),
            });
        }
        // Addresses may be hidden, names are not.
        let Ok(symbols) = fs::read_to_string(self.kallsyms()) else { return Ok(()) };
        let names: HashSet<&str> = symbols
            .lines()
            .filter_map(|line| {
                let mut words = line.split_whitespace().skip(1);
                words.next().filter(|kind| matches!(*kind, "t" | "T" | "w" | "W"))?;
                words.next()
            })
            .collect();
        if names.contains(function) {
            return Ok(());
        }
        // What the compiler made of it: parts cut off, parameters removed.
        let variant =
            names.iter().find(|name| name.strip_prefix(function).is_some_and(|rest| rest.starts_with('.')));
        let hint = match variant {
            Some(variant) => {
                Some(format!("the compiler made `{variant}` of it, whose arguments may be others"))
            }
            None => {
                let near = near(function, names.iter().copied(), 3);
                let near: Vec<String> = near.iter().map(|name| format!("`kprobe:{name}`")).collect();
                Some(if near.is_empty() {
                    "it may be part of its callers, or in a module that is not loaded".into()
                } else {
                    format!("did you mean {}?", near.join(" or "))
                })
            }
        };
        Err(Missing { message: format!("this kernel has no function `{function}`"), hint })
    }

    fn user(&self, root: &Root, binary: &str, function: &str) -> Result<(), Missing> {
        known_registers()?;
        elf::locate(&Binary::open(&self.proc, root, binary)?, function).map(drop)
    }

    fn usdt(&self, root: &Root, binary: &str, provider: Option<&str>, name: &str) -> Result<Found, Missing> {
        known_registers()?;
        elf::usdt_probe(&Binary::open(&self.proc, root, binary)?, binary, provider, name)
    }

    fn namespace(&self, root: &Root) -> Result<Option<u32>, Missing> {
        container::namespace(&self.proc, root)
    }
}
