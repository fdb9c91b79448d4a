//! Pseudo-random numbers that are the same in every run.

/// The generator `SplitMix64`.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `count`.
    pub fn below(&mut self, count: usize) -> usize {
        usize::try_from(self.word() % u64::try_from(count.max(1)).unwrap()).unwrap()
    }

    /// True once in `count` times.
    pub fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    pub fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }

    /// A 64-bit value, often at a limit of a type.
    pub fn value(&mut self) -> u64 {
        match self.below(4) {
            0 => self.word(),
            1 => self.word() & 0xff,
            2 => {
                let border = 1_u64 << self.below(64);
                border.wrapping_add(self.word() % 3).wrapping_sub(1)
            }
            _ => {
                let border = 1_u64 << self.below(64);
                border.wrapping_neg().wrapping_add(self.word() % 3).wrapping_sub(1)
            }
        }
    }
}
