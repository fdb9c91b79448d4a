# Random probes, whose programs are loaded and never attached: $1 is the test as a program, $2 how many, $3 where to begin.
export TAPSTER_VERIFIER_PROBES=$2 TAPSTER_VERIFIER_SEED=$3 TAPSTER_VERIFIER_LISTING=1
"$1" --nocapture --test-threads 1 >/results/verifier 2>&1 || echo "@@ failed: $1 ($?)"
