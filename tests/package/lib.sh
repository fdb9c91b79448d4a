# shellcheck shell=bash
# What the tests of packages have in common. They run as root in a mount namespace of their own, so that nothing stays mounted,
# and work in a directory that is removed at the end.

# Exposure of the unit in tenths, as systemd 252 counts it: nothing is taken away in silence.
threshold=21

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

fail() { printf '%s: FAILED: %s\n' "$(basename "$0")" "$*" >&2; exit 1; }
ok() { printf 'ok: %s\n' "$*"; }

# start ARGUMENTS: starts the script again in its own namespace; returns in there.
start() {
    [ "$(id -u)" = 0 ] || fail "only root can make a root file system"
    if [ -z "${TAPSTER_IN_NAMESPACE-}" ]; then
        TAPSTER_IN_NAMESPACE=1 exec unshare --mount --propagation private -- "$0" "$@"
    fi
    export LC_ALL=C.UTF-8
    work=$(mktemp -d "${TMPDIR:-/tmp}/tapster-package.XXXXXX")
    trap finish EXIT
}

finish() {
    for mounted in proc sys dev; do
        umount -l "$work/root/$mounted" 2>/dev/null || true
    done
    rm -rf --one-file-system "$work"
}

# Asks for a tool and says where it is from.
tool() { PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null || fail "$1 is not installed; apt-get install $2"; }

# make_root PACKAGES: a minimal Debian at $root. CACHE=FILE keeps it for the next run; SUITE chooses the release.
make_root() {
    local suite=${SUITE:-bookworm} packages=$1
    root=$work/root
    if [ -n "${CACHE-}" ] && [ -e "$CACHE" ]; then
        mkdir "$root"
        tar -C "$root" -xf "$CACHE"
    elif PATH=$PATH:/usr/sbin command -v mmdebstrap >/dev/null; then
        mmdebstrap --quiet --variant=minbase --include="$packages" "$suite" "$root" >"$work/log" 2>&1 ||
            { tail -n 5 "$work/log" >&2; fail "mmdebstrap makes no root of $suite"; }
    else
        tool debootstrap mmdebstrap
        debootstrap --variant=minbase --include="$packages" "$suite" "$root" >"$work/log" 2>&1 ||
            { tail -n 5 "$work/log" >&2; fail "debootstrap makes no root of $suite"; }
    fi
    if [ -n "${CACHE-}" ] && [ ! -e "$CACHE" ]; then
        tar -C "$root" -cf "$CACHE" .
    fi
    mount -t proc proc "$root/proc"
    mount --rbind /sys "$root/sys"
    mount --bind /dev "$root/dev"
}

inside() { env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive chroot "$root" "$@"; }

# Every path of the root but those that any installation changes.
paths() {
    find "$root" -xdev -mindepth 1 \( -path "$root/proc" -o -path "$root/sys" -o -path "$root/dev" -o -path "$root/tmp" \
        -o -path "$root/run" -o -path "$root/var/lib/dpkg" -o -path "$root/var/lib/rpm" -o -path "$root/var/log" \
        -o -path "$root/var/cache" -o -path "$root/etc/.pwd.lock" -o -path "$root/etc/passwd-" -o -path "$root/etc/group-" \
        -o -path "$root/etc/shadow-" -o -path "$root/etc/gshadow-" \) -prune -o -printf '/%P\n' | sort
}

# shipped DIRECTORY-OF-ZSH: the files that a package must have, as `PATH MODE`, from what the repository has.
shipped() {
    local file command
    echo "/usr/bin/tapster 755"
    echo "/etc/default/tapster 640"
    echo "/etc/tapster/probes.d/probes.yaml 644"
    for file in tapster.service tapster.socket; do echo "/usr/lib/systemd/system/$file 644"; done
    echo "/usr/lib/sysusers.d/tapster.conf 644"
    echo "/usr/share/bash-completion/completions/tapster 644"
    echo "$1/_tapster 644"
    echo "/usr/share/fish/vendor_completions.d/tapster.fish 644"
    echo "/usr/share/tapster/tapster.schema.json 644"
    (
        cd "$repository" || exit
        for file in config/rules/*.yaml; do echo "/usr/share/tapster/rules/${file##*/} 644"; done
        for file in config/rules/optional/*.yaml; do echo "/usr/share/tapster/rules/optional/${file##*/} 644"; done
        for file in dashboards/*.json; do echo "/usr/share/tapster/dashboards/${file##*/} 644"; done
        for file in packaging/systemd/drop-ins/*.conf; do echo "/usr/share/tapster/systemd/${file##*/} 644"; done
    )
}

# check_installed VERSION DIRECTORY-OF-ZSH: what both kinds of packages must do once they are installed in $root.
check_installed() {
    local version=$1 zsh=$2 output path mode command page word
    while read -r path mode; do
        [ -f "$root$path" ] || fail "$path is not installed"
        [ "$(stat -c '%a %u:%g' "$root$path")" = "$mode 0:0" ] ||
            fail "$path is $(stat -c '%a %u:%g' "$root$path"), expected $mode 0:0"
    done < <(shipped "$zsh")
    ok "files, their modes and owners"

    local user
    user=$(inside getent passwd tapster) || fail "there is no user tapster"
    [[ $user == tapster:*:/usr/sbin/nologin || $user == tapster:*:/sbin/nologin ]] || fail "the user tapster can log in: $user"
    inside getent group tapster >/dev/null || fail "there is no group tapster"
    ok "user tapster"

    # An unknown key is only printed, with exit status 0.
    output=$(inside systemd-analyze verify --man=no tapster.service tapster.socket 2>&1) || true
    [ -z "$output" ] || fail "systemd-analyze verify says: $output"
    local drop_in directory=$root/etc/systemd/system/tapster.service.d
    for drop_in in "$root"/usr/share/tapster/systemd/*.conf; do
        install -D -m 644 -t "$directory" "$drop_in"
        output=$(inside systemd-analyze verify --man=no tapster.service 2>&1) || true
        rm -r "$directory"
        [ -z "$output" ] || fail "systemd-analyze verify with $(basename "$drop_in") says: $output"
    done
    ok "units and drop-ins as systemd $(inside systemctl --version | awk 'NR == 1 { print $2 }') reads them"

    output=$(inside systemd-analyze security --no-pager --offline=true --threshold="$threshold" tapster.service) ||
        fail "systemd-analyze security: $(tail -n 1 <<<"$output"), above $threshold tenths"
    ok "$(sed -n 's/^→ //p' <<<"$output")"

    output=$(inside tapster --version) || fail "tapster --version fails"
    [[ $output == "tapster $version"* ]] || fail "tapster --version says \`$output\`, the package $version"
    ok "$output"
    if [ -e /sys/kernel/btf/vmlinux ] && [ -e /sys/kernel/tracing/available_events ]; then
        output=$(inside tapster check --offline /etc/tapster/probes.d 2>&1) ||
            fail "the shipped configuration does not compile: $output"
        ok "the shipped configuration compiles"
    else
        echo "skipped: this kernel has no BTF, or tracefs is not mounted"
    fi

    local pages=0
    for page in "$root"/usr/share/man/man1/tapster*; do
        output=$( (case $page in *.gz) gzip -dc "$page" ;; *) cat "$page" ;; esac) |
            inside groff -Kutf8 -man -Tutf8 -ww -rLL=120n 2>&1 >/dev/null)
        [ -z "$output" ] || fail "$(basename "$page"): groff says: $output"
        pages=$((pages + 1))
    done
    for command in "" $(inside tapster --help | sed -n '/^Commands:/,/^$/s/^  \([a-z]\+\) .*/-\1/p' | grep -v -e -help); do
        compgen -G "$root/usr/share/man/man1/tapster$command.1*" >/dev/null || fail "there is no man page tapster$command(1)"
    done
    ok "$pages man pages, one for each command, without warnings of groff"

    # As an interactive shell would call it at `tapster che` and the tabulator.
    # shellcheck disable=SC2016
    word=$(inside bash -euc '
        . /usr/share/bash-completion/completions/tapster
        function=$(complete -p tapster | sed "s/.* -F \([^ ]*\) .*/\1/")
        COMP_WORDS=(tapster che) COMP_CWORD=1 COMP_LINE="tapster che" COMP_POINT=11
        "$function" tapster che tapster
        echo "${COMPREPLY[*]}"' 2>&1) || fail "the completion for bash fails: $word"
    [ "$word" = check ] || fail "the completion for bash makes \`$word\` of \`che\`, expected \`check\`"
    head -n 1 "$root$zsh/_tapster" | grep -q '^#compdef tapster' || fail "the completion for zsh is none"
    grep -q '^complete -c tapster' "$root/usr/share/fish/vendor_completions.d/tapster.fish" ||
        fail "the completion for fish is none"
    ok "completions"
}

# modules NAME...: puts modules of $kernel, a kernel below $KERNEL, into the root. Only those: the root is in memory.
modules() {
    local module found
    kernel=$(echo "$KERNEL"/boot/vmlinuz-*)
    release=${kernel##*/vmlinuz-}
    [ -e "$kernel" ] || fail "$KERNEL/boot has no kernel, or more than one"
    mkdir -p "$root/lib/modules/$release"
    for module in "$@"; do
        # What is built in has no file.
        found=$(find "$KERNEL/lib/modules/$release" -name "$module.ko*" | head -n 1)
        [ -z "$found" ] || install -D -t "$root/lib/modules/$release/kernel" "$found"
    done
    cp "$KERNEL/lib/modules/$release"/modules.{order,builtin,builtin.modinfo} "$root/lib/modules/$release/" 2>/dev/null || true
    PATH=$PATH:/usr/sbin:/sbin depmod -b "$root" "$release"
}

# boot SCRIPT AFTER MEMORY SECONDS: boots the root, which must not have anything mounted any more, and has systemd run SCRIPT there
# after the unit AFTER. It says `ok: TIME s: …` for what holds, and `PASSED` or `FAILED: …` at the end.
boot() {
    local started=$SECONDS
    install -m 755 "$(dirname "$0")/$1" "$root/usr/lib/guest.sh"
    cat >"$root/etc/systemd/system/guest.service" <<U
[Unit]
After=$2
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
    # Without hardware: a guest within a guest is not there everywhere.
    timeout "$4" qemu-system-x86_64 -accel tcg,thread=multi -cpu max -m "$3" -smp 2 -nographic -no-reboot -nic none \
        -kernel "$kernel" -initrd "$work/guest.cpio" \
        -append "console=ttyS0 panic=-1 quiet systemd.show_status=0 systemd.unified_cgroup_hierarchy=1 rdinit=/init" \
        >"$work/console" 2>&1 </dev/null || fail "the guest did not end: $(tail -n 20 "$work/console")"
    tr -d '\r' <"$work/console" | sed -n 's/^.*\(ok: [0-9.]* s: \)/\1/p; /^without/p'
    grep -q '^PASSED' <(tr -d '\r' <"$work/console") || fail "$(tr -d '\r' <"$work/console" | sed -n '/FAILED/,$p')
$(tail -n 5 "$work/console")"
    ok "Linux $release, $((SECONDS - started)) s"
}
