# Functions of the kernel and of a module, by each way to get there.
modprobe brd rd_nr=2 rd_size=32768
array /dev/md0 --run --level=0 --chunk=64 --raid-devices=2 /dev/ram0 /dev/ram1
blockdev --getsz /dev/md0 >/dev/null
cat >/functions.yaml <<X
probes:
  - name: read_traced
    start: { at: "fentry:vfs_read", key: frame, save: { wanted: args.count } }
    end: { at: "fexit:vfs_read", key: frame, where: "retval >= 0" }
    labels: { comm: comm }
    metrics:
      - { histogram: read_traced_duration_seconds, help: x, value: duration }
      - { counter: read_traced_bytes_total, help: x, value: retval }
      - { counter: read_traced_wanted_bytes_total, help: x, value: start.wanted }
  - name: read_probed
    start: { at: "kprobe:vfs_read", key: frame, save: { wanted: args.count } }
    end: { at: "kretprobe:vfs_read", key: frame, where: "retval >= 0" }
    labels: { comm: comm }
    metrics:
      - { histogram: read_probed_duration_seconds, help: x, value: duration }
      - { counter: read_probed_bytes_total, help: x, value: retval }
      - { counter: read_probed_wanted_bytes_total, help: x, value: start.wanted }
  - name: sleep
    function: hrtimer_nanosleep
    labels: { comm: comm }
    metrics: [{ histogram: sleep_duration_seconds, help: x, value: duration }]
  - name: stripe
    function: raid0_make_request
    metrics: [{ histogram: stripe_duration_seconds, help: x, value: duration }]
X
tapster check -c /functions.yaml >/results/check
exporter -c /functions.yaml
scrape before
cd /sys/kernel/tracing
echo 16384 >buffer_size_kb
echo 'p:vfs_read vfs_read' >kprobe_events
echo 'p:stripe raid0_make_request' >>kprobe_events
run sh -c 'echo 1 >events/kprobes/vfs_read/enable'
run sh -c 'echo 1 >events/kprobes/stripe/enable'
echo >trace
cd /
run dd if=/dev/zero of=/dev/null bs=4096 count=1000 2>/dev/null
for _ in 1 2 3 4 5; do run usleep 50000; done
run fio --name=r --filename=/dev/md0 --rw=randread --bs=64k --size=8M --direct=1 --ioengine=psync --output=/dev/null
sleep 0.2
observed functions
scrape after
stop_exporter
