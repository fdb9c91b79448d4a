# The array of the story: seven RAM disks and a device that delays each request by 50 ms, striped.
modprobe brd rd_nr=8 rd_size=65536
run dmsetup create delayed --table "0 $(blockdev --getsz /dev/ram7) delay /dev/ram7 0 50"
nodes
run mdadm --quiet --create /dev/md0 --run --level=0 --raid-devices=8 /dev/ram0 /dev/ram1 /dev/ram2 /dev/ram3 /dev/ram4 /dev/ram5 /dev/ram6 /dev/dm-0
# The first to open it has the kernel look for partitions.
blockdev --getsz /dev/md0 >/dev/null
exporter
scrape before
observe
run fio --name=r --filename=/dev/md0 --rw=read --bs=1M --direct=1 --numjobs=2 --size=64M --ioengine=psync --output-format=json --output=/results/fio.json
observed story
scrape after
watch_raid story md0
run fio --name=r --filename=/dev/md0 --rw=read --bs=1M --direct=1 --numjobs=2 --size=64M --ioengine=psync --output-format=json --output=/results/fio2.json
watched
# The story's other table: each device with its total time, count and average, while a command runs.
run tapster report block_io --bars --output /results/report.txt -- fio --name=r --filename=/dev/md0 --rw=read --bs=1M --direct=1 --numjobs=2 --size=64M --ioengine=psync --output=/dev/null
stop_exporter
