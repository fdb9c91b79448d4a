//! Names of users by number, from the host's `/etc/passwd`.
//!
//! Other sources of users (LDAP, SSSD, users that systemd makes for a service) are not asked: that would run their libraries in
//! this process and wait for others at a scrape.

use super::{Decode, Host, HostError, number::unsigned};
use crate::{mark::Mark, name::escape, topology::Topology};
use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufRead, BufReader, Read},
    sync::Arc,
};

/// Most bytes of the file that are read, most users of it, and the longest name; what is beyond them has its number.
const MOST_BYTES: u64 = 4 << 20;
const MOST_USERS: usize = 1 << 16;
const LONGEST_NAME: usize = 256;
/// Bits of a number of a user: `uid_t`.
const NUMBER: u64 = 0xffff_ffff;

/// Users by number.
#[derive(Debug)]
pub(super) struct UserDecoder {
    /// The file as it was read.
    mark: Mark,
    names: HashMap<u32, String>,
}

impl UserDecoder {
    /// Reads the file. Fails if that is impossible, because numbers in the place of names would look like users without one.
    pub(super) fn new(host: &Host) -> Result<Self, HostError> {
        let path = host.passwd();
        let mark = Mark::of(&path);
        match names(&mark) {
            Ok(names) => Ok(Self { mark, names }),
            Err(source) => Err(HostError::Unreadable { decoder: "user", path, source }),
        }
    }
}

impl Decode for UserDecoder {
    fn decode(&mut self, raw: &[u8]) -> Option<String> {
        let number = unsigned(raw) & NUMBER;
        let name = u32::try_from(number).ok().and_then(|number| self.names.get(&number));
        Some(name.cloned().unwrap_or_else(|| number.to_string()))
    }

    fn refresh(&mut self, _: &Arc<Topology>) {
        // The mark is taken first: what is written while the file is read is seen the next time.
        let mark = Mark::of(self.mark.path());
        if mark == self.mark {
            return;
        }
        // Tools write another file and put it into the place of this one; until it is there, the old names hold.
        if let Ok(names) = names(&mark) {
            *self = Self { mark, names };
        }
    }
}

fn names(file: &Mark) -> io::Result<HashMap<u32, String>> {
    read(BufReader::new(File::open(file.path())?.take(MOST_BYTES)))
}

/// Parses lines of `NAME:PASSWORD:NUMBER:…`. Of two users with one number the first is meant, as for `getpwuid`.
fn read(mut lines: impl BufRead) -> io::Result<HashMap<u32, String>> {
    let (mut names, mut line) = (HashMap::new(), Vec::new());
    while names.len() < MOST_USERS {
        line.clear();
        if lines.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        let mut fields = line.split(|byte| *byte == b':');
        let (name, number) = (fields.next().unwrap_or_default(), fields.nth(1).unwrap_or_default());
        let number = std::str::from_utf8(number).ok().and_then(|number| number.parse().ok());
        // `+` and `-` stand for users of other sources.
        let is_name = (1..=LONGEST_NAME).contains(&name.len()) && !matches!(name[0], b'+' | b'-' | b'#');
        if let (Some(number), true) = (number, is_name) {
            names.entry(number).or_insert_with(|| escape(name));
        }
    }
    Ok(names)
}
