# What functions tell, which not every host can: cgroups that are held back, and the queues of listeners. And name servers and the log,
# whose events differ from kernel to kernel.
mkdir -p /cgroups/v2
run mount -t cgroup2 cgroup2 /cgroups/v2
run sh -c 'echo +cpu >/cgroups/v2/cgroup.subtree_control'
held=/cgroups/v2/held
run mkdir $held
run sh -c "echo '20000 100000' >$held/cpu.max"
exporter --probes cpu_throttled,tcp_listen_overflow,tcp_listen_queue,dns_answers,kernel_warnings
scrape before

hogs=
for _ in 1 2; do
    sh -c "echo \$\$ >$held/cgroup.procs; while :; do :; done" &
    hogs="$hogs $!"
done
sleep 5
kill $hogs
wait $hogs
# The last period ends.
sleep 1
run cp $held/cpu.stat /results/held

run sh -c 'network connects >/results/connects'
run sh -c 'network names >/results/names'
# Loud enough for the console, which is all that the event of older kernels is about.
for line in 'BUG: a test' 'WARNING: a test' 'Oops: a test' 'INFO: task a test' 'rcu: INFO: rcu_test a test' 'no bug, a test'; do
    run sh -c "echo '<1>$line' >/dev/kmsg"
done
sleep 0.5
scrape after
stop_exporter
