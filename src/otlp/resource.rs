//! The host and process of the metrics, by OpenTelemetry's semantic conventions for resources.

use super::point::text;
use crate::host::Host;
use opentelemetry_proto::tonic::resource::v1::Resource;
use std::{collections::BTreeMap, fs, path::Path};

/// Variables that are commonly filled by Kubernetes' downward API, and their attributes. Names without
/// `K8S_` have other meanings elsewhere, so they count in a pod only.
///
/// `k8s.namespace.name`, `k8s.pod.name` and `k8s.container.name` are left to the points: where a receiver makes attributes of the
/// resource attributes of each point, those of tapster's own pod would win over those of the pods that it measures. The node and
/// the UID say which pod pushed.
const KUBERNETES: [(&str, &[&str]); 3] = [
    ("k8s.cluster.name", &["K8S_CLUSTER_NAME"]),
    ("k8s.node.name", &["K8S_NODE_NAME", "NODE_NAME"]),
    ("k8s.pod.uid", &["K8S_POD_UID", "POD_UID"]),
];
/// Kubernetes sets it in every pod.
const IN_A_POD: &str = "KUBERNETES_SERVICE_HOST";

/// Finds out the attributes, and overrides them with the `given` ones.
pub fn resource(
    host: &Host,
    variable: &dyn Fn(&str) -> Option<String>,
    given: &[(String, String)],
) -> Resource {
    let mut attributes: BTreeMap<String, String> = BTreeMap::new();
    let mut set = |key: &str, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            attributes.insert(key.to_owned(), value);
        }
    };
    set("service.name", Some(env!("CARGO_PKG_NAME").into()));
    set("service.version", Some(env!("CARGO_PKG_VERSION").into()));
    set("os.type", Some("linux".into()));
    set("host.arch", Some(arch().into()));
    let name = line(&host.proc.join("sys/kernel/hostname"));
    let release = line(&host.proc.join("sys/kernel/osrelease"));
    set("os.description", Some(description(&host.proc, release.as_deref().unwrap_or_default())));
    set("os.version", release);
    set("host.id", of_host(&host.proc, "etc/machine-id").map(|id| id.trim().to_owned()));
    let is_pod = variable(IN_A_POD).is_some();
    for (attribute, variables) in KUBERNETES {
        let mut counting = variables.iter().filter(|name| is_pod || name.starts_with("K8S_"));
        set(attribute, counting.find_map(|name| variable(name)));
    }
    // The host name of a pod is the pod's name; people look for the node.
    let node = attributes.get("k8s.node.name").cloned().or_else(|| name.clone());
    let mut set = |key: &str, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            attributes.insert(key.to_owned(), value);
        }
    };
    set("host.name", node.clone());
    // It becomes Prometheus' `instance`, by which people know a host in alerts and dashboards.
    set("service.instance.id", node);
    for (key, value) in given {
        attributes.insert(key.clone(), value.clone());
    }
    let attributes = attributes.iter().map(|(key, value)| text(key, value)).collect();
    Resource { attributes, ..Resource::default() }
}

/// The processor by its name in the conventions.
fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "riscv64" => "riscv64",
        "powerpc64" => "ppc64",
        other => other,
    }
}

fn line(path: &Path) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

/// Reads a file of the host: below the root of process 1 if it can be read, which is the host's for a container that
/// sees the host's processes; else below this process's root.
fn of_host(proc: &Path, path: &str) -> Option<String> {
    let root = proc.join("1/root");
    fs::read_to_string(root.join(path)).or_else(|_| fs::read_to_string(Path::new("/").join(path))).ok()
}

/// `Debian GNU/Linux 12 (bookworm), Linux 6.18.44`.
fn description(proc: &Path, release: &str) -> String {
    let kernel = format!("Linux {release}");
    let release =
        of_host(proc, "etc/os-release").or_else(|| of_host(proc, "usr/lib/os-release")).unwrap_or_default();
    let pretty = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    match pretty.map(|name| name.trim_matches(['"', '\''])) {
        Some(name) if !name.is_empty() => format!("{name}, {kernel}"),
        _ => kernel,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::common::v1::any_value::Value;

    fn found(resource: &Resource) -> BTreeMap<&str, &str> {
        let pairs = resource.attributes.iter().map(|attribute| {
            let value = attribute.value.as_ref().and_then(|value| value.value.as_ref()).unwrap();
            let Value::StringValue(value) = value else { panic!("{value:?}") };
            (attribute.key.as_str(), value.as_str())
        });
        pairs.collect()
    }

    #[test]
    fn what_is_found_and_what_is_given() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("sys/kernel/hostname", "node-17\n");
        write("sys/kernel/osrelease", "6.12.1\n");
        write("1/root/etc/machine-id", "0123456789abcdef0123456789abcdef\n");
        write("1/root/etc/os-release", "NAME=x\nPRETTY_NAME=\"Debian 13\"\n");
        let host = Host { proc: root.path().into(), ..Host::default() };
        let bare_resource = resource(&host, &|_| None, &[]);
        let bare = found(&bare_resource);
        for (key, value) in [
            ("service.name", "tapster"),
            ("service.version", env!("CARGO_PKG_VERSION")),
            ("service.instance.id", "node-17"),
            ("host.name", "node-17"),
            ("host.id", "0123456789abcdef0123456789abcdef"),
            ("os.type", "linux"),
            ("os.version", "6.12.1"),
            ("os.description", "Debian 13, Linux 6.12.1"),
        ] {
            assert_eq!(bare.get(key), Some(&value), "{key}");
        }
        assert!(!bare.keys().any(|key| key.starts_with("k8s.")), "{bare:?}");
        let given =
            [("service.name".to_owned(), "mine".to_owned()), ("deployment".to_owned(), "test".to_owned())];
        let elsewhere = |name: &str| (name == "POD_UID").then(|| "a program's own".to_owned());
        assert_eq!(found(&resource(&host, &elsewhere, &[])), bare);
        let variables = |name: &str| match name {
            "NODE_NAME" => Some("worker-3".to_owned()),
            "POD_NAMESPACE" | "K8S_POD_NAME" | "CONTAINER_NAME" => Some("tapster".to_owned()),
            "POD_UID" => Some("0a1b".to_owned()),
            IN_A_POD => Some("10.0.0.1".to_owned()),
            _ => None,
        };
        let all = resource(&host, &variables, &given);
        let all = found(&all);
        for (key, value) in [
            ("service.name", "mine"),
            ("deployment", "test"),
            ("k8s.node.name", "worker-3"),
            ("k8s.pod.uid", "0a1b"),
            ("service.instance.id", "worker-3"),
            ("host.name", "worker-3"),
        ] {
            assert_eq!(all.get(key), Some(&value), "{key}");
        }
        // They are of the pods that are measured.
        for key in ["k8s.namespace.name", "k8s.pod.name", "k8s.container.name"] {
            assert_eq!(all.get(key), None, "{key}");
        }
    }
}
