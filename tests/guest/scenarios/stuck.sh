# Members that do not answer: one of bios that is suspended, and one of requests that takes 40 s for each from some moment on.
modprobe brd rd_nr=3 rd_size=65536
modprobe scsi_debug dev_size_mb=64 ndelay=300000
modprobe sd_mod
sleep 1
nodes
debug=/sys/bus/pseudo/drivers/scsi_debug
disk=$(ls -d $debug/adapter*/host*/target*/*:*/block/* | sed 's|.*/||')
echo "$disk" >/results/scsi
slowed held /dev/ram0 0
array /dev/md0 --run --level=0 --chunk=64 --raid-devices=2 /dev/mapper/held /dev/ram1
array /dev/md1 --run --level=0 --chunk=64 --raid-devices=2 "/dev/$disk" /dev/ram2
exporter
for array in md0 md1; do
    run fio --name=t --filename=/dev/$array --direct=1 --ioengine=psync --output=/dev/null --rw=randrw --bs=16k --size=4M
done
sleep 0.5
scrape healthy

watch_raid suspended md0
run dmsetup suspend --nolockfs --noflush held
echo 300 >"/sys/block/$disk/device/timeout"
# Debian counts 250 jiffies in a second.
run sh -c "echo 10000 >$debug/delay"
dd if=/dev/md0 of=/dev/null bs=4k count=1 iflag=direct 2>/dev/null &
suspended=$!
dd if=/dev/md1 of=/dev/null bs=4k count=1 iflag=direct 2>/dev/null &
slow=$!
sleep 1
scrape first
awk '{ print $1 + $2 }' /sys/block/dm-0/inflight >/results/inflight
sleep 3
scrape second
watched
# What hung before is known from the kernel's own count, or from the device mapper.
run sh -c 'tapster raid --for 3s >/results/before-raid.txt 2>&1'
run dmsetup resume held
wait $suspended
sleep 0.5
scrape resumed
wait $slow
# What is asked of it from here on, and when the guest ends, is answered at once.
run sh -c "echo 1 >$debug/delay"
sleep 0.5
scrape after
run sh -c 'tapster raid --for 3s >/results/after-raid.txt 2>&1'
stop_exporter
