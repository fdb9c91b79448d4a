//! The kernel's own record of events: a buffer of tracefs of this test's own. It runs no program, so it shares nothing with what is
//! tested but the event itself.

use super::cases::Skip;
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fs,
    ops::Range,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

/// Instances of this process so far, for their names.
static MADE: AtomicU32 = AtomicU32::new(0);
/// For each processor: some hundred thousand events.
const BUFFER_KIB: &str = "16384";

/// Events are recorded as long as it is kept.
#[derive(Debug)]
pub struct Trace {
    directory: PathBuf,
}

/// A recorded event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Of `CLOCK_MONOTONIC`, in whole microseconds.
    pub ns: u64,
    pub cpu: u32,
    /// The thread that was current.
    pub tid: u32,
    pub name: String,
    /// The text behind the name, mostly `FIELD=VALUE …`.
    pub fields: String,
}

impl Trace {
    /// Records these events, `CATEGORY/NAME`, from now on.
    pub fn of(events: &[&str]) -> Result<Self, Skip> {
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("tapster-test-{}-{number}", std::process::id());
        let directory = Path::new("/sys/kernel/tracing/instances").join(name);
        fs::create_dir(&directory).map_err(|error| Skip(format!("`{}`: {error}", directory.display())))?;
        let trace = Self { directory };
        trace.set("trace_clock", "mono");
        trace.set("buffer_size_kb", BUFFER_KIB);
        for event in events {
            let path = format!("events/{event}/enable");
            if !trace.directory.join(&path).exists() {
                return Err(Skip(format!("this kernel has no event `{event}`")));
            }
            trace.set(&path, "1");
        }
        Ok(trace)
    }

    fn set(&self, file: &str, text: &str) {
        fs::write(self.directory.join(file), text).unwrap_or_else(|error| panic!("{file}: {error}"));
    }

    /// Ends it and returns all that happened.
    pub fn stop(self) -> Vec<Event> {
        self.set("tracing_on", "0");
        let text = String::from_utf8_lossy(&fs::read(self.directory.join("trace")).unwrap()).into_owned();
        assert!(!text.contains("LOST"), "the trace has lost events");
        for cpu in fs::read_dir(self.directory.join("per_cpu")).unwrap().flatten() {
            let stats = fs::read_to_string(cpu.path().join("stats")).unwrap_or_default();
            let overrun = stats.lines().find_map(|line| line.strip_prefix("overrun: "));
            assert_eq!(overrun.unwrap_or("0"), "0", "the trace's buffer is too small");
        }
        events(&text)
    }
}

/// The events of a text of `trace`, in their order.
pub fn events(text: &str) -> Vec<Event> {
    text.lines().filter(|line| !line.starts_with('#')).filter_map(Event::parse).collect()
}

impl Drop for Trace {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.directory);
    }
}

impl Event {
    /// Parses `COMMAND-TID [CPU] FLAGS SECONDS: NAME: FIELDS`.
    fn parse(line: &str) -> Option<Self> {
        let (task, rest) = line.split_once(" [")?;
        let (cpu, rest) = rest.split_once("] ")?;
        let mut words = rest.trim_start().splitn(2, ' ');
        let (_flags, rest) = (words.next()?, words.next()?);
        let (time, rest) = rest.trim_start().split_once(' ')?;
        let (seconds, micros) = time.strip_suffix(':')?.split_once('.')?;
        let (name, fields) = rest.split_once(':')?;
        let ns = seconds.parse::<u64>().ok()? * 1_000_000_000 + micros.parse::<u64>().ok()? * 1000;
        Some(Self {
            ns,
            cpu: cpu.parse().ok()?,
            tid: task.trim_end().rsplit_once('-')?.1.parse().ok()?,
            name: name.to_owned(),
            fields: fields.trim().to_owned(),
        })
    }

    /// The text of `FIELD=TEXT`, up to the next space; some events have a space instead of the sign.
    pub fn field(&self, name: &str) -> &str {
        let mut words = self.fields.split([' ', '=']);
        words.find(|word| *word == name).and_then(|_| words.next()).unwrap_or_default()
    }
}

/// A duration of one trace.
struct Span {
    label: String,
    /// `None` of one that began before the trace.
    begun: Option<u64>,
    ended: u64,
}

/// Times between two events of one key, by key, in their order.
fn spans(events: &[Event], step: &impl Fn(&Event) -> Option<Step>) -> HashMap<String, VecDeque<Span>> {
    let mut begun = HashMap::new();
    let mut all = HashMap::<String, VecDeque<Span>>::new();
    for event in events {
        match step(event) {
            Some(Step::Start(key, label)) => {
                begun.insert(key, (event.ns, label));
            }
            Some(Step::End(key)) => {
                let (begun, label) =
                    begun.remove(&key).map_or((None, String::new()), |(start, label)| (Some(start), label));
                all.entry(key).or_default().push_back(Span { label, begun, ended: event.ns });
            }
            None => {}
        }
    }
    all
}

/// How often, and how long together, what a program counts must have been, by label. Of the two traces one was there before the
/// program was attached and one after: what is called at an event is called in that order, and so the program reads the clock between
/// both. However long a processor stands still between two of them, what the program says is between what the two say. Counted is
/// what ended within `inner`, and nothing that did not end within `outer`.
pub fn bounds(
    before: &[Event],
    after: &[Event],
    inner: &Range<u64>,
    outer: &Range<u64>,
    step: impl Fn(&Event) -> Option<Step>,
) -> BTreeMap<String, Bounds> {
    let (before, mut after) = (spans(before, &step), spans(after, &step));
    let mut all = BTreeMap::<String, Bounds>::new();
    for (key, spans) in before {
        let of_second = after.entry(key).or_default();
        for first in spans {
            // Of what began before the first trace the program does not know the begin either.
            let Some(begun) = first.begun else { continue };
            while of_second.front().is_some_and(|span| span.ended < first.ended) {
                of_second.pop_front();
            }
            let is_same = |span: &mut Span| span.begun.is_none_or(|begun| begun <= first.ended);
            let second = of_second.pop_front_if(is_same);
            let last = second.as_ref().map_or(first.ended, |span| span.ended);
            let of = all.entry(first.label).or_default();
            if first.ended <= outer.end && last >= outer.start {
                of.most.add(last - begun);
                of.longest_ns = of.longest_ns.max(last - begun);
            }
            if let Some(later) = second.and_then(|span| span.begun)
                && first.ended >= inner.start
                && last <= inner.end
            {
                of.least.add(first.ended.saturating_sub(later));
            }
        }
    }
    all.retain(|_, of| of.most.count > 0);
    all
}

/// What an event is to a pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// With its key and its label.
    Start(String, String),
    /// With its key.
    End(String),
}

/// Durations: how many, and their sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Paired {
    pub count: u64,
    pub ns: u64,
}

impl Paired {
    fn add(&mut self, ns: u64) {
        self.count += 1;
        self.ns += ns;
    }

    pub fn seconds(self) -> f64 {
        self.ns as f64 / 1e9
    }
}

/// What two traces say of what is counted between them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    pub least: Paired,
    pub most: Paired,
    /// The longest of the latter.
    pub longest_ns: u64,
}

impl Bounds {
    /// Fails unless the sum of seconds is within them, and within what the traces' clock has, a microsecond. Of `hidden` durations the
    /// program may know nothing.
    pub fn assert_seconds(&self, what: &str, seconds: f64, hidden: u64) {
        const CLOCK: f64 = 1e-6;
        let Self { least, most, longest_ns } = self;
        let low = least.seconds() - least.count as f64 * CLOCK - hidden as f64 * *longest_ns as f64 / 1e9;
        let high = most.seconds() + most.count as f64 * CLOCK;
        assert!(
            seconds >= low && seconds <= high,
            "{what}: {seconds} s, the traces say between {least:?} and {most:?}, {hidden} are hidden"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_an_event() {
        let line =
            "   kworker/0:1 x-17606   [001] d..2. 42199.992506: irq_handler_entry: irq=36 name=virtio1-req.0";
        let event = Event::parse(line).unwrap();
        assert_eq!((event.ns, event.cpu, event.tid), (42_199_992_506_000, 1, 17606));
        assert_eq!(
            (&*event.name, event.field("irq"), event.field("name")),
            ("irq_handler_entry", "36", "virtio1-req.0")
        );
        assert_eq!(event.field("ret"), "");
    }

    /// An event at each of these times: a key begins with a letter of upper case, and ends with the same of lower case.
    fn trace(events: &[(u64, &str)]) -> Vec<Event> {
        let event = |(ns, name): &(u64, &str)| Event {
            ns: *ns,
            cpu: 0,
            tid: 1,
            name: (*name).into(),
            fields: String::new(),
        };
        events.iter().map(event).collect()
    }

    #[expect(clippy::unnecessary_wraps, reason = "as `bounds` takes it")]
    fn step(event: &Event) -> Option<Step> {
        let key = event.name.to_lowercase();
        Some(if key == event.name { Step::End(key) } else { Step::Start(key, "all".into()) })
    }

    fn paired(count: u64, ns: u64) -> Paired {
        Paired { count, ns }
    }

    #[test]
    fn a_program_between_two_traces_is_within_their_bounds() {
        let before = trace(&[(10, "X"), (20, "Y"), (50, "x"), (90, "y")]);
        let after = trace(&[(11, "X"), (28, "Y"), (50, "x"), (97, "y")]);
        let all = bounds(&before, &after, &(0..100), &(0..100), step)["all"];
        assert_eq!(all.least.count, 2);
        assert_eq!((all.least, all.most), (paired(2, 39 + 62), paired(2, 40 + 77)));
        // The second ended at the end of what is asked for: it may be counted.
        let all = bounds(&before, &after, &(0..95), &(0..95), step)["all"];
        assert_eq!((all.least, all.most), (paired(1, 39), paired(2, 40 + 77)));
        let none = bounds(&before, &after, &(0..5), &(0..5), step);
        assert!(none.is_empty());
    }

    #[test]
    fn what_began_before_the_second_trace_may_be_counted() {
        let before = trace(&[(10, "X"), (50, "x"), (50, "X"), (50, "x"), (60, "X"), (70, "x")]);
        let after = trace(&[(50, "x"), (50, "X"), (50, "x"), (61, "X"), (71, "x")]);
        let all = bounds(&before, &after, &(0..100), &(0..100), step)["all"];
        // Of the first the second trace has the end only; the program, which came between them, may have seen it whole.
        assert_eq!((all.least, all.most), (paired(2, 9), paired(3, 51)));
        let later = trace(&[(58, "x"), (61, "X"), (71, "x")]);
        let all =
            bounds(&trace(&[(10, "X"), (50, "x"), (60, "X"), (70, "x")]), &later, &(0..100), &(0..100), step)
                ["all"];
        assert_eq!((all.least, all.most, all.longest_ns), (paired(1, 9), paired(2, 59), 48));
    }

    #[test]
    #[should_panic(expected = "the traces say between")]
    fn a_sum_that_is_out_of_bounds_fails() {
        let bounds = Bounds { least: paired(1, 1000), most: paired(1, 2000), longest_ns: 2000 };
        bounds.assert_seconds("within", 2.9e-6, 0);
        bounds.assert_seconds("beyond", 3.1e-6, 0);
    }
}
