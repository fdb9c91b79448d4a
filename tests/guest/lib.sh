# What scenarios share. A command that must succeed is begun with `run`: what fails is said on the console, and the
# test fails with it.

run() {
    "$@" || echo "@@ failed: $* ($?)"
}

# mdev makes the nodes that devtmpfs does not: links below /dev/mapper.
nodes() {
    mdev -s
    dmsetup mknodes 2>/dev/null
}

# Starts the exporter and waits until it serves; more arguments are its own.
exporter() {
    tapster run --strict --run-stats "$@" 2>/results/tapster.log &
    exporter=$!
    for _ in $(seq 300); do
        wget -qO /dev/null http://127.0.0.1:18277/-/ready 2>/dev/null && return
        kill -0 $exporter 2>/dev/null || break
        sleep 0.1
    done
    echo "@@ failed: the exporter does not serve"
    cat /results/tapster.log
}

# scrape NAME: keeps what the exporter says now.
scrape() {
    run wget -qO "/results/$1.prom" http://127.0.0.1:18277/metrics
}

stop_exporter() {
    kill $exporter
    wait $exporter
}

# Waits until an array is neither resyncing nor recovering.
settle() {
    for _ in $(seq 300); do
        [ "$(cat /sys/block/"$1"/md/sync_action 2>/dev/null || echo idle)" = idle ] && return
        sleep 0.1
    done
    echo "@@ failed: $1 does not settle"
}

# An observer that shares nothing with eBPF: the kernel's own trace of block events, and of the two functions between
# which SystemTap's ioblktime measures, with the address of the bio.
observe() {
    cd /sys/kernel/tracing
    echo mono >trace_clock
    echo 16384 >buffer_size_kb
    echo 'p:submit submit_bio_noacct bio=%di:x64' >kprobe_events
    echo 'p:endio bio_endio bio=%di:x64' >>kprobe_events
    for event in kprobes/submit kprobes/endio block/block_bio_queue block/block_bio_remap block/block_bio_complete block/block_rq_complete; do
        run sh -c "echo 1 >events/$event/enable"
    done
    echo >trace
    cd /
}

# observed NAME: keeps what it saw.
observed() {
    echo 0 >/sys/kernel/tracing/tracing_on
    run cp /sys/kernel/tracing/trace "/results/$1.trace"
    echo 0 >/sys/kernel/tracing/events/enable
    echo 1 >/sys/kernel/tracing/tracing_on
}

# watch_raid NAME ARRAY: `tapster raid` from now until `watched`, where Ctrl-C ends it.
watch_raid() {
    tapster raid --for 2m "$2" >"/results/$1-raid.txt" 2>&1 &
    raid=$!
    for _ in $(seq 300); do
        grep -q '^watching' "/results/$1-raid.txt" && return
        kill -0 $raid 2>/dev/null || break
        sleep 0.1
    done
    echo "@@ failed: tapster raid does not watch"
}

watched() {
    kill -INT $raid
    wait $raid || echo "@@ failed: tapster raid ($?)"
}

# trial NAME DEVICE FIO-ARGUMENTS…: a load on an array, seen by the exporter and by the observer, in a run of its own so
# that both see the same; then the load once more for `tapster raid`.
trial() {
    trial=$1
    target=$2
    shift 2
    blockdev --getsz "$target" >/dev/null
    scrape "$trial-before"
    observe
    run fio --name=t --filename="$target" --direct=1 --ioengine=psync --output-format=json --output="/results/$trial.json" "$@"
    sleep 0.5
    observed "$trial"
    scrape "$trial-after"
    grep . /dev/null /sys/block/*/dev /sys/block/*/*/dev >"/results/$trial-devices" 2>/dev/null
    watch_raid "$trial" "$(basename "$(readlink -f "$target")")"
    run fio --name=t --filename="$target" --direct=1 --ioengine=psync --output=/dev/null "$@"
    watched
}

# slowed NAME DEVICE MS: a device-mapper device that answers that much later.
slowed() {
    run dmsetup create "$1" --table "0 $(blockdev --getsz "$2") delay $2 0 $3"
    nodes
}

# nullb MEBIBYTES NANOSECONDS: a request-based device in memory that takes that long for each request; numbered as they
# are made, /dev/nullb0 and so on.
nullb() {
    [ -d /sys/kernel/config/nullb ] || mount -t configfs configfs /sys/kernel/config
    nulls=$((${nulls:--1} + 1))
    directory=/sys/kernel/config/nullb/nullb$nulls
    mkdir $directory
    for setting in size=$1 queue_mode=2 irqmode=2 completion_nsec=$2 memory_backed=1 power=1; do
        run sh -c "echo ${setting#*=} >$directory/${setting%=*}"
    done
    nodes
}

array() {
    run mdadm --quiet --create "$@"
    nodes
}
