//! The index of a block of Prometheus, version 2: symbols, series in the order of their labels, and for each pair of a label
//! and a value the series that have it. Memory grows with the number of series by four bytes for each label.

use super::chunks::{ChunkChecksum, ChunkSpan, put_uvarint, put_varint};
use std::{
    collections::{BTreeSet, HashMap},
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
};

/// Every label and value that a block has, and every pair of them, by number in order.
pub(crate) struct BlockSymbols {
    texts: Vec<String>,
    pairs: Vec<(u32, u32)>,
    numbers: HashMap<(String, String), u32>,
}

impl BlockSymbols {
    pub(crate) fn new(pairs: BTreeSet<(String, String)>) -> Self {
        let mut texts: BTreeSet<&str> = BTreeSet::from([""]);
        for (name, value) in &pairs {
            texts.insert(name);
            texts.insert(value);
        }
        let texts: Vec<String> = texts.into_iter().map(ToOwned::to_owned).collect();
        let place =
            |text: &String| u32::try_from(texts.binary_search(text).expect("it is among them")).unwrap();
        let ordered = pairs.iter().map(|(name, value)| (place(name), place(value))).collect();
        let numbers = (0..).zip(pairs).map(|(number, pair)| (pair, number)).collect();
        Self { texts, pairs: ordered, numbers }
    }

    /// The number of a pair.
    pub(crate) fn pair(&self, name: &str, value: &str) -> u32 {
        self.numbers[&(name.to_owned(), value.to_owned())]
    }
}

/// Where the sections of the file begin.
#[derive(Default)]
struct IndexSections {
    symbols: u64,
    series: u64,
    postings: u64,
    table: u64,
}

pub(crate) struct IndexFile<'a> {
    file: BufWriter<File>,
    offset: u64,
    symbols: &'a BlockSymbols,
    sections: IndexSections,
    /// For each pair the series that have it.
    postings: Vec<Vec<u32>>,
    all: Vec<u32>,
    last: Vec<u32>,
    pub(crate) chunks: u64,
}

impl<'a> IndexFile<'a> {
    pub(crate) fn create(path: &Path, symbols: &'a BlockSymbols) -> io::Result<Self> {
        let file = BufWriter::with_capacity(1 << 20, File::create(path)?);
        let postings = vec![Vec::new(); symbols.pairs.len()];
        let mut index = Self {
            file,
            offset: 0,
            symbols,
            sections: IndexSections::default(),
            postings,
            all: Vec::new(),
            last: Vec::new(),
            chunks: 0,
        };
        index.write(&[0xba, 0xaa, 0xd7, 0x00, 2])?;
        index.sections.symbols = index.offset;
        let mut body = u32::try_from(symbols.texts.len()).unwrap().to_be_bytes().to_vec();
        for text in &symbols.texts {
            put_uvarint(&mut body, text.len() as u64);
            body.extend(text.as_bytes());
        }
        index.section(&body)?;
        index.align(16)?;
        index.sections.series = index.offset;
        Ok(index)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.offset += bytes.len() as u64;
        self.file.write_all(bytes)
    }

    fn align(&mut self, to: u64) -> io::Result<()> {
        let missing = self.offset.next_multiple_of(to) - self.offset;
        self.write(&[0; 16][..usize::try_from(missing).unwrap()])
    }

    /// Its length before it and its checksum after it.
    fn section(&mut self, body: &[u8]) -> io::Result<()> {
        self.write(&u32::try_from(body.len()).expect("a section has less than 4 GiB").to_be_bytes())?;
        self.write(body)?;
        self.write(&ChunkChecksum::of(body).to_be_bytes())
    }

    /// The next series: its pairs in order of names, and its chunks in order of time.
    pub(crate) fn series(
        &mut self,
        pairs: &[u32],
        chunks: impl Iterator<Item = ChunkSpan>,
    ) -> io::Result<()> {
        assert!(self.last.as_slice() < pairs, "series are out of order");
        self.last.clear();
        self.last.extend(pairs);
        self.align(16)?;
        let reference = u32::try_from(self.offset / 16).expect("an index has at most 64 GiB");
        let mut body = Vec::with_capacity(96);
        put_uvarint(&mut body, pairs.len() as u64);
        for pair in pairs {
            let (name, value) = self.symbols.pairs[*pair as usize];
            put_uvarint(&mut body, name.into());
            put_uvarint(&mut body, value.into());
            self.postings[*pair as usize].push(reference);
        }
        self.all.push(reference);
        let chunks: Vec<ChunkSpan> = chunks.collect();
        self.chunks += chunks.len() as u64;
        put_uvarint(&mut body, chunks.len() as u64);
        let mut before: Option<ChunkSpan> = None;
        for chunk in chunks {
            match before {
                None => {
                    put_varint(&mut body, chunk.first);
                    put_uvarint(&mut body, (chunk.last - chunk.first).cast_unsigned());
                    put_uvarint(&mut body, chunk.reference);
                }
                Some(before) => {
                    assert!(before.last < chunk.first, "chunks are out of order");
                    put_uvarint(&mut body, (chunk.first - before.last).cast_unsigned());
                    put_uvarint(&mut body, (chunk.last - chunk.first).cast_unsigned());
                    put_varint(&mut body, chunk.reference.cast_signed() - before.reference.cast_signed());
                }
            }
            before = Some(chunk);
        }
        let mut length = Vec::new();
        put_uvarint(&mut length, body.len() as u64);
        self.write(&length)?;
        self.write(&body)?;
        self.write(&ChunkChecksum::of(&body).to_be_bytes())
    }

    fn posting(&mut self, list: &[u32]) -> io::Result<u64> {
        self.align(4)?;
        let at = self.offset;
        let mut body = Vec::with_capacity(list.len() * 4 + 4);
        body.extend(u32::try_from(list.len()).unwrap().to_be_bytes());
        for reference in list {
            body.extend(reference.to_be_bytes());
        }
        self.section(&body)?;
        Ok(at)
    }

    /// Number of series.
    pub(crate) fn finish(mut self) -> io::Result<u64> {
        self.align(4)?;
        self.sections.postings = self.offset;
        let all = std::mem::take(&mut self.all);
        let symbols = self.symbols;
        let mut table = Vec::new();
        let mut entry = |name: &str, value: &str, at: u64| {
            table.push(2);
            put_uvarint(&mut table, name.len() as u64);
            table.extend(name.as_bytes());
            put_uvarint(&mut table, value.len() as u64);
            table.extend(value.as_bytes());
            put_uvarint(&mut table, at);
        };
        entry("", "", self.posting(&all)?);
        let mut entries = 1_u32;
        for (number, list) in std::mem::take(&mut self.postings).into_iter().enumerate() {
            if list.is_empty() {
                continue;
            }
            let (name, value) = symbols.pairs[number];
            let at = self.posting(&list)?;
            entry(&symbols.texts[name as usize], &symbols.texts[value as usize], at);
            entries += 1;
        }
        self.align(4)?;
        self.sections.table = self.offset;
        let mut body = entries.to_be_bytes().to_vec();
        body.extend(table);
        self.section(&body)?;
        // The two sections of label names are read from older versions only.
        let IndexSections { symbols: names, series, postings, table } = self.sections;
        let mut contents = Vec::new();
        for at in [names, series, postings, postings, postings, table] {
            contents.extend(at.to_be_bytes());
        }
        let sum = ChunkChecksum::of(&contents);
        contents.extend(sum.to_be_bytes());
        self.write(&contents)?;
        self.file.flush()?;
        Ok(all.len() as u64)
    }
}
