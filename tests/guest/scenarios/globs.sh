# Patterns of kernel functions: as many calls of each function in each process as the kernel's function tracer has.
cat >/globs.yaml <<X
probes:
  - name: entries
    at: "kprobe:vfs_*"
    labels: { func: func, pid: pid }
    max_series: 20000
    metrics: [{ counter: entries_total, help: x }]
  - name: calls
    function: "vfs_*"
    labels: { func: func, pid: pid }
    max_series: 20000
    metrics: [{ histogram: calls_duration_seconds, help: x, value: duration, buckets: [0.001] }]
  - name: typed
    function: "vfs_fsync*"
    save: { file: args.file, first: arg0 }
    labels: { func: func, pid: pid, same: start.file == start.first }
    metrics: [{ counter: typed_total, help: x }]
X
# Both ends of all functions of a file system; of fewer where each takes its time. Before 5.15 so many are refused.
case $(uname -r) in
6.1.*) some='ext4_e*' ;;
*) some='ext4_*' ;;
esac
cat >/ext4.yaml <<X
probes:
  - name: ext4
    function: "$some"
    labels: { func: func, tid: tid }
    max_series: 20000
    metrics: [{ histogram: ext4_seconds, help: x, value: duration, buckets: [0.001] }]
X
# As many as match of a subsystem that is there everywhere and seldom called; fewer where each takes its time.
case $(uname -r) in
5.* | 6.1.*) many='acpi_ex_*' ;;
*) many='acpi_*' ;;
esac
cat >/many.yaml <<X
probes:
  - name: many
    at: "kprobe:$many"
    max_functions: 5000
    labels: { func: func }
    metrics: [{ counter: many_total, help: x }]
  - name: pairs
    function: "acpi_ex_*"
    max_functions: 5000
    labels: { func: func }
    metrics: [{ histogram: many_seconds, help: x, value: duration }]
X
cat >/wrong.yaml <<X
probes:
  - { name: too_many, function: "*", metrics: [{ counter: a_total, help: x }] }
  - { name: misspelt, function: vfs_raed, metrics: [{ counter: b_total, help: x }] }
  - { name: no_match, function: "vfx_*", metrics: [{ counter: c_total, help: x }] }
  - { name: not_all, function: "vfs_*", save: { n: args.count }, metrics: [{ counter: d_total, help: x }] }
X
tapster check -c /globs.yaml >/results/check 2>&1 || echo "@@ failed: check"
tapster check --offline -c /wrong.yaml >/results/wrong 2>&1
# A call that has begun before it is looked at.
run mkfifo /pipe
cat /pipe >/dev/null &
early=$!
exec 9>/pipe
sleep 0.5
exporter -c /globs.yaml 9>&-
scrape before
cd /sys/kernel/tracing
echo 16384 >buffer_size_kb
run sh -c 'echo "vfs_*" >set_ftrace_filter'
run sh -c 'echo function >current_tracer'
echo >trace
cd /
run dd if=/dev/zero of=/file bs=4096 count=300 conv=fsync 2>/dev/null
run dd if=/file of=/dev/null bs=4096 2>/dev/null
run ls -lR /etc /sys/class/block >/dev/null
run sh -c 'mkdir /tmp/d; echo x >/tmp/d/f; ln -s f /tmp/d/l; cat /tmp/d/l; rm -r /tmp/d' >/dev/null
echo x >&9
exec 9>&-
wait $early
sleep 0.2
echo 0 >/sys/kernel/tracing/tracing_on
run cp /sys/kernel/tracing/trace /results/globs.trace
echo nop >/sys/kernel/tracing/current_tracer
scrape after
stop_exporter
modprobe ext4
modprobe brd rd_nr=1 rd_size=65536
run mkfs.ext4 -q -F /dev/ram0
mkdir /mnt
run mount -t ext4 /dev/ram0 /mnt
tapster run -c /ext4.yaml 2>/results/ext4.log &
exporter=$!
for _ in $(seq 600); do
    grep -q serving /results/ext4.log && break
    sleep 0.1
done
scrape ext4-before
cd /sys/kernel/tracing
run sh -c 'echo "$1" >set_ftrace_filter' - "$some"
run sh -c 'echo function >current_tracer'
echo >trace
echo 1 >tracing_on
cd /
run dd if=/dev/zero of=/mnt/file bs=64k count=10 conv=fsync 2>/dev/null
run fio --name=f --directory=/mnt --rw=randrw --bs=4k --size=256k --numjobs=4 --thread --ioengine=psync --fsync=16 --output=/dev/null
run cp -r /etc /mnt
run ls -lR /mnt >/dev/null
run rm -r /mnt/etc
sleep 0.2
echo 0 >/sys/kernel/tracing/tracing_on
run cp /sys/kernel/tracing/trace /results/ext4.trace
echo nop >/sys/kernel/tracing/current_tracer
scrape ext4-after
kill $exporter
wait $exporter
tapster run -c /many.yaml 2>/results/many.log &
many=$!
for _ in $(seq 600); do
    grep -q serving /results/many.log && break
    sleep 0.1
done
run wget -qO /results/many.prom http://127.0.0.1:18277/metrics
cut -d' ' -f1 /proc/uptime >/results/ending
kill $many
wait $many
cut -d' ' -f1 /proc/uptime >/results/ended
