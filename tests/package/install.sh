#!/usr/bin/env bash
# Installs a .deb in a minimal Debian, looks at what is there, upgrades, removes and purges it:
#
#     sudo tests/package/install.sh dist/tapster_0.1.0_amd64.deb
#
# It says what held; where something did not, it ends with a sentence and status 1. CACHE=FILE keeps the root for the next run.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"
[ $# = 1 ] || fail "usage: $0 PACKAGE.deb"
[ -f "$1" ] || fail "$1 is not there"
start "$@"
tool dpkg-deb dpkg

version=$(dpkg-deb -f "$1" Version)
make_root systemd,systemd-sysv,groff-base
cp "$1" "$root/tapster.deb"
before=$(paths)

output=$(inside dpkg -i /tapster.deb 2>&1) || fail "dpkg -i fails: $output"
check_installed "$version" /usr/share/zsh/vendor-completions

[ "$(inside systemctl is-enabled tapster.service)" = enabled ] || fail "the service is not enabled"
[ "$(inside systemctl is-enabled tapster.socket || true)" = disabled ] || fail "the socket is enabled"
ok "the service is enabled, the socket is not"

# shellcheck disable=SC2016
conffiles=$(inside dpkg-query -W -f '${Conffiles}\n' tapster | awk 'NF { print $1 }' | sort)
[ "$conffiles" = "$(cd "$root" && find etc/tapster etc/default/tapster -type f | sed "s,^,/," | sort)" ] ||
    fail "conffiles are $(tr '\n' ' ' <<<"$conffiles")"
ok "conffiles: $(tr '\n' ' ' <<<"$conffiles")"

# The next version, which has other conffiles, over files that were changed, one that was not, and a service that was disabled.
dpkg-deb -R "$root/tapster.deb" "$work/next"
sed -i "s/^Version: .*/Version: $version+next/" "$work/next/DEBIAN/control"
echo '# next' >>"$work/next/etc/default/tapster"
echo '# next' >>"$work/next/etc/tapster/probes.d/probes.yaml"
dpkg-deb --root-owner-group -b "$work/next" "$root/next.deb" >/dev/null
echo '# mine' >>"$root/etc/default/tapster"
inside systemctl disable tapster.service >/dev/null 2>&1
output=$(inside dpkg -i --force-confdef /next.deb 2>&1 </dev/null) || fail "the upgrade fails: $output"
[ "$(tail -n 1 "$root/etc/default/tapster")" = "# mine" ] || fail "an upgrade replaced a file that was changed"
[ "$(tail -n 1 "$root/etc/tapster/probes.d/probes.yaml")" = "# next" ] || fail "an upgrade left a file that was not changed"
[ "$(inside systemctl is-enabled tapster.service || true)" = disabled ] || fail "an upgrade enabled a service that was disabled"
ok "an upgrade keeps what was changed"

output=$(inside dpkg -r tapster 2>&1) || fail "dpkg -r fails: $output"
# Masked, and the memory of what was enabled: what deb-systemd-helper leaves until the purge. dpkg has its new version beside
# a conffile that was kept.
left=$(comm -13 <(echo "$before") <(paths) | grep -v -e '^/next.deb$' -e '^/etc/systemd/system/tapster\.\(service\|socket\)$' \
    -e '^/var/lib/systemd/deb-systemd-helper-' -e '^/etc/default/tapster\.dpkg-dist$' || true)
expected=$(printf '%s\n' "$conffiles" /etc/tapster /etc/tapster/probes.d | sort)
[ "$left" = "$expected" ] || fail "after the removal there are $(comm -3 <(echo "$left") <(echo "$expected") | tr '\n' ' ')"
ok "a removal leaves the conffiles"

output=$(inside dpkg -P tapster 2>&1) || fail "dpkg -P fails: $output"
left=$(comm -3 <(echo "$before") <(paths) | grep -v -e '^\s*/next.deb$' -e '^\s*/var/lib/systemd/deb-systemd-helper-\(enabled\|masked\)$' || true)
[ -z "$left" ] || fail "after the purge there are $(tr '\n' ' ' <<<"$left")"
inside getent passwd tapster >/dev/null || fail "the purge removed the user, whose number the next one would get"
ok "a purge leaves nothing but the user"
