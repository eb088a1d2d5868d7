//! What strangers write about plugins: a package in a component, and an index. Either is what was written, within its
//! limits, or refused.

use guillemet_plugin::index::PluginIndex;
use guillemet_plugin::location::{digest, https_url};
use guillemet_plugin::package;

/// A component with nothing in it.
const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

/// The first byte selects how the others are read.
pub fn holds(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else { return };
    match kind % 3 {
        0 => component(rest),
        1 => component(&with_section(rest)),
        _ => index(rest),
    }
}

/// Returns a component whose package has this content.
fn with_section(content: &[u8]) -> Vec<u8> {
    let name = package::SECTION.as_bytes();
    let len = 1 + name.len() + content.len();
    let mut component = COMPONENT.to_vec();
    component.push(0);
    // In LEB128, at its longest.
    component.extend((0..5).map(|at| (len >> (7 * at)) as u8 & 0x7f | if at < 4 { 0x80 } else { 0 }));
    component.push(u8::try_from(name.len()).unwrap());
    component.extend([name, content].concat());
    component
}

/// Checks that a package is within its limits, and read as it is written.
fn component(bytes: &[u8]) {
    let contract = package::contract(bytes);
    assert!(contract.is_none_or(|version| !version.contains(char::is_control)));
    let Ok(Some(found)) = package::read(bytes) else { return };
    let texts = [&found.author, &found.license, &found.homepage];
    assert!(texts.into_iter().flatten().all(|text| text.chars().count() <= 200));
    assert!(found.changelog.as_ref().is_none_or(|text| text.len() <= 16 << 10));
    assert!(found.cases.values().map(String::len).sum::<usize>() <= 1 << 20);
    // A name can lead nowhere but into the folder that it is shown in.
    assert!(found.cases.keys().all(|name| !name.contains(['/', '\\', '\0']) && !name.starts_with('.')));
    // What has characters that nobody should share is not written, and all else comes back.
    if let Ok(pack) = package::write(COMPONENT, &found) {
        assert_eq!(package::read(&pack).unwrap(), Some(found));
    }
}

/// Checks that each entry names one https URL and one digest, and that an index is read as it is written.
fn index(bytes: &[u8]) {
    let Ok(index) = PluginIndex::parse(bytes) else { return };
    for entry in &index.plugins {
        assert!(https_url(&entry.url).is_some());
        assert_eq!(digest(&entry.sha256).as_deref(), Some(entry.sha256.as_str()));
        assert!(!entry.feature.contains(['/', ' ', '\n']) && !entry.version.contains(char::is_control));
        let newest = index.newest(&entry.feature).unwrap();
        assert_eq!(newest.feature, entry.feature);
    }
    let written = serde_json::to_vec(&index).unwrap();
    assert_eq!(known(PluginIndex::parse(&written).unwrap()), known(index));
}

/// Leaves out what else is in an index: the parser of JSON reads a decimal number with rounding.
fn known(mut index: PluginIndex) -> PluginIndex {
    index.more.clear();
    index.plugins.iter_mut().for_each(|entry| entry.more.clear());
    index
}
