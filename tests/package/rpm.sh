#!/usr/bin/env bash
# Looks at an .rpm, installs it with its scripts in a root that has systemd, upgrades and removes it:
#
#     sudo tests/package/rpm.sh dist/tapster-0.1.0-1.x86_64.rpm
#
# The root is of Debian, as its tools are at hand: so libraries are not asked for when it is installed, but looked at.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"
[ $# = 1 ] || fail "usage: $0 PACKAGE.rpm"
[ -f "$1" ] || fail "$1 is not there"
start "$@"
tool rpm rpm

version=$(rpm -qp --qf '%{VERSION}' "$1")
rpm -K --nosignature "$1" >/dev/null || fail "the digests are wrong"
[ "$(rpm -qp --qf '%{LICENSE}' "$1")" = "MIT OR Apache-2.0" ] || fail "the licence is $(rpm -qp --qf '%{LICENSE}' "$1")"

files=$(rpm -qlp "$1")
while read -r path _; do
    grep -qxF "$path" <<<"$files" || fail "$path is not in the package"
done < <(shipped /usr/share/zsh/site-functions)
[ "$(rpm -qp --configfiles "$1")" = "$(printf '%s\n' /etc/default/tapster /etc/tapster/probes.d/probes.yaml)" ] ||
    fail "configuration files are $(rpm -qp --configfiles "$1")"
# `c` and `n`: configuration, not replaced.
[ "$(rpm -qp --qf '[%{FILENAMES} %{FILEFLAGS:fflags}\n]' "$1" | awk '$1 ~ "^/etc/" && $2 != "" { print $2 }' | sort -u)" = cn ] ||
    fail "an upgrade would replace configuration files"
ok "$(wc -l <<<"$files") files, those below /etc are kept when they were changed"

requires=$(rpm -qp --requires "$1")
for required in /bin/sh systemd 'libc.so.6(GLIBC_' 'libgcc_s.so.1('; do
    grep -qF "$required" <<<"$requires" || fail "it does not require $required"
done
ok "requires $(grep -oE 'GLIBC_2\.[0-9]+' <<<"$requires" | sort -V | tail -n 1) at most, libgcc_s, systemd, /bin/sh"

scripts=$(rpm -qp --scripts "$1")
for script in postinstall preuninstall postuninstall; do
    grep -q "^$script scriptlet" <<<"$scripts" || fail "it has no $script script"
done
ok "scripts"

make_root systemd,systemd-sysv,groff-base
# That the distribution enables it is what the preset is for.
install -d "$root/etc/systemd/system-preset"
echo 'enable tapster.service' >"$root/etc/systemd/system-preset/50-test.preset"
before=$(paths)
# A script that fails is a warning only.
by_rpm() {
    local output
    output=$(rpm --root "$root" --force-debian --nodeps --nosignature "$@" 2>&1) || fail "rpm $*: $output"
    output=$(grep -v '^Creating \(user\|group\) ' <<<"$output" || true)
    [ -z "$output" ] || fail "rpm $*: $output"
}
by_rpm -i "$1"
check_installed "$version" /usr/share/zsh/site-functions
[ "$(inside systemctl is-enabled tapster.service)" = enabled ] || fail "the preset was not followed"
[ "$(inside systemctl is-enabled tapster.socket || true)" = disabled ] || fail "the socket is enabled"
ok "the preset is followed"

inside systemctl disable tapster.service >/dev/null 2>&1
echo '# mine' >>"$root/etc/default/tapster"
by_rpm -U --replacepkgs "$1"
[ "$(tail -n 1 "$root/etc/default/tapster")" = "# mine" ] || fail "an upgrade replaced a file that was changed"
[ "$(inside systemctl is-enabled tapster.service || true)" = disabled ] || fail "an upgrade enabled a service that was disabled"
ok "an upgrade keeps what was changed"

inside systemctl enable tapster.service >/dev/null 2>&1
rpm --root "$root" --force-debian --nodeps -e tapster >/dev/null 2>&1 || fail "rpm -e fails"
[ "$(tail -n 1 "$root/etc/default/tapster.rpmsave" 2>/dev/null)" = "# mine" ] || fail "a removal does not keep a file that was changed"
rm "$root/etc/default/tapster.rpmsave"
# Directories of other packages, which a distribution of rpm has, and the database of Debian's rpm.
left=$(comm -3 <(echo "$before") <(paths) |
    grep -v -e '/root/\.rpmdb' -e '/usr/share/\(licenses\|zsh/site-functions\|fish\(/vendor_completions\.d\)\?\)$' || true)
[ -z "$left" ] || fail "after the removal there are $(tr '\n' ' ' <<<"$left")"
ok "a removal leaves what was changed, and nothing else"
