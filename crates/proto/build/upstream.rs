//! Compiles both generations of the upstream API: Rust code, the descriptors with Shoreguard's options, and the table
//! of the strict check.
//!
//! Both generations use the same full names, so each has its own descriptor set and its own folder of code.

use std::fs;
use std::path::Path;

use prost_reflect::prost::Message as _;
use prost_reflect::prost_types::FileDescriptorSet;

use crate::{PROTOS, schema};

/// A generation: its folder under `proto/openshell`, and its files.
const GENERATIONS: [(&str, &[&str]); 2] = [
    ("v0_0", &["datamodel.proto", "sandbox.proto", "openshell.proto", "inference.proto"]),
    ("v0_1", &["datamodel.proto", "sandbox.proto", "openshell.proto"]),
];

/// Writes `openshell_<generation>.bin` and `openshell_<generation>/*.rs` into `out`.
pub(crate) fn compile(out: &Path) {
    for (generation, files) in GENERATIONS {
        let root = format!("{PROTOS}/openshell/{generation}");
        let mut compiler =
            protox::Compiler::new([root.as_str(), PROTOS]).expect("the include roots exist");
        compiler.include_imports(true).include_source_info(true);
        compiler.open_files(files).unwrap_or_else(|error| panic!("{generation}: {error:?}"));

        // prost-types drops extension options, so the descriptors are written before it decodes them.
        let descriptors = compiler.encode_file_descriptor_set();
        fs::write(out.join(format!("openshell_{generation}.bin")), &descriptors)
            .expect("OUT_DIR is writable");
        compiler.include_source_info(false);
        let undocumented = compiler.encode_file_descriptor_set();
        fs::write(out.join(format!("openshell_{generation}_undocumented.bin")), undocumented)
            .expect("OUT_DIR is writable");
        let table = schema::table(&generation.to_uppercase(), &descriptors);
        fs::write(out.join(format!("schema_{generation}.rs")), table).expect("OUT_DIR is writable");

        let mut set = FileDescriptorSet::decode(descriptors.as_slice())
            .expect("protox encodes what prost decodes");
        set.file.retain(|file| {
            !file.package().starts_with("shoreguard.")
                && file.name() != "google/protobuf/descriptor.proto"
        });
        let code = out.join(format!("openshell_{generation}"));
        fs::create_dir_all(&code).expect("OUT_DIR is writable");
        tonic_prost_build::configure()
            .build_client(true)
            .build_server(true)
            // Methods that the simulator does not implement return UNIMPLEMENTED.
            .generate_default_stubs(true)
            // Maps are sorted by key, so that an encoding can be hashed.
            .btree_map(".")
            .bytes(".")
            .out_dir(&code)
            .compile_fds(set)
            .unwrap_or_else(|error| panic!("{generation}: {error}"));
    }
}
