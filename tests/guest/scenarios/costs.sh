# What a call of a kernel function costs, beside bpftrace: the benchmark is $1, the numbers of calls and rounds $2 and $3.
export TAPSTER_BENCH_CALLS=$2 TAPSTER_BENCH_ROUNDS=$3
for TAPSTER_BENCH_ONLY in fentry kprobe; do
    export TAPSTER_BENCH_ONLY
    "$1" >>/results/costs 2>&1 || echo "@@ failed: $1 ($?)"
done
