#!/bin/bash
# Run by systemd in the guest of boot.sh, after everything else is up: what the service does on a machine that booted with it.
# The console is read by boot.sh.
exec >/dev/console 2>&1 </dev/null

fail() {
    echo "FAILED: $*"
    systemctl status --no-pager -l tapster.service
    journalctl --no-pager -o cat -u tapster.service | tail -n 40
    systemctl poweroff --force --force
    exit 1
}
ok() { echo "ok: $(cut -d ' ' -f 1 /proc/uptime) s: $*"; }

# get PORT PATH: the answer's lines, without carriage returns.
get() {
    exec 3<>"/dev/tcp/127.0.0.1/$1" || return
    printf 'GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' "$2" >&3
    tr -d '\r' <&3
    exec 3>&-
}
# value SERIES: its value at the default port; a part of the name with labels, as text.
value() { get 18277 /metrics | awk -v series="$1" 'index($0, series) == 1 { print $NF; exit }'; }
property() { systemctl show -p "$1" --value tapster.service; }
# up NAME: waits until a probe is up.
up() {
    for _ in $(seq 60); do
        [ "$(value "tapster_probe_up{probe=\"$1\"")" = 1 ] && return
        sleep 0.5
    done
    fail "the probe $1 is not up: $(get 18277 /metrics | grep "^tapster_probe_up.*$1")"
}
restart() {
    systemctl daemon-reload
    systemctl restart tapster.service || fail "$1: the service does not start"
}

[ "$(systemctl is-active tapster.service)" = active ] || fail "the service is not active"
[ "$(property NRestarts)" = 0 ] || fail "it took more than one start"
ok "active, Linux $(uname -r), $(property StatusText)"
pid=$(property MainPID)
[ "$(stat -c %U "/proc/$pid")" = tapster ] || fail "it runs as $(stat -c %U "/proc/$pid")"
ok "user tapster, $(awk '/^(CapEff|NoNewPrivs|Seccomp):/ { printf "%s %s ", $1, $2 }' "/proc/$pid/status")"

down=$(get 18277 /metrics | grep '^tapster_probe_up{' | grep -v ' 1$')
[ -z "$down" ] || fail "probes are down: $down"
probes=$(get 18277 /metrics | grep -c '^tapster_probe_up{')
[ "$probes" -ge 3 ] || fail "there are $probes probes"
ok "$probes of $probes probes up"

# Reads of a device that nobody else has.
modprobe loop || fail "the guest has no loop devices"
dd if=/dev/zero of=/run/disk bs=1M count=4 status=none
device=$(losetup --find --show /run/disk) || fail "no loop device"
# udev has read it when that is done.
udevadm settle
reads() { value "tapster_block_io_duration_seconds_count{device=\"${device##*/}\",operation=\"read\"}"; }
before=$(reads)
dd if="$device" of=/dev/null bs=4k count=256 iflag=direct status=none || fail "dd cannot read"
after=$(reads)
[ $((after - ${before:-0})) = 256 ] || fail "256 reads were counted as $((after - ${before:-0}))"
ok "256 of 256 reads counted"

cat >/etc/tapster/probes.d/execs.yaml <<'Y'
probes:
  - name: execs
    help: Programs started.
    at: "rawtracepoint:sched:sched_process_exec"
    metrics:
      - { counter: execs_total, help: Programs started with execve. }
  - name: function_of_kernel
    help: Reads.
    function: vfs_read
    metrics:
      - { counter: function_of_kernel_total, help: Reads. }
Y
systemctl reload tapster.service || fail "the reload fails"
up execs
up function_of_kernel
[ "$(reads)" = "$after" ] || fail "the reload lost counts: $(reads) in place of $after"
[ "$(property MainPID)" = "$pid" ] || fail "the reload is a restart"
ok "a reload adds a probe and keeps counts"

echo 'probes: [' >/etc/tapster/probes.d/wrong.yaml
systemctl reload tapster.service
sleep 2
[ "$(systemctl is-active tapster.service)" = active ] || fail "a wrong file stops the service"
[ "$(reads)" = "$after" ] || fail "a wrong file stops the probes"
rm /etc/tapster/probes.d/wrong.yaml
systemctl reload tapster.service
ok "a wrong file changes nothing"

kill -STOP "$pid"
for _ in $(seq 100); do
    [ "$(property NRestarts)" = 0 ] || break
    sleep 1
done
[ "$(property NRestarts)" = 1 ] || fail "a process that hangs was not started anew"
up block_io
ok "the watchdog starts a process anew that hangs"

# Each drop-in grants what it says: the probe that needs it is down without it, and up with it.
cat >/etc/tapster/probes.d/needy.yaml <<'Y'
library: [sched_off_cpu]
probes:
  - name: by_tracepoint
    help: Programs started.
    at: "tracepoint:sched:sched_process_exec"
    metrics:
      - { counter: by_tracepoint_total, help: Programs started. }
  - name: in_program
    help: Looks into the environment.
    at: "uprobe:libc:getenv"
    metrics:
      - { counter: in_program_total, help: Looks into the environment. }
  # Found among the files of the process, which are opened by openat2.
  - name: in_process
    help: Reads of the first process.
    at: "uprobe:libc:read"
    pid: 1
    metrics:
      - { counter: in_process_total, help: Reads of the first process. }
  - name: by_pattern
    help: Functions of the kernel.
    function: "vfs_f*"
    metrics:
      - { counter: by_pattern_total, help: Functions of the kernel. }
  - name: by_address
    help: Allocations of socket buffers.
    at: "rawtracepoint:kmem:kmalloc"
    labels: { by: { value: args.call_site, as: ksym } }
    metrics:
      - { counter: by_address_total, help: Allocations. }
Y
grant() {
    rm -rf /etc/systemd/system/tapster.service.d
    [ $# = 0 ] || install -D -m 644 -t /etc/systemd/system/tapster.service.d "/usr/share/tapster/systemd/$1.conf"
    restart "$*"
}
named() { get 18277 /metrics | grep '^tapster_by_address_total{by="[a-z_]' | grep -c -v 'by="0x'; }
# The kind of sleep that every guest has: of an idle worker of the kernel.
reason() { value 'tapster_off_cpu_duration_seconds_count{reason="idle_worker"'; }
grant
for probe in by_tracepoint in_program in_process by_pattern; do
    get 18277 /metrics | grep -q "^tapster_probe_up{probe=\"$probe\".* 0$" || fail "$probe needs no drop-in"
done
[ "$(named)$(reason)" = 0 ] || fail "addresses of the kernel are seen without a drop-in"
ok "what needs a drop-in is down, or nameless, without it"
cp /etc/default/tapster /root/tapster.default
sed -i 's/^ARGS=.*/ARGS="--run-stats"/' /etc/default/tapster
grant sys-admin
up by_tracepoint
up by_pattern
runs=$(get 18277 /metrics | awk '/^tapster_probe_runs_total/ { sum += $NF } END { print sum + 0 }')
[ "$runs" != 0 ] || fail "sys-admin.conf does not make runs counted"
cp /root/tapster.default /etc/default/tapster
ok "sys-admin.conf: runs are counted ($runs), by_tracepoint and by_pattern are up"
grant programs
up in_program
up in_process
bash -c :
[ "$(value tapster_in_program_total)" != 0 ] || fail "programs.conf: nothing was counted"
ok "programs.conf: in_program and in_process are up and count"
grant kernel-addresses
up by_address
[ "$(named)" != 0 ] || fail "kernel-addresses.conf: functions have no names: $(get 18277 /metrics | grep by_address_total | head -n 3)"
for _ in $(seq 60); do
    [ -z "$(reason)" ] || break
    sleep 0.5
done
[ -n "$(reason)" ] || fail "kernel-addresses.conf: sleeps have no reason"
ok "kernel-addresses.conf: $(named) functions by name, reasons of sleeps"

# Everything of the library: as the service, with all that drop-ins grant, what runs as root does.
all=$(tapster list --library | sed -n 's/^\([a-z0-9_]*\) (group .*/\1/p' | sort -u | paste -sd,)
echo "library: [$all]" >/etc/tapster/probes.d/all.yaml
rm /etc/tapster/probes.d/needy.yaml
install -D -m 644 -t /etc/systemd/system/tapster.service.d /usr/share/tapster/systemd/*.conf
# An emulated processor takes its time to verify all of them.
printf '[Service]\nTimeoutStartSec=400\n' >/etc/systemd/system/tapster.service.d/slow.conf
restart "all of the library"
states() { get "$1" /metrics | sed -n 's/^tapster_probe_up{probe="\([^"]*\)".* \([01]\)$/\1 \2/p' | sort; }
tapster run --config /etc/tapster/probes.d --web.listen-address 127.0.0.1:9956 --log.level error &
root=$!
for _ in $(seq 400); do
    [ -z "$(states 9956 2>/dev/null)" ] || break
    sleep 1
done
[ "$(states 18277)" = "$(states 9956)" ] ||
    fail "as the service and as root other probes are up: $(diff <(states 18277) <(states 9956))"
kill "$root"
ok "$(states 18277 | grep -c ' 1$') of $(states 18277 | wc -l) probes of the library and the test are up, the same as for root"
rm /etc/tapster/probes.d/all.yaml
grant lvm
up block_io
ok "lvm.conf: starts"
grant

# As the first lines of tapster.socket say.
sed -i 's/^ARGS=.*/ARGS=--web.systemd-socket/' /etc/default/tapster
systemctl stop tapster.service || fail "it does not stop"
[ "$(property Result)" = success ] || fail "the stop is $(property Result)"
systemctl enable --now tapster.socket || fail "the socket does not start"
up block_io
[ "$(systemctl is-active tapster.service)" = active ] || fail "a scrape does not start the service"
systemctl restart tapster.service || fail "it does not restart beside its socket"
up block_io
ok "a scrape through tapster.socket starts it"

systemctl stop tapster.socket tapster.service
[ "$(property Result)" = success ] || fail "the stop is $(property Result)"
failed=$(systemctl list-units --failed --no-legend --plain | awk '/tapster/')
[ -z "$failed" ] || fail "failed: $failed"
echo PASSED
systemctl poweroff
