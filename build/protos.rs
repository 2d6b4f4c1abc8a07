//! Our own API: Rust types, the services, and the descriptor set that reflection and the method table need.

use std::path::Path;

use prost_reflect::prost::Message as _;
use prost_reflect::prost_types::FileDescriptorSet;

/// Compiles every file under proto/shoreguard and returns the encoded descriptor set.
pub(crate) fn compile(out: &Path) -> Vec<u8> {
    let mut files: Vec<String> = std::fs::read_dir("proto/shoreguard/v1")
        .expect("proto/shoreguard/v1 exists")
        .map(|entry| entry.expect("a readable folder").file_name().into_string().expect("UTF-8"))
        .filter(|name| Path::new(name).extension().is_some_and(|extension| extension == "proto"))
        .map(|name| format!("shoreguard/v1/{name}"))
        .collect();
    files.sort();
    let mut compiler = protox::Compiler::new(["proto"]).expect("proto is a folder");
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files(&files).unwrap_or_else(|error| panic!("{error:?}"));
    let encoded = compiler.encode_file_descriptor_set();
    std::fs::write(out.join("shoreguard.bin"), &encoded).expect("OUT_DIR is writable");
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
        // Judges the text of each request as it is decoded.
        .codec_path("crate::transport::codec::Checked")
        .compile_fds(set)
        .expect("the protos compile");
    encoded
}
