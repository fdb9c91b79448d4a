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
    10: if r0 != 0 goto +49
        ; new row
    11: *(u64 *)(r10 -8) = 0
    12: r1 = map[2] ll
    14: r2 = r10
    15: r2 += -8
    16: call map_lookup_elem#1
    17: if r0 == 0 goto +45
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
    32: if r0 != 0 goto +27
    33: r1 <<= 32
    34: r1 s>>= 32
    35: if r1 == -7 goto +12
    36: r1 = 1
    37: *(u64 *)(r10 -40) = r1
    38: *(u64 *)(r10 -8) = 2
    39: r1 = map[1] ll
    41: r2 = r10
    42: r2 += -8
    43: call map_lookup_elem#1
    44: if r0 == 0 goto +2
    45: r1 = *(u64 *)(r10 -40)
    46: lock *(u64 *)(r0 +0) += r1
    47: goto +15
    48: r1 = 1
    49: *(u64 *)(r10 -40) = r1
    50: *(u64 *)(r10 -8) = 0
    51: r1 = map[1] ll
    53: r2 = r10
    54: r2 += -8
    55: call map_lookup_elem#1
    56: if r0 == 0 goto +2
    57: r1 = *(u64 *)(r10 -40)
    58: lock *(u64 *)(r0 +0) += r1
    59: goto +3
    60: r7 = r0
        ; tapster_calls_total
    61: r1 = *(u64 *)(r6 +16)
    62: lock *(u64 *)(r7 +0) += r1
    63: r0 = 0
    64: exit

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
    20: if r0 == 0 goto +68
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
    48: goto +40
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
    59: if r0 == 0 goto +29
    60: r1 = -1
    61: lock *(u64 *)(r7 +8) += r1
    62: if r0 == 0 goto +26
    63: r0 <<= 32
    64: r0 s>>= 32
    65: if r0 != -7 goto +12
    66: r1 = 1
    67: *(u64 *)(r10 -48) = r1
    68: *(u64 *)(r10 -8) = 1
    69: r1 = map[1] ll
    71: r2 = r10
    72: r2 += -8
    73: call map_lookup_elem#1
    74: if r0 == 0 goto +2
    75: r1 = *(u64 *)(r10 -48)
    76: lock *(u64 *)(r0 +0) += r1
    77: goto +11
    78: r1 = 1
    79: *(u64 *)(r10 -48) = r1
    80: *(u64 *)(r10 -8) = 2
    81: r1 = map[1] ll
    83: r2 = r10
    84: r2 += -8
    85: call map_lookup_elem#1
    86: if r0 == 0 goto +2
    87: r1 = *(u64 *)(r10 -48)
    88: lock *(u64 *)(r0 +0) += r1
    89: r0 = 0
    90: exit

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
    82: goto +162
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
    94: if r0 != 0 goto +49
        ; new row
    95: *(u64 *)(r10 -8) = 0
    96: r1 = map[2] ll
    98: r2 = r10
    99: r2 += -8
   100: call map_lookup_elem#1
   101: if r0 == 0 goto +143
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
   116: if r0 != 0 goto +27
   117: r1 <<= 32
   118: r1 s>>= 32
   119: if r1 == -7 goto +12
   120: r1 = 1
   121: *(u64 *)(r10 -64) = r1
   122: *(u64 *)(r10 -8) = 2
   123: r1 = map[1] ll
   125: r2 = r10
   126: r2 += -8
   127: call map_lookup_elem#1
   128: if r0 == 0 goto +2
   129: r1 = *(u64 *)(r10 -64)
   130: lock *(u64 *)(r0 +0) += r1
   131: goto +113
   132: r1 = 1
   133: *(u64 *)(r10 -64) = r1
   134: *(u64 *)(r10 -8) = 0
   135: r1 = map[1] ll
   137: r2 = r10
   138: r2 += -8
   139: call map_lookup_elem#1
   140: if r0 == 0 goto +2
   141: r1 = *(u64 *)(r10 -64)
   142: lock *(u64 *)(r0 +0) += r1
   143: goto +101
   144: r7 = r0
        ; tapster_results_seconds
   145: r1 = *(u64 *)(r10 -32)
   146: lock *(u64 *)(r7 +0) += r1
   147: if r1 <= 953 goto +89
   148: r2 = 0x1dcd650000 ll
   150: if r1 > r2 goto +89
        ; r2 = value scaled to [2^62, 2^63), r3 = its power of two
   151: r2 = r1
   152: r2 <<= 26
   153: r3 = 36
   154: r4 = r2
   155: r4 >>= 47
   156: r4 += -1
   157: r4 >>= 63
   158: r4 <<= 4
   159: r2 <<= r4
   160: r3 -= r4
   161: r4 = r2
   162: r4 >>= 55
   163: r4 += -1
   164: r4 >>= 63
   165: r4 <<= 3
   166: r2 <<= r4
   167: r3 -= r4
   168: r4 = r2
   169: r4 >>= 59
   170: r4 += -1
   171: r4 >>= 63
   172: r4 <<= 2
   173: r2 <<= r4
   174: r3 -= r4
   175: r4 = r2
   176: r4 >>= 61
   177: r4 += -1
   178: r4 >>= 63
   179: r4 <<= 1
   180: r2 <<= r4
   181: r3 -= r4
   182: r4 = r2
   183: r4 >>= 62
   184: r4 += -1
   185: r4 >>= 63
   186: r2 <<= r4
   187: r3 -= r4
   188: r3 <<= 3
   189: r3 += -79
   190: r4 = 0x40ffd3d4aa4e5371 ll
   192: r4 -= r2
   193: r4 >>= 63
   194: r3 += r4
   195: r4 = 0x46e1dc4b00b253ec ll
   197: r4 -= r2
   198: r4 >>= 63
   199: r3 += r4
   200: r4 = 0x4d4c3382a6a891c8 ll
   202: r4 -= r2
   203: r4 >>= 63
   204: r3 += r4
   205: r4 = 0x544b2fba5f832838 ll
   207: r4 -= r2
   208: r4 >>= 63
   209: r3 += r4
   210: r4 = 0x5bec4509686ecf50 ll
   212: r4 -= r2
   213: r4 >>= 63
   214: r3 += r4
   215: r4 = 0x643e1f3e81e6df61 ll
   217: r4 -= r2
   218: r4 >>= 63
   219: r3 += r4
   220: r4 = 0x6d50be1668caaaed ll
   222: r4 -= r2
   223: r4 >>= 63
   224: r3 += r4
   225: r4 = 0x7735940000000000 ll
   227: r4 -= r2
   228: r4 >>= 63
   229: r3 += r4
        ; bucket number in r3; the test is for the verifier
   230: if r3 > 217 goto +12
   231: r3 <<= 3
   232: r4 = r7
   233: r4 += r3
   234: r2 = 1
   235: lock *(u64 *)(r4 +8) += r2
   236: goto +6
   237: r2 = 1
   238: lock *(u64 *)(r7 +8) += r2
   239: goto +3
   240: r2 = 1
   241: lock *(u64 *)(r7 +1744) += r2
   242: goto +0
        ; tapster_asked_total
   243: r1 = *(u64 *)(r10 -40)
   244: lock *(u64 *)(r7 +1752) += r1
   245: r0 = 0
   246: exit

