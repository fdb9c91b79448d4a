//! Files in an archive of tar, POSIX (ustar) and GNU: names and bytes of plain files, nothing else.

use super::packed::FileRefusal;

const BLOCK: usize = 512;
/// Most files of an archive.
const FILES: usize = 10_000;

/// Whether bytes begin like an archive.
pub(super) fn is_one(bytes: &[u8]) -> bool {
    bytes.get(257..262) == Some(b"ustar")
}

fn text(field: &[u8]) -> String {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    String::from_utf8_lossy(&field[..end]).into_owned()
}

/// The plain files of an archive.
pub(super) fn files(archive: &[u8]) -> Result<Vec<(String, &[u8])>, FileRefusal> {
    let damaged = || (String::from("the archive is not whole"), None);
    let (mut files, mut rest, mut long) = (Vec::new(), archive, None);
    // Two blocks of zeros are the end; some archives have none.
    while let Some((header, behind)) = rest.split_at_checked(BLOCK) {
        if header.iter().all(|byte| *byte == 0) {
            break;
        }
        if !is_one(header) {
            return Err(damaged());
        }
        let size = text(&header[124..136]);
        let size = usize::from_str_radix(size.trim(), 8).map_err(|_| damaged())?;
        let content = behind.get(..size).ok_or_else(damaged)?;
        let name = match (long.take(), text(&header[345..500])) {
            (Some(name), _) => name,
            (None, directory) if directory.is_empty() || header[257..265] != *b"ustar\x0000" => {
                text(&header[..100])
            }
            (None, directory) => format!("{directory}/{}", text(&header[..100])),
        };
        match header[156] {
            b'0' | 0 => files.push((name, content)),
            // GNU's long names, for the next file.
            b'L' => long = Some(text(content)),
            _ => {}
        }
        if files.len() > FILES {
            return Err((format!("there are more than {FILES} files in the archive"), None));
        }
        // The last one may lack what fills its block.
        rest = behind.get(size.next_multiple_of(BLOCK)..).unwrap_or_default();
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &[u8], kind: u8, content: &[u8]) -> Vec<u8> {
        let mut header = [0; BLOCK];
        header[..name.len()].copy_from_slice(name);
        header[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
        header[156] = kind;
        header[257..265].copy_from_slice(b"ustar\x0000");
        let mut bytes = header.to_vec();
        bytes.extend(content);
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        bytes
    }

    #[test]
    fn plain_files_are_found_and_no_length_is_believed() {
        let archive = [
            entry(b"a/", b'5', b""),
            entry(b"a/one", b'0', b"1"),
            entry(b"", b'L', &[b'n'; 300]),
            entry(b"cut", b'0', &[2; BLOCK]),
            vec![0; 2 * BLOCK],
        ]
        .concat();
        let found = files(&archive).unwrap();
        assert_eq!(found[0], (String::from("a/one"), b"1".as_slice()));
        assert_eq!((found[1].0.len(), found[1].1), (300, &[2; BLOCK][..]));
        assert_eq!(found.len(), 2);
        // Cut anywhere, it gives less or an error.
        for length in 0..archive.len() {
            let _ = files(&archive[..length]).map(|found| assert!(found.len() <= 2));
        }
        let mut huge = entry(b"x", b'0', b"1");
        huge[124..135].copy_from_slice(b"77777777777");
        assert!(files(&huge).is_err());
    }
}
