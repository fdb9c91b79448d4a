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
    tapster run --strict "$@" 2>/results/tapster.log &
    exporter=$!
    for _ in $(seq 300); do
        wget -qO /dev/null http://127.0.0.1:9955/-/ready 2>/dev/null && return
        kill -0 $exporter 2>/dev/null || break
        sleep 0.1
    done
    echo "@@ failed: the exporter does not serve"
    cat /results/tapster.log
}

# scrape NAME: keeps what the exporter says now.
scrape() {
    run wget -qO "/results/$1.prom" http://127.0.0.1:9955/metrics
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
