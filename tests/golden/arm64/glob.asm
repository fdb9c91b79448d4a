kprobe:vfs_* (kprobe):
     0: r6 = r1
        ; now
     1: call ktime_get_ns#5
     2: *(u64 *)(r10 -16) = r0
        ; key
     3: r1 = *(u64 *)(r6 +248)
     4: *(u64 *)(r10 -32) = r1
     5: r1 = r6
     6: call get_attach_cookie#174
     7: r1 = r0
     8: *(u64 *)(r10 -24) = r1
     9: r1 = *(u64 *)(r10 -16)
    10: *(u64 *)(r10 -40) = r1
        ; r7 = table[place of the key]
    11: r2 = 0x9e3779b97f4a7c15 ll
    13: r1 = *(u64 *)(r10 -32)
    14: r1 *= r2
    15: r3 = *(u64 *)(r10 -24)
    16: r1 += r3
    17: r1 *= r2
    18: r1 >>= 54
    19: *(u64 *)(r10 -8) = r1
    20: r1 = map[4] ll
    22: r2 = r10
    23: r2 += -8
    24: call map_lookup_elem#1
    25: if r0 == 0 goto +71
    26: r7 = r0
    27: r1 = *(u64 *)(r7 +8)
    28: if r1 == 0 goto +8
        ; an earlier start of this key, whose end was lost, is not to be found any more
    29: r1 = map[3] ll
    31: r2 = r10
    32: r2 += -32
    33: call map_delete_elem#3
    34: if r0 != 0 goto +2
    35: r1 = -1
    36: lock *(u64 *)(r7 +8) += r1
        ; claim the entry if it is free or this key's
    37: r0 = *(u64 *)(r7 +0)
    38: if r0 == 0 goto +7
    39: if r0 == 1 goto +17
    40: r2 = *(u64 *)(r7 +16)
    41: r3 = *(u64 *)(r10 -32)
    42: if r2 != r3 goto +14
    43: r2 = *(u64 *)(r7 +24)
    44: r3 = *(u64 *)(r10 -24)
    45: if r2 != r3 goto +11
    46: r1 = r0
    47: r2 = 1
    48: r0 = cmpxchg(*(u64 *)(r7 +0), r0, r2)
    49: if r0 != r1 goto +7
    50: r1 = *(u64 *)(r10 -32)
    51: *(u64 *)(r7 +16) = r1
    52: r1 = *(u64 *)(r10 -24)
    53: *(u64 *)(r7 +24) = r1
    54: r1 = *(u64 *)(r10 -40)
    55: r1 = xchg(*(u64 *)(r7 +0), r1)
    56: goto +40
    57: r1 = 1
    58: lock *(u64 *)(r7 +8) += r1
        ; starts[key] = now, saved values
    59: r1 = map[3] ll
    61: r2 = r10
    62: r2 += -32
    63: r3 = r10
    64: r3 += -40
    65: r4 = 1
    66: call map_update_elem#2
    67: if r0 == 0 goto +29
    68: r1 = -1
    69: lock *(u64 *)(r7 +8) += r1
    70: if r0 == 0 goto +26
    71: r0 <<= 32
    72: r0 s>>= 32
    73: if r0 != -7 goto +12
    74: r1 = 1
    75: *(u64 *)(r10 -48) = r1
    76: *(u64 *)(r10 -8) = 1
    77: r1 = map[1] ll
    79: r2 = r10
    80: r2 += -8
    81: call map_lookup_elem#1
    82: if r0 == 0 goto +2
    83: r1 = *(u64 *)(r10 -48)
    84: lock *(u64 *)(r0 +0) += r1
    85: goto +11
    86: r1 = 1
    87: *(u64 *)(r10 -48) = r1
    88: *(u64 *)(r10 -8) = 2
    89: r1 = map[1] ll
    91: r2 = r10
    92: r2 += -8
    93: call map_lookup_elem#1
    94: if r0 == 0 goto +2
    95: r1 = *(u64 *)(r10 -48)
    96: lock *(u64 *)(r0 +0) += r1
    97: r0 = 0
    98: exit

kretprobe:vfs_* (kretprobe):
     0: r6 = r1
        ; now
     1: call ktime_get_ns#5
     2: *(u64 *)(r10 -16) = r0
        ; key
     3: r1 = *(u64 *)(r6 +248)
     4: *(u64 *)(r10 -32) = r1
     5: r1 = r6
     6: call get_attach_cookie#174
     7: r1 = r0
     8: *(u64 *)(r10 -24) = r1
        ; r7 = table[place of the key]
     9: r2 = 0x9e3779b97f4a7c15 ll
    11: r1 = *(u64 *)(r10 -32)
    12: r1 *= r2
    13: r3 = *(u64 *)(r10 -24)
    14: r1 += r3
    15: r1 *= r2
    16: r1 >>= 54
    17: *(u64 *)(r10 -8) = r1
    18: r1 = map[4] ll
    20: r2 = r10
    21: r2 += -8
    22: call map_lookup_elem#1
    23: if r0 == 0 goto +56
    24: r7 = r0
        ; claim the entry if it is this key's
    25: r0 = *(u64 *)(r7 +0)
    26: if r0 == 0 goto +28
    27: if r0 == 1 goto +27
    28: r2 = *(u64 *)(r7 +16)
    29: r3 = *(u64 *)(r10 -32)
    30: if r2 != r3 goto +24
    31: r2 = *(u64 *)(r7 +24)
    32: r3 = *(u64 *)(r10 -24)
    33: if r2 != r3 goto +21
    34: r1 = r0
    35: r2 = 1
    36: r0 = cmpxchg(*(u64 *)(r7 +0), r0, r2)
    37: if r0 != r1 goto +17
        ; it may have become another key's before it was claimed
    38: r2 = *(u64 *)(r7 +16)
    39: r3 = *(u64 *)(r10 -32)
    40: if r2 != r3 goto +13
    41: r2 = *(u64 *)(r7 +24)
    42: r3 = *(u64 *)(r10 -24)
    43: if r2 != r3 goto +10
    44: r2 = *(u64 *)(r10 -16)
    45: r2 -= r1
    46: r1 = r2
    47: r1 s>>= 63
    48: r1 ^= -1
    49: r2 &= r1
    50: *(u64 *)(r10 -40) = r2
    51: r1 = 0
    52: r1 = xchg(*(u64 *)(r7 +0), r1)
    53: goto +38
    54: r1 = xchg(*(u64 *)(r7 +0), r1)
    55: r1 = *(u64 *)(r7 +8)
    56: if r1 == 0 goto +23
        ; start = starts[key]
    57: r1 = map[3] ll
    59: r2 = r10
    60: r2 += -32
    61: call map_lookup_elem#1
    62: if r0 == 0 goto +17
    63: r1 = *(u64 *)(r0 +0)
    64: r2 = *(u64 *)(r10 -16)
    65: r2 -= r1
    66: r1 = r2
    67: r1 s>>= 63
    68: r1 ^= -1
    69: r2 &= r1
    70: *(u64 *)(r10 -40) = r2
        ; delete starts[key]; whoever deletes it has the event, so two ends never count twice
    71: r1 = map[3] ll
    73: r2 = r10
    74: r2 += -32
    75: call map_delete_elem#3
    76: if r0 != 0 goto +3
    77: r1 = -1
    78: lock *(u64 *)(r7 +8) += r1
    79: goto +12
    80: r1 = 1
    81: *(u64 *)(r10 -48) = r1
    82: *(u64 *)(r10 -8) = 5
    83: r1 = map[1] ll
    85: r2 = r10
    86: r2 += -8
    87: call map_lookup_elem#1
    88: if r0 == 0 goto +2
    89: r1 = *(u64 *)(r10 -48)
    90: lock *(u64 *)(r0 +0) += r1
    91: goto +62
        ; labels
    92: r1 = r6
    93: call get_attach_cookie#174
    94: r1 = r0
    95: *(u64 *)(r10 -48) = r1
        ; row = rows[labels]
    96: r1 = map[0] ll
    98: r2 = r10
    99: r2 += -48
   100: call map_lookup_elem#1
   101: if r0 != 0 goto +49
        ; new row
   102: *(u64 *)(r10 -8) = 0
   103: r1 = map[2] ll
   105: r2 = r10
   106: r2 += -8
   107: call map_lookup_elem#1
   108: if r0 == 0 goto +45
   109: r3 = r0
   110: r1 = map[0] ll
   112: r2 = r10
   113: r2 += -48
   114: r4 = 1
   115: call map_update_elem#2
   116: *(u64 *)(r10 -56) = r0
   117: r1 = map[0] ll
   119: r2 = r10
   120: r2 += -48
   121: call map_lookup_elem#1
   122: r1 = *(u64 *)(r10 -56)
   123: if r0 != 0 goto +27
   124: r1 <<= 32
   125: r1 s>>= 32
   126: if r1 == -7 goto +12
   127: r1 = 1
   128: *(u64 *)(r10 -64) = r1
   129: *(u64 *)(r10 -8) = 2
   130: r1 = map[1] ll
   132: r2 = r10
   133: r2 += -8
   134: call map_lookup_elem#1
   135: if r0 == 0 goto +2
   136: r1 = *(u64 *)(r10 -64)
   137: lock *(u64 *)(r0 +0) += r1
   138: goto +15
   139: r1 = 1
   140: *(u64 *)(r10 -64) = r1
   141: *(u64 *)(r10 -8) = 0
   142: r1 = map[1] ll
   144: r2 = r10
   145: r2 += -8
   146: call map_lookup_elem#1
   147: if r0 == 0 goto +2
   148: r1 = *(u64 *)(r10 -64)
   149: lock *(u64 *)(r0 +0) += r1
   150: goto +3
   151: r7 = r0
        ; tapster_glob_total
   152: r1 = 1
   153: lock *(u64 *)(r7 +0) += r1
   154: r0 = 0
   155: exit

