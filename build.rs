//! Generates the method tables from the options of each RPC.

#[path = "build/actions.rs"]
mod actions;
#[path = "build/policy.rs"]
mod policy;

use std::path::PathBuf;

fn main() {
    println!("cargo::rerun-if-changed=build");
    // The migrations are embedded by a macro, of whose folder cargo does not know.
    println!("cargo::rerun-if-changed=migrations");
    check_sqlite_flags();
    let folder =
        |name: &str| PathBuf::from(std::env::var_os(name).unwrap_or_else(|| panic!("no {name}")));
    // Directory to which the build of `crates/proto` wrote the descriptor sets.
    let protos = folder("DEP_SHOREGUARD_PROTO_OUT");
    println!("cargo::rerun-if-changed={}", protos.display());
    let out = folder("OUT_DIR");
    let read =
        |name: &str| std::fs::read(protos.join(name)).expect("the build of the protos wrote it");
    let mut actions = actions::Actions::default();
    policy::write_methods(&read("shoreguard.bin"), &mut actions, &out.join("methods.rs"));
    for generation in ["v0_0", "v0_1"] {
        let table = format!("UPSTREAM_{}", generation.to_uppercase());
        let file = out.join(format!("upstream_{generation}.rs"));
        let descriptors = read(&format!("openshell_{generation}.bin"));
        policy::write_upstream(&descriptors, &mut actions, &table, &file);
    }
    actions.write(&out.join("actions.rs"));
}

/// Warns if SQLite is built without the flags of `.cargo/config.toml`, which Cargo reads only inside the repository.
fn check_sqlite_flags() {
    const FLAGS: [&str; 3] = [
        "-DSQLITE_DEFAULT_MEMSTATUS=0",
        "-DSQLITE_ENABLE_QPSG",
        "-USQLITE_ENABLE_MEMORY_MANAGEMENT",
    ];
    const VARIABLE: &str = "LIBSQLITE3_FLAGS";
    println!("cargo::rerun-if-env-changed={VARIABLE}");
    let set = std::env::var_os(VARIABLE).unwrap_or_default();
    let set = set.to_string_lossy();
    if !FLAGS.iter().all(|flag| set.split_whitespace().any(|set| set == *flag)) {
        let flags = FLAGS.join(" ");
        println!("cargo::warning=SQLite will be slow: build with {VARIABLE}=\"{flags}\"");
    }
}
