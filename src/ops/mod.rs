//! One file a family: how each op lowers from tract, raises into tract, is read and written.
//!
//! Invariant: ops describe; the walks in `lower/`, `raise/`, `read/` and `write/` own the order and the
//! files. Matching on `LiteOp` has no `_ =>` arm, so the compiler lists what a new op still lacks.

mod activation;
mod cast;
mod compose;
mod conv;
mod elementwise;
mod gather;
mod matmul;
mod max_pool_indices;
mod normalize;
mod pad;
mod pool;
mod reduce;
mod reshape_passage;
mod resize;
mod runtime_version;
mod scatter;
mod shape;
mod slice;
mod softmax;
mod transpose_conv;
mod window;

use crate::format::tflite::{BuiltinOperator, BuiltinOptions, TensorType};
use crate::graph::{Dim, ElementType, LiteOp, Node, Subgraph, Tensor, TensorId};
use crate::tract::{
    self, AxisOp, DatumType, DimLike, IntoArcTensor, OutletId, SpecialOps, TDim, TypedModel,
    TypedNode, TypedOp,
};
pub use reshape_passage::{reshape_untransposed, target_constant};
pub use runtime_version::oldest_runtime;

use anyhow::{Context, Result, anyhow, ensure};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Lowers `node` into `ctx`; `None` where the family does not know the tract op. An error is the
/// reason why a known op cannot be expressed.
type Lowering = fn(&mut LowerContext, &TypedNode) -> Result<Option<()>>;

const LOWERINGS: [Lowering; 16] = [
    conv::lower,
    pool::lower,
    max_pool_indices::lower,
    slice::lower,
    pad::lower,
    gather::lower,
    scatter::lower,
    normalize::lower,
    resize::lower,
    matmul::lower,
    elementwise::lower,
    activation::lower,
    softmax::lower,
    reduce::lower,
    shape::lower,
    cast::lower,
];

/// Lowers one tract node.
///
/// # Errors
/// Why the op cannot be expressed in the lite graph.
pub fn lower(ctx: &mut LowerContext, node: &TypedNode) -> Result<()> {
    for lowering in LOWERINGS {
        if lowering(ctx, node)?.is_some() {
            return Ok(());
        }
    }
    Err(anyhow!("no TFLite form for {}", node.op.name()))
}

/// Raises one lite node: wires tract ops with its exact semantics.
pub fn raise(ctx: &mut RaiseContext, node: &Node) -> Result<()> {
    match family(&node.op) {
        Family::Activation => activation::raise(ctx, node),
        Family::Cast => cast::raise(ctx, node),
        Family::Conv => conv::raise(ctx, node),
        Family::Elementwise => elementwise::raise(ctx, node),
        Family::Gather => gather::raise(ctx, node),
        Family::Matmul => matmul::raise(ctx, node),
        Family::Pad => pad::raise(ctx, node),
        Family::Pool => pool::raise(ctx, node),
        Family::Reduce => reduce::raise(ctx, node),
        Family::Resize => resize::raise(ctx, node),
        Family::Scatter => scatter::raise(ctx, node),
        Family::Shape => shape::raise(ctx, node),
        Family::Slice => slice::raise(ctx, node),
        Family::Softmax => softmax::raise(ctx, node),
        Family::Custom => Err(anyhow!("custom op '{}' has no kernel here", node.op.name())),
    }
}

/// A TFLite operator as values, without tensors.
#[derive(Debug, Clone, PartialEq)]
pub struct TfliteOp {
    pub builtin: BuiltinOperator,
    pub version: i32,
    pub options: BuiltinOptions,
    pub custom: Option<(String, bytes::Bytes)>,
}

impl TfliteOp {
    fn new(builtin: BuiltinOperator, version: i32, options: BuiltinOptions) -> TfliteOp {
        TfliteOp { builtin, version, options, custom: None }
    }
}

/// The lite op that a file's operator is.
///
/// # Errors
/// The operator is not in the vocabulary, or its options are not supported.
pub fn read(op: &TfliteOp) -> Result<LiteOp> {
    if let Some((code, options)) = &op.custom {
        return Ok(LiteOp::Custom { code: code.clone(), options: options.clone() });
    }
    type Reader = fn(&TfliteOp) -> Result<Option<LiteOp>>;
    const READERS: [Reader; 14] = [
        conv::read,
        pool::read,
        slice::read,
        pad::read,
        gather::read,
        scatter::read,
        resize::read,
        matmul::read,
        elementwise::read,
        activation::read,
        softmax::read,
        reduce::read,
        shape::read,
        cast::read,
    ];
    for reader in READERS {
        if let Some(lite) = reader(op)? {
            return Ok(lite);
        }
    }
    Err(anyhow!("no reader for {}", op.builtin.name()))
}

/// How a node is written to a `.tflite` file: operator, options and the version its types ask for.
pub fn write(graph: &Subgraph, node: &Node) -> Result<TfliteOp> {
    match family(&node.op) {
        Family::Activation => activation::write(graph, node),
        Family::Cast => cast::write(graph, node),
        Family::Conv => conv::write(graph, node),
        Family::Elementwise => elementwise::write(graph, node),
        Family::Gather => gather::write(graph, node),
        Family::Matmul => matmul::write(graph, node),
        Family::Pad => pad::write(graph, node),
        Family::Pool => pool::write(graph, node),
        Family::Reduce => reduce::write(graph, node),
        Family::Resize => resize::write(graph, node),
        Family::Scatter => scatter::write(graph, node),
        Family::Shape => shape::write(graph, node),
        Family::Slice => slice::write(graph, node),
        Family::Softmax => softmax::write(graph, node),
        Family::Custom => write_custom(&node.op),
    }
}

fn write_custom(op: &LiteOp) -> Result<TfliteOp> {
    let LiteOp::Custom { code, options } = op else { return Err(anyhow!("not a custom op")) };
    Ok(TfliteOp {
        builtin: BuiltinOperator::CUSTOM,
        version: 1,
        options: BuiltinOptions::None,
        custom: Some((code.clone(), options.clone())),
    })
}

/// How an op lets a permutation of its inputs' axes through.
///
/// For `permutation` p, every computed input of the node is `transpose(x, p)`. Then the node is as well
/// `op` on the x themselves, with the `constants` in place of its own, and each old output is
/// `transpose(new output, q)` for its q in `outputs`.
#[derive(Debug, Clone, PartialEq)]
pub struct Passage {
    pub op: LiteOp,
    /// Inputs, by place, that become other constants.
    pub constants: Vec<(usize, Tensor)>,
    pub outputs: Vec<Vec<usize>>,
}

/// How a permutation passes `node`; `None` where it does not.
pub fn permute(graph: &Subgraph, node: &Node, permutation: &[usize]) -> Option<Passage> {
    match family(&node.op) {
        Family::Activation => activation::permute(graph, node, permutation),
        Family::Cast => cast::permute(graph, node, permutation),
        Family::Conv => conv::permute(graph, node, permutation),
        Family::Elementwise => elementwise::permute(graph, node, permutation),
        Family::Gather => gather::permute(graph, node, permutation),
        Family::Matmul => matmul::permute(graph, node, permutation),
        Family::Pad => pad::permute(graph, node, permutation),
        Family::Pool => pool::permute(graph, node, permutation),
        Family::Reduce => reduce::permute(graph, node, permutation),
        Family::Resize => resize::permute(graph, node, permutation),
        Family::Scatter => scatter::permute(graph, node, permutation),
        Family::Shape => shape::permute(graph, node, permutation),
        Family::Slice => slice::permute(graph, node, permutation),
        Family::Softmax => softmax::permute(graph, node, permutation),
        Family::Custom => None,
    }
}

/// The passage through ops that treat all elements alike: constants of full rank are moved along.
fn permute_elementwise(graph: &Subgraph, node: &Node, permutation: &[usize]) -> Option<Passage> {
    let rank = permutation.len();
    let mut constants = vec![];
    for (i, &input) in node.inputs.iter().enumerate() {
        let tensor = &graph.tensors[input?];
        match &tensor.data {
            None if tensor.shape.len() == rank => {}
            None => return None,
            Some(_) => {
                if let Some(moved) = permute_constant(tensor, permutation)? {
                    constants.push((i, moved));
                }
            }
        }
    }
    let outputs = vec![permutation.to_vec(); node.outputs.len()];
    Some(Passage { op: node.op.clone(), constants, outputs })
}

/// The constant `c` with `transpose(c, p)` = `tensor`, once `tensor` has got leading 1s up to p's rank;
/// `Some(None)` if it may stay as it is.
pub fn permute_constant(tensor: &Tensor, permutation: &[usize]) -> Option<Option<Tensor>> {
    let rank = permutation.len();
    let shape = tensor.known_shape()?;
    if shape.iter().product::<usize>() == 1 {
        return Some(None);
    }
    let missing = rank.checked_sub(shape.len())?;
    let shape: Vec<usize> = std::iter::repeat_n(1, missing).chain(shape).collect();
    let width = tensor.element.bits().filter(|b| b % 8 == 0)? / 8;
    let data = tensor.data.as_ref()?;
    let mut target_shape = vec![0; rank];
    for (axis, &p) in permutation.iter().enumerate() {
        target_shape[p] = shape[axis];
    }
    let mut strides = vec![1usize; rank];
    for axis in (0..rank.saturating_sub(1)).rev() {
        strides[axis] = strides[axis + 1] * target_shape[axis + 1];
    }
    let mut moved = vec![0u8; data.len()];
    let mut index = vec![0usize; rank];
    for element in data.chunks_exact(width) {
        let place: usize = (0..rank).map(|axis| index[axis] * strides[permutation[axis]]).sum();
        moved[place * width..][..width].copy_from_slice(element);
        for axis in (0..rank).rev() {
            index[axis] += 1;
            if index[axis] < shape[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
    Some(Some(Tensor {
        shape: target_shape.into_iter().map(Dim::Known).collect(),
        data: Some(moved.into()),
        ..tensor.clone()
    }))
}

enum Family {
    Activation,
    Cast,
    Conv,
    Custom,
    Elementwise,
    Gather,
    Matmul,
    Pad,
    Pool,
    Reduce,
    Resize,
    Scatter,
    Shape,
    Slice,
    Softmax,
}

/// The file that knows an op.
fn family(op: &LiteOp) -> Family {
    match op {
        LiteOp::Unary(_) | LiteOp::LeakyRelu { .. } | LiteOp::Gelu { .. } | LiteOp::PRelu => {
            Family::Activation
        }
        LiteOp::Cast | LiteOp::Dequantize => Family::Cast,
        LiteOp::Conv2D { .. }
        | LiteOp::DepthwiseConv2D { .. }
        | LiteOp::Conv3D { .. }
        | LiteOp::TransposeConv { .. } => Family::Conv,
        LiteOp::Binary { .. } | LiteOp::Select => Family::Elementwise,
        LiteOp::Gather { .. }
        | LiteOp::GatherNd
        | LiteOp::OneHot { .. }
        | LiteOp::Range
        | LiteOp::Fill => Family::Gather,
        LiteOp::ScatterNd => Family::Scatter,
        LiteOp::Pad | LiteOp::MirrorPad { .. } => Family::Pad,
        LiteOp::FullyConnected { .. } | LiteOp::BatchMatMul { .. } => Family::Matmul,
        LiteOp::Pool2D { .. } | LiteOp::LocalResponseNormalization { .. } => Family::Pool,
        LiteOp::Reduce { .. }
        | LiteOp::ArgMax { .. }
        | LiteOp::ArgMin { .. }
        | LiteOp::CumSum { .. }
        | LiteOp::TopK => Family::Reduce,
        LiteOp::ResizeBilinear { .. }
        | LiteOp::ResizeNearest { .. }
        | LiteOp::DepthToSpace { .. }
        | LiteOp::SpaceToDepth { .. } => Family::Resize,
        LiteOp::Reshape
        | LiteOp::Transpose
        | LiteOp::Squeeze { .. }
        | LiteOp::ExpandDims
        | LiteOp::Shape { .. }
        | LiteOp::BroadcastTo
        | LiteOp::Tile => Family::Shape,
        LiteOp::Concatenation { .. }
        | LiteOp::Pack { .. }
        | LiteOp::Unpack { .. }
        | LiteOp::Split
        | LiteOp::SplitV
        | LiteOp::Slice
        | LiteOp::StridedSlice { .. }
        | LiteOp::Reverse => Family::Slice,
        LiteOp::Softmax { .. } | LiteOp::LogSoftmax => Family::Softmax,
        LiteOp::Custom { .. } => Family::Custom,
    }
}

/// The element type of input `index`, for choosing an operator's version.
fn input_element(graph: &Subgraph, node: &Node, index: usize) -> Option<ElementType> {
    node.inputs.get(index).copied().flatten().map(|t| graph.tensors[t].element)
}

/// An operator's version by the element type of what it works on; 1 for those not listed.
fn version_of(element: Option<ElementType>, versions: &[(ElementType, i32)]) -> i32 {
    let listed = versions.iter().find(|(listed, _)| Some(*listed) == element);
    listed.map_or(1, |&(_, version)| version)
}

/// What a lowering may see and do: tract's graph to read, the lite graph to build.
pub struct LowerContext<'a> {
    pub model: &'a TypedModel,
    pub graph: Subgraph,
    tensors: HashMap<OutletId, TensorId>,
    names: HashSet<String>,
}

impl<'a> LowerContext<'a> {
    pub fn new(model: &'a TypedModel) -> LowerContext<'a> {
        LowerContext {
            model,
            graph: Subgraph::default(),
            tensors: HashMap::new(),
            names: HashSet::new(),
        }
    }

    /// The value of an outlet that is constant.
    pub fn constant(&self, outlet: OutletId) -> Option<&Arc<tract::Tensor>> {
        self.model.outlet_fact(outlet).ok()?.konst.as_ref()
    }

    pub fn shape(&self, outlet: OutletId) -> Result<Vec<TDim>> {
        Ok(self.model.outlet_fact(outlet)?.shape.iter().cloned().collect())
    }

    pub fn element(&self, outlet: OutletId) -> Result<ElementType> {
        element_type(self.model.outlet_fact(outlet)?.datum_type)
    }

    /// The lite tensor that stands for `outlet`; a constant is added on first use.
    pub fn tensor(&mut self, outlet: OutletId) -> Result<TensorId> {
        if let Some(&tensor) = self.tensors.get(&outlet) {
            return Ok(tensor);
        }
        let value = self.constant(outlet).cloned();
        let name = &self.model.node(outlet.node).name;
        let value = value.with_context(|| format!("value '{name}' was not lowered"))?;
        let tensor = self.add_constant(name, &value)?;
        self.tensors.insert(outlet, tensor);
        Ok(tensor)
    }

    pub fn has_tensor(&self, outlet: OutletId) -> bool {
        self.tensors.contains_key(&outlet)
    }

    /// Makes `outlet` a graph output of that name.
    pub fn add_output(&mut self, outlet: OutletId, name: &str) -> Result<()> {
        let tensor = self.tensor(outlet)?;
        let id = if self.graph.inputs.contains(&tensor) || self.graph.outputs.contains(&tensor) {
            let shape = self.shape(outlet)?;
            let target = reshape_target(&shape)?;
            let target = self.add_i32_constant(&format!("{name}/shape"), &target);
            let element = self.graph.tensors[tensor].element;
            self.emit(name, LiteOp::Reshape, &[tensor, target], element, &shape)
        } else {
            tensor
        };
        if self.graph.tensors[id].name != name {
            if let Some(other) = self.graph.tensors.iter().position(|t| t.name == name) {
                self.graph.tensors[other].name = self.free_name(name);
            }
            self.names.insert(name.to_string());
            self.graph.tensors[id].name = name.to_string();
        }
        self.graph.tensors[id].origin = Some(name.to_string());
        self.graph.outputs.push(id);
        Ok(())
    }

    pub fn into_graph(self) -> Subgraph {
        self.graph
    }

    pub fn add_constant(&mut self, name: &str, value: &tract::Tensor) -> Result<TensorId> {
        let (element, data) = constant_bytes(value)?;
        let name = self.free_name(name);
        Ok(self.graph.add_tensor(Tensor::constant(name, element, value.shape(), data)))
    }

    pub fn add_i32_constant(&mut self, name: &str, values: &[i32]) -> TensorId {
        let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let name = self.free_name(name);
        let tensor = Tensor::constant(name, ElementType::I32, &[values.len()], data.into());
        self.graph.add_tensor(tensor)
    }

    /// A graph input.
    pub fn add_input(&mut self, outlet: OutletId, name: &str) -> Result<()> {
        let shape = dims(&self.shape(outlet)?);
        self.names.insert(name.to_string());
        let tensor = Tensor::variable(name, self.element(outlet)?, shape);
        let id = self.graph.add_tensor(Tensor { origin: Some(name.into()), ..tensor });
        self.graph.inputs.push(id);
        self.tensors.insert(outlet, id);
        Ok(())
    }

    /// Adds a node whose one result is not (yet) an outlet of tract's graph.
    pub fn emit(
        &mut self,
        name: &str,
        op: LiteOp,
        inputs: &[TensorId],
        element: ElementType,
        shape: &[TDim],
    ) -> TensorId {
        let name = self.free_name(name);
        let tensor = self.graph.add_tensor(Tensor::variable(name, element, dims(shape)));
        let inputs = inputs.iter().map(|&i| Some(i)).collect();
        self.graph.nodes.push(Node { op, inputs, outputs: vec![tensor] });
        tensor
    }

    /// Adds a node whose result is `node`'s first outlet.
    pub fn emit_result(&mut self, node: &TypedNode, op: LiteOp, inputs: &[TensorId]) -> Result<()> {
        let outlet = OutletId::new(node.id, 0);
        let (element, shape) = (self.element(outlet)?, self.shape(outlet)?);
        let tensor = self.emit(&node.name, op, inputs, element, &shape);
        self.bind(node, tensor);
        Ok(())
    }

    /// Adds a node of several results.
    pub fn emit_several(
        &mut self,
        op: LiteOp,
        inputs: &[TensorId],
        results: &[(String, ElementType, Vec<TDim>)],
    ) -> Vec<TensorId> {
        let mut outputs = vec![];
        for (name, element, shape) in results {
            let name = self.free_name(name);
            outputs.push(self.graph.add_tensor(Tensor::variable(name, *element, dims(shape))));
        }
        let inputs = inputs.iter().map(|&i| Some(i)).collect();
        self.graph.nodes.push(Node { op, inputs, outputs: outputs.clone() });
        outputs
    }

    /// Says that `tensor` is `node`'s first outlet.
    pub fn bind(&mut self, node: &TypedNode, tensor: TensorId) {
        self.bind_outlet(OutletId::new(node.id, 0), tensor);
    }

    /// Says that `tensor` is `outlet`.
    pub fn bind_outlet(&mut self, outlet: OutletId, tensor: TensorId) {
        let node = self.model.node(outlet.node);
        let origin = self.model.outlet_label(outlet).unwrap_or(&node.name).to_string();
        self.graph.tensors[tensor].origin.get_or_insert(origin);
        self.tensors.insert(outlet, tensor);
    }

    /// `tensor` as a tensor of `shape`: itself, or through a RESHAPE.
    pub fn reshape(
        &mut self,
        name: &str,
        tensor: TensorId,
        from: &[TDim],
        shape: &[TDim],
    ) -> Result<TensorId> {
        if from == shape {
            return Ok(tensor);
        }
        let element = self.graph.tensors[tensor].element;
        let target_name = format!("{name}/shape");
        let target = match reshape_target(shape) {
            Ok(target) => self.add_i32_constant(&target_name, &target),
            Err(_) => self.shape_tensor(&target_name, shape)?,
        };
        Ok(self.emit(name, LiteOp::Reshape, &[tensor, target], element, shape))
    }

    /// `tensor` with its axes in the order `permutation`: itself, or through a TRANSPOSE.
    pub fn transpose(
        &mut self,
        name: &str,
        tensor: TensorId,
        from: &[TDim],
        permutation: &[usize],
    ) -> TensorId {
        if permutation.iter().enumerate().all(|(i, &p)| i == p) {
            return tensor;
        }
        let order: Vec<i32> = permutation.iter().map(|&p| p as i32).collect();
        let constant = self.add_i32_constant(&format!("{name}/permutation"), &order);
        let shape: Vec<TDim> = permutation.iter().map(|&p| from[p].clone()).collect();
        let element = self.graph.tensors[tensor].element;
        self.emit(name, LiteOp::Transpose, &[tensor, constant], element, &shape)
    }

    fn free_name(&mut self, wanted: &str) -> String {
        let mut name = wanted.to_string();
        let mut suffix = 0;
        while !self.names.insert(name.clone()) {
            suffix += 1;
            name = format!("{wanted}_{suffix}");
        }
        name
    }
}

/// What a raise may see and do: the lite graph to read, tract's graph to build.
pub struct RaiseContext<'a> {
    pub graph: &'a Subgraph,
    pub model: TypedModel,
    outlets: Vec<Option<OutletId>>,
}

impl<'a> RaiseContext<'a> {
    pub fn new(graph: &'a Subgraph) -> RaiseContext<'a> {
        let outlets = vec![None; graph.tensors.len()];
        RaiseContext { graph, model: TypedModel::default(), outlets }
    }

    /// Which outlet each tensor became.
    pub fn into_parts(self) -> (TypedModel, Vec<Option<OutletId>>) {
        (self.model, self.outlets)
    }

    pub fn set(&mut self, tensor: TensorId, outlet: OutletId) {
        self.outlets[tensor] = Some(outlet);
    }

    /// The outlet of `node`'s input `index`; constants are added on first use.
    pub fn input(&mut self, node: &Node, index: usize) -> Result<OutletId> {
        let tensor = node.inputs.get(index).copied().flatten();
        let tensor = tensor.with_context(|| format!("{} lacks input {index}", node.op.name()))?;
        self.outlet(tensor)
    }

    pub fn has_input(&self, node: &Node, index: usize) -> bool {
        node.inputs.get(index).copied().flatten().is_some()
    }

    pub fn outlet(&mut self, tensor: TensorId) -> Result<OutletId> {
        if let Some(outlet) = self.outlets[tensor] {
            return Ok(outlet);
        }
        let constant = &self.graph.tensors[tensor];
        let value = tract_constant(constant)?;
        let outlet = self.model.add_const(unique(&self.model, &constant.name), value)?;
        self.outlets[tensor] = Some(outlet);
        Ok(outlet)
    }

    /// The values of a constant int32 input.
    pub fn i32_input(&self, node: &Node, index: usize) -> Result<Vec<i32>> {
        let tensor = node.inputs.get(index).copied().flatten();
        tensor
            .and_then(|t| self.graph.tensors[t].i32_values())
            .with_context(|| format!("{}: input {index} must be an int32 constant", node.op.name()))
    }

    pub fn shape(&self, outlet: OutletId) -> Result<Vec<TDim>> {
        Ok(self.model.outlet_fact(outlet)?.shape.iter().cloned().collect())
    }

    pub fn wire(
        &mut self,
        name: &str,
        op: impl Into<Box<dyn TypedOp>>,
        inputs: &[OutletId],
    ) -> Result<OutletId> {
        let name = unique(&self.model, name);
        Ok(self.model.wire_node(name, op.into(), inputs)?[0])
    }

    /// Ends `node`: its only output is `outlet`, under the output tensor's name.
    pub fn finish(&mut self, node: &Node, outlet: OutletId) -> Result<()> {
        let &[tensor] = node.outputs.as_slice() else {
            return Err(anyhow!("{} must have one output", node.op.name()));
        };
        self.set(tensor, outlet);
        Ok(())
    }

    /// Ends a `node` of several outputs.
    pub fn finish_all(&mut self, node: &Node, outlets: &[OutletId]) -> Result<()> {
        ensure!(
            outlets.len() == node.outputs.len(),
            "{} must have {} outputs",
            node.op.name(),
            outlets.len()
        );
        node.outputs.iter().zip(outlets).for_each(|(&tensor, &outlet)| self.set(tensor, outlet));
        Ok(())
    }

    pub fn output_name(&self, node: &Node) -> &'a str {
        node.outputs.first().map_or("", |&t| &self.graph.tensors[t].name)
    }

    /// A scalar constant of `like`'s rank and type.
    pub fn scalar_like(&mut self, value: f32, like: OutletId) -> Result<OutletId> {
        let fact = self.model.outlet_fact(like)?;
        let (rank, dt) = (fact.rank(), fact.datum_type);
        let scalar =
            tract::tensor0(value).cast_to_dt(dt)?.into_owned().broadcast_into_rank(rank)?;
        self.model.add_const(unique(&self.model, "scalar"), scalar.into_arc_tensor())
    }

    /// Gives both operands the same rank by leading 1s, as numpy's broadcasting does.
    pub fn equalize_ranks(
        &mut self,
        name: &str,
        a: OutletId,
        b: OutletId,
    ) -> Result<[OutletId; 2]> {
        let rank = |m: &TypedModel, o| m.outlet_fact(o).map(|f| f.rank());
        let target = rank(&self.model, a)?.max(rank(&self.model, b)?);
        let mut grow = |mut outlet: OutletId| -> Result<OutletId> {
            while rank(&self.model, outlet)? < target {
                let name = unique(&self.model, &format!("{name}/rank"));
                outlet = self.model.wire_node(name, AxisOp::Add(0), &[outlet])?[0];
            }
            Ok(outlet)
        };
        Ok([grow(a)?, grow(b)?])
    }
}

/// A node name that `model` has not used.
pub fn unique(model: &TypedModel, wanted: &str) -> String {
    let taken = |name: &str| model.nodes.iter().any(|n| n.name == name);
    if !taken(wanted) {
        return wanted.to_string();
    }
    (1..).map(|i| format!("{wanted}.{i}")).find(|n| !taken(n)).unwrap_or_default()
}

pub fn element_type(datum: DatumType) -> Result<ElementType> {
    Ok(match datum {
        DatumType::F32 => ElementType::F32,
        DatumType::F16 => ElementType::F16,
        DatumType::I8 => ElementType::I8,
        DatumType::U8 => ElementType::U8,
        DatumType::I16 => ElementType::I16,
        DatumType::I32 => ElementType::I32,
        DatumType::I64 => ElementType::I64,
        DatumType::Bool => ElementType::Bool,
        DatumType::String => ElementType::String,
        other => return Err(anyhow!("{other:?} has no TFLite type here")),
    })
}

pub fn datum_type(element: ElementType) -> Result<DatumType> {
    Ok(match element {
        ElementType::F32 => DatumType::F32,
        ElementType::F16 => DatumType::F16,
        ElementType::I8 => DatumType::I8,
        ElementType::U8 => DatumType::U8,
        ElementType::I16 => DatumType::I16,
        ElementType::I32 => DatumType::I32,
        ElementType::I64 => DatumType::I64,
        ElementType::Bool => DatumType::Bool,
        ElementType::I4 | ElementType::String => {
            return Err(anyhow!("{element} tensors cannot be computed with yet"));
        }
    })
}

/// The file's number for an element type.
pub fn tensor_type(element: ElementType) -> TensorType {
    match element {
        ElementType::F32 => TensorType::Float32,
        ElementType::F16 => TensorType::Float16,
        ElementType::I4 => TensorType::Int4,
        ElementType::I8 => TensorType::Int8,
        ElementType::U8 => TensorType::UInt8,
        ElementType::I16 => TensorType::Int16,
        ElementType::I32 => TensorType::Int32,
        ElementType::I64 => TensorType::Int64,
        ElementType::Bool => TensorType::Bool,
        ElementType::String => TensorType::String,
    }
}

/// tract's dimensions as the lite graph spells them.
pub fn dims(shape: &[TDim]) -> Vec<Dim> {
    let dim = |d: &TDim| match d.to_usize() {
        Ok(n) => Dim::Known(n),
        Err(_) => Dim::Symbol(d.to_string()),
    };
    shape.iter().map(dim).collect()
}

/// A RESHAPE target: −1 for the one dimension that is not a number.
fn reshape_target(shape: &[TDim]) -> Result<Vec<i32>> {
    let unknown = shape.iter().filter(|d| d.to_usize().is_err()).count();
    ensure!(unknown <= 1, "a reshape to {shape:?} has {unknown} unknown dimensions");
    shape
        .iter()
        .map(|d| match d.to_i64() {
            Ok(n) => i32::try_from(n).context("a dimension is over 2^31"),
            Err(_) => Ok(-1),
        })
        .collect()
}

fn constant_bytes(value: &tract::Tensor) -> Result<(ElementType, bytes::Bytes)> {
    if value.datum_type() == DatumType::TDim || value.datum_type() == DatumType::F64 {
        let target =
            if value.datum_type() == DatumType::F64 { DatumType::F32 } else { DatumType::I64 };
        let cast = value.cast_to_dt(target)?;
        return constant_bytes(&cast);
    }
    let element = element_type(value.datum_type())?;
    ensure!(element != ElementType::String, "string constants are not supported");
    Ok((element, bytes::Bytes::copy_from_slice(value.as_bytes())))
}

fn tract_constant(tensor: &Tensor) -> Result<Arc<tract::Tensor>> {
    let at = || format!("constant '{}'", tensor.name);
    let data = tensor.data.as_ref().with_context(|| format!("'{}' has no value", tensor.name))?;
    let shape = tensor.known_shape().with_context(at)?;
    let mut value = tract::Tensor::zero_dt(datum_type(tensor.element)?, &shape).with_context(at)?;
    let target = value.as_bytes_mut();
    ensure!(target.len() == data.len(), "{}: size and shape differ", at());
    target.copy_from_slice(data);
    if tensor.element == ElementType::Bool {
        target.iter_mut().for_each(|b| *b = (*b != 0) as u8);
    }
    Ok(value.into_arc_tensor())
}
