//! TensorFlow's messages as TensorFlow.js writes them: proto3's JSON, numbers of 64 bits as strings, bytes in base64.

use super::{
    ArgDef, AttrList, AttrValue, Attribute, DataType, Dim, FunctionDef, FunctionLibrary, GraphDef,
    NameAttrList, NodeDef, OpDef, TensorInfo, TensorProto, TensorShape,
};
use crate::format::base64;
use bytes::Bytes;
use serde_json::Value;
use std::collections::BTreeMap;

/// A value that is not what the message asks for, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonError {
    pub at: String,
    pub expected: &'static str,
}

impl std::fmt::Display for JsonError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: expected {}", self.at, self.expected)
    }
}

impl std::error::Error for JsonError {}

type Result<T> = std::result::Result<T, JsonError>;

fn error<T>(at: &str, expected: &'static str) -> Result<T> {
    Err(JsonError { at: at.to_string(), expected })
}

/// The list under `key`; empty where there is none.
fn list<'a>(value: &'a Value, key: &str) -> Result<&'a [Value]> {
    match value.get(key) {
        None | Some(Value::Null) => Ok(&[]),
        Some(Value::Array(list)) => Ok(list),
        Some(_) => error(key, "a list"),
    }
}

fn text(value: &Value, key: &str) -> Result<String> {
    match value.get(key) {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(_) => error(key, "a text"),
    }
}

fn int(value: &Value) -> Result<i64> {
    let number = match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    number.map_or_else(|| error("a number", "an integer"), Ok)
}

fn float(value: &Value) -> Result<f32> {
    match value {
        Value::Number(number) => Ok(number.as_f64().unwrap_or(0.0) as f32),
        Value::String(text) => match text.as_str() {
            "Infinity" => Ok(f32::INFINITY),
            "-Infinity" => Ok(f32::NEG_INFINITY),
            "NaN" => Ok(f32::NAN),
            other => other.parse().map_or_else(|_| error("a number", "a number"), Ok),
        },
        _ => error("a number", "a number"),
    }
}

fn data_type(value: &Value) -> Result<i32> {
    match value {
        Value::String(name) => match DataType::of_name(name) {
            Some(kind) => Ok(kind as i32),
            None => error(name, "a type of values that is known"),
        },
        Value::Number(number) => match number.as_i64().and_then(|n| i32::try_from(n).ok()) {
            Some(number) => Ok(number),
            None => error("a type", "a type of values"),
        },
        _ => error("a type", "a type of values"),
    }
}

fn bytes(value: &Value) -> Result<Bytes> {
    match value {
        Value::String(text) => match base64::decode(text) {
            Some(bytes) => Ok(bytes.into()),
            None => error("a text", "base64"),
        },
        Value::Array(codes) => {
            let codes: Result<Vec<u8>> = codes
                .iter()
                .map(|code| u8::try_from(int(code)?).or_else(|_| error("a text", "bytes")))
                .collect();
            Ok(codes?.into())
        }
        _ => error("a text", "base64"),
    }
}

fn shape(value: &Value) -> Result<TensorShape> {
    let dim =
        |dim: &Value| -> Result<Dim> { Ok(Dim { size: dim.get("size").map_or(Ok(0), int)? }) };
    let unknown_rank = value.get("unknownRank").and_then(Value::as_bool).unwrap_or(false);
    Ok(TensorShape {
        dim: list(value, "dim")?.iter().map(dim).collect::<Result<_>>()?,
        unknown_rank,
    })
}

fn tensor(value: &Value) -> Result<TensorProto> {
    let floats = |key: &str| list(value, key)?.iter().map(float).collect::<Result<Vec<f32>>>();
    let ints = |key: &str| list(value, key)?.iter().map(int).collect::<Result<Vec<i64>>>();
    let small = |key: &str| -> Result<Vec<i32>> {
        ints(key)?
            .into_iter()
            .map(|n| i32::try_from(n).or_else(|_| error(key, "integers of 32 bits")))
            .collect()
    };
    let flags = list(value, "boolVal")?.iter().map(|flag| flag.as_bool().unwrap_or(false));
    Ok(TensorProto {
        dtype: value.get("dtype").map_or(Ok(0), data_type)?,
        tensor_shape: Some(value.get("tensorShape").map_or(Ok(TensorShape::default()), shape)?),
        tensor_content: value.get("tensorContent").map_or(Ok(Bytes::new()), bytes)?,
        float_val: floats("floatVal")?,
        int_val: small("intVal")?,
        int64_val: ints("int64Val")?,
        half_val: small("halfVal")?,
        bool_val: flags.collect(),
        string_val: list(value, "stringVal")?.iter().map(bytes).collect::<Result<_>>()?,
        ..TensorProto::default()
    })
}

fn attribute(value: &Value) -> Result<AttrValue> {
    let Some((kind, inner)) = value.as_object().and_then(|object| object.iter().next()) else {
        return Ok(AttrValue::default());
    };
    let attribute = match kind.as_str() {
        "s" => Attribute::Text(bytes(inner)?),
        "i" => Attribute::Int(int(inner)?),
        "f" => Attribute::Float(float(inner)?),
        "b" => Attribute::Bool(inner.as_bool().unwrap_or(false)),
        "type" => Attribute::Type(data_type(inner)?),
        "shape" => Attribute::Shape(shape(inner)?),
        "tensor" => Attribute::Tensor(tensor(inner)?),
        "func" => Attribute::Function(NameAttrList { name: text(inner, "name")? }),
        "list" => {
            let flags = list(inner, "b")?.iter().map(|flag| flag.as_bool().unwrap_or(false));
            Attribute::List(AttrList {
                s: list(inner, "s")?.iter().map(bytes).collect::<Result<_>>()?,
                i: list(inner, "i")?.iter().map(int).collect::<Result<_>>()?,
                f: list(inner, "f")?.iter().map(float).collect::<Result<_>>()?,
                b: flags.collect(),
                r#type: list(inner, "type")?.iter().map(data_type).collect::<Result<_>>()?,
                shape: list(inner, "shape")?.iter().map(shape).collect::<Result<_>>()?,
            })
        }
        _ => return Ok(AttrValue::default()),
    };
    Ok(attribute.into())
}

fn node(value: &Value) -> Result<NodeDef> {
    let name = text(value, "name")?;
    let input = |input: &Value| match input {
        Value::String(text) => Ok(text.clone()),
        _ => error("input", "a text"),
    };
    let attributes = value.get("attr").and_then(Value::as_object).into_iter().flatten();
    let at = |e: JsonError| JsonError { at: format!("node '{name}', {}", e.at), ..e };
    let attr = attributes.map(|(key, value)| Ok((key.clone(), attribute(value).map_err(at)?)));
    Ok(NodeDef {
        op: text(value, "op")?,
        input: list(value, "input")?.iter().map(input).collect::<Result<_>>().map_err(at)?,
        attr: attr.collect::<Result<_>>()?,
        name: name.clone(),
    })
}

fn texts(value: &Value, key: &str) -> BTreeMap<String, String> {
    let entries = value.get(key).and_then(Value::as_object).into_iter().flatten();
    entries.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_string()))).collect()
}

fn function(value: &Value) -> Result<FunctionDef> {
    let signature = value.get("signature").unwrap_or(&Value::Null);
    let argument = |value: &Value| -> Result<ArgDef> {
        Ok(ArgDef {
            name: text(value, "name")?,
            r#type: value.get("type").map_or(Ok(0), data_type)?,
            number_attr: text(value, "numberAttr")?,
            type_list_attr: text(value, "typeListAttr")?,
        })
    };
    let arguments = |key: &str| list(signature, key)?.iter().map(argument).collect::<Result<_>>();
    Ok(FunctionDef {
        signature: Some(OpDef {
            name: text(signature, "name")?,
            input_arg: arguments("inputArg")?,
            output_arg: arguments("outputArg")?,
            is_stateful: false,
        }),
        node_def: list(value, "nodeDef")?.iter().map(node).collect::<Result<_>>()?,
        ret: texts(value, "ret"),
        control_ret: texts(value, "controlRet"),
    })
}

/// The graph under `modelTopology`.
///
/// # Errors
/// The first value that is not what it should be.
pub fn graph_of_json(value: &Value) -> Result<GraphDef> {
    let functions = match value.get("library") {
        Some(library) => list(library, "function")?.iter().map(function).collect::<Result<_>>()?,
        None => vec![],
    };
    Ok(GraphDef {
        node: list(value, "node")?.iter().map(node).collect::<Result<_>>()?,
        library: Some(FunctionLibrary { function: functions }),
        versions: None,
    })
}

/// One end of a signature.
pub fn tensor_info_of_json(value: &Value) -> Result<TensorInfo> {
    Ok(TensorInfo {
        name: text(value, "name")?,
        dtype: value.get("dtype").map_or(Ok(0), data_type)?,
        tensor_shape: value.get("tensorShape").map(shape).transpose()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn nodes_are_read() {
        let graph = graph_of_json(&json!({"node": [{
            "name": "c", "op": "Conv2D", "input": ["x", "w"],
            "attr": {
                "strides": {"list": {"i": ["1", 2]}}, "padding": {"s": "U0FNRQ=="}, "T": {"type": "DT_FLOAT"},
                "shape": {"shape": {"dim": [{"size": "-1"}, {"size": 3}]}}, "epsilon": {"f": 0.5}, "flag": {"b": true},
            }
        }]}))
        .unwrap();
        let node = &graph.node[0];
        let of = |name: &str| node.attr[name].value.clone().unwrap();
        assert_eq!(of("padding"), Attribute::Text(Bytes::from_static(b"SAME")));
        assert_eq!(of("T"), Attribute::Type(1));
        assert_eq!(of("shape"), Attribute::Shape(TensorShape::of([-1, 3])));
        assert_eq!(of("epsilon"), Attribute::Float(0.5));
        let Attribute::List(strides) = of("strides") else { panic!() };
        assert_eq!(strides.i, [1, 2]);
    }

    #[test]
    fn nonsense_is_named() {
        let cases = [
            (json!({"node": 3}), "node: expected a list"),
            (json!({"node": [{"name": 3}]}), "name: expected a text"),
            (
                json!({"node": [{"name": "n", "op": "X", "attr": {"a": {"type": "DT_FLOOT"}}}]}),
                "node 'n', DT_FLOOT: expected a type",
            ),
            (
                json!({"node": [{"name": "n", "op": "X", "attr": {"a": {"i": "1e99"}}}]}),
                "node 'n', a number: expected an integer",
            ),
        ];
        for (value, expected) in cases {
            let error = graph_of_json(&value).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
