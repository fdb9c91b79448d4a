//! Flags of the rights that are given up after the start.

use crate::{
    cgroup,
    exporter::Exporter,
    host::Host,
    otlp::setting::{Exports, PushSettings},
    owner::{Owners, is_open_to_all, open_to_all},
    sandbox::{KeptCapabilities, Sandbox},
};
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// What `run` gives up once its probes are attached.
#[derive(Args, Debug, Clone)]
pub struct RightsArgs {
    /// Capabilities to keep once probes are attached: names with commas between, `none`, `all`, or `auto` for those that the
    /// probes that run and reading the configuration again need. `none` is enough if the configuration is never read again
    #[arg(long = "capabilities.keep", value_name = "LIST", default_value = "auto")]
    pub keep: KeptCapabilities,
    /// A user besides root and the one who runs this, by number, whose files of probes are taken as well: who may write them
    /// decides what runs in the kernel. May be given several times
    #[arg(long = "config.owner", value_name = "UID")]
    pub owners: Vec<u32>,
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
    /// The rights that are given up, for this exporter on a host; `files` are its configuration and certificates.
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
            // These variables may name certificates of authorities.
            files.extend(
                ["SSL_CERT_FILE", "SSL_CERT_DIR"].iter().filter_map(std::env::var_os).map(PathBuf::from),
            );
        }
        let needs = exporter.needs();
        if needs.root {
            files.push(host.passwd());
            files.extend(host.pci_ids());
        }
        // Cgroups are below `/sys` on most hosts, and can be anywhere.
        let mut directories = cgroup::mount_points(&host.proc);
        directories.extend([host.proc.clone(), host.sys.clone(), host.udev.clone(), host.container_logs()]);
        Sandbox {
            keep: self.keep.clone(),
            is_on: self.sandbox == Switch::On,
            needs,
            directories,
            files,
            mapper: host.dev.join("mapper/control"),
            listed: host.dev.clone(),
            connects,
        }
    }
}

/// Warns of files of the web configuration and of pushes that others may write, and of keys that everybody may read.
pub(super) fn warn_of_others(owners: &Owners, web: Vec<PathBuf>, push: Option<&PushSettings>) {
    let client = push.and_then(|push| push.tls.client.as_ref());
    let authorities = push.and_then(|push| push.tls.authorities.as_ref());
    let pushes = client.into_iter().flat_map(|(certificate, key)| [certificate, key]).chain(authorities);
    for path in web.into_iter().chain(pushes.map(|file| file.path.clone())) {
        if let Err(stranger) = owners.vouch(&path) {
            tracing::warn!("{stranger}");
        }
    }
    if let Some((_, key)) = client
        && is_open_to_all(&key.path)
    {
        tracing::warn!("{}", open_to_all(&key.path));
    }
}
