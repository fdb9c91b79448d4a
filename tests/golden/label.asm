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
     7: if r1 == 0 goto +96
        ; where
     8: r1 = *(u32 *)(r6 +56)
     9: r1 <<= 32
    10: r1 s>>= 32
    11: if r1 == 0 goto +92
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
    34: if r0 != 0 goto +47
        ; new row
    35: *(u64 *)(r10 -8) = 0
    36: r1 = map[2] ll
    38: r2 = r10
    39: r2 += -8
    40: call map_lookup_elem#1
    41: if r0 == 0 goto +62
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
    56: if r0 != 0 goto +25
    57: if r1 == -7 goto +12
    58: r1 = 1
    59: *(u64 *)(r10 -64) = r1
    60: *(u64 *)(r10 -8) = 2
    61: r1 = map[1] ll
    63: r2 = r10
    64: r2 += -8
    65: call map_lookup_elem#1
    66: if r0 == 0 goto +2
    67: r1 = *(u64 *)(r10 -64)
    68: lock *(u64 *)(r0 +0) += r1
    69: goto +34
    70: r1 = 1
    71: *(u64 *)(r10 -64) = r1
    72: *(u64 *)(r10 -8) = 0
    73: r1 = map[1] ll
    75: r2 = r10
    76: r2 += -8
    77: call map_lookup_elem#1
    78: if r0 == 0 goto +2
    79: r1 = *(u64 *)(r10 -64)
    80: lock *(u64 *)(r0 +0) += r1
    81: goto +22
    82: r7 = r0
        ; tapster_switches_total
    83: r1 = 1
    84: lock *(u64 *)(r7 +0) += r1
        ; tapster_priority
    85: r1 = *(u32 *)(r6 +60)
    86: r1 <<= 32
    87: r1 s>>= 32
    88: r2 = *(u64 *)(r10 -24)
    89: r3 = 0x4a817c800 ll
    91: r2 /= r3
    92: r3 = r2
    93: r3 &= 3
    94: r3 <<= 4
    95: r4 = r7
    96: r4 += r3
    97: r3 = *(u64 *)(r4 +8)
    98: if r3 == r2 goto +2
    99: *(u64 *)(r4 +8) = r2
   100: goto +2
   101: r3 = *(u64 *)(r4 +16)
   102: if r1 s<= r3 goto +1
   103: *(u64 *)(r4 +16) = r1
   104: r1 = *(u64 *)(r10 -16)
   105: if r1 == 0 goto +10
   106: *(u64 *)(r10 -64) = r1
   107: *(u64 *)(r10 -8) = 4
   108: r1 = map[1] ll
   110: r2 = r10
   111: r2 += -8
   112: call map_lookup_elem#1
   113: if r0 == 0 goto +2
   114: r1 = *(u64 *)(r10 -64)
   115: lock *(u64 *)(r0 +0) += r1
   116: r0 = 0
   117: exit

