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
    24: if r0 == 0 goto +68
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
    51: *(u64 *)(r7 +0) = r1
    52: goto +40
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
    63: if r0 == 0 goto +29
    64: r1 = -1
    65: lock *(u64 *)(r7 +8) += r1
    66: if r0 == 0 goto +26
    67: r0 <<= 32
    68: r0 s>>= 32
    69: if r0 != -7 goto +12
    70: r1 = 1
    71: *(u64 *)(r10 -48) = r1
    72: *(u64 *)(r10 -8) = 1
    73: r1 = map[1] ll
    75: r2 = r10
    76: r2 += -8
    77: call map_lookup_elem#1
    78: if r0 == 0 goto +2
    79: r1 = *(u64 *)(r10 -48)
    80: lock *(u64 *)(r0 +0) += r1
    81: goto +11
    82: r1 = 1
    83: *(u64 *)(r10 -48) = r1
    84: *(u64 *)(r10 -8) = 2
    85: r1 = map[1] ll
    87: r2 = r10
    88: r2 += -8
    89: call map_lookup_elem#1
    90: if r0 == 0 goto +2
    91: r1 = *(u64 *)(r10 -48)
    92: lock *(u64 *)(r0 +0) += r1
    93: r0 = 0
    94: exit

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
    43: *(u64 *)(r7 +0) = r1
    44: goto +40
    45: *(u64 *)(r7 +0) = r1
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
    84: goto +133
        ; where
    85: r1 = *(u64 *)(r10 -32)
    86: if r1 < 1000 goto +131
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
   101: if r0 != 0 goto +49
        ; new row
   102: *(u64 *)(r10 -8) = 0
   103: r1 = map[2] ll
   105: r2 = r10
   106: r2 += -8
   107: call map_lookup_elem#1
   108: if r0 == 0 goto +109
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
   123: if r0 != 0 goto +27
   124: r1 <<= 32
   125: r1 s>>= 32
   126: if r1 == -7 goto +12
   127: r1 = 1
   128: *(u64 *)(r10 -72) = r1
   129: *(u64 *)(r10 -8) = 2
   130: r1 = map[1] ll
   132: r2 = r10
   133: r2 += -8
   134: call map_lookup_elem#1
   135: if r0 == 0 goto +2
   136: r1 = *(u64 *)(r10 -72)
   137: lock *(u64 *)(r0 +0) += r1
   138: goto +79
   139: r1 = 1
   140: *(u64 *)(r10 -72) = r1
   141: *(u64 *)(r10 -8) = 0
   142: r1 = map[1] ll
   144: r2 = r10
   145: r2 += -8
   146: call map_lookup_elem#1
   147: if r0 == 0 goto +2
   148: r1 = *(u64 *)(r10 -72)
   149: lock *(u64 *)(r0 +0) += r1
   150: goto +67
   151: r7 = r0
        ; tapster_open_seconds
   152: r1 = *(u64 *)(r10 -32)
   153: lock *(u64 *)(r7 +0) += r1
   154: if r1 <= 953 goto +57
   155: if r1 > 2000000000 goto +59
        ; r2 = value scaled to [2^62, 2^63), r3 = its power of two
   156: r2 = r1
   157: r2 <<= 32
   158: r3 = 30
   159: r4 = r2
   160: r4 >>= 47
   161: r4 += -1
   162: r4 >>= 63
   163: r4 <<= 4
   164: r2 <<= r4
   165: r3 -= r4
   166: r4 = r2
   167: r4 >>= 55
   168: r4 += -1
   169: r4 >>= 63
   170: r4 <<= 3
   171: r2 <<= r4
   172: r3 -= r4
   173: r4 = r2
   174: r4 >>= 59
   175: r4 += -1
   176: r4 >>= 63
   177: r4 <<= 2
   178: r2 <<= r4
   179: r3 -= r4
   180: r4 = r2
   181: r4 >>= 61
   182: r4 += -1
   183: r4 >>= 63
   184: r4 <<= 1
   185: r2 <<= r4
   186: r3 -= r4
   187: r4 = r2
   188: r4 >>= 62
   189: r4 += -1
   190: r4 >>= 63
   191: r2 <<= r4
   192: r3 -= r4
   193: r3 <<= 1
   194: r3 += -19
   195: r4 = 0x544b2fba5f832838 ll
   197: r4 -= r2
   198: r4 >>= 63
   199: r3 += r4
   200: r4 = 0x7735940000000000 ll
   202: r4 -= r2
   203: r4 >>= 63
   204: r3 += r4
        ; bucket number in r3; the test is for the verifier
   205: if r3 > 43 goto +12
   206: r3 <<= 3
   207: r4 = r7
   208: r4 += r3
   209: r2 = 1
   210: lock *(u64 *)(r4 +8) += r2
   211: goto +6
   212: r2 = 1
   213: lock *(u64 *)(r7 +8) += r2
   214: goto +3
   215: r2 = 1
   216: lock *(u64 *)(r7 +352) += r2
   217: goto +0
   218: r0 = 0
   219: exit

