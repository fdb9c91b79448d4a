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
kernel=$(echo "$KERNEL"/boot/vmlinuz-*)
release=${kernel##*/vmlinuz-}
[ -e "$kernel" ] || fail "$KERNEL/boot has no kernel, or more than one"
modules=$root/lib/modules/$release
mkdir -p "$modules"
for module in brd raid0 md-mod dm-mod dm-delay ext4 jbd2 mbcache crc16 crc32c_generic; do
    found=$(find "$KERNEL/lib/modules/$release" -name "$module.ko*" | head -n 1)
    [ -z "$found" ] || install -D -t "$modules/kernel" "$found"
done
cp "$KERNEL/lib/modules/$release"/modules.{order,builtin,builtin.modinfo} "$modules/" 2>/dev/null || true
PATH=$PATH:/usr/sbin:/sbin depmod -b "$root" "$release"

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
install -m 755 "$(dirname "$0")/pod-guest.sh" "$root/usr/lib/guest.sh"
cat >"$root/etc/systemd/system/guest.service" <<'U'
[Unit]
After=multi-user.target
[Service]
Type=idle
ExecStart=/usr/lib/guest.sh
[Install]
WantedBy=multi-user.target
U
inside systemctl enable -q guest.service
ln -sf lib/systemd/systemd "$root/init"
rm -rf "$root"/usr/share/{doc,locale,man} "$root"/var/{cache,lib}/apt
(cd "$root" && find . | cpio -o -H newc --quiet) >"$work/guest.cpio"

started=$SECONDS
timeout 900 qemu-system-x86_64 -accel tcg,thread=multi -cpu max -m 4096 -smp 2 -nographic -no-reboot -nic none \
    -kernel "$kernel" -initrd "$work/guest.cpio" \
    -append "console=ttyS0 panic=-1 quiet systemd.show_status=0 systemd.unified_cgroup_hierarchy=1 rdinit=/init" \
    >"$work/console" 2>&1 </dev/null || fail "the guest did not end: $(tail -n 20 "$work/console")"
tr -d '\r' <"$work/console" | sed -n 's/^.*\(ok: [0-9.]* s: \)/\1/p'
grep -q '^PASSED' <(tr -d '\r' <"$work/console") || fail "$(tr -d '\r' <"$work/console" | sed -n '/FAILED/,$p')
$(tail -n 5 "$work/console")"
ok "Linux $release, $((SECONDS - started)) s"
