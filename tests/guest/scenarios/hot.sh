# Arrays that change under the exporter: a member fails, is replaced and recovered; a device leaves; an array comes back.
modprobe brd rd_nr=4 rd_size=32768
exporter

# detail NAME: the array as two programs show it.
detail() {
    sleep 0.3
    run mdadm --detail /dev/md1 >"/results/$1.mdadm"
    run tapster raid --for 1ms md1 >"/results/$1.raid" 2>&1
}

array /dev/md1 --run --assume-clean --bitmap=none --level=1 --raid-devices=2 /dev/ram0 /dev/ram1
settle md1
scrape whole
detail whole
run mdadm --quiet /dev/md1 --fail /dev/ram1
scrape failed
detail failed
run mdadm --quiet /dev/md1 --remove /dev/ram1
scrape removed
detail removed
run fio --name=t --filename=/dev/md1 --direct=1 --ioengine=psync --output=/dev/null --rw=randwrite --bs=4k --size=1M
scrape degraded
# Slow enough to be seen while it goes on.
echo 2000 >/sys/block/md1/md/sync_speed_max
run mdadm --quiet /dev/md1 --add /dev/ram2
sleep 0.5
scrape recovering
cat /proc/mdstat >/results/recovering.mdstat
detail recovering
echo 200000 >/sys/block/md1/md/sync_speed_max
settle md1
scrape recovered
detail recovered
cat /sys/block/md1/md/dev-ram2/slot >/results/slot
before=$(grep -c . /proc/mdstat)
run fio --name=t --filename=/dev/md1 --direct=1 --ioengine=psync --output=/dev/null --rw=randwrite --bs=4k --size=1M
scrape replaced
run mdadm --quiet --stop /dev/md1
scrape stopped
# Scrapes while an array comes and goes.
for _ in 1 2 3 4 5 6; do
    mdadm --quiet --assemble --run /dev/md1 /dev/ram0 /dev/ram2 2>/dev/null
    scrape storm &
    mdadm --quiet --stop /dev/md1 2>/dev/null
    wait $!
    settle md1
done
run mdadm --quiet --assemble --run /dev/md1 /dev/ram0 /dev/ram2
nodes
scrape back
run fio --name=t --filename=/dev/md1 --direct=1 --ioengine=psync --output=/dev/null --rw=randwrite --bs=4k --size=1M
scrape again
stop_exporter
