//! Databases under load: as many queries, of as many kinds, as the server's own statistics and the client's have, and as
//! long as they were between both.
//!
//! Servers of the test's own, on a socket in a directory, that nobody else uses.

#![allow(clippy::unwrap_used, reason = "a panic is a test's report")]

use tapster_testing as support;

use std::{
    fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};
use support::{
    cases::{Cases, Outcome, Skip},
    command::{text, tool},
    exporter::{Tapster, within},
    metrics::whole,
    postgres::{Cluster, give, nobody, server},
};

/// Transactions of each client, and clients.
const TRANSACTIONS: u64 = 250;
const CLIENTS: u64 = 4;
/// Settings of the server: what it counts itself, and nothing that waits for a disk.
const OPTIONS: &str = "-c fsync=off -c autovacuum=off -c jit=off -c shared_preload_libraries=pg_stat_statements -c track_io_timing=on";
/// Statements of pgbench's own transaction.
const STATEMENTS: [&str; 7] = [
    "BEGIN;",
    "UPDATE pgbench_accounts ",
    "SELECT abalance FROM pgb",
    "UPDATE pgbench_tellers S",
    "UPDATE pgbench_branches ",
    "INSERT INTO pgbench_hist",
    "END;",
];

const PROBES: &str = r#"
probes:
  - name: query
    help: Queries of PostgreSQL by USDT, from the message to the answer.
    start:
      at: "usdt:PROGRAM:postgresql:query__start"
      key: [pid, tid]
      save: { statement: "str(arg0, 25)" }
    end: { at: "usdt:PROGRAM:postgresql:query__done", key: [pid, tid] }
    labels: { statement: start.statement }
    metrics: [{ histogram: query_duration_seconds, value: duration }]
  - name: execute
    help: The part of it that is spent executing.
    start: { at: "usdt:PROGRAM:postgresql:query__execute__start", key: [pid, tid] }
    end: { at: "usdt:PROGRAM:postgresql:query__execute__done", key: [pid, tid] }
    metrics: [{ histogram: execute_duration_seconds, value: duration }]
  - name: parsed
    help: Queries by a symbol that servers without USDT have as well.
    at: "uprobe:PROGRAM:pg_parse_query"
    labels: { statement: "str(arg0, 25)" }
    metrics: [{ counter: parsed_total }]
  - name: portal
    help: Execution by symbol.
    function: "PROGRAM:PortalRun"
    metrics: [{ histogram: portal_duration_seconds, value: duration }]
  - name: committed
    help: Transactions that were committed.
    at: "usdt:PROGRAM:postgresql:transaction__commit"
    labels: { comm: comm }
    metrics: [{ counter: committed_total }]
  - name: buffers
    help: Reads of buffers; whether the page was there is the last of eight arguments, and elsewhere at each place.
    at: "usdt:PROGRAM:postgresql:buffer__read__done"
    labels: { hit: arg7 }
    metrics: [{ counter: buffer_reads_total }]
  - name: sync
    help: An argument that only a symbol of the server leads to.
    at: "usdt:PROGRAM:postgresql:buffer__sync__done"
    labels: { buffers: arg0 }
    metrics: [{ counter: synced_total }]
"#;

const MARIADB: &str = r#"
probes:
  - name: command
    help: Queries by symbol, from the command to its answer; 3 is COM_QUERY.
    function: "PROGRAM:SYMBOL"
    save: { command: (u32)arg0, statement: "str(arg2, 7)" }
    where: start.command == 3
    labels: { statement: start.statement }
    metrics: [{ histogram: command_duration_seconds, value: duration }]
"#;

/// Averages of the statements as the client saw them, in milliseconds.
fn latencies(pgbench: &str) -> Vec<f64> {
    let lines = pgbench.lines().skip_while(|line| !line.starts_with("statement latencies")).skip(1);
    let averages: Vec<f64> = lines.filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect();
    // The first is of what pgbench computes by itself.
    averages.into_iter().rev().take(STATEMENTS.len()).rev().collect()
}

#[expect(clippy::cast_precision_loss, reason = "a few thousand")]
fn float(count: u64) -> f64 {
    count as f64
}

/// Runs `work`; returns its result, and for how many seconds processes of the server waited for a processor meanwhile. What a process
/// waited in its last moments before it ended is not seen.
fn with_waits<T>(cluster: &Cluster, work: impl FnOnce() -> T) -> (T, f64) {
    let before = cluster.waits();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut last = cluster.waits();
            while !is_over.load(Ordering::Relaxed) {
                last.extend(cluster.waits());
                thread::sleep(Duration::from_millis(2));
            }
            last
        });
        let done = work();
        is_over.store(true, Ordering::Relaxed);
        let last = watch.join().unwrap();
        (done, last.iter().map(|(process, waited)| waited - before.get(process).unwrap_or(&0.0)).sum())
    })
}

fn queries() -> Outcome {
    let bin = server()?;
    let postgres = bin.join("postgres");
    if !text(tool("readelf")?.arg("-n").arg(&postgres)).contains("query__start") {
        return Err(Skip(format!("`{}` was built without USDT probes", postgres.display())));
    }
    let directory = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(directory.path(), &bin, OPTIONS);
    cluster.query("create extension pg_stat_statements");
    text(cluster.command("pgbench").args(["-i", "-q", "-s", "1"]));
    // Not in the server's directory, which is its user's.
    let own = tempfile::tempdir().unwrap();
    let file = own.path().join("probes.yaml");
    fs::write(&file, PROBES.replace("PROGRAM", &postgres.display().to_string())).unwrap();
    let tapster = Tapster::start(&["--strict", "-c", file.to_str().unwrap()]);
    cluster.query("select pg_stat_statements_reset()");
    let before = tapster.scrape();
    let (clients, transactions) = (CLIENTS.to_string(), TRANSACTIONS.to_string());
    // In one thread: several add to the averages of statements without a lock, so that one that is preempted meanwhile takes back what
    // the others added.
    let run = ["-n", "-r", "-M", "simple", "-c", &clients, "-j", "1", "-t", &transactions];
    let (printed, waited) = with_waits(&cluster, || text(cluster.command("pgbench").args(run)));
    let all = CLIENTS * TRANSACTIONS;
    assert!(
        printed.contains(&format!("number of transactions actually processed: {all}/{all}")),
        "{printed}"
    );
    let after = tapster.scrape();
    let client = latencies(&printed);
    assert_eq!(client.len(), STATEMENTS.len(), "{printed}");
    let own = cluster.query(
        "select calls, total_exec_time, query from pg_stat_statements where query !~ 'pg_stat_statements'",
    );
    let (mut ours_seconds, mut server_seconds, mut client_seconds) = (0.0, 0.0, 0.0);
    for (statement, client_ms) in STATEMENTS.iter().zip(client) {
        // Texts are cut to the room of the label, as the server's own are normalised.
        let of_statement = |row: &&Vec<String>| row[2].starts_with(statement.trim_end_matches(';'));
        let server: Vec<&Vec<String>> = own.iter().filter(of_statement).collect();
        let calls: u64 = server.iter().map(|row| row[0].parse::<u64>().unwrap()).sum();
        let server_s: f64 = server.iter().map(|row| row[1].parse::<f64>().unwrap() / 1e3).sum();
        assert_eq!(calls, all, "{statement}: the server's own count");
        let labels = [("statement", *statement)];
        let ours = after.histogram_since(&before, "tapster_query_duration_seconds", &labels);
        assert_eq!(ours.count(), calls, "{statement}: by USDT");
        assert_eq!(after.since(&before, "tapster_parsed_total", &labels), calls, "{statement}: by symbol");
        let client_s = client_ms / 1e3 * float(all);
        // The server's own clock runs while it executes, ours from the message until the answer is sent, the client's around both; it
        // prints microseconds. A server that waits for a processor behind its answer is later than its client.
        let rounding = 0.5e-6 * float(all);
        assert!(
            server_s <= ours.sum && ours.sum <= client_s + rounding + waited,
            "{statement}: the server {server_s} s, ours {} s, the client {client_s} s; its processes waited {waited} s",
            ours.sum
        );
        ours_seconds += ours.sum;
        server_seconds += server_s;
        client_seconds += client_s;
    }
    let seen = |name: &str| after.since(&before, name, &[]);
    assert_eq!(after.since(&before, "tapster_committed_total", &[("comm", "postgres")]) / all, 1);
    let executed = after.histogram_since(&before, "tapster_execute_duration_seconds", &[]);
    let portals = after.histogram_since(&before, "tapster_portal_duration_seconds", &[]);
    assert_eq!(executed.count(), portals.count(), "execution by USDT and by symbol");
    assert!(executed.count() >= 7 * all, "{}", executed.count());
    assert!(
        portals.sum >= executed.sum && portals.sum <= ours_seconds * 1.5,
        "{} of {}",
        portals.sum,
        executed.sum
    );
    let blocks = cluster.query(
        "select sum(shared_blks_hit), sum(shared_blks_read) from pg_stat_statements where query ~ 'pgbench_'",
    );
    let hits: u64 = blocks[0][0].parse().unwrap();
    let hit = after.since(&before, "tapster_buffer_reads_total", &[("hit", "1")]);
    assert!(hit >= hits, "{hit} hits, of which {hits} while executing statements of pgbench");
    let lost = seen("tapster_probe_dropped_total");
    assert_eq!(lost, 0, "dropped");
    cluster.query("checkpoint");
    let buffers =
        cluster.query("select setting from pg_settings where name = 'shared_buffers'")[0][0].clone();
    let synced = tapster.scrape().sum("tapster_synced_total", &[("buffers", &buffers)]);
    assert_eq!(whole(synced), 1, "one checkpoint of {buffers} buffers");
    sleeps(&cluster, &tapster);
    Ok(format!(
        "{} queries as counted by the server, {server_seconds:.3} s by the server, {ours_seconds:.3} s by us, {client_seconds:.3} s by the client",
        7 * all
    ))
}

/// A mean beside the server's own.
fn sleeps(cluster: &Cluster, tapster: &Tapster) {
    for _ in 0..5 {
        cluster.query("select pg_sleep(0.05)");
    }
    let own = cluster
        .query("select calls, mean_exec_time from pg_stat_statements where query like 'select pg_sleep%'");
    let (calls, mean_ms): (u64, f64) = (own[0][0].parse().unwrap(), own[0][1].parse().unwrap());
    let ours = tapster
        .scrape()
        .histogram("tapster_query_duration_seconds", &[("statement", "select pg_sleep(0.05)")]);
    assert_eq!((ours.count(), calls), (5, 5));
    let mean = ours.sum / 5.0;
    // The server's time is of the execution alone; ours has parsing and planning around it, and waits for a processor.
    assert!(mean >= mean_ms / 1e3 && mean <= mean_ms / 1e3 * 1.5, "ours {mean} s, the server's {mean_ms} ms");
}

/// A `MariaDB` server that ends with the test.
struct Server {
    child: Child,
    directory: PathBuf,
}

impl Server {
    fn start(directory: &Path) -> Result<Self, Skip> {
        let user = nobody();
        give(directory, user);
        let data = directory.join("data");
        let option = |name: &str, path: &Path| format!("--{name}={}", path.display());
        let mut install = tool("mariadb-install-db")?;
        install.uid(user).current_dir(directory).args(["--no-defaults", "--skip-test-db"]);
        text(install.args(["--auth-root-authentication-method=normal", &option("datadir", &data)]));
        let mut server = tool("mariadbd")?;
        server.uid(user).current_dir(directory).args(["--no-defaults", "--skip-networking"]);
        server.args([option("datadir", &data), option("socket", &directory.join("socket"))]);
        server.arg(option("log-error", &directory.join("log")));
        let child = server.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let server = Self { child, directory: directory.to_owned() };
        let answers = || {
            server
                .client()
                .is_ok_and(|mut client| client.args(["-e", "select 1"]).output().unwrap().status.success())
        };
        let log = || fs::read_to_string(directory.join("log")).unwrap_or_default();
        assert!(within(Duration::from_mins(1), answers).is_some(), "{}", log());
        Ok(server)
    }

    fn client(&self) -> Result<Command, Skip> {
        let mut client = tool("mariadb")?;
        client.args(["--no-defaults", "-uroot", "-N", "-S"]).arg(self.directory.join("socket"));
        Ok(client)
    }

    /// Statements of a kind that the server has counted.
    fn count(&self, kind: &str) -> Result<u64, Skip> {
        let query = format!("show global status like 'Com_{kind}'");
        let printed = text(self.client()?.args(["-e", &query]));
        Ok(printed.split_whitespace().last().unwrap().parse().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn commands() -> Outcome {
    let program = PathBuf::from(tool("mariadbd")?.get_program());
    let symbols = text(tool("nm")?.args(["-D", "--defined-only"]).arg(&program));
    let symbol = symbols
        .lines()
        .filter_map(|line| line.split_whitespace().last())
        .find(|name| name.starts_with("_Z16dispatch_command19enum_server_commandP3THDPcj"))
        .ok_or_else(|| Skip(format!("`{}` does not tell where commands are", program.display())))?;
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(directory.path())?;
    text(server.client()?.args([
        "-e",
        "create database b; create table b.t (i int primary key, n int); insert into b.t values (1, 0)",
    ]));
    // Not in the server's directory, which is its user's.
    let own = tempfile::tempdir().unwrap();
    let file = own.path().join("probes.yaml");
    fs::write(&file, MARIADB.replace("PROGRAM", &program.display().to_string()).replace("SYMBOL", symbol))
        .unwrap();
    let tapster = Tapster::start(&["--strict", "-c", file.to_str().unwrap()]);
    let before = [server.count("select")?, server.count("update")?];
    let statements = directory.path().join("statements");
    let lines = "select * from b.t where i = 1;\nupdate b.t set n = n + 1 where i = 1;\n".repeat(200);
    fs::write(&statements, lines).unwrap();
    let clients: Vec<Child> = (0..3)
        .map(|_| {
            let mut client = server.client()?;
            client.stdin(fs::File::open(&statements).unwrap()).stdout(Stdio::null());
            Ok(client.spawn().unwrap())
        })
        .collect::<Result<_, Skip>>()?;
    for mut client in clients {
        assert!(client.wait().unwrap().success());
    }
    // The client has its answer before the server is through with the command.
    let metrics = tapster.settled("tapster_command_duration_seconds_count", &[]);
    let mut sum = 0.0;
    for (kind, before) in ["select", "update"].into_iter().zip(before) {
        let ours = metrics.histogram("tapster_command_duration_seconds", &[("statement", kind)]);
        assert_eq!(ours.count(), 600, "{kind}");
        assert_eq!(server.count(kind)? - before, 600, "{kind}: the server's own count");
        sum += ours.sum;
    }
    let changed = text(server.client()?.args(["-e", "select n from b.t"]));
    assert_eq!(changed.trim(), "600", "what was updated as often");
    assert_eq!(whole(metrics.sum("tapster_probe_dropped_total", &[])), 0, "dropped");
    Ok(format!("1200 queries of 3 clients as counted by the server, {sum:.3} s"))
}

#[test]
fn queries_are_those_of_the_server() {
    let Some(mut cases) = Cases::as_root("databases") else {
        return;
    };
    cases.run("PostgreSQL under pgbench", queries);
    cases.run("MariaDB", commands);
    cases.finish();
}
