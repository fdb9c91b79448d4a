# Block devices of both kinds: what fio did is what is counted, to the last one.
modprobe brd rd_nr=1 rd_size=131072
modprobe null_blk nr_devices=0
modprobe loop
nullb 128 50000
dd if=/dev/zero of=/dev/shm/file bs=1M count=128 2>/dev/null
run losetup /dev/loop0 /dev/shm/file
nodes
exporter
for device in ram0 nullb0 loop0 vdb; do
    # The first to open it has the kernel look for partitions.
    blockdev --getsz /dev/$device >/dev/null
    sleep 0.2
    for load in "randread 4k 8M" "randwrite 4k 8M" "read 1M 64M" "write 1M 64M"; do
        set -- $load
        scrape "$device-$1-before"
        run fio --name=t --filename=/dev/$device --direct=1 --invalidate=0 --ioengine=libaio --iodepth=8 --rw=$1 --bs=$2 --size=$3 --output-format=json --output="/results/$device-$1.json"
        scrape "$device-$1-after"
    done
done
# Pages of zram that are read through the page cache: before 6.3 they pass no event.
modprobe zram num_devices=1
echo 67108864 >/sys/block/zram0/disksize
nodes
blockdev --getsz /dev/zram0 >/dev/null
sleep 0.5
scrape pages-before
run dd if=/dev/zram0 of=/dev/null bs=1M count=32 2>/dev/null
# The exporter looks at the kernel's account every 15 s at most.
sleep 16
cat /sys/block/zram0/stat >/results/pages.stat
scrape pages-after
stop_exporter
