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
        ; r7 = table[place of the key]
    13: r2 = 0x9e3779b97f4a7c15 ll
    15: r1 = *(u64 *)(r10 -24)
    16: r1 *= r2
    17: r1 >>= 54
    18: *(u64 *)(r10 -8) = r1
    19: r1 = map[4] ll
    21: r2 = r10
    22: r2 += -8
    23: call map_lookup_elem#1
    24: if r0 == 0 goto +66
    25: r7 = r0
    26: r1 = *(u64 *)(r7 +8)
    27: if r1 == 0 goto +8
        ; an earlier start of this key, whose end was lost, is not to be found any more
    28: r1 = map[3] ll
    30: r2 = r10
    31: r2 += -24
    32: call map_delete_elem#3
    33: if r0 != 0 goto +2
    34: r1 = -1
    35: lock *(u64 *)(r7 +8) += r1
        ; claim the entry if it is free or this key's
    36: r0 = *(u64 *)(r7 +0)
    37: if r0 == 0 goto +4
    38: if r0 == 1 goto +14
    39: r2 = *(u64 *)(r7 +16)
    40: r3 = *(u64 *)(r10 -24)
    41: if r2 != r3 goto +11
    42: r1 = r0
    43: r2 = 1
    44: r0 = cmpxchg(*(u64 *)(r7 +0), r0, r2)
    45: if r0 != r1 goto +7
    46: r1 = *(u64 *)(r10 -24)
    47: *(u64 *)(r7 +16) = r1
    48: r1 = *(u64 *)(r10 -32)
    49: *(u64 *)(r7 +24) = r1
    50: r1 = *(u64 *)(r10 -40)
    51: r1 = xchg(*(u64 *)(r7 +0), r1)
    52: goto +38
    53: r1 = 1
    54: lock *(u64 *)(r7 +8) += r1
        ; starts[key] = now, saved values
    55: r1 = map[3] ll
    57: r2 = r10
    58: r2 += -24
    59: r3 = r10
    60: r3 += -40
    61: r4 = 1
    62: call map_update_elem#2
    63: if r0 == 0 goto +27
    64: r1 = -1
    65: lock *(u64 *)(r7 +8) += r1
    66: if r0 == 0 goto +24
    67: if r0 != -7 goto +12
    68: r1 = 1
    69: *(u64 *)(r10 -48) = r1
    70: *(u64 *)(r10 -8) = 1
    71: r1 = map[1] ll
    73: r2 = r10
    74: r2 += -8
    75: call map_lookup_elem#1
    76: if r0 == 0 goto +2
    77: r1 = *(u64 *)(r10 -48)
    78: lock *(u64 *)(r0 +0) += r1
    79: goto +11
    80: r1 = 1
    81: *(u64 *)(r10 -48) = r1
    82: *(u64 *)(r10 -8) = 2
    83: r1 = map[1] ll
    85: r2 = r10
    86: r2 += -8
    87: call map_lookup_elem#1
    88: if r0 == 0 goto +2
    89: r1 = *(u64 *)(r10 -48)
    90: lock *(u64 *)(r0 +0) += r1
    91: r0 = 0
    92: exit

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
        ; r7 = table[place of the key]
     7: r2 = 0x9e3779b97f4a7c15 ll
     9: r1 = *(u64 *)(r10 -24)
    10: r1 *= r2
    11: r1 >>= 54
    12: *(u64 *)(r10 -8) = r1
    13: r1 = map[4] ll
    15: r2 = r10
    16: r2 += -8
    17: call map_lookup_elem#1
    18: if r0 == 0 goto +54
    19: r7 = r0
        ; claim the entry if it is this key's
    20: r0 = *(u64 *)(r7 +0)
    21: if r0 == 0 goto +24
    22: if r0 == 1 goto +23
    23: r2 = *(u64 *)(r7 +16)
    24: r3 = *(u64 *)(r10 -24)
    25: if r2 != r3 goto +20
    26: r1 = r0
    27: r2 = 1
    28: r0 = cmpxchg(*(u64 *)(r7 +0), r0, r2)
    29: if r0 != r1 goto +16
        ; it may have become another key's before it was claimed
    30: r2 = *(u64 *)(r7 +16)
    31: r3 = *(u64 *)(r10 -24)
    32: if r2 != r3 goto +12
    33: r2 = *(u64 *)(r10 -16)
    34: r2 -= r1
    35: r1 = r2
    36: r1 s>>= 63
    37: r1 ^= -1
    38: r2 &= r1
    39: *(u64 *)(r10 -32) = r2
    40: r1 = *(u64 *)(r7 +24)
    41: *(u64 *)(r10 -40) = r1
    42: r1 = 0
    43: r1 = xchg(*(u64 *)(r7 +0), r1)
    44: goto +40
    45: r1 = xchg(*(u64 *)(r7 +0), r1)
    46: r1 = *(u64 *)(r7 +8)
    47: if r1 == 0 goto +25
        ; start = starts[key]
    48: r1 = map[3] ll
    50: r2 = r10
    51: r2 += -24
    52: call map_lookup_elem#1
    53: if r0 == 0 goto +19
    54: r1 = *(u64 *)(r0 +0)
    55: r2 = *(u64 *)(r10 -16)
    56: r2 -= r1
    57: r1 = r2
    58: r1 s>>= 63
    59: r1 ^= -1
    60: r2 &= r1
    61: *(u64 *)(r10 -32) = r2
    62: r1 = *(u64 *)(r0 +8)
    63: *(u64 *)(r10 -40) = r1
        ; delete starts[key]; whoever deletes it has the event, so two ends never count twice
    64: r1 = map[3] ll
    66: r2 = r10
    67: r2 += -24
    68: call map_delete_elem#3
    69: if r0 != 0 goto +3
    70: r1 = -1
    71: lock *(u64 *)(r7 +8) += r1
    72: goto +12
    73: r1 = 1
    74: *(u64 *)(r10 -48) = r1
    75: *(u64 *)(r10 -8) = 5
    76: r1 = map[1] ll
    78: r2 = r10
    79: r2 += -8
    80: call map_lookup_elem#1
    81: if r0 == 0 goto +2
    82: r1 = *(u64 *)(r10 -48)
    83: lock *(u64 *)(r0 +0) += r1
    84: goto +131
        ; where
    85: r1 = *(u64 *)(r10 -32)
    86: if r1 < 1000 goto +129
        ; labels
    87: r1 = *(u64 *)(r10 -40)
    88: r1 &= 3
    89: *(u64 *)(r10 -56) = r1
    90: r1 = *(u64 *)(r6 +16)
    91: if r1 s>= 0 goto +2
    92: r1 = *(u64 *)(r6 +16)
    93: goto +1
    94: r1 = 0
    95: *(u64 *)(r10 -48) = r1
        ; row = rows[labels]
    96: r1 = map[0] ll
    98: r2 = r10
    99: r2 += -56
   100: call map_lookup_elem#1
   101: if r0 != 0 goto +47
        ; new row
   102: *(u64 *)(r10 -8) = 0
   103: r1 = map[2] ll
   105: r2 = r10
   106: r2 += -8
   107: call map_lookup_elem#1
   108: if r0 == 0 goto +107
   109: r3 = r0
   110: r1 = map[0] ll
   112: r2 = r10
   113: r2 += -56
   114: r4 = 1
   115: call map_update_elem#2
   116: *(u64 *)(r10 -64) = r0
   117: r1 = map[0] ll
   119: r2 = r10
   120: r2 += -56
   121: call map_lookup_elem#1
   122: r1 = *(u64 *)(r10 -64)
   123: if r0 != 0 goto +25
   124: if r1 == -7 goto +12
   125: r1 = 1
   126: *(u64 *)(r10 -72) = r1
   127: *(u64 *)(r10 -8) = 2
   128: r1 = map[1] ll
   130: r2 = r10
   131: r2 += -8
   132: call map_lookup_elem#1
   133: if r0 == 0 goto +2
   134: r1 = *(u64 *)(r10 -72)
   135: lock *(u64 *)(r0 +0) += r1
   136: goto +79
   137: r1 = 1
   138: *(u64 *)(r10 -72) = r1
   139: *(u64 *)(r10 -8) = 0
   140: r1 = map[1] ll
   142: r2 = r10
   143: r2 += -8
   144: call map_lookup_elem#1
   145: if r0 == 0 goto +2
   146: r1 = *(u64 *)(r10 -72)
   147: lock *(u64 *)(r0 +0) += r1
   148: goto +67
   149: r7 = r0
        ; tapster_open_seconds
   150: r1 = *(u64 *)(r10 -32)
   151: lock *(u64 *)(r7 +0) += r1
   152: if r1 <= 953 goto +57
   153: if r1 > 2000000000 goto +59
        ; r2 = value scaled to [2^62, 2^63), r3 = its power of two
   154: r2 = r1
   155: r2 <<= 32
   156: r3 = 30
   157: r4 = r2
   158: r4 >>= 47
   159: r4 += -1
   160: r4 >>= 63
   161: r4 <<= 4
   162: r2 <<= r4
   163: r3 -= r4
   164: r4 = r2
   165: r4 >>= 55
   166: r4 += -1
   167: r4 >>= 63
   168: r4 <<= 3
   169: r2 <<= r4
   170: r3 -= r4
   171: r4 = r2
   172: r4 >>= 59
   173: r4 += -1
   174: r4 >>= 63
   175: r4 <<= 2
   176: r2 <<= r4
   177: r3 -= r4
   178: r4 = r2
   179: r4 >>= 61
   180: r4 += -1
   181: r4 >>= 63
   182: r4 <<= 1
   183: r2 <<= r4
   184: r3 -= r4
   185: r4 = r2
   186: r4 >>= 62
   187: r4 += -1
   188: r4 >>= 63
   189: r2 <<= r4
   190: r3 -= r4
   191: r3 <<= 1
   192: r3 += -19
   193: r4 = 0x544b2fba5f832838 ll
   195: r4 -= r2
   196: r4 >>= 63
   197: r3 += r4
   198: r4 = 0x7735940000000000 ll
   200: r4 -= r2
   201: r4 >>= 63
   202: r3 += r4
        ; bucket number in r3; the test is for the verifier
   203: if r3 > 43 goto +12
   204: r3 <<= 3
   205: r4 = r7
   206: r4 += r3
   207: r2 = 1
   208: lock *(u64 *)(r4 +8) += r2
   209: goto +6
   210: r2 = 1
   211: lock *(u64 *)(r7 +8) += r2
   212: goto +3
   213: r2 = 1
   214: lock *(u64 *)(r7 +352) += r2
   215: goto +0
   216: r0 = 0
   217: exit

