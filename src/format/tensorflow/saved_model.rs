//! `saved_model.pb` and `fingerprint.pb`.

use super::{DataType, GraphDef, SavedObjectGraph, TensorShape, VersionDef};
use std::collections::BTreeMap;

#[derive(Clone, PartialEq, prost::Message)]
pub struct SavedModel {
    /// 1.
    #[prost(int64, tag = "1")]
    pub saved_model_schema_version: i64,
    #[prost(message, repeated, tag = "2")]
    pub meta_graphs: Vec<MetaGraph>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct MetaGraph {
    #[prost(message, optional, tag = "1")]
    pub meta_info_def: Option<MetaInfo>,
    #[prost(message, optional, tag = "2")]
    pub graph_def: Option<GraphDef>,
    #[prost(message, optional, tag = "3")]
    pub saver_def: Option<SaverDef>,
    #[prost(btree_map = "string, message", tag = "5")]
    pub signature_def: BTreeMap<String, Signature>,
    #[prost(message, repeated, tag = "6")]
    pub asset_file_def: Vec<AssetFileDef>,
    #[prost(message, optional, tag = "7")]
    pub object_graph_def: Option<SavedObjectGraph>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct MetaInfo {
    #[prost(string, repeated, tag = "4")]
    pub tags: Vec<String>,
    #[prost(string, tag = "5")]
    pub tensorflow_version: String,
}

/// The nodes that a session restores variables with.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SaverDef {
    #[prost(string, tag = "1")]
    pub filename_tensor_name: String,
    #[prost(string, tag = "2")]
    pub save_tensor_name: String,
    #[prost(string, tag = "3")]
    pub restore_op_name: String,
    /// 2: a tensor bundle.
    #[prost(int32, tag = "7")]
    pub version: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Signature {
    #[prost(btree_map = "string, message", tag = "1")]
    pub inputs: BTreeMap<String, TensorInfo>,
    #[prost(btree_map = "string, message", tag = "2")]
    pub outputs: BTreeMap<String, TensorInfo>,
    #[prost(string, tag = "3")]
    pub method_name: String,
}

/// An end of a graph, `node:output`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TensorInfo {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(enumeration = "DataType", tag = "2")]
    pub dtype: i32,
    #[prost(message, optional, tag = "3")]
    pub tensor_shape: Option<TensorShape>,
}

/// A file in `assets/`, and the string tensor that holds its path at run time.
#[derive(Clone, PartialEq, prost::Message)]
pub struct AssetFileDef {
    #[prost(message, optional, tag = "1")]
    pub tensor_info: Option<TensorInfo>,
    #[prost(string, tag = "2")]
    pub filename: String,
}

/// Numbers that tell one saved model from another; readers compare them and compute none.
#[derive(Clone, PartialEq, prost::Message)]
pub struct FingerprintDef {
    #[prost(uint64, tag = "1")]
    pub saved_model_checksum: u64,
    #[prost(uint64, tag = "2")]
    pub graph_def_program_hash: u64,
    #[prost(uint64, tag = "3")]
    pub signature_def_hash: u64,
    #[prost(uint64, tag = "4")]
    pub saved_object_graph_hash: u64,
    #[prost(uint64, tag = "5")]
    pub checkpoint_hash: u64,
    #[prost(message, optional, tag = "6")]
    pub version: Option<VersionDef>,
    #[prost(string, tag = "7")]
    pub uuid: String,
}
