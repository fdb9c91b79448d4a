# Random probes, whose programs are loaded and never attached: $1 is the test as a program, $2 how many.
export TAPSTER_VERIFIER_PROBES=$2
"$1" --nocapture --test-threads 1 >/results/verifier 2>&1 || echo "@@ failed: $1 ($?)"
