//! Runs a real Prometheus, which scrapes what a test serves.

use super::{cases::Skip, command::tool, exporter::within, http};
use serde_json::Value;
use std::{
    fmt::Write as _,
    fs,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

/// A separate Prometheus for a test.
#[derive(Debug)]
pub struct Prometheus {
    child: Child,
    pub address: SocketAddr,
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Prometheus {
    /// Starts it on a free port: jobs and their targets are scraped every second, and files of rules evaluated as often.
    pub fn start(
        directory: &Path,
        targets: &[(&str, SocketAddr)],
        features: &[&str],
        rules: &[PathBuf],
    ) -> Result<Self, Skip> {
        Self::start_every(Duration::from_secs(1), directory, targets, features, rules)
    }

    /// Starts another binary than the installed one.
    pub fn start_binary(
        binary: &Path,
        directory: &Path,
        targets: &[(&str, SocketAddr)],
        features: &[&str],
        rules: &[PathBuf],
    ) -> Result<Self, Skip> {
        Self::start_command(Command::new(binary), Duration::from_secs(1), directory, targets, features, rules)
    }

    /// Starts it with another interval for scrapes and evaluations.
    pub fn start_every(
        interval: Duration,
        directory: &Path,
        targets: &[(&str, SocketAddr)],
        features: &[&str],
        rules: &[PathBuf],
    ) -> Result<Self, Skip> {
        Self::start_command(tool("prometheus")?, interval, directory, targets, features, rules)
    }

    /// Starts it with jobs that need more than targets: the lines below `scrape_configs:`.
    pub fn start_jobs(directory: &Path, jobs: &str) -> Result<Self, Skip> {
        let config = format!("global: {{scrape_interval: 1s, scrape_timeout: 1s}}\nscrape_configs:\n{jobs}");
        Self::start_configured(tool("prometheus")?, directory, &config, &[])
    }

    /// Starts it with this whole configuration.
    pub fn start_with(directory: &Path, config: &str) -> Result<Self, Skip> {
        Self::start_configured(tool("prometheus")?, directory, config, &[])
    }

    fn start_command(
        command: Command,
        interval: Duration,
        directory: &Path,
        targets: &[(&str, SocketAddr)],
        features: &[&str],
        rules: &[PathBuf],
    ) -> Result<Self, Skip> {
        let every = format!("{}ms", interval.as_millis());
        let mut config = format!(
            "global: {{scrape_interval: {every}, scrape_timeout: {every}, evaluation_interval: {every}}}\nrule_files:\n"
        );
        for file in rules {
            writeln!(config, "  - {}", file.display()).unwrap();
        }
        config.push_str("scrape_configs:\n");
        for (job, target) in targets {
            writeln!(config, "  - {{job_name: {job}, static_configs: [{{targets: ['{target}']}}]}}").unwrap();
        }
        Self::start_configured(command, directory, &config, features)
    }

    fn start_configured(
        mut command: Command,
        directory: &Path,
        config: &str,
        features: &[&str],
    ) -> Result<Self, Skip> {
        fs::create_dir_all(directory).unwrap();
        let file = directory.join("prometheus.yml");
        fs::write(&file, config).unwrap();
        let address: SocketAddr = ([127, 0, 0, 1], free_port()).into();
        let log = fs::File::create(directory.join("log")).unwrap();
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", directory.join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .args(features)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let prometheus =
            Self { child: command.spawn().map_err(|error| Skip(format!("prometheus: {error}")))?, address };
        let ready = || http::get(address, "/-/ready", None).is_ok_and(|response| response.status == 200);
        let log = || fs::read_to_string(directory.join("log")).unwrap_or_default();
        assert!(within(Duration::from_secs(30), ready).is_some(), "prometheus does not start:\n{}", log());
        Ok(prometheus)
    }

    /// The number of its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// An answer of its API.
    pub fn api(&self, path: &str) -> Value {
        let response = http::get(self.address, &format!("/api/v1/{path}"), None).unwrap();
        let json: Value = serde_json::from_slice(&response.body).unwrap();
        assert_eq!(json["status"], "success", "{path}: {json}");
        json["data"].clone()
    }

    /// Labels and value of each result; of a native histogram, its count.
    pub fn query(&self, query: &str) -> Vec<(Value, f64)> {
        let data = self.api(&format!("query?query={}", http::escape(query)));
        let number = |value: &Value| value[1].as_str().unwrap().parse().unwrap();
        if data["resultType"] == "scalar" {
            return vec![(Value::Null, number(&data["result"]))];
        }
        let results = data["result"].as_array().unwrap();
        let value = |result: &Value| match result["histogram"][1]["count"].as_str() {
            Some(count) => count.parse().unwrap(),
            None => number(&result["value"]),
        };
        results.iter().map(|result| (result["metric"].clone(), value(result))).collect()
    }

    /// The value of a query with one result; `None` while it has none.
    pub fn value(&self, query: &str) -> Option<f64> {
        let results = self.query(query);
        assert!(results.len() <= 1, "{query}: {results:?}");
        results.first().map(|(_, value)| *value)
    }

    /// Waits until a query has this value.
    pub fn wait_value(&self, query: &str, expected: f64) {
        let reached = || self.value(query).is_some_and(|value| (value - expected).abs() < 1e-9);
        assert!(
            within(Duration::from_secs(20), reached).is_some(),
            "{query}: {:?}, not {expected}",
            self.query(query)
        );
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Answers scrapes with a head, without its empty line, and a body until the test process ends; with `None` the connection is closed.
pub fn answering(answer: impl Fn() -> Option<(String, Vec<u8>)> + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut line = String::new();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            while reader.read_line(&mut line).is_ok_and(|bytes| bytes > 2) {
                line.clear();
            }
            let Some((head, body)) = answer() else { continue };
            let _ = stream.write_all(format!("{head}\r\nconnection: close\r\n\r\n").as_bytes());
            let _ = stream.write_all(&body);
        }
    });
    address
}

/// A proxy that requests the text format, because Prometheus before 2.49 has no setting for it. It ends with the test process.
pub fn text_only(exporter: SocketAddr) -> SocketAddr {
    answering(move || {
        let response = http::get(exporter, "/metrics", Some("text/plain;version=0.0.4")).ok()?;
        assert!(response.head.contains("text/plain; version=0.0.4"), "{}", response.head);
        Some((response.head, response.body))
    })
}
