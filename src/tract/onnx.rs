//! ONNX: protobuf bytes → checked `ModelProto` → decluttered `TypedModel`.
//!
//! The bytes are hostile: everything tract would trust (sizes, names, order) is checked first.

mod control;
mod dynamic;
mod quantized_forms;
mod recurrent;
mod stored;
mod weights;

use super::*;
use crate::graph::{UnsupportedOp, UnsupportedOps};
use crate::tract::guard::{self, Allowance};
use ::anyhow::{Context, Result, bail, ensure};
pub use dynamic::DYNAMIC;
use prost::Message;
use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::Path;
pub use stored::Stored;
pub use weights::Weights;

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
    prepared(decode_to_look_at(bytes)?)
}

/// Checked and made fit for tract.
fn prepared(mut proto: pb::ModelProto) -> Result<pb::ModelProto> {
    check(&proto, &Weights::new())?;
    prepare(&mut proto);
    Ok(proto)
}

/// What a checked model needs before tract may have it.
fn prepare(proto: &mut pb::ModelProto) {
    name_nodes(proto);
    compute_outputs(proto);
    name_unknown_dims(proto);
    if let Some(graph) = &mut proto.graph {
        for_each_node(graph, &mut name_default_fill);
        for_each_node(graph, &mut drop_shadowed_pads);
    }
    proto.graph.iter_mut().for_each(quantized_forms::rephrase);
    proto.graph.iter_mut().for_each(mend::rephrase);
}

/// A checked model whose large initializers stay in their files.
#[derive(Debug, Clone)]
pub struct OnnxFile {
    /// Without the values of the `weights`.
    pub proto: pb::ModelProto,
    /// The values of large initializers, in their files.
    pub weights: Weights,
    /// Whether some of the data lie in other files than the model's.
    pub has_external_data: bool,
}

impl From<pb::ModelProto> for OnnxFile {
    fn from(proto: pb::ModelProto) -> OnnxFile {
        OnnxFile { has_external_data: has_external_data(&proto), proto, weights: Weights::new() }
    }
}

/// As [`decode`], but nothing large is copied. `folder` holds external data.
///
/// # Errors
/// As [`read`]; external data that is missing, short, or outside the folder.
pub fn open(bytes: bytes::Bytes, folder: Option<&Path>) -> Result<OnnxFile> {
    let (mut proto, mut weights) = match weights::take_out(&bytes) {
        Some((rest, weights)) => (decode_to_look_at(rest.into())?, weights),
        None => (decode_to_look_at(bytes)?, Weights::new()),
    };
    check_external_data(&proto, folder)?;
    let has_external_data = has_external_data(&proto);
    if let Some(graph) = &mut proto.graph {
        weights::read_external(graph, folder, &mut weights)?;
    }
    check(&proto, &weights)?;
    prepare(&mut proto);
    Ok(OnnxFile { proto, weights, has_external_data })
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

fn check(proto: &pb::ModelProto, weights: &Weights) -> Result<()> {
    let graph = proto.graph.as_ref().context("it holds no graph")?;
    let version = opset(proto);
    ensure!(
        version <= NEWEST_OPSET && proto.ir_version <= NEWEST_IR,
        "the model is newer than this mlctl knows: opset {version}, IR {} (newest known: opset \
         {NEWEST_OPSET}, IR {NEWEST_IR}); export it with an older opset or update mlctl",
        proto.ir_version
    );
    let is_default = |n: &pb::NodeProto| n.domain.is_empty() || n.domain == "ai.onnx";
    ensure!(
        version > 0 || proto.ir_version < 3 || !graph.node.iter().any(is_default),
        "the model does not say which opset its ops are of; export it again with an opset_import"
    );
    let unsupported = unsupported_ops(proto);
    if !unsupported.is_empty() {
        bail!(UnsupportedOps::from(unsupported));
    }
    check_graph(graph, &HashSet::new(), weights)
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
            Some(format!("custom domain '{}'; export it as standard ONNX ops", node.domain))
        } else if let Some(reason) = quantized_forms::refusal(node, opset(proto)) {
            Some(reason)
        } else if !registry.contains_key(&node.op_type) && !quantized_forms::knows(node) {
            let way_out = "export it as simpler ops, or end the model before it";
            Some(format!("no implementation in the runtime; {way_out}"))
        } else if trains(node) {
            Some("training mode; export the model for inference".to_string())
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

/// Whether a normalization takes the mean and variance of what it is given: tract takes those it was trained to.
fn trains(node: &pb::NodeProto) -> bool {
    let training = |a: &pb::AttributeProto| a.name == "training_mode" && a.i != 0;
    node.op_type == "BatchNormalization" && node.attribute.iter().any(training)
}

pub(super) fn node_name(node: &pb::NodeProto) -> &str {
    if node.name.is_empty() { node.output.first().map_or("", |o| o) } else { &node.name }
}

/// Sizes of tensors, names of values, and an order in which the nodes can run.
fn check_graph(graph: &pb::GraphProto, outer: &HashSet<&str>, weights: &Weights) -> Result<()> {
    let mut constants: HashMap<&str, Vec<i64>> = HashMap::new();
    let mut tensors: HashMap<&str, &pb::TensorProto> = HashMap::new();
    for tensor in &graph.initializer {
        check_tensor(tensor, weights.get(&tensor.name))?;
        constants.insert(&tensor.name, integers(tensor));
        ensure!(
            tensors.insert(&tensor.name, tensor).is_none(),
            "value '{}' is defined twice",
            tensor.name
        );
    }
    let mut defined: HashSet<&str> = outer.clone();
    defined.extend(graph.initializer.iter().map(|t| t.name.as_str()));
    let mut inputs = HashSet::new();
    for input in &graph.input {
        check_input_size(input)?;
        ensure!(inputs.insert(input.name.as_str()), "input '{}' is declared twice", input.name);
        defined.insert(&input.name);
    }
    let mut producers: HashMap<&str, usize> = HashMap::new();
    for (i, node) in graph.node.iter().enumerate() {
        for output in node.output.iter().filter(|o| !o.is_empty()) {
            ensure!(
                producers.insert(output, i).is_none()
                    && !inputs.contains(output.as_str())
                    && !constants.contains_key(output.as_str()),
                "value '{output}' is defined twice"
            );
        }
    }
    tensors.extend(self::constants(graph));
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
        }
    }
    for (i, node) in graph.node.iter().enumerate() {
        check_shape_bomb(node, &constants)?;
        check_window(node)?;
        sanity::check(node, &tensors)?;
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
    let mut outputs = HashSet::new();
    for output in &graph.output {
        ensure!(outputs.insert(&output.name), "output '{}' is listed twice", output.name);
        ensure!(
            defined.contains(output.name.as_str()),
            "output '{}' is computed by no node",
            output.name
        );
    }
    for node in &graph.node {
        for attribute in &node.attribute {
            if let Some(tensor) = &attribute.t {
                check_tensor(tensor, None)?;
            }
            for inner in attribute.g.iter().chain(&attribute.graphs) {
                check_graph(inner, &defined, &Weights::new())?;
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

/// That the data fill the shape; `elsewhere` are those of a tensor whose data are not in the message.
fn check_tensor(tensor: &pb::TensorProto, elsewhere: Option<&bytes::Bytes>) -> Result<()> {
    let name = &tensor.name;
    let count = element_count(&tensor.dims)
        .with_context(|| format!("tensor '{name}' has an impossible shape {:?}", tensor.dims))?;
    if tensor.data_type == pb::tensor_proto::DataType::String as i32 {
        ensure!(
            tensor.string_data.len() == count,
            "tensor '{name}' of shape {:?} holds {} strings",
            tensor.dims,
            tensor.string_data.len()
        );
        return Ok(());
    }
    let Some(bits) = element_bits(tensor.data_type) else { return Ok(()) };
    if elsewhere.is_none() && external_data::is_external(tensor) {
        return Ok(());
    }
    let raw = elsewhere.map_or(tensor.raw_data.len(), |bytes| bytes.len());
    let held = if raw > 0 {
        ensure!(raw % (bits / 8) == 0, "tensor '{name}' ends in the middle of a value");
        raw / (bits / 8)
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

/// Bits of an element in a file; `None` for strings, complex numbers and what is packed.
fn element_bits(data_type: i32) -> Option<usize> {
    use pb::tensor_proto::DataType;
    Some(match DataType::try_from(data_type).ok()? {
        DataType::Bool | DataType::Int8 | DataType::Uint8 => 8,
        DataType::Int16 | DataType::Uint16 | DataType::Float16 | DataType::Bfloat16 => 16,
        DataType::Int32 | DataType::Uint32 | DataType::Float => 32,
        DataType::Int64 | DataType::Uint64 | DataType::Double => 64,
        _ => return None,
    })
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
        onnx_ops::check_inputs(&mut onnx.op_register);
        onnx.with_ignore_value_info(true).with_ignore_output_shapes(true)
    })
}

/// A graph of known types and shapes (symbols allowed), decluttered, with the ONNX names of its ends.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub model: TypedModel,
    pub inputs: Vec<String>,
    pub outputs: Vec<String>,
    /// Constants that the file holds in integers.
    pub stored: Vec<Stored>,
}

/// Brings a checked model into tract. `folder` holds its external data.
///
/// # Errors
/// Names the node that does not type-check; a panic or hang in tract is an error too.
pub fn load(file: Arc<OnnxFile>, folder: Option<&Path>) -> Result<Loaded> {
    load_decluttered(file, folder, |_| (), optimize::declutter)
}

/// [`load`] for lowering: operators stay as the file has them where tract would split products of a
/// concatenation and move axes for its own kernels.
pub fn load_to_lower(file: Arc<OnnxFile>, folder: Option<&Path>) -> Result<Loaded> {
    load_decluttered(file, folder, dynamic::rephrase, optimize::declutter_to_lower)
}

fn check_external_data(proto: &pb::ModelProto, folder: Option<&Path>) -> Result<()> {
    let graphs = proto.graph.iter().flat_map(graphs);
    let tensors = graphs.flat_map(|g| {
        let attributes = g.node.iter().flat_map(|n| &n.attribute);
        g.initializer.iter().chain(attributes.flat_map(|a| a.t.iter().chain(&a.tensors)))
    });
    external_data::check(tensors, folder, |tensor| {
        let bytes =
            element_count(&tensor.dims)?.checked_mul(element_bits(tensor.data_type)? / 8)?;
        Some(bytes as u64)
    })
}

fn has_external_data(proto: &pb::ModelProto) -> bool {
    proto.graph.iter().flat_map(graphs).flat_map(|g| &g.initializer).any(external_data::is_external)
}

fn load_decluttered(
    file: Arc<OnnxFile>,
    folder: Option<&Path>,
    rephrase: fn(&mut pb::GraphProto),
    declutter: fn(&mut TypedModel) -> Result<()>,
) -> Result<Loaded> {
    check_external_data(&file.proto, folder)?;
    let size = file.proto.encoded_len() as u64
        + file.weights.values().map(|w| w.len() as u64).sum::<u64>();
    let folder = folder.and_then(|f| f.to_str()).map(str::to_string);
    guard::with_allowance("loading the graph", Allowance::for_bytes(size), move || {
        let mut proto = file.proto.clone();
        proto.graph.iter_mut().for_each(rephrase);
        let proto = weights::as_inputs(&proto, &file.weights);
        let graph = proto.graph.as_ref().context("no graph")?;
        let parsed = framework().parse(&proto, folder.as_deref());
        let mut parsed = parsed.map_err(|e| with_way_out(e, graph))?;
        weights::put_back(&mut parsed.model, &file.weights)?;
        let outputs = graph.output.iter().map(|o| o.name.clone()).collect();
        let mut model = parsed.model.into_typed().map_err(|e| with_way_out(e, graph))?;
        mend::mend(&mut model)?;
        number_outputs(&mut model, graph)?;
        let stored = stored::stored_constants(&model)?;
        declutter(&mut model)?;
        let inputs =
            model.input_outlets()?.iter().map(|o| model.node(o.node).name.clone()).collect();
        Ok(Loaded { model, inputs, outputs, stored })
    })
}

/// An error of tract's with the node that it names and what helps most often.
fn with_way_out(error: ::anyhow::Error, graph: &pb::GraphProto) -> ::anyhow::Error {
    let text = format!("{error:#}");
    let words: HashSet<&str> = text.split([' ', '"', ':', ',']).collect();
    let named = graph.node.iter().find(|n| words.contains(node_name(n)));
    let Some(node) = named.filter(|n| !node_name(n).is_empty()) else { return error };
    error.context(format!(
        "node '{}' ({}) cannot be loaded; make its shapes and parameters constants when exporting, or give \
         open dimensions sizes with --set NAME=N",
        node_name(node),
        node.op_type
    ))
}

/// A graph as tract first types it, and which of its outlets each value of the file became.
#[derive(Debug)]
pub struct LoadedValues {
    pub model: TypedModel,
    pub inputs: Vec<String>,
    pub outlets: HashMap<String, OutletId>,
}

/// As [`load`], with every value of the file still there.
pub fn load_values(file: Arc<OnnxFile>, folder: Option<&Path>) -> Result<LoadedValues> {
    let loaded = load_decluttered(file, folder, |_| (), |_| Ok(()))?;
    let labels = loaded.model.outlet_labels.iter();
    let outlets = labels.map(|(outlet, name)| (name.clone(), *outlet)).collect();
    Ok(LoadedValues { inputs: loaded.inputs, outlets, model: loaded.model })
}

/// The dimensions of a model's values by name, with a batch of one; open ones are `None`.
///
/// # Errors
/// As [`decode`] and [`load`].
pub fn shapes_of_one_row(
    proto: pb::ModelProto,
    folder: Option<&Path>,
) -> Result<HashMap<String, Vec<Option<usize>>>> {
    let loaded = load_values(Arc::new(prepared(proto)?.into()), folder)?;
    let row = OneRow::of(&loaded.model)?;
    let constants = loaded.model.nodes().iter().filter(|n| n.inputs.is_empty());
    let constants = constants.map(|n| (n.name.clone(), OutletId::new(n.id, 0)));
    let values = loaded.outlets.iter().map(|(name, outlet)| (name.clone(), *outlet));
    constants.chain(values).map(|(name, outlet)| Ok((name, row.dims(outlet)?))).collect()
}

/// Gives nodes of one name names of their own: ONNX allows that, tract does not.
fn name_nodes(proto: &mut pb::ModelProto) {
    let Some(graph) = &mut proto.graph else { return };
    let mut taken: HashSet<String> = HashSet::new();
    for (i, node) in graph.node.iter_mut().enumerate() {
        if !node.name.is_empty() && !taken.insert(node.name.clone()) {
            node.name = format!("{}_{i}", node.name);
            taken.insert(node.name.clone());
        }
    }
}

/// An output that is an input is a copy of it, under a name of its own.
fn compute_outputs(proto: &mut pb::ModelProto) {
    let Some(graph) = &mut proto.graph else { return };
    let inputs: HashSet<&String> = graph.input.iter().map(|i| &i.name).collect();
    let mut copies = vec![];
    for output in graph.output.iter_mut().filter(|o| inputs.contains(&o.name)) {
        let copy = format!("{}_output", output.name);
        copies.push(pb::NodeProto {
            op_type: "Identity".into(),
            name: copy.clone(),
            input: vec![std::mem::replace(&mut output.name, copy.clone())],
            output: vec![copy],
            ..Default::default()
        });
    }
    graph.node.extend(copies);
}

/// Outputs that are shapes get the integer type that the file declares.
fn number_outputs(model: &mut TypedModel, graph: &pb::GraphProto) -> Result<()> {
    use pb::tensor_proto::DataType;
    let mut outlets = model.output_outlets()?.to_vec();
    for (outlet, output) in outlets.iter_mut().zip(&graph.output) {
        if model.outlet_fact(*outlet)?.datum_type == DatumType::TDim {
            let declared = port_type(output).map(|(code, _)| code);
            let to = match declared == Some(DataType::Int32 as i32) {
                true => DatumType::I32,
                false => DatumType::I64,
            };
            let name = model.unique_name(&output.name);
            *outlet = model.wire_node(name, ops::cast::cast(to), &[*outlet])?[0];
        }
    }
    model.select_output_outlets(&outlets)
}

/// Changes the nodes of a graph and of those inside it.
fn for_each_node(graph: &mut pb::GraphProto, change: &mut impl FnMut(&mut pb::NodeProto)) {
    for node in &mut graph.node {
        change(node);
        for inner in node.attribute.iter_mut().flat_map(|a| a.g.iter_mut().chain(&mut a.graphs)) {
            for_each_node(inner, change);
        }
    }
}

/// ConstantOfShape without a value fills with float32 zeros (ONNX); tract would take float64.
fn name_default_fill(node: &mut pb::NodeProto) {
    if node.op_type == "ConstantOfShape" && node.attribute.is_empty() {
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
fn drop_shadowed_pads(node: &mut pb::NodeProto) {
    let shadows =
        |a: &pb::AttributeProto| a.name == "auto_pad" && !a.s.is_empty() && a.s != b"NOTSET"[..];
    if node.attribute.iter().any(shadows) {
        node.attribute.retain(|a| a.name != "pads");
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
                Some(DimValue::DimParam(name)) if !name.is_empty() && name != "?" => symbol(name),
                _ if axis == 0 => "N".to_string(),
                _ => format!("d{i}_{axis}"),
            };
            dim.value = Some(DimValue::DimParam(name));
        }
    }
}

/// The symbol for a dimension's name: letters, digits and `_`, a letter first.
fn symbol(name: &str) -> String {
    let as_word = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let word: String = name.chars().map(as_word).collect();
    match word.starts_with(|c: char| c.is_ascii_digit() || c == '_') {
        true => format!("d{word}"),
        false => word,
    }
}

/// Gives the dimension `name` of the inputs of a [`decode`]d model the size `size`.
///
/// # Errors
/// Names the dimensions that the model has, where `name` is none of them.
pub fn set_dimension(proto: &mut pb::ModelProto, name: &str, size: usize) -> Result<()> {
    use pb::tensor_shape_proto::dimension::Value;
    let graph = proto.graph.as_mut().context("it holds no graph")?;
    let size = i64::try_from(size)?;
    let mut names = BTreeSet::new();
    let mut found = false;
    let ports = graph.input.iter_mut().map(|port| (port, true));
    let others = graph.output.iter_mut().chain(&mut graph.value_info).map(|port| (port, false));
    for (port, is_input) in ports.chain(others) {
        let Some(pb::type_proto::Value::TensorType(tensor)) =
            port.r#type.as_mut().and_then(|t| t.value.as_mut())
        else {
            continue;
        };
        for dim in tensor.shape.iter_mut().flat_map(|s| &mut s.dim) {
            let Some(Value::DimParam(param)) = &dim.value else { continue };
            if symbol(param) == symbol(name) {
                found |= is_input;
                dim.value = Some(Value::DimValue(size));
            } else if is_input {
                names.insert(param.clone());
            }
        }
    }
    ensure!(found, unknown_dimension(name, names));
    Ok(())
}

/// Says which dimensions there are instead of `name`.
pub fn unknown_dimension(name: &str, names: impl IntoIterator<Item = String>) -> String {
    let names: Vec<String> = names.into_iter().map(|n| format!("'{n}'")).collect();
    match names.is_empty() {
        true => format!("no dimension '{name}' can be set: the inputs' shapes are fixed"),
        false => format!("the inputs have no dimension '{name}'; there are {}", names.join(", ")),
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

/// The float32 initializers of a file: name and little-endian values.
pub fn float_constants(file: &OnnxFile) -> impl Iterator<Item = (&str, Cow<'_, [u8]>)> {
    let initializers = file.proto.graph.iter().flat_map(|g| &g.initializer);
    let floats = initializers.filter(|t| t.data_type == pb::tensor_proto::DataType::Float as i32);
    floats.map(|t| {
        let values = || t.float_data.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
        let data = match file.weights.get(&t.name) {
            Some(bytes) => Cow::Borrowed(&bytes[..]),
            None if t.raw_data.is_empty() => Cow::Owned(values()),
            None => Cow::Borrowed(t.raw_data.as_slice()),
        };
        (t.name.as_str(), data)
    })
}

/// The initializers and the tensors of `Constant` nodes, by name; graphs inside are included.
pub fn constants(graph: &pb::GraphProto) -> Vec<(&str, &pb::TensorProto)> {
    let mut found = vec![];
    for graph in graphs(graph) {
        found.extend(graph.initializer.iter().map(|t| (t.name.as_str(), t)));
        for node in graph.node.iter().filter(|n| n.op_type == "Constant") {
            let tensor = node.attribute.iter().find_map(|a| a.t.as_ref());
            found.extend(node.output.first().map(String::as_str).zip(tensor));
        }
    }
    found
}

/// The operator of each node, by the node's name and by those of its outputs.
pub fn op_types(proto: &pb::ModelProto) -> HashMap<&str, &str> {
    let nodes = proto.graph.iter().flat_map(|g| &g.node);
    let names = nodes.flat_map(|node| {
        let names = node.output.iter().chain([&node.name]).filter(|name| !name.is_empty());
        names.map(|name| (name.as_str(), node.op_type.as_str()))
    });
    names.collect()
}

/// A graph and those inside its nodes' attributes, the outer first.
pub fn graphs(graph: &pb::GraphProto) -> Vec<&pb::GraphProto> {
    let mut graphs = vec![graph];
    let mut next = 0;
    while let Some(graph) = graphs.get(next).copied() {
        let attributes = graph.node.iter().flat_map(|n| &n.attribute);
        graphs.extend(attributes.flat_map(|a| a.g.iter().chain(&a.graphs)));
        next += 1;
    }
    graphs
}

/// The bytes that a tensor's data take in the file, or in another one.
pub fn data_bytes(tensor: &pb::TensorProto) -> u64 {
    if external_data::is_external(tensor) {
        let length = tensor.external_data.iter().find(|e| e.key == "length");
        let count = element_count(&tensor.dims).zip(element_bits(tensor.data_type));
        let by_shape = || count.map(|(count, bits)| count as u64 * (bits as u64 / 8));
        return length.and_then(|l| l.value.parse().ok()).or_else(by_shape).unwrap_or(0);
    }
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
