# Functions of the kernel and of a module, nested calls among them, counted by two at the same time: the exporter, and bpftrace.
modprobe overlay
modprobe brd rd_nr=2 rd_size=32768
array /dev/md0 --run --level=0 --chunk=64 --raid-devices=2 /dev/ram0 /dev/ram1
blockdev --getsz /dev/md0 >/dev/null
mkdir -p /mnt /one /two
mount -t tmpfs tmpfs /mnt
mkdir -p /mnt/lower /mnt/upper /mnt/work /mnt/empty
run dd if=/dev/urandom of=/mnt/lower/file bs=4096 count=256 2>/dev/null
run mount -t overlay overlay -o lowerdir=/mnt/lower,upperdir=/mnt/upper,workdir=/mnt/work /one
run mount -t overlay overlay -o lowerdir=/one:/mnt/empty /two
cat >/beside.yaml <<X
probes:
  - name: read
    function: vfs_read
    labels: { comm: comm }
    metrics: [{ histogram: read_duration_seconds, help: x, value: duration }]
  - name: probed
    start: { at: "kprobe:vfs_read", key: frame }
    end: { at: "kretprobe:vfs_read", key: frame }
    labels: { comm: comm }
    metrics: [{ histogram: probed_duration_seconds, help: x, value: duration }]
  - name: layer
    function: vfs_iter_read
    labels: { comm: comm }
    metrics: [{ histogram: layer_duration_seconds, help: x, value: duration }]
  - name: stripe
    function: raid0_make_request
    metrics: [{ histogram: stripe_duration_seconds, help: x, value: duration }]
X
exporter -c /beside.yaml
cat >/beside.bt <<X
kretprobe:vfs_read { @read[comm] = count(); }
kretprobe:vfs_iter_read { @layer[comm] = count(); }
kprobe:raid0_make_request { @stripe = count(); }
interval:ms:200 { printf("ready\n"); }
X
bpftrace /beside.bt >/results/bpftrace 2>&1 &
bpftrace=$!
for _ in $(seq 1200); do
    grep -q ready /results/bpftrace && break
    sleep 0.1
done
scrape before
run dd if=/dev/zero of=/dev/null bs=4096 count=1000 2>/dev/null
run dd if=/two/file of=/dev/null bs=4096 2>/dev/null
run fio --name=r --filename=/dev/md0 --rw=randread --bs=64k --size=8M --direct=1 --ioengine=psync --output=/dev/null
sleep 0.5
scrape after
kill -INT $bpftrace
wait $bpftrace
stop_exporter
