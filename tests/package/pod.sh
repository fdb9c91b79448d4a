#!/usr/bin/env bash
# Boots a Debian under QEMU, with cgroups of version 2 only, builds an array there with one slow member, and has podman run the
# chart's own pod beside it: pod-guest.sh says what it must have counted.
#
#     sudo tests/package/pod.sh dist/tapster-0.1.0-amd64.oci.tar
#
# PYTHON is a Python with `helm-python-sdk` and `pyyaml` (target/python/bin/python3 where ./test made one). KERNEL and CACHE as for
# boot.sh; the kernel needs the modules brd, raid0 and dm-delay. Takes some minutes.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"
[ $# = 1 ] || fail "usage: $0 IMAGE.oci.tar"
[ -f "$1" ] || fail "$1 is not there"
[ -d "${KERNEL-}" ] || fail "KERNEL is not a directory with boot/vmlinuz-* and lib/modules"
start "$@"
tool qemu-system-x86_64 qemu-system-x86
tool cpio cpio
tool depmod kmod
python=${PYTHON:-$repository/target/python/bin/python3}
"$python" -c 'import helm_python, yaml' || fail "PYTHON is not one with helm-python-sdk and pyyaml"

make_root systemd,systemd-sysv,dbus,kmod,udev,podman,runc,conmon,catatonit,mdadm,dmsetup,fio,curl
for mounted in dev sys proc; do umount -l "$root/$mounted"; done
modules brd raid0 md-mod dm-mod dm-delay

cp "$1" "$root/image.tar"
# The root is in memory, where nothing can be put over it, and which cannot be exchanged for another.
printf '[engine]\nno_pivot_root = true\n' >"$root/etc/containers/containers.conf"
printf '[storage]\ndriver = "vfs"\ngraphroot = "/var/lib/containers/storage"\nrunroot = "/run/containers"\n' \
    >"$root/etc/containers/storage.conf"
cat >"$work/values.yaml" <<'V'
hostNetwork: true
reload: { auto: true, interval: 200ms }
probes:
  library: true
  custom:
    site: |
      probes:
        - name: forks
          # Not tracepoint:, for which the kernel of Debian asks CAP_SYS_ADMIN.
          at: "rawtracepoint:sched:sched_process_fork"
          metrics: [{counter: forks_total, help: Forks.}]
V
mkdir -p "$root/profiles" "$root/var/log/containers"
"$python" "$repository/tests/chart/pod.py" --image localhost/tapster:test --no-checks --no-secrets \
    --seccomp "$root/profiles/tapster.json" "$work/values.yaml" >"$root/pod.yaml" || fail "the chart makes no pod"
boot pod-guest.sh multi-user.target 4096 900
