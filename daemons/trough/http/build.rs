//! Notes which compiler builds, for `trough_build_info`.

#![allow(missing_docs, reason = "a build script")]

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-env-changed=TROUGH_BUILD_COMMIT");
    println!("cargo::rerun-if-changed=build.rs");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("--version").output();
    let text = output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
    println!("cargo::rustc-env=TROUGH_RUSTC={}", text.split(' ').nth(1).unwrap_or("unknown"));
}
