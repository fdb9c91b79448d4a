//! All of it at once: a disk at full rate, an exporter in little memory with attackers around it, and a second exporter that nobody
//! attacks. What the second counts is what this machine lets be counted.

use super::{
    arrays::{host_with_arrays, stop_answering},
    asker,
    bytes::{doubling, overlapping, promised},
    cgroup::Cgroup,
    clients::{PLACES, connect_elsewhere, peak, scrape_until},
};
use crate::support::{
    cases::{Cases, Outcome, Skip},
    exporter::{Tapster, within},
    load::Load,
};
use std::{
    env, fs,
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::Path,
    process::{Child, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

/// Clients that ask and do not read, at a time.
const DEAF: usize = 40;
/// The longest that a scrape may take.
const LONGEST: Duration = Duration::from_secs(1);
/// Scrapes after which every attacker has been there, so that what they cost once has been paid.
const WARM: u32 = 60;

/// What makes a program a hostile one.
type Harm = fn(&Path);

/// Block I/O, and stacks of what the attackers run.
const PROBES: &str = "
library: true
probes:
  - name: asked
    at: tracepoint:syscalls:sys_enter_getppid
    max_series: 512
    labels: { who: comm, stack: ustack(4) }
    metrics: [{ counter: asked_total, help: Calls of getppid. }]
";

/// One attack after the other, for ever: each file is new to whoever reads it (its inode stays taken for a while), and when its program
/// has ended a pipe has its place.
const ROUNDS: &str = "
n=0
while :; do
    n=$((n + 1))
    for kind in promised overlapping doubling fine; do
        cp originals/$kind asker-$kind && echo $n >> asker-$kind
        ./asker-$kind 5 > /dev/null
        mv asker-$kind kept/$kind-$((n % 50)) && mkfifo asker-$kind && sleep 0.2 && rm asker-$kind
    done
done";

/// A shell of nobody's, with what it has started.
struct Attacker(Child);

impl Attacker {
    fn begin(script: &str, directory: &Path) -> Result<Self, Skip> {
        let mut command = asker::as_nobody(Path::new("sh"))?;
        command.args(["-c", script]).current_dir(directory);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Self(command.process_group(0).spawn().unwrap()))
    }
}

impl Drop for Attacker {
    fn drop(&mut self) {
        let group = i32::try_from(self.0.id()).unwrap();
        // SAFETY: `kill` takes numbers only; the group is this child's own, which has not been waited for.
        unsafe { libc::kill(-group, libc::SIGKILL) };
        let _ = self.0.wait();
    }
}

/// Sets this when it goes, at a panic too, so that nobody waits for attackers for ever.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Connections that say nothing, as many as there are places, made again when they are closed.
fn silent(address: SocketAddr, stop: &AtomicBool) {
    let mut held: Vec<TcpStream> = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        // Nothing to read yet, so it is open.
        held.retain(
            |stream| matches!((&mut &*stream).read(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock),
        );
        while held.len() < PLACES
            && let Some(stream) = connect_elsewhere(address)
            && stream.set_nonblocking(true).is_ok()
        {
            held.push(stream);
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// Clients that ask for everything and read nothing of it.
fn deaf(address: SocketAddr, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let ask = |_| {
            let mut stream = connect_elsewhere(address)?;
            stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").ok()?;
            Some(stream)
        };
        let asked: Vec<TcpStream> = (0..DEAF).filter_map(ask).collect();
        thread::sleep(Duration::from_secs(2));
        drop(asked);
    }
}

/// How long the soak is.
fn length() -> Duration {
    let minutes = env::var("TAPSTER_SOAK_MINUTES").map_or(2, |text| text.parse().unwrap());
    Duration::from_mins(minutes)
}

fn everything() -> Outcome {
    let load = Load::new()?;
    let directory = asker::directory();
    let place = directory.path().join("nobody");
    let originals = place.join("originals");
    fs::create_dir_all(&originals).unwrap();
    fs::create_dir(place.join("kept")).unwrap();
    for path in [&place, &place.join("kept")] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
    }
    let programs: [(&str, Harm); 4] =
        [("promised", promised), ("overlapping", overlapping), ("doubling", doubling), ("fine", |_| {})];
    for (name, harm) in programs {
        // Without an id, so that each copy is another file to whoever reads its symbols.
        asker::build(&originals.join(name), &["-Wl,--build-id=none"])?;
        harm(&originals.join(name));
    }
    let sys = directory.path().join("sys");
    fs::create_dir(&sys).unwrap();
    host_with_arrays(&sys);
    let probes = directory.path().join("probes.yaml");
    fs::write(&probes, PROBES).unwrap();
    let cgroup = Cgroup::of_little_memory()?;
    let arguments = ["-c", probes.to_str().unwrap(), "--path.sysfs", sys.to_str().unwrap()];
    let attacked = Tapster::start_by(cgroup.command(), "127.0.0.1:0", &arguments)
        .unwrap_or_else(|ended| panic!("{ended:?}"));
    let control = Tapster::start(&[]);
    // The first scrapes wait for the array that stops to answer, until it is known for that.
    stop_answering(&sys);
    let known = || attacked.scrape().sum("tapster_source_age_seconds", &[("source", "arrays")]) > 5.0;
    assert!(within(Duration::from_secs(30), known).is_some(), "{:#?}", attacked.log());
    let attacker = Attacker::begin(ROUNDS, &place)?;
    let (stop, until) = (AtomicBool::new(false), Instant::now() + length());
    // Resident memory when everything had been there once, KiB.
    let mut warm = 0;
    let (ios, scrapes, longest) = thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let mut ios = 0;
            while Instant::now() < until && !stop.load(Ordering::Relaxed) {
                ios += load.read_with(&["--loops=20"])?;
            }
            Ok::<u64, Skip>(ios)
        });
        scope.spawn(|| silent(attacked.address, &stop));
        scope.spawn(|| deaf(attacked.address, &stop));
        let ending = Ending(&stop);
        let (scrapes, longest) = scrape_until(&attacked, until, |number, scrape| {
            assert!(scrape.sum("tapster_probe_up", &[("probe", "asked")]) > 0.5, "{:#?}", attacked.log());
            if number == WARM {
                warm = attacked.resident_kib();
            }
        });
        drop(ending);
        Ok((reading.join().unwrap()?, scrapes, longest))
    })?;
    drop(attacker);
    let (counted, by_control) = (load.counted(&attacked), load.counted(&control));
    let scrape = attacked.scrape();
    let last = attacked.resident_kib();
    let unread = scrape.sum("tapster_symbols_unread_total", &[]);
    let figures = format!(
        "{ios} reads of fio, {counted} counted, {by_control} by the control; {scrapes} scrapes, the longest {longest:?}; RSS {warm} KiB after \
         {WARM} scrapes, {last} at the end, peak {} MiB; {unread} files unread",
        peak(&attacked)
    );
    assert_eq!(counted, by_control, "{figures}");
    assert!(counted <= ios, "{figures}");
    assert!(longest < LONGEST, "{figures}");
    assert!(last * 10 <= warm * 11, "{figures}");
    assert!(unread >= 1.0, "the attackers were there: {figures}");
    Ok(figures)
}

#[test]
#[ignore = "two minutes, or as many as `TAPSTER_SOAK_MINUTES` says"]
fn everything_at_once() {
    let Some(mut cases) = Cases::as_root("hostile soak") else { return };
    cases.run("everything at once", everything);
    cases.finish();
}
