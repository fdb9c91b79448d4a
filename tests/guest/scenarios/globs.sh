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
exporter -c /globs.yaml
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
sleep 0.2
echo 0 >/sys/kernel/tracing/tracing_on
run cp /sys/kernel/tracing/trace /results/globs.trace
echo nop >/sys/kernel/tracing/current_tracer
scrape after
stop_exporter
tapster run -c /many.yaml 2>/results/many.log &
many=$!
for _ in $(seq 600); do
    grep -q serving /results/many.log && break
    sleep 0.1
done
run wget -qO /results/many.prom http://127.0.0.1:9955/metrics
cut -d' ' -f1 /proc/uptime >/results/ending
kill $many
wait $many
cut -d' ' -f1 /proc/uptime >/results/ended
