# LVM: a stripe over four physical volumes, and both kinds of mirrors, whose drivers announce no hand-over.
modprobe brd rd_nr=4 rd_size=131072
modprobe dm-raid
modprobe dm-mirror
slowed slow /dev/ram3 20
mkdir -p /etc/lvm /run/lvm /run/lock/lvm
cat >/etc/lvm/lvm.conf <<X
activation { udev_sync = 0 udev_rules = 0 monitoring = 0 }
devices { obtain_device_list_from_udev = 0 external_device_info_source = "none" scan = [ "/dev" ] filter = [ "a|/dev/ram[012]|", "a|/dev/mapper/slow|", "a|/dev/dm-0|", "r|.*|" ] }
global { use_lvmpolld = 0 }
backup { backup = 0 archive = 0 }
X
run lvm vgcreate -q vg /dev/ram0 /dev/ram1 /dev/ram2 /dev/mapper/slow
run lvm lvcreate -q -y -Wn -Zn -n stripe -i 4 -I 64 -L 64m vg
nodes
exporter
trial stripe /dev/vg/stripe --rw=randread --bs=64k --size=16M
# Others had the numbers of the mirror's devices before, and a scrape has shown what they counted: it is not the mirror's.
before="before0 before1 before2 before3 before4"
for name in $before; do
    run dmsetup create "$name" --table "0 64 linear /dev/mapper/slow $((261000 + ${name#before} * 64))"
done
nodes
for name in $before; do run fio --name=b --filename="/dev/mapper/$name" --rw=write --bs=4k --size=4k --direct=1 --output=/dev/null; done
scrape before
for name in $before; do run dmsetup remove "$name"; done
run lvm lvcreate -q -y -Wn -Zn --nosync --type raid1 -m 1 -n mirror -L 32m vg /dev/ram0 /dev/mapper/slow
nodes
trial mirror /dev/vg/mirror --rw=randwrite --bs=16k --size=1M
run lvm lvcreate -q -y -Wn -Zn --nosync --type mirror --mirrorlog core -m 1 -n old -L 32m vg /dev/ram1 /dev/mapper/slow
nodes
trial old /dev/vg/old --rw=randwrite --bs=16k --size=1M
dmsetup table >/results/table
ls -l /dev/vg /dev/mapper >/results/names
stop_exporter
