//! Names of containers and pods, from the links that the kubelet makes to logs of containers:
//! `/var/log/containers/POD_NAMESPACE_CONTAINER-ID.log` → `/var/log/pods/NAMESPACE_POD_UID/CONTAINER/0.log`.
//!
//! So tapster needs no API server. It reads only names of links and their targets, and follows no link.

use crate::{
    container::is_id,
    deadline::{HangingThreads, MayHang},
};
use std::{
    collections::{BTreeMap, HashMap},
    fs,
    ops::Bound,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

/// Most links that are read; a node has some hundred containers.
const LIMIT: usize = 1 << 14;
/// Longest UID of a pod; it has 36 characters.
const LONGEST_UID: usize = 64;
/// Fewest digits of an id. Names of links are cut at 255 bytes, and the id is at their end.
const SHORTEST: usize = 12;
/// A directory that was changed less than this before it was read may change again with the same time of change.
const SETTLED: Duration = Duration::from_secs(2);

/// A pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pod {
    pub(super) namespace: String,
    pub(super) name: String,
}

/// The directory of the links. It is on a disk, which may hang.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    left: HangingThreads,
}

/// The directory's time of change when it was read; `None` if a later change may have the same time, or the directory does not
/// exist.
pub(super) type ChangeTime = Option<SystemTime>;

/// The names in the links.
#[derive(Debug, Default)]
pub(super) struct Logs {
    pub(super) changed: ChangeTime,
    /// Pod and name of each container by its id, or by the beginning of the id.
    containers: BTreeMap<String, (Pod, String)>,
    /// Pods by UID: for containers without a log of their own, such as the one that holds a pod's network.
    pods: HashMap<String, Pod>,
}

impl MayHang for Directory {
    fn left(&self) -> &HangingThreads {
        &self.left
    }
}

impl Directory {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, left: HangingThreads::default() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the links if the directory has changed since then.
    pub(super) fn read(&self, since: ChangeTime) -> Option<Logs> {
        let changed = self.path.metadata().and_then(|metadata| metadata.modified()).ok();
        if changed == since {
            return None;
        }
        let (mut containers, mut pods) = (BTreeMap::new(), HashMap::new());
        for entry in fs::read_dir(&self.path).into_iter().flatten().flatten().take(LIMIT) {
            let name = entry.file_name();
            let Some((id, pod, container)) = name.to_str().and_then(parse_link) else { continue };
            if let Some(uid) = fs::read_link(entry.path()).ok().and_then(|target| uid(&target, &pod)) {
                pods.insert(uid, pod.clone());
            }
            containers.insert(id.to_owned(), (pod, container.to_owned()));
        }
        let age = changed.and_then(|changed| SystemTime::now().duration_since(changed).ok());
        let is_settled = age.is_none_or(|age| age >= SETTLED);
        Some(Logs { changed: changed.filter(|_| is_settled), containers, pods })
    }
}

impl Logs {
    /// Pod and name of a container by its whole id.
    pub(super) fn container(&self, id: &str) -> Option<(&Pod, &str)> {
        // A key that sorts between a prefix of the id and the id has that prefix too.
        let (known, (pod, name)) =
            self.containers.range::<str, _>((Bound::Unbounded, Bound::Included(id))).next_back()?;
        id.starts_with(known.as_str()).then_some((pod, name.as_str()))
    }

    /// The pod with this UID.
    pub(super) fn pod(&self, uid: &str) -> Option<&Pod> {
        self.pods.get(uid)
    }
}

/// Id, pod and container from the name of a link. Names of pods and namespaces contain no `_`, ids no `-`.
fn parse_link(name: &str) -> Option<(&str, Pod, &str)> {
    let (names, id) = name.strip_suffix(".log")?.rsplit_once('-')?;
    let mut names = names.splitn(3, '_');
    let (pod, namespace, container) = (names.next()?, names.next()?, names.next()?);
    let is_whole = !pod.is_empty() && !namespace.is_empty() && !container.is_empty();
    let pod = Pod { namespace: namespace.into(), name: pod.into() };
    (is_whole && id.len() >= SHORTEST && is_id(id)).then_some((id, pod, container))
}

/// The UID in `/var/log/pods/NAMESPACE_POD_UID/CONTAINER/0.log`.
fn uid(target: &Path, pod: &Pod) -> Option<String> {
    let begin = format!("{}_{}_", pod.namespace, pod.name);
    let uid = target.iter().find_map(|part| part.to_str()?.strip_prefix(&begin))?;
    (uid.len() <= LONGEST_UID).then(|| uid.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    const A: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const B: &str = "0123456789ff0123456789abcdef0123456789abcdef0123456789abcdef0123";

    fn pod(namespace: &str, name: &str) -> Pod {
        Pod { namespace: namespace.into(), name: name.into() }
    }

    #[test]
    fn links_name_containers_and_pods() {
        let root = tempfile::tempdir().unwrap();
        let directory = Directory::new(root.path().join("containers"));
        assert!(directory.read(None).is_none(), "a directory that is not there has not changed");
        fs::create_dir(root.path().join("containers")).unwrap();
        let link =
            |name: &str, target: &str| symlink(target, root.path().join("containers").join(name)).unwrap();
        let target = "/var/log/pods/shop_web-7d4b9c-x2k8q_11111111-2222/nginx/0.log";
        link(&format!("web-7d4b9c-x2k8q_shop_nginx-{A}.log"), target);
        // A name that was cut at 255 bytes.
        link(&format!("db-0_shop_side-car-{}.log", &B[..40]), "/elsewhere/0.log");
        let long = "1".repeat(200);
        link(
            &format!("web-7d4b9c-x2k8q_shop_more-{}.log", &A[..20]),
            &format!("/var/log/pods/shop_web-7d4b9c-x2k8q_{long}/more/0.log"),
        );
        for other in
            ["README", "a_b.log", &format!("a_b-{A}.log"), &format!("a_b_-{A}.log"), "a_b_c-0123.log"]
        {
            link(other, "/dev/null");
        }
        let logs = directory.read(None).unwrap();
        let web = pod("shop", "web-7d4b9c-x2k8q");
        assert_eq!(logs.container(A), Some((&web, "nginx")));
        assert_eq!(logs.container(B), Some((&pod("shop", "db-0"), "side-car")));
        assert_eq!(logs.container(&A.replace("abcdef", "abcdee")), None);
        assert_eq!(logs.container(&format!("f{}", &A[1..])), None);
        assert_eq!(logs.pod("11111111-2222"), Some(&web));
        assert_eq!(logs.pod("33333333"), None);
        assert_eq!((logs.pod(&long), logs.pods.len()), (None, 1), "{:?}", logs.pods);
        assert_eq!(logs.containers.len(), 3, "{:?}", logs.containers);
    }

    #[test]
    fn a_directory_that_has_settled_is_read_once() {
        let directory = tempfile::tempdir().unwrap();
        let links = Directory::new(directory.path().into());
        let mut logs = Logs::default();
        let mut refresh = || links.read(logs.changed).map(|read| logs = read).is_some();
        assert!(refresh() && refresh(), "it has changed just now");
        let settled = SystemTime::now() - 2 * SETTLED;
        fs::File::open(directory.path()).unwrap().set_modified(settled).unwrap();
        assert!(refresh() && !refresh());
        symlink("/dev/null", directory.path().join(format!("p_n_c-{A}.log"))).unwrap();
        assert!(refresh());
        assert!(logs.container(A).is_some());
    }
}
