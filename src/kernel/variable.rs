//! Where symbols of the kernel are: variables, and functions whose address is compared.

use super::{Kernel, Missing, requirement::hidden};
use crate::host::kallsyms::KallsymsLine;
use tapster_ebpf::{attach::UnknownSymbol, diagnostic::near};

fn unknown(message: String, hint: impl Into<Option<String>>) -> UnknownSymbol {
    UnknownSymbol { why: Missing { message, hint: hint.into() }, is_absent: false }
}

fn absent(message: String, hint: impl Into<Option<String>>) -> UnknownSymbol {
    UnknownSymbol { is_absent: true, ..unknown(message, hint) }
}

impl Kernel {
    /// The address of a symbol of the kernel itself. Those of modules change when a module is loaded again.
    pub(super) fn address_of(&self, name: &str) -> Result<u64, UnknownSymbol> {
        let symbol = self.only_symbol(name)?;
        match symbol.address {
            Some(address) => Ok(address),
            None => match hidden(self.proc()) {
                Some(Missing { message, hint }) => {
                    Err(unknown(format!("the kernel does not tell where `{name}` is: {message}"), hint))
                }
                // The first of what each CPU has.
                None => Ok(0),
            },
        }
    }

    /// The only symbol of the kernel itself with this name.
    pub(super) fn only_symbol<'s>(&'s self, name: &'s str) -> Result<KallsymsLine<'s>, UnknownSymbol> {
        let Some(symbols) = self.symbols() else {
            let path = self.kallsyms();
            return Err(unknown(
                format!("where `{name}` is cannot be told: `{}` cannot be read", path.display()),
                None,
            ));
        };
        let (own, of_modules): (Vec<_>, Vec<_>) =
            symbols.called(name).partition(|symbol| symbol.module.is_none());
        match (own.as_slice(), of_modules.first().and_then(|symbol| symbol.module)) {
            ([symbol], _) => Ok(*symbol),
            ([], Some(module)) => Err(unknown(
                format!("`{name}` is in the module `{module}`, and is somewhere else each time it is loaded"),
                "only symbols of the kernel itself have addresses that last".to_owned(),
            )),
            ([], None) => {
                // Sections begin with names of their own.
                let has_variables = symbols.variables().any(|name| !name.starts_with("__"));
                if !has_variables {
                    let message =
                        format!("the kernel does not tell where `{name}` is: it tells of functions only");
                    let hint = "it was built without CONFIG_KALLSYMS_ALL";
                    return Err(absent(message, hint.to_owned()));
                }
                let near = near(name, symbols.variables(), 3);
                let near: Vec<String> = near.iter().map(|name| format!("`{name}`")).collect();
                let hint = (!near.is_empty()).then(|| format!("did you mean {}?", near.join(" or ")));
                Err(absent(format!("this kernel has no symbol `{name}`"), hint))
            }
            (several, _) => Err(unknown(
                format!("{} symbols of this kernel are called `{name}`", several.len()),
                "which of them is meant cannot be said".to_owned(),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Host;
    use std::fs;
    use tapster_ebpf::attach::Functions;

    const ALL: &str = "0000000000000000 A __per_cpu_start\nffffffff81000010 T vfs_read\nffffffff82000000 D avenrun\n\
        ffffffff82000010 d twice\nffffffff82000020 d twice\nffffffffc0000000 d of_module\t[disk]\n\
        ffffffffc0000010 t avenrun_not\t[bpf]\nffffffff82000030 b name.0\n";

    /// What is said of a symbol by a host with these.
    fn said(symbols: &str, name: &str) -> Result<u64, (String, bool)> {
        let directory = tempfile::tempdir().unwrap();
        let proc = directory.path().to_owned();
        fs::create_dir_all(proc.join("sys/kernel")).unwrap();
        fs::write(proc.join("sys/kernel/kptr_restrict"), "2\n").unwrap();
        fs::write(proc.join("kallsyms"), symbols).unwrap();
        let kernel = Kernel::detect(&Host { proc, ..Host::default() });
        kernel.symbol(name).map_err(|unknown| {
            let hint = unknown.why.hint.map(|hint| format!("; {hint}")).unwrap_or_default();
            (unknown.why.message + &hint, unknown.is_absent)
        })
    }

    #[test]
    fn addresses_and_why_there_is_none() {
        for (name, address) in [
            ("avenrun", 0xffff_ffff_8200_0000),
            ("vfs_read", 0xffff_ffff_8100_0010),
            ("name.0", 0xffff_ffff_8200_0030),
            // Where nothing is hidden, 0 is an address.
            ("__per_cpu_start", 0),
        ] {
            assert_eq!(said(ALL, name), Ok(address), "{name}");
        }
        let hidden = ALL.lines().map(|line| format!("{:016} {}\n", 0, line.split_once(' ').unwrap().1));
        let hidden = hidden.collect::<Vec<_>>().concat();
        let functions = "ffffffff81000010 T vfs_read\nffffffff82000000 D __start_rodata\n";
        for (symbols, name, says, is_absent) in [
            (ALL, "avenrum", "this kernel has no symbol `avenrum`; did you mean `avenrun`", true),
            (ALL, "avenrun_not", "this kernel has no symbol `avenrun_not`", true),
            (ALL, "twice", "2 symbols of this kernel are called `twice`", false),
            (ALL, "of_module", "`of_module` is in the module `disk`", false),
            (
                &hidden,
                "avenrun",
                "the kernel does not tell where `avenrun` is: `kernel.kptr_restrict` is 2",
                false,
            ),
            (functions, "avenrun", "it was built without CONFIG_KALLSYMS_ALL", true),
        ] {
            let (message, absent) = said(symbols, name).unwrap_err();
            assert!(message.contains(says) && absent == is_absent, "{name}: {message}");
        }
        assert_eq!(said(functions, "vfs_read"), Ok(0xffff_ffff_8100_0010));
    }
}
