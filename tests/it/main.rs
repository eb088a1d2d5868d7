//! The tests of the whole program: they start the real executable in a temporary home and talk to its real socket.
//!
//! One test program for all, because each would link everything again. ARCHITECTURE.md lists which file has what.

mod account;
mod account_blind;
mod account_contract;
mod account_crash;
mod account_join;
mod account_old;
mod account_server;
mod account_strain;
mod account_trouble;
mod account_usage;
mod adopt;
mod adopt_action;
mod adopt_hostile;
mod adopt_trunk;
mod architecture;
mod audit;
mod browser;
mod builtin_plugins;
mod canaries;
mod clients;
mod cmd;
mod configuration;
mod console;
mod consumers_dotenv;
mod consumers_http;
mod consumers_mcp;
mod consumers_readers;
mod consumers_sip;
mod contract;
mod crash;
mod daemon;
mod damage;
mod demo;
mod events;
mod faults;
mod feature_docs;
mod files;
mod fuzz_corpus;
mod hostile;
mod keys_in_memory;
mod leaks;
mod lifecycle;
mod limits;
mod missing;
mod newcomer;
mod permissions;
mod planner;
mod plugin_add;
mod plugin_check;
mod plugin_declarative;
mod plugin_dev;
mod plugin_new;
mod plugin_replace;
mod plugin_sample;
mod plugin_share;
mod plugin_stand_in;
mod plugin_sync;
mod plugin_test;
mod plugin_types;
mod plugin_versions;
mod promises;
mod prompt;
mod redacted;
mod rekey;
mod secret_files;
mod socket;
mod start;
mod stories;
mod support;
mod taken_over;
mod template_files;
mod template_targets;
mod unwritable;
mod usage;

/// A file without a line above would never run.
#[test]
fn no_file_is_forgotten() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it");
    let modules: Vec<&str> = include_str!("main.rs").lines().filter_map(|line| line.strip_prefix("mod ")).collect();
    let mut files: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "main.rs")
        .map(|name| format!("{};", name.strip_suffix(".rs").unwrap_or(&name)))
        .collect();
    files.sort();
    assert_eq!(modules, files);
}
