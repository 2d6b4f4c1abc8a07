//! Compiles Shoreguard's own API: Rust types, services, the descriptor set, the names of the request messages, and
//! the table of the strict check.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

use prost_reflect::DescriptorPool;
use prost_reflect::prost::Message as _;
use prost_reflect::prost_types::FileDescriptorSet;

use crate::{PROTOS, schema};

/// Compiles every file under `proto/shoreguard` into `out`.
pub(crate) fn compile(out: &Path) {
    let mut files: Vec<String> = std::fs::read_dir(Path::new(PROTOS).join("shoreguard/v1"))
        .expect("proto/shoreguard/v1 exists")
        .map(|entry| entry.expect("a readable folder").file_name().into_string().expect("UTF-8"))
        .filter(|name| Path::new(name).extension().is_some_and(|extension| extension == "proto"))
        .map(|name| format!("shoreguard/v1/{name}"))
        .collect();
    files.sort();
    let mut compiler = protox::Compiler::new([PROTOS]).expect("proto is a folder");
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files(&files).unwrap_or_else(|error| panic!("{error:?}"));
    let encoded = compiler.encode_file_descriptor_set();
    std::fs::write(out.join("shoreguard.bin"), &encoded).expect("OUT_DIR is writable");
    compiler.include_source_info(false);
    let undocumented = compiler.encode_file_descriptor_set();
    std::fs::write(out.join("shoreguard_undocumented.bin"), undocumented)
        .expect("OUT_DIR is writable");
    std::fs::write(out.join("requests.rs"), request_table(&encoded)).expect("OUT_DIR is writable");
    std::fs::write(out.join("schema_own.rs"), schema::table("OWN", &encoded))
        .expect("OUT_DIR is writable");
    let mut set =
        FileDescriptorSet::decode(encoded.as_slice()).expect("protox encodes what prost decodes");
    set.file.retain(|file| {
        file.package() != "shoreguard.options.v1"
            && file.name() != "google/protobuf/descriptor.proto"
    });
    let folder = out.join("shoreguard");
    std::fs::create_dir_all(&folder).expect("OUT_DIR is writable");
    tonic_prost_build::configure()
        .out_dir(folder)
        .bytes(".")
        // Checks the text of each request while it is decoded.
        .codec_path("crate::codec::CheckedCodec")
        .compile_fds(set)
        .expect("the protos compile");
}

/// Generates the table `REQUESTS`: the full name of each request message, by its Rust type.
fn request_table(descriptors: &[u8]) -> String {
    let pool = DescriptorPool::decode(descriptors).expect("our own descriptor set");
    let methods = pool.services().flat_map(|service| service.methods().collect::<Vec<_>>());
    let messages: BTreeSet<(String, String)> = methods
        .map(|method| (method.input().name().to_owned(), method.input().full_name().to_owned()))
        .collect();
    let mut rows = String::new();
    for (name, full_name) in messages {
        writeln!(rows, "(TypeId::of::<crate::v1::{name}>, {full_name:?}),")
            .expect("a string takes all");
    }
    format!("static REQUESTS: &[(TypeIdFn, &str)] = &[\n{rows}];\n")
}
