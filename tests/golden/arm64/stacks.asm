profile:hz:99 (perf_event):
     0: r6 = r1
        ; labels
        ; kstack: into memory of this CPU, unless that is in use
     1: *(u64 *)(r10 -8) = 0
     2: r1 = map[4] ll
     4: r2 = r10
     5: r2 += -8
     6: call map_lookup_elem#1
     7: if r0 == 0 goto +14
     8: *(u64 *)(r10 -32) = r0
     9: r1 = 1
    10: r1 = xchg(*(u64 *)(r0 +0), r1)
    11: if r1 != 0 goto +79
    12: r1 = r6
    13: r2 = *(u64 *)(r10 -32)
    14: r2 += 16
    15: r3 = 80
    16: r4 = 0
    17: call get_stack#67
    18: r2 = *(u64 *)(r10 -32)
    19: if r0 s<= 0 goto +1
    20: if r0 <= 80 goto +3
    21: *(u64 *)(r2 +0) = 0
    22: r1 = 0
    23: goto +79
        ; header: bytes of the frames
    24: r1 = r0
    25: r5 = r0
    26: r5 <<= 32
    27: *(u64 *)(r2 +8) = r5
        ; r3 = hash of the frames
    28: r2 += 16
    29: r3 = 0x9e3779b97f4a7c15 ll
    31: r4 = 0
    32: r0 = 0
    33: r5 = *(u64 *)(r2 +0)
    34: r3 ^= r5
    35: r3 *= -2048144789
    36: r5 = r3
    37: r5 >>= 29
    38: r3 ^= r5
    39: r2 += 8
    40: r4 += 8
    41: if r1 > r4 goto -9
    42: r3 |= 2
    43: *(u64 *)(r10 -40) = r3
        ; stacks[hash] = stack, where it is new
    44: r1 = map[3] ll
    46: r2 = r10
    47: r2 += -40
    48: call map_lookup_elem#1
    49: r1 = r0
    50: r0 = 0
    51: if r1 != 0 goto +8
    52: r1 = map[3] ll
    54: r2 = r10
    55: r2 += -40
    56: r3 = *(u64 *)(r10 -32)
    57: r3 += 8
    58: r4 = 1
    59: call map_update_elem#2
    60: r2 = *(u64 *)(r10 -32)
    61: *(u64 *)(r2 +0) = 0
    62: if r0 == 0 goto +26
    63: if r0 == -17 goto +25
    64: if r0 == -7 goto +12
    65: r1 = 1
    66: *(u64 *)(r10 -48) = r1
    67: *(u64 *)(r10 -8) = 2
    68: r1 = map[1] ll
    70: r2 = r10
    71: r2 += -8
    72: call map_lookup_elem#1
    73: if r0 == 0 goto +2
    74: r1 = *(u64 *)(r10 -48)
    75: lock *(u64 *)(r0 +0) += r1
    76: goto +25
    77: r1 = 1
    78: *(u64 *)(r10 -48) = r1
    79: *(u64 *)(r10 -8) = 6
    80: r1 = map[1] ll
    82: r2 = r10
    83: r2 += -8
    84: call map_lookup_elem#1
    85: if r0 == 0 goto +2
    86: r1 = *(u64 *)(r10 -48)
    87: lock *(u64 *)(r0 +0) += r1
    88: goto +13
    89: r1 = *(u64 *)(r10 -40)
    90: goto +12
    91: r1 = 1
    92: *(u64 *)(r10 -48) = r1
    93: *(u64 *)(r10 -8) = 2
    94: r1 = map[1] ll
    96: r2 = r10
    97: r2 += -8
    98: call map_lookup_elem#1
    99: if r0 == 0 goto +2
   100: r1 = *(u64 *)(r10 -48)
   101: lock *(u64 *)(r0 +0) += r1
   102: r1 = 1
   103: *(u64 *)(r10 -24) = r1
        ; ustack: into memory of this CPU, unless that is in use
   104: *(u64 *)(r10 -8) = 0
   105: r1 = map[6] ll
   107: r2 = r10
   108: r2 += -8
   109: call map_lookup_elem#1
   110: if r0 == 0 goto +14
   111: *(u64 *)(r10 -32) = r0
   112: r1 = 1
   113: r1 = xchg(*(u64 *)(r0 +0), r1)
   114: if r1 != 0 goto +114
   115: r1 = r6
   116: r2 = *(u64 *)(r10 -32)
   117: r2 += 16
   118: r3 = 4064
   119: r4 = 2304
   120: call get_stack#67
   121: r2 = *(u64 *)(r10 -32)
   122: if r0 s<= 0 goto +1
   123: if r0 <= 4064 goto +3
   124: *(u64 *)(r2 +0) = 0
   125: r1 = 0
   126: goto +114
        ; header: bytes of the frames
   127: r1 = r0
   128: r5 = r0
   129: r5 <<= 32
   130: *(u64 *)(r2 +8) = r5
        ; r3 = hash of the frames
   131: r2 += 16
   132: r3 = 0x9e3779b97f4a7c15 ll
   134: r4 = 0
   135: r0 = 0
   136: r5 = *(u64 *)(r2 +0)
   137: r0 |= r5
   138: r3 ^= r5
   139: r3 *= -2048144789
   140: r5 = r3
   141: r5 >>= 29
   142: r3 ^= r5
   143: r5 = *(u64 *)(r2 +8)
   144: r3 ^= r5
   145: r3 *= -2048144789
   146: r5 = r3
   147: r5 >>= 29
   148: r3 ^= r5
   149: r5 = *(u64 *)(r2 +16)
   150: r3 ^= r5
   151: r3 *= -2048144789
   152: r5 = r3
   153: r5 >>= 29
   154: r3 ^= r5
   155: r5 = *(u64 *)(r2 +24)
   156: r3 ^= r5
   157: r3 *= -2048144789
   158: r5 = r3
   159: r5 >>= 29
   160: r3 ^= r5
   161: r2 += 32
   162: r4 += 32
   163: if r1 > r4 goto -28
        ; addresses mean something in one process only
   164: r0 &= 2
   165: if r0 == 0 goto +14
   166: *(u64 *)(r10 -40) = r3
   167: call get_current_pid_tgid#14
   168: r0 >>= 32
   169: r2 = *(u64 *)(r10 -32)
   170: r1 = *(u64 *)(r2 +8)
   171: r1 |= r0
   172: *(u64 *)(r2 +8) = r1
   173: r3 = *(u64 *)(r10 -40)
   174: r5 = r0
   175: r3 ^= r5
   176: r3 *= -2048144789
   177: r5 = r3
   178: r5 >>= 29
   179: r3 ^= r5
   180: r3 |= 2
   181: *(u64 *)(r10 -40) = r3
        ; stacks[hash] = stack, where it is new
   182: r1 = map[5] ll
   184: r2 = r10
   185: r2 += -40
   186: call map_lookup_elem#1
   187: r1 = r0
   188: r0 = 0
   189: if r1 != 0 goto +8
   190: r1 = map[5] ll
   192: r2 = r10
   193: r2 += -40
   194: r3 = *(u64 *)(r10 -32)
   195: r3 += 8
   196: r4 = 1
   197: call map_update_elem#2
   198: r2 = *(u64 *)(r10 -32)
   199: *(u64 *)(r2 +0) = 0
   200: if r0 == 0 goto +26
   201: if r0 == -17 goto +25
   202: if r0 == -7 goto +12
   203: r1 = 1
   204: *(u64 *)(r10 -48) = r1
   205: *(u64 *)(r10 -8) = 2
   206: r1 = map[1] ll
   208: r2 = r10
   209: r2 += -8
   210: call map_lookup_elem#1
   211: if r0 == 0 goto +2
   212: r1 = *(u64 *)(r10 -48)
   213: lock *(u64 *)(r0 +0) += r1
   214: goto +25
   215: r1 = 1
   216: *(u64 *)(r10 -48) = r1
   217: *(u64 *)(r10 -8) = 6
   218: r1 = map[1] ll
   220: r2 = r10
   221: r2 += -8
   222: call map_lookup_elem#1
   223: if r0 == 0 goto +2
   224: r1 = *(u64 *)(r10 -48)
   225: lock *(u64 *)(r0 +0) += r1
   226: goto +13
   227: r1 = *(u64 *)(r10 -40)
   228: goto +12
   229: r1 = 1
   230: *(u64 *)(r10 -48) = r1
   231: *(u64 *)(r10 -8) = 2
   232: r1 = map[1] ll
   234: r2 = r10
   235: r2 += -8
   236: call map_lookup_elem#1
   237: if r0 == 0 goto +2
   238: r1 = *(u64 *)(r10 -48)
   239: lock *(u64 *)(r0 +0) += r1
   240: r1 = 1
   241: *(u64 *)(r10 -16) = r1
        ; row = rows[labels]
   242: r1 = map[0] ll
   244: r2 = r10
   245: r2 += -24
   246: call map_lookup_elem#1
   247: if r0 != 0 goto +47
        ; new row
   248: *(u64 *)(r10 -8) = 0
   249: r1 = map[2] ll
   251: r2 = r10
   252: r2 += -8
   253: call map_lookup_elem#1
   254: if r0 == 0 goto +43
   255: r3 = r0
   256: r1 = map[0] ll
   258: r2 = r10
   259: r2 += -24
   260: r4 = 1
   261: call map_update_elem#2
   262: *(u64 *)(r10 -32) = r0
   263: r1 = map[0] ll
   265: r2 = r10
   266: r2 += -24
   267: call map_lookup_elem#1
   268: r1 = *(u64 *)(r10 -32)
   269: if r0 != 0 goto +25
   270: if r1 == -7 goto +12
   271: r1 = 1
   272: *(u64 *)(r10 -40) = r1
   273: *(u64 *)(r10 -8) = 2
   274: r1 = map[1] ll
   276: r2 = r10
   277: r2 += -8
   278: call map_lookup_elem#1
   279: if r0 == 0 goto +2
   280: r1 = *(u64 *)(r10 -40)
   281: lock *(u64 *)(r0 +0) += r1
   282: goto +15
   283: r1 = 1
   284: *(u64 *)(r10 -40) = r1
   285: *(u64 *)(r10 -8) = 0
   286: r1 = map[1] ll
   288: r2 = r10
   289: r2 += -8
   290: call map_lookup_elem#1
   291: if r0 == 0 goto +2
   292: r1 = *(u64 *)(r10 -40)
   293: lock *(u64 *)(r0 +0) += r1
   294: goto +3
   295: r7 = r0
        ; tapster_samples_total
   296: r1 = 1
   297: lock *(u64 *)(r7 +0) += r1
   298: r0 = 0
   299: exit

