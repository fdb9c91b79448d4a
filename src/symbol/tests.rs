//! Files that this process and others have mapped.

use super::*;
use crate::elf;
use files::Files;
use mapping::{Inode, read};
use std::{
    fs::File,
    io::{BufRead, BufReader},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Instant,
};
use tapster_ebpf::{
    attach::{Place, SiteRequest},
    probe::Root,
    typed::Side,
};

fn parse(line: &str) -> Option<mapping::Mapping> {
    read(line.as_bytes()).pop()
}

#[test]
fn lines_of_maps() {
    let mapping =
        parse("55d0-55e0 r-xp 00001000 fd:01 1234                 /usr/bin/a b (deleted)").expect("is one");
    assert_eq!((mapping.from, mapping.to, mapping.offset), (0x55d0, 0x55e0, 0x1000));
    assert_eq!(mapping.inode, Some(Inode { device: (0xfd, 1), number: 1234 }));
    assert_eq!(mapping.path, Path::new("/usr/bin/a b (deleted)"));
    let vdso = parse("7ffc0-7ffc1 r-xp 00000000 00:00 0                          [vdso]").expect("is one");
    assert_eq!((vdso.inode, vdso.path.as_path()), (None, Path::new("[vdso]")));
    let nameless = parse("7f00-7f10 rwxp 00000000 00:00 0 ").expect("is one");
    assert_eq!((nameless.inode, nameless.path.as_path()), (None, Path::new("")));
    for other in [
        "7f00-7f10 rw-p 00000000 00:00 0 ",
        "",
        "7f00",
        "7f00-7f10",
        "7f00-7f10 r-xp",
        "7f00-7f10 r-xp 0 0 0",
        "x-7f10 r-xp 00000000 00:00 0 ",
    ] {
        assert_eq!(parse(other), None, "{other}");
    }
}

#[test]
fn frames_as_the_kernel_writes_them() {
    let mut bytes = Vec::new();
    for (status, id, place) in [(1_u32, 7_u8, 0x1000_u64), (2, 0, 0x2000), (0, 0, 0)] {
        bytes.extend(status.to_le_bytes());
        bytes.extend([id; 20]);
        bytes.extend(place.to_le_bytes());
    }
    let file = Frame::File { build_id: [7; 20], offset: 0x1000 };
    assert_eq!(frames(Side::User, &bytes), [file, Frame::Address(0x2000)]);
    assert_eq!(frames(Side::User, &bytes[..31]), []);
    let kernel = [Frame::Kernel(0x0707_0707_0000_0001)];
    assert_eq!(frames(Side::Kernel, &bytes[..8]), kernel);
}

#[inline(never)]
fn tapster_symbol_test_function() {}

/// This process, with its file known from its mappings.
#[test]
fn functions_of_this_program() {
    let function = std::hint::black_box(tapster_symbol_test_function as fn());
    let files = Files::new("/proc".into(), Host::default().online_cpus());
    // A busy machine may take longer than a scrape would wait.
    let named = |frame: Frame, process: u32| {
        let begun = Instant::now();
        loop {
            files.look();
            match files.names(&[frame], process).pop() {
                Some(Some((name, true))) => return name,
                other => assert!(begun.elapsed().as_secs() < 60, "{other:?}"),
            }
        }
    };
    let at = |build_id, offset| named(Frame::File { build_id, offset }, 0);
    let address = u64::try_from(function as usize).expect("64 bits");
    let process = std::process::id();
    let name = concat!(module_path!(), "::tapster_symbol_test_function");
    assert_eq!(named(Frame::Address(address), process), name);
    assert_eq!(named(Frame::Address(16), process), UNKNOWN, "nothing is there");
    assert_eq!(named(Frame::Address(address), 0), UNKNOWN);
    let own = std::env::current_exe().expect("there is one");
    let wanted = SiteRequest { function: name, at_return: false, whole: false, most: 10, stacks: false };
    let mut found = elf::Binary::open(Path::new("/proc"), &Root::Host, &own.display().to_string())
        .and_then(elf::read)
        .and_then(|file| elf::choose(&file, &wanted))
        .expect("it has symbols");
    let Some(Place::File { entry: located, .. }) = found.sites.pop().map(|site| site.place) else {
        panic!("it is in no file")
    };
    let Ok(Some(id)) = elf::build_id(&File::open(&own).expect("readable")) else {
        return println!("skipped: this linker writes no build id");
    };
    let mut build_id = [0; 20];
    build_id[..id.len()].copy_from_slice(&id);
    assert_eq!(at(build_id, located), name);
    // Data that was mistaken for an address, and a file that no process has.
    assert_eq!(at(build_id, u64::MAX - 5), UNKNOWN);
    assert_eq!(at(build_id, 1 << 40), UNKNOWN);
    assert_eq!(at([0xab; 20], 0x123), "[abababab+0x123]");
    assert_eq!(at([0xab; 20], u64::MAX - 5), UNKNOWN);
}

/// Compiles a program with a function of this name, whose address it prints; `None` without a compiler. Its data contains the
/// name as well, because linkers make build ids from what is loaded, not from symbols.
fn program(directory: &Path, function: &str, build_id: &str) -> Option<PathBuf> {
    let (source, program) = (directory.join("source.c"), directory.join("made"));
    let text = format!(
        "#include <stdio.h>\n#include <unistd.h>\nvoid {function}(void) {{}}\n\
         int main(void) {{ printf(\"%p {function}\\n\", (void *){function}); fflush(stdout); pause(); return 0; }}\n"
    );
    std::fs::write(&source, text).unwrap();
    let made = Command::new("cc").arg(build_id).arg("-o").args([&program, &source]).status();
    made.is_ok_and(|status| status.success()).then_some(program)
}

/// A program that runs until this is dropped, and the address of its function.
struct Runs(Child, u64);

impl Runs {
    fn begin(program: &Path) -> Self {
        let mut child = Command::new(program).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address =
            u64::from_str_radix(line.split(' ').next().unwrap().trim_start_matches("0x"), 16).unwrap();
        Self(child, address)
    }
}

impl Drop for Runs {
    fn drop(&mut self) {
        let _ = (self.0.kill(), self.0.wait());
    }
}

/// A file is removed, and another gets its name and its inode number, as file systems on disks do at once.
#[test]
fn a_number_of_a_file_that_is_used_again() {
    // A file system in memory gives another number each time.
    let directory = tempfile::tempdir_in(std::env::current_exe().unwrap().parent().unwrap()).unwrap();
    for build_id in ["-Wl,--build-id=none", "-Wl,--build-id=sha1"] {
        let files = Files::new("/proc".into(), Host::default().online_cpus());
        let path = directory.path().join("program");
        let mut numbers = Vec::new();
        for round in 0..20 {
            let function = format!("function_of_round_{round}");
            let Some(made) = program(directory.path(), &function, build_id) else {
                return println!("skipped: no C compiler");
            };
            let _ = std::fs::remove_file(&path);
            std::fs::copy(&made, &path).unwrap();
            let number = std::fs::metadata(&path).unwrap().ino();
            let running = Runs::begin(&path);
            let (frame, process) = (Frame::Address(running.1), running.0.id());
            let begun = Instant::now();
            let name = loop {
                files.look();
                match files.names(&[frame], process).pop() {
                    Some(Some((name, true))) => break name,
                    other => assert!(begun.elapsed().as_secs() < 60, "{other:?}"),
                }
            };
            assert_eq!(name, function, "round {round} of files numbered {numbers:?}, {number}");
            if numbers.contains(&number) {
                break;
            }
            numbers.push(number);
        }
    }
}

#[test]
fn names_are_one_frame_and_no_longer_than_need_be() {
    assert_eq!(shown("_ZN5story6hasher4readEPKcj"), "story::hasher::read");
    assert_eq!(shown("a;b\n"), "a:b:");
    let long = shown(&"ä".repeat(300));
    assert!(long.len() <= LONGEST_NAME && long.ends_with("ä…"), "{long}");
}
