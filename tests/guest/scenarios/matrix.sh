# RAID 0 of null_blk members, many arrays at a time. $1: seconds of load, $2: which load, $3: I/Os a second for each
# member, then an array for each word: what its members take for an I/O, in nanoseconds, with commas between.
seconds=$1
load=$2
rate=$3
shift 3
modprobe null_blk nr_devices=0
modprobe raid0
mount -t configfs configfs /sys/kernel/config

cat >/load.fio <<X
[global]
time_based
runtime=$seconds
direct=1
thread
norandommap
randrepeat=0
group_reporting=0
X
case $load in
# Small reads, one at a time.
light) printf 'rw=randread\nbs=4k\nioengine=psync\n' >>/load.fio ;;
# Reads and writes, four at a time.
mixed) printf 'rw=randrw\nrwmixread=60\nbs=16k\nioengine=libaio\niodepth=4\niodepth_batch_submit=4\niodepth_batch_complete_min=4\nthinktime_blocks=4\n' >>/load.fio ;;
# Reads and writes over several stripes, eight at a time: 32 pieces.
heavy) printf 'rw=randrw\nrwmixread=50\nbs=256k\nioengine=libaio\niodepth=8\niodepth_batch_submit=8\niodepth_batch_complete_min=8\nthinktime_blocks=8\n' >>/load.fio ;;
esac

number=0
array=0
for cell in "$@"; do
    members= count=0
    IFS=,
    for time in $cell; do
        directory=/sys/kernel/config/nullb/nullb$number
        mkdir $directory
        echo 64 >$directory/size
        echo 2 >$directory/queue_mode
        echo 2 >$directory/irqmode
        echo $time >$directory/completion_nsec
        echo 0 >$directory/memory_backed
        echo 1 >$directory/power
        members="$members,/dev/nullb$number"
        number=$((number + 1)) count=$((count + 1))
    done
    run mdadm --quiet --build /dev/md$array --level=0 --chunk=64 --raid-devices=$count ${members#,}
    unset IFS
    case $load in
    light) think=$((1000000 / rate / count)) ;;
    mixed) think=$((4 * 1000000 / rate / count)) ;;
    heavy) think=$((32 * 1000000 / rate / count)) ;;
    esac
    printf '[md%d]\nfilename=/dev/md%d\nthinktime=%d\nstartdelay=%dms\n' $array $array $think $((array * 37 % 1000)) >>/load.fio
    array=$((array + 1))
done
exporter --probes raid_member
echo "@@ serves"
# The kernel's own statistics of each member, every five seconds.
(
    while :; do
        echo "@ sample"
        grep . /sys/block/nullb*/stat
        sleep 5
    done >/results/samples
) &
sampler=$!
run fio --eta=never --output-format=json --output=/results/fio.json /load.fio
kill $sampler
{
    echo "@ sample"
    grep . /sys/block/nullb*/stat
} >>/results/samples
scrape after
cat /proc/loadavg
