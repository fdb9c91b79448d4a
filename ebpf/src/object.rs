//! Writes a program as an ELF object for eBPF, which loaders, `llvm-objdump` and `bpftool` read.

use crate::{
    point::ProgramSection,
    program::{Code, Program},
};
use object::{
    Architecture, BinaryFormat, Endianness, RelocationFlags, SectionKind, SymbolFlags, SymbolKind,
    SymbolScope, elf,
    write::{Object, Relocation, Symbol, SymbolSection},
};

/// The licence of programs: helpers such as `bpf_probe_read_kernel` require a GPL-compatible one.
const LICENSE: &[u8] = b"Dual MIT/GPL\0";

/// The reason why an object could not be written.
#[derive(Debug, thiserror::Error)]
#[error("the object could not be written: {0}")]
pub struct ObjectError(#[from] object::write::Error);

/// The section that tells a loader the kind of a program and its attach point.
pub fn section_name(code: &Code) -> String {
    match code.mechanism.section {
        ProgramSection::Plain(name) => name.into(),
        ProgramSection::Named(kind) => format!("{kind}/{}", code.at.name()),
        ProgramSection::Full(kind) => format!("{kind}/{}", code.at.parts().join("/")),
    }
}

#[expect(clippy::missing_panics_doc, reason = "that would be a bug here")]
/// Writes the object. Maps are in a section `maps` of `struct bpf_map_def`; programs refer to them by relocations.
pub fn write(program: &Program) -> Result<Vec<u8>, ObjectError> {
    let mut object = Object::new(BinaryFormat::Elf, Architecture::Bpf, Endianness::Little);
    let license = object.add_section(Vec::new(), b"license".to_vec(), SectionKind::Data);
    object.append_section_data(license, LICENSE, 1);
    let section = object.add_section(Vec::new(), b"maps".to_vec(), SectionKind::Data);
    let mut maps = Vec::new();
    for map in &program.maps {
        // type, key_size, value_size, max_entries, map_flags: all of them 32 bits.
        let words = [map.kind.number(), map.key_size, map.value_size, map.max_entries, map.kind.flags()];
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let offset = object.append_section_data(section, &bytes, 4);
        maps.push(object.add_symbol(Symbol {
            name: map.name.as_bytes().to_vec(),
            value: offset,
            size: 20,
            kind: SymbolKind::Data,
            scope: SymbolScope::Dynamic,
            weak: false,
            section: SymbolSection::Section(section),
            flags: SymbolFlags::None,
        }));
    }
    for code in &program.codes {
        let section = object.add_section(Vec::new(), section_name(code).into_bytes(), SectionKind::Text);
        let mut slots = Vec::new();
        let mut uses = Vec::new();
        for insn in &code.assembled.insns {
            if let crate::insn::Insn::Map(_, map) = insn {
                uses.push((slots.len(), *map));
            }
            insn.encode(&mut slots);
        }
        let bytes: Vec<u8> = slots.concat();
        let offset = object.append_section_data(section, &bytes, 8);
        object.add_symbol(Symbol {
            name: code.name.as_bytes().to_vec(),
            value: offset,
            size: u64::try_from(bytes.len()).expect("64 bits hold any length"),
            kind: SymbolKind::Text,
            scope: SymbolScope::Dynamic,
            weak: false,
            section: SymbolSection::Section(section),
            flags: SymbolFlags::None,
        });
        for (slot, map) in uses {
            let symbol = maps[usize::try_from(map).expect("programs name maps that there are")];
            let offset = offset + u64::try_from(slot * 8).expect("64 bits hold any length");
            let flags = RelocationFlags::Elf { r_type: elf::R_BPF_64_64 };
            object.add_relocation(section, Relocation { offset, symbol, addend: 0, flags })?;
        }
    }
    Ok(object.write()?)
}
