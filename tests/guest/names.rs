//! Names of all functions of a kernel and of its modules, loaded or not, for the table of reasons of sleeps.

use super::{image::Image, kernel::Kernel, machine::Machine};
use crate::support::{cases::Skip, command::tool, fixture, yaml};
use object::{Object as _, ObjectSymbol as _, SymbolKind};
use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    ops::Bound,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Functions that a list as `/proc/kallsyms` has, without what a compiler appends to a name.
pub(crate) fn listed(kallsyms: &str) -> BTreeSet<String> {
    let symbols = kallsyms.lines().filter_map(|line| line.split_once(' ')?.1.split_once(' '));
    let functions = symbols.filter(|(kind, _)| ["t", "T", "w", "W"].contains(kind));
    functions.map(|(_, name)| plain(name.split('\t').next().unwrap_or(name)).to_owned()).collect()
}

fn plain(name: &str) -> &str {
    name.split('.').next().unwrap_or(name)
}

/// Modules below a directory.
fn modules_below(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            modules_below(&path, found);
        } else if path.to_string_lossy().ends_with(".ko") || path.to_string_lossy().ends_with(".ko.xz") {
            found.push(path);
        }
    }
}

/// Functions of one module.
fn of_module(path: &Path) -> Result<BTreeSet<String>, Skip> {
    let bytes = if path.extension().is_some_and(|extension| extension == "xz") {
        tool("xz")?.arg("-dc").arg(path).output().unwrap().stdout
    } else {
        fs::read(path).unwrap()
    };
    let file = object::File::parse(&*bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let functions = file.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text);
    Ok(functions.filter_map(|symbol| Some(plain(symbol.name().ok()?).to_owned())).collect())
}

/// All functions of a kernel: those that it lists when it runs, and those of its modules' files.
pub(crate) fn of(kernel: &Kernel, modules: &Path, directory: &Path) -> Result<BTreeSet<String>, Skip> {
    let mut image = Image::default();
    image.system(directory)?;
    let base = directory.join("names.cpio");
    fs::write(&base, image.finish()).unwrap();
    let machine = Machine {
        kernel,
        base: &base,
        modules,
        disks: &[],
        hardware: &[],
        memory_mib: 1024,
        port: None,
        arguments: &[],
    };
    let results = machine.run("run cp /proc/kallsyms /results/kallsyms\n")?;
    results.assert_no_failures();
    let mut files = Vec::new();
    modules_below(&kernel.root.join("lib/modules").join(&kernel.release), &mut files);
    let (names, next) = (Mutex::new(listed(results.text("kallsyms"))), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let found = of_module(file).unwrap_or_else(|Skip(why)| panic!("{why}"));
                    names.lock().unwrap().extend(found);
                }
            });
        }
    });
    Ok(names.into_inner().unwrap())
}

/// The series and the functions of the kernel that runs here.
pub(crate) fn here() -> (String, BTreeSet<String>) {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let series: Vec<&str> = release.split('.').take(2).collect();
    (series.join("."), listed(&fs::read_to_string("/proc/kallsyms").unwrap()))
}

/// Numbers of a version, by which kernels are in order.
fn version(series: &str) -> Vec<u64> {
    series.split('.').map(|number| number.parse().unwrap()).collect()
}

/// Names of functions in the table, callers apart, without the one that is every function.
fn patterns() -> BTreeSet<String> {
    let table = yaml::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("config/reasons/linux.yaml"));
    let entries = yaml::items(&table, "reasons").iter();
    let lists = entries.flat_map(|entry| ["functions", "innermost"].map(|key| yaml::items(entry, key)));
    let parts = lists.flatten().flat_map(|pattern| yaml::text(pattern).split(';'));
    parts.filter(|part| *part != "*").map(str::to_owned).collect()
}

/// A function that a pattern matches.
fn matched<'n>(pattern: &str, names: &'n BTreeSet<String>) -> Option<&'n str> {
    let glob = tapster_ebpf::glob::Glob::new(pattern);
    let fixed = pattern.split('*').next().unwrap();
    let from = names.range::<str, _>((Bound::Included(fixed), Bound::Unbounded));
    // What the compiler puts before functions to patch them is none.
    let mut candidates = from
        .map(String::as_str)
        .take_while(|name| name.starts_with(fixed))
        .filter(|name| !["__pfx_", "__cfi_"].iter().any(|prefix| name.starts_with(prefix)));
    candidates.find(|name| glob.matches(name))
}

/// Writes for each pattern the kernels that have such a function, and one of them; the oldest kernel first.
pub(crate) fn record(kernels: &mut [(String, BTreeSet<String>)]) -> String {
    kernels.sort_by_key(|(series, _)| version(series));
    let mut lines = String::from("pattern\tkernels\tfunction\n");
    let (mut found, mut none) = (0, 0);
    for pattern in patterns() {
        let having: Vec<(&str, &str)> = kernels
            .iter()
            .filter_map(|(series, names)| Some((series.as_str(), matched(&pattern, names)?)))
            .collect();
        let Some((_, function)) = having.last() else {
            none += 1;
            continue;
        };
        found += 1;
        let series: Vec<&str> = having.iter().map(|(series, _)| *series).collect();
        writeln!(lines, "{pattern}\t{}\t{function}", series.join(",")).unwrap();
    }
    fs::write(fixture::file("fixtures/reasons/functions.tsv"), lines).unwrap();
    let counts: Vec<String> =
        kernels.iter().map(|(series, names)| format!("{series} ({})", names.len())).collect();
    format!("{found} patterns match a function of {}, {none} none", counts.join(", "))
}
