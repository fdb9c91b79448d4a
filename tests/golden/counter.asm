tracepoint:sched:sched_switch (tracepoint):
     0: r6 = r1
     1: *(u64 *)(r10 -8) = 0
     2: r1 = map[0] ll
     4: r2 = r10
     5: r2 += -8
     6: call map_lookup_elem#1
     7: if r0 == 0 goto +3
     8: r7 = r0
        ; tapster_switches_total
     9: r1 = 1
    10: lock *(u64 *)(r7 +0) += r1
    11: r0 = 0
    12: exit

