//! TensorFlow's messages as `model.json` spells them: protocol buffers' JSON, without values of constants, which lie
//! with the weights, and with the types that TensorFlow.js has.

use crate::format::base64;
use crate::format::tensorflow::{
    ArgDef, AttrValue, Attribute, DataType, FunctionDef, NodeDef, TensorShape,
};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Map, Value, json};

/// An object whose fields keep their order.
pub struct Fields(pub Vec<(String, Value)>);

impl Serialize for Fields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// The type by which TensorFlow.js knows values: it has float32, int32, bool and strings.
pub fn type_name(dtype: DataType) -> &'static str {
    let known = match dtype {
        DataType::Half | DataType::Bfloat16 | DataType::Double => DataType::Float,
        DataType::Int64
        | DataType::Uint8
        | DataType::Int8
        | DataType::Int16
        | DataType::Uint16
        | DataType::Uint32
        | DataType::Uint64 => DataType::Int32,
        DataType::Invalid
        | DataType::Float
        | DataType::Int32
        | DataType::String
        | DataType::Bool
        | DataType::Resource
        | DataType::Variant => dtype,
    };
    known.name()
}

fn type_of_number(number: i32) -> &'static str {
    type_name(DataType::try_from(number).unwrap_or(DataType::Invalid))
}

pub fn node(node: &NodeDef) -> Value {
    let mut fields = json!({"name": node.name, "op": node.op});
    if !node.input.is_empty() {
        fields["input"] = json!(node.input);
    }
    let attributes = node.attr.iter().map(|(name, value)| (name.clone(), attribute(value)));
    let attributes: Map<String, Value> = attributes.collect();
    if !attributes.is_empty() {
        fields["attr"] = Value::Object(attributes);
    }
    fields
}

fn attribute(value: &AttrValue) -> Value {
    let Some(value) = &value.value else { return json!({}) };
    match value {
        Attribute::Text(text) => json!({"s": base64::encode(text)}),
        Attribute::Int(number) => json!({"i": number.to_string()}),
        Attribute::Float(number) => json!({"f": float(*number)}),
        Attribute::Bool(value) => json!({"b": value}),
        Attribute::Type(number) => json!({"type": type_of_number(*number)}),
        Attribute::Shape(sizes) => json!({"shape": shape(sizes)}),
        Attribute::Tensor(tensor) => {
            let sizes = tensor.tensor_shape.clone().unwrap_or_default();
            let dtype = type_of_number(tensor.dtype);
            json!({"tensor": {"dtype": dtype, "tensorShape": shape(&sizes)}})
        }
        Attribute::Function(function) => json!({"func": {"name": function.name}}),
        Attribute::List(list) => {
            let mut fields = Map::new();
            let mut add = |name: &str, values: Vec<Value>| {
                if !values.is_empty() {
                    fields.insert(name.into(), values.into());
                }
            };
            add("s", list.s.iter().map(|text| base64::encode(text).into()).collect());
            add("i", list.i.iter().map(|number| number.to_string().into()).collect());
            add("type", list.r#type.iter().map(|&number| type_of_number(number).into()).collect());
            add("shape", list.shape.iter().map(shape).collect());
            json!({"list": fields})
        }
    }
}

/// Infinities are strings, as JSON has no numbers for them.
fn float(number: f32) -> Value {
    match number.is_finite() {
        true => json!(number),
        false if number.is_nan() => json!("NaN"),
        false => json!(if number > 0.0 { "Infinity" } else { "-Infinity" }),
    }
}

pub fn shape(shape: &TensorShape) -> Value {
    let sizes = shape.dim.iter().map(|dim| json!({"size": dim.size.to_string()}));
    json!({"dim": sizes.collect::<Vec<_>>()})
}

pub fn function(function: &FunctionDef) -> Value {
    let signature = function.signature.clone().unwrap_or_default();
    let arguments = |arguments: &[ArgDef]| -> Vec<Value> {
        let one = |a: &ArgDef| json!({"name": a.name, "type": type_of_number(a.r#type)});
        arguments.iter().map(one).collect()
    };
    json!({
        "signature": {
            "name": signature.name,
            "inputArg": arguments(&signature.input_arg),
            "outputArg": arguments(&signature.output_arg),
        },
        "nodeDef": function.node_def.iter().map(node).collect::<Vec<_>>(),
        "ret": function.ret,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_keep_their_order() {
        let fields = Fields(vec![("b".into(), json!(1)), ("a".into(), json!([]))]);
        assert_eq!(serde_json::to_string(&fields).unwrap(), r#"{"b":1,"a":[]}"#);
    }

    #[test]
    fn numbers_that_json_lacks_are_strings() {
        assert_eq!(float(f32::NEG_INFINITY), json!("-Infinity"));
        assert_eq!(float(f32::NAN), json!("NaN"));
        assert_eq!(float(0.5), json!(0.5));
    }
}
