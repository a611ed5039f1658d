//! TensorFlow's files: graphs, SavedModels and checkpoint bundles, as plain values and bytes.
//!
//! The messages are those fields of TensorFlow's protocol buffers that this program reads or writes. Maps are ordered,
//! so that the same value gives the same bytes.

mod bundle;
mod crc32c;
mod error;
mod graph;
mod json;
mod object_graph;
mod records;
mod saved_model;
mod sstable;
mod tensor;

pub use bundle::{BundleReader, BundleTensor, BundleWriter};
pub use error::BundleError;
pub use graph::{
    ArgDef, AttrList, AttrValue, Attribute, DataType, Dim, FunctionDef, FunctionLibrary, GraphDef,
    NameAttrList, NodeDef, OpDef, TensorProto, TensorShape, VersionDef,
};
pub use json::{JsonError, graph_of_json, tensor_info_of_json};
pub use object_graph::{
    BareConcreteFunction, CheckpointedObject, CheckpointedObjects, ConcreteFunction, DictValue,
    FunctionSpec, ListValue, NamedTupleValue, ObjectReference, PairValue, SavedAsset,
    SavedFunction, SavedObject, SavedObjectGraph, SavedObjectKind, SavedTensor, SavedUserObject,
    SavedVariable, StructuredKind, StructuredValue, TensorSpec,
};
pub use records::{RecordError, Records, record};
pub use saved_model::{
    AssetFileDef, FingerprintDef, MetaGraph, MetaInfo, SavedModel, SaverDef, Signature, TensorInfo,
};
pub use sstable::{read_table, write_table};
pub use tensor::{TensorError, TensorValue, tensor_value};
