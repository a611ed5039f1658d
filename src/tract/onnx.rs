//! ONNX: protobuf bytes → checked `ModelProto` → decluttered `TypedModel`.
//!
//! The bytes are hostile: everything tract would trust (sizes, names, order) is checked first.

mod control;
mod recurrent;

use super::*;
use crate::graph::{UnsupportedOp, unsupported_text};
use crate::tract::guard::{self, Allowance};
use ::anyhow::{Context, Result, bail, ensure};
use prost::Message;
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::path::Path;

/// The newest default-domain opset of ONNX 1.21, and its IR version.
pub const NEWEST_OPSET: i64 = 26;
pub const NEWEST_IR: i64 = 13;

/// No single tensor of a model may declare more elements than this.
const MAX_TENSOR_ELEMENTS: usize = 1 << 32;

/// No input, and no value that a constant shape asks for, may have more elements than this.
const MAX_VALUE_ELEMENTS: usize = 1 << 28;

/// Places of a convolution's or pool's kernel, and elements of a stride, dilation or pad.
const MAX_WINDOW: u64 = 1 << 20;

/// Domains whose op names mean what tract's registry takes them for.
const KNOWN_DOMAINS: [&str; 4] = ["", "ai.onnx", "ai.onnx.ml", "com.microsoft"];

/// Reads and checks the protobuf of an ONNX file.
///
/// # Errors
/// Names the file and what is wrong with it: not ONNX, newer than we know, unsupported ops (all of
/// them), undefined or cyclic values, tensors whose data does not fill their shape.
pub fn read(path: &Path) -> Result<pb::ModelProto> {
    let bytes = crate::format::mmap::open(path)
        .with_context(|| format!("cannot read {}", path.display()))?;
    decode(bytes).with_context(|| path.display().to_string())
}

/// As [`read`], from bytes.
pub fn decode(bytes: bytes::Bytes) -> Result<pb::ModelProto> {
    let mut proto = decode_to_look_at(bytes)?;
    check(&proto)?;
    name_unknown_dims(&mut proto);
    name_default_fill(&mut proto);
    drop_shadowed_pads(&mut proto);
    proto.graph.iter_mut().for_each(mend::rephrase);
    Ok(proto)
}

/// The protobuf of a file that is ONNX, of any version and with any ops; not safe to load.
pub fn decode_to_look_at(bytes: bytes::Bytes) -> Result<pb::ModelProto> {
    ensure!(!bytes.is_empty(), "the file is empty; an ONNX model was expected");
    let proto = pb::ModelProto::decode(bytes)
        .map_err(|e| ::anyhow::anyhow!("not an ONNX model, or cut short ({e})"))?;
    let has_outputs = proto.graph.as_ref().is_some_and(|g| !g.output.is_empty());
    ensure!(has_outputs, "not an ONNX model: it holds no graph with outputs");
    Ok(proto)
}

/// The default-domain opset that the model imports.
pub fn opset(proto: &pb::ModelProto) -> i64 {
    let default = |o: &&pb::OperatorSetIdProto| o.domain.is_empty() || o.domain == "ai.onnx";
    proto.opset_import.iter().find(default).map_or(0, |o| o.version)
}

fn check(proto: &pb::ModelProto) -> Result<()> {
    let graph = proto.graph.as_ref().context("it holds no graph")?;
    let version = opset(proto);
    ensure!(
        version <= NEWEST_OPSET && proto.ir_version <= NEWEST_IR,
        "the model is newer than this mlctl knows: opset {version}, IR {} (newest known: opset \
         {NEWEST_OPSET}, IR {NEWEST_IR}); export it with an older opset or update mlctl",
        proto.ir_version
    );
    let unsupported = unsupported_ops(proto);
    if !unsupported.is_empty() {
        bail!(unsupported_text(&unsupported));
    }
    check_graph(graph, &HashSet::new())
}

fn unsupported_ops(proto: &pb::ModelProto) -> Vec<UnsupportedOp> {
    fn walk(
        graph: &pb::GraphProto,
        known: &dyn Fn(&pb::NodeProto) -> Option<String>,
        found: &mut Vec<UnsupportedOp>,
    ) {
        for node in &graph.node {
            if let Some(reason) = known(node) {
                found.push(UnsupportedOp {
                    node: node_name(node).to_string(),
                    op: node.op_type.clone(),
                    reason,
                });
            }
            for attribute in &node.attribute {
                for inner in attribute.g.iter().chain(&attribute.graphs) {
                    walk(inner, known, found);
                }
            }
        }
    }
    let registry = &framework().op_register.0;
    let local: HashSet<(&str, &str)> =
        proto.functions.iter().map(|f| (f.domain(), f.name())).collect();
    let reason = |node: &pb::NodeProto| {
        if local.contains(&(node.domain.as_str(), node.op_type.as_str())) {
            Some("functions defined inside the model are not supported; inline them".to_string())
        } else if !KNOWN_DOMAINS.contains(&node.domain.as_str()) {
            Some(format!("custom domain '{}'", node.domain))
        } else if !registry.contains_key(&node.op_type) {
            Some("no implementation in the runtime".to_string())
        } else {
            None
        }
    };
    let mut found = vec![];
    if let Some(graph) = &proto.graph {
        walk(graph, &reason, &mut found);
    }
    found
}

fn node_name(node: &pb::NodeProto) -> &str {
    if node.name.is_empty() { node.output.first().map_or("", |o| o) } else { &node.name }
}

/// Sizes of tensors, names of values, and an order in which the nodes can run.
fn check_graph(graph: &pb::GraphProto, outer: &HashSet<&str>) -> Result<()> {
    let mut constants: HashMap<&str, Vec<i64>> = HashMap::new();
    let mut empty: HashSet<&str> = HashSet::new();
    let mut scalars: HashSet<&str> = HashSet::new();
    for tensor in &graph.initializer {
        check_tensor(tensor)?;
        if tensor.dims.contains(&0) {
            empty.insert(&tensor.name);
        } else if tensor.dims.is_empty() {
            scalars.insert(&tensor.name);
        }
        constants.insert(&tensor.name, integers(tensor));
    }
    let mut defined: HashSet<&str> = outer.clone();
    defined.extend(graph.initializer.iter().map(|t| t.name.as_str()));
    let mut inputs = HashSet::new();
    for input in &graph.input {
        check_input_size(input)?;
        if is_scalar(input) {
            scalars.insert(&input.name);
        }
        ensure!(inputs.insert(input.name.as_str()), "input '{}' is declared twice", input.name);
        defined.insert(&input.name);
    }
    let mut producers: HashMap<&str, usize> = HashMap::new();
    for (i, node) in graph.node.iter().enumerate() {
        for output in node.output.iter().filter(|o| !o.is_empty()) {
            ensure!(
                producers.insert(output, i).is_none() && !inputs.contains(output.as_str()),
                "value '{output}' is defined twice"
            );
        }
    }
    let mut waiting = vec![0usize; graph.node.len()];
    let mut readers: Vec<Vec<usize>> = vec![vec![]; graph.node.len()];
    for node in graph.node.iter().filter(|n| n.op_type == "Constant") {
        if let (Some(name), Some(value)) = (node.output.first(), node.attribute.first()) {
            let values = match (&value.t, value.name.as_str()) {
                (Some(tensor), _) => integers(tensor),
                (None, "value_int") => vec![value.i],
                (None, _) => value.ints.clone(),
            };
            constants.insert(name, values);
            if value.t.as_ref().is_some_and(|t| t.dims.contains(&0)) {
                empty.insert(name);
            }
        }
    }
    for (i, node) in graph.node.iter().enumerate() {
        check_numbers(node, &empty)?;
        ensure!(
            !matches!(node.op_type.as_str(), "GatherND" | "ScatterND")
                || node.input.get(1).is_none_or(|i| !scalars.contains(i.as_str())),
            "node '{}' ({}) has indices without an axis",
            node_name(node),
            node.op_type
        );
        check_shape_bomb(node, &constants)?;
        check_window(node)?;
        for input in node.input.iter().filter(|i| !i.is_empty()) {
            match producers.get(input.as_str()) {
                Some(&p) => {
                    waiting[i] += 1;
                    readers[p].push(i);
                }
                None => ensure!(
                    defined.contains(input.as_str()),
                    "node '{}' ({}) reads '{input}', which nothing defines",
                    node_name(node),
                    node.op_type
                ),
            }
        }
    }
    let mut ready: Vec<usize> = (0..graph.node.len()).filter(|&i| waiting[i] == 0).collect();
    let mut done = 0;
    while let Some(i) = ready.pop() {
        done += 1;
        for &reader in &readers[i] {
            waiting[reader] -= 1;
            if waiting[reader] == 0 {
                ready.push(reader);
            }
        }
    }
    if done < graph.node.len() {
        let stuck = (0..graph.node.len()).find(|&i| waiting[i] > 0).unwrap_or(0);
        bail!("the graph has a cycle through node '{}'", node_name(&graph.node[stuck]));
    }
    defined.extend(producers.keys());
    for output in &graph.output {
        ensure!(
            defined.contains(output.name.as_str()),
            "output '{}' is computed by no node",
            output.name
        );
    }
    for node in &graph.node {
        for attribute in &node.attribute {
            if let Some(tensor) = &attribute.t {
                check_tensor(tensor)?;
            }
            for inner in attribute.g.iter().chain(&attribute.graphs) {
                check_graph(inner, &defined)?;
            }
        }
    }
    Ok(())
}

fn element_count(dims: &[i64]) -> Option<usize> {
    dims.iter()
        .try_fold(1usize, |n, &d| n.checked_mul(usize::try_from(d).ok()?))
        .filter(|&n| n <= MAX_TENSOR_ELEMENTS)
}

fn check_tensor(tensor: &pb::TensorProto) -> Result<()> {
    use pb::tensor_proto::{DataLocation, DataType};
    let name = &tensor.name;
    let count = element_count(&tensor.dims)
        .with_context(|| format!("tensor '{name}' has an impossible shape {:?}", tensor.dims))?;
    let bits = match DataType::try_from(tensor.data_type).ok() {
        Some(DataType::Bool | DataType::Int8 | DataType::Uint8) => 8,
        Some(DataType::Int16 | DataType::Uint16 | DataType::Float16 | DataType::Bfloat16) => 16,
        Some(DataType::Int32 | DataType::Uint32 | DataType::Float) => 32,
        Some(DataType::Int64 | DataType::Uint64 | DataType::Double) => 64,
        Some(DataType::String) => {
            ensure!(
                tensor.string_data.len() == count,
                "tensor '{name}' of shape {:?} holds {} strings",
                tensor.dims,
                tensor.string_data.len()
            );
            return Ok(());
        }
        _ => return Ok(()),
    };
    if tensor.data_location == Some(DataLocation::External as i32) {
        return Ok(());
    }
    let held = if !tensor.raw_data.is_empty() {
        ensure!(
            tensor.raw_data.len() % (bits / 8) == 0,
            "tensor '{name}' ends in the middle of a value"
        );
        tensor.raw_data.len() / (bits / 8)
    } else {
        [
            tensor.float_data.len(),
            tensor.int32_data.len(),
            tensor.int64_data.len(),
            tensor.double_data.len(),
            tensor.uint64_data.len(),
        ]
        .into_iter()
        .max()
        .unwrap_or(0)
    };
    ensure!(
        held == count,
        "tensor '{name}' of shape {:?} needs {count} values, the file holds {held}",
        tensor.dims
    );
    Ok(())
}

fn is_scalar(port: &pb::ValueInfoProto) -> bool {
    match port.r#type.as_ref().and_then(|t| t.value.as_ref()) {
        Some(pb::type_proto::Value::TensorType(tensor)) => {
            tensor.shape.as_ref().is_some_and(|s| s.dim.is_empty())
        }
        _ => false,
    }
}

/// Constants that tract reads one number of, without looking whether there is one.
fn check_numbers(node: &pb::NodeProto, empty: &HashSet<&str>) -> Result<()> {
    let numbers = match node.op_type.as_str() {
        "If" | "BlackmanWindow" | "HammingWindow" | "HannWindow" => 0..1,
        "Loop" => 0..2,
        "Range" | "MelWeightMatrix" => 0..5,
        "CumSum" | "CumProd" | "OneHot" | "TopK" | "Trilu" => 1..2,
        "Clip" | "DFT" | "DequantizeLinear" | "Dropout" | "QuantizeLinear" => 1..3,
        "STFT" => 1..4,
        "NonMaxSuppression" => 2..5,
        "Pad" => 2..3,
        _ => return Ok(()),
    };
    for (place, input) in node.input.iter().enumerate() {
        ensure!(
            !numbers.contains(&place) || !empty.contains(input.as_str()),
            "node '{}' ({}) reads a number from '{input}', which has no elements",
            node_name(node),
            node.op_type
        );
    }
    Ok(())
}

/// Inputs of more elements than anything here is run with.
fn check_input_size(input: &pb::ValueInfoProto) -> Result<()> {
    use pb::tensor_shape_proto::dimension::Value;
    let Some(pb::type_proto::Value::TensorType(tensor)) =
        input.r#type.as_ref().and_then(|t| t.value.as_ref())
    else {
        return Ok(());
    };
    let known = tensor.shape.iter().flat_map(|s| &s.dim).filter_map(|d| match d.value {
        Some(Value::DimValue(n)) if n > 0 => Some(n),
        _ => None,
    });
    let dims: Vec<i64> = known.collect();
    ensure!(
        element_count(&dims).is_some_and(|n| n <= MAX_VALUE_ELEMENTS),
        "input '{}' is too large: {dims:?}",
        input.name
    );
    Ok(())
}

/// Kernels, strides, dilations and pads of convolutions and pools, which tract unrolls.
fn check_window(node: &pb::NodeProto) -> Result<()> {
    for attribute in &node.attribute {
        let product = match attribute.name.as_str() {
            "kernel_shape" => true,
            "strides" | "dilations" | "pads" | "output_padding" => false,
            _ => continue,
        };
        let sizes = attribute.ints.iter().map(|n| n.unsigned_abs());
        let size = match product {
            true => sizes.fold(1, u64::saturating_mul),
            false => sizes.max().unwrap_or(0),
        };
        ensure!(
            size <= MAX_WINDOW,
            "node '{}' ({}) has the {} {:?}, which is too large",
            node_name(node),
            node.op_type,
            attribute.name,
            attribute.ints
        );
    }
    Ok(())
}

/// The values of a short tensor of int32 or int64, as a shape is one.
fn integers(tensor: &pb::TensorProto) -> Vec<i64> {
    use pb::tensor_proto::DataType;
    let raw = &tensor.raw_data;
    if raw.len() > 8 * 64 || tensor.int32_data.len().max(tensor.int64_data.len()) > 64 {
        return vec![];
    }
    match DataType::try_from(tensor.data_type) {
        Ok(DataType::Int64) => {
            let raw = raw.as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b));
            tensor.int64_data.iter().copied().chain(raw).collect()
        }
        Ok(DataType::Int32) => {
            let raw = raw.as_chunks::<4>().0.iter().map(|b| i32::from_le_bytes(*b).into());
            tensor.int32_data.iter().map(|&n| n.into()).chain(raw).collect()
        }
        _ => vec![],
    }
}

/// Small constants that ask for huge tensors.
fn check_shape_bomb(node: &pb::NodeProto, constants: &HashMap<&str, Vec<i64>>) -> Result<()> {
    let shape_input = match node.op_type.as_str() {
        "ConstantOfShape" | "BlackmanWindow" | "HammingWindow" | "HannWindow" => 0,
        "Expand" | "Tile" | "OneHot" => 1,
        _ => return Ok(()),
    };
    let Some(dims) = node.input.get(shape_input).and_then(|i| constants.get(i.as_str())) else {
        return Ok(());
    };
    let sizes: Vec<i64> = dims.iter().map(|&d| d.max(1)).collect();
    ensure!(
        element_count(&sizes).is_some_and(|n| n <= MAX_VALUE_ELEMENTS),
        "node '{}' ({}) asks for a tensor of shape {dims:?}",
        node_name(node),
        node.op_type
    );
    Ok(())
}

fn framework() -> &'static tract_onnx::Onnx {
    static FRAMEWORK: std::sync::OnceLock<tract_onnx::Onnx> = std::sync::OnceLock::new();
    FRAMEWORK.get_or_init(|| {
        let mut onnx = tract_onnx::onnx();
        onnx_ops::register(&mut onnx.op_register);
        onnx.op_register.insert("Celu", celu::celu);
        onnx.op_register.insert("RNN", recurrent::rnn);
        onnx.op_register.insert("GRU", recurrent::gru);
        onnx.op_register.insert("LSTM", recurrent::lstm);
        onnx.op_register.insert("If", control::conditional);
        onnx.op_register.insert("Loop", control::repeated);
        onnx.op_register.insert("Scan", control::scanned);
        onnx.with_ignore_value_info(true).with_ignore_output_shapes(true)
    })
}

/// A graph of known types and shapes (symbols allowed), decluttered, with the ONNX names of its ends.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub model: TypedModel,
    pub inputs: Vec<String>,
    pub outputs: Vec<String>,
}

/// Brings a checked model into tract. `folder` holds its external data.
///
/// # Errors
/// Names the node that does not type-check; a panic or hang in tract is an error too.
pub fn load(proto: Arc<pb::ModelProto>, folder: Option<&Path>) -> Result<Loaded> {
    load_decluttered(proto, folder, |model| model.declutter())
}

/// [`load`] for lowering: operators stay as the file has them where tract would split products of a
/// concatenation and move axes for its own kernels.
pub fn load_to_lower(proto: Arc<pb::ModelProto>, folder: Option<&Path>) -> Result<Loaded> {
    load_decluttered(proto, folder, |model| {
        let mut optimizer = tract_core::optim::Optimizer::declutter();
        optimizer.passes.retain(|pass| {
            let name = format!("{pass:?}");
            !name.starts_with("ConcatThenEinsum") && !name.starts_with("ChangeAxes")
        });
        optimizer.session().optimize(model)
    })
}

fn load_decluttered(
    proto: Arc<pb::ModelProto>,
    folder: Option<&Path>,
    declutter: fn(&mut TypedModel) -> Result<()>,
) -> Result<Loaded> {
    let size = proto.encoded_len() as u64;
    let folder = folder.and_then(|f| f.to_str()).map(str::to_string);
    guard::with_allowance("loading the graph", Allowance::for_bytes(size), move || {
        let parsed = framework().parse(&proto, folder.as_deref())?;
        let graph = proto.graph.as_ref().context("no graph")?;
        let outputs = graph.output.iter().map(|o| o.name.clone()).collect();
        let mut model = parsed.model.into_typed()?;
        mend::mend(&mut model)?;
        declutter(&mut model)?;
        let inputs =
            model.input_outlets()?.iter().map(|o| model.node(o.node).name.clone()).collect();
        Ok(Loaded { model, inputs, outputs })
    })
}

/// ConstantOfShape without a value fills with float32 zeros (ONNX); tract would take float64.
fn name_default_fill(proto: &mut pb::ModelProto) {
    let nodes = proto.graph.iter_mut().flat_map(|g| &mut g.node);
    for node in nodes.filter(|n| n.op_type == "ConstantOfShape" && n.attribute.is_empty()) {
        let zero = pb::TensorProto {
            data_type: pb::tensor_proto::DataType::Float as i32,
            dims: vec![1],
            float_data: vec![0.0],
            ..Default::default()
        };
        node.attribute.push(pb::AttributeProto {
            name: "value".into(),
            r#type: pb::attribute_proto::AttributeType::Tensor as i32,
            t: Some(zero),
            ..Default::default()
        });
    }
}

/// Where `auto_pad` is set, `pads` say nothing (onnxruntime); tract would take them.
fn drop_shadowed_pads(proto: &mut pb::ModelProto) {
    for node in proto.graph.iter_mut().flat_map(|g| &mut g.node) {
        let shadows = |a: &pb::AttributeProto| {
            a.name == "auto_pad" && !a.s.is_empty() && a.s != b"NOTSET"[..]
        };
        if node.attribute.iter().any(shadows) {
            node.attribute.retain(|a| a.name != "pads");
        }
    }
}

/// A model of our own making as tract first types it: not decluttered, sources in the proto's order.
pub fn parse_typed(proto: &pb::ModelProto) -> Result<TypedModel> {
    framework().parse(proto, None)?.model.into_typed()
}

/// Gives every unnamed or unusable dimension of the inputs a symbol: the first axes share `N`.
fn name_unknown_dims(proto: &mut pb::ModelProto) {
    use pb::tensor_shape_proto::dimension::Value as DimValue;
    let Some(graph) = &mut proto.graph else { return };
    let constants: HashSet<&String> = graph.initializer.iter().map(|t| &t.name).collect();
    for (i, input) in graph.input.iter_mut().enumerate() {
        if constants.contains(&input.name) {
            continue;
        }
        let Some(pb::type_proto::Value::TensorType(tensor)) =
            input.r#type.as_mut().and_then(|t| t.value.as_mut())
        else {
            continue;
        };
        for (axis, dim) in tensor.shape.iter_mut().flat_map(|s| &mut s.dim).enumerate() {
            let name = match &dim.value {
                Some(DimValue::DimValue(n)) if *n > 0 => continue,
                Some(DimValue::DimParam(name)) if !name.is_empty() && name != "?" => {
                    let word: String = name
                        .chars()
                        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
                        .collect();
                    if word.starts_with(|c: char| c.is_ascii_digit() || c == '_') {
                        format!("d{word}")
                    } else {
                        word
                    }
                }
                _ if axis == 0 => "N".to_string(),
                _ => format!("d{i}_{axis}"),
            };
            dim.value = Some(DimValue::DimParam(name));
        }
    }
}

/// A dimension as ONNX declares it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnnxDim<'a> {
    Number(i64),
    Name(&'a str),
}

/// A float32 input or output of a graph.
pub fn float_port<'a>(name: &str, dims: impl Iterator<Item = OnnxDim<'a>>) -> pb::ValueInfoProto {
    use pb::tensor_shape_proto::{Dimension, dimension::Value};
    let dim = |dim| {
        let value = match dim {
            OnnxDim::Number(n) => Value::DimValue(n),
            OnnxDim::Name(name) => Value::DimParam(name.to_string()),
        };
        Dimension { value: Some(value), ..Default::default() }
    };
    let tensor = pb::type_proto::Tensor {
        elem_type: pb::tensor_proto::DataType::Float as i32,
        shape: Some(pb::TensorShapeProto { dim: dims.map(dim).collect() }),
    };
    let value = Some(pb::type_proto::Value::TensorType(tensor));
    pb::ValueInfoProto {
        name: name.into(),
        r#type: Some(pb::TypeProto { value, ..Default::default() }),
        ..Default::default()
    }
}

/// `float32` for ONNX's code 1.
pub fn element_name(code: i32) -> Option<String> {
    use pb::tensor_proto::DataType;
    Some(match DataType::try_from(code).ok()? {
        DataType::Undefined => return None,
        DataType::Float => "float32".into(),
        DataType::Double => "float64".into(),
        other => other.as_str_name().to_ascii_lowercase(),
    })
}

/// The float32 initializers that the file itself holds: name and little-endian values.
pub fn float_constants(proto: &pb::ModelProto) -> impl Iterator<Item = (&str, Cow<'_, [u8]>)> {
    let initializers = proto.graph.iter().flat_map(|g| &g.initializer);
    let floats = initializers.filter(|t| t.data_type == pb::tensor_proto::DataType::Float as i32);
    floats.map(|t| {
        let values = || t.float_data.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
        match t.raw_data.is_empty() {
            true => (t.name.as_str(), Cow::Owned(values())),
            false => (t.name.as_str(), Cow::Borrowed(t.raw_data.as_slice())),
        }
    })
}

/// The bytes that a tensor's data take in the file.
pub fn data_bytes(tensor: &pb::TensorProto) -> u64 {
    let typed = tensor.float_data.len() * 4
        + tensor.int32_data.len() * 4
        + tensor.int64_data.len() * 8
        + tensor.double_data.len() * 8
        + tensor.uint64_data.len() * 8;
    (tensor.raw_data.len() + typed) as u64
}

/// The element code and the dimensions, as text, of a graph's input or output.
pub fn port_type(port: &pb::ValueInfoProto) -> Option<(i32, Vec<String>)> {
    use pb::tensor_shape_proto::dimension::Value;
    let pb::type_proto::Value::TensorType(tensor) = port.r#type.as_ref()?.value.as_ref()?;
    let dims = tensor.shape.iter().flat_map(|s| &s.dim).map(|dim| match &dim.value {
        Some(Value::DimValue(n)) => n.to_string(),
        Some(Value::DimParam(name)) if !name.is_empty() => name.clone(),
        _ => "?".to_string(),
    });
    Some((tensor.elem_type, dims.collect()))
}
