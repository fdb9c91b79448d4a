//! Flags for serving, and for reloading the configuration.

use crate::{
    duration,
    server::{self, Listener, ServerError},
};
use clap::Args;
use std::{path::PathBuf, time::Duration};

/// How `run` serves.
#[derive(Args, Debug, Clone)]
pub struct WebArgs {
    /// Address to serve on: `HOST:PORT`, or `:PORT` for all interfaces; may be given several times [default: :18277; without
    /// `prometheus` among the exporters, none]
    #[arg(long = "web.listen-address", value_name = "ADDR")]
    pub listen: Vec<String>,
    /// Serve on the sockets that systemd hands over, instead of opening any
    #[arg(long = "web.systemd-socket", conflicts_with = "listen")]
    pub systemd_socket: bool,
    /// Path of metrics
    #[arg(long = "web.telemetry-path", value_name = "PATH", default_value = "/metrics", value_parser = path)]
    pub telemetry_path: String,
    /// Most scrapes at a time, and three quarters of them for one client; others are answered with 503. 0 for no limit
    #[arg(long = "web.max-requests", value_name = "NUMBER", default_value_t = 40)]
    pub max_requests: u16,
    /// File that says how TLS and authentication are done, as for other exporters of Prometheus
    #[arg(long = "web.config.file", value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Read the configuration again on POST to `/-/reload`; SIGHUP always does it
    #[arg(long = "web.enable-lifecycle")]
    pub lifecycle: bool,
}

impl WebArgs {
    /// Opens the sockets. `serves`: whether to open the default port if none is given.
    pub(super) fn listeners(&self, serves: bool) -> Result<Vec<Listener>, ServerError> {
        if self.systemd_socket {
            return server::inherited();
        }
        if self.listen.is_empty() && serves {
            return Ok(vec![server::bind(&format!(":{}", server::PORT))?]);
        }
        self.listen.iter().map(|address| server::bind(address)).collect()
    }
}

/// When `run` reads its configuration again by itself.
#[derive(Args, Debug, Clone)]
pub struct AutoReloadArgs {
    /// Read the configuration again when its files change
    #[arg(long = "config.auto-reload")]
    pub auto_reload: bool,
    /// How often to look for changed files
    #[arg(long = "config.auto-reload-interval", value_name = "TIME", default_value = "30s", value_parser = interval)]
    pub auto_reload_interval: Duration,
}

impl AutoReloadArgs {
    /// How often files are checked, if at all.
    pub(super) fn every(&self) -> Option<Duration> {
        self.auto_reload.then_some(self.auto_reload_interval)
    }
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = duration::parse(text)?;
    if interval < Duration::from_millis(100) { Err("expected 100ms or more".into()) } else { Ok(interval) }
}

/// Parses a path for metrics.
fn path(text: &str) -> Result<String, String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    if !text.starts_with('/') || !text.bytes().all(is_plain) || text.contains("//") {
        return Err("expected a path such as `/metrics`".into());
    }
    if text == "/" || text.starts_with("/-/") || text == "/-" {
        return Err(format!(
            "`{text}` is taken: `/` is a page for people, and what is below `/-/` for orchestrators"
        ));
    }
    Ok(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_metrics_can_be_at() {
        for text in ["/metrics", "/a/b", "/-metrics", "/metrics/"] {
            assert_eq!(path(text).as_deref(), Ok(text));
        }
        for text in ["", "metrics", "/", "/-/ready", "/-", "/a b", "/{a}", "/*a", "/a//b", "//", "/a?b"] {
            assert!(path(text).is_err(), "{text}");
        }
    }
}
