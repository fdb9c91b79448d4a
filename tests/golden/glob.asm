kprobe:vfs_* (kprobe):
     0: r6 = r1
        ; now
     1: call ktime_get_ns#5
     2: *(u64 *)(r10 -16) = r0
        ; key
     3: r1 = *(u64 *)(r6 +152)
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
    55: *(u64 *)(r7 +0) = r1
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
     3: r1 = *(u64 *)(r6 +152)
     4: r1 -= 8
     5: *(u64 *)(r10 -32) = r1
     6: r1 = r6
     7: call get_attach_cookie#174
     8: r1 = r0
     9: *(u64 *)(r10 -24) = r1
        ; r7 = table[place of the key]
    10: r2 = 0x9e3779b97f4a7c15 ll
    12: r1 = *(u64 *)(r10 -32)
    13: r1 *= r2
    14: r3 = *(u64 *)(r10 -24)
    15: r1 += r3
    16: r1 *= r2
    17: r1 >>= 54
    18: *(u64 *)(r10 -8) = r1
    19: r1 = map[4] ll
    21: r2 = r10
    22: r2 += -8
    23: call map_lookup_elem#1
    24: if r0 == 0 goto +56
    25: r7 = r0
        ; claim the entry if it is this key's
    26: r0 = *(u64 *)(r7 +0)
    27: if r0 == 0 goto +28
    28: if r0 == 1 goto +27
    29: r2 = *(u64 *)(r7 +16)
    30: r3 = *(u64 *)(r10 -32)
    31: if r2 != r3 goto +24
    32: r2 = *(u64 *)(r7 +24)
    33: r3 = *(u64 *)(r10 -24)
    34: if r2 != r3 goto +21
    35: r1 = r0
    36: r2 = 1
    37: r0 = cmpxchg(*(u64 *)(r7 +0), r0, r2)
    38: if r0 != r1 goto +17
        ; it may have become another key's before it was claimed
    39: r2 = *(u64 *)(r7 +16)
    40: r3 = *(u64 *)(r10 -32)
    41: if r2 != r3 goto +13
    42: r2 = *(u64 *)(r7 +24)
    43: r3 = *(u64 *)(r10 -24)
    44: if r2 != r3 goto +10
    45: r2 = *(u64 *)(r10 -16)
    46: r2 -= r1
    47: r1 = r2
    48: r1 s>>= 63
    49: r1 ^= -1
    50: r2 &= r1
    51: *(u64 *)(r10 -40) = r2
    52: r1 = 0
    53: *(u64 *)(r7 +0) = r1
    54: goto +38
    55: *(u64 *)(r7 +0) = r1
    56: r1 = *(u64 *)(r7 +8)
    57: if r1 == 0 goto +23
        ; start = starts[key]
    58: r1 = map[3] ll
    60: r2 = r10
    61: r2 += -32
    62: call map_lookup_elem#1
    63: if r0 == 0 goto +17
    64: r1 = *(u64 *)(r0 +0)
    65: r2 = *(u64 *)(r10 -16)
    66: r2 -= r1
    67: r1 = r2
    68: r1 s>>= 63
    69: r1 ^= -1
    70: r2 &= r1
    71: *(u64 *)(r10 -40) = r2
        ; delete starts[key]; whoever deletes it has the event, so two ends never count twice
    72: r1 = map[3] ll
    74: r2 = r10
    75: r2 += -32
    76: call map_delete_elem#3
    77: if r0 != 0 goto +3
    78: r1 = -1
    79: lock *(u64 *)(r7 +8) += r1
    80: goto +12
    81: r1 = 1
    82: *(u64 *)(r10 -48) = r1
    83: *(u64 *)(r10 -8) = 5
    84: r1 = map[1] ll
    86: r2 = r10
    87: r2 += -8
    88: call map_lookup_elem#1
    89: if r0 == 0 goto +2
    90: r1 = *(u64 *)(r10 -48)
    91: lock *(u64 *)(r0 +0) += r1
    92: goto +62
        ; labels
    93: r1 = r6
    94: call get_attach_cookie#174
    95: r1 = r0
    96: *(u64 *)(r10 -48) = r1
        ; row = rows[labels]
    97: r1 = map[0] ll
    99: r2 = r10
   100: r2 += -48
   101: call map_lookup_elem#1
   102: if r0 != 0 goto +49
        ; new row
   103: *(u64 *)(r10 -8) = 0
   104: r1 = map[2] ll
   106: r2 = r10
   107: r2 += -8
   108: call map_lookup_elem#1
   109: if r0 == 0 goto +45
   110: r3 = r0
   111: r1 = map[0] ll
   113: r2 = r10
   114: r2 += -48
   115: r4 = 1
   116: call map_update_elem#2
   117: *(u64 *)(r10 -56) = r0
   118: r1 = map[0] ll
   120: r2 = r10
   121: r2 += -48
   122: call map_lookup_elem#1
   123: r1 = *(u64 *)(r10 -56)
   124: if r0 != 0 goto +27
   125: r1 <<= 32
   126: r1 s>>= 32
   127: if r1 == -7 goto +12
   128: r1 = 1
   129: *(u64 *)(r10 -64) = r1
   130: *(u64 *)(r10 -8) = 2
   131: r1 = map[1] ll
   133: r2 = r10
   134: r2 += -8
   135: call map_lookup_elem#1
   136: if r0 == 0 goto +2
   137: r1 = *(u64 *)(r10 -64)
   138: lock *(u64 *)(r0 +0) += r1
   139: goto +15
   140: r1 = 1
   141: *(u64 *)(r10 -64) = r1
   142: *(u64 *)(r10 -8) = 0
   143: r1 = map[1] ll
   145: r2 = r10
   146: r2 += -8
   147: call map_lookup_elem#1
   148: if r0 == 0 goto +2
   149: r1 = *(u64 *)(r10 -64)
   150: lock *(u64 *)(r0 +0) += r1
   151: goto +3
   152: r7 = r0
        ; tapster_glob_total
   153: r1 = 1
   154: lock *(u64 *)(r7 +0) += r1
   155: r0 = 0
   156: exit

