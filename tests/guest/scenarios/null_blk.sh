# Members with requests and a known time for each: 0.2 ms, and 10 ms for the third.
modprobe null_blk nr_devices=0
for time in 200000 200000 10000000 200000; do nullb 64 $time; done
array /dev/md0 --run --level=0 --chunk=64 --raid-devices=4 /dev/nullb0 /dev/nullb1 /dev/nullb2 /dev/nullb3
exporter
trial read /dev/md0 --rw=randread --bs=64k --size=16M
trial write /dev/md0 --rw=randwrite --bs=64k --size=16M
stop_exporter
