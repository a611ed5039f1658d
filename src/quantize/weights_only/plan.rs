//! Which constants become integers, and how their readers get at the reals.

use super::{
    DEQUANTIZE_BYTES, FloatConstant, LEAST_NUMBERS, SCALE_BYTES, WeightOptions, WeightScheme,
    count, element,
};
use crate::graph::{Activation, ElementType, LiteOp, Model, Node, Subgraph, TensorId};
use crate::quantize::keep_float::keeps;
use crate::quantize::parameters::finite_values;

/// Which constants become integers, by subgraph; edits nothing.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct WeightPlan {
    pub changes: Vec<Vec<Change>>,
    /// Constants that become float16, in place of a change.
    pub halves: Vec<Vec<TensorId>>,
    pub float_constants: Vec<FloatConstant>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Change {
    pub tensor: TensorId,
    /// Each slice along it has a scale of its own; `None` is one scale for all.
    pub axis: Option<usize>,
    /// Slices along it are summed up with what they meet; tables have none.
    pub filters: Option<usize>,
    pub form: Form,
}

/// How the readers of a constant get at its reals.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Form {
    /// They take the integers.
    Hybrid,
    /// DEQUANTIZE stands between.
    Dequantize,
    /// They take the integers, of which each so many along the last axis have a scale.
    Blocks(usize),
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
    pub fn new(model: &Model, options: &WeightOptions) -> WeightPlan {
        let mut plan = WeightPlan { changes: vec![], halves: vec![], float_constants: vec![] };
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
            plan.halves.push(vec![]);
        }
        plan
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
    let is_dense = |&(number, _): &(usize, usize)| {
        matches!(graph.nodes[number].op, LiteOp::FullyConnected { .. })
    };
    let in_blocks = options.block_size.filter(|&size| {
        let divides = shape.last().is_some_and(|inputs| inputs.is_multiple_of(size));
        divides && options.scheme == WeightScheme::Int4 && readers.iter().all(is_dense)
    });
    let (form, axis) = match (first, in_blocks) {
        (Role::Weights { axis, hybrid: true }, Some(size)) if alike => {
            (Form::Blocks(size), Some(axis))
        }
        (role, _) => form_of_role(role, dynamic && alike),
    };
    let axis = axis.filter(|_| !options.per_tensor);
    let filters = match first {
        Role::Weights { axis, .. } => Some(axis),
        Role::Table { .. } => None,
    };
    let change = Change { tensor, axis, filters, form };
    let scales = match form {
        Form::Blocks(size) => count(constant) / size,
        _ => axis.map_or(1, |axis| shape[axis]),
    };
    let extra = if form == Form::Hybrid { 0 } else { DEQUANTIZE_BYTES };
    let bytes = element(options.scheme).bytes(count(constant)).unwrap_or(usize::MAX);
    let bytes = bytes.saturating_add(scales.saturating_mul(SCALE_BYTES)).saturating_add(extra);
    if bytes >= constant.data.as_ref().map_or(0, |data| data.len()) {
        return Err(format!("{scales} scales would make it no smaller"));
    }
    Ok(change)
}

/// How readers of one role get at the reals, and which axis has scales.
fn form_of_role(role: Role, hybrid_kernels: bool) -> (Form, Option<usize>) {
    match role {
        Role::Weights { axis, hybrid: true } if hybrid_kernels => (Form::Hybrid, Some(axis)),
        // what is picked has no scales of its own
        Role::Table { .. } if hybrid_kernels => (Form::Rows, None),
        Role::Weights { axis, .. } | Role::Table { axis } => (Form::Dequantize, Some(axis)),
    }
}
