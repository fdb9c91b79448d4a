tracepoint:sched:sched_switch (tracepoint):
     0: r6 = r1
     1: *(u64 *)(r10 -16) = 0
        ; now
     2: call ktime_get_ns#5
     3: *(u64 *)(r10 -24) = r0
        ; where
     4: r1 = *(u32 *)(r6 +24)
     5: r1 <<= 32
     6: r1 s>>= 32
     7: if r1 == 0 goto +98
        ; where
     8: r1 = *(u32 *)(r6 +56)
     9: r1 <<= 32
    10: r1 s>>= 32
    11: if r1 == 0 goto +94
        ; labels
    12: *(u64 *)(r10 -48) = 0
    13: *(u64 *)(r10 -40) = 0
    14: r1 = r6
    15: r3 = r1
    16: r3 += 40
    17: r1 = r10
    18: r1 += -48
    19: r2 = 16
    20: call probe_read_kernel_str#115
    21: r1 = *(u64 *)(r10 -16)
    22: r0 >>= 63
    23: r1 += r0
    24: *(u64 *)(r10 -16) = r1
    25: r1 = *(u64 *)(r6 +32)
    26: r1 s>>= 8
    27: r1 &= 1
    28: *(u64 *)(r10 -32) = r1
        ; row = rows[labels]
    29: r1 = map[0] ll
    31: r2 = r10
    32: r2 += -48
    33: call map_lookup_elem#1
    34: if r0 != 0 goto +49
        ; new row
    35: *(u64 *)(r10 -8) = 0
    36: r1 = map[2] ll
    38: r2 = r10
    39: r2 += -8
    40: call map_lookup_elem#1
    41: if r0 == 0 goto +64
    42: r3 = r0
    43: r1 = map[0] ll
    45: r2 = r10
    46: r2 += -48
    47: r4 = 1
    48: call map_update_elem#2
    49: *(u64 *)(r10 -56) = r0
    50: r1 = map[0] ll
    52: r2 = r10
    53: r2 += -48
    54: call map_lookup_elem#1
    55: r1 = *(u64 *)(r10 -56)
    56: if r0 != 0 goto +27
    57: r1 <<= 32
    58: r1 s>>= 32
    59: if r1 == -7 goto +12
    60: r1 = 1
    61: *(u64 *)(r10 -64) = r1
    62: *(u64 *)(r10 -8) = 2
    63: r1 = map[1] ll
    65: r2 = r10
    66: r2 += -8
    67: call map_lookup_elem#1
    68: if r0 == 0 goto +2
    69: r1 = *(u64 *)(r10 -64)
    70: lock *(u64 *)(r0 +0) += r1
    71: goto +34
    72: r1 = 1
    73: *(u64 *)(r10 -64) = r1
    74: *(u64 *)(r10 -8) = 0
    75: r1 = map[1] ll
    77: r2 = r10
    78: r2 += -8
    79: call map_lookup_elem#1
    80: if r0 == 0 goto +2
    81: r1 = *(u64 *)(r10 -64)
    82: lock *(u64 *)(r0 +0) += r1
    83: goto +22
    84: r7 = r0
        ; tapster_switches_total
    85: r1 = 1
    86: lock *(u64 *)(r7 +0) += r1
        ; tapster_priority
    87: r1 = *(u32 *)(r6 +60)
    88: r1 <<= 32
    89: r1 s>>= 32
    90: r2 = *(u64 *)(r10 -24)
    91: r3 = 0x4a817c800 ll
    93: r2 /= r3
    94: r3 = r2
    95: r3 &= 3
    96: r3 <<= 4
    97: r4 = r7
    98: r4 += r3
    99: r3 = *(u64 *)(r4 +8)
   100: if r3 == r2 goto +2
   101: *(u64 *)(r4 +8) = r2
   102: goto +2
   103: r3 = *(u64 *)(r4 +16)
   104: if r1 s<= r3 goto +1
   105: *(u64 *)(r4 +16) = r1
   106: r1 = *(u64 *)(r10 -16)
   107: if r1 == 0 goto +10
   108: *(u64 *)(r10 -64) = r1
   109: *(u64 *)(r10 -8) = 4
   110: r1 = map[1] ll
   112: r2 = r10
   113: r2 += -8
   114: call map_lookup_elem#1
   115: if r0 == 0 goto +2
   116: r1 = *(u64 *)(r10 -64)
   117: lock *(u64 *)(r0 +0) += r1
   118: r0 = 0
   119: exit

