# Datagrams to the loopback interface, of a cgroup and of another one, at every place of this kernel where packets are seen.
mkdir -p /cgroups/v2
run mount -t cgroup2 cgroup2 /cgroups/v2
run mkdir /cgroups/v2/own
exporter -c /packets.yaml
scrape before
run sh -c 'echo $$ >/cgroups/v2/own/cgroup.procs; network datagrams here >/results/own'
scrape after
run sh -c 'network datagrams here >/results/others'
scrape later
stop_exporter
# Packets go on.
run sh -c 'network datagrams here >/results/without'
