# Arrays in every state that a rule or a panel asks for, under load for $1 seconds or until the test has its answers.
modprobe brd rd_nr=26 rd_size=32768
modprobe null_blk nr_devices=0
modprobe dm-raid

# A slow member.
slowed slow /dev/ram3 20
array /dev/md0 --run --level=0 --chunk=64 --raid-devices=4 /dev/ram0 /dev/ram1 /dev/ram2 /dev/dm-0
# A faulty one that is still in the array, and parity without a spare.
array /dev/md1 --run --assume-clean --bitmap=none --level=1 --raid-devices=2 /dev/ram4 /dev/ram5
run mdadm --quiet /dev/md1 --fail /dev/ram5
array /dev/md5 --run --assume-clean --level=5 --chunk=64 --raid-devices=3 /dev/ram6 /dev/ram7 missing
# Parity that has lost two. The kernel does it and says that it is busy.
array /dev/md7 --run --assume-clean --level=5 --chunk=64 --raid-devices=3 /dev/ram20 /dev/ram21 /dev/ram22
run mdadm --quiet /dev/md7 --fail /dev/ram21
mdadm --quiet /dev/md7 --fail /dev/ram22 2>/dev/null
# A recovery that does not get on.
array /dev/md2 --run --assume-clean --bitmap=none --level=1 --raid-devices=2 /dev/ram8 missing
echo 8192 >/sys/block/md2/md/sync_max
run mdadm --quiet /dev/md2 --add /dev/ram9
# Half of a mirror, as it is put together at boot; the other half does not come.
array /dev/md3 --run --assume-clean --bitmap=none --level=1 --raid-devices=2 /dev/ram10 /dev/ram11
run mdadm --quiet --stop /dev/md3
run mdadm --quiet --incremental /dev/ram10
nodes
# Members that turn slow together: the array is slower than it was.
for number in 0 1; do slowed even$number /dev/ram$((12 + number)) 0; done
array /dev/md6 --run --level=0 --chunk=64 --raid-devices=2 /dev/mapper/even0 /dev/mapper/even1
# Members with requests.
for time in 200000 200000 200000 200000; do nullb 32 $time; done
array /dev/md10 --run --assume-clean --level=10 --chunk=64 --raid-devices=4 /dev/nullb0 /dev/nullb1 /dev/nullb2 /dev/nullb3
# Arrays of device mapper.
run dmsetup create stripe --table "0 $(($(blockdev --getsz /dev/ram14) * 2)) striped 2 128 /dev/ram14 0 /dev/ram15 0"
nodes
mkdir -p /etc/lvm /run/lvm /run/lock/lvm
cat >/etc/lvm/lvm.conf <<X
activation { udev_sync = 0 udev_rules = 0 monitoring = 0 }
devices { obtain_device_list_from_udev = 0 external_device_info_source = "none" scan = [ "/dev" ] filter = [ "a|/dev/ram1[67]|", "r|.*|" ] }
global { use_lvmpolld = 0 }
backup { backup = 0 archive = 0 }
X
run lvm vgcreate -q vg /dev/ram16 /dev/ram17
run lvm lvcreate -q -y -Wn -Zn --nosync --type raid1 -m 1 -n mirror -L 16m vg
nodes
# A device that answers with errors only.
run dmsetup create bad --table "0 2048 error"
nodes

# One probe that this kernel does not take, and one with fewer rows than it is asked for.
cat >/site.yaml <<X
library: true
probes:
  - name: absent
    help: An event that no kernel has.
    at: rawtracepoint:block:block_of_no_kernel
    metrics: [{ counter: absent_total, help: None. }]
  - name: crowded
    help: More processes than rows.
    at: rawtracepoint:sched:sched_process_exec
    labels: { pid: pid }
    max_series: 12
    metrics: [{ counter: crowded_total, help: Programs started. }]
X
# Pushes that nobody takes, as nobody listens there.
OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:9 OTEL_METRIC_EXPORT_INTERVAL=1000 \
    tapster run --run-stats -c /site.yaml 2>/results/tapster.log &
cat >/load.fio <<X
[global]
time_based
runtime=$1
direct=1
ioengine=psync
thread
bs=4k
[md0]
filename=/dev/md0
rw=randrw
rate_iops=80,80
[md1]
filename=/dev/md1
rw=randwrite
rate_iops=40
[md5]
filename=/dev/md5
rw=randrw
rate_iops=20,20
[md2]
filename=/dev/md2
rw=randwrite
rate_iops=20
[md6]
filename=/dev/md6
rw=randread
rate_iops=150
[md10]
filename=/dev/md10
rw=randrw
rate_iops=50,50
[stripe]
filename=/dev/mapper/stripe
rw=randread
rate_iops=40
[mirror]
filename=/dev/vg/mirror
rw=randwrite
rate_iops=20
X
run fio --eta=never --output=/dev/null /load.fio &
load=$!
# A member that does not answer: what is read of it waits for ever, and the exporter is there before.
slowed held /dev/ram18 0
array /dev/md4 --run --level=0 --chunk=64 --raid-devices=2 /dev/mapper/held /dev/ram19
for _ in $(seq 300); do
    wget -qO /dev/null http://127.0.0.1:18277/-/ready 2>/dev/null && break
    sleep 0.1
done
run dmsetup suspend --nolockfs --noflush held
dd if=/dev/md4 of=/dev/null bs=4k count=1 iflag=direct &
(
    sleep 20
    for number in 0 1; do
        device=/dev/ram$((12 + number))
        run dmsetup suspend even$number
        run dmsetup reload even$number --table "0 $(blockdev --getsz $device) delay $device 0 40"
        run dmsetup resume even$number
    done
) &
while kill -0 $load 2>/dev/null; do
    dd if=/dev/mapper/bad of=/dev/null bs=4k count=1 iflag=direct 2>/dev/null
    sleep 0.5
done
