//! Names of kernel functions.

use super::super::ksym::KsymDecoder;
use super::*;

const KALLSYMS: &str = "\
0000000000000000 A fixed_percpu_data
ffffffff81000000 T _stext
ffffffff81000100 t static_one
ffffffff81000100 T global_one
ffffffff81000200 W weak_two
ffffffff81000200 t static_two
ffffffff81000300 t last_text
ffffffff81000400 D data
ffffffff81000500 d more_data
ffffffffc0000000 t init\t[disk]
ffffffffc0000800 T disk_read\t[disk]
ffffffffc0001000 d disk_data\t[disk]
ffffffffc0010000 t net_poll\t[net]
ffffffffc0200000 t bpf_prog_6deef7357e7b4530_tap\t[bpf]
";

const MODULES: &str = "\
disk 8192 1 - Live 0xffffffffc0000000
net 4096 3 disk,other, Live 0xffffffffc0010000 (O)
";

fn fixture() -> Fixture {
    let fixture = Fixture::new();
    fixture.write("proc/kallsyms", KALLSYMS);
    fixture.write("proc/modules", MODULES);
    fixture
}

#[test]
fn addresses_fall_into_functions() {
    let fixture = fixture();
    let mut decoder = KsymDecoder::new(&fixture.host()).expect("kallsyms is there");
    for (address, expected) in [
        (0, "[unknown]"),
        (0x1000, "[unknown]"),
        (0xffff_ffff_80ff_ffff, "[unknown]"),
        (0xffff_ffff_8100_0000, "_stext"),
        (0xffff_ffff_8100_00ff, "_stext"),
        (0xffff_ffff_8100_0100, "global_one"),
        (0xffff_ffff_8100_0250, "weak_two"),
        (0xffff_ffff_8100_03ff, "last_text"),
        (0xffff_ffff_8100_0400, "[unknown]"),
        (0xffff_ffff_9000_0000, "[unknown]"),
        (0xffff_ffff_c000_0010, "init"),
        (0xffff_ffff_c000_0fff, "disk_read"),
        // In a module, but in none of its functions.
        (0xffff_ffff_c000_1000, "[disk]"),
        (0xffff_ffff_c001_0fff, "net_poll"),
        // Behind the end of the module, although no other symbol follows.
        (0xffff_ffff_c001_1000, "[unknown]"),
        (0xffff_ffff_c020_0004, "bpf_prog_6deef7357e7b4530_tap"),
        (u64::MAX, "[unknown]"),
    ] {
        assert_eq!(text(&mut decoder, address), expected);
    }
    assert_eq!(decoder.decode(&[]).as_deref(), Some("[unknown]"));
}

#[test]
fn a_changed_module_list_is_noticed_at_the_next_scrape() {
    let fixture = fixture();
    let mut decoder = KsymDecoder::new(&fixture.host()).expect("kallsyms is there");
    assert_eq!(text(&mut decoder, 0xffff_ffff_c000_0800), "disk_read");
    // Another module takes the place of the first.
    fixture.write("proc/kallsyms", &KALLSYMS.replace("disk_read\t[disk]", "tape_read\t[tape]"));
    decoder.refresh(&Arc::default());
    assert_eq!(text(&mut decoder, 0xffff_ffff_c000_0800), "disk_read");
    fixture.write("proc/modules", &MODULES.replace("disk 8192 1", "disk 8192 7"));
    decoder.refresh(&Arc::default());
    assert_eq!(text(&mut decoder, 0xffff_ffff_c000_0800), "disk_read");
    fixture.write("proc/modules", &MODULES.replace("disk 8192", "tape 8192"));
    decoder.refresh(&Arc::default());
    assert_eq!(text(&mut decoder, 0xffff_ffff_c000_0800), "tape_read");
}

#[test]
fn an_unknown_address_makes_the_table_be_read_once_a_scrape() {
    let fixture = fixture();
    let mut decoder = KsymDecoder::new(&fixture.host()).expect("kallsyms is there");
    let [first, second] = [0xffff_ffff_d000_0000, 0xffff_ffff_d000_1000];
    assert_eq!(text(&mut decoder, first), "[unknown]");
    let with = format!("{KALLSYMS}{first:x} t bpf_prog_a [bpf]\n{second:x} t bpf_prog_b [bpf]\n");
    fixture.write("proc/kallsyms", &with);
    decoder.refresh(&Arc::default());
    // The address is known to have no name.
    assert_eq!(text(&mut decoder, first), "[unknown]");
    assert_eq!(text(&mut decoder, second), "bpf_prog_b");
    assert_eq!(decoder.functions.name(first).as_deref(), Some("bpf_prog_a"));
}

#[test]
fn a_series_of_several_addresses_goes_neither_down_nor_up_by_a_name() {
    let fixture = fixture();
    let mut decoder = KsymDecoder::new(&fixture.host()).expect("kallsyms is there");
    let [unknown, module] = [0xffff_ffff_d000_0000, 0xffff_ffff_c000_0800];
    assert_eq!(text(&mut decoder, unknown), "[unknown]");
    assert_eq!(text(&mut decoder, module), "disk_read");
    fixture.write("proc/kallsyms", &format!("ffffffff81000000 T _stext\n{unknown:x} t bpf_prog_a [bpf]\n"));
    fixture.write("proc/modules", "");
    decoder.refresh(&Arc::default());
    assert_eq!(text(&mut decoder, unknown), "[unknown]", "counted there before it had a name");
    assert_eq!(text(&mut decoder, module), "disk_read", "counted there before the module went");
    assert_eq!(text(&mut decoder, unknown + 4), "bpf_prog_a");
}

#[test]
fn nothing_is_said_of_addresses_before_the_table_can_be_read() {
    let fixture = fixture();
    let mut decoder = KsymDecoder::new(&fixture.host()).expect("kallsyms is there");
    fs::remove_file(fixture.host().proc.join("kallsyms")).expect("it was there");
    let address = 0xffff_ffff_8100_0000_u64.to_le_bytes();
    assert_eq!(decoder.decode(&address), None);
    fixture.write("proc/kallsyms", KALLSYMS);
    decoder.refresh(&Arc::default());
    assert_eq!(decoder.decode(&address).as_deref(), Some("_stext"));
}

#[test]
fn hidden_addresses_and_odd_lines() {
    let fixture = Fixture::new();
    fixture.write("proc/modules", "disk 8192 1 - Live 0x0000000000000000\n");
    let zero = "0000000000000000 T vfs_read\n0000000000000000 t x\t[disk]\n";
    for kallsyms in ["", zero, "\n\nzz T x\nffffffff81000000\nffffffff81000000 T\n\u{fffd}"] {
        fixture.write("proc/kallsyms", kallsyms);
        let mut decoder = KsymDecoder::new(&fixture.host()).expect("kallsyms is there");
        assert_eq!(text(&mut decoder, 0xffff_ffff_8100_0000), "[unknown]");
    }
}

#[test]
fn functions_of_this_kernel() {
    if !is_root() {
        return;
    }
    let Ok(kallsyms) = fs::read_to_string("/proc/kallsyms") else {
        eprintln!("skipped: no `/proc/kallsyms`");
        return;
    };
    let line = kallsyms.lines().find(|line| line.ends_with(" T vfs_read"));
    let address = line.and_then(|line| u64::from_str_radix(line.split(' ').next()?, 16).ok());
    let Some(address) = address.filter(|address| *address != 0) else {
        eprintln!("skipped: addresses are hidden");
        return;
    };
    let mut decoder = KsymDecoder::new(&Host::default()).expect("kallsyms is there");
    assert_eq!(text(&mut decoder, address), "vfs_read");
    assert_eq!(text(&mut decoder, address + 4), "vfs_read");
    assert_eq!(text(&mut decoder, 8), "[unknown]");
}
