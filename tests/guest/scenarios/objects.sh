# What probes are attached to goes and comes back while they run: a processor, a module of the kernel.
cat >/objects.yaml <<X
probes:
  - name: samples
    at: profile:hz:50
    labels: { cpu: cpu }
    metrics: [{ counter: samples_total, help: x }]
  - name: switches
    at: software:context-switches:1
    labels: { cpu: cpu }
    metrics: [{ counter: switches_total, help: x }]
  - name: ticks
    at: interval:ms:20
    labels: { cpu: cpu }
    metrics: [{ counter: ticks_total, help: x }]
  - name: one
    at: kprobe:brd_submit_bio
    metrics: [{ counter: one_total, help: x }]
  - name: many
    at: kprobe:*submit_bio
    metrics: [{ counter: many_total, help: x }]
  - name: pair
    start: { at: kprobe:brd_submit_bio, key: tid }
    end: { at: kprobe:zram_submit_bio, key: tid }
    metrics: [{ histogram: pair_seconds, help: x, value: duration }]
X
online=/sys/devices/system/cpu/cpu1/online

# told WORDS COUNT: waits until the log has that many lines with these words.
told() {
    for _ in $(seq 300); do
        [ "$(grep -c "$1" /results/tapster.log)" -ge "$2" ] && return
        sleep 0.1
    done
    echo "@@ failed: the log does not say $2 times: $1"
    cat /results/tapster.log
}

read_disk() { run dd if=/dev/ram0 of=/dev/null bs=4096 count="$1" iflag=direct 2>/dev/null; }

# It starts on one processor, and without the module.
run sh -c "echo 0 >$online"
tapster run -c /objects.yaml 2>/results/tapster.log &
exporter=$!
for _ in $(seq 300); do
    wget -qO /dev/null http://127.0.0.1:18277/-/healthy 2>/dev/null && break
    sleep 0.1
done
sleep 2
scrape one
run sh -c "echo 1 >$online"
told 'attached to CPUs that came online.*samples\|samples.*attached to CPUs that came online' 1
scrape two
sleep 2
scrape two-later
run sh -c "echo 0 >$online"
run sh -c "echo 1 >$online"
told 'attached to CPUs that came online.*samples\|samples.*attached to CPUs that came online' 2
scrape again
sleep 2
scrape again-later
# The interval is on the first processor; where that cannot be taken off, nothing is to be seen.
if [ -e /sys/devices/system/cpu/cpu0/online ] && echo 0 2>/dev/null >/sys/devices/system/cpu/cpu0/online; then
    sleep 3
    scrape other
    sleep 2
    scrape other-later
    run sh -c 'echo 1 >/sys/devices/system/cpu/cpu0/online'
fi
run modprobe brd rd_nr=1 rd_size=8192
nodes
told 'attached to what modules have now' 1
told 'were loaded after the probe was attached.*brd_submit_bio' 1
scrape loaded
read_disk 64
scrape loaded-later
run rmmod brd
told 'is not loaded any more' 1
scrape unloaded
run modprobe brd rd_nr=1 rd_size=8192
nodes
told 'attached to what modules have now' 2
scrape reloaded
read_disk 96
scrape reloaded-later
# What enters functions is switched off, where the kernel lets anybody do so.
if sh -c 'echo 0 >/proc/sys/kernel/ftrace_enabled' 2>/dev/null; then
    told 'not called as long as' 1
    scrape off
    read_disk 32
    scrape off-later
    run sh -c 'echo 1 >/proc/sys/kernel/ftrace_enabled'
    told 'it is called again' 1
    scrape on
    read_disk 32
    scrape on-later
fi
# One of two modules is not enough.
run modprobe zram
told 'attached to what modules have now.*probe="pair"' 1
scrape both
run rmmod zram
told 'is not loaded any more.*probe="pair"' 1
scrape half
run rmmod brd
run modprobe brd rd_nr=1 rd_size=8192
nodes
told 'attached to what modules have now.*probe="one"' 3
scrape still-half
run modprobe zram
told 'attached to what modules have now.*probe="pair"' 2
scrape both-again
stop_exporter
