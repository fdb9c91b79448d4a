//! Runs a real `VictoriaMetrics`, and `vmalert` beside it.

use super::{cases::Skip, command::tool, exporter::within, http, prometheus::free_port};
use serde_json::Value;
use std::{
    fs,
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

/// A separate `VictoriaMetrics` for a test.
#[derive(Debug)]
pub struct Victoria {
    child: Child,
    pub address: SocketAddr,
}

impl Victoria {
    /// Starts it on a free port, with its data in this directory.
    pub fn start(directory: &Path) -> Result<Self, Skip> {
        let address: SocketAddr = ([127, 0, 0, 1], free_port()).into();
        let log = fs::File::create(directory.join("victoria.log")).unwrap();
        let child = tool("victoria-metrics")?
            .arg(format!("-storageDataPath={}", directory.join("data").display()))
            .arg(format!("-httpListenAddr={address}"))
            // What is asked is what was imported a moment ago.
            .args(["-search.latencyOffset=0s", "-search.disableCache", "-loggerLevel=WARN"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(|error| Skip(format!("victoria-metrics: {error}")))?;
        let victoria = Self { child, address };
        let ready = || http::get(address, "/health", None).is_ok_and(|response| response.status == 200);
        let log = || fs::read_to_string(directory.join("victoria.log")).unwrap_or_default();
        assert!(
            within(Duration::from_secs(30), ready).is_some(),
            "victoria-metrics does not start:\n{}",
            log()
        );
        Ok(victoria)
    }

    /// Its address as a URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Stores series, each with its labels and its samples at times in milliseconds, and waits until they are found.
    pub fn import(&self, series: &[Value]) {
        let lines: Vec<String> = series.iter().map(Value::to_string).collect();
        let answer = http::post(self.address, "/api/v1/import", lines.join("\n").as_bytes()).unwrap();
        assert_eq!(answer.status, 204, "{}", answer.text());
        self.flush();
    }

    /// Makes what was stored visible.
    pub fn flush(&self) {
        assert_eq!(http::get(self.address, "/internal/force_flush", None).unwrap().status, 200);
    }

    /// Labels of each result of a query at a time, in seconds.
    pub fn query(&self, query: &str, at: u64) -> Vec<Value> {
        let path = format!("/api/v1/query?query={}&time={at}", http::escape(query));
        let response = http::get(self.address, &path, None).unwrap();
        let json: Value = serde_json::from_slice(&response.body).unwrap();
        assert_eq!(json["status"], "success", "{query}: {json}");
        json["data"]["result"].as_array().unwrap().iter().map(|result| result["metric"].clone()).collect()
    }

    /// `vmalert` with a file of rules, which reads and records here.
    pub fn vmalert(&self, rules: &Path) -> Result<Command, Skip> {
        let mut vmalert = tool("vmalert")?;
        vmalert
            .arg(format!("-rule={}", rules.display()))
            .arg(format!("-datasource.url={}", self.url()))
            .arg(format!("-remoteWrite.url={}", self.url()))
            .arg(format!("-httpListenAddr=127.0.0.1:{}", free_port()))
            .args(["-remoteWrite.flushInterval=100ms", "-evaluationInterval=1m"])
            .stdin(Stdio::null());
        Ok(vmalert)
    }
}

impl Drop for Victoria {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
