//! Interrupts, soft interrupts and work queues: how often, as `/proc/softirqs` and `/proc/interrupts` have it, and how long, as the
//! kernel's own trace has it.

use crate::{
    Window, assert_between,
    support::{
        cases::{Cases, Outcome, Skip},
        control::event::EventControl,
        exporter::Tapster,
        fixture,
        processor::pin,
        trace::{Event, Step, Trace},
    },
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{Read, Write},
    net::UdpSocket,
    os::fd::FromRawFd,
    sync::{
        Barrier,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};
use tapster::sys::monotonic_ns;

/// Sums of the processors of a table such as `/proc/softirqs`, by the first word.
fn table(path: &str) -> BTreeMap<String, u64> {
    let text = fs::read_to_string(path).unwrap();
    let cpus = text.lines().next().unwrap().split_whitespace().count();
    let row = |line: &str| {
        let (name, rest) = line.split_once(':')?;
        let numbers = rest.split_whitespace().take(cpus).map_while(|word| word.parse::<u64>().ok());
        Some((name.trim().to_owned(), numbers.sum()))
    };
    text.lines().skip(1).filter_map(row).collect()
}

/// Datagrams to this process itself: each is a soft interrupt. Sleeps between them let timers expire.
fn datagrams(count: u32) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = socket.local_addr().unwrap();
    for index in 0..count {
        socket.send_to(b"x", to).unwrap();
        socket.recv_from(&mut [0; 8]).unwrap();
        if index % 100 == 0 {
            thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Numbers of events of this name between these times.
fn events(trace: &[Event], during: &std::ops::Range<u64>, name: &str) -> u64 {
    trace.iter().filter(|event| event.name == name && during.contains(&event.ns)).count() as u64
}

fn softirqs() -> Outcome {
    const EVENTS: [&str; 2] = ["irq/softirq_entry", "irq/softirq_exit"];
    let first = Trace::of(&EVENTS)?;
    let tapster = Tapster::start(&["--strict", "--probes", "softirqs"]);
    let second = Trace::of(&EVENTS)?;
    let control = EventControl::new(c"softirq_entry")?;
    let outer = table("/proc/softirqs");
    let (window, (inner, seen)) = Window::of(&tapster, || {
        let (kernel, seen) = (table("/proc/softirqs"), control.count());
        datagrams(20_000);
        let grown =
            table("/proc/softirqs").into_iter().map(|(name, count)| (name.clone(), count - kernel[&name]));
        (grown.collect::<BTreeMap<_, _>>(), control.count() - seen)
    });
    let mut outer: BTreeMap<_, _> = table("/proc/softirqs")
        .into_iter()
        .map(|(name, count)| (name.clone(), count - outer[&name]))
        .collect();
    let (second, first) = (second.stop(), first.stop());
    let hidden = outer.values().sum::<u64>().saturating_sub(seen);
    let step = |event: &Event| {
        let kind = event.fields.split_once("action=")?.1.trim_end_matches(']').to_owned();
        let cpu = event.cpu.to_string();
        Some(if event.name == "softirq_entry" { Step::Start(cpu, kind) } else { Step::End(cpu) })
    };
    let bounds = window.bounds(&first, &second, step);
    let mut figures = Vec::new();
    for (kind, least_count) in inner {
        let labels = [("softirq", kind.as_str())];
        let found = window.histogram("tapster_softirq_run_duration_seconds", &labels);
        assert_between(&kind, found.count(), (least_count, outer.remove(&kind).unwrap()), hidden);
        let bounds = bounds.get(&kind).copied().unwrap_or_default();
        bounds.assert_seconds(&kind, found.sum, hidden);
        if found.count() >= 100 {
            let trace = bounds.most.seconds();
            figures.push(format!("{kind} {} in {:.4} s (trace {trace:.4} s)", found.count(), found.sum));
        }
    }
    assert!(figures.iter().any(|figure| figure.starts_with("NET_RX")), "{figures:?}");
    Ok(format!("{}; {hidden} hidden", figures.join(", ")))
}

/// The first raise of each kind on a processor, and when it ran: another raise before that changes nothing.
fn first_raises(trace: Vec<Event>) -> Vec<Event> {
    let mut waiting = BTreeSet::new();
    let kind = |event: &Event| (event.cpu, event.fields.clone());
    trace
        .into_iter()
        .filter(|event| match &*event.name {
            "softirq_raise" => waiting.insert(kind(event)),
            _ => waiting.remove(&kind(event)),
        })
        .collect()
}

fn softirq_waits() -> Outcome {
    const EVENTS: [&str; 2] = ["irq/softirq_raise", "irq/softirq_entry"];
    let first = Trace::of(&EVENTS)?;
    let tapster = Tapster::start(&["--strict", "--probes", "softirq_wait"]);
    // The controls count for a shorter time than the trace: what they saw besides would hide what they did not see.
    let second = Trace::of(&EVENTS)?;
    let controls = [EventControl::new(c"softirq_raise")?, EventControl::new(c"softirq_entry")?];
    let (window, ()) = Window::of(&tapster, || datagrams(20_000));
    let seen: u64 = controls.iter().map(EventControl::count).sum();
    let (second, first) = (second.stop(), first.stop());
    let raises = |trace: &[Event]| trace.iter().filter(|event| event.name == "softirq_raise").count();
    let (all, raised) = (second.len() as u64, raises(&second));
    let (first, second) = (first_raises(first), first_raises(second));
    let again = raised - raises(&second);
    let hidden = all.saturating_sub(seen);
    let step = |event: &Event| {
        let kind = event.fields.split_once("action=")?.1.trim_end_matches(']').to_owned();
        let key = format!("{} {kind}", event.cpu);
        Some(if event.name == "softirq_raise" { Step::Start(key, kind) } else { Step::End(key) })
    };
    let mut figures = Vec::new();
    for (kind, bounds) in window.bounds(&first, &second, step) {
        let found = window.histogram("tapster_softirq_wait_duration_seconds", &[("softirq", &kind)]);
        assert_between(&kind, found.count(), (bounds.least.count, bounds.most.count), hidden);
        bounds.assert_seconds(&kind, found.sum, hidden);
        if found.count() >= 100 {
            let trace = bounds.most.seconds();
            figures.push(format!("{kind} {} in {:.4} s (trace {trace:.4} s)", found.count(), found.sum));
        }
    }
    assert!(figures.iter().any(|figure| figure.starts_with("NET_RX")), "{figures:?}");
    Ok(format!("{}; {again} raised again while they waited; {hidden} hidden", figures.join(", ")))
}

/// Timers that expired.
#[derive(Clone, Copy, Debug, Default)]
struct Expired {
    count: u64,
    /// Those of them that were set before the trace began, which does not know when they were to expire.
    unknown: u64,
    /// How late the others were.
    late_ns: u64,
}

/// How late timers of this function were by the trace.
fn expired(trace: &[Event], during: &std::ops::Range<u64>, function: &str) -> Expired {
    let (mut due, mut all) = (BTreeMap::new(), Expired::default());
    for event in trace.iter().filter(|event| event.field("function") == function) {
        let number = |field: &str| event.field(field).parse::<u64>().unwrap();
        if event.name == "hrtimer_start" {
            due.insert(event.field("hrtimer"), number("softexpires"));
            continue;
        }
        let due = due.remove(event.field("hrtimer"));
        if during.contains(&event.ns) {
            all.count += 1;
            all.unknown += u64::from(due.is_none());
            all.late_ns += due.map_or(0, |due| number("now").saturating_sub(due));
        }
    }
    all
}

fn timers() -> Outcome {
    const SLEEPS: u32 = 300;
    /// Of programs that sleep for a time.
    const FUNCTION: &str = "hrtimer_wakeup";
    /// How late one may be of which the trace does not know it.
    const LATEST: f64 = 0.05;
    let trace = Trace::of(&["timer/hrtimer_start", "timer/hrtimer_expire_entry"])?;
    let tapster = Tapster::start(&["--strict", "--probes", "timer_lateness"]);
    let control = EventControl::new(c"hrtimer_expire_entry")?;
    let first = monotonic_ns();
    let (window, ()) = Window::of(&tapster, || {
        for _ in 0..SLEEPS {
            thread::sleep(Duration::from_millis(1));
        }
    });
    let seen = control.count();
    let last = monotonic_ns();
    let trace = trace.stop();
    let hidden = events(&trace, &(first..last), "hrtimer_expire_entry").saturating_sub(seen);
    let [least, most] = [&window.inner, &window.outer].map(|during| expired(&trace, during, FUNCTION));
    let found = window.histogram("tapster_timer_lateness_seconds", &[("function", FUNCTION)]);
    assert!(least.count >= u64::from(SLEEPS), "{least:?}");
    assert_between(FUNCTION, found.count(), (least.count, most.count), hidden);
    let seconds = |of: Expired| of.late_ns as f64 / 1e9;
    let (low, high) = (seconds(least), seconds(most));
    assert!(
        found.sum + hidden as f64 * LATEST >= low * 0.999_999
            && found.sum <= high * 1.000_001 + most.unknown as f64 * LATEST,
        "{} s, the trace says between {least:?} and {most:?}, {hidden} are hidden",
        found.sum
    );
    Ok(format!("{} timers, {:.6} s late (trace {high:.6} s); {hidden} hidden", found.count(), found.sum))
}

/// More threads than a processor can run, which do nothing but compute on it.
#[expect(clippy::unnecessary_wraps, reason = "as the other cases")]
fn run_queue_length() -> Outcome {
    const THREADS: usize = 6;
    const TIME: Duration = Duration::from_secs(3);
    let tapster = Tapster::start(&["--strict", "--probes", "run_queue_length"]);
    let (window, took) = Window::of(&tapster, || {
        let stop = AtomicBool::new(false);
        let ready = Barrier::new(THREADS + 1);
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    pin(0).unwrap();
                    ready.wait();
                    while !stop.load(Ordering::Relaxed) {
                        std::hint::spin_loop();
                    }
                });
            }
            ready.wait();
            let begun = Instant::now();
            thread::sleep(TIME);
            let took = begun.elapsed().as_secs_f64();
            stop.store(true, Ordering::Relaxed);
            took
        })
    });
    let cpus = thread::available_parallelism().unwrap().get() as f64;
    let found = window.histogram("tapster_run_queue_length", &[]);
    let looks = 99.0 * (window.outer.end - window.outer.start) as f64 / 1e9 * cpus;
    let long: u64 = found.buckets.iter().filter(|(bound, _)| *bound > 4.0).map(|(_, count)| count).sum();
    assert!(found.count() as f64 <= looks * 1.02 + cpus, "{} looks of {looks}", found.count());
    // A virtual machine that does not get its processors looks less often.
    assert!(long as f64 > 0.7 * 99.0 * took, "{long} looks found {THREADS} tasks, of {}", 99.0 * took);
    Ok(format!("{long} of {:.0} looks found {THREADS} tasks or more, {} in all", 99.0 * took, found.count()))
}

/// Writes that reach the disk: each is an interrupt of its controller.
fn synced_writes(count: u32) {
    let mut file = tempfile::tempfile_in(fixture::repository().join("target")).unwrap();
    for _ in 0..count {
        file.write_all(&[7; 4096]).unwrap();
        file.sync_data().unwrap();
    }
}

fn interrupts() -> Outcome {
    const EVENTS: [&str; 2] = ["irq/irq_handler_entry", "irq/irq_handler_exit"];
    let first = Trace::of(&EVENTS)?;
    let tapster = Tapster::start(&["--strict", "--probes", "interrupts"]);
    let second = Trace::of(&EVENTS)?;
    let control = EventControl::new(c"irq_handler_entry")?;
    let outer = table("/proc/interrupts");
    let (window, (inner, seen)) = Window::of(&tapster, || {
        let (kernel, seen) = (table("/proc/interrupts"), control.count());
        synced_writes(400);
        let after = table("/proc/interrupts");
        let grown =
            after.into_iter().map(|(irq, count)| (irq.clone(), count - kernel.get(&irq).unwrap_or(&0)));
        (grown.collect::<BTreeMap<_, _>>(), control.count() - seen)
    });
    let last = table("/proc/interrupts");
    let (second, first) = (second.stop(), first.stop());
    let hidden = events(&first, &window.outer, "irq_handler_entry").saturating_sub(seen);
    let step = |event: &Event| {
        let key = format!("{} {}", event.cpu, event.field("irq"));
        let label = || format!("{} {}", event.field("irq"), event.field("name"));
        Some(if event.name == "irq_handler_entry" { Step::Start(key, label()) } else { Step::End(key) })
    };
    let mut figures = Vec::new();
    for (label, bounds) in window.bounds(&first, &second, step) {
        let (irq, handler) = label.split_once(' ').unwrap();
        let labels = [("irq", irq), ("handler", handler)];
        let found = window.count("tapster_interrupts_total", &labels);
        let outer = last[irq] - outer.get(irq).unwrap_or(&0);
        assert_between(&label, found, (inner[irq], outer), hidden);
        let seconds = window.seconds("tapster_interrupt_seconds_total", &labels);
        bounds.assert_seconds(&label, seconds, hidden);
        let (own, trace) = (seconds * 1e3, bounds.most.seconds() * 1e3);
        figures.push(format!("{label} {found} in {own:.3} ms (trace {trace:.3} ms)"));
    }
    assert!(inner.values().max() >= Some(&50), "{inner:?}");
    assert!(!figures.is_empty(), "no device has interrupts");
    Ok(format!("{}; {hidden} hidden", figures.join(", ")))
}

/// Characters typed into a terminal of this process: each is an item of work, `flush_to_ldisc`.
fn typed(count: u32) {
    let (mut master, mut slave) = (0, 0);
    let (none, raw) = (std::ptr::null_mut::<libc::c_char>(), std::ptr::null::<libc::termios>());
    // SAFETY: the two numbers are written, and nothing else is passed.
    let made =
        unsafe { libc::openpty(&raw mut master, &raw mut slave, none, raw.cast_mut(), std::ptr::null_mut()) };
    assert_eq!(made, 0, "no terminal can be made");
    // SAFETY: it is new, and nobody else's.
    let mut master = unsafe { fs::File::from_raw_fd(master) };
    // SAFETY: as above.
    let mut slave = unsafe { fs::File::from_raw_fd(slave) };
    for _ in 0..count {
        master.write_all(b"\n").unwrap();
        assert_eq!(slave.read(&mut [0; 8]).unwrap(), 1);
        // The echo, two characters.
        assert!(master.read(&mut [0; 8]).unwrap() > 0);
    }
}

/// What an event is to a pair.
trait Meaning: Fn(&Event) -> Option<Step> {}

impl<F: Fn(&Event) -> Option<Step>> Meaning for F {}

fn workqueues() -> Outcome {
    const TYPED: u32 = 2000;
    const EVENTS: [&str; 3] = [
        "workqueue/workqueue_queue_work",
        "workqueue/workqueue_execute_start",
        "workqueue/workqueue_execute_end",
    ];
    let first = Trace::of(&EVENTS)?;
    let tapster = Tapster::start(&["--strict", "--probes", "workqueue_wait,workqueue_run"]);
    let second = Trace::of(&EVENTS)?;
    let control = EventControl::new(c"workqueue_queue_work")?;
    let (window, seen) = Window::of(&tapster, || {
        let seen = control.count();
        typed(TYPED);
        control.count() - seen
    });
    let (second, first) = (second.stop(), first.stop());
    // What a task puts into a queue is hidden as the task is; workers are never hidden.
    let hidden = events(&first, &window.outer, "workqueue_queue_work").saturating_sub(seen);
    let function = |event: &Event| event.field("function").to_owned();
    // `work struct=ADDRESS` or `work struct ADDRESS: `
    let work = |event: &Event| event.field("struct").trim_end_matches(':').to_owned();
    let waits = |event: &Event| match &*event.name {
        "workqueue_queue_work" => Some(Step::Start(work(event), function(event))),
        "workqueue_execute_start" => Some(Step::End(work(event))),
        _ => None,
    };
    let runs = |event: &Event| match &*event.name {
        "workqueue_execute_start" => Some(Step::Start(event.tid.to_string(), function(event))),
        "workqueue_execute_end" => Some(Step::End(event.tid.to_string())),
        _ => None,
    };
    let mut figures = Vec::new();
    let steps: [(&str, &str, &dyn Meaning, u64); 2] = [
        ("waits", "tapster_workqueue_wait_duration_seconds", &waits, hidden),
        ("runs", "tapster_workqueue_run_duration_seconds", &runs, 0),
    ];
    for (what, family, step, hidden) in steps {
        let all = window.bounds(&first, &second, step);
        let functions = all.len();
        for (function, bounds) in all {
            // A module's function has the module's name behind it.
            let found = window.histogram(family, &[("function", &function)]);
            let what = format!("{what} of {function}");
            assert_between(&what, found.count(), (bounds.least.count, bounds.most.count), hidden);
            bounds.assert_seconds(&what, found.sum, hidden);
            if function == "flush_to_ldisc" {
                assert!(found.count() >= u64::from(TYPED), "{what}: {} of {TYPED}", found.count());
                figures.push(format!(
                    "{} {what} in {:.3} ms (trace {:.3} ms), {functions} functions",
                    found.count(),
                    found.sum * 1e3,
                    bounds.most.seconds() * 1e3
                ));
            }
        }
    }
    if figures.len() < 2 {
        return Err(Skip("terminals of this kernel do without work queues".into()));
    }
    Ok(format!("{}; {hidden} hidden", figures.join(", ")))
}

pub(crate) fn all(cases: &mut Cases) {
    cases.run("soft interrupts, beside /proc/softirqs and the kernel's trace", softirqs);
    cases.run("soft interrupts that wait, beside the kernel's trace", softirq_waits);
    cases.run("timers that are late, beside the kernel's trace", timers);
    cases.run("tasks that want a processor, beside the threads", run_queue_length);
    cases.run("interrupts, beside /proc/interrupts and the kernel's trace", interrupts);
    cases.run("work queues, beside the kernel's trace", workqueues);
}
