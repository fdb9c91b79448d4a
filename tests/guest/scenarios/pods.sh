# Containers as runtimes make them, and many short cgroups: with cgroups of version 2 alone, of version 1 alone, of both.
programs=sched_container_off_cpu,sched_container_run_queue,site_who,site_chosen,starts_by_path
mkdir -p /some/way/to/it
cp /bin/busybox /some/way/to/it/pathtest

# arrangement NAME VERSION…: what the versions are mounted at is known by their names.
arrangement() {
    name=$1
    shift
    mkdir -p "/logs/$name"
    pods=
    for version in "$@"; do
        mkdir -p "/cgroups/$version"
        case $version in
        v1) run mount -t cgroup -o cpu cgroup /cgroups/v1 ;;
        v2) run mount -t cgroup2 cgroup2 /cgroups/v2 ;;
        esac
        root=/cgroups/$version/test
        run mkdir -p "$root/kubepods/pod0a1b"
        pods="$pods $root/kubepods/pod0a1b"
        grep "^$version " /pods.list | while read -r _ _ path link target; do
            run mkdir -p "$root/$path"
            [ "$link" = - ] || run ln -s "$target" "/logs/$name/$link"
        done
    done
    exporter -c /sched_who.yaml -c /who.yaml -c /paths.yaml --probes $programs --path.containers "/logs/$name"
    scrape "$name-before"
    for version in "$@"; do
        # Four at a time want one processor, so that waits are long beside what emulation takes from the kernel's look at the
        # clock to the program's.
        root=/cgroups/$version/test
        started=
        number=0
        grep "^$version " /pods.list >/pods.now
        while read -r _ container path _; do
            pods stay "$root/$path" "$root" 60 20 0 1 >"/results/$name-$container.json" &
            started="$started $!"
            number=$((number + 1))
            if [ $((number % 4)) = 0 ]; then
                for pid in $started; do run wait "$pid"; done
                started=
            fi
        done </pods.now
    done
    # It knows no program of that name, and was started all the same.
    for _ in 1 2 3; do /some/way/to/it/pathtest >/dev/null 2>&1; done
    scrape "$name-after"
    run pods storm 300 6 $pods >"/results/$name-storm.json"
    for version in "$@"; do
        find "/cgroups/$version/test" -depth -type d -exec rmdir {} +
    done
    # A cgroup is gone after two looks, and these take their time here.
    for _ in $(seq 60); do
        sleep 0.5
        wget -qO- http://127.0.0.1:18277/metrics | grep -q '^tapster_probe_series{probe="site_who"} 0$' && break
    done
    sleep 1
    scrape "$name-gone"
    stop_exporter
    for version in "$@"; do run umount "/cgroups/$version"; done
}

arrangement unified v2
arrangement old v1
arrangement hybrid v2 v1
