//! Changes WebAssembly binaries section by section, to make plugins that no compiler would make.

/// Ids of sections in core modules (WebAssembly 3.0, section 5.5.2).
pub const TYPE: u8 = 1;
pub const FUNCTION: u8 = 3;
pub const TABLE: u8 = 4;
pub const MEMORY: u8 = 5;
pub const ELEMENT: u8 = 9;
pub const CODE: u8 = 10;

/// Ids of sections in components (component model, Binary.md).
pub const CORE_MODULE: u8 = 1;
pub const CORE_INSTANCE: u8 = 2;
pub const IMPORT: u8 = 10;

/// Encodes a number in LEB128.
pub fn leb(mut number: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let byte = (number & 0x7f) as u8;
        number >>= 7;
        if number == 0 {
            bytes.push(byte);
            return bytes;
        }
        bytes.push(byte | 0x80);
    }
}

fn read_leb(bytes: &[u8]) -> (usize, usize) {
    let len = bytes.iter().take_while(|byte| **byte & 0x80 != 0).count() + 1;
    (bytes[..len].iter().rev().fold(0, |number, byte| number << 7 | usize::from(byte & 0x7f)), len)
}

/// Returns a section of a module or component.
pub fn section(id: u8, content: &[u8]) -> Vec<u8> {
    [&[id], leb(content.len() as u32).as_slice(), content].concat()
}

/// Returns a vector: the number of items and the items.
pub fn vector(items: &[&[u8]]) -> Vec<u8> {
    [leb(items.len() as u32), items.concat()].concat()
}

/// Returns the id and the content of each section in a module or component.
fn sections(binary: &[u8]) -> Vec<(u8, &[u8])> {
    let mut sections = Vec::new();
    let mut at = 8;
    while at < binary.len() {
        let (len, digits) = read_leb(&binary[at + 1..]);
        let from = at + 1 + digits;
        sections.push((binary[at], &binary[from..from + len]));
        at = from + len;
    }
    sections
}

/// Returns the binary with the content of one section replaced.
pub fn replaced(binary: &[u8], id: u8, content: &[u8]) -> Vec<u8> {
    assert!(sections(binary).iter().any(|(known, _)| *known == id), "there is no section {id}");
    let parts =
        sections(binary).into_iter().map(|(known, old)| section(known, if known == id { content } else { old }));
    [binary[..8].to_vec(), parts.collect::<Vec<_>>().concat()].concat()
}

/// Returns the component with a section added at its end.
pub fn appended(component: &[u8], id: u8, content: &[u8]) -> Vec<u8> {
    [component, &section(id, content)].concat()
}

/// Returns the number of core modules that a component defines.
pub fn core_modules(component: &[u8]) -> u32 {
    sections(component).iter().filter(|(id, _)| *id == CORE_MODULE).count() as u32
}

/// Returns a core module with these sections.
pub fn core_module(sections: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let parts = sections.iter().map(|(id, content)| section(*id, content));
    [b"\0asm\x01\0\0\0".to_vec(), parts.collect::<Vec<_>>().concat()].concat()
}
