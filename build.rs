//! Compiles the protos with no protoc on the machine, and turns each rpc's option into code.

#[path = "build/policy.rs"]
mod policy;
#[path = "build/protos.rs"]
mod protos;
#[path = "build/upstream.rs"]
mod upstream;

use std::path::PathBuf;

fn main() {
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=build");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let ours = protos::compile(&out);
    let [v0_0, v0_1] = upstream::compile(&out);
    policy::write_methods(&ours, &out.join("methods.rs"));
    policy::write_upstream(&v0_0, "UPSTREAM_V0_0", &out.join("upstream_v0_0.rs"));
    policy::write_upstream(&v0_1, "UPSTREAM_V0_1", &out.join("upstream_v0_1.rs"));
}
