# File systems, the page cache and an overlay on an overlay: the shipped probes, all at once.
modprobe ext4
modprobe xfs
modprobe btrfs
modprobe overlay
run mkfs.ext4 -q -F /dev/vdb
run mkfs.xfs -q -f /dev/vdc
run mkfs.btrfs -q -f /dev/vdd
for pair in ext4:vdb xfs:vdc btrfs:vdd; do
    mkdir -p "/mnt/${pair%:*}"
    run mount -t "${pair%:*}" "/dev/${pair#*:}" "/mnt/${pair%:*}"
done
# One overlay over ext4, and one over that: as deep as the kernel lets them be.
mkdir -p /mnt/ext4/lower /mnt/ext4/upper /mnt/ext4/work /mnt/ext4/empty /mnt/one /mnt/two
run dd if=/dev/urandom of=/mnt/ext4/lower/file bs=4096 count=256 2>/dev/null
run mount -t overlay overlay -o lowerdir=/mnt/ext4/lower,upperdir=/mnt/ext4/upper,workdir=/mnt/ext4/work /mnt/one
run mount -t overlay overlay -o lowerdir=/mnt/one:/mnt/ext4/empty /mnt/two
cat >/probes.yaml <<X
library: [filesystem, ext4, xfs, btrfs, page_cache_read, page_cache, page_cache_evictions]
probes:
  - name: layer
    function: vfs_iter_read
    save: { type: "str(args.file.f_inode.i_sb.s_type.name, 16)" }
    labels: { type: start.type }
    metrics: [{ histogram: layer_duration_seconds, help: x, value: duration }]
  - name: outermost
    function: vfs_read
    where: retval > 0
    labels: { comm: comm }
    metrics: [{ histogram: outermost_duration_seconds, help: x, value: duration }]
X
tapster check -c /probes.yaml >/results/check
exporter -c /probes.yaml
cd /sys/kernel/tracing
echo 32768 >buffer_size_kb
for function in ext4_file_read_iter ext4_file_write_iter ext4_file_open ext4_sync_file \
    xfs_file_read_iter xfs_file_write_iter xfs_file_open xfs_file_fsync \
    btrfs_file_read_iter btrfs_file_write_iter btrfs_file_open btrfs_sync_file vfs_read vfs_iter_read; do
    run sh -c "echo p:$function $function >>kprobe_events"
    run sh -c "echo 1 >events/kprobes/$function/enable"
done
cd /

sleep 0.5
scrape before
echo >/sys/kernel/tracing/trace
for type in ext4 xfs btrfs; do
    run fio --name=w --filename="/mnt/$type/file" --rw=write --bs=4k --size=4M --fsync=16 --ioengine=psync --output-format=json --output="/results/$type-write.json"
    run fio --name=r --filename="/mnt/$type/file" --rw=read --bs=8k --size=4M --ioengine=psync --output-format=json --output="/results/$type-read.json"
    # What is not there cannot be read, and a directory is no file.
    cat "/mnt/$type/missing" 2>/dev/null
done
sleep 0.5
run cp /sys/kernel/tracing/trace /results/filesystems.trace
scrape after

# 1024 pages, one by one in any order, so that nothing is read ahead: first from the device, then from memory.
sync
echo 3 >/proc/sys/vm/drop_caches
sleep 0.5
scrape cold
run fio --name=r --filename=/mnt/ext4/file --rw=randread --bs=4k --size=4M --invalidate=0 --ioengine=psync --output-format=json --output=/results/cold.json
sleep 0.5
scrape warm
run fio --name=r --filename=/mnt/ext4/file --rw=randread --bs=4k --size=4M --invalidate=0 --ioengine=psync --output-format=json --output=/results/warm.json
sleep 0.5
scrape hot
# In order, so that much is read ahead.
sync
echo 3 >/proc/sys/vm/drop_caches
sleep 0.5
scrape ordered-before
run dd if=/mnt/ext4/file of=/dev/null bs=4096 2>/dev/null
sleep 0.5
scrape ordered-after
echo 3 >/proc/sys/vm/drop_caches
sleep 0.5
scrape dropped

echo >/sys/kernel/tracing/trace
scrape overlay-before
run dd if=/mnt/two/file of=/dev/null bs=4096 2>/dev/null
sleep 0.5
scrape overlay-after
observed overlay
stop_exporter
