# Arrays whose metadata is not md's own, each in a container; and a device-mapper device whose number is used again.
modprobe brd rd_nr=8 rd_size=131072
modprobe raid1
export IMSM_NO_PLATFORM=1 IMSM_DEVNAME_AS_SERIAL=1
exporter
run mdadm --quiet --create /dev/md/ddf --metadata=ddf --run --raid-devices=3 /dev/ram0 /dev/ram1 /dev/ram2
nodes
run mdadm --quiet --create /dev/md/safe --run --level=1 --raid-devices=2 --size=16384 /dev/md/ddf
nodes
run mdadm --quiet --create /dev/md/imsm --metadata=imsm --run --raid-devices=2 /dev/ram3 /dev/ram4
nodes
run mdadm --quiet --create /dev/md/fast --run --level=0 --chunk=64 --raid-devices=2 --size=16384 /dev/md/imsm
nodes
for array in ddf safe imsm fast; do
    link=$(readlink -f /dev/md/$array)
    echo "$array ${link##*/}" >>/results/arrays
done
settle "$(basename "$(readlink -f /dev/md/safe)")"
grep . /sys/block/md*/md/metadata_version /sys/block/md*/md/array_state /sys/block/md*/md/level >/results/md 2>&1
cp /proc/mdstat /results/mdstat
run fio --name=t --filename=/dev/md/safe --direct=1 --ioengine=psync --output=/dev/null --rw=randwrite --bs=4k --size=1M
sleep 0.5
scrape containers
run tapster raid --for 1ms >/results/containers.raid 2>&1

# The first look at the new device is within a second; before 5.15 what it does until then counts for the old one.
run dmsetup create vg-first --table "0 2048 linear /dev/ram6 0"
nodes
sleep 2
run dd if=/dev/mapper/vg-first of=/dev/null bs=4k count=16 iflag=direct 2>/dev/null
sleep 0.5
scrape first
run dmsetup remove vg-first
run dmsetup create vg-second --table "0 2048 linear /dev/ram7 0"
nodes
sleep 2
run dd if=/dev/mapper/vg-second of=/dev/null bs=4k count=4 iflag=direct 2>/dev/null
sleep 0.5
scrape second
stop_exporter
