//! What the kernel's own trace says of members: the second opinion on counts and times.
//!
//! The definition is that of `SystemTap`'s ioblktime, a bio from `submit_bio_noacct` to `bio_endio` by its address. The
//! array and the member are in the event `block_bio_remap`, which the same task passes right before it submits.

use std::collections::HashMap;

/// A device as the trace writes it: `major,minor`.
type Device = String;

/// What was seen of one member of one array.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Seen {
    pub(crate) count: u64,
    pub(crate) sum: f64,
    /// The longest, seconds.
    pub(crate) longest: f64,
}

/// Reads the text of `/sys/kernel/tracing/trace`: members by (array, member).
pub(crate) fn members(trace: &str) -> HashMap<(Device, Device), Seen> {
    let mut remapped: HashMap<&str, (f64, Device, Device)> = HashMap::new();
    let mut under_way: HashMap<&str, (f64, Device, Device)> = HashMap::new();
    let mut seen: HashMap<(Device, Device), Seen> = HashMap::new();
    assert!(!trace.contains("LOST"), "the trace has lost events");
    for line in trace.lines().filter(|line| !line.starts_with('#')) {
        let Some(event) = Event::parse(line) else { continue };
        match event.name {
            "block_bio_remap" => {
                if let Some((member, array)) = remap(event.rest) {
                    remapped.insert(event.task, (event.time, array, member));
                }
            }
            "submit" => {
                if let Some(start) = remapped.remove(event.task) {
                    under_way.insert(bio(event.rest), start);
                }
            }
            "endio" => {
                if let Some((start, array, member)) = under_way.remove(bio(event.rest)) {
                    let seen = seen.entry((array, member)).or_default();
                    let took = event.time - start;
                    seen.count += 1;
                    seen.sum += took;
                    seen.longest = seen.longest.max(took);
                }
            }
            _ => {}
        }
    }
    seen
}

/// How often each array handed a bio to each member, by (array, member) and the letter of the operation: `R`, `W`, ….
pub(crate) fn remaps(trace: &str) -> HashMap<(Device, Device, char), u64> {
    let mut counts = HashMap::new();
    for event in trace.lines().filter_map(Event::parse).filter(|event| event.name == "block_bio_remap") {
        if let Some((member, array)) = remap(event.rest) {
            *counts.entry((array, member, operation(event.rest))).or_default() += 1;
        }
    }
    counts
}

/// How often a bio was submitted to each device, by the letter of the operation.
pub(crate) fn queued(trace: &str) -> HashMap<(Device, char), u64> {
    let mut counts = HashMap::new();
    for event in trace.lines().filter_map(Event::parse).filter(|event| event.name == "block_bio_queue") {
        let device = event.rest.split(' ').next().unwrap_or_default().to_owned();
        *counts.entry((device, operation(event.rest))).or_default() += 1;
    }
    counts
}

/// `1,0 FWS 2048 + 8 …`: flags before and behind the operation are left out.
fn operation(rest: &str) -> char {
    let letters = rest.split(' ').nth(1).unwrap_or_default();
    // `F` before another letter is a flush ahead of the operation, alone or before `F` it is the operation.
    let letters =
        letters.strip_prefix('F').filter(|rest| rest.starts_with(['R', 'W', 'D'])).unwrap_or(letters);
    letters.chars().next().unwrap_or('?')
}

struct Event<'a> {
    /// `name-PID`
    task: &'a str,
    time: f64,
    name: &'a str,
    rest: &'a str,
}

impl<'a> Event<'a> {
    /// `  fio-123  [000] d..1.  12.345678: block_bio_queue: 9,0 R 0 + 8 [fio]`
    fn parse(line: &'a str) -> Option<Self> {
        let (task, after) = line.split_once(" [")?;
        let (_, after) = after.split_once("] ")?;
        let (_flags, after) = after.trim_start().split_once(' ')?;
        let (time, after) = after.trim_start().split_once(": ")?;
        let (name, rest) = after.split_once(": ")?;
        Some(Self { task: task.trim(), time: time.parse().ok()?, name, rest })
    }
}

/// `1,0 R 2048 + 8 <- (9,0) 0`: the member, the array.
fn remap(rest: &str) -> Option<(Device, Device)> {
    let member = rest.split(' ').next()?;
    let array = rest.split_once("<- (")?.1.split_once(')')?.0;
    Some((member.to_owned(), array.to_owned()))
}

fn bio(rest: &str) -> &str {
    rest.rsplit_once("bio=").map_or("", |(_, address)| address.trim())
}

#[test]
fn a_trace_is_read() {
    let trace = "# tracer: nop
             fio-77      [000] .....   1.000010: block_bio_remap: 1,0 R 2048 + 8 <- (9,0) 0
             fio-77      [000] .....   1.000020: submit: (submit_bio_noacct+0x0/0x10) bio=0xff01
         other t-78      [001] .....   1.000021: submit: (submit_bio_noacct+0x0/0x10) bio=0xff02
          <idle>-0       [001] d..1.   1.050020: endio: (bio_endio+0x0/0x10) bio=0xff01
          <idle>-0       [001] d..1.   1.050030: endio: (bio_endio+0x0/0x10) bio=0xff02
";
    let key = ("9,0".to_owned(), "1,0".to_owned());
    let seen = members(trace);
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[&key].count, 1);
    assert!((seen[&key].sum - 0.05001).abs() < 1e-9);
    assert_eq!(remaps(trace)[&(key.0, key.1, 'R')], 1);
    for (letters, expected) in [("R", 'R'), ("WS", 'W'), ("FWFS", 'W'), ("FF", 'F'), ("RA", 'R'), ("D", 'D')]
    {
        assert_eq!(operation(&format!("1,0 {letters} 0 + 8")), expected, "{letters}");
    }
}
