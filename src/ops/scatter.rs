//! Ops that write by index: SCATTER_ND, UNSORTED_SEGMENT_SUM, _PROD, _MAX and _MIN.

use super::compose::Chain;
use super::*;
use crate::graph::{BinaryOp, ReduceOp};
use crate::tract::ops::array::{self, MultiBroadcastTo, ScatterReduction};
use anyhow::bail;

pub fn lower(ctx: &mut LowerContext, node: &TypedNode) -> Result<Option<()>> {
    let (places, reduction) = if let Some(op) = node.op_as::<array::ScatterNd>() {
        let dims = ctx.shape(node.inputs[1])?;
        let depth = dims.last().context("indices of no axis")?.to_usize()?;
        let data = ctx.shape(node.inputs[0])?;
        let lengths = data.get(..depth).context("indices that are too deep")?.to_vec();
        let name = format!("{}/places", node.name);
        let raw = ctx.tensor_as(node.inputs[1], ElementType::I32)?;
        let given = ctx.graph.tensors[raw].i32_values();
        let tensor = match given.is_some_and(|places| places.iter().all(|&p| p >= 0)) {
            true => raw,
            false => {
                let lengths = ctx.shape_tensor(&format!("{name}/lengths"), &lengths)?;
                let mut chain = Chain::new(ctx, &name, ElementType::I32, &dims);
                chain.binary(BinaryOp::FloorMod, raw, lengths)
            }
        };
        (Places { tensor, dims }, op.reduction)
    } else if let Some(op) = node.op_as::<array::ScatterElements>() {
        let data = ctx.shape(node.inputs[0])?;
        let mut dims = ctx.shape(node.inputs[1])?;
        dims.push(data.len().into());
        let indices = node.inputs[1];
        let tensor = super::gather::element_places(ctx, node, indices, op.axis, &data[op.axis])?;
        (Places { tensor, dims }, op.reduction)
    } else {
        return Ok(None);
    };
    let result = match reduction {
        ScatterReduction::Add => add_updates(ctx, node, &places)?,
        ScatterReduction::None => last_updates(ctx, node, &places)?,
        ScatterReduction::Mul => {
            reduce_updates(ctx, node, &places, ReduceOp::Product, BinaryOp::Mul)?
        }
        ScatterReduction::Max => {
            reduce_updates(ctx, node, &places, ReduceOp::Max, BinaryOp::Maximum)?
        }
        ScatterReduction::Min => {
            reduce_updates(ctx, node, &places, ReduceOp::Min, BinaryOp::Minimum)?
        }
    };
    ctx.bind(node, result);
    Ok(Some(()))
}

/// Where updates go: coordinates (… × depth) in the first `depth` axes of the data, none negative.
struct Places {
    tensor: TensorId,
    dims: Vec<TDim>,
}

/// Updates and data as rows: of what one place holds, in the order of places.
struct Rows {
    /// The row of the data (int32) that each update is for.
    of_updates: TensorId,
    updates: OutletId,
    count: TDim,
    places: TDim,
    width: TDim,
    /// How many places there are, as an int32 scalar.
    places_scalar: TensorId,
}

impl Rows {
    fn new(ctx: &mut LowerContext, node: &TypedNode, places: &Places) -> Result<Rows> {
        let name = format!("{}/rows", node.name);
        let data = ctx.shape(node.inputs[0])?;
        let (depth, outer) = places.dims.split_last().context("indices of no axis")?;
        let depth = depth.to_usize()?;
        let (over, within) = data.split_at_checked(depth).context("indices that are too deep")?;
        let product = |dims: &[TDim]| dims.iter().cloned().product::<TDim>();
        let all = product(&data);
        ensure!(
            all.to_i64().is_ok_and(|n| n < 1 << 31) || all.to_i64().is_err(),
            refusal::too_large(format!("a scatter into {all} elements"))
        );
        let strides: Vec<TDim> = (0..depth).map(|axis| product(&over[axis + 1..])).collect();
        let strides = ctx.shape_tensor(&format!("{name}/strides"), &strides)?;
        let mut chain = Chain::new(ctx, &name, ElementType::I32, &places.dims);
        let steps = chain.binary(BinaryOp::Mul, places.tensor, strides);
        let axis = i32::try_from(outer.len())?;
        let axis = ctx.add_i32_constant(&format!("{name}/axis"), &[axis]);
        let op = LiteOp::Reduce { op: ReduceOp::Sum, keep_dims: false };
        let rows = ctx.emit(&name, op, &[steps, axis], ElementType::I32, outer);
        let (count, places) = (product(outer), product(over));
        let of_updates = ctx.reshape(&name, rows, outer, std::slice::from_ref(&count))?;
        let places_scalar = tract::tensor0(places.clone());
        let places_scalar = match places.to_i64() {
            Ok(n) => ctx.add_i32_tensor(&format!("{name}/count"), &[], &[i32::try_from(n)?]),
            Err(_) => {
                ctx.add_symbolic(&format!("{name}/count"), &places_scalar, ElementType::I32)?
            }
        };
        let width = product(within);
        Ok(Rows { of_updates, updates: node.inputs[2], count, places, width, places_scalar })
    }

    fn shape(&self) -> [TDim; 2] {
        [self.places.clone(), self.width.clone()]
    }

    /// The updates as elements of type `element`, count × width.
    fn updates(
        &self,
        ctx: &mut LowerContext,
        name: &str,
        element: ElementType,
    ) -> Result<TensorId> {
        let from = ctx.shape(self.updates)?;
        let updates = ctx.tensor_as(self.updates, element)?;
        let to = [self.count.clone(), self.width.clone()];
        ctx.reshape(&format!("{name}/updates"), updates, &from, &to)
    }

    /// For each place (× 1) the number of its last update; negative where there is none.
    fn last(&self, ctx: &mut LowerContext, name: &str) -> Result<TensorId> {
        let name = format!("{name}/last");
        let numbers = ctx.places_of_axis(&name, &self.count)?;
        let upright = [self.count.clone(), TDim::from(1)];
        let count = std::slice::from_ref(&self.count);
        let numbers = ctx.reshape(&name, numbers, count, &upright)?;
        let op = LiteOp::UnsortedSegment { op: ReduceOp::Max };
        let inputs = [numbers, self.of_updates, self.places_scalar];
        let shape = [self.places.clone(), TDim::from(1)];
        Ok(ctx.emit(&name, op, &inputs, ElementType::I32, &shape))
    }
}

/// SCATTER_ND adds up what goes to one place.
fn add_updates(ctx: &mut LowerContext, node: &TypedNode, places: &Places) -> Result<TensorId> {
    let element = ctx.element(node.inputs[0])?;
    ensure!(
        matches!(element, ElementType::F32 | ElementType::I32 | ElementType::I64),
        refusal::of_type("a scatter that adds", element)
    );
    let shape = ctx.shape(node.inputs[0])?;
    let data = ctx.tensor(node.inputs[0])?;
    let updates = ctx.tensor(node.inputs[2])?;
    let target = ctx.shape_tensor(&format!("{}/shape", node.name), &shape)?;
    let name = format!("{}/scattered", node.name);
    let inputs = [places.tensor, updates, target];
    let scattered = ctx.emit(&name, LiteOp::ScatterNd, &inputs, element, &shape);
    Ok(Chain::new(ctx, &node.name, element, &shape).binary(BinaryOp::Add, data, scattered))
}

/// Each place gets its last update, as onnxruntime does it; ONNX leaves open which.
fn last_updates(ctx: &mut LowerContext, node: &TypedNode, places: &Places) -> Result<TensorId> {
    let element = match ctx.element(node.inputs[0])? {
        ElementType::F16 => ElementType::F32,
        ElementType::String => return Err(refusal::of_type("a scatter", "strings")),
        element => element,
    };
    let name = node.name.as_str();
    let shape = ctx.shape(node.inputs[0])?;
    let data = ctx.tensor_as(node.inputs[0], element)?;
    if shape.contains(&TDim::from(0)) || places.dims.contains(&TDim::from(0)) {
        return Ok(ctx.cast(name, data, ctx.element(node.inputs[0])?));
    }
    let rows = Rows::new(ctx, node, places)?;
    let updates = rows.updates(ctx, name, element)?;
    let last = rows.last(ctx, name)?;
    let column = [rows.places.clone(), TDim::from(1)];
    let mut chain = Chain::new(ctx, &format!("{name}/written"), ElementType::I32, &column);
    let zero = chain.scalar(0.0)?;
    let written = chain.compare(BinaryOp::GreaterEqual, last, zero);
    let source = chain.binary(BinaryOp::Maximum, last, zero);
    let source_name = format!("{name}/source");
    let source = ctx.reshape(&source_name, source, &column, &column[..1])?;
    let op = LiteOp::Gather { axis: 0, batch_dims: 0 };
    let rows_shape = rows.shape();
    let inputs = [updates, source];
    let updates = ctx.emit(&source_name, op, &inputs, element, &rows_shape);
    let data = ctx.reshape(&format!("{name}/data"), data, &shape, &rows_shape)?;
    let mut chain = Chain::new(ctx, &format!("{name}/chosen"), element, &rows_shape);
    let chosen = chain.select(written, updates, data);
    let result = ctx.reshape(name, chosen, &rows_shape, &shape)?;
    let to = ctx.element(node.inputs[0])?;
    Ok(ctx.cast(name, result, to))
}

/// The updates of a place are reduced among themselves, then with what was there.
fn reduce_updates(
    ctx: &mut LowerContext,
    node: &TypedNode,
    places: &Places,
    within: ReduceOp,
    with: BinaryOp,
) -> Result<TensorId> {
    let to = ctx.element(node.inputs[0])?;
    let element = match to {
        ElementType::F32 | ElementType::F16 => ElementType::F32,
        ElementType::I8 | ElementType::U8 | ElementType::I16 | ElementType::I32 => ElementType::I32,
        element => {
            return Err(refusal::of_type(format!("a scatter by {}", within.name()), element));
        }
    };
    let name = node.name.as_str();
    let shape = ctx.shape(node.inputs[0])?;
    let data = ctx.tensor_as(node.inputs[0], element)?;
    if shape.contains(&TDim::from(0)) || places.dims.contains(&TDim::from(0)) {
        return Ok(ctx.cast(name, data, to));
    }
    let rows = Rows::new(ctx, node, places)?;
    let updates = rows.updates(ctx, name, element)?;
    let last = rows.last(ctx, name)?;
    let column = [rows.places.clone(), TDim::from(1)];
    let mut chain = Chain::new(ctx, &format!("{name}/written"), ElementType::I32, &column);
    let zero = chain.scalar(0.0)?;
    let written = chain.compare(BinaryOp::GreaterEqual, last, zero);
    let rows_shape = rows.shape();
    let op = LiteOp::UnsortedSegment { op: within };
    let inputs = [updates, rows.of_updates, rows.places_scalar];
    let reduced = ctx.emit(&format!("{name}/reduced"), op, &inputs, element, &rows_shape);
    let data = ctx.reshape(&format!("{name}/data"), data, &shape, &rows_shape)?;
    let mut chain = Chain::new(ctx, &format!("{name}/chosen"), element, &rows_shape);
    let both = chain.binary(with, data, reduced);
    let chosen = chain.select(written, both, data);
    let result = ctx.reshape(name, chosen, &rows_shape, &shape)?;
    Ok(ctx.cast(name, result, to))
}

/// The value of a segment without members, and how more come to it.
fn neutral(op: ReduceOp, element: DatumType) -> Result<(tract::Tensor, ScatterReduction)> {
    let of = |float: f32, integer: i32| match element {
        DatumType::F32 => Ok(tract::tensor0(float)),
        DatumType::I32 => Ok(tract::tensor0(integer)),
        other => Err(anyhow!("segments of {other:?}")),
    };
    Ok(match op {
        ReduceOp::Sum => (of(0.0, 0)?, ScatterReduction::Add),
        ReduceOp::Product => (of(1.0, 1)?, ScatterReduction::Mul),
        ReduceOp::Max => (of(f32::MIN, i32::MIN)?, ScatterReduction::Max),
        ReduceOp::Min => (of(f32::MAX, i32::MAX)?, ScatterReduction::Min),
        ReduceOp::Mean | ReduceOp::Any | ReduceOp::All => bail!("segments by {}", op.name()),
    })
}

fn raise_segments(ctx: &mut RaiseContext, node: &Node, op: ReduceOp) -> Result<()> {
    let name = ctx.output_name(node);
    let (values, segments) = (ctx.input(node, 0)?, ctx.input(node, 1)?);
    let count = ctx.dims_input(node, 2)?;
    let &[ref count] = count.as_slice() else { bail!("'{name}': a count of many values") };
    let mut shape = ctx.shape(values)?;
    let depth = ctx.shape(segments)?.len();
    ensure!(depth == 1 && !shape.is_empty(), "'{name}': segments of rank {depth}");
    shape[0] = count.clone();
    let element = ctx.model.outlet_fact(values)?.datum_type;
    let (start, reduction) = neutral(op, element)?;
    let start = start.broadcast_into_rank(shape.len())?.into_arc_tensor();
    let start = ctx.add_constant(&format!("{name}/start"), start)?;
    let op = MultiBroadcastTo { shape: shape.into_iter().collect() };
    let start = ctx.wire(&format!("{name}/starts"), op, &[start])?;
    let segments = ctx.cast(name, segments, DatumType::I64)?;
    let segments = ctx.wire(&format!("{name}/segments"), AxisOp::Add(1), &[segments])?;
    let op = array::ScatterNd::new(reduction);
    let wire = ctx.wire(name, op, &[start, segments, values])?;
    ctx.finish(node, wire)
}

pub fn raise(ctx: &mut RaiseContext, node: &Node) -> Result<()> {
    if let LiteOp::UnsortedSegment { op } = node.op {
        return raise_segments(ctx, node, op);
    }
    let name = ctx.output_name(node);
    let (indices, updates) = (ctx.input(node, 0)?, ctx.input(node, 1)?);
    let shape = ctx.dims_input(node, 2)?;
    let element = ctx.model.outlet_fact(updates)?.datum_type;
    let zero = tract::Tensor::zero_dt(element, &vec![1; shape.len()])?.into_arc_tensor();
    let zero = ctx.add_constant(&format!("{name}/zero"), zero)?;
    let op = MultiBroadcastTo { shape: shape.into_iter().collect() };
    let zeros = ctx.wire(&format!("{name}/zeros"), op, &[zero])?;
    let op = array::ScatterNd::new(ScatterReduction::Add);
    let wire = ctx.wire(name, op, &[zeros, indices, updates])?;
    ctx.finish(node, wire)
}

const SEGMENTS: [(BuiltinOperator, ReduceOp); 4] = [
    (BuiltinOperator::UNSORTED_SEGMENT_SUM, ReduceOp::Sum),
    (BuiltinOperator::UNSORTED_SEGMENT_PROD, ReduceOp::Product),
    (BuiltinOperator::UNSORTED_SEGMENT_MAX, ReduceOp::Max),
    (BuiltinOperator::UNSORTED_SEGMENT_MIN, ReduceOp::Min),
];

pub fn read(op: &TfliteOp) -> Result<Option<LiteOp>> {
    if op.builtin == BuiltinOperator::SCATTER_ND {
        return Ok(Some(LiteOp::ScatterNd));
    }
    let segments = SEGMENTS.into_iter().find(|(builtin, _)| *builtin == op.builtin);
    Ok(segments.map(|(_, op)| LiteOp::UnsortedSegment { op }))
}

pub fn write(_graph: &Subgraph, node: &Node) -> Result<TfliteOp> {
    let LiteOp::UnsortedSegment { op } = node.op else {
        return Ok(TfliteOp::new(BuiltinOperator::SCATTER_ND, 1, BuiltinOptions::ScatterNd));
    };
    let segments = SEGMENTS.into_iter().find(|(_, reduce)| *reduce == op);
    let (builtin, _) = segments.with_context(|| format!("segments by {}", op.name()))?;
    let options = match op {
        ReduceOp::Product => BuiltinOptions::UnsortedSegmentProd,
        ReduceOp::Max => BuiltinOptions::UnsortedSegmentMax,
        ReduceOp::Min => BuiltinOptions::UnsortedSegmentMin,
        ReduceOp::Sum | ReduceOp::Mean | ReduceOp::Any | ReduceOp::All => {
            BuiltinOptions::UnsortedSegmentSum
        }
    };
    Ok(TfliteOp::new(builtin, 1, options))
}

pub fn permute(_graph: &Subgraph, _node: &Node, _permutation: &[usize]) -> Option<Passage> {
    None
}
