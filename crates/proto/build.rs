//! Compiles the protos without protoc.

#[path = "build/own.rs"]
mod own;
#[path = "build/schema.rs"]
mod schema;
#[path = "build/upstream.rs"]
mod upstream;

use std::path::PathBuf;

/// The folder of the protos, relative to this crate.
const PROTOS: &str = "../../proto";

fn main() {
    println!("cargo::rerun-if-changed={PROTOS}");
    println!("cargo::rerun-if-changed=build");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    own::compile(&out);
    upstream::compile(&out);
    println!("cargo::metadata=out={}", out.display());
}
