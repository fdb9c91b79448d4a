# Stacks of the kernel and of a program, by every way to get to an event.
modprobe brd rd_nr=2 rd_size=32768
array /dev/md0 --run --level=0 --chunk=64 --raid-devices=2 /dev/ram0 /dev/ram1
blockdev --getsz /dev/md0 >/dev/null
cat >/stacks.yaml <<X
probes:
  - name: samples
    at: "profile:ms:4"
    where: comm == "stacks"
    labels: { kernel: kstack, user: ustack }
    metrics: [{ counter: samples_total, help: x }]
  - name: ticks
    at: "profile:ms:4"
    where: comm == "stacks"
    metrics: [{ counter: ticks_total, help: x }]
  - name: traced
    at: "fentry:vfs_read"
    where: comm == "dd"
    labels: { kernel: kstack }
    metrics: [{ counter: traced_total, help: x }]
  - name: limited
    at: "fexit:vfs_read"
    where: comm == "dd"
    labels: { kernel: kstack(2) }
    metrics: [{ counter: limited_total, help: x }]
  - name: probed
    at: "kprobe:vfs_read"
    where: comm == "dd"
    labels: { kernel: kstack }
    metrics: [{ counter: probed_total, help: x }]
  - name: stripe
    at: "kprobe:raid0_make_request"
    labels: { kernel: kstack(3) }
    metrics: [{ counter: stripe_total, help: x }]
  - name: tracepoint
    at: "tracepoint:sched:sched_switch"
    where: comm == "usleep"
    labels: { kernel: kstack, user: ustack(3) }
    metrics: [{ counter: tracepoint_total, help: x }]
  - name: raw
    at: "rawtracepoint:sched:sched_switch"
    where: comm == "usleep"
    labels: { kernel: kstack }
    metrics: [{ counter: raw_total, help: x }]
  - name: sleeper
    at: "rawtracepoint:sched:sched_wakeup"
    where: args.p.comm == "usleep"
    labels: { sleeping: kstack(args.p) }
    metrics: [{ counter: sleeper_total, help: x }]
  - name: calls
    at: "uprobe:/bin/stacks:probed"
    labels: { user: ustack }
    metrics: [{ counter: calls_total, help: x }]
  - name: faults
    at: "software:page-faults:1"
    where: comm == "stacks"
    labels: { user: ustack(4), kernel: kstack(4) }
    metrics: [{ counter: faults_total, help: x }]
X
tapster check -c /stacks.yaml >/results/check
exporter -c /stacks.yaml
scrape before
run stacks cpu 2000 >/results/used
run stacks calls 50
run dd if=/dev/zero of=/dev/null bs=4096 count=1000 2>/dev/null
for _ in 1 2 3 4 5; do run usleep 50000; done
run fio --name=r --filename=/dev/md0 --rw=randread --bs=64k --size=2M --direct=1 --ioengine=psync --output=/dev/null
sleep 0.2
scrape after
stop_exporter
