//! The root file system of a guest: an initramfs with busybox, the programs of a scenario with their libraries, and
//! the modules of one kernel.

use super::kernel::Kernel;
use crate::support::{
    cases::Skip,
    command::{output, text, tool},
};
use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    path::{Path, PathBuf},
};

/// What arrays are made of, and what a guest needs to give its results back.
const MODULES: [&str; 32] = [
    "brd",
    "null_blk",
    "loop",
    "zram",
    "scsi_debug",
    "sd_mod",
    "md-mod",
    "raid0",
    "raid1",
    "raid10",
    "raid456",
    "linear",
    "md-linear",
    "dm-mod",
    "dm-delay",
    "dm-mirror",
    "dm-raid",
    "dm-multipath",
    "dm-round-robin",
    "nvmet-tcp",
    "nvme-tcp",
    "ext4",
    "xfs",
    "btrfs",
    "overlay",
    "virtio_blk",
    "virtio_scsi",
    "ahci",
    "nvme",
    "virtio_pci",
    "virtio_net",
    "fuse",
];

/// Files of an initramfs, as the kernel unpacks them one after the other.
#[derive(Debug, Default)]
pub(crate) struct Image {
    bytes: Vec<u8>,
    known: BTreeSet<PathBuf>,
    inode: u32,
}

impl Image {
    /// Directories above `path`; the kernel makes none by itself.
    fn parents(&mut self, path: &Path) {
        let mut above: Vec<&Path> =
            path.ancestors().skip(1).filter(|above| *above != Path::new("")).collect();
        above.reverse();
        for directory in above {
            if self.known.insert(directory.to_owned()) {
                self.entry(directory, 0o040_755, &[]);
            }
        }
    }

    fn entry(&mut self, path: &Path, mode: u32, content: &[u8]) {
        self.inode += 1;
        let builder =
            cpio::newc::Builder::new(&path.display().to_string()).mode(mode).ino(self.inode).nlink(1);
        let size = u32::try_from(content.len()).expect("files are smaller than 4 GiB");
        let mut writer = builder.write(&mut self.bytes, size);
        writer.write_all(content).unwrap();
        writer.finish().unwrap();
    }

    /// A file with this content; the path has no leading slash.
    pub(crate) fn file(&mut self, path: impl AsRef<Path>, content: &[u8], mode: u32) {
        let path = path.as_ref();
        self.parents(path);
        if self.known.insert(path.to_owned()) {
            self.entry(path, 0o100_000 | mode, content);
        }
    }

    fn link(&mut self, path: impl AsRef<Path>, target: &str) {
        let path = path.as_ref();
        self.parents(path);
        if self.known.insert(path.to_owned()) {
            self.entry(path, 0o120_777, target.as_bytes());
        }
    }

    fn directory(&mut self, path: impl AsRef<Path>) {
        self.parents(&path.as_ref().join("x"));
    }

    /// A program of this host under its name, with the libraries that it is linked to.
    pub(crate) fn program(&mut self, path: &Path) -> Result<(), Skip> {
        let name = path.file_name().expect("a program has a name");
        self.file(Path::new("bin").join(name), &fs::read(path).unwrap(), 0o755);
        // It fails for what is linked statically.
        let libraries = output(tool("ldd")?.arg(path));
        for word in String::from_utf8_lossy(&libraries.stdout).split_whitespace() {
            if let Some(inside) = word.strip_prefix('/') {
                self.file(inside, &fs::read(word).unwrap(), 0o755);
            }
        }
        Ok(())
    }

    /// Programs of this host by name.
    pub(crate) fn tools(&mut self, names: &[&str]) -> Result<(), Skip> {
        names.iter().try_for_each(|name| {
            let command = tool(name)?;
            self.program(Path::new(command.get_program()))
        })
    }

    /// busybox under its own and all its names, the directories of a system, and its first process with what that needs. What is
    /// built for it is built in `directory`.
    pub(crate) fn system(&mut self, directory: &Path) -> Result<(), Skip> {
        for name in ["dev", "proc", "sys", "tmp", "run", "etc", "results"] {
            self.directory(name);
        }
        // Where the kernel and LVM look for modprobe.
        for name in ["sbin", "usr/bin", "usr/sbin"] {
            self.link(name, "/bin");
        }
        let busybox = tool("busybox")?;
        self.program(Path::new(busybox.get_program()))?;
        for name in text(tool("busybox")?.arg("--list")).lines() {
            self.link(Path::new("bin").join(name), "/bin/busybox");
        }
        self.file("init", include_bytes!("init.sh"), 0o755);
        self.file("lib.sh", include_bytes!("lib.sh"), 0o644);
        let stalls = directory.join("stalls");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/stalls.c");
        text(tool("cc")?.args(["-O1", "-static", "-o"]).arg(&stalls).arg(source));
        self.program(&stalls)?;
        Ok(())
    }

    /// The modules that the scenarios use, with those that they need.
    pub(crate) fn modules(&mut self, kernel: &Kernel) -> Result<(), Skip> {
        let work = tempfile::tempdir().unwrap();
        let base = PathBuf::from("lib/modules").join(&kernel.release);
        for module in MODULES {
            // Built in, or not in this kernel: `linear` left with 6.8 and came back with 6.14.
            let mut command = tool("modprobe")?;
            let needed = output(command.arg("-d").arg(&kernel.root).args([
                "-S",
                &kernel.release,
                "--show-depends",
                module,
            ]));
            for line in String::from_utf8_lossy(&needed.stdout).lines() {
                let Some(path) = line.strip_prefix("insmod ").and_then(|rest| rest.split_whitespace().next())
                else {
                    continue;
                };
                let inside = path.split_once("/kernel/").expect("modules are below `kernel`").1;
                let plain = base.join("kernel").join(inside.trim_end_matches(".xz"));
                let copy = work.path().join(&plain);
                if copy.exists() {
                    continue;
                }
                fs::create_dir_all(copy.parent().unwrap()).unwrap();
                if Path::new(path).extension().is_some_and(|extension| extension == "xz") {
                    let unpacked = output(tool("xz")?.arg("-dc").arg(path));
                    assert!(unpacked.status.success(), "xz -dc {path}");
                    fs::write(&copy, unpacked.stdout).unwrap();
                } else {
                    fs::copy(path, &copy).unwrap();
                }
                self.file(&plain, &fs::read(&copy).unwrap(), 0o644);
            }
        }
        output(tool("depmod")?.arg("-b").arg(work.path()).arg(&kernel.release));
        for list in ["modules.dep", "modules.alias"] {
            let path = base.join(list);
            self.file(&path, &fs::read(work.path().join(&path)).unwrap(), 0o644);
        }
        Ok(())
    }

    /// The archive, ended. The kernel takes several, one behind the other.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        cpio::newc::trailer(&mut self.bytes).unwrap();
        self.bytes
    }
}
