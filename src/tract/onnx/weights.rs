//! The large initializers of an ONNX file, left where they lie: in the mapped file, or in the files
//! beside it that hold external data.

use super::super::*;
use super::{check_tensor, element_bits};
use crate::format::mmap;
use crate::tract::mapped::{MappedConst, mapped_tensor};
use ::anyhow::{Context, Result, ensure};
use bytes::Bytes;
use prost::Message;
use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Initializers from this size on are not copied.
const LARGE: usize = 1 << 14;

/// The values of initializers by name.
pub type Weights = HashMap<String, Bytes>;

/// The bytes of a model without the values of its large initializers, and these.
///
/// `None` where nothing is taken out: the bytes are not as expected, and decoding will say so, or no
/// initializer is large.
pub fn take_out(model: &Bytes) -> Option<(Vec<u8>, Weights)> {
    const GRAPH: u64 = 7;
    let mut weights = Weights::new();
    let mut rest = vec![];
    for field in fields(model)? {
        match field {
            Field { number: GRAPH, length: Some(_), .. } => {
                let graph = without_weights(model, field.value, &mut weights)?;
                put_bytes(&mut rest, GRAPH, &graph);
            }
            _ => rest.extend_from_slice(&model[field.whole]),
        }
    }
    (!weights.is_empty()).then_some((rest, weights))
}

fn without_weights(model: &Bytes, graph: Range<usize>, weights: &mut Weights) -> Option<Vec<u8>> {
    const INITIALIZER: u64 = 5;
    let bytes = model.slice(graph);
    let mut rest = vec![];
    for field in fields(&bytes)? {
        let tensor = match field {
            Field { number: INITIALIZER, length: Some(length), .. } if length >= LARGE => {
                large_tensor(&bytes, field.value.clone())?
            }
            _ => None,
        };
        match tensor {
            Some((name, values, header)) => {
                if weights.insert(name, values).is_some() {
                    return None;
                }
                put_bytes(&mut rest, INITIALIZER, &header);
            }
            None => rest.extend_from_slice(&bytes[field.whole]),
        }
    }
    Some(rest)
}

/// Name, raw data, and the message without them; inner `None` for a tensor to leave whole.
#[expect(clippy::type_complexity, reason = "one caller takes it apart")]
fn large_tensor(graph: &Bytes, tensor: Range<usize>) -> Option<Option<(String, Bytes, Vec<u8>)>> {
    const RAW_DATA: u64 = 9;
    let bytes = graph.slice(tensor);
    let (mut values, mut header) = (vec![], vec![]);
    for field in fields(&bytes)? {
        if field.number == RAW_DATA && field.length.is_some() {
            values.push(bytes.slice(field.value));
        } else {
            header.extend_from_slice(&bytes[field.whole]);
        }
    }
    let [values] = values.as_slice() else { return Some(None) };
    let tensor = pb::TensorProto::decode(header.as_slice()).ok()?;
    let plain =
        values.len() >= LARGE && tensor.data_location.unwrap_or(0) == 0 && can_be_mapped(&tensor);
    Some(plain.then_some((tensor.name, values.clone(), header)))
}

fn can_be_mapped(tensor: &pb::TensorProto) -> bool {
    use pb::tensor_proto::DataType;
    element_bits(tensor.data_type).is_some()
        && tensor.data_type != DataType::Bool as i32
        && tensor.data_type != DataType::Bfloat16 as i32
}

/// A field of a protobuf message: places in the message's bytes.
struct Field {
    number: u64,
    /// Of what has a length: texts, bytes, messages.
    length: Option<usize>,
    value: Range<usize>,
    whole: Range<usize>,
}

fn fields(message: &[u8]) -> Option<Vec<Field>> {
    let mut fields = vec![];
    let mut at = 0;
    while at < message.len() {
        let start = at;
        let key = varint(message, &mut at)?;
        let (size, length) = match key & 7 {
            0 => {
                let from = at;
                varint(message, &mut at)?;
                (std::mem::replace(&mut at, from).checked_sub(from)?, None)
            }
            1 => (8, None),
            2 => {
                let length = usize::try_from(varint(message, &mut at)?).ok()?;
                (length, Some(length))
            }
            5 => (4, None),
            _ => return None,
        };
        let end = at.checked_add(size).filter(|&end| end <= message.len())?;
        fields.push(Field { number: key >> 3, length, value: at..end, whole: start..end });
        at = end;
    }
    Some(fields)
}

fn varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn put_bytes(out: &mut Vec<u8>, number: u64, bytes: &[u8]) {
    for mut value in [number << 3 | 2, bytes.len() as u64] {
        while value >= 0x80 {
            out.push(value as u8 | 0x80);
            value >>= 7;
        }
        out.push(value as u8);
    }
    out.extend_from_slice(bytes);
}

/// Finds the external data of a graph's initializers in `folder`: large ones join `weights`, small ones
/// move into the graph.
///
/// # Errors
/// The tensor, and what is wrong with its file, its path (which must lie inside the folder) or range.
pub fn read_external(
    graph: &mut pb::GraphProto,
    folder: Option<&Path>,
    weights: &mut Weights,
) -> Result<()> {
    let external = pb::tensor_proto::DataLocation::External as i32;
    let mut files: HashMap<PathBuf, Bytes> = HashMap::new();
    for tensor in graph.initializer.iter_mut().filter(|t| t.data_location == Some(external)) {
        let at = || format!("external data of tensor '{}'", tensor.name);
        let bytes = external_bytes(tensor, folder, &mut files).with_context(at)?;
        tensor.external_data.clear();
        tensor.data_location = None;
        if bytes.len() < LARGE || !can_be_mapped(tensor) {
            tensor.raw_data = bytes.to_vec();
        } else {
            let name = tensor.name.clone();
            ensure!(weights.insert(name, bytes).is_none(), "{}: defined twice", at());
        }
    }
    Ok(())
}

fn external_bytes(
    tensor: &pb::TensorProto,
    folder: Option<&Path>,
    files: &mut HashMap<PathBuf, Bytes>,
) -> Result<Bytes> {
    let entry = |key: &str| tensor.external_data.iter().find(|e| e.key == key).map(|e| &e.value);
    let number = |key: &str| -> Result<Option<usize>> {
        let parse = |text: &String| {
            text.parse().with_context(|| format!("its {key} is '{text}', not a number of bytes"))
        };
        entry(key).map(parse).transpose()
    };
    let location = entry("location").context("it names no file")?;
    let folder = folder.context("the model was not read from a folder")?;
    let (path, _) = external_data::resolve(folder, location)?;
    let bytes = match files.get(&path) {
        Some(bytes) => bytes.clone(),
        None => {
            let bytes = mmap::open(&path)
                .with_context(|| format!("cannot read {}", folder.join(location).display()))?;
            files.insert(path, bytes.clone());
            bytes
        }
    };
    let offset = number("offset")?.unwrap_or(0);
    let end = match number("length")? {
        Some(length) => offset.checked_add(length),
        None => Some(bytes.len()),
    };
    let end = end
        .filter(|&end| offset <= end && end <= bytes.len())
        .with_context(|| format!("it lies past the end of '{location}' ({} bytes)", bytes.len()))?;
    let bytes = bytes.slice(offset..end);
    ensure!(element_bits(tensor.data_type).is_some(), "its type cannot lie outside the model");
    check_tensor(tensor, Some(&bytes))?;
    Ok(bytes)
}

/// The model with its `weights` as inputs instead of initializers, for a parser that would copy them.
pub fn as_inputs(proto: &pb::ModelProto, weights: &Weights) -> pb::ModelProto {
    let mut lifted = proto.clone();
    let Some(graph) = &mut lifted.graph else { return lifted };
    let (large, small) = std::mem::take(&mut graph.initializer)
        .into_iter()
        .partition(|t| weights.contains_key(&t.name));
    graph.initializer = small;
    let large: Vec<pb::TensorProto> = large;
    graph.input.retain(|input| !weights.contains_key(&input.name));
    for tensor in large {
        use pb::tensor_shape_proto::{Dimension, dimension::Value};
        let dim = |&d: &i64| Dimension { value: Some(Value::DimValue(d)), ..Default::default() };
        let kind = pb::type_proto::Tensor {
            elem_type: tensor.data_type,
            shape: Some(pb::TensorShapeProto { dim: tensor.dims.iter().map(dim).collect() }),
        };
        let value = Some(pb::type_proto::Value::TensorType(kind));
        graph.input.push(pb::ValueInfoProto {
            name: tensor.name,
            r#type: Some(pb::TypeProto { value, ..Default::default() }),
            ..Default::default()
        });
    }
    lifted
}

/// Makes the inputs of [`as_inputs`] constants again, which stay in their files.
pub fn put_back(model: &mut InferenceModel, weights: &Weights) -> Result<()> {
    let inputs = model.input_outlets()?.to_vec();
    let mut others = vec![];
    for outlet in inputs {
        let node = &mut model.nodes[outlet.node];
        let Some(bytes) = weights.get(&node.name) else {
            others.push(outlet);
            continue;
        };
        let fact = &node.outputs[0].fact;
        let shape = fact.shape.as_concrete_finite()?.context("a weight of unknown shape")?;
        let datum = fact.datum_type.concretize().context("a weight of unknown type")?;
        let tensor = mapped_tensor(datum, &shape, bytes.clone())
            .with_context(|| format!("tensor '{}'", node.name))?;
        node.op = Box::new(MappedConst(tensor.into_arc_tensor()));
    }
    model.set_input_outlets(&others)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(sizes: &[usize]) -> pb::ModelProto {
        let tensor = |(i, &size): (usize, &usize)| pb::TensorProto {
            name: format!("w{i}"),
            dims: vec![size as i64],
            data_type: pb::tensor_proto::DataType::Uint8 as i32,
            raw_data: vec![i as u8; size],
            ..Default::default()
        };
        let graph = pb::GraphProto {
            name: "g".into(),
            initializer: sizes.iter().enumerate().map(tensor).collect(),
            ..Default::default()
        };
        pb::ModelProto { ir_version: 8, graph: Some(graph), ..Default::default() }
    }

    #[test]
    fn large_initializers_are_taken_out_and_nothing_else() {
        let mut proto = model(&[LARGE, 3, 2 * LARGE]);
        let (rest, weights) = take_out(&proto.encode_to_vec().into()).unwrap();
        assert!(rest.len() < 200, "{}", rest.len());
        assert_eq!(weights.len(), 2);
        assert_eq!(weights["w0"], vec![0u8; LARGE]);
        assert_eq!(weights["w2"], vec![2u8; 2 * LARGE]);
        let graph = proto.graph.as_mut().unwrap();
        graph.initializer[0].raw_data.clear();
        graph.initializer[2].raw_data.clear();
        assert_eq!(pb::ModelProto::decode(rest.as_slice()).unwrap(), proto);
    }

    #[test]
    fn what_is_small_cut_or_ambiguous_is_left_to_the_decoder() {
        let small = model(&[10, 20]).encode_to_vec();
        assert!(take_out(&small.into()).is_none());
        let whole = model(&[LARGE]).encode_to_vec();
        for cut in [1, 10, LARGE / 2, whole.len() - 1] {
            assert!(take_out(&Bytes::copy_from_slice(&whole[..cut])).is_none(), "{cut}");
        }
        let mut twice = model(&[LARGE, LARGE]);
        twice.graph.as_mut().unwrap().initializer[1].name = "w0".into();
        assert!(take_out(&twice.encode_to_vec().into()).is_none());
    }
}
