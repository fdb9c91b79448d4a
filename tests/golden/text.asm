tracepoint:sched:sched_process_fork (tracepoint):
     0: r6 = r1
     1: *(u64 *)(r10 -16) = 0
        ; where
     2: *(u64 *)(r10 -80) = 0
     3: *(u64 *)(r10 -72) = 0
     4: *(u64 *)(r10 -64) = 0
     5: *(u64 *)(r10 -56) = 0
     6: *(u64 *)(r10 -48) = 0
     7: *(u64 *)(r10 -40) = 0
     8: *(u64 *)(r10 -32) = 0
     9: *(u64 *)(r10 -24) = 0
    10: r3 = *(u32 *)(r6 +8)
    11: r3 &= 65535
    12: r1 = r6
    13: r1 += r3
    14: r3 = r1
    15: r1 = r10
    16: r1 += -80
    17: r2 = 64
    18: call probe_read_kernel_str#115
    19: r1 = *(u64 *)(r10 -16)
    20: r0 >>= 63
    21: r1 += r0
    22: *(u64 *)(r10 -16) = r1
    23: r1 = *(u64 *)(r10 -80)
    24: r2 = 1752392034
    25: if r1 != r2 goto +53
    26: r1 = *(u64 *)(r10 -72)
    27: r2 = 0
    28: if r1 != r2 goto +50
    29: r1 = *(u64 *)(r10 -64)
    30: r2 = 0
    31: if r1 != r2 goto +47
    32: r1 = *(u64 *)(r10 -56)
    33: r2 = 0
    34: if r1 != r2 goto +44
    35: r1 = *(u64 *)(r10 -48)
    36: r2 = 0
    37: if r1 != r2 goto +41
    38: r1 = *(u64 *)(r10 -40)
    39: r2 = 0
    40: if r1 != r2 goto +38
    41: r1 = *(u64 *)(r10 -32)
    42: r2 = 0
    43: if r1 != r2 goto +35
    44: r1 = *(u64 *)(r10 -24)
    45: r2 = 0
    46: if r1 != r2 goto +32
    47: *(u64 *)(r10 -8) = 0
    48: r1 = map[0] ll
    50: r2 = r10
    51: r2 += -8
    52: call map_lookup_elem#1
    53: if r0 == 0 goto +25
    54: r7 = r0
        ; tapster_fork_pid
    55: r1 = *(u32 *)(r6 +20)
    56: r1 <<= 32
    57: r1 s>>= 32
    58: lock *(u64 *)(r7 +0) += r1
    59: if r1 s<= 100 goto +13
    60: if r1 s> 10000 goto +15
    61: r3 = 1
    62: r4 = 1000
    63: r4 -= r1
    64: r4 >>= 63
    65: r3 += r4
        ; bucket number in r3; the test is for the verifier
    66: if r3 > 3 goto +12
    67: r3 <<= 3
    68: r4 = r7
    69: r4 += r3
    70: r2 = 1
    71: lock *(u64 *)(r4 +8) += r2
    72: goto +6
    73: r2 = 1
    74: lock *(u64 *)(r7 +8) += r2
    75: goto +3
    76: r2 = 1
    77: lock *(u64 *)(r7 +32) += r2
    78: goto +0
    79: r1 = *(u64 *)(r10 -16)
    80: if r1 == 0 goto +10
    81: *(u64 *)(r10 -24) = r1
    82: *(u64 *)(r10 -8) = 4
    83: r1 = map[1] ll
    85: r2 = r10
    86: r2 += -8
    87: call map_lookup_elem#1
    88: if r0 == 0 goto +2
    89: r1 = *(u64 *)(r10 -24)
    90: lock *(u64 *)(r0 +0) += r1
    91: r0 = 0
    92: exit

