//! Queries of databases that are set up for this test, by a user who is not root, and reached by a socket in a directory.

use super::{
    Outcome, Server, Skip, assert_whole, directory, start,
    support::{
        command::{text, tool},
        exporter::{Tapster, within},
        metrics::Metrics,
    },
};
use std::{
    fs,
    os::unix::{fs::symlink, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

/// `nobody`, on all distributions.
const NOBODY: u32 = 65534;
const CLIENTS: u64 = 2;
const TRANSACTIONS: u64 = 150;

fn owned(path: PathBuf) -> PathBuf {
    fs::create_dir(&path).unwrap();
    std::os::unix::fs::chown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
    path
}

fn as_nobody(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command.uid(NOBODY).gid(NOBODY).current_dir("/");
    command
}

fn count(metrics: &Metrics, family: &str, labels: &[(&str, &str)]) -> u64 {
    metrics.histogram(family, labels).count()
}

/// The programs of the newest `PostgreSQL`, as Debian has them.
fn newest() -> Result<(String, PathBuf), Skip> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let with_server = versions.filter(|version| version.path().join("bin/postgres").is_file());
    let newest = with_server.filter_map(|version| version.file_name().to_str()?.parse::<u32>().ok()).max();
    let newest = newest.ok_or_else(|| Skip("PostgreSQL is not installed".into()))?.to_string();
    let programs = Path::new("/usr/lib/postgresql").join(&newest).join("bin");
    Ok((newest, programs))
}

pub(super) fn postgresql() -> Outcome {
    let directory = directory();
    let root = directory.path();
    let (version, programs) = newest()?;
    // It looks for its files beside itself, so the copy gets links to them.
    let home = root.join("lib/postgresql").join(&version);
    fs::create_dir_all(home.join("bin")).unwrap();
    for program in ["postgres", "initdb"] {
        fs::copy(programs.join(program), home.join("bin").join(program)).unwrap();
    }
    symlink(programs.with_file_name("lib"), home.join("lib")).unwrap();
    fs::create_dir_all(root.join("share/postgresql")).unwrap();
    symlink(Path::new("/usr/share/postgresql").join(&version), root.join("share/postgresql").join(&version))
        .unwrap();
    let (data, socket) = (owned(root.join("data")), owned(root.join("socket")));
    text(
        as_nobody(home.join("bin/initdb")).args(["-U", "bench", "-A", "trust", "--no-sync", "-D"]).arg(&data),
    );
    let postgres = home.join("bin/postgres");
    let original = programs.join("postgres").display().to_string();
    let tapster = start("postgresql_query", &original, &postgres, root);
    let mut command = as_nobody(&postgres);
    command.arg("-D").arg(&data).arg("-k").arg(&socket);
    for setting in ["listen_addresses=", "shared_preload_libraries=pg_stat_statements", "fsync=off"] {
        command.args(["-c", setting]);
    }
    let mut server = Server(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let client = |program: &str| {
        let mut command = as_nobody(programs.join(program));
        command.arg("-h").arg(&socket).args(["-U", "bench"]);
        command
    };
    let up = || client("psql").args(["-c", "select 1", "postgres"]).output().unwrap().status.success();
    assert!(within(Duration::from_mins(1), up).is_some(), "PostgreSQL does not answer");
    let sql = |sql: &str| text(client("psql").args(["-At", "-c", sql, "postgres"])).trim().to_owned();
    sql("create extension pg_stat_statements");

    // Three statements a transaction; the second is one of two kinds.
    let script = root.join("script.sql");
    fs::write(&script, "begin;\nselect count(*) from pg_class;\ncommit;\n").unwrap();
    let bench = |protocol: &str| {
        let (clients, transactions) = (CLIENTS.to_string(), TRANSACTIONS.to_string());
        let mut pgbench = client("pgbench");
        pgbench
            .args(["-n", "-M", protocol, "-c", &clients, "-t", &transactions, "-f"])
            .arg(&script)
            .arg("postgres");
        let output = text(&mut pgbench);
        let done = format!("actually processed: {0}/{0}", CLIENTS * TRANSACTIONS);
        assert!(output.contains(&done), "{output}");
    };
    let family = "tapster_postgresql_query_duration_seconds";
    let since = |tapster: &Tapster, before: &Metrics| {
        let after = tapster.scrape();
        assert_whole(&after);
        count(&after, family, &[]) - count(before, family, &[])
    };
    sql("select pg_stat_statements_reset()");
    let before = tapster.scrape();
    bench("simple");
    let simple = since(&tapster, &before);
    let own = sql("select sum(calls) from pg_stat_statements where query not like '%pg_stat_statements%'");
    assert_eq!(
        (simple.to_string(), simple),
        (own, 3 * CLIENTS * TRANSACTIONS),
        "as pg_stat_statements has it"
    );
    let before = tapster.scrape();
    bench("prepared");
    let prepared = since(&tapster, &before);
    assert_eq!(prepared, 3 * CLIENTS * TRANSACTIONS, "as pgbench has it");
    // How long: a statement that sleeps.
    let before = tapster.scrape();
    sql("select pg_sleep(0.3)");
    let slept = tapster.scrape().histogram_since(&before, family, &[]);
    let (lower, upper) = slept.bucket_of_rank(1);
    assert_eq!(slept.count(), 1);
    assert!(upper >= 0.3 && slept.sum >= 0.3 && lower < 30.0, "{} s within ({lower}, {upper}]", slept.sum);
    server.terminate();
    Ok(format!(
        "PostgreSQL {version}: {simple} statements as pg_stat_statements says, {prepared} prepared ones as pgbench says, \
         pg_sleep(0.3) took {:.3} s",
        slept.sum
    ))
}

pub(super) fn mariadb() -> Outcome {
    let directory = directory();
    let root = directory.path();
    let original = tool("mariadbd")?.get_program().to_owned();
    let mut install = tool("mariadb-install-db")?;
    let mariadbd = root.join("mariadbd");
    fs::copy(original, &mariadbd).unwrap();
    let (data, run) = (owned(root.join("data")), owned(root.join("run")));
    install.uid(NOBODY).gid(NOBODY).current_dir("/").arg("--no-defaults").arg("--skip-test-db");
    text(
        install.arg("--auth-root-authentication-method=normal").arg(format!("--datadir={}", data.display())),
    );
    let tapster = start("mariadb_query", "mariadbd", &mariadbd, root);
    let socket = run.join("socket");
    let mut command = as_nobody(&mariadbd);
    command.args([
        "--no-defaults",
        "--skip-networking",
        "--basedir=/usr",
        "--innodb-flush-log-at-trx-commit=0",
    ]);
    command.arg(format!("--datadir={}", data.display())).arg(format!("--socket={}", socket.display()));
    command.arg(format!("--pid-file={}", run.join("pid").display()));
    let mut server = Server(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let client = |sql: &str| {
        let mut command = tool("mariadb")?;
        command
            .args(["--no-defaults", "--batch", "--skip-column-names", "--user=root", "--socket"])
            .arg(&socket);
        command.args(["-e", sql]);
        Ok::<_, Skip>(command)
    };
    client("")?;
    let up = || client("select 1").is_ok_and(|mut command| command.output().unwrap().status.success());
    assert!(within(Duration::from_mins(1), up).is_some(), "MariaDB does not answer");
    let questions = || -> Result<u64, Skip> {
        let line = text(&mut client("show global status like 'Com_select'")?);
        Ok(line.split_whitespace().nth(1).unwrap().parse().unwrap())
    };
    let family = "tapster_mariadb_query_duration_seconds";
    let labels = [("command", "query")];
    let selects = questions()?;
    let before = tapster.scrape();
    // The client sends each statement by itself; `select 1;` hundred times.
    text(&mut client(&"select 1;".repeat(100))?);
    let after = tapster.scrape();
    let own = questions()? - selects;
    let seen = count(&after, family, &labels) - count(&before, family, &labels);
    // A client begins by asking which version it speaks with, which is a select as well.
    assert_eq!(seen, own, "as the server counts");
    assert!(own >= 100, "{own}");
    let quits = |metrics: &Metrics| count(metrics, family, &[("command", "quit")]);
    assert_eq!(quits(&after) - quits(&before), 1, "one client left");
    let before = tapster.scrape();
    text(&mut client("select sleep(0.3)")?);
    let slept = tapster.scrape().histogram_since(&before, family, &labels);
    assert!(slept.sum >= 0.3, "{} s", slept.sum);
    assert_whole(&after);
    server.terminate();
    Ok(format!("{seen} queries as the server says, select sleep(0.3) took {:.3} s", slept.sum))
}
