# Mirrors and parity over RAM disks, one of which is slowed; arrays come and go under one exporter.
modprobe brd rd_nr=5 rd_size=65536
slowed slow /dev/ram4 20
exporter
array /dev/md1 --run --assume-clean --bitmap=none --level=1 --raid-devices=2 /dev/ram0 /dev/dm-0
trial raid1 /dev/md1 --rw=randwrite --bs=16k --size=1M
run mdadm --quiet --stop /dev/md1
array /dev/md10 --run --assume-clean --bitmap=none --level=10 --raid-devices=4 /dev/ram0 /dev/ram1 /dev/ram2 /dev/dm-0
trial raid10 /dev/md10 --rw=randwrite --bs=16k --size=2M
run mdadm --quiet --stop /dev/md10
array /dev/md5 --run --assume-clean --level=5 --chunk=64 --raid-devices=4 /dev/ram0 /dev/ram1 /dev/ram2 /dev/dm-0
trial raid5 /dev/md5 --rw=randread --bs=16k --size=4M
trial raid5w /dev/md5 --rw=randwrite --bs=16k --size=2M
run mdadm --quiet --stop /dev/md5
scrape stopped
stop_exporter
