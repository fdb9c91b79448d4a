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
    11: if r1 != 0 goto +81
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
    23: goto +81
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
    62: if r0 == 0 goto +28
    63: r0 <<= 32
    64: r0 s>>= 32
    65: if r0 == -17 goto +25
    66: if r0 == -7 goto +12
    67: r1 = 1
    68: *(u64 *)(r10 -48) = r1
    69: *(u64 *)(r10 -8) = 2
    70: r1 = map[1] ll
    72: r2 = r10
    73: r2 += -8
    74: call map_lookup_elem#1
    75: if r0 == 0 goto +2
    76: r1 = *(u64 *)(r10 -48)
    77: lock *(u64 *)(r0 +0) += r1
    78: goto +25
    79: r1 = 1
    80: *(u64 *)(r10 -48) = r1
    81: *(u64 *)(r10 -8) = 6
    82: r1 = map[1] ll
    84: r2 = r10
    85: r2 += -8
    86: call map_lookup_elem#1
    87: if r0 == 0 goto +2
    88: r1 = *(u64 *)(r10 -48)
    89: lock *(u64 *)(r0 +0) += r1
    90: goto +13
    91: r1 = *(u64 *)(r10 -40)
    92: goto +12
    93: r1 = 1
    94: *(u64 *)(r10 -48) = r1
    95: *(u64 *)(r10 -8) = 2
    96: r1 = map[1] ll
    98: r2 = r10
    99: r2 += -8
   100: call map_lookup_elem#1
   101: if r0 == 0 goto +2
   102: r1 = *(u64 *)(r10 -48)
   103: lock *(u64 *)(r0 +0) += r1
   104: r1 = 1
   105: *(u64 *)(r10 -24) = r1
        ; ustack: into memory of this CPU, unless that is in use
   106: *(u64 *)(r10 -8) = 0
   107: r1 = map[6] ll
   109: r2 = r10
   110: r2 += -8
   111: call map_lookup_elem#1
   112: if r0 == 0 goto +14
   113: *(u64 *)(r10 -32) = r0
   114: r1 = 1
   115: r1 = xchg(*(u64 *)(r0 +0), r1)
   116: if r1 != 0 goto +116
   117: r1 = r6
   118: r2 = *(u64 *)(r10 -32)
   119: r2 += 16
   120: r3 = 4064
   121: r4 = 2304
   122: call get_stack#67
   123: r2 = *(u64 *)(r10 -32)
   124: if r0 s<= 0 goto +1
   125: if r0 <= 4064 goto +3
   126: *(u64 *)(r2 +0) = 0
   127: r1 = 0
   128: goto +116
        ; header: bytes of the frames
   129: r1 = r0
   130: r5 = r0
   131: r5 <<= 32
   132: *(u64 *)(r2 +8) = r5
        ; r3 = hash of the frames
   133: r2 += 16
   134: r3 = 0x9e3779b97f4a7c15 ll
   136: r4 = 0
   137: r0 = 0
   138: r5 = *(u64 *)(r2 +0)
   139: r0 |= r5
   140: r3 ^= r5
   141: r3 *= -2048144789
   142: r5 = r3
   143: r5 >>= 29
   144: r3 ^= r5
   145: r5 = *(u64 *)(r2 +8)
   146: r3 ^= r5
   147: r3 *= -2048144789
   148: r5 = r3
   149: r5 >>= 29
   150: r3 ^= r5
   151: r5 = *(u64 *)(r2 +16)
   152: r3 ^= r5
   153: r3 *= -2048144789
   154: r5 = r3
   155: r5 >>= 29
   156: r3 ^= r5
   157: r5 = *(u64 *)(r2 +24)
   158: r3 ^= r5
   159: r3 *= -2048144789
   160: r5 = r3
   161: r5 >>= 29
   162: r3 ^= r5
   163: r2 += 32
   164: r4 += 32
   165: if r1 > r4 goto -28
        ; addresses mean something in one process only
   166: r0 &= 2
   167: if r0 == 0 goto +14
   168: *(u64 *)(r10 -40) = r3
   169: call get_current_pid_tgid#14
   170: r0 >>= 32
   171: r2 = *(u64 *)(r10 -32)
   172: r1 = *(u64 *)(r2 +8)
   173: r1 |= r0
   174: *(u64 *)(r2 +8) = r1
   175: r3 = *(u64 *)(r10 -40)
   176: r5 = r0
   177: r3 ^= r5
   178: r3 *= -2048144789
   179: r5 = r3
   180: r5 >>= 29
   181: r3 ^= r5
   182: r3 |= 2
   183: *(u64 *)(r10 -40) = r3
        ; stacks[hash] = stack, where it is new
   184: r1 = map[5] ll
   186: r2 = r10
   187: r2 += -40
   188: call map_lookup_elem#1
   189: r1 = r0
   190: r0 = 0
   191: if r1 != 0 goto +8
   192: r1 = map[5] ll
   194: r2 = r10
   195: r2 += -40
   196: r3 = *(u64 *)(r10 -32)
   197: r3 += 8
   198: r4 = 1
   199: call map_update_elem#2
   200: r2 = *(u64 *)(r10 -32)
   201: *(u64 *)(r2 +0) = 0
   202: if r0 == 0 goto +28
   203: r0 <<= 32
   204: r0 s>>= 32
   205: if r0 == -17 goto +25
   206: if r0 == -7 goto +12
   207: r1 = 1
   208: *(u64 *)(r10 -48) = r1
   209: *(u64 *)(r10 -8) = 2
   210: r1 = map[1] ll
   212: r2 = r10
   213: r2 += -8
   214: call map_lookup_elem#1
   215: if r0 == 0 goto +2
   216: r1 = *(u64 *)(r10 -48)
   217: lock *(u64 *)(r0 +0) += r1
   218: goto +25
   219: r1 = 1
   220: *(u64 *)(r10 -48) = r1
   221: *(u64 *)(r10 -8) = 6
   222: r1 = map[1] ll
   224: r2 = r10
   225: r2 += -8
   226: call map_lookup_elem#1
   227: if r0 == 0 goto +2
   228: r1 = *(u64 *)(r10 -48)
   229: lock *(u64 *)(r0 +0) += r1
   230: goto +13
   231: r1 = *(u64 *)(r10 -40)
   232: goto +12
   233: r1 = 1
   234: *(u64 *)(r10 -48) = r1
   235: *(u64 *)(r10 -8) = 2
   236: r1 = map[1] ll
   238: r2 = r10
   239: r2 += -8
   240: call map_lookup_elem#1
   241: if r0 == 0 goto +2
   242: r1 = *(u64 *)(r10 -48)
   243: lock *(u64 *)(r0 +0) += r1
   244: r1 = 1
   245: *(u64 *)(r10 -16) = r1
        ; row = rows[labels]
   246: r1 = map[0] ll
   248: r2 = r10
   249: r2 += -24
   250: call map_lookup_elem#1
   251: if r0 != 0 goto +49
        ; new row
   252: *(u64 *)(r10 -8) = 0
   253: r1 = map[2] ll
   255: r2 = r10
   256: r2 += -8
   257: call map_lookup_elem#1
   258: if r0 == 0 goto +45
   259: r3 = r0
   260: r1 = map[0] ll
   262: r2 = r10
   263: r2 += -24
   264: r4 = 1
   265: call map_update_elem#2
   266: *(u64 *)(r10 -32) = r0
   267: r1 = map[0] ll
   269: r2 = r10
   270: r2 += -24
   271: call map_lookup_elem#1
   272: r1 = *(u64 *)(r10 -32)
   273: if r0 != 0 goto +27
   274: r1 <<= 32
   275: r1 s>>= 32
   276: if r1 == -7 goto +12
   277: r1 = 1
   278: *(u64 *)(r10 -40) = r1
   279: *(u64 *)(r10 -8) = 2
   280: r1 = map[1] ll
   282: r2 = r10
   283: r2 += -8
   284: call map_lookup_elem#1
   285: if r0 == 0 goto +2
   286: r1 = *(u64 *)(r10 -40)
   287: lock *(u64 *)(r0 +0) += r1
   288: goto +15
   289: r1 = 1
   290: *(u64 *)(r10 -40) = r1
   291: *(u64 *)(r10 -8) = 0
   292: r1 = map[1] ll
   294: r2 = r10
   295: r2 += -8
   296: call map_lookup_elem#1
   297: if r0 == 0 goto +2
   298: r1 = *(u64 *)(r10 -40)
   299: lock *(u64 *)(r0 +0) += r1
   300: goto +3
   301: r7 = r0
        ; tapster_samples_total
   302: r1 = 1
   303: lock *(u64 *)(r7 +0) += r1
   304: r0 = 0
   305: exit

