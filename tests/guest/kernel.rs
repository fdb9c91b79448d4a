//! Kernels of Debian, fetched once into a cache and unpacked, never installed.
//!
//! apt gets a private state, so that the system's own sources stay as they are; the mirror is the one that they name.

use crate::support::{
    cases::Skip,
    command::{output, text, tool},
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// A series of kernels and where Debian has it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Series {
    /// The first numbers of the version: `6.1`.
    pub(crate) name: &'static str,
    /// The suite, and how its packages begin: the image, and the modules where they are apart.
    suite: &'static str,
    packages: &'static [&'static str],
}

/// From the oldest that tapster is for to the newest there is.
pub(crate) const SERIES: [Series; 4] = [
    Series { name: "5.10", suite: "bullseye", packages: &["linux-image-5.10."] },
    Series { name: "6.1", suite: "bookworm", packages: &["linux-image-6.1."] },
    Series { name: "6.12", suite: "trixie", packages: &["linux-image-6.12."] },
    Series { name: "7", suite: "trixie-backports", packages: &["linux-binary-7.", "linux-modules-7."] },
];

/// A kernel that can be booted.
#[derive(Clone, Debug)]
pub(crate) struct Kernel {
    /// As `uname -r` has it.
    pub(crate) release: String,
    pub(crate) image: PathBuf,
    /// The tree that has `lib/modules/RELEASE`, with its dependencies worked out.
    pub(crate) root: PathBuf,
}

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Where kernels are kept: in the user's cache, which is there for the next clone, too.
pub(crate) fn cache() -> PathBuf {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
    match cache {
        Some(cache) => cache.join("tapster/kernels"),
        None => Path::new(env!("CARGO_TARGET_TMPDIR")).join("guest"),
    }
}

/// The kernel of a series, from the cache or from Debian.
pub(crate) fn get(series: Series, cache: &Path) -> Result<Kernel, Skip> {
    let root = cache.join(series.name);
    let ready = root.join("release");
    if !ready.is_file() {
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(&root).unwrap();
        let release = fetch(series, cache, &root)?;
        fs::write(&ready, release).unwrap();
    }
    let release = fs::read_to_string(&ready).unwrap();
    let image = [
        root.join(format!("boot/vmlinuz-{release}")),
        root.join(format!("usr/lib/modules/{release}/vmlinuz")),
    ];
    let image = image.into_iter().find(|path| path.is_file()).expect("the package has a kernel");
    Ok(Kernel { release, image, root })
}

fn fetch(series: Series, cache: &Path, root: &Path) -> Result<String, Skip> {
    let apt = Apt::new(cache)?;
    let mut release = String::new();
    for prefix in series.packages {
        let package = apt.newest(prefix, series.suite)?;
        package.trim_start_matches(|c: char| !c.is_ascii_digit()).clone_into(&mut release);
        let archive = apt.download(&package, series.suite)?;
        text(tool("dpkg-deb")?.arg("-x").arg(&archive).arg(root));
        fs::remove_file(archive).unwrap();
    }
    // Newer packages have their modules below /usr.
    if !root.join("lib/modules").exists() {
        fs::create_dir_all(root.join("lib")).unwrap();
        std::os::unix::fs::symlink("../usr/lib/modules", root.join("lib/modules")).unwrap();
    }
    // It warns of lists that a package leaves to its installation.
    assert!(output(tool("depmod")?.arg("-b").arg(root).arg(&release)).status.success(), "depmod {release}");
    Ok(release)
}

/// apt with a state of its own.
struct Apt {
    directory: PathBuf,
}

impl Apt {
    fn new(cache: &Path) -> Result<Self, Skip> {
        let apt = Self { directory: cache.join("apt") };
        let ready = apt.directory.join("ready");
        if ready.exists() {
            return Ok(apt);
        }
        let mirror = mirror().ok_or_else(|| Skip("apt's sources name no mirror of Debian".into()))?;
        for directory in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(apt.directory.join(directory)).unwrap();
        }
        let mut suites: Vec<&str> = SERIES.iter().map(|series| series.suite).collect();
        suites.dedup();
        let sources: Vec<String> =
            suites.iter().map(|suite| format!("deb [signed-by={KEYRING}] {mirror} {suite} main\n")).collect();
        fs::write(apt.directory.join("sources.list"), sources.concat()).unwrap();
        let result = output(apt.command("apt-get")?.arg("update"));
        if !result.status.success() {
            return Err(Skip(format!("apt-get update: {}", last_line(&result.stderr))));
        }
        fs::write(ready, "").unwrap();
        Ok(apt)
    }

    fn command(&self, program: &str) -> Result<Command, Skip> {
        let mut command = tool(program)?;
        let path = |name: &str| self.directory.join(name).display().to_string();
        for option in [
            format!("Dir::Etc::sourcelist={}", path("sources.list")),
            "Dir::Etc::sourceparts=/dev/null".into(),
            format!("Dir::State::lists={}", path("lists")),
            format!("Dir::Cache={}", path("cache")),
            // Else it warns that its own user may not write here.
            "APT::Sandbox::User=root".into(),
        ] {
            command.arg("-o").arg(option);
        }
        command.current_dir(&self.directory);
        Ok(command)
    }

    /// The package of that prefix with the highest version, for this kind of machine.
    fn newest(&self, prefix: &str, suite: &str) -> Result<String, Skip> {
        let names = text(self.command("apt-cache")?.arg("pkgnames").arg(prefix));
        let of_suite = |name: &&str| {
            name.strip_prefix(prefix).and_then(|rest| rest.strip_suffix("-amd64")).is_some_and(|rest| {
                !["rt", "cloud", "unsigned", "dbg"].iter().any(|other| rest.contains(other))
            })
        };
        let mut names: Vec<&str> = names.lines().filter(of_suite).collect();
        names.sort_by_key(|name| numbers(name));
        // A suite keeps the index of packages that its archive no longer has, so the newest is taken.
        let newest = names.last().ok_or_else(|| Skip(format!("{suite} has no package `{prefix}…-amd64`")))?;
        Ok((*newest).to_owned())
    }

    fn download(&self, package: &str, suite: &str) -> Result<PathBuf, Skip> {
        let before: Vec<PathBuf> = archives(&self.directory);
        let result = output(self.command("apt-get")?.args(["download", package]));
        if !result.status.success() {
            return Err(Skip(format!(
                "apt-get download {package} of {suite}: {}",
                last_line(&result.stderr)
            )));
        }
        let new = archives(&self.directory).into_iter().find(|path| !before.contains(path));
        Ok(new.expect("apt-get download leaves an archive"))
    }
}

fn archives(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().flatten().map(|entry| entry.path());
    entries.filter(|path| path.extension().is_some_and(|extension| extension == "deb")).collect()
}

fn last_line(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().lines().last().unwrap_or("no message").to_owned()
}

/// The numbers in a name, which are its version.
fn numbers(name: &str) -> Vec<u64> {
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect()
}

/// The first mirror of Debian in the system's own sources, of either form.
fn mirror() -> Option<String> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    files.extend(fs::read_dir("/etc/apt/sources.list.d").ok()?.flatten().map(|entry| entry.path()));
    files.sort();
    files.iter().filter_map(|path| fs::read_to_string(path).ok()).find_map(|text| {
        let words = text.lines().filter(|line| !line.trim_start().starts_with('#')).flat_map(|line| {
            let wanted = line.starts_with("URIs:") || line.starts_with("deb ");
            line.split_whitespace().filter(move |_| wanted)
        });
        let mirror = |word: &&str| word.contains("://") && word.trim_end_matches('/').ends_with("/debian");
        words.filter(|word| mirror(word)).map(str::to_owned).next()
    })
}
