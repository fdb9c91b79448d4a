# Tasks in every state that a rule or a panel asks for, for $1 seconds or until the test has its answers.
modprobe brd rd_nr=1 rd_size=32768

# A device that keeps its readers blocked.
slowed late /dev/ram0 250
# Two containers: tasks of one read from that device, those of the other want a processor after others.
mkdir -p /cgroups /logs
run mount -t cgroup2 cgroup2 /cgroups
for name in containerd cgroupfs; do
    grep "^v2 $name-v2 " /pods.list >/pod
    read -r _ _ path link target </pod
    run mkdir -p "/cgroups/$path"
    run ln -s "$target" "/logs/$link"
    eval "$name=/cgroups/$path"
done
# inside CGROUP NAME PARAMETER…: a load in a container.
inside() {
    cgroup=$1
    shift
    sh -c 'echo $$ >"$0/cgroup.procs"; exec fio --eta=never --output=/dev/null --thread --time_based "$@"' "$cgroup" --runtime=$limit --name="$@" &
}
limit=$1
inside $containerd blocked --numjobs=24 --filename=/dev/mapper/late --rw=randread --direct=1 --ioengine=psync --bs=4k
# Tasks that compute, more than processors, and behind the exporter.
compute="fio --eta=never --output=/dev/null --thread --time_based --runtime=$limit --ioengine=cpuio"
run $compute --name=many --numjobs=12 --nice=19 --cpuload=100 &
# On one processor a task of real time that computes, again and again for longer than a late wake-up may take, and others
# that wake up meanwhile.
run chrt -f 1 taskset 2 $compute --name=first --cpuload=40 --cpuchunks=60000 &
inside $cgroupfs late --numjobs=6 --cpus_allowed=1 --ioengine=cpuio --cpuload=2 --cpuchunks=200
sleep 1

# The probes of the scheduler are off unless asked for; and there are sleeps on more stacks than there is room for.
sed 's/enabled: false/enabled: true/; s/max_series: 4096/max_series: 24/' /sched.yaml >/few.yaml
sed 's/enabled: false/enabled: true/' /sched_who.yaml >/who.yaml
exporter -c /few.yaml -c /who.yaml --path.containers /logs
# What sleeps only now has no room, or takes the last.
sleep 10
for kind in pipe_read unix_receive udp_receive tcp_receive eventfd signalfd inotify flock posix_lock sysv_semaphore mq_receive \
    pause sigwaitinfo futex_condition splice fifo_open; do
    (
        while waits $kind 8 300 >/dev/null; do :; done
        echo "@@ failed: waits $kind"
    ) &
done
wait
