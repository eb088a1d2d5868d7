//! Keys and passphrases in the memory of a running daemon are nowhere that another process can read. If the kernel has
//! no such memory, they are only in locked pages, which are in no dump, no swap and no child.

use std::collections::BTreeSet;
use std::fs;

use crate::support::daemon::Guillemet;
use crate::support::strace::{self, Fault};
use guillemet_base::home::Home;
use guillemet_secret::crypto::{self, Key};
use guillemet_testing::canary::{Canary, Scanner};
use guillemet_testing::missing;
use guillemet_vault::keys::UnlockWith;
use guillemet_vault::store::Vault;
use serde_json::json;

const TEMPLATE: &str = "name = 'a'\nurl = 'https://a.example/'\nheaders.Authorization = '<< secret \"token\" >>'\n";

/// Reports whether this process may read another's memory, which takes CAP_SYS_PTRACE. In CI it has to be able to.
fn may_look(pid: u32) -> bool {
    let may = fs::File::open(format!("/proc/{pid}/mem")).is_ok();
    missing::has(may, "CAP_SYS_PTRACE, to read the daemon's memory", "run the tests as root")
}

/// A mapping of a process: its range, its name, and the kernel's flags for it.
struct Mapping {
    range: String,
    of: String,
    flags: BTreeSet<String>,
}

impl Mapping {
    /// Reports whether the mapping is locked, and left out of dumps and children.
    fn is_protected(&self) -> bool {
        ["lo", "dd", "dc"].iter().all(|flag| self.flags.contains(*flag))
    }
}

fn mappings(pid: u32) -> Vec<Mapping> {
    let mut mappings: Vec<Mapping> = Vec::new();
    for line in fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap().lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("VmFlags:") => mappings.last_mut().unwrap().flags = words.map(str::to_owned).collect(),
            Some(range) if range.contains('-') => {
                let of = words.skip(4).collect::<Vec<_>>().join(" ");
                mappings.push(Mapping { range: range.to_owned(), of, flags: BTreeSet::new() });
            }
            _ => {}
        }
    }
    mappings
}

/// Returns every key that the daemon has of this vault with a label, worked out from a copy of its files.
fn keys(
    guillemet: &Guillemet,
    unlock: impl Fn(&Home) -> UnlockWith,
    unlock_key: impl Fn([u8; 16]) -> Key,
) -> Vec<(String, [u8; 32])> {
    let copy = Guillemet::copy(guillemet.dir.path());
    let home = Home::at(copy.dir.path());
    let (vault, _) = Vault::open(&home, unlock(&home)).unwrap();
    let (id, usage) = (vault.vault_id(), vault.subkey("usage"));
    let cache = vault.subkey("plugin-cache");
    drop(vault);
    let database = rusqlite::Connection::open(home.vault_file()).unwrap();
    let (salt, sealed): ([u8; 16], Vec<u8>) =
        database.query_row("SELECT salt, sealed_key FROM meta", [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    let unlock_key = unlock_key(salt);
    let bound = [b"guillemet vault 1\0", &id[..], b"key\0", &[0; 8]].concat();
    let key = crypto::open_key(&unlock_key, &bound, &sealed).unwrap();
    let mut keys = vec![("what unlocks the vault".to_owned(), *unlock_key.expose())];
    for label in ["record", "document", "manifest"] {
        keys.push((format!("key of every {label}"), *key.subkey(label).expose()));
    }
    for label in ["journal", "events", "unknown-names"] {
        keys.push((format!("key of {label}"), *usage.subkey(label).expose()));
    }
    keys.push(("key of compiled forms".into(), *cache.expose()));
    keys.push(("key of usage".into(), *usage.expose()));
    keys.push(("the vault's key".into(), *key.expose()));
    keys
}

/// Makes the daemon use its keys.
fn use_them(guillemet: &Guillemet) {
    guillemet.write("mcp-server/a.toml", TEMPLATE);
    guillemet.add("token", "a value");
    guillemet.add("other", "another value");
    for _ in 0..3 {
        assert_eq!(guillemet.get("/v1/render/mcp-server/a").status, 200);
        assert_eq!(guillemet.post("/v1/resolve", &json!({"secrets": ["token", "other"]})).status, 200);
        assert_eq!(guillemet.post("/v1/resolve", &json!({"secrets": ["token", "nobody-has-this"]})).status, 409);
    }
    guillemet.ask("PATCH", "/v1/secrets/other", &[], br#"{"value": "one more value"}"#);
    assert_eq!(guillemet.ask("DELETE", "/v1/secrets/other", &[], b"").status, 204);
    // This folds the journal.
    assert_eq!(guillemet.get("/v1/usage").status, 200);
    assert_eq!(guillemet.get("/v1/secrets").status, 200);
}

/// Searches all readable memory for keys and a passphrase. They must be nowhere, or with `or_locked`, on kernels
/// without secret memory, only in locked pages.
fn look(guillemet: &Guillemet, keys: &[(String, [u8; 32])], passphrase: &Canary, or_locked: bool) {
    let pid = guillemet.pid();
    let mut scanner = Scanner::new([passphrase]).and("known", guillemet.dir.path().to_str().unwrap());
    for (label, key) in keys {
        scanner = scanner.and_key(label, key);
    }
    let mappings = mappings(pid);
    let (controls, hits): (Vec<String>, Vec<String>) =
        scanner.in_memory(pid).unwrap().into_iter().partition(|hit| hit.starts_with("known "));
    assert!(!controls.is_empty(), "the scan does not find what is there");
    let protected: Vec<&Mapping> = mappings.iter().filter(|mapping| mapping.is_protected()).collect();
    let is_protected = |hit: &&String| protected.iter().any(|mapping| hit.contains(&mapping.range));
    let (locked, leaks): (Vec<&String>, Vec<&String>) = hits.iter().partition(is_protected);
    assert!(leaks.is_empty(), "{} hits:\n{leaks:#?}", leaks.len());
    if or_locked {
        // This proves that the scan finds keys. The key that unlocks the vault is not kept.
        let found: BTreeSet<&str> = locked.iter().filter_map(|hit| hit.split(" (bytes)").next()).collect();
        for label in ["key of every record", "key of every document", "key of every manifest", "key of events"] {
            assert!(found.contains(label), "{label} is not where it should be: {found:?}");
        }
        assert!(!found.contains("what unlocks the vault"), "{found:?}");
    } else {
        assert!(locked.is_empty(), "{locked:#?}");
    }
    // There is a page for each key that is kept, and every such page is protected.
    let pages: Vec<&Mapping> =
        mappings.iter().filter(|mapping| mapping.of.contains("secretmem") || mapping.flags.contains("lo")).collect();
    assert!(pages.len() >= 6, "{} pages for keys", pages.len());
    for page in pages {
        assert!(page.is_protected(), "{} {}: {:?}", page.range, page.of, page.flags);
        assert_eq!(page.of.contains("secretmem"), !or_locked, "{} {}", page.range, page.of);
    }
}

/// Reports whether this kernel has memory that only its own process can see.
fn has_secret_memory(guillemet: &Guillemet) -> bool {
    mappings(guillemet.pid()).iter().any(|mapping| mapping.of.contains("secretmem"))
}

/// Returns the words to put before a program so that it finds no `memfd_secret`, as on kernels before 5.14.
fn without_secret_memory() -> Vec<String> {
    Fault { call: "memfd_secret", what: "error=ENOSYS", at: 1, lasting: true }.before()
}

fn of_key_file(by_way_of: &[String]) {
    let mut guillemet = Guillemet::init();
    guillemet.log_level = "info";
    assert!(guillemet.try_run(by_way_of), "{}", guillemet.log());
    if !may_look(guillemet.pid()) {
        return;
    }
    use_them(&guillemet);
    let text = fs::read_to_string(guillemet.path("vault.key")).unwrap();
    let bytes: [u8; 32] = data_encoding::HEXLOWER.decode(text.trim_end().as_bytes()).unwrap().try_into().unwrap();
    let keys = keys(&guillemet, |home| UnlockWith::KeyFile(home.key_file()), |_| Key::from_bytes(&mut { bytes }));
    let or_locked = !has_secret_memory(&guillemet);
    assert!(by_way_of.is_empty() || or_locked, "the system call was not kept from the daemon");
    look(&guillemet, &keys, &Canary::new("no passphrase", ""), or_locked);
}

#[test]
fn no_key_can_be_read_in_the_daemons_memory() {
    of_key_file(&[]);
}

#[test]
fn without_secret_memory_keys_are_in_locked_pages_alone() {
    if strace::is_there() {
        of_key_file(&without_secret_memory());
    }
}

#[test]
fn neither_a_passphrase_nor_its_key_can_be_read_in_the_daemons_memory() {
    let passphrase = Canary::new("passphrase", "-ü ");
    let file = format!("{}\r\n", passphrase.value);
    let mut guillemet = Guillemet::nowhere();
    guillemet.log_level = "info";
    let init = ["init", "--unlock", "passphrase", "--passphrase-fd", "0"];
    assert!(guillemet.command_with(&init, file.as_bytes()).status.success());
    let (reader, mut writer) = std::io::pipe().unwrap();
    std::io::Write::write_all(&mut writer, file.as_bytes()).unwrap();
    drop(writer);
    assert!(guillemet.try_run_with(&[], &["--passphrase-fd", "0"], reader.into()), "{}", guillemet.log());
    if !may_look(guillemet.pid()) {
        return;
    }
    use_them(&guillemet);
    let cost = crypto::PassphraseCost::default();
    let keys = keys(
        &guillemet,
        |_| UnlockWith::Passphrase(passphrase.value.clone().into()),
        |salt| Key::from_passphrase(&passphrase.value, &salt, cost).unwrap(),
    );
    look(&guillemet, &keys, &passphrase, !has_secret_memory(&guillemet));
}
