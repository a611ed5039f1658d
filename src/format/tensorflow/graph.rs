//! Graphs: nodes, their attributes, functions.

use bytes::Bytes;
use std::collections::BTreeMap;

/// TensorFlow's numbers of element types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum DataType {
    Invalid = 0,
    Float = 1,
    Double = 2,
    Int32 = 3,
    Uint8 = 4,
    Int16 = 5,
    Int8 = 6,
    String = 7,
    Int64 = 9,
    Bool = 10,
    Bfloat16 = 14,
    Uint16 = 17,
    Half = 19,
    Resource = 20,
    Variant = 21,
    Uint32 = 22,
    Uint64 = 23,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct GraphDef {
    #[prost(message, repeated, tag = "1")]
    pub node: Vec<NodeDef>,
    #[prost(message, optional, tag = "2")]
    pub library: Option<FunctionLibrary>,
    #[prost(message, optional, tag = "4")]
    pub versions: Option<VersionDef>,
}

/// What wrote a message, and the oldest reader that understands it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct VersionDef {
    #[prost(int32, tag = "1")]
    pub producer: i32,
    #[prost(int32, tag = "2")]
    pub min_consumer: i32,
}

/// One operation. In a graph an input is `node` or `node:output`, in a function `argument` or
/// `node:output name:place`; `^node` is waited for.
#[derive(Clone, PartialEq, prost::Message)]
pub struct NodeDef {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub op: String,
    #[prost(string, repeated, tag = "3")]
    pub input: Vec<String>,
    #[prost(btree_map = "string, message", tag = "5")]
    pub attr: BTreeMap<String, AttrValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct AttrValue {
    #[prost(oneof = "Attribute", tags = "1, 2, 3, 4, 5, 6, 7, 8, 10")]
    pub value: Option<Attribute>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Attribute {
    #[prost(message, tag = "1")]
    List(AttrList),
    #[prost(bytes = "bytes", tag = "2")]
    Text(Bytes),
    #[prost(int64, tag = "3")]
    Int(i64),
    #[prost(float, tag = "4")]
    Float(f32),
    #[prost(bool, tag = "5")]
    Bool(bool),
    #[prost(enumeration = "DataType", tag = "6")]
    Type(i32),
    #[prost(message, tag = "7")]
    Shape(TensorShape),
    #[prost(message, tag = "8")]
    Tensor(TensorProto),
    #[prost(message, tag = "10")]
    Function(NameAttrList),
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct AttrList {
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub s: Vec<Bytes>,
    #[prost(int64, repeated, tag = "3")]
    pub i: Vec<i64>,
    #[prost(float, repeated, tag = "4")]
    pub f: Vec<f32>,
    #[prost(bool, repeated, tag = "5")]
    pub b: Vec<bool>,
    #[prost(enumeration = "DataType", repeated, tag = "6")]
    pub r#type: Vec<i32>,
    #[prost(message, repeated, tag = "7")]
    pub shape: Vec<TensorShape>,
}

/// A function by name.
#[derive(Clone, PartialEq, prost::Message)]
pub struct NameAttrList {
    #[prost(string, tag = "1")]
    pub name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct TensorShape {
    #[prost(message, repeated, tag = "2")]
    pub dim: Vec<Dim>,
    #[prost(bool, tag = "3")]
    pub unknown_rank: bool,
}

/// A size; −1 where it is open.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Dim {
    #[prost(int64, tag = "1")]
    pub size: i64,
}

/// A constant: little-endian row-major `tensor_content`; or values of its type, the last of which fills what is left.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TensorProto {
    #[prost(enumeration = "DataType", tag = "1")]
    pub dtype: i32,
    #[prost(message, optional, tag = "2")]
    pub tensor_shape: Option<TensorShape>,
    #[prost(bytes = "bytes", tag = "4")]
    pub tensor_content: Bytes,
    #[prost(float, repeated, tag = "5")]
    pub float_val: Vec<f32>,
    #[prost(double, repeated, tag = "6")]
    pub double_val: Vec<f64>,
    /// Of 32 bits and less.
    #[prost(int32, repeated, tag = "7")]
    pub int_val: Vec<i32>,
    #[prost(bytes = "bytes", repeated, tag = "8")]
    pub string_val: Vec<Bytes>,
    #[prost(int64, repeated, tag = "10")]
    pub int64_val: Vec<i64>,
    #[prost(bool, repeated, tag = "11")]
    pub bool_val: Vec<bool>,
    /// Bits of float16 and bfloat16.
    #[prost(int32, repeated, tag = "13")]
    pub half_val: Vec<i32>,
    #[prost(uint32, repeated, tag = "16")]
    pub uint32_val: Vec<u32>,
    #[prost(uint64, repeated, tag = "17")]
    pub uint64_val: Vec<u64>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct FunctionLibrary {
    #[prost(message, repeated, tag = "1")]
    pub function: Vec<FunctionDef>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct FunctionDef {
    #[prost(message, optional, tag = "1")]
    pub signature: Option<OpDef>,
    #[prost(message, repeated, tag = "3")]
    pub node_def: Vec<NodeDef>,
    /// By output argument: what it is.
    #[prost(btree_map = "string, string", tag = "4")]
    pub ret: BTreeMap<String, String>,
    /// Nodes that run for what they do.
    #[prost(btree_map = "string, string", tag = "6")]
    pub control_ret: BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct OpDef {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, repeated, tag = "2")]
    pub input_arg: Vec<ArgDef>,
    #[prost(message, repeated, tag = "3")]
    pub output_arg: Vec<ArgDef>,
    #[prost(bool, tag = "17")]
    pub is_stateful: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ArgDef {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(enumeration = "DataType", tag = "3")]
    pub r#type: i32,
    /// The attribute that tells how many values this argument is.
    #[prost(string, tag = "5")]
    pub number_attr: String,
    #[prost(string, tag = "6")]
    pub type_list_attr: String,
}

impl DataType {
    /// By what [`DataType::name`] gives.
    pub fn of_name(name: &str) -> Option<DataType> {
        (0..=DataType::Uint64 as i32)
            .filter_map(|number| DataType::try_from(number).ok())
            .find(|kind| kind.name() == name)
    }

    /// A number's name, or the number.
    pub fn describe(number: i32) -> String {
        match DataType::try_from(number) {
            Ok(kind) => kind.name().trim_start_matches("DT_").to_ascii_lowercase(),
            Err(_) => format!("type {number}"),
        }
    }

    /// As `model.json` spells it.
    pub fn name(self) -> &'static str {
        match self {
            DataType::Invalid => "DT_INVALID",
            DataType::Float => "DT_FLOAT",
            DataType::Double => "DT_DOUBLE",
            DataType::Int32 => "DT_INT32",
            DataType::Uint8 => "DT_UINT8",
            DataType::Int16 => "DT_INT16",
            DataType::Int8 => "DT_INT8",
            DataType::String => "DT_STRING",
            DataType::Int64 => "DT_INT64",
            DataType::Bool => "DT_BOOL",
            DataType::Bfloat16 => "DT_BFLOAT16",
            DataType::Uint16 => "DT_UINT16",
            DataType::Half => "DT_HALF",
            DataType::Resource => "DT_RESOURCE",
            DataType::Variant => "DT_VARIANT",
            DataType::Uint32 => "DT_UINT32",
            DataType::Uint64 => "DT_UINT64",
        }
    }
}

impl TensorShape {
    pub fn of(sizes: impl IntoIterator<Item = i64>) -> TensorShape {
        let dim = sizes.into_iter().map(|size| Dim { size }).collect();
        TensorShape { dim, unknown_rank: false }
    }
}

impl From<Attribute> for AttrValue {
    fn from(value: Attribute) -> AttrValue {
        AttrValue { value: Some(value) }
    }
}
