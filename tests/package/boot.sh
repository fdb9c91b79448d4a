#!/usr/bin/env bash
# Boots a Debian that has the package under QEMU, and looks at the service there: guest.sh says at what.
#
#     sudo tests/package/boot.sh dist/tapster_0.1.0_amd64.deb
#
# KERNEL=DIRECTORY has boot/vmlinuz-* and lib/modules of a Debian kernel; without it Debian's own is downloaded. CACHE=FILE keeps the
# root for the next run. Takes two or three minutes.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"
[ $# = 1 ] || fail "usage: $0 PACKAGE.deb"
[ -f "$1" ] || fail "$1 is not there"
start "$@"
tool qemu-system-x86_64 qemu-system-x86
tool cpio cpio
tool depmod kmod

make_root systemd,systemd-sysv,groff-base,dbus,kmod,udev
if [ -z "${KERNEL-}" ]; then
    KERNEL=$work/kernel
    # shellcheck disable=SC2016
    inside sh -ec 'cd /tmp; apt-get update -qq
        apt-get download -qq "$(apt-cache depends linux-image-amd64 | sed -n "s/.*Depends: \(linux-image-.*\)/\1/p")"' \
        >"$work/log" 2>&1 || fail "no kernel: $(tail -n 1 "$work/log")"
    dpkg-deb -x "$root"/tmp/linux-image-*.deb "$KERNEL"
    rm "$root"/tmp/linux-image-*.deb
fi
kernel=$(echo "$KERNEL"/boot/vmlinuz-*)
release=${kernel##*/vmlinuz-}
[ -e "$kernel" ] || fail "$KERNEL/boot has no kernel, or more than one"

cp "$1" "$root/tapster.deb"
output=$(inside dpkg -i /tapster.deb 2>&1) || fail "dpkg -i fails: $output"
rm "$root/tapster.deb"
for mounted in dev sys proc; do umount -l "$root/$mounted"; done

# Only the module that is needed: the root is in memory.
install -D -t "$root/lib/modules/$release/kernel/drivers/block" "$KERNEL/lib/modules/$release/kernel/drivers/block"/loop.ko*
cp "$KERNEL/lib/modules/$release"/modules.{order,builtin,builtin.modinfo} "$root/lib/modules/$release/" 2>/dev/null || true
PATH=$PATH:/usr/sbin:/sbin depmod -b "$root" "$release"
install -m 755 "$(dirname "$0")/guest.sh" "$root/usr/lib/guest.sh"
cat >"$root/etc/systemd/system/guest.service" <<'U'
[Unit]
After=tapster.service
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
# Without hardware: a guest within a guest is not there everywhere.
timeout 570 qemu-system-x86_64 -accel tcg,thread=multi -cpu max -m 2048 -smp 2 -nographic -no-reboot -nic none \
    -kernel "$kernel" -initrd "$work/guest.cpio" \
    -append "console=ttyS0 panic=-1 quiet systemd.show_status=0 rdinit=/init" >"$work/console" 2>&1 </dev/null ||
    fail "the guest did not end: $(tail -n 20 "$work/console")"
tr -d '\r' <"$work/console" | sed -n 's/^.*\(ok: [0-9.]* s: \)/\1/p; /^without/p'
grep -q '^PASSED' <(tr -d '\r' <"$work/console") || fail "$(tr -d '\r' <"$work/console" | sed -n '/FAILED/,$p')
$(tail -n 5 "$work/console")"
ok "Linux $release, $((SECONDS - started)) s"
