//! The section `.note.stapsdt`: one note for each location of a probe.

/// Type of a note about a probe.
const STAPSDT: u32 = 3;
/// Owner of such notes, with its NUL.
const OWNER: &[u8] = b"stapsdt\0";

/// Most notes of a file, and longest text of one, bytes; the largest programs have some 2000 notes of 100 bytes.
const MOST: usize = 1 << 13;
const LONGEST: usize = 4096;

/// The contents of a note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Address of the instruction.
    pub address: u64,
    /// Address of the section `.stapsdt.base` when the note was written. If the section is elsewhere now, all addresses have
    /// moved by the difference (`prelink`).
    pub base: u64,
    /// Address of the semaphore; 0 for none.
    pub semaphore: u64,
    /// The provider of the probe.
    pub provider: String,
    /// Its name.
    pub name: String,
    /// Its arguments, as the assembler writes operands.
    pub arguments: String,
}

/// The reason why a section of notes cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// A note is longer than the section.
    #[error("the note at byte {0} ends behind its section")]
    Truncated(usize),
    /// A note contains something else than three addresses and three texts.
    #[error("the note at byte {0} is not made of three addresses and three texts")]
    Form(usize),
    /// There are more notes than any program has.
    #[error("there are more than {0} notes")]
    TooMany(usize),
}

/// Parses the notes of a 64-bit little-endian file; notes of other owners and types are ignored.
pub fn notes(section: &[u8]) -> Result<Vec<Note>, NoteError> {
    let mut found = Vec::new();
    let mut at = 0;
    // A few bytes at the end are what aligns the section.
    while section.len() - at >= 12 {
        let truncated = NoteError::Truncated(at);
        let word = |offset: usize| {
            let bytes = section.get(at + offset..at + offset + 4).and_then(|bytes| bytes.try_into().ok());
            let word = bytes.map(u32::from_le_bytes).ok_or(truncated)?;
            Ok::<_, NoteError>((word, usize::try_from(word).map_err(|_| truncated)?))
        };
        let ((_, name_size), (_, size), (kind, _)) = (word(0)?, word(4)?, word(8)?);
        let part = |from: usize, length: usize| {
            let to = from.checked_add(length).ok_or(truncated)?;
            Ok::<_, NoteError>((section.get(from..to).ok_or(truncated)?, to))
        };
        let (owner, end) = part(at + 12, name_size)?;
        let (body, end) = part(end.next_multiple_of(4), size)?;
        if kind == STAPSDT && owner == OWNER {
            if found.len() >= MOST {
                return Err(NoteError::TooMany(MOST));
            }
            found.push(note(body).ok_or(NoteError::Form(at))?);
        }
        at = end.next_multiple_of(4).min(section.len());
    }
    Ok(found)
}

/// Parses the contents of a note.
fn note(body: &[u8]) -> Option<Note> {
    let (words, texts) = body.split_at_checked(24)?;
    let word = |index: usize| {
        words.get(index * 8..index * 8 + 8).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes)
    };
    let mut texts = texts.split(|byte| *byte == 0);
    let mut text = || texts.next().map(|text| String::from_utf8_lossy(text).into_owned());
    let (provider, name, arguments) = (text()?, text()?, text()?);
    // The last text ends with a NUL as well, behind which `split` finds one more.
    texts.next()?;
    let is_long = [&provider, &name, &arguments].iter().any(|text| text.len() > LONGEST);
    if provider.is_empty() || name.is_empty() || is_long {
        return None;
    }
    Some(Note { address: word(0)?, base: word(1)?, semaphore: word(2)?, provider, name, arguments })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(owner: &[u8], kind: u32, body: &[u8]) -> Vec<u8> {
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap();
        let mut note: Vec<u8> =
            [length(owner), length(body), kind].into_iter().flat_map(u32::to_le_bytes).collect();
        for part in [owner, body] {
            note.extend(part);
            note.resize(note.len().next_multiple_of(4), 0);
        }
        note
    }

    fn body(words: [u64; 3], texts: &str) -> Vec<u8> {
        words.into_iter().flat_map(u64::to_le_bytes).chain(texts.bytes()).collect()
    }

    #[test]
    fn notes_are_read_among_others() {
        let mut section = bytes(b"GNU\0", 3, b"\x01\x02\x03\x04\x05");
        let texts = "postgresql\0query__start\x008@%rbx\0";
        section.extend(bytes(OWNER, STAPSDT, &body([0x1000, 0x2000, 0x3000], texts)));
        section.extend(bytes(OWNER, 4, b"of another kind"));
        section.extend(bytes(OWNER, STAPSDT, &body([1, 2, 0], "libc\0setjmp\0\0")));
        section.extend([0, 0]);
        let found = notes(&section).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(
            found[0],
            Note {
                address: 0x1000,
                base: 0x2000,
                semaphore: 0x3000,
                provider: "postgresql".into(),
                name: "query__start".into(),
                arguments: "8@%rbx".into(),
            }
        );
        assert_eq!((found[1].name.as_str(), found[1].arguments.as_str()), ("setjmp", ""));
        assert_eq!(notes(&[]), Ok(Vec::new()));
    }

    #[test]
    fn damaged_notes_are_refused() {
        let whole = bytes(OWNER, STAPSDT, &body([1, 2, 3], "a\0b\0c\0"));
        assert_eq!(notes(&whole).unwrap().len(), 1);
        for length in 12..whole.len() - 2 {
            assert_eq!(notes(&whole[..length]), Err(NoteError::Truncated(0)), "{length} bytes");
        }
        let mut huge = whole.clone();
        huge[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(notes(&huge), Err(NoteError::Truncated(0)));
        for texts in ["", "a", "a\0", "a\0b", "a\0b\0", "a\0b\0c", "\0b\0c\0", "a\0\0c\0"] {
            let note = bytes(OWNER, STAPSDT, &body([1, 2, 3], texts));
            assert_eq!(notes(&note), Err(NoteError::Form(0)), "{texts:?}");
        }
        let long = bytes(OWNER, STAPSDT, &body([1, 2, 3], &format!("a\0b\0{}\0", "c".repeat(LONGEST + 1))));
        assert_eq!(notes(&long), Err(NoteError::Form(0)));
        let whole = bytes(OWNER, STAPSDT, &body([1, 2, 3], "a\0b\0c\0"));
        assert_eq!(notes(&whole.repeat(MOST)).unwrap().len(), MOST);
        assert_eq!(notes(&whole.repeat(MOST + 1)), Err(NoteError::TooMany(MOST)));
        assert_eq!(notes(&bytes(OWNER, STAPSDT, b"short")), Err(NoteError::Form(0)));
    }
}
