# A command and its children, while others do the same: a report keeps to the command.
waits pipe_read 10000 300 >/dev/null &
other=$!
waits unix_receive 10000 300 >/dev/null &
another=$!
tapster report sched --json -o /results/command.json -- \
    sh -c 'waits pipe_read 8 300 & waits unix_receive 8 300 & wait; exit 7' >/results/command.out
echo $? >/results/command.status
run kill $other $another
