//! Generates the code of the wire.

use std::env;
use std::path::PathBuf;

#[path = "build/upstream.rs"]
mod upstream;

fn main() {
    println!("cargo::rerun-if-changed=build");
    println!("cargo::rerun-if-changed=proto/shoreguard/options");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    upstream::compile(&out);
}
