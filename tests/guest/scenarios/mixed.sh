# Programs that work side by side on file systems and arrays, for half a minute: fio past the page cache and through it,
# a shell that makes, reads, packs and removes files, pipes, and a mirror that is built up meanwhile.
modprobe brd rd_nr=6 rd_size=327680
modprobe ext4
modprobe xfs
modprobe btrfs
modprobe md-mod
modprobe raid1
mkdir -p /slow /xfs /btrfs
run mkfs.ext4 -q -F /dev/ram0
run mkfs.xfs -q -f /dev/ram1
run mkfs.btrfs -q -f /dev/ram2
slowed slow /dev/ram0 10
slowed slow-member /dev/ram4 5
run mount -t ext4 /dev/mapper/slow /slow
run mount -t xfs /dev/ram1 /xfs
run mount -t btrfs /dev/ram2 /btrfs
exporter -c /waits.yaml -c /reasons.yaml
scrape before
seconds=30
load() {
    run fio --name=t --time_based --runtime=$seconds --thread --output=/dev/null --eta=never --bs=16k "$@" &
    loads="$loads $!"
}
load --directory=/slow --rw=randread --size=8m --direct=1 --numjobs=2
load --directory=/slow --rw=write --size=4m --fsync=16 --filename=written
load --directory=/xfs --rw=randrw --size=16m --fsync=32 --numjobs=2
load --directory=/btrfs --rw=randwrite --size=16m --fsync=32
files() {
    while :; do
        for number in $(seq 20); do
            dd if=/dev/urandom of=$1/file-$number bs=64k count=2 2>/dev/null
        done
        tar -cf - -C $1 . 2>/dev/null | gzip -1 | wc -c >/dev/null
        cat $1/file-* | sort 2>/dev/null | md5sum >/dev/null
        mv $1/file-1 $1/file-0
        sync -f $1/file-2 2>/dev/null || sync
        rm -f $1/file-*
    done
}
for directory in /slow /xfs /btrfs; do
    mkdir $directory/files
    files $directory/files &
    endless="$endless $!"
done
run mdadm --quiet --create /dev/md0 --level=1 --raid-devices=2 --size=32768 --run /dev/ram3 /dev/mapper/slow-member
wait $loads
scrape after
kill $endless
stop_exporter
