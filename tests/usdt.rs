//! Probes that a program brings along: its own values, as many as it passed, of every width and from every place that the
//! compiler keeps them in.
//!
//! Probes are attached to programs that the test builds, and to nothing else of the host.

#![allow(clippy::unwrap_used, reason = "a panic is a test's report")]

use tapster_testing as support;

use std::{
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};
use support::{
    cases::{Cases, Outcome, Skip},
    command::{output, sdt_header, text, tool},
    exporter::{Tapster, binary, within},
    metrics::{Metrics, whole},
};
use tapster::{
    elf::{self, Binary},
    sys,
};
use tapster_ebpf::probe::Root;

const PROBES: &str = r#"
probes:
  - name: widths
    at: "usdt:PROGRAM:shop:widths"
    labels: { a: arg0, b: arg1, c: arg2, d: arg3, e: arg4, f: arg5, g: arg6, h: arg7 }
    metrics: [{ counter: widths_total, help: x }]
  - name: element
    at: "usdt:PROGRAM:shop:element"
    labels: { long: arg0, short: arg1 }
    metrics: [{ counter: element_total, help: x }]
  - name: fixed
    at: "usdt:PROGRAM:shop:fixed"
    labels: { a: arg0, b: arg1, c: arg2 }
    metrics: [{ counter: fixed_total, help: x }]
  - name: round
    at: "usdt:PROGRAM:shop:round"
    labels: { number: arg0 }
    metrics: [{ counter: round_total, help: x }]
  - name: step
    at: "usdt:PROGRAM:step"
    labels: { number: arg0 }
    metrics: [{ counter: step_total, help: x }]
  - name: passed
    at: "usdt:PROGRAM:step"
    metrics: [{ counter: passed_total, help: x }]
  - name: real
    at: "usdt:PROGRAM:shop:real"
    metrics: [{ counter: real_total, help: x, value: arg1 }]
  - name: order
    start:
      at: "usdt:PROGRAM:shop:order__start"
      key: [pid, tid]
      save: { id: arg0, item: "str(arg1, 8)", price: arg2 }
    end:
      at: "usdt:PROGRAM:shop:order__done"
      key: [pid, tid]
      where: arg0 == start.id && arg1 == (s16)-start.id
    labels: { item: start.item }
    metrics:
      - { histogram: order_duration_seconds, help: x, value: duration }
      - { counter: order_price_total, help: x, value: start.price }
"#;

/// How a program is built: its own file, and the one that has the probes.
fn build(directory: &Path, how: &[&str]) -> Result<(PathBuf, PathBuf), Skip> {
    if !sdt_header() {
        return Err(Skip("`sys/sdt.h` is not installed (systemtap-sdt-dev)".into()));
    }
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/shop.c");
    let program = directory.join("shop");
    let cc = || tool("cc");
    if how.contains(&"-shared") {
        let library = directory.join("libshop.so");
        text(cc()?.args(how).arg("-DLIBRARY").arg("-o").arg(&library).arg(&source));
        text(
            cc()?
                .args(["-O1", "-DCALLER", "-o"])
                .arg(&program)
                .arg(&source)
                .arg(&library)
                .arg("-Wl,-rpath,$ORIGIN"),
        );
        return Ok((program, library));
    }
    text(cc()?.args(how).arg("-o").arg(&program).arg(&source));
    Ok((program.clone(), program))
}

fn probes(directory: &Path, text: &str) -> PathBuf {
    let file = directory.join("probes.yaml");
    fs::write(&file, text).unwrap();
    file
}

/// Lines `NAME NUMBER` that the program printed.
fn line(output: &str, name: &str) -> u64 {
    output.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()).unwrap()
}

fn total(metrics: &Metrics, name: &str, labels: &[(&str, &str)]) -> u64 {
    whole(metrics.sum(name, labels))
}

fn values(how: &[&str]) -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let (program, with_probes) = build(directory.path(), how)?;
    Ok(checked(directory.path(), &program, &with_probes, how.contains(&"-DSEMAPHORES")))
}

/// Runs the program once while it is probed, and compares all that it passes.
fn checked(directory: &Path, program: &Path, with_probes: &Path, has_semaphores: bool) -> String {
    let listened = |output: &str| line(output, "listened");
    assert_eq!(listened(&text(Command::new(program).arg("3"))), 0, "nobody listens");
    let file = probes(directory, &PROBES.replace("PROGRAM", &with_probes.display().to_string()));
    let tapster = Tapster::start(&["--strict", "-c", file.to_str().unwrap()]);
    let printed = text(Command::new(program).args(["200", "1"]));
    let metrics = tapster.scrape();
    let count =
        |name: &str, labels: &[(&str, &str)]| total(&metrics, &format!("tapster_{name}_total"), labels);
    let highest = [
        ("a", "-1"),
        ("b", "-2"),
        ("c", "-3"),
        ("d", "-4"),
        ("e", "255"),
        ("f", "65535"),
        ("g", "4294967295"),
        ("h", "18446744073709551615"),
    ];
    assert_eq!(count("widths", &highest), 1, "{:?}", metrics.values("tapster_widths_total", &[], "a"));
    let low: Vec<(&str, String)> =
        highest.iter().zip(1..).map(|((name, _), n)| (*name, n.to_string())).collect();
    let low: Vec<(&str, &str)> = low.iter().map(|(name, text)| (*name, text.as_str())).collect();
    assert_eq!(count("widths", &low), 2);
    for (long, short) in [("11", "-1"), ("-12", "2"), ("13", "-3"), ("-14", "4")] {
        assert_eq!(count("element", &[("long", long), ("short", short)]), 1, "{long} {short}");
    }
    for counter in ["41", "42"] {
        assert_eq!(count("fixed", &[("a", "-7"), ("b", "200"), ("c", counter)]), 1, "{counter}");
    }
    for number in ["41", "-42"] {
        assert_eq!(count("round", &[("number", number)]), 1, "{number}");
    }
    // One probe at three places, with its argument elsewhere at each.
    for (number, times) in [("10", 1), ("20", 2), ("30", 3)] {
        assert_eq!(count("step", &[("number", number)]), times, "{number}");
    }
    assert_eq!(count("passed", &[]), 6, "all places");
    assert_eq!(count("real", &[]), 15, "the number beside one that cannot be read");
    let took = seconds(line(&printed, "orders"));
    let mut sum = 0.0;
    for (item, remainders) in [("milk", &[0][..]), ("bread", &[1, 2])] {
        let ids: Vec<u64> = (0..200).filter(|id| remainders.contains(&(id % 3))).collect();
        let orders = metrics.histogram("tapster_order_duration_seconds", &[("item", item)]);
        assert_eq!(orders.count(), u64::try_from(ids.len()).unwrap(), "{item}");
        assert_eq!(count("order_price", &[("item", item)]), ids.iter().sum::<u64>() * 1000, "{item}");
        let (lower, _) = orders.bucket_of_rank(1);
        assert!(lower >= 0.0005, "the shortest order within {lower} of 1 ms");
        sum += orders.sum;
    }
    assert!(sum >= 0.2 && sum <= took, "{sum} s of the program's {took} s");
    assert_eq!(count("probe_dropped", &[]), 0, "dropped");
    assert_eq!(listened(&printed), if has_semaphores { 200 } else { 0 }, "as the program sees its semaphore");
    let programs = metrics.values("tapster_probe_missed_total", &[("probe", "step")], "attach_point");
    assert_eq!(programs.len(), 1, "one series for one attach point: {programs:?}");
    drop(tapster);
    assert_eq!(listened(&text(Command::new(program).arg("3"))), 0, "nobody listens any more");
    format!("30 values, 200 orders took {sum:.3} s of the program's {took:.3} s")
}

#[expect(clippy::cast_precision_loss, reason = "under a minute")]
fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

/// Bytes of the notes' section in a file.
fn notes(bytes: &[u8]) -> std::ops::Range<usize> {
    use object::{Object, ObjectSection};
    let file = object::File::parse(bytes).unwrap();
    let (offset, size) = file.section_by_name(".note.stapsdt").unwrap().file_range().unwrap();
    usize::try_from(offset).unwrap()..usize::try_from(offset + size).unwrap()
}

/// Where each note begins.
fn each_note(bytes: &[u8], section: std::ops::Range<usize>) -> Vec<usize> {
    let word =
        |at: usize| usize::try_from(u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())).unwrap();
    let mut found = Vec::new();
    let mut at = section.start;
    while at < section.end {
        found.push(at);
        at += 12 + word(at).next_multiple_of(4) + word(at + 4).next_multiple_of(4);
    }
    found
}

/// A file that was moved to other addresses after its notes were written: only the base tells how far.
fn moved() -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let (program, _) = build(directory.path(), &["-O2", "-DSEMAPHORES"])?;
    let mut bytes = fs::read(&program).unwrap();
    for note in each_note(&bytes, notes(&bytes)) {
        for word in 0..3 {
            let at = note + 20 + word * 8;
            let address = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
            bytes[at..at + 8].copy_from_slice(&address.wrapping_sub(0x7000).to_le_bytes());
        }
    }
    fs::write(&program, bytes).unwrap();
    Ok(checked(directory.path(), &program, &program, true))
}

/// Where a place has both `nop`s, the kernel makes a call of the longer one: nobody is stopped by a trap. And values are those of the
/// program, one of them found by the distance from where it is.
fn both_nops() -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let (program, _) = build(directory.path(), &["-O2", "-no-pie", "-DLONG_NOP"])?;
    let counted = checked(directory.path(), &program, &program, false);
    let word = program.display().to_string();
    let binary = Binary::open(Path::new("/proc"), &Root::Host, &word).unwrap();
    for calls in [false, true] {
        let found = elf::usdt_probe(&binary, &word, Some("shop"), "order__start", calls).unwrap();
        let bytes = fs::read(&program).unwrap();
        let at = usize::try_from(found.locations[0].site.offset).unwrap();
        let nop: &[u8] = if calls { &[0x0f, 0x1f, 0x44] } else { &[0x90, 0x0f, 0x1f] };
        assert_eq!(bytes[at..at + 3], *nop);
    }
    if !sys::has_uprobe_call() {
        return Ok(format!("{counted}; this kernel traps at each `nop`"));
    }
    let found = elf::usdt_probe(&binary, &word, Some("shop"), "order__start", true).unwrap();
    let until = directory.path().join("until");
    fs::write(&until, "").unwrap();
    let file = probes(directory.path(), &PROBES.replace("PROGRAM", &word));
    let tapster = Tapster::start(&["--strict", "-c", file.to_str().unwrap()]);
    let mut child =
        Command::new(&program).args(["5", "1"]).arg(&until).stdout(Stdio::null()).spawn().unwrap();
    let memory = fs::File::open(format!("/proc/{}/mem", child.id())).unwrap();
    let is_call = within(Duration::from_secs(30), || {
        let mut byte = [0];
        memory.read_exact_at(&mut byte, found.locations[0].address + 1).is_ok() && byte == [0xe8]
    });
    fs::remove_file(&until).unwrap();
    child.wait().unwrap();
    drop(tapster);
    assert!(is_call.is_some(), "the place has become no call");
    Ok(format!("{counted}; the place is a call"))
}

/// The programs of a probe are one line of what `check` prints, and so are their places, as many as readelf has notes.
fn in_one_line() -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let (program, _) = build(directory.path(), &["-O1"])?;
    let at = format!("usdt:{}:shop:step", program.display());
    let file = probes(
        directory.path(),
        &format!(
            "probes: [{{ name: step, at: \"{at}\", labels: {{ number: arg0 }}, metrics: [{{ counter: step_total }}] }}]\n"
        ),
    );
    let printed = text(binary().args(["check", "--offline", "-c", file.to_str().unwrap()]));
    let readelf = text(tool("readelf")?.arg("-n").arg(&program));
    let places = readelf.lines().filter(|line| line.trim() == "Name: step").count();
    let lines: Vec<&str> = printed.lines().map(str::trim).collect();
    let [first, cost, way] = lines.as_slice() else { panic!("{printed}") };
    assert!(cost.starts_with("each label set is about 1 series"), "{printed}");
    assert!(
        first.starts_with(&format!("step  compiled  {places} programs")),
        "a form for each place: {printed}"
    );
    assert_eq!(*way, format!("{at} by usdt, {places} places"));
    Ok(format!("{places} places"))
}

fn refused() -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let (program, _) = build(directory.path(), &["-O2", "-DSEMAPHORES"])?;
    let whole = fs::read(&program).unwrap();
    let check = |path: &Path, probe: &str| {
        let text = format!(
            "probes:\n  - name: bad\n    at: \"{}\"\n    labels: {{ a: arg0 }}\n    metrics: [{{ counter: bad_total, help: x }}]\n",
            probe.replace("PROGRAM", &path.display().to_string())
        );
        let file = probes(directory.path(), &text);
        let output = output(binary().args(["check", "-c", file.to_str().unwrap()]));
        assert_eq!(output.status.code(), Some(2), "{probe}");
        String::from_utf8(output.stderr).unwrap()
    };
    let mut told = 0;
    let mut says = |path: &Path, probe: &str, wanted: &[&str]| {
        let message = check(path, probe);
        for wanted in wanted {
            assert!(message.contains(wanted), "{probe}: `{wanted}` in\n{message}");
        }
        told += 1;
    };
    says(&program, "usdt:PROGRAM:shop:order__begin", &["has no probe `order__begin`"]);
    says(&program, "usdt:PROGRAM:shop:order-start", &["has no probe `order-start`", ":shop:order__start`?"]);
    says(&program, "usdt:PROGRAM:shot:step", &["has no provider `shot`", ":shop:step`?"]);
    says(&program, "usdt:PROGRAM:steps", &["has no probe `steps`", ":shop:step`?"]);
    says(&program, "usdt:PROGRAM:shop:real", &["`arg0` cannot be read", "floating point"]);
    let beyond = check(&program, "usdt:PROGRAM:shop:round\"\n    where: arg3 == 1\n    help: \"x");
    assert!(beyond.contains("has no argument number 3"), "{beyond}");
    let changed = directory.path().join("changed");
    let section = notes(&whole);
    let write = |at: usize, new: &[u8]| {
        let mut bytes = whole.clone();
        bytes[at..at + new.len()].copy_from_slice(new);
        fs::write(&changed, bytes).unwrap();
    };
    // A note that is longer than the section.
    write(section.start + 4, &u32::MAX.to_le_bytes());
    says(&changed, "usdt:PROGRAM:step", &["notes of", "are damaged", "ends behind its section"]);
    // Addresses of nothing.
    write(section.start + 20, &[0xee; 8]);
    says(&changed, "usdt:PROGRAM:step", &["are damaged", "is in no part that is loaded"]);
    let first = each_note(&whole, section.clone())[0];
    let texts = first + 20 + 24;
    write(texts, b"\0");
    says(&changed, "usdt:PROGRAM:step", &["are damaged", "three addresses and three texts"]);
    // An operand of another form.
    let at = whole.windows(7).position(|window| window == b"-8@$30\0").unwrap();
    write(at, b"-8@?30");
    says(
        &changed,
        "usdt:PROGRAM:step",
        &["the argument `arg0` cannot be read", "`-8@?30` is a form of operand that is not known"],
    );
    for length in [20, 64, 1000, section.start, section.end - 10] {
        fs::write(&changed, &whole[..length]).unwrap();
        says(&changed, "usdt:PROGRAM:step", &["error: "]);
    }
    text(tool("objcopy")?.args(["--remove-section", ".note.stapsdt"]).arg(&program).arg(&changed));
    says(&changed, "usdt:PROGRAM:step", &["brings no USDT probes along"]);
    // Its symbols are gone, and with them where `rounds` is; all else is as it was.
    text(tool("strip")?.arg("-o").arg(&changed).arg(&program));
    says(&changed, "usdt:PROGRAM:shop:round", &["symbol `rounds`", "debug symbols"]);
    Ok(format!("{} kinds of mistakes", told + 1))
}

fn listed() -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let (program, _) = build(directory.path(), &["-O2", "-DSEMAPHORES"])?;
    let path = program.display();
    let list = |pattern: &str| {
        let output = output(binary().args(["list", pattern]));
        (output.status.code().unwrap(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    let (status, all) = list(&format!("usdt:{path}:*"));
    assert_eq!(status, 0, "{all}");
    let names: Vec<&str> =
        all.lines().filter_map(|line| line.strip_prefix(&format!("usdt:{path}:shop:"))).collect();
    assert_eq!(
        names,
        ["element", "fixed", "order__done", "order__start", "real", "round", "step (3 places)", "widths"]
    );
    let (_, widths) = list(&format!("usdt:{path}:shop:wid*"));
    let types = ["s8", "s16", "s32", "s64", "u8", "u16", "u32", "u64"];
    let expected: Vec<String> =
        types.iter().enumerate().map(|(index, ctype)| format!("    {ctype} arg{index}")).collect();
    assert_eq!(widths.lines().skip(1).collect::<Vec<_>>(), expected);
    let (status, nothing) = list(&format!("usdt:{path}:shop:nothing*"));
    assert_eq!(status, 1);
    assert!(nothing.contains("no probe of"), "{nothing}");
    let (status, gone) = list("usdt:/nonexistent");
    assert_eq!((status, gone.contains("there is no `/nonexistent`")), (1, true), "{gone}");
    let readelf = text(tool("readelf")?.arg("-n").arg(&program));
    let noted = readelf.lines().filter(|line| line.trim_start().starts_with("Name:")).count();
    assert_eq!(noted, 10, "readelf sees as many notes as there are places");
    Ok("8 probes at 10 places".into())
}

#[test]
fn probes_of_programs_pass_their_values() {
    let Some(mut cases) = Cases::as_root("usdt") else {
        return;
    };
    cases.run("values in memory", || values(&["-O0", "-no-pie"]));
    cases.run("values in registers", || values(&["-O1", "-pie", "-fPIE"]));
    cases.run("with semaphores", || values(&["-O2", "-pie", "-fPIE", "-DSEMAPHORES"]));
    cases.run("at a fixed address", || values(&["-O2", "-no-pie", "-DSEMAPHORES"]));
    cases.run("linked statically", || values(&["-O2", "-static", "-DSEMAPHORES"]));
    cases.run("in a library", || values(&["-O2", "-fPIC", "-shared", "-DSEMAPHORES"]));
    cases.run("moved after it was linked", moved);
    cases.run("at both nops", both_nops);
    cases.run("refused", refused);
    cases.run("listed", listed);
    cases.run("checked", in_one_line);
    cases.finish();
}
