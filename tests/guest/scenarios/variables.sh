# Variables of the kernel beside what /proc shows of them, and words of programs that are started here.
cat >/time.yaml <<X
probes:
  - name: user_time
    at: profile:hz:50
    labels: { cpu: cpu }
    metrics:
      - { gauge: user_seconds, help: x, value: "percpu(kernel_cpustat).cpustat[CPUTIME_USER]", unit: ns }
      - { max: running, help: x, value: percpu(runqueues).nr_running }
  - name: user_time_of_each
    at: interval:ms:100
    metrics:
      - { gauge: user_of_0_seconds, help: x, value: "percpu(kernel_cpustat, 0).cpustat[CPUTIME_USER]", unit: 1/1000000000 s }
      - { gauge: user_of_1_seconds, help: x, value: "percpu(kernel_cpustat, 1).cpustat[CPUTIME_USER]", unit: ns }
X
# Debian's 5.10 has no variables in its BTF.
time=
case $(uname -r) in 5.10.*) ;; *) time="-c /time.yaml" ;; esac
# shellcheck disable=SC2086
exporter -c /load_average.yaml -c /bpf_jit.yaml -c /execs.yaml $time
taskset 2 sh -c 'while :; do :; done' &
busy=$!
sleep 6
for round in 1 2 3 4 5; do
    cp /proc/loadavg /results/load-$round-before
    sleep 1.3
    scrape load-$round
    cp /proc/loadavg /results/load-$round-after
done
cp /proc/stat /results/time-before
sleep 0.2
scrape time
cp /proc/stat /results/time-after
kill $busy
sleep 2
scrape one
tapster run --web.listen-address 127.0.0.1:18278 --probes block_io 2>/results/other.log &
other=$!
for _ in $(seq 300); do
    wget -qO /dev/null http://127.0.0.1:18278/-/ready 2>/dev/null && break
    sleep 0.1
done
sleep 2
scrape two
kill $other
wait $other
sleep 3
scrape one-again
for _ in 1 2 3 4 5; do run /bin/busybox true one 'two words' '' three; done
for _ in 1 2 3; do run /bin/busybox true; done
# shellcheck disable=SC2046
for _ in 1 2; do run /bin/busybox true $(seq 60); done
scrape execs
stop_exporter
