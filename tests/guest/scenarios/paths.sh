# Two paths to one disk: of NVMe, over TCP to this guest itself, and of device mapper, to two hosts of SCSI. Then a SCSI disk that
# forgets a command, and one whose host is busy.
modprobe brd rd_nr=1 rd_size=65536
modprobe nvmet-tcp
modprobe nvme-tcp
modprobe dm-multipath
modprobe dm-round-robin
modprobe scsi_debug dev_size_mb=64 add_host=2 vpd_use_hostno=0 ndelay=300000
modprobe sd_mod
sleep 1
nodes
mount -t configfs configfs /sys/kernel/config 2>/dev/null
subsystem=/sys/kernel/config/nvmet/subsystems/guest
run mkdir $subsystem $subsystem/namespaces/1
echo 1 >$subsystem/attr_allow_any_host
echo -n /dev/ram0 >$subsystem/namespaces/1/device_path
run sh -c "echo 1 >$subsystem/namespaces/1/enable"
for port in 1 2; do
    directory=/sys/kernel/config/nvmet/ports/$port
    run mkdir $directory
    echo ipv4 >$directory/addr_adrfam
    echo tcp >$directory/addr_trtype
    echo 127.0.0.1 >$directory/addr_traddr
    echo 442$port >$directory/addr_trsvcid
    run ln -s $subsystem $directory/subsystems/guest
    run sh -c "echo transport=tcp,traddr=127.0.0.1,trsvcid=442$port,nqn=guest,hostnqn=nqn.2014-08.org.nvmexpress:uuid:11111111-2222-3333-4444-555555555555,hostid=11111111-2222-3333-4444-555555555555 >/dev/nvme-fabrics"
done
for _ in $(seq 100); do
    [ -b /dev/nvme0n1 ] && [ -d /sys/block/nvme0c1n1 ] && break
    sleep 0.1
done
run sh -c "echo round-robin >/sys/class/nvme-subsystem/nvme-subsys0/iopolicy"

debug=/sys/bus/pseudo/drivers/scsi_debug
set -- $(ls -d $debug/adapter*/host*/target*/*:*/block/* | sed 's|.*/||')
echo "$1 $2" >/results/scsi
run dmsetup create -u mpath-3600 mpatha --table "0 $(blockdev --getsz "/dev/$1") multipath 0 0 1 1 round-robin 0 2 1 /dev/$1 1 /dev/$2 1"
nodes
for device in nvme0n1 mapper/mpatha "$1" "$2"; do blockdev --getsz "/dev/$device" >/dev/null; done
exporter

# stats NAME: each disk's own account of its I/O, hidden ones too.
stats() {
    sleep 0.5
    grep . /sys/block/*/stat >"/results/$1.stat"
    scrape "$1"
}

# load NAME DEVICE: 256 reads and writes.
load() {
    stats "$1-before"
    run fio --name=t --filename="$2" --direct=1 --ioengine=psync --output=/dev/null --rw=randread --bs=4k --size=1M
    run fio --name=t --filename="$2" --direct=1 --ioengine=psync --output=/dev/null --rw=randwrite --bs=4k --size=1M
    stats "$1-after"
}

load nvme /dev/nvme0n1
load mapped /dev/mapper/mpatha
# A place that cannot be read.
echo 2 >$debug/opts
dd if=/dev/mapper/mpatha of=/dev/null bs=4k skip=582 count=1 iflag=direct 2>/dev/null
echo 0 >$debug/opts
stats unreadable

# forget NAME OPTION SECONDS: what the host does with every command until then, and one read.
forget() {
    echo 3 >"/sys/block/$first/device/timeout"
    stats "$1-before"
    echo 1 >$debug/every_nth
    echo "$2" >$debug/opts
    dd if="/dev/$first" of=/dev/null bs=4k count=1 iflag=direct 2>/dev/null &
    reader=$!
    sleep "$3"
    scrape "$1-during"
    echo 0 >$debug/opts
    echo 0 >$debug/every_nth
    wait $reader || echo "@@ failed: the read ($?)"
    stats "$1-after"
}

first=$1
forget forgotten 4 1
forget busy 0x8000 2
stop_exporter
