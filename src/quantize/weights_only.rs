//! Weight-only schemes: constants become int8 or int4, the graph's values stay float32. `dynamic` gives int8 weights to
//! the ops that LiteRT has hybrid kernels for; every other constant is read through DEQUANTIZE.

use super::int4::{int4_weights, packed};
use super::keep_float::{check_names, keeps};
use super::keep_sums::keep_sums;
use super::layers::is_quantized;
use super::parameters::{Int8Weights, finite_values, int8_weights};
use crate::graph::{
    Activation, ElementType, LiteOp, Model, Node, Quantization, Subgraph, Tensor, TensorId,
};
use anyhow::{Context, Result, ensure};
use regex_lite::Regex;
use serde::Serialize;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightScheme {
    /// Int8 weights; the ops that can make their inputs int8 as they run.
    Dynamic,
    /// Int8 constants that DEQUANTIZE widens.
    Int8,
    /// Int4 constants, two a byte, that DEQUANTIZE widens.
    Int4,
}

#[derive(Debug, Clone)]
pub struct WeightOptions {
    pub scheme: WeightScheme,
    /// One scale for all of a layer's weights, not one a channel.
    pub per_tensor: bool,
    /// The weights of layers whose result's name one of these matches stay float32.
    pub keep_float: Vec<Regex>,
}

/// What became of the float32 constants.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WeightReport {
    /// `int8` or `int4`.
    #[serde(rename = "type")]
    pub element: &'static str,
    pub constants: usize,
    pub numbers: usize,
    /// Numbers in all float32 constants there were.
    pub all_numbers: usize,
    /// Constants that stay float32 though they are not small.
    pub float_constants: Vec<FloatConstant>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FloatConstant {
    pub name: String,
    pub why: String,
}

/// Constants of fewer numbers stay float32: they take next to no bytes. (TFLiteConverter's limit is 1,024, which
/// leaves a last layer of 10 classes as large as the rest of its net's overhead.)
const LEAST_NUMBERS: usize = 512;
/// What a scale and its zero point take in a file, and what a DEQUANTIZE and its tensor do.
const SCALE_BYTES: usize = 4 + 8;
const DEQUANTIZE_BYTES: usize = 200;

/// Quantizes the weights of `model` in place.
///
/// # Errors
/// The model is quantized already; there are no weights to quantize; a `keep_float` matches no layer.
pub fn quantize_weights(model: &mut Model, options: &WeightOptions) -> Result<WeightReport> {
    ensure!(!is_quantized(model), "the model is quantized already; start from the float model");
    check_names(&options.keep_float, &model.subgraphs)?;
    let plan = WeightPlan::new(model, options);
    let planned = plan.changes.iter().zip(&model.subgraphs);
    let sizes = planned.flat_map(|(changes, graph)| {
        changes.iter().map(|change| count(&graph.tensors[change.tensor]))
    });
    let sizes: Vec<usize> = sizes.collect();
    let tensors = model.subgraphs.iter().flat_map(|graph| &graph.tensors);
    let floats = tensors.filter(|t| t.element == ElementType::F32 && t.data.is_some());
    let all_numbers = floats.map(count).sum();
    ensure!(
        !sizes.is_empty(),
        "no layer has weights of {LEAST_NUMBERS} numbers or more that can become {}{}",
        element(options.scheme),
        match plan.float_constants.first() {
            Some(first) => format!("; '{}' cannot: {}", first.name, first.why),
            None => String::new(),
        }
    );
    plan.apply(model, options)?;
    model.validate().context("the quantized graph")?;
    Ok(WeightReport {
        element: element(options.scheme).name(),
        constants: sizes.len(),
        numbers: sizes.iter().sum(),
        all_numbers,
        float_constants: plan.float_constants,
    })
}

fn element(scheme: WeightScheme) -> ElementType {
    match scheme {
        WeightScheme::Dynamic | WeightScheme::Int8 => ElementType::I8,
        WeightScheme::Int4 => ElementType::I4,
    }
}

fn count(tensor: &Tensor) -> usize {
    tensor.known_shape().map_or(0, |shape| shape.iter().product())
}

/// Which constants become integers, by subgraph; edits nothing.
#[derive(Debug, Clone, PartialEq)]
struct WeightPlan {
    changes: Vec<Vec<Change>>,
    float_constants: Vec<FloatConstant>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Change {
    tensor: TensorId,
    /// Each slice along it has a scale of its own; `None` is one scale for all.
    axis: Option<usize>,
    /// Slices along it are summed up with what they meet; tables have none.
    filters: Option<usize>,
    form: Form,
}

/// How the readers of a constant get at its reals.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Form {
    /// They take the integers.
    Hybrid,
    /// DEQUANTIZE stands between.
    Dequantize,
    /// GATHER picks integers, and DEQUANTIZE widens what it picked.
    Rows,
}

/// What a constant is to one of its readers.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Role {
    /// Its slices along `axis` belong to one result each.
    Weights { axis: usize, hybrid: bool },
    /// A table whose slices along `axis` are picked.
    Table { axis: usize },
}

/// What stands at `place` among the operands of `node`, if weights of `rank` dimensions can.
fn role(graph: &Subgraph, node: &Node, place: usize, rank: usize) -> Option<Role> {
    let role = match (&node.op, place) {
        (LiteOp::Conv2D { .. } | LiteOp::FullyConnected { .. }, 1) => {
            Role::Weights { axis: 0, hybrid: has_hybrid_kernel(graph, node) }
        }
        (LiteOp::DepthwiseConv2D { .. }, 1) => {
            Role::Weights { axis: 3, hybrid: has_hybrid_kernel(graph, node) }
        }
        (LiteOp::TransposeConv { .. }, 1) => Role::Weights { axis: 0, hybrid: false },
        (LiteOp::Conv3D { .. }, 1) => Role::Weights { axis: 4, hybrid: false },
        (LiteOp::BatchMatMul { transpose_x, .. }, 0) => {
            let back = if *transpose_x { 1 } else { 2 };
            Role::Weights { axis: rank.checked_sub(back)?, hybrid: false }
        }
        (LiteOp::BatchMatMul { transpose_y, .. }, 1) => {
            let back = if *transpose_y { 2 } else { 1 };
            Role::Weights { axis: rank.checked_sub(back)?, hybrid: false }
        }
        (LiteOp::Gather { axis, batch_dims: 0 }, 0) => {
            let last = i32::try_from(rank).ok()?;
            let axis = if *axis < 0 { axis + last } else { *axis };
            Role::Table { axis: usize::try_from(axis).ok()? }
        }
        _ => return None,
    };
    let (Role::Weights { axis, .. } | Role::Table { axis }) = role;
    (axis < rank).then_some(role)
}

/// Whether LiteRT computes this float32 layer on int8 weights.
fn has_hybrid_kernel(graph: &Subgraph, node: &Node) -> bool {
    use Activation::{SignBit, Tanh};
    let operand = |place: usize| node.inputs.get(place).copied().flatten();
    let is_float = |id: TensorId| graph.tensors[id].element == ElementType::F32;
    let input = operand(0).is_some_and(|id| is_float(id) && graph.tensors[id].data.is_none());
    let plain = !node.op.clone().activation_mut().is_some_and(|a| matches!(*a, Tanh | SignBit));
    input && plain && operand(2).is_none_or(is_float)
}

impl WeightPlan {
    fn new(model: &Model, options: &WeightOptions) -> WeightPlan {
        let mut plan = WeightPlan { changes: vec![], float_constants: vec![] };
        for graph in &model.subgraphs {
            let mut readers: Vec<Vec<(usize, usize)>> = vec![vec![]; graph.tensors.len()];
            for (number, node) in graph.nodes.iter().enumerate() {
                for (place, tensor) in node.inputs.iter().enumerate() {
                    tensor.iter().for_each(|&tensor| readers[tensor].push((number, place)));
                }
            }
            let mut changes = vec![];
            for (tensor, readers) in readers.iter().enumerate() {
                let constant = &graph.tensors[tensor];
                let is_float = constant.element == ElementType::F32 && constant.data.is_some();
                if !is_float || count(constant) < LEAST_NUMBERS || readers.is_empty() {
                    continue;
                }
                match change(graph, tensor, readers, options) {
                    Ok(change) => changes.push(change),
                    Err(why) => {
                        let name = constant.name.clone();
                        plan.float_constants.push(FloatConstant { name, why });
                    }
                }
            }
            plan.changes.push(changes);
        }
        plan
    }

    fn apply(&self, model: &mut Model, options: &WeightOptions) -> Result<()> {
        for (graph, changes) in model.subgraphs.iter_mut().zip(&self.changes) {
            let mut widening = vec![];
            for change in changes {
                let integers = integers(&graph.tensors[change.tensor], change, graph, options)?;
                match change.form {
                    Form::Hybrid => {
                        graph.tensors[change.tensor] = integers;
                        for node in readers(&mut graph.nodes, change.tensor) {
                            if let LiteOp::FullyConnected { asymmetric_quantize_inputs, .. } =
                                &mut node.op
                            {
                                *asymmetric_quantize_inputs = true;
                            }
                        }
                    }
                    Form::Dequantize => {
                        let name = format!("{}/{}", integers.name, integers.element.name());
                        graph.tensors[change.tensor].data = None;
                        let narrow = graph.add_tensor(Tensor { name, ..integers });
                        widening.push(dequantize(narrow, change.tensor));
                    }
                    Form::Rows => {
                        let quantization = integers.quantization.clone();
                        graph.tensors[change.tensor] = integers;
                        widen_picked(graph, change.tensor, &quantization);
                    }
                }
            }
            graph.nodes.splice(0..0, widening);
        }
        Ok(())
    }
}

/// What becomes of a constant, or why it stays float32.
fn change(
    graph: &Subgraph,
    tensor: TensorId,
    readers: &[(usize, usize)],
    options: &WeightOptions,
) -> Result<Change, String> {
    let constant = &graph.tensors[tensor];
    let shape = constant.known_shape().unwrap_or_default();
    if graph.outputs.contains(&tensor) || graph.inputs.contains(&tensor) {
        return Err("it is an input or output of its graph".into());
    }
    let mut roles = vec![];
    for &(number, place) in readers {
        let node = &graph.nodes[number];
        if let Some(regex) = keeps(&options.keep_float, graph, node) {
            return Err(format!("--keep-float '{}'", regex.as_str()));
        }
        match role(graph, node, place, shape.len()) {
            Some(role) => roles.push(role),
            None => return Err(format!("{} reads it, not as weights", node.op.name())),
        }
    }
    if finite_values(constant).is_none() {
        return Err("a value is not finite".into());
    }
    let Some(&first) = roles.first() else { return Err("nothing reads it".into()) };
    let alike = roles.iter().all(|&role| role == first);
    let dynamic = options.scheme == WeightScheme::Dynamic;
    let (form, axis) = match first {
        Role::Weights { axis, hybrid: true } if dynamic && alike => (Form::Hybrid, Some(axis)),
        // what is picked has no scales of its own
        Role::Table { .. } if dynamic && alike => (Form::Rows, None),
        Role::Weights { axis, .. } | Role::Table { axis } => (Form::Dequantize, Some(axis)),
    };
    let axis = axis.filter(|_| !options.per_tensor);
    let filters = match first {
        Role::Weights { axis, .. } => Some(axis),
        Role::Table { .. } => None,
    };
    let change = Change { tensor, axis, filters, form };
    let scales = axis.map_or(1, |axis| shape[axis]);
    let extra = if form == Form::Hybrid { 0 } else { DEQUANTIZE_BYTES };
    let bytes = element(options.scheme).bytes(count(constant)).unwrap_or(usize::MAX);
    let bytes = bytes.saturating_add(scales.saturating_mul(SCALE_BYTES)).saturating_add(extra);
    if bytes >= constant.data.as_ref().map_or(0, |data| data.len()) {
        return Err(format!("{scales} scales would make it no smaller"));
    }
    Ok(change)
}

/// The constant of `change` as integers, under its name.
fn integers(
    old: &Tensor,
    change: &Change,
    graph: &Subgraph,
    options: &WeightOptions,
) -> Result<Tensor> {
    let values = finite_values(old).context("weights that are not finite constants")?;
    let shape = old.known_shape().context("weights of an open shape")?;
    let (mut weights, most) = match options.scheme {
        WeightScheme::Dynamic | WeightScheme::Int8 => {
            (int8_weights(&values, &shape, change.axis, |_| 0.0), 127)
        }
        WeightScheme::Int4 => (int4_weights(&values, &shape, change.axis), 7),
    };
    if let Some(filters) = change.filters {
        let reads_taps = |node: &Node| match node.op {
            LiteOp::Conv2D { .. } => node.inputs.get(1) == Some(&Some(change.tensor)),
            _ => false,
        };
        let taps = graph.nodes.iter().any(reads_taps).then(|| shape[1] * shape[2]);
        keep_sums(&mut weights, &values, &shape, filters, taps, most);
    }
    let Int8Weights { integers, mut scales } = weights;
    let data: Vec<u8> = match options.scheme {
        WeightScheme::Dynamic | WeightScheme::Int8 => integers.iter().map(|&v| v as u8).collect(),
        WeightScheme::Int4 => packed(&integers),
    };
    let reads = |node: &&Node| node.inputs.contains(&Some(change.tensor));
    let channels = match graph.nodes.iter().find(reads).map(|node| &node.op) {
        // LiteRT's hybrid kernels of these look for a scale a channel where there is but one
        Some(LiteOp::Conv2D { .. }) if change.form == Form::Hybrid => Some(0),
        Some(LiteOp::DepthwiseConv2D { .. }) if change.form == Form::Hybrid => Some(3),
        _ => None,
    };
    if let (None, Some(axis)) = (change.axis, channels) {
        scales = vec![scales[0]; shape[axis]];
    }
    let quantization = match change.axis.or(channels) {
        Some(axis) => Quantization::PerChannel { zero_points: vec![0; scales.len()], scales, axis },
        None => Quantization::PerTensor { scale: scales[0], zero_point: 0 },
    };
    Ok(Tensor {
        name: old.name.clone(),
        origin: old.origin.clone(),
        element: element(options.scheme),
        shape: old.shape.clone(),
        quantization: Some(quantization),
        data: Some(data.into()),
    })
}

fn readers(nodes: &mut [Node], tensor: TensorId) -> impl Iterator<Item = &mut Node> {
    nodes.iter_mut().filter(move |node| node.inputs.contains(&Some(tensor)))
}

fn dequantize(from: TensorId, to: TensorId) -> Node {
    Node { op: LiteOp::Dequantize, inputs: vec![Some(from)], outputs: vec![to] }
}

/// DEQUANTIZE behind each GATHER of `table`.
fn widen_picked(graph: &mut Subgraph, table: TensorId, quantization: &Option<Quantization>) {
    let mut nodes = vec![];
    for mut node in std::mem::take(&mut graph.nodes) {
        let picks = node.inputs.first() == Some(&Some(table));
        let (true, &[picked]) = (picks, node.outputs.as_slice()) else {
            nodes.push(node);
            continue;
        };
        let old = &graph.tensors[picked];
        let name = format!("{}/int8", old.name);
        let mut narrow = Tensor::variable(name, ElementType::I8, old.shape.clone());
        narrow.origin = old.origin.clone();
        narrow.quantization = quantization.clone();
        let narrow = graph.add_tensor(narrow);
        node.outputs = vec![narrow];
        nodes.push(node);
        nodes.push(dequantize(narrow, picked));
    }
    graph.nodes = nodes;
}

#[cfg(test)]
mod tests;
