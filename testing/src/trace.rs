//! The kernel's own record of events: a buffer of tracefs of this test's own. It runs no program, so it shares nothing with what is
//! tested but the event itself.

use super::cases::Skip;
use std::{
    collections::{BTreeMap, HashMap},
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

/// Time between two events of one key: how often, and the sum, of those that ended within `during`, by label.
pub fn paired(
    events: &[Event],
    during: &Range<u64>,
    key: impl Fn(&Event) -> Option<Step>,
) -> BTreeMap<String, Paired> {
    let mut begun = HashMap::new();
    let mut all = BTreeMap::<String, Paired>::new();
    for event in events {
        match key(event) {
            Some(Step::Start(key, label)) => {
                begun.insert(key, (event.ns, label));
            }
            Some(Step::End(key)) => {
                let Some((start, label)) = begun.remove(&key) else { continue };
                if during.contains(&event.ns) {
                    let of = all.entry(label).or_default();
                    of.count += 1;
                    of.seconds += (event.ns - start) as f64 / 1e9;
                }
            }
            None => {}
        }
    }
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

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Paired {
    pub count: u64,
    pub seconds: f64,
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

    #[test]
    fn pairs_that_end_in_time_are_counted() {
        let event = |ns: u64, name: &str, key: &str| Event {
            ns,
            cpu: 0,
            tid: 1,
            name: name.into(),
            fields: format!("key={key}"),
        };
        let events = [
            event(1, "a", "x"),
            event(2, "a", "y"),
            event(5, "b", "x"),
            event(9, "b", "y"),
            event(9, "b", "z"),
        ];
        let step = |event: &Event| {
            let key = event.field("key").to_owned();
            Some(if event.name == "a" { Step::Start(key, "all".into()) } else { Step::End(key) })
        };
        let found = paired(&events, &(0..9), step);
        assert_eq!(found["all"].count, 1);
        assert!((found["all"].seconds - 4e-9).abs() < 1e-12);
        assert_eq!(paired(&events, &(0..10), step)["all"].count, 2);
    }
}
