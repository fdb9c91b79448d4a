tracepoint:block:block_rq_complete (tracepoint):
     0: r6 = r1
        ; now
     1: call ktime_get_ns#5
     2: *(u64 *)(r10 -16) = r0
        ; what is written: device
     3: r1 = *(u32 *)(r6 +8)
     4: *(u64 *)(r10 -24) = r1
        ; what is written: completed
     5: r1 = *(u32 *)(r6 +8)
     6: *(u64 *)(r10 -32) = r1
     7: r1 = 1
     8: *(u64 *)(r10 -40) = r1
        ; state.device
     9: *(u64 *)(r10 -8) = 0
    10: r1 = map[3] ll
    12: r2 = r10
    13: r2 += -8
    14: call map_lookup_elem#1
    15: if r0 == 0 goto +3
    16: r1 = *(u64 *)(r10 -24)
    17: r1 += 1
    18: *(u64 *)(r0 +0) = r1
        ; state.completed
    19: r1 = *(u64 *)(r10 -16)
    20: *(u64 *)(r10 -48) = r1
    21: r1 = map[4] ll
    23: r2 = r10
    24: r2 += -32
    25: call map_lookup_elem#1
    26: if r0 != 0 goto +15
    27: r1 = map[4] ll
    29: r2 = r10
    30: r2 += -32
    31: r3 = r10
    32: r3 += -48
    33: r4 = 1
    34: call map_update_elem#2
    35: if r0 != -17 goto +11
    36: r1 = map[4] ll
    38: r2 = r10
    39: r2 += -32
    40: call map_lookup_elem#1
    41: if r0 == 0 goto +30
    42: r1 = *(u64 *)(r10 -40)
    43: lock *(u64 *)(r0 +8) += r1
    44: r1 = *(u64 *)(r10 -48)
    45: *(u64 *)(r0 +0) = r1
    46: goto +25
    47: if r0 == 0 goto +24
    48: if r0 != -7 goto +12
    49: r1 = 1
    50: *(u64 *)(r10 -56) = r1
    51: *(u64 *)(r10 -8) = 7
    52: r1 = map[1] ll
    54: r2 = r10
    55: r2 += -8
    56: call map_lookup_elem#1
    57: if r0 == 0 goto +2
    58: r1 = *(u64 *)(r10 -56)
    59: lock *(u64 *)(r0 +0) += r1
    60: goto +11
    61: r1 = 1
    62: *(u64 *)(r10 -56) = r1
    63: *(u64 *)(r10 -8) = 2
    64: r1 = map[1] ll
    66: r2 = r10
    67: r2 += -8
    68: call map_lookup_elem#1
    69: if r0 == 0 goto +2
    70: r1 = *(u64 *)(r10 -56)
    71: lock *(u64 *)(r0 +0) += r1
    72: r0 = 0
    73: exit

tracepoint:sched:sched_wakeup (tracepoint):
     0: r6 = r1
        ; where
     1: *(u64 *)(r10 -8) = 0
     2: r1 = map[3] ll
     4: r2 = r10
     5: r2 += -8
     6: call map_lookup_elem#1
     7: if r0 != 0 goto +2
     8: r1 = -1
     9: goto +2
    10: r1 = *(u64 *)(r0 +0)
    11: r1 += -1
    12: if r1 == -1 goto +90
        ; labels
    13: *(u64 *)(r10 -8) = 0
    14: r1 = map[3] ll
    16: r2 = r10
    17: r2 += -8
    18: call map_lookup_elem#1
    19: if r0 != 0 goto +2
    20: r1 = -1
    21: goto +2
    22: r1 = *(u64 *)(r0 +0)
    23: r1 += -1
    24: *(u64 *)(r10 -16) = r1
        ; row = rows[labels]
    25: r1 = map[0] ll
    27: r2 = r10
    28: r2 += -16
    29: call map_lookup_elem#1
    30: if r0 != 0 goto +47
        ; new row
    31: *(u64 *)(r10 -8) = 0
    32: r1 = map[2] ll
    34: r2 = r10
    35: r2 += -8
    36: call map_lookup_elem#1
    37: if r0 == 0 goto +65
    38: r3 = r0
    39: r1 = map[0] ll
    41: r2 = r10
    42: r2 += -16
    43: r4 = 1
    44: call map_update_elem#2
    45: *(u64 *)(r10 -24) = r0
    46: r1 = map[0] ll
    48: r2 = r10
    49: r2 += -16
    50: call map_lookup_elem#1
    51: r1 = *(u64 *)(r10 -24)
    52: if r0 != 0 goto +25
    53: if r1 == -7 goto +12
    54: r1 = 1
    55: *(u64 *)(r10 -32) = r1
    56: *(u64 *)(r10 -8) = 2
    57: r1 = map[1] ll
    59: r2 = r10
    60: r2 += -8
    61: call map_lookup_elem#1
    62: if r0 == 0 goto +2
    63: r1 = *(u64 *)(r10 -32)
    64: lock *(u64 *)(r0 +0) += r1
    65: goto +37
    66: r1 = 1
    67: *(u64 *)(r10 -32) = r1
    68: *(u64 *)(r10 -8) = 0
    69: r1 = map[1] ll
    71: r2 = r10
    72: r2 += -8
    73: call map_lookup_elem#1
    74: if r0 == 0 goto +2
    75: r1 = *(u64 *)(r10 -32)
    76: lock *(u64 *)(r0 +0) += r1
    77: goto +25
    78: r7 = r0
        ; tapster_wakeups_total
    79: *(u64 *)(r10 -8) = 0
    80: r1 = map[3] ll
    82: r2 = r10
    83: r2 += -8
    84: call map_lookup_elem#1
    85: if r0 != 0 goto +2
    86: r1 = -1
    87: goto +2
    88: r1 = *(u64 *)(r0 +0)
    89: r1 += -1
    90: *(u64 *)(r10 -32) = r1
    91: r1 = map[4] ll
    93: r2 = r10
    94: r2 += -32
    95: call map_lookup_elem#1
    96: if r0 != 0 goto +2
    97: r1 = 0
    98: goto +1
    99: r1 = *(u64 *)(r0 +8)
   100: if r1 <= 10 goto +2
   101: r1 = 1
   102: lock *(u64 *)(r7 +0) += r1
   103: r0 = 0
   104: exit

