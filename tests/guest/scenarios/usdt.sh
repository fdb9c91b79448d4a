# Probes that a program brings along; a file that is replaced; one container of two that run the same file.
[ -x /bin/shop ] || {
    echo "skipped: no \`sys/sdt.h\`" >/results/skipped
    exit 0
}
id=0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
probes() {
    cat <<X
  - name: $1_order
    $2
    start: { at: "usdt:/shop:shop:order__start", key: [pid, tid], save: { item: "str(arg1, 8)", id: arg0 } }
    end: { at: "usdt:/shop:shop:order__done", key: [pid, tid], where: "arg0 == start.id && arg1 == (s16)-start.id" }
    labels: { item: start.item }
    metrics: [{ histogram: $1_order_duration_seconds, help: x, value: duration }]
X
}
cat >/usdt.yaml <<X
probes:
  - name: widths
    at: "usdt:/shop:shop:widths"
    labels: { a: arg0, b: arg1, c: arg2, d: arg3, e: arg4, f: arg5, g: arg6, h: arg7 }
    metrics: [{ counter: widths_total, help: x }]
  - name: element
    at: "usdt:/shop:shop:element"
    labels: { long: arg0, short: arg1 }
    metrics: [{ counter: element_total, help: x }]
  - name: step
    at: "usdt:/shop:step"
    labels: { number: arg0 }
    metrics: [{ counter: step_total, help: x }]
  - name: round
    at: "usdt:/shop:shop:round"
    labels: { number: arg0 }
    metrics: [{ counter: round_total, help: x }]
  - name: returned
    function: /shop:orders
    where: (s64)retval > 0
    metrics: [{ counter: returned_total, help: x }]
$(probes all 'max_series: 64')
$(probes contained "container: $id")
X
cp /bin/shop /shop
# A process in a mount namespace of its own, whose cgroup has the name of a container's.
mkdir -p /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup
mkdir /sys/fs/cgroup/docker-$id.scope
contained() {
    unshare -m sh -c "$*"
}
contained "echo \$\$ >/sys/fs/cgroup/docker-$id.scope/cgroup.procs; sleep 3600" &
container=$!
sleep 1
exporter -c /usdt.yaml
run /shop 300 1 >/results/first
# The namespace of that process, for one run.
nsenter -t "$(cat /sys/fs/cgroup/docker-$id.scope/cgroup.procs | head -n 1)" -m /shop 20 0 >/results/inside
scrape first
cp /bin/shop-next /shop-new
run mv /shop-new /shop
for _ in $(seq 100); do
    [ "$(grep -c 'attached to the files that are there now' /results/tapster.log)" -ge 7 ] && break
    sleep 0.2
done
run /shop 30 0 >/results/second
scrape second
stop_exporter
run /shop 3 0 >/results/third
kill $container
