tracepoint:syscalls:sys_enter_openat (tracepoint):
     0: r6 = r1
        ; now
     1: call ktime_get_ns#5
     2: *(u64 *)(r10 -16) = r0
        ; key
     3: call get_current_pid_tgid#14
     4: r1 = r0
     5: w1 = w1
     6: *(u64 *)(r10 -24) = r1
     7: r1 = *(u64 *)(r10 -16)
     8: *(u64 *)(r10 -40) = r1
     9: r1 = *(u64 *)(r6 +32)
    10: r1 <<= 32
    11: r1 s>>= 32
    12: *(u64 *)(r10 -32) = r1
        ; starts[key] = now, saved values
    13: r1 = map[3] ll
    15: r2 = r10
    16: r2 += -24
    17: r3 = r10
    18: r3 += -40
    19: r4 = 0
    20: call map_update_elem#2
    21: if r0 == 0 goto +24
    22: if r0 != -7 goto +12
    23: r1 = 1
    24: *(u64 *)(r10 -48) = r1
    25: *(u64 *)(r10 -8) = 1
    26: r1 = map[1] ll
    28: r2 = r10
    29: r2 += -8
    30: call map_lookup_elem#1
    31: if r0 == 0 goto +2
    32: r1 = *(u64 *)(r10 -48)
    33: lock *(u64 *)(r0 +0) += r1
    34: goto +11
    35: r1 = 1
    36: *(u64 *)(r10 -48) = r1
    37: *(u64 *)(r10 -8) = 2
    38: r1 = map[1] ll
    40: r2 = r10
    41: r2 += -8
    42: call map_lookup_elem#1
    43: if r0 == 0 goto +2
    44: r1 = *(u64 *)(r10 -48)
    45: lock *(u64 *)(r0 +0) += r1
    46: r0 = 0
    47: exit

tracepoint:syscalls:sys_exit_openat (tracepoint):
     0: r6 = r1
        ; now
     1: call ktime_get_ns#5
     2: *(u64 *)(r10 -16) = r0
        ; key
     3: call get_current_pid_tgid#14
     4: r1 = r0
     5: w1 = w1
     6: *(u64 *)(r10 -24) = r1
        ; start = starts[key]
     7: r1 = map[3] ll
     9: r2 = r10
    10: r2 += -24
    11: call map_lookup_elem#1
    12: if r0 == 0 goto +16
    13: r1 = *(u64 *)(r0 +0)
    14: r2 = *(u64 *)(r10 -16)
    15: r2 -= r1
    16: r1 = r2
    17: r1 s>>= 63
    18: r1 ^= -1
    19: r2 &= r1
    20: *(u64 *)(r10 -32) = r2
    21: r1 = *(u64 *)(r0 +8)
    22: *(u64 *)(r10 -40) = r1
        ; delete starts[key]; whoever deletes it has the event, so two ends never count twice
    23: r1 = map[3] ll
    25: r2 = r10
    26: r2 += -24
    27: call map_delete_elem#3
    28: if r0 == 0 goto +12
    29: r1 = 1
    30: *(u64 *)(r10 -48) = r1
    31: *(u64 *)(r10 -8) = 5
    32: r1 = map[1] ll
    34: r2 = r10
    35: r2 += -8
    36: call map_lookup_elem#1
    37: if r0 == 0 goto +2
    38: r1 = *(u64 *)(r10 -48)
    39: lock *(u64 *)(r0 +0) += r1
    40: goto +131
        ; where
    41: r1 = *(u64 *)(r10 -32)
    42: if r1 < 1000 goto +129
        ; labels
    43: r1 = *(u64 *)(r10 -40)
    44: r1 &= 3
    45: *(u64 *)(r10 -56) = r1
    46: r1 = *(u64 *)(r6 +16)
    47: if r1 s>= 0 goto +2
    48: r1 = *(u64 *)(r6 +16)
    49: goto +1
    50: r1 = 0
    51: *(u64 *)(r10 -48) = r1
        ; row = rows[labels]
    52: r1 = map[0] ll
    54: r2 = r10
    55: r2 += -56
    56: call map_lookup_elem#1
    57: if r0 != 0 goto +47
        ; new row
    58: *(u64 *)(r10 -8) = 0
    59: r1 = map[2] ll
    61: r2 = r10
    62: r2 += -8
    63: call map_lookup_elem#1
    64: if r0 == 0 goto +107
    65: r3 = r0
    66: r1 = map[0] ll
    68: r2 = r10
    69: r2 += -56
    70: r4 = 1
    71: call map_update_elem#2
    72: *(u64 *)(r10 -64) = r0
    73: r1 = map[0] ll
    75: r2 = r10
    76: r2 += -56
    77: call map_lookup_elem#1
    78: r1 = *(u64 *)(r10 -64)
    79: if r0 != 0 goto +25
    80: if r1 == -7 goto +12
    81: r1 = 1
    82: *(u64 *)(r10 -72) = r1
    83: *(u64 *)(r10 -8) = 2
    84: r1 = map[1] ll
    86: r2 = r10
    87: r2 += -8
    88: call map_lookup_elem#1
    89: if r0 == 0 goto +2
    90: r1 = *(u64 *)(r10 -72)
    91: lock *(u64 *)(r0 +0) += r1
    92: goto +79
    93: r1 = 1
    94: *(u64 *)(r10 -72) = r1
    95: *(u64 *)(r10 -8) = 0
    96: r1 = map[1] ll
    98: r2 = r10
    99: r2 += -8
   100: call map_lookup_elem#1
   101: if r0 == 0 goto +2
   102: r1 = *(u64 *)(r10 -72)
   103: lock *(u64 *)(r0 +0) += r1
   104: goto +67
   105: r7 = r0
        ; tapster_open_seconds
   106: r1 = *(u64 *)(r10 -32)
   107: lock *(u64 *)(r7 +0) += r1
   108: if r1 <= 953 goto +57
   109: if r1 > 2000000000 goto +59
        ; r2 = value scaled to [2^62, 2^63), r3 = its power of two
   110: r2 = r1
   111: r2 <<= 32
   112: r3 = 30
   113: r4 = r2
   114: r4 >>= 47
   115: r4 += -1
   116: r4 >>= 63
   117: r4 <<= 4
   118: r2 <<= r4
   119: r3 -= r4
   120: r4 = r2
   121: r4 >>= 55
   122: r4 += -1
   123: r4 >>= 63
   124: r4 <<= 3
   125: r2 <<= r4
   126: r3 -= r4
   127: r4 = r2
   128: r4 >>= 59
   129: r4 += -1
   130: r4 >>= 63
   131: r4 <<= 2
   132: r2 <<= r4
   133: r3 -= r4
   134: r4 = r2
   135: r4 >>= 61
   136: r4 += -1
   137: r4 >>= 63
   138: r4 <<= 1
   139: r2 <<= r4
   140: r3 -= r4
   141: r4 = r2
   142: r4 >>= 62
   143: r4 += -1
   144: r4 >>= 63
   145: r2 <<= r4
   146: r3 -= r4
   147: r3 <<= 1
   148: r3 += -19
   149: r4 = 0x544b2fba5f832838 ll
   151: r4 -= r2
   152: r4 >>= 63
   153: r3 += r4
   154: r4 = 0x7735940000000000 ll
   156: r4 -= r2
   157: r4 >>= 63
   158: r3 += r4
        ; bucket number in r3; the test is for the verifier
   159: if r3 > 43 goto +12
   160: r3 <<= 3
   161: r4 = r7
   162: r4 += r3
   163: r2 = 1
   164: lock *(u64 *)(r4 +8) += r2
   165: goto +6
   166: r2 = 1
   167: lock *(u64 *)(r7 +8) += r2
   168: goto +3
   169: r2 = 1
   170: lock *(u64 *)(r7 +352) += r2
   171: goto +0
   172: r0 = 0
   173: exit

