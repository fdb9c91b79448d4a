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
cp "$1" "$root/tapster.deb"
output=$(inside dpkg -i /tapster.deb 2>&1) || fail "dpkg -i fails: $output"
rm "$root/tapster.deb"
for mounted in dev sys proc; do umount -l "$root/$mounted"; done

modules loop
boot guest.sh tapster.service 2048 900
