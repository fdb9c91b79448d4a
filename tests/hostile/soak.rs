//! All of it at once, for as long as `TAPSTER_SOAK_MINUTES` says (2 unless given): a disk at full rate, an exporter with attackers
//! around it, and a second one that nobody attacks. What the second counts is what this machine lets be counted.

use super::arrays::{host_with_arrays, stop_answering};
use crate::support::{
    cases::{Cases, Skip},
    command::tool,
    exporter::Tapster,
    load::{COUNT, Load},
    metrics::whole,
};
use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

/// Nobody's number.
const NOBODY: u32 = 65_534;
/// Idle connections that are held at a time, as many as there are places.
const SILENT: usize = 256;
/// Clients that ask and do not read.
const DEAF: usize = 20;
/// The longest that a scrape may take.
const LONGEST: Duration = Duration::from_secs(1);

/// Block I/O, and stacks of every program that takes processor time.
const PROBES: &str = "
probes:
  - name: busy
    help: Where programs are, a hundred times a second.
    at: profile:99
    max_series: 4096
    labels:
      stack: ustack
    metrics:
      - { counter: busy_total, help: Samples. }
";

/// A process that ends with this.
struct Attacker(Child);

impl Drop for Attacker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A shell script as nobody, in a directory of nobody's.
fn as_nobody(script: &str, directory: &Path) -> Result<Attacker, Skip> {
    let number = NOBODY.to_string();
    let child = tool("setpriv")?
        .args(["--reuid", &number, "--regid", &number, "--clear-groups", "sh", "-c", script])
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    Ok(Attacker(child))
}

/// A program whose file is a pipe a moment later, again and again.
const PIPES: &str = "
n=0
while :; do
    n=$((n + 1)); cp /usr/bin/yes ./busy$n; ./busy$n >/dev/null & pid=$!
    rm busy$n; mkfifo busy$n; sleep 0.3; kill $pid; wait $pid; rm busy$n
done";

/// A program whose table of symbols says that it has four gigabytes.
const PROMISES: &str = "
while :; do
    timeout 0.3 ./promises >/dev/null; sleep 0.1
done";

/// `yes`, with tables of symbols as large as 32 bits can say.
fn promising(path: &Path) {
    let mut bytes = fs::read("/usr/bin/yes").unwrap();
    let word = |bytes: &[u8], at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let sections = usize::try_from(word(&bytes, 40)).unwrap();
    let count = usize::from(u16::from_le_bytes(bytes[60..62].try_into().unwrap()));
    for section in (0..count).map(|index| sections + index * 64) {
        let kind = u32::from_le_bytes(bytes[section + 4..section + 8].try_into().unwrap());
        // Symbols, their names, and symbols for the linker.
        if matches!(kind, 2 | 3 | 11) {
            bytes[section + 32..section + 40].copy_from_slice(&u64::from(u32::MAX).to_le_bytes());
        }
    }
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Connections that say nothing, as many as there are places, made again when they are closed.
fn silent(address: SocketAddr, stop: &AtomicBool) {
    let mut held: Vec<TcpStream> = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        held.retain(|stream| {
            let _ = stream.set_nonblocking(true);
            // Nothing to read yet, so it is open.
            matches!((&mut &*stream).read(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
        });
        while held.len() < SILENT
            && let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200))
        {
            held.push(stream);
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// Clients that ask for everything and read nothing of it.
fn deaf(address: SocketAddr, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let asked: Vec<TcpStream> = (0..DEAF)
            .filter_map(|_| {
                let mut stream = TcpStream::connect_timeout(&address, Duration::from_millis(200)).ok()?;
                stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").ok()?;
                Some(stream)
            })
            .collect();
        thread::sleep(Duration::from_secs(2));
        drop(asked);
    }
}

fn minutes() -> Duration {
    let minutes = std::env::var("TAPSTER_SOAK_MINUTES").ok().and_then(|text| text.parse().ok()).unwrap_or(2);
    Duration::from_secs(60 * minutes)
}

#[test]
#[ignore = "two minutes, or as many as `TAPSTER_SOAK_MINUTES` says"]
fn everything_at_once() {
    let Some(mut cases) = Cases::as_root("hostile soak") else { return };
    cases.run("everything at once", || {
        let load = Load::new()?;
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let place = directory.path().join("nobody");
        fs::create_dir(&place).unwrap();
        std::os::unix::fs::chown(&place, Some(NOBODY), Some(NOBODY)).unwrap();
        promising(&place.join("promises"));
        let sys = directory.path().join("sys");
        fs::create_dir(&sys).unwrap();
        host_with_arrays(&sys);
        let probes = directory.path().join("probes.yaml");
        fs::write(&probes, PROBES).unwrap();
        let (probes, sys_path) = (probes.to_str().unwrap(), sys.to_str().unwrap());
        let attacked =
            Tapster::start(&["-c", probes, "--probes", "default,busy", "--path.sysfs", sys_path]);
        let control = Tapster::start(&[]);
        let (stop, until) = (AtomicBool::new(false), Instant::now() + minutes());
        stop_answering(&sys);
        let _attackers = [as_nobody(PIPES, &place)?, as_nobody(PROMISES, &place)?];
        let address = attacked.address;
        let (mut longest, mut scrapes, mut first) = (Duration::ZERO, 0_u32, None);
        let ios = thread::scope(|scope| {
            let reading = scope.spawn(|| {
                let mut ios = 0;
                while Instant::now() < until {
                    ios += load.read_with(&["--loops=20"])?;
                }
                Ok::<u64, Skip>(ios)
            });
            scope.spawn(|| silent(address, &stop));
            scope.spawn(|| deaf(address, &stop));
            while Instant::now() < until {
                let begun = Instant::now();
                let scrape = attacked.scrape();
                // The first waits for what does not answer, which takes longer than a second then.
                if scrapes > 0 {
                    longest = longest.max(begun.elapsed());
                }
                scrapes += 1;
                assert_eq!(attacked.get("/-/healthy").status, 200);
                if scrapes == 30 {
                    first = Some(attacked.resident_kib());
                }
                assert!(scrape.find("tapster_busy_total", &[]).is_some());
                thread::sleep(Duration::from_secs(1).saturating_sub(begun.elapsed()));
            }
            stop.store(true, Ordering::Relaxed);
            reading.join().unwrap()
        })?;
        let (first, last) = (first.unwrap_or_default(), attacked.resident_kib());
        let counted = load.counted(&attacked);
        let name = load.device.name();
        let labels = [("device", name.as_str()), ("operation", "read")];
        let by_control = whole(control.settled(COUNT, &labels).sum(COUNT, &labels));
        let figures = format!(
            "{ios} reads of fio, {counted} counted, {by_control} by the control; {scrapes} scrapes, the longest {longest:?}; \
             {first} KiB after 30 scrapes, {last} at the end"
        );
        assert_eq!(counted, by_control, "{figures}");
        assert!(longest < LONGEST, "{figures}");
        assert!(last * 10 <= first * 11, "{figures}");
        Ok(figures)
    });
    cases.finish();
}
