# Disks of several kinds, each with the names that the machine was given for it; what is on them; one that is pulled and put back.
modprobe virtio_blk
modprobe sd_mod
modprobe ahci
modprobe virtio_scsi
modprobe nvme
modprobe loop
modprobe dm-mod
modprobe raid1
for _ in $(seq 600); do
    [ -b /dev/nvme0n1 ] && [ -b /dev/nvme1n1 ] && [ -b /dev/sda ] && [ -b /dev/sdb ] && break
    sleep 0.1
done
nodes
# named SERIAL: the disk with it, by the kernel's own files.
named() {
    for disk in /sys/block/sd*; do
        grep -q "$1" "$disk/device/vpd_pg80" && basename "$disk"
    done
}
sata=$(named SATA-1)
scsi=$(named SCSI-1)
echo "$sata $scsi" >/results/disks
array /dev/md0 --level=1 --raid-devices=2 --assume-clean --run "/dev/$sata" "/dev/$scsi"
run dmsetup create -u LVM-guest guest-volume --table "0 2048 linear /dev/nvme0n1 0"
nodes
run dmsetup create over --table "0 1024 linear /dev/mapper/guest-volume 0"
dd if=/dev/zero of=/tmp/file bs=1M count=2 2>/dev/null
nodes
run losetup /dev/loop0 /tmp/file
cat >/groups.yaml <<'END'
library: true
device_groups:
  - { group: fast, transport: nvme, serial: "NVME-*" }
  - { group: mirror, device: "md*" }
END
exporter -c /groups.yaml
scrape first
scrape second
grep . /sys/bus/pci/slots/*/address >/results/slots
tapster raid --json --for 1s >/results/raid.json 2>/results/raid.log || echo "@@ failed: tapster raid"
run mdadm --quiet /dev/md0 --fail "/dev/$scsi"
tapster raid --check --for 1s >/results/check.txt 2>/dev/null
run mdadm --quiet /dev/md0 --remove "/dev/$scsi"
host=$(readlink -f "/sys/block/$scsi/device" | sed 's|.*/\(host[0-9]*\)/.*|\1|')
run sh -c "echo 1 >/sys/block/$scsi/device/delete"
scrape pulled
run sh -c "echo '- - -' >/sys/class/scsi_host/$host/scan"
for _ in $(seq 600); do
    [ -n "$(named SCSI-1)" ] && break
    sleep 0.1
done
scrape back
stop_exporter
