kprobe:vfs_read (kprobe):
     0: r6 = r1
        ; labels
     1: r1 = *(u64 *)(r6 +56)
     2: *(u64 *)(r10 -24) = r1
     3: r1 = *(u64 *)(r6 +0)
     4: *(u64 *)(r10 -16) = r1
        ; row = rows[labels]
     5: r1 = map[0] ll
     7: r2 = r10
     8: r2 += -24
     9: call map_lookup_elem#1
    10: if r0 != 0 goto +47
        ; new row
    11: *(u64 *)(r10 -8) = 0
    12: r1 = map[2] ll
    14: r2 = r10
    15: r2 += -8
    16: call map_lookup_elem#1
    17: if r0 == 0 goto +43
    18: r3 = r0
    19: r1 = map[0] ll
    21: r2 = r10
    22: r2 += -24
    23: r4 = 1
    24: call map_update_elem#2
    25: *(u64 *)(r10 -32) = r0
    26: r1 = map[0] ll
    28: r2 = r10
    29: r2 += -24
    30: call map_lookup_elem#1
    31: r1 = *(u64 *)(r10 -32)
    32: if r0 != 0 goto +25
    33: if r1 == -7 goto +12
    34: r1 = 1
    35: *(u64 *)(r10 -40) = r1
    36: *(u64 *)(r10 -8) = 2
    37: r1 = map[1] ll
    39: r2 = r10
    40: r2 += -8
    41: call map_lookup_elem#1
    42: if r0 == 0 goto +2
    43: r1 = *(u64 *)(r10 -40)
    44: lock *(u64 *)(r0 +0) += r1
    45: goto +15
    46: r1 = 1
    47: *(u64 *)(r10 -40) = r1
    48: *(u64 *)(r10 -8) = 0
    49: r1 = map[1] ll
    51: r2 = r10
    52: r2 += -8
    53: call map_lookup_elem#1
    54: if r0 == 0 goto +2
    55: r1 = *(u64 *)(r10 -40)
    56: lock *(u64 *)(r0 +0) += r1
    57: goto +3
    58: r7 = r0
        ; tapster_calls_total
    59: r1 = *(u64 *)(r6 +16)
    60: lock *(u64 *)(r7 +0) += r1
    61: r0 = 0
    62: exit

kprobe:vfs_read (kprobe):
     0: r6 = r1
        ; now
     1: call ktime_get_ns#5
     2: *(u64 *)(r10 -16) = r0
        ; key
     3: r1 = *(u64 *)(r6 +248)
     4: *(u64 *)(r10 -24) = r1
     5: r1 = *(u64 *)(r10 -16)
     6: *(u64 *)(r10 -40) = r1
     7: r1 = *(u64 *)(r6 +16)
     8: *(u64 *)(r10 -32) = r1
        ; r7 = table[place of the key]
     9: r2 = 0x9e3779b97f4a7c15 ll
    11: r1 = *(u64 *)(r10 -24)
    12: r1 *= r2
    13: r1 >>= 54
    14: *(u64 *)(r10 -8) = r1
    15: r1 = map[4] ll
    17: r2 = r10
    18: r2 += -8
    19: call map_lookup_elem#1
    20: if r0 == 0 goto +66
    21: r7 = r0
    22: r1 = *(u64 *)(r7 +8)
    23: if r1 == 0 goto +8
        ; an earlier start of this key, whose end was lost, is not to be found any more
    24: r1 = map[3] ll
    26: r2 = r10
    27: r2 += -24
    28: call map_delete_elem#3
    29: if r0 != 0 goto +2
    30: r1 = -1
    31: lock *(u64 *)(r7 +8) += r1
        ; claim the entry if it is free or this key's
    32: r0 = *(u64 *)(r7 +0)
    33: if r0 == 0 goto +4
    34: if r0 == 1 goto +14
    35: r2 = *(u64 *)(r7 +16)
    36: r3 = *(u64 *)(r10 -24)
    37: if r2 != r3 goto +11
    38: r1 = r0
    39: r2 = 1
    40: r0 = cmpxchg(*(u64 *)(r7 +0), r0, r2)
    41: if r0 != r1 goto +7
    42: r1 = *(u64 *)(r10 -24)
    43: *(u64 *)(r7 +16) = r1
    44: r1 = *(u64 *)(r10 -32)
    45: *(u64 *)(r7 +24) = r1
    46: r1 = *(u64 *)(r10 -40)
    47: r1 = xchg(*(u64 *)(r7 +0), r1)
    48: goto +38
    49: r1 = 1
    50: lock *(u64 *)(r7 +8) += r1
        ; starts[key] = now, saved values
    51: r1 = map[3] ll
    53: r2 = r10
    54: r2 += -24
    55: r3 = r10
    56: r3 += -40
    57: r4 = 1
    58: call map_update_elem#2
    59: if r0 == 0 goto +27
    60: r1 = -1
    61: lock *(u64 *)(r7 +8) += r1
    62: if r0 == 0 goto +24
    63: if r0 != -7 goto +12
    64: r1 = 1
    65: *(u64 *)(r10 -48) = r1
    66: *(u64 *)(r10 -8) = 1
    67: r1 = map[1] ll
    69: r2 = r10
    70: r2 += -8
    71: call map_lookup_elem#1
    72: if r0 == 0 goto +2
    73: r1 = *(u64 *)(r10 -48)
    74: lock *(u64 *)(r0 +0) += r1
    75: goto +11
    76: r1 = 1
    77: *(u64 *)(r10 -48) = r1
    78: *(u64 *)(r10 -8) = 2
    79: r1 = map[1] ll
    81: r2 = r10
    82: r2 += -8
    83: call map_lookup_elem#1
    84: if r0 == 0 goto +2
    85: r1 = *(u64 *)(r10 -48)
    86: lock *(u64 *)(r0 +0) += r1
    87: r0 = 0
    88: exit

kretprobe:vfs_read (kretprobe):
     0: r6 = r1
        ; now
     1: call ktime_get_ns#5
     2: *(u64 *)(r10 -16) = r0
        ; key
     3: r1 = *(u64 *)(r6 +248)
     4: *(u64 *)(r10 -24) = r1
        ; r7 = table[place of the key]
     5: r2 = 0x9e3779b97f4a7c15 ll
     7: r1 = *(u64 *)(r10 -24)
     8: r1 *= r2
     9: r1 >>= 54
    10: *(u64 *)(r10 -8) = r1
    11: r1 = map[4] ll
    13: r2 = r10
    14: r2 += -8
    15: call map_lookup_elem#1
    16: if r0 == 0 goto +54
    17: r7 = r0
        ; claim the entry if it is this key's
    18: r0 = *(u64 *)(r7 +0)
    19: if r0 == 0 goto +24
    20: if r0 == 1 goto +23
    21: r2 = *(u64 *)(r7 +16)
    22: r3 = *(u64 *)(r10 -24)
    23: if r2 != r3 goto +20
    24: r1 = r0
    25: r2 = 1
    26: r0 = cmpxchg(*(u64 *)(r7 +0), r0, r2)
    27: if r0 != r1 goto +16
        ; it may have become another key's before it was claimed
    28: r2 = *(u64 *)(r7 +16)
    29: r3 = *(u64 *)(r10 -24)
    30: if r2 != r3 goto +12
    31: r2 = *(u64 *)(r10 -16)
    32: r2 -= r1
    33: r1 = r2
    34: r1 s>>= 63
    35: r1 ^= -1
    36: r2 &= r1
    37: *(u64 *)(r10 -32) = r2
    38: r1 = *(u64 *)(r7 +24)
    39: *(u64 *)(r10 -40) = r1
    40: r1 = 0
    41: r1 = xchg(*(u64 *)(r7 +0), r1)
    42: goto +40
    43: r1 = xchg(*(u64 *)(r7 +0), r1)
    44: r1 = *(u64 *)(r7 +8)
    45: if r1 == 0 goto +25
        ; start = starts[key]
    46: r1 = map[3] ll
    48: r2 = r10
    49: r2 += -24
    50: call map_lookup_elem#1
    51: if r0 == 0 goto +19
    52: r1 = *(u64 *)(r0 +0)
    53: r2 = *(u64 *)(r10 -16)
    54: r2 -= r1
    55: r1 = r2
    56: r1 s>>= 63
    57: r1 ^= -1
    58: r2 &= r1
    59: *(u64 *)(r10 -32) = r2
    60: r1 = *(u64 *)(r0 +8)
    61: *(u64 *)(r10 -40) = r1
        ; delete starts[key]; whoever deletes it has the event, so two ends never count twice
    62: r1 = map[3] ll
    64: r2 = r10
    65: r2 += -24
    66: call map_delete_elem#3
    67: if r0 != 0 goto +3
    68: r1 = -1
    69: lock *(u64 *)(r7 +8) += r1
    70: goto +12
    71: r1 = 1
    72: *(u64 *)(r10 -48) = r1
    73: *(u64 *)(r10 -8) = 5
    74: r1 = map[1] ll
    76: r2 = r10
    77: r2 += -8
    78: call map_lookup_elem#1
    79: if r0 == 0 goto +2
    80: r1 = *(u64 *)(r10 -48)
    81: lock *(u64 *)(r0 +0) += r1
    82: goto +160
        ; labels
    83: r1 = *(u64 *)(r6 +0)
    84: if r1 s>= 0 goto +2
    85: r1 = 1
    86: goto +1
    87: r1 = 0
    88: *(u64 *)(r10 -48) = r1
        ; row = rows[labels]
    89: r1 = map[0] ll
    91: r2 = r10
    92: r2 += -48
    93: call map_lookup_elem#1
    94: if r0 != 0 goto +47
        ; new row
    95: *(u64 *)(r10 -8) = 0
    96: r1 = map[2] ll
    98: r2 = r10
    99: r2 += -8
   100: call map_lookup_elem#1
   101: if r0 == 0 goto +141
   102: r3 = r0
   103: r1 = map[0] ll
   105: r2 = r10
   106: r2 += -48
   107: r4 = 1
   108: call map_update_elem#2
   109: *(u64 *)(r10 -56) = r0
   110: r1 = map[0] ll
   112: r2 = r10
   113: r2 += -48
   114: call map_lookup_elem#1
   115: r1 = *(u64 *)(r10 -56)
   116: if r0 != 0 goto +25
   117: if r1 == -7 goto +12
   118: r1 = 1
   119: *(u64 *)(r10 -64) = r1
   120: *(u64 *)(r10 -8) = 2
   121: r1 = map[1] ll
   123: r2 = r10
   124: r2 += -8
   125: call map_lookup_elem#1
   126: if r0 == 0 goto +2
   127: r1 = *(u64 *)(r10 -64)
   128: lock *(u64 *)(r0 +0) += r1
   129: goto +113
   130: r1 = 1
   131: *(u64 *)(r10 -64) = r1
   132: *(u64 *)(r10 -8) = 0
   133: r1 = map[1] ll
   135: r2 = r10
   136: r2 += -8
   137: call map_lookup_elem#1
   138: if r0 == 0 goto +2
   139: r1 = *(u64 *)(r10 -64)
   140: lock *(u64 *)(r0 +0) += r1
   141: goto +101
   142: r7 = r0
        ; tapster_results_seconds
   143: r1 = *(u64 *)(r10 -32)
   144: lock *(u64 *)(r7 +0) += r1
   145: if r1 <= 953 goto +89
   146: r2 = 0x1dcd650000 ll
   148: if r1 > r2 goto +89
        ; r2 = value scaled to [2^62, 2^63), r3 = its power of two
   149: r2 = r1
   150: r2 <<= 26
   151: r3 = 36
   152: r4 = r2
   153: r4 >>= 47
   154: r4 += -1
   155: r4 >>= 63
   156: r4 <<= 4
   157: r2 <<= r4
   158: r3 -= r4
   159: r4 = r2
   160: r4 >>= 55
   161: r4 += -1
   162: r4 >>= 63
   163: r4 <<= 3
   164: r2 <<= r4
   165: r3 -= r4
   166: r4 = r2
   167: r4 >>= 59
   168: r4 += -1
   169: r4 >>= 63
   170: r4 <<= 2
   171: r2 <<= r4
   172: r3 -= r4
   173: r4 = r2
   174: r4 >>= 61
   175: r4 += -1
   176: r4 >>= 63
   177: r4 <<= 1
   178: r2 <<= r4
   179: r3 -= r4
   180: r4 = r2
   181: r4 >>= 62
   182: r4 += -1
   183: r4 >>= 63
   184: r2 <<= r4
   185: r3 -= r4
   186: r3 <<= 3
   187: r3 += -79
   188: r4 = 0x40ffd3d4aa4e5371 ll
   190: r4 -= r2
   191: r4 >>= 63
   192: r3 += r4
   193: r4 = 0x46e1dc4b00b253ec ll
   195: r4 -= r2
   196: r4 >>= 63
   197: r3 += r4
   198: r4 = 0x4d4c3382a6a891c8 ll
   200: r4 -= r2
   201: r4 >>= 63
   202: r3 += r4
   203: r4 = 0x544b2fba5f832838 ll
   205: r4 -= r2
   206: r4 >>= 63
   207: r3 += r4
   208: r4 = 0x5bec4509686ecf50 ll
   210: r4 -= r2
   211: r4 >>= 63
   212: r3 += r4
   213: r4 = 0x643e1f3e81e6df61 ll
   215: r4 -= r2
   216: r4 >>= 63
   217: r3 += r4
   218: r4 = 0x6d50be1668caaaed ll
   220: r4 -= r2
   221: r4 >>= 63
   222: r3 += r4
   223: r4 = 0x7735940000000000 ll
   225: r4 -= r2
   226: r4 >>= 63
   227: r3 += r4
        ; bucket number in r3; the test is for the verifier
   228: if r3 > 217 goto +12
   229: r3 <<= 3
   230: r4 = r7
   231: r4 += r3
   232: r2 = 1
   233: lock *(u64 *)(r4 +8) += r2
   234: goto +6
   235: r2 = 1
   236: lock *(u64 *)(r7 +8) += r2
   237: goto +3
   238: r2 = 1
   239: lock *(u64 *)(r7 +1744) += r2
   240: goto +0
        ; tapster_asked_total
   241: r1 = *(u64 *)(r10 -40)
   242: lock *(u64 *)(r7 +1752) += r1
   243: r0 = 0
   244: exit

