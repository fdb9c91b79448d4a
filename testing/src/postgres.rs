//! Separate `PostgreSQL` servers for tests.

use super::{cases::Skip, command::text};
use std::{
    collections::BTreeMap,
    fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The user for servers, which refuse to run as root.
pub fn nobody() -> u32 {
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    passwd.lines().find_map(|line| line.strip_prefix("nobody:")?.split(':').nth(1)?.parse().ok()).unwrap()
}

/// Makes a directory writable for a server.
pub fn give(directory: &Path, user: u32) {
    std::os::unix::fs::chown(directory, Some(user), None).unwrap();
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A server that ends with the test, on a socket in its own directory.
#[derive(Debug)]
pub struct Cluster {
    directory: PathBuf,
    bin: PathBuf,
    user: u32,
}

impl Cluster {
    /// Makes a database in a directory and starts the server, with these settings and its own.
    pub fn start(directory: &Path, bin: &Path, options: &str) -> Self {
        let cluster = Self { directory: directory.to_owned(), bin: bin.to_owned(), user: nobody() };
        give(directory, cluster.user);
        let data = directory.join("data");
        text(
            cluster
                .command("initdb")
                .args([
                    "--no-sync",
                    "--auth=trust",
                    "--username=bench",
                    "--encoding=UTF8",
                    "--locale=C",
                    "-D",
                ])
                .arg(&data),
        );
        let options =
            format!("-k {} -c listen_addresses= -c shared_buffers=24MB {options}", directory.display());
        let log = directory.join("log");
        let mut start = cluster.command("pg_ctl");
        start.args(["start", "--silent", "-w", "-D"]).arg(&data).arg("-l").arg(&log).args(["-o", &options]);
        let status = start.stdout(Stdio::null()).status().unwrap();
        assert!(status.success(), "{}", fs::read_to_string(&log).unwrap_or_default());
        cluster
    }

    /// A command for one of the server's programs, as its user and connected to this server.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        command
            .uid(self.user)
            .current_dir(&self.directory)
            .env("PGHOST", &self.directory)
            .env("PGUSER", "bench");
        command.env("PGDATABASE", "postgres").env("LC_ALL", "C");
        command
    }

    /// Seconds for which each process of the server that lives now has waited for a processor, by its number.
    pub fn waits(&self) -> BTreeMap<u32, f64> {
        let file = fs::read_to_string(self.directory.join("data/postmaster.pid")).unwrap();
        let first = file.lines().next().unwrap();
        let children = fs::read_to_string(format!("/proc/{first}/task/{first}/children")).unwrap();
        let wait = |process: &str| {
            let text = fs::read_to_string(format!("/proc/{process}/schedstat")).ok()?;
            let nanoseconds: f64 = text.split_whitespace().nth(1)?.parse().ok()?;
            Some((process.parse().ok()?, nanoseconds / 1e9))
        };
        children.split_whitespace().filter_map(wait).collect()
    }

    /// Rows of a query, with columns separated by `|`.
    pub fn query(&self, query: &str) -> Vec<Vec<String>> {
        let output = text(self.command("psql").args(["-qAtX", "-c", query]));
        output.lines().map(|line| line.split('|').map(str::to_owned).collect()).collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = self.command("pg_ctl").args(["stop", "--silent", "-m", "immediate", "-D", "data"]).status();
    }
}

/// The newest server in the directories of Debian and Red Hat.
pub fn server() -> Result<PathBuf, Skip> {
    let mut all: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("bin"))
        .chain([PathBuf::from("/usr/bin")])
        .filter(|bin| {
            bin.join("postgres").is_file() && bin.join("initdb").is_file() && bin.join("pgbench").is_file()
        })
        .collect();
    all.sort();
    all.pop().ok_or_else(|| Skip("no PostgreSQL server is installed".into()))
}
