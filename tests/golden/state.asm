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
    26: if r0 != 0 goto +17
    27: r1 = map[4] ll
    29: r2 = r10
    30: r2 += -32
    31: r3 = r10
    32: r3 += -48
    33: r4 = 1
    34: call map_update_elem#2
    35: r0 <<= 32
    36: r0 s>>= 32
    37: if r0 != -17 goto +11
    38: r1 = map[4] ll
    40: r2 = r10
    41: r2 += -32
    42: call map_lookup_elem#1
    43: if r0 == 0 goto +32
    44: r1 = *(u64 *)(r10 -40)
    45: lock *(u64 *)(r0 +8) += r1
    46: r1 = *(u64 *)(r10 -48)
    47: *(u64 *)(r0 +0) = r1
    48: goto +27
    49: if r0 == 0 goto +26
    50: r0 <<= 32
    51: r0 s>>= 32
    52: if r0 != -7 goto +12
    53: r1 = 1
    54: *(u64 *)(r10 -56) = r1
    55: *(u64 *)(r10 -8) = 7
    56: r1 = map[1] ll
    58: r2 = r10
    59: r2 += -8
    60: call map_lookup_elem#1
    61: if r0 == 0 goto +2
    62: r1 = *(u64 *)(r10 -56)
    63: lock *(u64 *)(r0 +0) += r1
    64: goto +11
    65: r1 = 1
    66: *(u64 *)(r10 -56) = r1
    67: *(u64 *)(r10 -8) = 2
    68: r1 = map[1] ll
    70: r2 = r10
    71: r2 += -8
    72: call map_lookup_elem#1
    73: if r0 == 0 goto +2
    74: r1 = *(u64 *)(r10 -56)
    75: lock *(u64 *)(r0 +0) += r1
    76: r0 = 0
    77: exit

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
    12: if r1 == -1 goto +92
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
    30: if r0 != 0 goto +49
        ; new row
    31: *(u64 *)(r10 -8) = 0
    32: r1 = map[2] ll
    34: r2 = r10
    35: r2 += -8
    36: call map_lookup_elem#1
    37: if r0 == 0 goto +67
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
    52: if r0 != 0 goto +27
    53: r1 <<= 32
    54: r1 s>>= 32
    55: if r1 == -7 goto +12
    56: r1 = 1
    57: *(u64 *)(r10 -32) = r1
    58: *(u64 *)(r10 -8) = 2
    59: r1 = map[1] ll
    61: r2 = r10
    62: r2 += -8
    63: call map_lookup_elem#1
    64: if r0 == 0 goto +2
    65: r1 = *(u64 *)(r10 -32)
    66: lock *(u64 *)(r0 +0) += r1
    67: goto +37
    68: r1 = 1
    69: *(u64 *)(r10 -32) = r1
    70: *(u64 *)(r10 -8) = 0
    71: r1 = map[1] ll
    73: r2 = r10
    74: r2 += -8
    75: call map_lookup_elem#1
    76: if r0 == 0 goto +2
    77: r1 = *(u64 *)(r10 -32)
    78: lock *(u64 *)(r0 +0) += r1
    79: goto +25
    80: r7 = r0
        ; tapster_wakeups_total
    81: *(u64 *)(r10 -8) = 0
    82: r1 = map[3] ll
    84: r2 = r10
    85: r2 += -8
    86: call map_lookup_elem#1
    87: if r0 != 0 goto +2
    88: r1 = -1
    89: goto +2
    90: r1 = *(u64 *)(r0 +0)
    91: r1 += -1
    92: *(u64 *)(r10 -32) = r1
    93: r1 = map[4] ll
    95: r2 = r10
    96: r2 += -32
    97: call map_lookup_elem#1
    98: if r0 != 0 goto +2
    99: r1 = 0
   100: goto +1
   101: r1 = *(u64 *)(r0 +8)
   102: if r1 <= 10 goto +2
   103: r1 = 1
   104: lock *(u64 *)(r7 +0) += r1
   105: r0 = 0
   106: exit

