//! The objects of a saved model: functions, variables, and what holds them; and of a checkpoint.

use super::{DataType, TensorShape, VersionDef};
use std::collections::BTreeMap;

#[derive(Clone, PartialEq, prost::Message)]
pub struct SavedObjectGraph {
    /// The first is the root.
    #[prost(message, repeated, tag = "1")]
    pub nodes: Vec<SavedObject>,
    #[prost(btree_map = "string, message", tag = "2")]
    pub concrete_functions: BTreeMap<String, ConcreteFunction>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct SavedObject {
    #[prost(message, repeated, tag = "1")]
    pub children: Vec<ObjectReference>,
    #[prost(oneof = "SavedObjectKind", tags = "4, 5, 6, 7, 8")]
    pub kind: Option<SavedObjectKind>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum SavedObjectKind {
    #[prost(message, tag = "4")]
    UserObject(SavedUserObject),
    #[prost(message, tag = "5")]
    Asset(SavedAsset),
    #[prost(message, tag = "6")]
    Function(SavedFunction),
    #[prost(message, tag = "7")]
    Variable(SavedVariable),
    #[prost(message, tag = "8")]
    BareConcreteFunction(BareConcreteFunction),
}

/// An object by its place in the list of objects, and the name it is known by.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ObjectReference {
    #[prost(int32, tag = "1")]
    pub node_id: i32,
    #[prost(string, tag = "2")]
    pub local_name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct SavedUserObject {
    #[prost(string, tag = "1")]
    pub identifier: String,
    #[prost(message, optional, tag = "2")]
    pub version: Option<VersionDef>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct SavedAsset {
    #[prost(int32, tag = "1")]
    pub asset_file_def_index: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct SavedFunction {
    #[prost(string, repeated, tag = "1")]
    pub concrete_functions: Vec<String>,
    #[prost(message, optional, tag = "2")]
    pub function_spec: Option<FunctionSpec>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct FunctionSpec {
    #[prost(message, optional, tag = "1")]
    pub fullargspec: Option<StructuredValue>,
    #[prost(bool, tag = "2")]
    pub is_method: bool,
    #[prost(message, optional, tag = "5")]
    pub input_signature: Option<StructuredValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct SavedVariable {
    #[prost(enumeration = "DataType", tag = "1")]
    pub dtype: i32,
    #[prost(message, optional, tag = "2")]
    pub shape: Option<TensorShape>,
    #[prost(bool, tag = "3")]
    pub trainable: bool,
    #[prost(string, tag = "6")]
    pub name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct BareConcreteFunction {
    #[prost(string, tag = "1")]
    pub concrete_function_name: String,
    #[prost(string, repeated, tag = "2")]
    pub argument_keywords: Vec<String>,
    #[prost(int64, tag = "3")]
    pub allowed_positional_arguments: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ConcreteFunction {
    /// Objects that follow the caller's arguments.
    #[prost(int32, repeated, tag = "2")]
    pub bound_inputs: Vec<i32>,
    #[prost(message, optional, tag = "3")]
    pub canonicalized_input_signature: Option<StructuredValue>,
    #[prost(message, optional, tag = "4")]
    pub output_signature: Option<StructuredValue>,
}

/// A nest of Python values.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StructuredValue {
    #[prost(oneof = "StructuredKind", tags = "1, 13, 33, 51, 52, 53, 54")]
    pub kind: Option<StructuredKind>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum StructuredKind {
    #[prost(message, tag = "1")]
    None(()),
    #[prost(string, tag = "13")]
    Text(String),
    #[prost(message, tag = "33")]
    TensorSpec(TensorSpec),
    #[prost(message, tag = "51")]
    List(ListValue),
    #[prost(message, tag = "52")]
    Tuple(ListValue),
    #[prost(message, tag = "53")]
    Dict(DictValue),
    #[prost(message, tag = "54")]
    NamedTuple(NamedTupleValue),
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ListValue {
    #[prost(message, repeated, tag = "1")]
    pub values: Vec<StructuredValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct DictValue {
    #[prost(btree_map = "string, message", tag = "1")]
    pub fields: BTreeMap<String, StructuredValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct NamedTupleValue {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, repeated, tag = "2")]
    pub values: Vec<PairValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct PairValue {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(message, optional, tag = "2")]
    pub value: Option<StructuredValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct TensorSpec {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "2")]
    pub shape: Option<TensorShape>,
    #[prost(enumeration = "DataType", tag = "3")]
    pub dtype: i32,
}

/// What a checkpoint holds of each object.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CheckpointedObjects {
    #[prost(message, repeated, tag = "1")]
    pub nodes: Vec<CheckpointedObject>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct CheckpointedObject {
    #[prost(message, repeated, tag = "1")]
    pub children: Vec<ObjectReference>,
    #[prost(message, repeated, tag = "2")]
    pub attributes: Vec<SavedTensor>,
}

/// A value in the bundle.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SavedTensor {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub full_name: String,
    #[prost(string, tag = "3")]
    pub checkpoint_key: String,
}

impl From<StructuredKind> for StructuredValue {
    fn from(kind: StructuredKind) -> StructuredValue {
        StructuredValue { kind: Some(kind) }
    }
}
