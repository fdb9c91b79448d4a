use super::*;
use std::{io::Write as _, path::PathBuf};
use tapster_ebpf::tracefs::fields;

fn said() -> KernelHints {
    KernelHints { version: Some(KernelVersion(6, 1, 0)), arch: Some(Arch::X86_64) }
}

/// Every format that BTF gives for certain is that of the kernel that runs here.
#[test]
fn formats_are_those_of_tracefs() {
    let tracing = Path::new("/sys/kernel/tracing");
    let (Ok(types), Ok(events)) =
        (fs::read("/sys/kernel/btf/vmlinux"), fs::read_to_string(tracing.join("available_events")))
    else {
        println!("skipped: no BTF, or tracefs cannot be read");
        return;
    };
    let btf = Btf::parse(types).unwrap();
    let (mut known, mut unknown) = (0, 0);
    // Those of modules are not in the kernel's own types.
    for (category, name) in events.lines().filter_map(|line| line.split_once(':')) {
        let path = tracing.join("events").join(category).join(name).join("format");
        let Ok(text) = fs::read_to_string(path) else { continue };
        let expected: Vec<_> =
            fields(&text).into_iter().filter(|field| !field.name.starts_with("common_")).collect();
        let place = |field: &tapster_ebpf::tracefs::Field| {
            (field.name.clone(), field.offset, field.size, field.located())
        };
        match formats::format(&btf, category, name) {
            EventFormat::Known(derived) => {
                let found = fields(&derived);
                let expected: Vec<_> = expected.iter().map(place).collect();
                assert_eq!(found.iter().map(place).collect::<Vec<_>>(), expected, "{category}:{name}");
                known += 1;
            }
            EventFormat::Partly(derived) => {
                let expected: Vec<_> = expected.iter().map(place).collect();
                for field in fields(&derived) {
                    assert!(expected.contains(&place(&field)), "{category}:{name}: {field:?}");
                }
                // Of a system call its number is known.
                unknown += usize::from(category != "syscalls");
            }
            EventFormat::Unknown | EventFormat::Absent => unknown += 1,
        }
    }
    println!("{known} formats known, {unknown} not");
    assert!(known > 3 * unknown, "{known} known, {unknown} not");
}

#[test]
fn what_is_no_kernel_is_refused_in_a_sentence() {
    let gzip = |bytes: &[u8]| {
        let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        writer.write_all(bytes).unwrap();
        writer.finish().unwrap()
    };
    let mut boot = vec![0; 4096];
    boot[0x1f1] = 1;
    boot[0x202..0x206].copy_from_slice(b"HdrS");
    boot[0x24c..0x250].copy_from_slice(&64_u32.to_le_bytes());
    boot[1024..1028].copy_from_slice(&[0x28, 0xb5, 0x2f, 0xfd]);
    let mut short = boot.clone();
    short[0x24c..0x250].copy_from_slice(&u32::MAX.to_le_bytes());
    let mut arm = vec![0; 4096];
    arm[56..60].copy_from_slice(b"ARM\x64");
    let nested = (0..6).fold(b"text".to_vec(), |bytes, _| gzip(&bytes));
    let types: Vec<u8> =
        [0x0001_eb9f_u32, 24, 0, 0, 0, 1].iter().flat_map(|word| word.to_le_bytes()).chain([0]).collect();
    for (bytes, expected) in [
        (Vec::new(), "it is neither BTF nor a kernel nor an archive of them"),
        (b"\xeb\x9f\x01\x00".to_vec(), "it is BTF in another byte order than this machine's"),
        (
            b"\x9f\xeb\x01\x00".to_vec(),
            "the BTF is damaged: not BTF of version 1 in this machine's byte order",
        ),
        (b"\x7fELF".to_vec(), "its ELF cannot be read: it does not begin like one"),
        (gzip(b"text"), "it is neither BTF nor a kernel nor an archive of them"),
        (gzip(b"text")[..20].to_vec(), "what is packed in it is not whole: "),
        (nested, "it is packed again and again"),
        (b"\x28\xb5\x2f\xfd".to_vec(), "it is packed by zstd, which is not unpacked here"),
        (boot, "the kernel in the boot image is packed by zstd, which is not unpacked here"),
        (short, "the boot image is not whole"),
        (arm, "there is no BTF in the image"),
        (types, "its BTF has types and no functions"),
    ] {
        let found = of_bytes(Path::new("x"), bytes, said()).pop().unwrap().unwrap_err();
        assert!(found.message.starts_with(&format!("`x`: {expected}")), "{}", found.message);
    }
}

#[test]
fn a_directory_is_searched_within_bounds() {
    let directory = tempfile::tempdir().unwrap();
    let write = |path: &str| {
        let path = directory.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, b"\x9f\xeb\x01").unwrap();
    };
    for path in ["5.10.btf", "5.4.btf", "host/sys/kernel/btf/vmlinux", "types/vmlinux", "types/ext4"] {
        write(path);
    }
    fs::write(directory.path().join("readme.txt"), "no types").unwrap();
    std::os::unix::fs::symlink(directory.path(), directory.path().join("circle")).unwrap();
    let found: Vec<(bool, PathBuf)> = places(&[directory.path()])
        .unwrap()
        .iter()
        .map(|place| {
            let path = place.path().strip_prefix(directory.path()).unwrap();
            (matches!(place, KernelSource::File(_)), path.to_owned())
        })
        .collect();
    let mut found: Vec<(bool, &str)> =
        found.iter().map(|(file, path)| (*file, path.to_str().unwrap())).collect();
    found.sort_by_key(|(file, _)| *file);
    assert_eq!(found, [(false, "host"), (false, "types"), (true, "5.4.btf"), (true, "5.10.btf")]);
    let empty = tempfile::tempdir().unwrap();
    let message = places(&[empty.path()]).unwrap_err().message;
    assert!(message.ends_with("there is no BTF in the directory"), "{message}");
}

/// BTF of these functions without parameters, each name at its place from `begin` on.
fn functions(names: &[&str], begin: u32) -> Vec<u8> {
    let mut strings = vec![0];
    // A prototype, then a function of it for each name.
    let mut words = vec![0, 13 << 24, 0];
    for name in names {
        words.extend([begin + u32::try_from(strings.len()).unwrap(), 12 << 24, 1]);
        strings.extend(name.bytes().chain([0]));
    }
    let length = |bytes: usize| u32::try_from(bytes).unwrap();
    let types = length(words.len() * 4);
    let header = [0x0001_eb9f, 24, 0, types, types, length(strings.len())];
    header.iter().chain(&words).flat_map(|word| word.to_le_bytes()).chain(strings).collect()
}

#[test]
fn functions_of_modules_are_found_by_their_names() {
    let directory = tempfile::tempdir().unwrap();
    let kernel = functions(&["vfs_read"], 0);
    let names = u32::try_from("\0vfs_read\0".len()).unwrap();
    fs::write(directory.path().join("vmlinux"), kernel).unwrap();
    fs::write(directory.path().join("raid1"), functions(&["raid1_make_request"], names)).unwrap();
    let places = places(&[directory.path()]).unwrap();
    assert_eq!(places, [KernelSource::Types(directory.path().into())]);
    let kernel = read(&places[0], said()).pop().unwrap().unwrap();
    assert!(kernel.has_function("vfs_read") && kernel.has_function("raid1_make_request"));
    assert!(!kernel.has_function("raid1") && !kernel.has_function(""));
    // Beside another kernel it is one of several.
    fs::write(directory.path().join("5.10.btf"), functions(&["vfs_read"], 0)).unwrap();
    assert_eq!(super::places(&[directory.path()]).unwrap().len(), 3);
}
