# Programs that sleep in one known way each, those of input and output on a device that takes 30 ms.
modprobe brd rd_nr=1 rd_size=65536
modprobe null_blk nr_devices=0
modprobe ext4
modprobe fuse 2>/dev/null
mkdir -p /dev/pts /dev/mqueue /slow
mount -t devpts devpts /dev/pts
run mkfs.ext4 -q -F /dev/ram0
slowed slow /dev/ram0 30
run mount -t ext4 /dev/mapper/slow /slow
# Two requests at a time.
[ -d /sys/kernel/config/nullb ] || mount -t configfs configfs /sys/kernel/config
shallow=/sys/kernel/config/nullb/nullb0
mkdir $shallow
for setting in size=64 queue_mode=2 irqmode=2 completion_nsec=30000000 memory_backed=1 submit_queues=1 hw_queue_depth=2 power=1; do
    run sh -c "echo ${setting#*=} >$shallow/${setting%=*}"
done
nodes
export WAITS_DIRECTORY=/slow WAITS_DEVICE=/dev/mapper/slow WAITS_SHALLOW=/dev/nullb0
# Before 5.14 it is always on.
[ -e /proc/sys/kernel/task_delayacct ] && echo 1 >/proc/sys/kernel/task_delayacct
exporter -c /waits.yaml
all=$(waits --list)
# As often as it takes for something that comes between once to be little of the whole: sleeps on the device are short.
one() {
    case $1 in
    file_* | direct_* | device_* | block_request | fsync* | syncfs | page_fault | rcu | write_throttle) sleeps=32 ;;
    *) sleeps=8 ;;
    esac
    run waits --stacks $1 $sleeps 300 >/results/waits-$1.json
}
# Many at once, because nearly all the time they sleep; those of one file system one after the other.
lanes=
for lane in files 0 1 2 3 4 5; do
    (
        number=0
        for kind in $all; do
            case $kind in
            write_throttle) continue ;;
            file_* | direct_* | fsync* | syncfs | page_fault) own=files ;;
            *) own=$((number % 6)) number=$((number + 1)) ;;
            esac
            [ $own = $lane ] && one $kind
        done
    ) &
    lanes="$lanes $!"
done
wait $lanes
# So few that writers are held back; all who write would be.
echo 1000000 >/proc/sys/vm/dirty_bytes
one write_throttle
cat /results/waits-*.json >/results/waits.json
scrape after
stop_exporter
run umount /slow
