//! What sleeps have no reason while real programs work side by side: a compiler, fio on a slow device and on an ordinary
//! file, `PostgreSQL` with pgbench, and a Prometheus that scrapes.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a panic is a test's report")]

use tapster_testing as support;

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use support::{
    cases::{Cases, Outcome, Skip, say},
    command::{text, tool},
    exporter::Tapster,
    fixture,
    postgres::{self, Cluster},
    prometheus::Prometheus,
    sleep::unexplained,
    slow::SlowDevice,
    waits,
};

/// How long each of them works.
const SECONDS: u64 = 20;
/// Compilers at a time.
const COMPILERS: usize = 2;
/// Requests in a second of the slow device.
const PER_SECOND: u32 = 60;
/// A program that works for so long.
struct Load {
    name: &'static str,
    child: Child,
}

impl Load {
    fn start(name: &'static str, command: &mut Command) -> Self {
        Self { name, child: command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap() }
    }

    /// Waits for its end, which must be a good one.
    fn finish(self) {
        let Self { name, child } = self;
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name} ended with {}: {said}", output.status);
    }
}

/// Compiles the programs of the tests again and again, and prints how often.
fn compile(directory: &Path) -> Result<u64, Skip> {
    let sources = waits::sources();
    let begun = Instant::now();
    let mut compiled = 0;
    for source in sources.iter().cycle() {
        if begun.elapsed() > Duration::from_secs(SECONDS) {
            break;
        }
        let object = directory.join(source.file_stem().unwrap()).with_extension("o");
        // Its parts talk through pipes, as in most builds.
        text(tool("cc")?.args(["-O2", "-pipe", "-c"]).arg(source).arg("-o").arg(object));
        compiled += 1;
    }
    Ok(compiled)
}

fn fio(name: &'static str, directory: &Path, options: &[&str]) -> Result<Load, Skip> {
    let mut command = tool("fio")?;
    command.args(["--name=job", "--time_based", "--thread", "--output-format=terse", "--bs=16k"]);
    command.arg(format!("--runtime={SECONDS}")).arg(format!("--directory={}", directory.display()));
    Ok(Load::start(name, command.args(options)))
}

fn side_by_side() -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let bin = postgres::server()?;
    // Beside what the database's user owns: files of probes are root's.
    let own = tempfile::tempdir().unwrap();
    let probes = own.path().join("sched.yaml");
    let library = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("config/probes/sched.yaml"));
    fs::write(&probes, library.unwrap().replace("    enabled: false\n", "")).unwrap();
    let database = directory.path().join("database");
    fs::create_dir(&database).unwrap();
    postgres::give(directory.path(), postgres::nobody());
    let cluster = Cluster::start(&database, &bin, "");
    text(cluster.command("pgbench").args(["-i", "-q", "-s", "5"]));
    let slow = SlowDevice::new(PER_SECOND);
    let site = fixture::file("probes/reasons.yaml");
    let tapster = Tapster::start(&["--strict", "-c", probes.to_str().unwrap(), "-c", site.to_str().unwrap()]);
    let prometheus =
        Prometheus::start(&directory.path().join("prometheus"), &[("tapster", tapster.address)], &[], &[])?;

    let before = tapster.scrape();
    let seconds = SECONDS.to_string();
    let mut loads = vec![
        Load::start(
            "pgbench",
            cluster.command("pgbench").args(["-n", "-c", "4", "-j", "2", "-T", seconds.as_str()]),
        ),
        fio("fio on a file", directory.path(), &["--rw=randrw", "--size=32m", "--fsync=64", "--numjobs=2"])?,
    ];
    match &slow {
        Ok(slow) => loads.extend([
            fio(
                "fio past the page cache",
                slow.directory(),
                &["--rw=randread", "--size=8m", "--direct=1", "--numjobs=2"],
            )?,
            fio("fio through the page cache", slow.directory(), &["--rw=write", "--size=8m", "--fsync=16"])?,
        ]),
        Err(Skip(why)) => say(format_args!("mixed: no slow device: {why}")),
    }
    let compiled: u64 = std::thread::scope(|scope| {
        let compilers: Vec<_> = (0..COMPILERS)
            .map(|number| {
                let objects = directory.path().join(format!("objects-{number}"));
                fs::create_dir(&objects).unwrap();
                scope.spawn(move || compile(&objects))
            })
            .collect();
        compilers.into_iter().map(|compiler| compiler.join().unwrap()).sum::<Result<u64, Skip>>()
    })?;
    for load in loads {
        load.finish();
    }
    let after = tapster.scrape();
    let over = |query: &str| prometheus.value(&format!("{query}[{SECONDS}s])")).unwrap();
    assert!(over("min_over_time(up") > 0.99, "a scrape failed");
    let scrape = over("max_over_time(scrape_duration_seconds");
    if let Ok(keep) = std::env::var("TAPSTER_KEEP") {
        fs::write(Path::new(&keep).join("mixed.prom"), tapster.get("/metrics").text()).unwrap();
    }
    let judged = unexplained(&after, &before);
    Ok(format!("{compiled} files compiled, scrapes of at most {:.0} ms, {judged}", scrape * 1000.0))
}

#[test]
#[ignore = "half a minute with all processors, and it needs gcc, fio, PostgreSQL and Prometheus"]
fn sleeps_of_real_programs_have_reasons() {
    let Some(mut cases) = Cases::as_root("mixed") else {
        return;
    };
    cases.run("four loads side by side", side_by_side);
    cases.finish();
}
