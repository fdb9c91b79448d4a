//! The chart: what it makes of many sets of values, checked against the API of several versions of Kubernetes, and its own pod
//! run by a container runtime.

use super::{
    host,
    support::{
        cases::{Cases, Outcome, Skip},
        command::{self, output, tool},
        exporter::{Tapster, binary, within},
        fixture::repository,
        http,
        load::{COUNT, Load},
        metrics::{Metrics, whole},
        pods::{self, Container, OFF_CPU, Tree},
        prometheus::free_port,
    },
};
use std::{
    env, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};

/// A Python with Helm's library.
fn python() -> Result<Command, Skip> {
    command::python("helm_python, kubernetes_validate, yaml", "`helm-python-sdk` and `kubernetes-validate`")
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Everything that can be said without a cluster.
fn rendered() -> Outcome {
    let directory = tempfile::tempdir().unwrap();
    let flags = directory.path().join("flags");
    fs::write(&flags, output(binary().arg("--help")).stdout).unwrap();
    let mut command = python()?;
    command.arg(repository().join("tests/chart/check.py")).arg("--flags").arg(&flags);
    command.arg("--tapster").arg(binary().get_program());
    let output = output(&mut command);
    assert!(output.status.success(), "{}", said(&output));
    let chart = fs::read_to_string(repository().join("helm/tapster/Chart.yaml")).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    assert!(
        chart.contains(&format!("appVersion: \"{version}\"")),
        "the chart is of another version than {version}"
    );
    Ok(said(&output).trim().lines().last().unwrap_or_default().to_owned())
}

/// A container runtime with a storage of its own, so that nothing of the host's is touched.
struct Runtime {
    directory: tempfile::TempDir,
    image: String,
}

impl Runtime {
    /// With the image of `packaging/Containerfile`, made of the static binary.
    fn new() -> Result<Self, Skip> {
        for program in ["podman", "buildah", "runc"] {
            tool(program)?;
        }
        let program = binary().get_program().to_owned();
        // The image has no C library.
        if !cfg!(target_feature = "crt-static") {
            return Err(Skip("the binary is not static; that of `./test` is".into()));
        }
        // Layers need a file system with links, which one in memory has not everywhere.
        let directory = tempfile::Builder::new().prefix("tapster-pod").tempdir_in("/var/tmp").unwrap();
        let runtime = Self { directory, image: "localhost/tapster:test".into() };
        let context = runtime.path("context");
        fs::create_dir_all(context.join("amd64")).unwrap();
        fs::copy(program, context.join("amd64/tapster")).unwrap();
        fs::write(context.join("ca-certificates.crt"), "").unwrap();
        fs::write(
            runtime.path("containers.conf"),
            "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n",
        )
        .unwrap();
        let mut build = runtime.command("buildah");
        build.args([
            "bud",
            "--isolation",
            "chroot",
            "--build-arg",
            "TARGETARCH=amd64",
            "-t",
            &runtime.image,
            "-f",
        ]);
        build.arg(repository().join("packaging/Containerfile")).arg(&context);
        let built = output(&mut build);
        assert!(built.status.success(), "{}", said(&built));
        Ok(runtime)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// `podman` or `buildah`, over that storage.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("CONTAINERS_CONF", self.path("containers.conf"));
        // A directory of the image's name would be built instead of taken.
        command.current_dir(self.directory.path());
        command.arg("--root").arg(self.path("storage")).arg("--runroot").arg(self.path("run"));
        if program == "podman" {
            command.args(["--runtime", "runc", "--cgroup-manager", "cgroupfs"]);
        }
        command
    }

    /// Starts the chart's pod with these values; secrets are directories of files.
    fn play(
        &self,
        name: &str,
        values: &str,
        secrets: &[(&str, &Path)],
        logs: &Path,
    ) -> Result<Pod<'_>, Skip> {
        let file = self.path(&format!("{name}-values.yaml"));
        fs::write(&file, values).unwrap();
        let profile = self.path(&format!("{name}.json"));
        let mut make = python()?;
        make.arg(repository().join("tests/chart/pod.py"))
            .args(["--name", name, "--image", &self.image, "--no-checks", "--no-secrets", "--seccomp"])
            .arg(&profile);
        for (secret, directory) in secrets {
            make.arg("--secret").arg(format!("{secret}={}", directory.display()));
        }
        let made = output(make.arg(&file));
        assert!(made.status.success(), "{}", said(&made));
        let text = String::from_utf8(made.stdout).unwrap();
        assert!(text.contains("/var/log/containers"), "{text}");
        // Links to logs of the test's own containers; the host's stay out of it.
        let text = text.replace("path: /var/log/containers", &format!("path: {}", logs.display()));
        let manifest = self.path(&format!("{name}.yaml"));
        fs::write(&manifest, text).unwrap();
        let mut play = self.command("podman");
        play.args(["kube", "play", "--network", "host", "--seccomp-profile-root"]).arg(self.directory.path());
        let played = output(play.arg(&manifest));
        let pod = Pod { runtime: self, name: name.into(), manifest };
        assert!(played.status.success(), "{}", said(&played));
        Ok(pod)
    }
}

/// A pod that runs.
struct Pod<'r> {
    runtime: &'r Runtime,
    name: String,
    manifest: PathBuf,
}

impl Pod<'_> {
    /// What its container logged.
    fn log(&self) -> String {
        let mut command = self.runtime.command("podman");
        said(&output(command.args(["pod", "logs", &self.name])))
    }

    /// The process of its container.
    fn pid(&self) -> u32 {
        let list =
            output(self.runtime.command("podman").args(["ps", "--format", "{{.ID}} {{.Command}} {{.Pod}}"]));
        let text = said(&list);
        let id = text.lines().find(|line| line.contains("--config")).and_then(|line| line.split(' ').next());
        let id = id.unwrap_or_else(|| panic!("no container runs: {text}\n{}", self.log()));
        let found =
            output(self.runtime.command("podman").args(["inspect", "--format", "{{.State.Pid}}", id]));
        String::from_utf8_lossy(&found.stdout).trim().parse().unwrap()
    }

    /// Where the files of one of its `ConfigMap`s are.
    fn files(&self, config_map: &str) -> PathBuf {
        let mut command = self.runtime.command("podman");
        let found = output(command.args(["volume", "inspect", "--format", "{{.Mountpoint}}", config_map]));
        PathBuf::from(String::from_utf8_lossy(&found.stdout).trim())
    }
}

impl Drop for Pod<'_> {
    fn drop(&mut self) {
        let _ = self.runtime.command("podman").args(["kube", "down"]).arg(&self.manifest).output();
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        for arguments in [["pod", "rm", "-a", "-f"], ["volume", "rm", "-a", "-f"], ["rmi", "-a", "-f", "-i"]]
        {
            let _ = self.command("podman").args(arguments).output();
        }
    }
}

fn scrape(address: SocketAddr) -> Option<Metrics> {
    let response = http::get(address, "/metrics", None).ok().filter(|response| response.status == 200)?;
    Some(Metrics::parse(response.text()))
}

/// The chart's own pod, with its own security context, mounts and arguments.
fn the_pod() -> Outcome {
    let runtime = Runtime::new()?;
    let load = Load::new()?;
    let port = free_port();
    let address: SocketAddr = ([127, 0, 0, 1], port).into();
    let logs = runtime.path("logs");
    fs::create_dir(&logs).unwrap();
    let values = format!(
        "hostNetwork: true\nweb: {{ listenPort: {port} }}\nreload: {{ auto: true, interval: 200ms }}\nprobes:\n  library: [block_io, sched_container_off_cpu]\n  custom:\n    site: |\n      probes:\n        - name: forks\n          at: tracepoint:sched:sched_process_fork\n          metrics: [{{counter: forks_total, help: Forks.}}]\n"
    );
    let control = Tapster::start(&["--probes", "block_io"]);
    let pod = runtime.play("tapster", &values, &[], &logs)?;
    let is_up = || scrape(address).is_some_and(|metrics| whole(metrics.sum("tapster_probe_up", &[])) == 3);
    assert!(within(Duration::from_secs(30), is_up).is_some(), "{}", pod.log());
    let status = fs::read_to_string(format!("/proc/{}/status", pod.pid())).unwrap();
    let line = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default().trim();
    // BPF and PERFMON, and nothing else.
    assert_eq!(
        [line("CapEff:"), line("CapBnd:"), line("NoNewPrivs:")],
        ["000000c000000000", "000000c000000000", "1"]
    );
    // What fio did, as an exporter on the host counts it too.
    let read = |rounds: u64| -> Result<u64, Skip> { (0..rounds).map(|_| load.read()).sum() };
    let name = load.device.name();
    let labels = [("device", name.as_str()), ("operation", "read")];
    let counted = || whole(scrape(address).unwrap().sum(COUNT, &labels));
    let first = read(2)?;
    let expected = load.counted(&control);
    let is_same = |expected: u64| within(Duration::from_secs(5), || counted() == expected).is_some();
    assert!(is_same(expected), "{} in the pod, {expected} on the host, {first} by fio", counted());
    load.assert_all("reads", expected, first);
    // Another probe in its ConfigMap: it is exchanged, and the others go on.
    let before = scrape(address).unwrap();
    assert!(before.find("tapster_forks_total", &[]).is_some_and(|forks| forks > 0.0));
    let site = pod.files("tapster-probes").join("site.yaml");
    let text = fs::read_to_string(&site).unwrap_or_else(|error| panic!("{}: {error}", site.display()));
    fs::write(&site, text.replace("forks_total", "others_total")).unwrap();
    let is_other = || scrape(address).is_some_and(|now| now.find("tapster_others_total", &[]).is_some());
    let took = within(Duration::from_secs(20), is_other).unwrap_or_else(|| panic!("{}", pod.log()));
    assert_eq!(scrape(address).unwrap().find("tapster_forks_total", &[]), None);
    let second = first + read(2)?;
    let expected = load.counted(&control);
    assert!(is_same(expected), "{} in the pod, {expected} on the host, {second} by fio", counted());
    let pods = names_of_pods(&runtime, address, &logs)?;
    Ok(format!(
        "{expected} of {second} reads counted in the pod as on the host, over a ConfigMap that changed ({took:?}); {pods}"
    ))
}

/// Containers of a made directory of logs have the names of their pods.
fn names_of_pods(runtime: &Runtime, address: SocketAddr, logs: &Path) -> Result<String, Skip> {
    let program = pods::build(runtime.directory.path())?;
    let mut found = 0;
    for (version, tree) in Tree::all()? {
        let containers: Vec<Container> =
            Container::all(version).into_iter().filter(|container| container.log.is_some()).take(2).collect();
        pods::make(&tree.0, logs, &containers)?;
        for container in &containers {
            let mut command = Command::new(&program);
            command.arg("stay").arg(tree.0.join(&container.path)).arg(&tree.0).args(["100", "10", "0", "1"]);
            let mut child = command.stdout(Stdio::null()).spawn().unwrap();
            let is_named =
                || scrape(address).is_some_and(|metrics| metrics.sum(OFF_CPU, &container.labels()) > 0.0);
            let named = within(Duration::from_secs(10), is_named);
            child.wait().unwrap();
            found += usize::from(named.is_some());
            // A hybrid shows one of its two hierarchies.
            assert!(
                named.is_some() || version != "v2" || found > 0,
                "{}: {:?}",
                container.name,
                container.labels()
            );
        }
        pods::remove(&tree.0);
    }
    assert!(found > 0, "no container has the name of its pod");
    Ok(format!("{found} containers have the names of their pods"))
}

/// With TLS and a password, a scrape without them is refused.
fn behind_tls() -> Outcome {
    let runtime = Runtime::new()?;
    let secret = runtime.path("secret");
    fs::create_dir(&secret).unwrap();
    let mut openssl = tool("openssl")?;
    openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]);
    openssl.args(["-addext", "subjectAltName=DNS:localhost", "-keyout", "tls.key", "-out", "tls.crt"]);
    assert!(output(openssl.current_dir(&secret)).status.success());
    let port = free_port();
    let hash = bcrypt::hash("scrapes", 6).unwrap();
    let values = format!(
        "hostNetwork: true\nprobes: {{ library: [block_request] }}\nweb:\n  listenPort: {port}\n  tls: {{ enabled: true, existingSecret: served }}\n  basicAuth: {{ enabled: true, users: {{ prometheus: '{hash}' }} }}\n"
    );
    let logs = runtime.path("logs");
    fs::create_dir(&logs).unwrap();
    let pod = runtime.play("secured", &values, &[("served", &secret)], &logs)?;
    let curl = |arguments: &[&str]| -> Result<String, Skip> {
        let mut command = tool("curl")?;
        command.args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "--cacert"]).arg(secret.join("tls.crt"));
        command.args(arguments).arg(format!("https://localhost:{port}/metrics"));
        Ok(String::from_utf8(output(&mut command).stdout).unwrap())
    };
    let right = ["-u", "prometheus:scrapes"];
    let answers = || curl(&right).is_ok_and(|status| status == "200");
    assert!(within(Duration::from_secs(30), answers).is_some(), "{}", pod.log());
    assert_eq!([curl(&[])?, curl(&["-u", "prometheus:wrong"])?], ["401", "401"]);
    assert!(
        http::get(([127, 0, 0, 1], port).into(), "/metrics", None).is_ok_and(|answer| answer.status == 400)
    );
    Ok("200 with certificate and password, 401 without, 400 without TLS".into())
}

#[test]
fn the_chart() {
    let mut cases = Cases::new("chart");
    cases.run("rendered", rendered);
    cases.finish();
}

#[test]
fn the_charts_pod() {
    let Some(mut cases) = Cases::as_root("pod") else { return };
    let _host = host();
    cases.run("counts, another probe, names of pods", the_pod);
    cases.run("behind TLS", behind_tls);
    cases.finish();
}
