//! Cgroups of a machine in a directory, whose tree is walked, and of this machine, whose kernel opens them by id.

use super::*;
use crate::sys::{Capabilities, Capability};
use std::{
    fs,
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, PermissionsExt, symlink},
    },
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};
use tempfile::TempDir;

const A: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const B: &str = "ba9876543210fedcba9876543210fedcba9876543210fedcba9876543210fedc";

/// The namespace, pod and container of a cgroup that is in none.
const NOBODY: &str = "~none/~none/~none";

/// A clock that only the test moves.
#[derive(Clone, Default)]
struct Millis(Arc<AtomicU64>);

impl Millis {
    fn advance(&self, millis: u64) {
        self.0.fetch_add(millis, Ordering::Relaxed);
    }

    fn clock(&self) -> Clock {
        let (start, millis) = (Instant::now(), self.clone());
        Box::new(move || start + Duration::from_millis(millis.0.load(Ordering::Relaxed)))
    }
}

/// A machine with version 2 in `unified` and the controllers `cpu,cpuacct` of version 1 in `cpu`, hierarchy 3.
struct Machine {
    directory: TempDir,
    millis: Millis,
}

impl Machine {
    fn new() -> Self {
        let machine = Self { directory: tempfile::tempdir().unwrap(), millis: Millis::default() };
        for directory in ["proc/self", "unified", "cpu", "logs"] {
            fs::create_dir_all(machine.path(directory)).unwrap();
        }
        let line =
            |name: &str, end: &str| format!("20 1 0:38 / {} rw - {end}\n", machine.path(name).display());
        let mounts = line("unified", "cgroup2 cgroup2 rw") + &line("cpu", "cgroup cgroup rw,cpu,cpuacct");
        fs::write(machine.path("proc/self/mountinfo"), mounts).unwrap();
        fs::write(machine.path("proc/self/cgroup"), "4:memory:/\n3:cpu,cpuacct:/\n0::/\n").unwrap();
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Makes a cgroup; returns its key.
    fn make(&self, path: &str) -> u64 {
        let directory = self.path(path);
        fs::create_dir_all(&directory).unwrap();
        let hierarchy = if path.starts_with("cpu") { 3 << ID_BITS } else { 0 };
        hierarchy | directory.metadata().unwrap().ino()
    }

    fn remove(&self, path: &str) {
        fs::remove_dir(self.path(path)).unwrap();
    }

    /// Makes the log of a container of a pod.
    fn log(&self, names: &str, id: &str, target: &str) {
        symlink(target, self.path("logs").join(format!("{names}-{id}.log"))).unwrap();
    }

    fn open(&self, limit: usize) -> Cgroups {
        let host = Host { proc: self.path("proc"), containers: Some(self.path("logs")), ..Host::default() };
        // This user stands for root.
        let own = self.directory.path().metadata().unwrap().uid();
        let cgroups = Cgroups::with(&host, own, self.millis.clock(), limit);
        cgroups.refresh();
        cgroups
    }

    /// A second later: requests the texts of these keys, then checks.
    fn look(&self, cgroups: &Cgroups, keys: &[u64]) {
        self.millis.advance(1000);
        for key in keys {
            cgroups.is_gone(*key);
        }
        cgroups.look();
    }
}

fn path(cgroups: &Cgroups, key: u64) -> String {
    cgroups.text(key, Part::Path).to_string()
}

fn owner(cgroups: &Cgroups, key: u64) -> String {
    [Part::Namespace, Part::Pod, Part::Container].map(|part| cgroups.text(key, part).to_string()).join("/")
}

#[test]
fn keys_give_paths_in_each_hierarchy() {
    let machine = Machine::new();
    let root = machine.make("unified");
    let service = machine.make("unified/system.slice/foo.service");
    let old = machine.make("cpu/system.slice");
    fs::write(machine.path("unified/cgroup.procs"), "1\n").unwrap();
    let cgroups = machine.open(LIMIT);
    assert!(!cgroups.is_wanted());
    cgroups.want().unwrap();
    assert!(cgroups.is_wanted());
    for (key, expected) in [
        (root, "/"),
        (service, "/system.slice/foo.service"),
        (old, "/system.slice"),
        // No walk has begun since these were asked for.
        (3 << ID_BITS | service, "~unknown"),
        (0, "~unknown"),
        (u64::MAX, "~unknown"),
    ] {
        assert_eq!(path(&cgroups, key), expected, "{key:#x}");
    }
    machine.millis.advance(1000);
    for (key, expected) in [(3 << ID_BITS | service, "~gone"), (0, "~gone"), (u64::MAX, "~unknown")] {
        assert_eq!(path(&cgroups, key), expected, "{key:#x}");
    }
    let other = std::ffi::OsStr::from_bytes(b"a\xff");
    fs::create_dir(machine.path("cpu").join(other)).unwrap();
    machine.millis.advance(1000);
    let key = 3 << ID_BITS | machine.path("cpu").join(other).metadata().unwrap().ino();
    assert_eq!(path(&cgroups, key), "/a\\xff");
}

#[test]
fn walks_are_a_second_apart() {
    let machine = Machine::new();
    let root = machine.make("unified");
    let cgroups = machine.open(LIMIT);
    assert_eq!(path(&cgroups, root), "/");
    let late = machine.make("unified/late");
    assert_eq!(path(&cgroups, late), "~unknown", "no walk has seen that it is gone");
    machine.millis.advance(999);
    assert_eq!(path(&cgroups, late), "~unknown");
    machine.millis.advance(1);
    assert_eq!(path(&cgroups, late), "/late");
}

/// What cannot be read is not taken for gone: neither a hierarchy that is not mounted here, nor one whose mount point does not
/// answer. Each is reported once.
#[test]
fn what_cannot_be_read_is_unknown_and_told_once() {
    let machine = Machine::new();
    let (service, old) = (machine.make("unified/a.service"), machine.make("cpu/a.service"));
    fs::rename(machine.path("cpu"), machine.path("away")).unwrap();
    let cgroups = machine.open(LIMIT);
    cgroups.want().unwrap();
    let foreign = 9 << ID_BITS | 0x4d;
    for _ in 0..3 {
        machine.look(&cgroups, &[service, old, foreign]);
        assert_eq!(path(&cgroups, service), "/a.service");
        for unread in [old, foreign] {
            assert_eq!(path(&cgroups, unread), "~unknown");
            assert_eq!(owner(&cgroups, unread), "~unknown/~unknown/~unknown");
            assert!(!cgroups.is_gone(unread), "so its rows stay");
        }
    }
    assert_eq!(cgroups.lock().unreadable, HashSet::from([3, 9]));
    assert_eq!(cgroups.lock().tell_unreadable(old, "again"), None);
    let told = cgroups.lock().tell_unreadable(5 << ID_BITS, "`/cg` cannot be read: EACCES").unwrap();
    assert_eq!(
        told,
        "cgroups of hierarchy 5 cannot be told, their labels are `~unknown`: `/cg` cannot be read: EACCES; if it was \
         mounted after tapster started, `--sandbox` hides it: restart tapster"
    );
    // Mounted again where it was.
    fs::rename(machine.path("away"), machine.path("cpu")).unwrap();
    machine.millis.advance(1000);
    assert_eq!(path(&cgroups, old), "/a.service");
}

#[test]
fn who_is_missing_in_two_looks_is_gone() {
    let machine = Machine::new();
    let [kept, left, renamed] = ["unified/kept", "unified/left", "cpu/before"].map(|path| machine.make(path));
    let never_seen = u64::MAX >> 20;
    let keys = [kept, left, renamed, never_seen];
    let cgroups = machine.open(LIMIT);
    for key in keys {
        machine.millis.advance(1000);
        cgroups.is_gone(key);
    }
    machine.remove("unified/left");
    fs::rename(machine.path("cpu/before"), machine.path("cpu/after")).unwrap();
    machine.look(&cgroups, &keys);
    assert_eq!(keys.map(|key| cgroups.is_gone(key)), [false; 4]);
    assert_eq!(path(&cgroups, left), "/left", "it may still be counted for");
    assert_eq!(path(&cgroups, renamed), "/after");
    machine.look(&cgroups, &keys);
    assert_eq!(keys.map(|key| cgroups.is_gone(key)), [false, true, false, true]);
    assert_eq!(path(&cgroups, left), "~gone");
    assert_eq!(owner(&cgroups, left), NOBODY, "it was no container's");
    assert_eq!(owner(&cgroups, never_seen), "~gone/~gone/~gone");
    // Its text is no longer requested.
    for _ in 0..4 {
        machine.look(&cgroups, &[kept]);
    }
    assert_eq!(cgroups.lock().entries.keys().collect::<Vec<_>>(), [&kept]);
}

#[test]
fn containers_have_the_names_of_their_logs() {
    let machine = Machine::new();
    let pod = "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod11_22.slice";
    let web = machine.make(&format!("unified/{pod}/cri-containerd-{A}.scope"));
    let inner = machine.make(&format!("unified/{pod}/cri-containerd-{A}.scope/inner"));
    let pause = machine.make(&format!("unified/{pod}/cri-containerd-{B}.scope"));
    let slice = machine.make(&format!("unified/{pod}"));
    let docker = machine.make(&format!("cpu/docker/{B}"));
    let late = machine.make(&format!("cpu/kubepods/pod33/{A}"));
    let lxc = machine.make("cpu/lxc/box");
    let nameless = machine.make(&format!("unified/kubepods/pod44/{}", A.replace('0', "7")));
    machine.log("web-1_shop_nginx", A, "/var/log/pods/shop_web-1_11-22/nginx/0.log");
    let cgroups = machine.open(LIMIT);
    for (key, expected) in [
        (web, "shop/web-1/nginx"),
        (inner, "shop/web-1/nginx"),
        (pause, "shop/web-1/ba9876543210"),
        (slice, NOBODY),
        (docker, "~none/~none/ba9876543210"),
        (late, "shop/web-1/nginx"),
        (lxc, "~none/~none/box"),
        (nameless, "~unknown/~unknown/7123456789ab"),
    ] {
        assert_eq!(owner(&cgroups, key), expected);
    }
    machine.log("db-0_shop_mysql", B, "/elsewhere");
    cgroups.refresh();
    assert_eq!(owner(&cgroups, docker), "shop/db-0/mysql", "a log that came later");
    // A name stays when its log is removed.
    fs::remove_dir_all(machine.path("logs")).unwrap();
    cgroups.refresh();
    assert_eq!(owner(&cgroups, web), "shop/web-1/nginx");
}

/// Makes a directory count as another user's by its mode: the user who runs the test owns them all.
fn hand_over(machine: &Machine, path: &str) {
    fs::set_permissions(machine.path(path), fs::Permissions::from_mode(0o775)).unwrap();
}

#[test]
fn who_has_a_part_of_the_tree_passes_for_nobody() {
    let machine = Machine::new();
    let user = "unified/user.slice/user@1000.service";
    let posing = machine.make(&format!("{user}/cri-containerd-{A}.scope"));
    let below = machine.make(&format!("{user}/app.slice/kubepods/pod11/{A}/inner"));
    let old = machine.make(&format!("cpu/user/docker/{A}"));
    // A container that owns its cgroup, like those with user namespaces, and a cgroup that it makes in there.
    let scope = format!("unified/kubepods.slice/kubepods-pod11.slice/cri-containerd-{A}.scope");
    let own = machine.make(&scope);
    let inner = machine.make(&format!("{scope}/cri-containerd-{B}.scope"));
    machine.log("web-1_shop_nginx", A, "/var/log/pods/shop_web-1_11/nginx/0.log");
    machine.log("bank-0_money_vault", B, "/var/log/pods/money_bank-0_22/vault/0.log");
    for path in [user, "cpu/user", &scope] {
        hand_over(&machine, path);
    }
    let cgroups = machine.open(LIMIT);
    let all = [
        (posing, NOBODY),
        (below, NOBODY),
        (old, NOBODY),
        (own, "shop/web-1/nginx"),
        (inner, "shop/web-1/nginx"),
    ];
    for (key, expected) in all {
        assert_eq!(owner(&cgroups, key), expected, "{}", path(&cgroups, key));
    }
    assert_eq!(path(&cgroups, posing), format!("/user.slice/user@1000.service/cri-containerd-{A}.scope"));
    // Another check does not name it either.
    machine.log("late-0_shop_nginx", A, "/elsewhere");
    cgroups.refresh();
    machine.look(&cgroups, &all.map(|(key, _)| key));
    assert_eq!(owner(&cgroups, posing), NOBODY);
}

#[test]
fn a_container_is_gone_with_its_last_cgroup() {
    let machine = Machine::new();
    let scope = format!("unified/kubepods/pod11/{A}");
    let (outer, inner) = (machine.make(&scope), machine.make(&format!("{scope}/inner")));
    machine.log("web-1_shop_nginx", A, "/var/log/pods/shop_web-1_11/nginx/0.log");
    let cgroups = machine.open(LIMIT);
    let both = [outer, inner];
    let owners = || both.map(|key| owner(&cgroups, key));
    assert_eq!(owners(), ["shop/web-1/nginx"; 2]);
    machine.remove(&format!("{scope}/inner"));
    machine.look(&cgroups, &both);
    machine.look(&cgroups, &both);
    assert_eq!(both.map(|key| cgroups.is_gone(key)), [false, true]);
    assert_eq!(owners(), ["shop/web-1/nginx"; 2]);
    assert!(cgroups.living(&[Part::Pod]).contains(&vec!["web-1".into()]));
    machine.remove(&scope);
    machine.look(&cgroups, &both);
    machine.look(&cgroups, &both);
    assert_eq!(owners(), ["~gone/~gone/~gone"; 2]);
    assert!(cgroups.living(&[Part::Pod]).is_empty());
}

#[test]
fn what_is_remembered_is_bounded() {
    let machine = Machine::new();
    let keys: Vec<_> = (0..10).map(|n| machine.make(&format!("unified/{n}"))).collect();
    let cgroups = machine.open(4);
    for _ in 0..3 {
        machine.look(&cgroups, &keys);
        let known = keys.iter().filter(|key| path(&cgroups, **key) != "~unknown").count();
        assert!(known <= 4, "{known}");
        assert!(cgroups.lock().entries.len() <= 4);
        assert!(!keys.iter().any(|key| cgroups.is_gone(*key)), "what was not found need not be gone");
    }
}

#[test]
fn deep_trees_do_not_hide_the_rest() {
    let machine = Machine::new();
    let deep = machine.make(&format!("unified/{}", vec!["d"; 100].join("/")));
    let shallow = machine.make("unified/s");
    let cgroups = machine.open(LIMIT);
    assert_eq!(path(&cgroups, deep), "~unknown");
    assert_eq!(path(&cgroups, shallow), "/s");
    machine.look(&cgroups, &[deep]);
    machine.look(&cgroups, &[deep]);
    assert!(!cgroups.is_gone(deep));
}

/// A cgroup of this machine that is removed after the test.
struct Own(PathBuf);

impl Drop for Own {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
fn the_kernel_opens_cgroups_by_id() {
    let mounts = match mount::mounts(Path::new("/proc")) {
        Ok(mounts) => mounts,
        Err(error) => return eprintln!("skipped: {error}"),
    };
    let mut tried = 0;
    for mount in mounts {
        let name = format!("tapster-test-{}", std::process::id());
        let own = Own(mount.point.join(&name));
        if let Err(error) = fs::create_dir(&own.0) {
            eprintln!("skipped: `{}`: {error}", own.0.display());
            continue;
        }
        let key = mount.hierarchy << ID_BITS | own.0.metadata().unwrap().ino();
        let cgroups = Cgroups::new(&Host::default());
        assert_eq!(path(&cgroups, key), format!("/{name}"), "{mount:?}");
        let walks = cgroups.lock().trees.iter().filter(|tree| tree.walks()).count();
        let may_open = Capabilities::of_process().unwrap().has(Capability::DacReadSearch);
        assert_eq!(walks == 0, may_open, "{walks} hierarchies are walked");
        drop(own);
        for (look, expected) in [(1, false), (2, true)] {
            cgroups.look();
            assert_eq!(cgroups.is_gone(key), expected, "look {look}, {mount:?}");
        }
        tried += 1;
    }
    if tried == 0 {
        eprintln!("skipped: no cgroup can be made");
    }
}

/// As systemd delegates a part of the tree: its directory has another owner, who makes cgroups in it.
#[test]
fn a_user_with_a_part_of_this_machines_tree_passes_for_nobody() {
    let mounts = mount::mounts(Path::new("/proc")).unwrap_or_default();
    let mut tried = 0;
    for mount in mounts {
        let part = Own(mount.point.join(format!("tapster-part-{}", std::process::id())));
        let posing = Own(part.0.join(format!("cri-containerd-{A}.scope")));
        let honest = Own(mount.point.join(format!("docker-{}.scope", A.replace('0', "7"))));
        let made = [&part, &posing, &honest].iter().try_for_each(|own| fs::create_dir(&own.0));
        if made.and_then(|()| std::os::unix::fs::chown(&part.0, Some(65_534), None)).is_err() {
            continue;
        }
        let key = |own: &Own| mount.hierarchy << ID_BITS | own.0.metadata().unwrap().ino();
        let cgroups = Cgroups::new(&Host::default());
        assert_eq!(owner(&cgroups, key(&posing)), NOBODY, "{mount:?}");
        assert_eq!(owner(&cgroups, key(&honest)), "~none/~none/7123456789ab", "{mount:?}");
        drop(posing);
        tried += 1;
    }
    if tried == 0 {
        eprintln!("skipped: no cgroup can be made and given away");
    }
}
