//! Hides addresses of the kernel in texts that others read: the verifier's log contains those of maps and functions.

/// The lowest address of the kernel, on every 64-bit processor.
const KERNEL: u64 = 0xffff << 48;
/// Nothing of the kernel is from here on: these values are small negative numbers.
const NUMBERS: u64 = u64::MAX - 0xff_ffff;
/// The replacement for an address.
const HIDDEN: &str = "[address]";

/// Replaces every address of the kernel in a text: hexadecimal with `0x` before it or without, decimal as in the verifier's
/// bounds of a value.
pub fn hidden(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(|character: char| character.is_ascii_alphanumeric()) {
        let (before, word) = rest.split_at(start);
        let end = word.find(|character: char| !character.is_ascii_alphanumeric()).unwrap_or(word.len());
        let (word, after) = word.split_at(end);
        shown.push_str(before);
        if is_address(word, before.ends_with('-')) {
            shown.push_str(HIDDEN);
        } else {
            shown.push_str(word);
        }
        rest = after;
    }
    shown.push_str(rest);
    shown
}

fn is_address(word: &str, is_negative: bool) -> bool {
    let digits = word.strip_prefix("0x").unwrap_or(word);
    let hexadecimal = (digits.len() == 16).then(|| u64::from_str_radix(digits, 16).ok()).flatten();
    let decimal =
        || word.parse::<u64>().ok().map(|number| if is_negative { number.wrapping_neg() } else { number });
    hexadecimal.or_else(decimal).is_some_and(|number| (KERNEL..NUMBERS).contains(&number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_hidden_and_numbers_are_not() {
        for (text, expected) in [
            ("18: (18) r1 = 0xffff888103a4c000", "18: (18) r1 = [address]"),
            ("R1=map_ptr(ks=8,imm=ffff888103a4c000)", "R1=map_ptr(ks=8,imm=[address])"),
            ("R2_w=scalar(smin=-131391639437312)", "R2_w=scalar(smin=-[address])"),
            ("r2 = 18446612682070114304", "r2 = [address]"),
            ("_text at ffffffff81000000, end", "_text at [address], end"),
            ("*(u64 *)(r10 -16) = r0", "*(u64 *)(r10 -16) = r0"),
            (
                "umax=18446744073709551615,smin=-9223372036854775808",
                "umax=18446744073709551615,smin=-9223372036854775808",
            ),
            ("r1 &= 0xfffffffffffffff8; umax=0xffffffff", "r1 &= 0xfffffffffffffff8; umax=0xffffffff"),
            ("0x1234 deadbeef ÄÖ 0123456789abcdef", "0x1234 deadbeef ÄÖ 0123456789abcdef"),
            ("", ""),
        ] {
            assert_eq!(hidden(text), expected);
        }
    }
}
