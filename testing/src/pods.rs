//! A tree of containers like those of runtimes: cgroups with such names, and links to logs like the kubelet's.

use super::{
    cases::Skip,
    command::{text, tool},
    fixture,
    metrics::Metrics,
};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Families of the library, and labels that identify a container in their series.
pub const OFF_CPU: &str = "tapster_container_off_cpu_seconds_total";
pub const RUN_QUEUE: &str = "tapster_container_run_queue_seconds_total";
pub const LABELS: [&str; 3] = ["k8s_namespace_name", "k8s_pod_name", "k8s_container_name"];
/// Their text for what is in no container, or in no pod.
pub const NONE: &str = "~none";

/// Names that runtimes give to the cgroup of a container: `UID` and `FLAT` stand for the pod's, `ID` for the container's. Then
/// whether it has a log.
pub const FORMS: [(&str, &str, bool); 8] = [
    (
        "containerd",
        "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podFLAT.slice/cri-containerd-ID.scope",
        true,
    ),
    ("crio", "kubepods.slice/kubepods-podFLAT.slice/crio-ID.scope", true),
    ("cgroupfs", "kubepods/besteffort/podUID/ID", true),
    ("service", "system.slice/containerd.service/kubepods-burstable-podFLAT.slice:cri-containerd:ID", true),
    ("nested", "kubepods.slice/kubepods-podFLAT.slice/cri-containerd-ID.scope/inner", true),
    ("within", "docker/NODE/kubelet/kubepods/podUID/ID", true),
    ("docker", "system.slice/docker-ID.scope", false),
    ("dockerfs", "docker/ID", false),
];

/// How far sums may differ from the programs' own reports.
pub const TOLERANCE: f64 = 0.02;

/// A container of the tree.
#[derive(Clone, Debug)]
pub struct Container {
    pub name: String,
    /// Its cgroup below the root of the tree.
    pub path: String,
    /// Names of its link to a log and of the link's target.
    pub log: Option<(String, String)>,
    /// The values of its labels.
    namespace: String,
    pod: String,
    label: String,
}

impl Container {
    fn new(version: &str, (name, path, has_log): (&str, &str, bool), number: usize) -> Self {
        let name = format!("{name}-{version}");
        let uid = format!("0a1b2c3d-0000-4000-8000-{number:012x}");
        let id = format!("{number:012x}{}", "5".repeat(52));
        let path = path.replace("UID", &uid).replace("FLAT", &uid.replace('-', "_"));
        let path = path.replace("ID", &id).replace("NODE", &"a".repeat(64));
        let (namespace, pod) = (format!("ns-{version}"), format!("{name}-7d4b9c"));
        let log = format!("{pod}_{namespace}_app-{name}-{id}.log");
        let log = (log, format!("/var/log/pods/{namespace}_{pod}_{uid}/app-{name}/0.log"));
        let named = |text: String| if has_log { text } else { NONE.to_owned() };
        Self {
            label: if has_log { format!("app-{name}") } else { id[..12].to_owned() },
            namespace: named(namespace),
            pod: named(pod),
            log: has_log.then_some(log),
            name,
            path,
        }
    }

    /// One container of each form, for a version of cgroups.
    pub fn all(version: &str) -> Vec<Self> {
        let first = if version == "v1" { 0x1000 } else { 0x2000 };
        FORMS.into_iter().zip(first..).map(|(form, number)| Self::new(version, form, number)).collect()
    }

    pub fn labels(&self) -> [(&str, &str); 3] {
        [(LABELS[0], &self.namespace), (LABELS[1], &self.pod), (LABELS[2], &self.label)]
    }
}

/// A cgroup of the test in a hierarchy, with everything that the test makes in it.
#[derive(Debug)]
pub struct Tree(pub PathBuf);

impl Tree {
    fn new(mount: &str) -> Option<Self> {
        let tree = Self(Path::new(mount).join(format!("tapster-test-{}", std::process::id())));
        fs::create_dir(&tree.0).is_ok().then_some(tree)
    }

    /// A tree in each version that this machine has; for version 1 in the hierarchy of the cpu controller.
    pub fn all() -> Result<Vec<(&'static str, Self)>, Skip> {
        let table = fs::read_to_string("/proc/self/mounts").unwrap();
        let mounted = |is_it: &dyn Fn(&str, &str) -> bool| {
            table.lines().find_map(|line| {
                let fields: Vec<&str> = line.split(' ').collect();
                is_it(fields.get(2)?, fields.get(3)?).then(|| fields[1].to_owned())
            })
        };
        let second = mounted(&|kind, _| kind == "cgroup2");
        let first =
            mounted(&|kind, options| kind == "cgroup" && options.split(',').any(|option| option == "cpu"));
        let tree = |version, mount: Option<String>| Some((version, Self::new(&mount?)?));
        let trees: Vec<_> = [tree("v2", second), tree("v1", first)].into_iter().flatten().collect();
        if trees.is_empty() {
            return Err(Skip(
                "no cgroup can be made, neither of version 2 nor of the processor controller in version 1"
                    .into(),
            ));
        }
        Ok(trees)
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

/// All containers, one on each line: the version, the name, the cgroup, the link and its target, `-` for none.
pub fn list() -> String {
    let all = ["v1", "v2"].into_iter().flat_map(|version| {
        Container::all(version).into_iter().map(move |Container { name, path, log, .. }| {
            let (link, target) = log.unwrap_or_else(|| ("-".into(), "-".into()));
            format!("{version} {name} {path} {link} {target}\n")
        })
    });
    all.collect()
}

/// Builds the program that runs in them.
pub fn build(directory: &Path) -> Result<PathBuf, Skip> {
    let program = directory.join("pods");
    let source = fixture::file("programs/pods.c");
    text(tool("cc")?.args(["-O1", "-Wall", "-static"]).arg("-o").arg(&program).arg(source));
    Ok(program)
}

/// A program's report: seconds asleep and waiting while it was in the cgroup, at least and at most.
#[derive(Clone, Copy, Debug)]
pub struct Truth {
    slept: (f64, f64),
    queued: (f64, f64),
}

impl Truth {
    pub fn parse(line: &str) -> Self {
        let json: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{line:?}: {error}"));
        let seconds = |key: &str| {
            let of = |bound: &str| json[bound][key].as_f64().unwrap();
            (of("least"), of("most"))
        };
        Self { slept: seconds("slept"), queued: seconds("queued") }
    }
}

/// The largest differences of sleeps and waits, and the limits for them.
#[derive(Clone, Copy, Debug)]
pub struct Worst {
    off: [f64; 2],
    tolerance: [f64; 2],
}

impl Worst {
    pub fn within(sleeps: f64, waits: f64) -> Self {
        Self { off: [0.0; 2], tolerance: [sleeps, waits] }
    }

    /// Compares the counts of a container between two scrapes with its program's report; returns whether everything was
    /// counted. More than the report is a failure; the caller judges less.
    pub fn compare(
        &mut self,
        (before, after): (&Metrics, &Metrics),
        container: &Container,
        truth: Truth,
    ) -> bool {
        let name = &container.name;
        assert!(truth.slept.0 > 0.5 && truth.queued.0 > 0.1, "{name}: {truth:?}");
        let states = after.values(OFF_CPU, &container.labels(), "state");
        let known = || LABELS.map(|label| after.values(OFF_CPU, &[], label));
        assert!(
            states.iter().any(|state| state == "interruptible"),
            "{:?}: {states:?}; counted are {:?}",
            container.labels(),
            known()
        );
        let families = [(OFF_CPU, truth.slept), (RUN_QUEUE, truth.queued)];
        let mut is_whole = true;
        for (number, (family, (least, most))) in families.into_iter().enumerate() {
            let sum = |metrics: &Metrics| metrics.sum(family, &container.labels());
            let (counted, tolerance) = (sum(after) - sum(before), self.tolerance[number]);
            assert!(counted < most * (1.0 + tolerance), "{name}: {counted} s in {family}, {truth:?}");
            // There is no difference within the bounds. The clocks are read one after the other, so the bounds may be slightly
            // reversed.
            let off = counted / counted.clamp(least, most.max(least)) - 1.0;
            if off > -tolerance {
                self.off[number] = self.off[number].max(off.abs());
            } else {
                is_whole = false;
            }
        }
        is_whole
    }
}

impl std::fmt::Display for Worst {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [sleeps, waits] = self.off.map(|off| off * 100.0);
        write!(f, "sleeps at most {sleeps:.2} % off, waits at most {waits:.2} %")
    }
}

/// A storm's report about itself.
#[derive(Clone, Copy, Debug)]
pub struct Storm {
    pub least: u64,
    pub most: u64,
    pub seconds: f64,
}

impl Storm {
    pub fn parse(line: &str) -> Self {
        let json: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{line:?}: {error}"));
        let number = |key: &str| json[key].as_u64().unwrap();
        Self { least: number("least"), most: number("most"), seconds: json["seconds"].as_f64().unwrap() }
    }
}

/// Series that decreased, although they still exist.
pub fn lessened(before: &Metrics, after: &Metrics) -> Vec<String> {
    let is_ours = |name: &str| name == OFF_CPU || name == RUN_QUEUE || name == "tapster_site_who_total";
    let known = before.0.iter().filter(|sample| is_ours(&sample.name));
    known
        .filter_map(|old| {
            let new = after.0.iter().find(|new| new.name == old.name && new.labels == old.labels)?;
            (new.value < old.value).then(|| format!("{old:?} became {}", new.value))
        })
        .collect()
}

/// Makes the cgroups and links of containers; skips if something is missing.
pub fn make(root: &Path, logs: &Path, containers: &[Container]) -> Result<(), Skip> {
    for container in containers {
        let directory = root.join(&container.path);
        fs::create_dir_all(&directory)
            .map_err(|error| Skip(format!("`{}` cannot be made: {error}", directory.display())))?;
        if let Some((link, target)) = &container.log {
            std::os::unix::fs::symlink(target, logs.join(link)).unwrap();
        }
    }
    Ok(())
}

/// Removes a tree of cgroups without processes.
pub fn remove(root: &Path) {
    let inner = fs::read_dir(root).into_iter().flatten().flatten();
    for entry in inner.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        remove(&entry.path());
    }
    let _ = fs::remove_dir(root);
}
