//! Programs whose files promise more than whoever reads them has, in a memory cgroup of 64 MB.

use super::{
    asker::{self, Asleep, as_nobody, named},
    cgroup::Cgroup,
};
use crate::support::{
    cases::{Cases, Outcome},
    command::{text, tool},
    exporter::within,
};
use std::{
    fs::{self, OpenOptions},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    time::Duration,
};

/// How long a test waits for what comes in a moment, on a machine that does much else.
const PATIENCE: Duration = Duration::from_mins(1);
/// `SHT_SYMTAB`
const SYMTAB: u64 = 2;
/// Bytes of a section header, and of a symbol, of 64 bits.
const HEADER: u64 = 64;
const SYMBOL: usize = 24;

/// A program whose table of symbols is written anew.
struct Image {
    path: PathBuf,
    bytes: Vec<u8>,
    /// Where the header of its table of symbols is, and that of its names.
    table: usize,
    names: usize,
    /// Its code: address and length of the section that has the most of it.
    code: (u64, u64),
}

impl Image {
    fn of(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap();
        let long = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        let word = |at: usize| u64::from(u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()));
        let half = |at: usize| u64::from(u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap()));
        let place = |index: u64| usize::try_from(long(40) + index * HEADER).unwrap();
        let sections = || (0..half(60)).map(place);
        let table = sections().find(|at| word(at + 4) == SYMTAB).unwrap();
        let names = place(word(table + 40));
        let is_code = |at: &usize| word(at + 4) == 1 && long(at + 8) & 4 != 0;
        let code = sections().filter(is_code).max_by_key(|at| long(at + 32)).unwrap();
        let code = (long(code + 16), long(code + 32));
        Self { path: path.to_owned(), bytes, table, names, code }
    }

    /// Says where a section is and how long it is.
    fn promise(&mut self, header: usize, offset: u64, size: u64) {
        self.bytes[header + 24..header + 32].copy_from_slice(&offset.to_le_bytes());
        self.bytes[header + 32..header + 40].copy_from_slice(&size.to_le_bytes());
    }

    fn end(&self) -> u64 {
        self.bytes.len().next_multiple_of(64).try_into().unwrap()
    }

    /// Puts these symbols and names in place of its own.
    fn set(&mut self, symbols: &[u8], names: &[u8]) {
        for (header, part) in [(self.table, symbols), (self.names, names)] {
            let end = self.end();
            self.promise(header, end, part.len().try_into().unwrap());
            self.bytes.resize(end.try_into().unwrap(), 0);
            self.bytes.extend(part);
        }
    }

    /// Symbols of global functions at places in its code, by where their names are.
    fn symbols(&self, names: impl Iterator<Item = u32>) -> Vec<u8> {
        let mut symbols = vec![0; SYMBOL];
        for (index, name) in (0..).zip(names) {
            symbols.extend(name.to_le_bytes());
            symbols.extend([0x12, 0]);
            symbols.extend(1_u16.to_le_bytes());
            symbols.extend((self.code.0 + index % self.code.1).to_le_bytes());
            symbols.extend(1_u64.to_le_bytes());
        }
        symbols
    }

    fn write(self) {
        fs::write(&self.path, self.bytes).unwrap();
    }
}

/// A file of a few kilobytes on the disk that has a table of symbols of 4 GiB, all of it a hole.
pub(crate) fn promised(path: &Path) {
    let mut image = Image::of(path);
    let (table, end) = (image.table, image.end());
    image.promise(table, end, 4 << 30);
    image.write();
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(end + (4 << 30)).unwrap();
    file.write_all_at(&[0], end + (4 << 30) - 1).unwrap();
}

/// 300 000 symbols in 7.5 MB, whose names all end where the same long text does.
pub(crate) fn overlapping(path: &Path) {
    let mut image = Image::of(path);
    let mut names = vec![b'a'; 60_000];
    names.push(0);
    let symbols = image.symbols((0..300_000).map(|index| index % 59_000));
    image.set(&symbols, &names);
    image.write();
}

/// A C++ name of a function whose arguments of templates are each twice the one before.
fn doubled(times: usize) -> String {
    // `S_` is the function, `S0_` the template `S`, `S1_` `S<int, int>`, and each further one is `S` of twice the last.
    let digits = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    let step = |step: usize| format!("S0_IS{0}_S{0}_E", char::from(digits[step]));
    let steps: String = (1..=times).map(step).collect();
    format!("_Z1fI1SIiiE{steps}EvT_")
}

/// One C++ name that doubles thirty times.
pub(crate) fn doubling(path: &Path) {
    let name = doubled(30);
    let mut image = Image::of(path);
    let mut names = vec![0];
    names.extend(name.bytes());
    names.push(0);
    // At each place of the code, so that every stack in it has this name.
    let symbols = image.symbols((0..u32::try_from(image.code.1).unwrap()).map(|_| 1));
    image.set(&symbols, &names);
    image.write();
}

/// A program that a user has made, of which there are stacks, beside one that is as it should be.
fn case(harm: fn(&Path), is_unread: bool) -> Outcome {
    let cgroup = Cgroup::of_little_memory()?;
    let directory = asker::directory();
    let (bad, good) = (directory.path().join("asker-bad"), directory.path().join("asker-good"));
    asker::build(&bad, &[])?;
    asker::build(&good, &[])?;
    harm(&bad);
    text(tool("chown")?.arg("nobody").arg(&bad));
    let tapster = asker::start(directory.path(), Some(cgroup.command()));
    let _running = (Asleep::begin(as_nobody(&bad)?), Asleep::begin(as_nobody(&good)?));
    let is_named = || {
        let scrape = tapster.scrape();
        assert!(scrape.sum("tapster_probe_up", &[]) > 1.5, "{:#?}", tapster.log());
        named(&scrape, "asker-good") == (5, 5)
            && (!is_unread || scrape.sum("tapster_symbols_unread_total", &[]) >= 1.0)
    };
    let took = within(PATIENCE, is_named);
    let scrape = tapster.scrape();
    assert!(took.is_some(), "{:?}: {:#?}", asker::stacks(&scrape, "asker-good"), tapster.log());
    let calls: u64 = asker::stacks(&scrape, "asker-bad").iter().map(|(_, count)| count).sum();
    assert_eq!(calls, 5, "what is not named is counted");
    // Shown shortly, whatever it said.
    let longest = asker::stacks(&scrape, "asker-bad").iter().map(|(stack, _)| stack.len()).max();
    assert!(longest.unwrap_or(0) <= 4 * 210, "{longest:?}");
    let told = tapster.log().iter().filter(|line| line.contains("asker-bad")).count();
    assert_eq!(told, usize::from(is_unread), "said once: {:#?}", tapster.log());
    let unread = scrape.sum("tapster_symbols_unread_total", &[]);
    Ok(format!("RSS {} KiB, {unread} files unread", tapster.resident_kib()))
}

#[test]
fn what_costs_too_much_is_not_named() {
    let Some(mut cases) = Cases::as_root("hostile bytes") else { return };
    cases.run("12 kB that promise 4 GiB", || case(promised, true));
    cases.run("names that overlap", || case(overlapping, true));
    cases.run("a name that doubles thirty times", || {
        let shown = text(tool("c++filt")?.arg(doubled(3)));
        assert_eq!(shown.matches("int, int").count(), 1 + 2 + 4 + 8 + 1, "it is such a name: {shown}");
        case(doubling, false)
    });
    cases.finish();
}
