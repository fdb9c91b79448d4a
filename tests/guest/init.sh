#!/bin/sh
# The first process of a guest: mounts what a system has, runs the scenario, hands its results over, and ends.
export PATH=/bin HOME=/ TERM=dumb NO_COLOR=1
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/shm
echo "@@ begun"
for directory in /dev/shm /tmp /run; do mount -t tmpfs tmpfs $directory; done
mount -t tracefs tracefs /sys/kernel/tracing
ifconfig lo 127.0.0.1 up
# Built into some kernels.
modprobe virtio_pci 2>/dev/null
modprobe virtio_blk
modprobe virtio_net 2>/dev/null && ifconfig eth0 10.0.2.15 netmask 255.255.255.0 up 2>/dev/null
cd /
# The second serial line tells the host that this machine's processors and its clock still run.
stalls /results/stalls /dev/ttyS1 &
stalls=$!
# In a shell of its own: the end of the first process is the end of the kernel.
eval "set -- $(cat /arguments)"
sh -c '. /lib.sh; . /scenario.sh' scenario "$@" || echo "@@ failed: the scenario itself ($?)"
kill $stalls
wait $stalls || echo "@@ failed: stalls ($?)"
sync
# A raw disk of our own; what is on it is an archive.
tar -C /results -cf /dev/vda .
echo "@@ done"
poweroff -f
