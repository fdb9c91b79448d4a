#!/bin/bash
# Run by systemd in the guest of pod.sh: the array of eight with a slow member, read from while the chart's pod counts.
exec >/dev/console 2>&1 </dev/null

podman() { command podman --runtime runc "$@"; }
fail() {
    echo "FAILED: $*"
    podman ps -a
    podman pod logs tapster 2>&1 | tail -n 30
    systemctl poweroff --force --force
    exit 1
}
ok() { echo "ok: $(cut -d ' ' -f 1 /proc/uptime) s: $*"; }
metrics() { curl -s --max-time 20 http://127.0.0.1:18277/metrics; }
# value SERIES: its value.
value() { metrics | awk -v series="$1" 'index($0, series) == 1 { print $NF; exit }'; }

[ "$(stat -f -c %T /sys/fs/cgroup)" = cgroup2fs ] || fail "cgroups are not of version 2 only"
{ modprobe brd rd_nr=8 rd_size=65536 && modprobe raid0 && modprobe dm-delay; } || fail "the modules do not load"
dmsetup create delayed --table "0 $(blockdev --getsz /dev/ram7) delay /dev/ram7 0 50" || fail "no slow device"
delayed=$(basename "$(readlink -f /dev/mapper/delayed)")
mdadm --create /dev/md0 --run --level=0 --raid-devices=8 /dev/ram{0..6} "/dev/$delayed" || fail "no array"
udevadm settle
ok "an array, cgroups of version 2, Linux $(uname -r)"

podman load -q -i /image.tar >/run/loaded || fail "the image is not loaded"
podman tag "$(sed -n 's/^Loaded image: //p' /run/loaded | head -n 1)" localhost/tapster:test || fail "$(cat /run/loaded)"
podman kube play --network host --seccomp-profile-root /profiles /pod.yaml >/run/played 2>&1 ||
    fail "the pod does not start: $(tail -n 20 /run/played)"
for _ in $(seq 120); do
    [ "$(metrics | grep -c '^tapster_probe_up{.* 1$')" = 4 ] && break
    sleep 1
done
[ "$(metrics | grep -c '^tapster_probe_up{.* 1$')" = 4 ] || fail "not all probes are up: $(metrics | grep '^tapster_probe_up{')"
container=$(podman ps -q --filter "name=tapster-tapster")
pid=$(podman inspect --format '{{.State.Pid}}' "$container")
ok "the pod's four probes are up, $(awk '/^(CapEff|NoNewPrivs|Seccomp):/ { printf "%s %s ", $1, $2 }' "/proc/$pid/status")"

reads() { value "tapster_block_io_duration_seconds_count{device=\"$1\",operation=\"read\"}"; }
declare -A before
devices="md0 $delayed ram0 ram1 ram2 ram3 ram4 ram5 ram6"
for device in $devices; do before[$device]=$(reads "$device"); done
fio --name=r --filename=/dev/md0 --rw=read --bs=1M --direct=1 --numjobs=2 --size=64M --ioengine=psync >/run/fio ||
    fail "fio: $(tail -n 5 /run/fio)"
sleep 1
counted=
for device in $devices; do
    # 128 reads of 1 MiB, of which each member has parts: 160.
    expected=160
    [ "$device" = md0 ] && expected=128
    count=$(($(reads "$device") - ${before[$device]:-0}))
    [ "$count" = "$expected" ] || fail "$device: $count of $expected reads"
    counted+="$device $count "
done
ok "$counted"
# Another probe in its ConfigMap: it is exchanged, and the others go on.
site=$(podman volume inspect --format '{{.Mountpoint}}' tapster-probes)/site.yaml
[ "$(value tapster_forks_total)" -gt 0 ] || fail "the custom probe counts nothing"
known=$(reads md0)
sed -i s/forks_total/others_total/ "$site"
for _ in $(seq 60); do
    [ -n "$(value tapster_others_total)" ] && break
    sleep 1
done
[ -n "$(value tapster_others_total)" ] || fail "the probe is not exchanged: $(metrics | grep '^tapster_config')"
[ -z "$(value tapster_forks_total)" ] || fail "the old probe is still there"
[ "$(reads md0)" = "$known" ] || fail "md0 had $known reads before the exchange and has $(reads md0)"
ok "another probe after the ConfigMap changed, the others go on"
average() {
    metrics | awk -v slot="slot=\"$1\"" '
        index($0, "tapster_raid_member_duration_seconds_sum{") == 1 && index($0, slot) && /operation="read"/ { sum = $NF }
        index($0, "tapster_raid_member_duration_seconds_count{") == 1 && index($0, slot) && /operation="read"/ { count = $NF }
        END { if (count) printf "%.6f", sum / count; else print "none" }'
}
slow=$(average 7) fast=$(average 3)
awk -v slow="$slow" -v fast="$fast" 'BEGIN { exit !(slow > 0.04 && fast < slow / 4) }' ||
    fail "slot 7 takes $slow s, slot 3 $fast s"
ok "slot 7 takes $slow s, slot 3 $fast s"
echo PASSED
systemctl poweroff --force --force
