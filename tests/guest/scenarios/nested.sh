# md over dm over md, and members of every kind: partitions of a virtio disk, SCSI, loop, zram, RAM.
modprobe brd rd_nr=4 rd_size=65536
modprobe loop
modprobe zram num_devices=1
modprobe scsi_debug dev_size_mb=64 ndelay=300000
modprobe sd_mod
sleep 1
nodes
array /dev/md0 --run --level=0 --chunk=64 --raid-devices=2 /dev/ram0 /dev/ram1
# A stripe of device-mapper over an md array and a RAM disk.
sectors=$(($(blockdev --getsz /dev/md0) / 128 * 128))
ram=$(($(blockdev --getsz /dev/ram2) / 128 * 128))
[ $ram -lt $sectors ] && sectors=$ram
run dmsetup create stripe --table "0 $((sectors * 2)) striped 2 128 /dev/md0 0 /dev/ram2 0"
nodes
array /dev/md9 --run --level=0 --chunk=64 --raid-devices=2 /dev/mapper/stripe /dev/ram3
exporter
trial nested /dev/md9 --rw=randread --bs=64k --size=8M
run mdadm --quiet --stop /dev/md9

# The disk's first two partitions.
printf 'n\np\n1\n\n+40M\nn\np\n2\n\n+40M\nw\n' | fdisk /dev/vdb >/dev/null
sleep 0.5
nodes
echo 67108864 >/sys/block/zram0/disksize
dd if=/dev/zero of=/dev/shm/file bs=1M count=64 2>/dev/null
run losetup /dev/loop0 /dev/shm/file
nodes
disk=$(ls -d /sys/bus/pseudo/drivers/scsi_debug/adapter*/host*/target*/*:*/block/* | sed 's|.*/||')
echo "$disk" >/results/scsi
array /dev/md8 --run --level=0 --chunk=64 --raid-devices=5 /dev/vdb1 /dev/vdb2 "/dev/$disk" /dev/loop0 /dev/zram0
trial kinds /dev/md8 --rw=randrw --bs=64k --size=16M
stop_exporter
