# What the kernel does besides block devices and the scheduler: the network, interrupts, processes and memory, by the shipped probes; and
# whose block I/O it is. What programs say is in files of their names.
probes=tcp_connect,tcp_accept,tcp_listen_overflow,tcp_retransmit,tcp_retransmit_synack,tcp_rtt,tcp_reset_sent,tcp_reset_received,packet_drops,udp_receive_drops
probes=$probes,softirqs,interrupts,workqueue_wait,workqueue_run
probes=$probes,process_execs,process_exits,process_killed,process_lifetime,oom_kills,capability_refusals,module_loads
probes=$probes,memory_reclaim,memory_compaction,page_faults_major,block_container,block_cgroup,block_command

# A container as containerd makes one.
mkdir -p /cgroups /logs
run mount -t cgroup2 cgroup2 /cgroups
run sh -c 'echo +memory >/cgroups/cgroup.subtree_control'
read -r _ _ path link target <<X
$(grep '^v2 containerd-v2 ' /pods.list)
X
container=/cgroups/$path
parent=/cgroups
for step in $(dirname "$path" | tr / ' '); do
    parent=$parent/$step
    run mkdir -p "$parent"
    run sh -c "echo +memory >$parent/cgroup.subtree_control"
done
run mkdir -p "$container"
run ln -s "$target" "/logs/$link"
contained() { run sh -c 'echo $$ >"$0"/cgroup.procs && exec "$@"' "$container" "$@"; }

run mkfs.ext4 -q /dev/vdb
mkdir -p /disk
run mount -t ext4 /dev/vdb /disk
run dd if=/dev/zero of=/disk/cold bs=1M count=80 2>/dev/null
sync
echo 3 >/proc/sys/vm/drop_caches

exporter --probes $probes --path.containers /logs
scrape before
for what in connects resets datagrams lost lost-large unheard; do
    run network $what >/results/$what
done
run ends ends 12
run ends lives 4 750
run ends refused 300 >/results/refused
contained ends faults /disk/cold 100 >/results/faults
contained fio --name=r --filename=/dev/vdc --rw=randread --bs=8k --size=8M --direct=1 --ioengine=psync --thread \
    --output-format=json --output=/results/fio.json
run sh -c "echo 30M >$container/memory.max"
i=0
while [ $i -lt 3 ]; do
    sh -c "echo \$\$ >$container/cgroup.procs && exec ends greedy 300"
    i=$((i + 1))
done
cat "$container/memory.events" >/results/memory.events
run modprobe brd rd_nr=1 rd_size=1024
sleep 0.5
scrape after

# Between two marks everything is counted, and nothing outside of the outer ones.
cd /sys/kernel/tracing
echo mono >trace_clock
echo 16384 >buffer_size_kb
for event in irq/softirq_entry irq/softirq_exit irq/irq_handler_entry irq/irq_handler_exit workqueue/workqueue_queue_work \
    workqueue/workqueue_execute_start workqueue/workqueue_execute_end vmscan/mm_vmscan_direct_reclaim_begin \
    vmscan/mm_vmscan_direct_reclaim_end vmscan/mm_vmscan_memcg_reclaim_begin vmscan/mm_vmscan_memcg_reclaim_end \
    compaction/mm_compaction_begin compaction/mm_compaction_end; do
    run sh -c "echo 1 >events/$event/enable"
done
echo >trace
cd /
mark() { echo "$1" >/sys/kernel/tracing/trace_marker; }
mark first
scrape begun
mark begun
echo 3 >/proc/sys/vm/drop_caches
contained cat /disk/cold >/dev/null
echo 1 >/proc/sys/vm/compact_memory
mark ended
scrape ended
mark last
observed events
stop_exporter
