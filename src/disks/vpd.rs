//! Pages of vital product data, as SCSI disks give them: SPC-6 7.7, SAT-6, ACS-5 for words of ATA.

/// Bytes before the contents of a page.
const HEADER: usize = 4;
/// Where the identification of an ATA disk begins in its page.
const ATA_IDENTITY: usize = 60;
const ATA_WORDS: usize = 256;

/// The contents of a page with this number, within its own length.
fn contents(page: &[u8], number: u8) -> Option<&[u8]> {
    let [_, code, high, low, rest @ ..] = page else { return None };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    (*code == number).then(|| &rest[..length.min(rest.len())])
}

/// The serial number, from page 80.
pub(super) fn serial(page: &[u8]) -> Option<&[u8]> {
    contents(page, 0x80)
}

/// The name of the disk, not that of a port, from page 83: `0x5000c500a1b2c3d4`. Of several the longest.
pub(super) fn wwn(page: &[u8]) -> Option<String> {
    const EUI: u8 = 2;
    const NAA: u8 = 3;
    /// Bits that say what a name is of: 0 for the disk.
    const ASSOCIATION: u8 = 0x30;
    let mut rest = contents(page, 0x83)?;
    let mut best: Option<(u8, &[u8])> = None;
    while let [code, kind, _, length, behind @ ..] = rest {
        let (name, next) = behind.split_at_checked(usize::from(*length))?;
        let (is_binary, is_of_disk, kind) = (code & 0xf == 1, kind & ASSOCIATION == 0, kind & 0xf);
        let is_better = best.is_none_or(|(other, known)| (kind, name.len()) > (other, known.len()));
        if is_binary && is_of_disk && matches!(kind, EUI | NAA) && !name.is_empty() && is_better {
            best = Some((kind, name));
        }
        rest = next;
    }
    best.map(|(_, name)| hexadecimal(name))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold("0x".to_owned(), |text, byte| text + &format!("{byte:02x}"))
}

/// What an ATA disk says of itself. A SCSI inquiry has room for the first 16 characters of its model.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ata {
    pub(super) model: Vec<u8>,
    pub(super) serial: Vec<u8>,
    pub(super) revision: Vec<u8>,
    pub(super) wwn: Option<String>,
}

/// From page 89, since Linux 5.5.
pub(super) fn ata(page: &[u8]) -> Option<Ata> {
    let identity = contents(page, 0x89)?.get(ATA_IDENTITY - HEADER..)?.get(..2 * ATA_WORDS)?;
    // Texts have the first of two characters in the upper half of a word.
    let text = |words: std::ops::Range<usize>| -> Vec<u8> {
        let bytes = &identity[2 * words.start..2 * words.end];
        bytes.chunks_exact(2).flat_map(|word| [word[1], word[0]]).collect()
    };
    let name = text(108..112);
    // A name of the IEEE, the only one that ATA knows, begins with a 5.
    let wwn = (name[0] >> 4 == 5).then(|| hexadecimal(&name));
    Some(Ata { model: text(27..47), serial: text(10..20), revision: text(23..27), wwn })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A page of a number with these contents.
    pub(in crate::disks) fn page(number: u8, contents: &[u8]) -> Vec<u8> {
        let length = u16::try_from(contents.len()).unwrap().to_be_bytes();
        [&[0, number], &length[..], contents].concat()
    }

    #[test]
    fn serial_numbers() {
        assert_eq!(serial(&page(0x80, b" Z1Z0 ")), Some(&b" Z1Z0 "[..]));
        assert_eq!(serial(&page(0x83, b"Z1Z0")), None, "another page");
        assert_eq!(serial(&[0, 0x80, 0, 200, b'x']), Some(&b"x"[..]), "shorter than it says");
        for page in [&[][..], &[0, 0x80, 0]] {
            assert_eq!(serial(page), None);
        }
    }

    #[test]
    fn names_of_disks() {
        let designator =
            |code, kind, name: &[u8]| [&[code, kind, 0, u8::try_from(name.len()).unwrap()], name].concat();
        let disk = designator(1, 3, &[0x50, 0, 0xc5, 0, 1, 2, 3, 4]);
        let port = designator(1, 0x13, &[0x50, 0, 0xc5, 0, 1, 2, 3, 9]);
        let text = designator(2, 1, b"ATA     ST4000");
        let eui = designator(1, 2, &[0, 0x25, 0x38, 0x5b, 1, 2, 3, 4]);
        let long = designator(1, 3, &[0x60; 16]);
        for (parts, expected) in [
            (&[&text, &port, &disk, &eui][..], Some("0x5000c50001020304".to_owned())),
            (&[&eui, &text], Some("0x0025385b01020304".to_owned())),
            (&[&disk, &long], Some(format!("0x{}", "60".repeat(16)))),
            (&[&text, &port], None),
            (&[], None),
        ] {
            let contents: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
            assert_eq!(wwn(&page(0x83, &contents)), expected);
        }
        assert_eq!(wwn(&page(0x83, &[1, 3, 0, 8, 0x50])), None, "it ends in the middle of a name");
    }

    #[test]
    fn ata_disks() {
        let mut contents = vec![0_u8; ATA_IDENTITY - HEADER + 2 * ATA_WORDS];
        let mut put = |word: usize, text: &[u8]| {
            for (place, pair) in text.chunks(2).enumerate() {
                let at = ATA_IDENTITY - HEADER + 2 * (word + place);
                contents[at] = pair[1];
                contents[at + 1] = pair[0];
            }
        };
        put(27, format!("{:40}", "Samsung SSD 860 EVO 1TB").as_bytes());
        put(10, format!("{:20}", "S3Z9NB0K123456X").as_bytes());
        put(23, b"RVT04B6Q");
        put(108, &[0x50, 0x02, 0x53, 0x8e, 0x40, 1, 2, 3]);
        let found = ata(&page(0x89, &contents)).unwrap();
        assert_eq!(found.model.trim_ascii(), b"Samsung SSD 860 EVO 1TB");
        assert_eq!(found.serial.trim_ascii(), b"S3Z9NB0K123456X");
        assert_eq!(found.revision, b"RVT04B6Q");
        assert_eq!(found.wwn.as_deref(), Some("0x5002538e40010203"));
        assert_eq!(ata(&page(0x89, &contents[1..])), None, "too short");
        contents[ATA_IDENTITY - HEADER + 217] = 0;
        assert_eq!(ata(&page(0x89, &contents)).unwrap().wwn, None);
    }
}
