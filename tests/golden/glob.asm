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
        ; starts[key] = now, saved values
    11: r1 = map[3] ll
    13: r2 = r10
    14: r2 += -32
    15: r3 = r10
    16: r3 += -40
    17: r4 = 0
    18: call map_update_elem#2
    19: if r0 == 0 goto +24
    20: if r0 != -7 goto +12
    21: r1 = 1
    22: *(u64 *)(r10 -48) = r1
    23: *(u64 *)(r10 -8) = 1
    24: r1 = map[1] ll
    26: r2 = r10
    27: r2 += -8
    28: call map_lookup_elem#1
    29: if r0 == 0 goto +2
    30: r1 = *(u64 *)(r10 -48)
    31: lock *(u64 *)(r0 +0) += r1
    32: goto +11
    33: r1 = 1
    34: *(u64 *)(r10 -48) = r1
    35: *(u64 *)(r10 -8) = 2
    36: r1 = map[1] ll
    38: r2 = r10
    39: r2 += -8
    40: call map_lookup_elem#1
    41: if r0 == 0 goto +2
    42: r1 = *(u64 *)(r10 -48)
    43: lock *(u64 *)(r0 +0) += r1
    44: r0 = 0
    45: exit

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
        ; start = starts[key]
    10: r1 = map[3] ll
    12: r2 = r10
    13: r2 += -32
    14: call map_lookup_elem#1
    15: if r0 == 0 goto +14
    16: r1 = *(u64 *)(r0 +0)
    17: r2 = *(u64 *)(r10 -16)
    18: r2 -= r1
    19: r1 = r2
    20: r1 s>>= 63
    21: r1 ^= -1
    22: r2 &= r1
    23: *(u64 *)(r10 -40) = r2
        ; delete starts[key]; whoever deletes it has the event, so two ends never count twice
    24: r1 = map[3] ll
    26: r2 = r10
    27: r2 += -32
    28: call map_delete_elem#3
    29: if r0 == 0 goto +12
    30: r1 = 1
    31: *(u64 *)(r10 -48) = r1
    32: *(u64 *)(r10 -8) = 5
    33: r1 = map[1] ll
    35: r2 = r10
    36: r2 += -8
    37: call map_lookup_elem#1
    38: if r0 == 0 goto +2
    39: r1 = *(u64 *)(r10 -48)
    40: lock *(u64 *)(r0 +0) += r1
    41: goto +60
        ; labels
    42: r1 = r6
    43: call get_attach_cookie#174
    44: r1 = r0
    45: *(u64 *)(r10 -48) = r1
        ; row = rows[labels]
    46: r1 = map[0] ll
    48: r2 = r10
    49: r2 += -48
    50: call map_lookup_elem#1
    51: if r0 != 0 goto +47
        ; new row
    52: *(u64 *)(r10 -8) = 0
    53: r1 = map[2] ll
    55: r2 = r10
    56: r2 += -8
    57: call map_lookup_elem#1
    58: if r0 == 0 goto +43
    59: r3 = r0
    60: r1 = map[0] ll
    62: r2 = r10
    63: r2 += -48
    64: r4 = 1
    65: call map_update_elem#2
    66: *(u64 *)(r10 -56) = r0
    67: r1 = map[0] ll
    69: r2 = r10
    70: r2 += -48
    71: call map_lookup_elem#1
    72: r1 = *(u64 *)(r10 -56)
    73: if r0 != 0 goto +25
    74: if r1 == -7 goto +12
    75: r1 = 1
    76: *(u64 *)(r10 -64) = r1
    77: *(u64 *)(r10 -8) = 2
    78: r1 = map[1] ll
    80: r2 = r10
    81: r2 += -8
    82: call map_lookup_elem#1
    83: if r0 == 0 goto +2
    84: r1 = *(u64 *)(r10 -64)
    85: lock *(u64 *)(r0 +0) += r1
    86: goto +15
    87: r1 = 1
    88: *(u64 *)(r10 -64) = r1
    89: *(u64 *)(r10 -8) = 0
    90: r1 = map[1] ll
    92: r2 = r10
    93: r2 += -8
    94: call map_lookup_elem#1
    95: if r0 == 0 goto +2
    96: r1 = *(u64 *)(r10 -64)
    97: lock *(u64 *)(r0 +0) += r1
    98: goto +3
    99: r7 = r0
        ; tapster_glob_total
   100: r1 = 1
   101: lock *(u64 *)(r7 +0) += r1
   102: r0 = 0
   103: exit

