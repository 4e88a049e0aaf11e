//! Holds the table of settings in docs/OPERATIONS.md against the table in the code. `UPDATE_DOCS=1` rewrites it.

#![allow(missing_docs, reason = "a test")]

use trough_config::keys::KEYS;

const BEGIN: &str = "<!-- settings: begin -->\n";
const END: &str = "<!-- settings: end -->\n";

#[test]
fn operations_lists_every_setting() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../docs/OPERATIONS.md");
    let text = std::fs::read_to_string(path).expect("docs/OPERATIONS.md exists");
    let (before, rest) = text.split_once(BEGIN).expect("begin marker");
    let (_, after) = rest.split_once(END).expect("end marker");
    let cell = |s: &str| s.replace('|', "\\|");
    let table: String = KEYS
        .iter()
        .map(|k| match k.default {
            "" => format!("| {} | | {} |\n", k.name, cell(k.doc)),
            default => format!("| {} | `{}` | {} |\n", k.name, cell(default), cell(k.doc)),
        })
        .collect();
    let wanted = format!("{before}{BEGIN}| setting | default | meaning |\n|---|---|---|\n{table}{END}{after}");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &wanted).expect("docs/OPERATIONS.md is writable");
    }
    assert!(
        text == wanted || std::env::var_os("UPDATE_DOCS").is_some(),
        "docs/OPERATIONS.md is stale: run with UPDATE_DOCS=1"
    );
}
