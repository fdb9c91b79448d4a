//! Flags of the rights that are given up after the start.

use crate::{
    exporter::Exporter,
    label::Host,
    otlp::setting::Exports,
    sandbox::{Keep, Sandbox},
};
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// What `run` gives up once its probes are attached.
#[derive(Args, Debug, Clone)]
pub struct RightsArgs {
    /// Capabilities to keep once probes are attached: names with commas between, `none`, `all`, or `auto` for those that the
    /// probes that run and reading the configuration again need. What never reads it again can do with `none`
    #[arg(long = "capabilities.keep", value_name = "LIST", default_value = "auto")]
    pub keep: Keep,
    /// Limit what this process can do once probes are attached: no new programs, only the system calls (seccomp) and files
    /// (Landlock) that it needs
    #[arg(long, value_name = "WHETHER", default_value = "on")]
    pub sandbox: Switch,
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// As far as the kernel has it
    On,
    /// Capabilities only
    Off,
}

impl RightsArgs {
    /// What is given up, for this exporter of a host, whose configuration and certificates are `files`.
    pub(super) fn sandbox(
        &self,
        exporter: &Exporter,
        exports: &Exports,
        host: &Host,
        mut files: Vec<PathBuf>,
    ) -> Sandbox {
        let mut connects = false;
        if let Some(push) = &exports.push {
            connects = true;
            let client = push.tls.client.iter().flat_map(|(certificate, key)| [certificate, key]);
            files.extend(push.tls.authorities.iter().chain(client).map(|file| file.path.clone()));
            // Authorities of the host may be named by these.
            files.extend(
                ["SSL_CERT_FILE", "SSL_CERT_DIR"].iter().filter_map(std::env::var_os).map(PathBuf::from),
            );
        }
        Sandbox {
            keep: self.keep.clone(),
            is_on: self.sandbox == Switch::On,
            needs: exporter.needs(),
            directories: vec![host.proc.clone(), host.sys.clone(), host.container_logs()],
            files,
            mapper: host.dev.join("mapper/control"),
            connects,
        }
    }
}
