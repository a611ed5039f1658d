//! gRPC's server reflection (github.com/grpc/grpc, doc/server-reflection.md), so that grpcurl and others need no files.

use super::transport::{Serve, boxed};
use anyhow::{Context, Result};
use tonic_reflection::server::Builder;

/// The services' messages, from `protos/`; a test makes it anew.
const DESCRIPTORS: &[u8] = include_bytes!("protos/descriptors.binpb");

/// The service in both its versions.
///
/// # Errors
/// The descriptors are not whole.
pub fn services() -> Result<[(&'static str, Serve); 2]> {
    let builder = || {
        Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let current = builder().build_v1().context("descriptors of the gRPC services")?;
    let older = builder().build_v1alpha().context("descriptors of the gRPC services")?;
    Ok([
        ("/grpc.reflection.v1.ServerReflection/", boxed(current)),
        ("/grpc.reflection.v1alpha.ServerReflection/", boxed(older)),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;
    use std::path::Path;

    /// `UPDATE=1` writes them.
    #[test]
    fn descriptors_are_those_of_the_protos() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/serve/grpc/protos");
        let mut files: Vec<_> = std::fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|e| e == "proto"))
            .collect();
        files.sort();
        let compiled = protox::compile(&files, [&folder]).unwrap().encode_to_vec();
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(folder.join("descriptors.binpb"), &compiled).unwrap();
        } else {
            assert!(compiled == DESCRIPTORS, "run again with UPDATE=1");
        }
    }

    #[test]
    fn descriptors_are_whole() {
        assert_eq!(services().unwrap().len(), 2);
    }
}
