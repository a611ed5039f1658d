//! SUM, MEAN, REDUCE_MAX and its like, ARG_MAX, ARG_MIN, CUMSUM, TOPK_V2.

use super::compose::{Chain, constant_i32, i32_like, passage, positive_axis, without_axes};
use super::*;
use crate::format::tflite::{ArgMaxOptions, ArgMinOptions, CumsumOptions, ReducerOptions};
use crate::graph::{BinaryOp, ReduceOp, UnaryOp};
use crate::tract::TVec;
use crate::tract::ops::array::{CumSum, Topk};
use crate::tract::ops::math;
use crate::tract::ops::nn::{Reduce, Reducer};
use anyhow::bail;

pub fn lower(ctx: &mut LowerContext, node: &TypedNode) -> Result<Option<()>> {
    if let Some(op) = node.op_as::<CumSum>() {
        return lower_cumsum(ctx, node, op).map(Some);
    }
    if let Some(op) = node.op_as::<Topk>() {
        return lower_topk(ctx, node, op).map(Some);
    }
    let Some(op) = node.op_as::<Reduce>() else { return Ok(None) };
    let lite = match op.reducer {
        Reducer::Sum => ReduceOp::Sum,
        Reducer::Max => ReduceOp::Max,
        Reducer::Min => ReduceOp::Min,
        Reducer::Prod => ReduceOp::Product,
        Reducer::MeanOfSquares => ReduceOp::Mean,
        Reducer::All => ReduceOp::All,
        Reducer::Any => ReduceOp::Any,
        Reducer::ArgMax(last) => return lower_arg(ctx, node, op, true, last).map(Some),
        Reducer::ArgMin(last) => return lower_arg(ctx, node, op, false, last).map(Some),
    };
    let element = ctx.element(node.inputs[0])?;
    let shape = ctx.shape(node.inputs[0])?;
    if op.axes.is_empty() && op.reducer != Reducer::MeanOfSquares {
        let input = ctx.tensor(node.inputs[0])?;
        ctx.bind(node, input);
        return Ok(Some(()));
    }
    let lite = match lite {
        ReduceOp::Max if element == ElementType::Bool => ReduceOp::Any,
        ReduceOp::Min if element == ElementType::Bool => ReduceOp::All,
        other => other,
    };
    let empty = op.axes.iter().any(|&a| shape[a] == TDim::from(0));
    ensure!(
        !empty || lite == ReduceOp::Sum,
        "{} of no values, which TFLite does not define; leave the empty axis out of it",
        lite.name()
    );
    let logical = matches!(lite, ReduceOp::All | ReduceOp::Any);
    let inner = match element {
        ElementType::Bool if logical => element,
        ElementType::F32 => element,
        ElementType::F16 => ElementType::F32,
        ElementType::I32 | ElementType::I64 if lite != ReduceOp::Mean => element,
        ElementType::I8 | ElementType::U8 | ElementType::I16 if lite != ReduceOp::Mean => {
            ElementType::I32
        }
        _ => return Err(refusal::of_type(lite.name(), element)),
    };
    let fits = logical == (inner == ElementType::Bool);
    ensure!(fits, refusal::of_type(lite.name(), element));
    let mut input = ctx.tensor_as(node.inputs[0], inner)?;
    if op.reducer == Reducer::MeanOfSquares {
        input = Chain::new(ctx, &format!("{}/square", node.name), inner, &shape)
            .unary(UnaryOp::Square, input);
    }
    let axes: Vec<i32> = op.axes.iter().map(|&a| a as i32).collect();
    let axes = ctx.add_i32_constant(&format!("{}/axes", node.name), &axes);
    let op = LiteOp::Reduce { op: lite, keep_dims: true };
    let to = ctx.shape(OutletId::new(node.id, 0))?;
    let result = ctx.emit(&node.name, op, &[input, axes], inner, &to);
    let result = ctx.cast(&node.name, result, element);
    ctx.bind(node, result);
    Ok(Some(()))
}

fn lower_arg(
    ctx: &mut LowerContext,
    node: &TypedNode,
    op: &Reduce,
    largest: bool,
    last: bool,
) -> Result<()> {
    let &[axis] = op.axes.as_slice() else {
        bail!("{} over the axes {:?}; TFLite takes one", node.op.name(), op.axes)
    };
    let shape = ctx.shape(node.inputs[0])?;
    let mut input = match ctx.element(node.inputs[0])? {
        ElementType::F32 | ElementType::F16 => ctx.tensor_as(node.inputs[0], ElementType::F32)?,
        ElementType::I8 | ElementType::U8 | ElementType::I16 | ElementType::I32 => {
            ctx.tensor_as(node.inputs[0], ElementType::I32)?
        }
        element => return Err(refusal::of_type(node.op.name(), element)),
    };
    let element = ctx.graph.tensors[input].element;
    if last {
        let axes = ctx.add_i32_constant(&format!("{}/axes", node.name), &[axis as i32]);
        let name = format!("{}/reversed", node.name);
        input = ctx.emit(&name, LiteOp::Reverse, &[input, axes], element, &shape);
    }
    let place = ctx.add_i32_tensor(&format!("{}/axis", node.name), &[], &[i32::try_from(axis)?]);
    let lite = match largest {
        true => LiteOp::ArgMax { element: ElementType::I64 },
        false => LiteOp::ArgMin { element: ElementType::I64 },
    };
    let mut reduced = shape.clone();
    reduced.remove(axis);
    let name = format!("{}/index", node.name);
    let mut index = ctx.emit(&name, lite, &[input, place], ElementType::I64, &reduced);
    if last {
        let len = shape[axis].to_i64();
        let len =
            len.map_err(|_| refusal::unknown_size("the last index on an axis of unknown size"))?;
        let last = ctx.add_constant(&format!("{name}/last"), &tract::tensor0(len - 1))?;
        index =
            Chain::new(ctx, &name, ElementType::I64, &reduced).binary(BinaryOp::Sub, last, index);
    }
    let to = ctx.shape(OutletId::new(node.id, 0))?;
    let result = ctx.reshape(&node.name, index, &reduced, &to)?;
    ctx.bind(node, result);
    Ok(())
}

fn lower_cumsum(ctx: &mut LowerContext, node: &TypedNode, op: &CumSum) -> Result<()> {
    let element = ctx.element(node.inputs[0])?;
    ensure!(
        matches!(element, ElementType::F32 | ElementType::I32 | ElementType::I64),
        refusal::of_type("a cumulative sum", element)
    );
    let input = ctx.tensor(node.inputs[0])?;
    let axis = ctx.add_i32_tensor(&format!("{}/axis", node.name), &[], &[i32::try_from(op.axis)?]);
    let lite = LiteOp::CumSum { exclusive: op.exclusive, reverse: op.reverse };
    ctx.emit_result(node, lite, &[input, axis])
}

/// TOPK_V2 works on the last axis and finds the largest: others are moved there, values negated.
fn lower_topk(ctx: &mut LowerContext, node: &TypedNode, op: &Topk) -> Result<()> {
    let element = ctx.element(node.inputs[0])?;
    ensure!(
        matches!(element, ElementType::F32 | ElementType::I32 | ElementType::I64),
        refusal::of_type("the largest values", element)
    );
    let shape = ctx.shape(node.inputs[0])?;
    let result_shape = ctx.shape(OutletId::new(node.id, 0))?;
    let name = format!("{}/k", node.name);
    let k = match ctx.constant(node.inputs[1]).cloned() {
        Some(k) => ctx.add_i32_tensor(&name, &[], &[i32::try_from(k.cast_to_scalar::<i64>()?)?]),
        None => {
            let given = ctx.tensor_as(node.inputs[1], ElementType::I32)?;
            let from = ctx.shape(node.inputs[1])?;
            ctx.reshape(&name, given, &from, &[])?
        }
    };
    let mut x = ctx.tensor(node.inputs[0])?;
    if !op.largest {
        x = Chain::new(ctx, &format!("{}/negative", node.name), element, &shape)
            .unary(UnaryOp::Neg, x);
    }
    let mut swap: Vec<usize> = (0..shape.len()).collect();
    swap.swap(op.axis, shape.len() - 1);
    let x = ctx.transpose(&format!("{}/axis_last", node.name), x, &shape, &swap);
    let moved: Vec<TDim> = swap.iter().map(|&a| result_shape[a].clone()).collect();
    let results = [
        (format!("{}/values", node.name), element, moved.clone()),
        (format!("{}/indices", node.name), ElementType::I32, moved.clone()),
    ];
    let found = ctx.emit_several(LiteOp::TopK, &[x, k], &results);
    let mut values = ctx.transpose(&format!("{}/values", node.name), found[0], &moved, &swap);
    if !op.largest {
        values = Chain::new(ctx, &node.name, element, &result_shape).unary(UnaryOp::Neg, values);
    }
    let indices = ctx.transpose(&format!("{}/indices", node.name), found[1], &moved, &swap);
    let indices = ctx.cast(&format!("{}/indices", node.name), indices, ElementType::I64);
    ctx.bind(node, values);
    ctx.bind_outlet(OutletId::new(node.id, 1), indices);
    Ok(())
}

pub fn raise(ctx: &mut RaiseContext, node: &Node) -> Result<()> {
    match &node.op {
        LiteOp::Reduce { op, keep_dims } => raise_reduce(ctx, node, *op, *keep_dims),
        LiteOp::ArgMax { element } => raise_arg(ctx, node, Reducer::ArgMax(false), *element),
        LiteOp::ArgMin { element } => raise_arg(ctx, node, Reducer::ArgMin(false), *element),
        LiteOp::CumSum { exclusive, reverse } => {
            let name = ctx.output_name(node);
            let x = ctx.input(node, 0)?;
            let axis = ctx.axis_input(node, 1, ctx.shape(x)?.len())?;
            let op = CumSum { axis, exclusive: *exclusive, reverse: *reverse };
            let wire = ctx.wire(name, op, &[x])?;
            ctx.finish(node, wire)
        }
        LiteOp::TopK => {
            let name = ctx.output_name(node);
            let x = ctx.input(node, 0)?;
            let rank = ctx.shape(x)?.len();
            ensure!(rank > 0, "'{name}': the largest of a scalar");
            let k = ctx.input(node, 1)?;
            let is_one = ctx.model.outlet_fact(k)?.shape.volume() == TDim::from(1);
            ensure!(is_one, "'{name}': several values of k");
            let constant = ctx.model.outlet_fact(k)?.konst.clone();
            let (k, len) = match constant {
                Some(value) => {
                    let value = value.cast_to_scalar::<i64>()?;
                    let fixed = tract::tensor0(value).into_arc_tensor();
                    (ctx.add_constant(&format!("{name}/k"), fixed)?, TDim::from(value))
                }
                None => {
                    let k = ctx.cast(&format!("{name}/k"), k, DatumType::I64)?;
                    (k, ctx.model.symbols.new_with_prefix("k").into())
                }
            };
            let found = ctx.wire_all(name, Topk::new(rank - 1, true, len), &[x, k])?;
            let indices = ctx.cast(name, found[1], DatumType::I32)?;
            ctx.finish_all(node, &[found[0], indices])
        }
        other => bail!("{} is not a reduction", other.name()),
    }
}

fn raise_arg(
    ctx: &mut RaiseContext,
    node: &Node,
    reducer: Reducer,
    element: ElementType,
) -> Result<()> {
    let name = ctx.output_name(node);
    let x = ctx.input(node, 0)?;
    let axis = ctx.axis_input(node, 1, ctx.shape(x)?.len())?;
    let index = ctx.wire(name, Reduce::new(TVec::from_slice(&[axis]), reducer), &[x])?;
    let index = ctx.wire(&format!("{name}/squeeze"), AxisOp::Rm(axis), &[index])?;
    let wire = ctx.cast(name, index, datum_type(element)?)?;
    ctx.finish(node, wire)
}

/// The axes of a reduction, each once, in order.
pub fn axes(ctx: &RaiseContext, node: &Node, rank: usize) -> Result<TVec<usize>> {
    let name = ctx.output_name(node);
    let mut axes: TVec<usize> = TVec::new();
    for axis in ctx.i32_input(node, 1)? {
        let positive = if axis < 0 { axis as i64 + rank as i64 } else { axis as i64 };
        let axis = usize::try_from(positive).ok().filter(|&a| a < rank);
        let axis = axis.with_context(|| format!("'{name}': an axis is outside rank {rank}"))?;
        if !axes.contains(&axis) {
            axes.push(axis);
        }
    }
    axes.sort();
    Ok(axes)
}

fn raise_reduce(ctx: &mut RaiseContext, node: &Node, op: ReduceOp, keep_dims: bool) -> Result<()> {
    let name = ctx.output_name(node);
    let mut x = ctx.input(node, 0)?;
    if ctx.model.outlet_fact(x)?.datum_type == DatumType::TDim {
        x = ctx.cast(name, x, DatumType::I32)?;
    }
    let shape = ctx.shape(x)?;
    let axes = axes(ctx, node, shape.len())?;
    let reducer = match op {
        ReduceOp::Sum | ReduceOp::Mean => Reducer::Sum,
        ReduceOp::Max => Reducer::Max,
        ReduceOp::Min => Reducer::Min,
        ReduceOp::Product => Reducer::Prod,
        ReduceOp::Any => Reducer::Any,
        ReduceOp::All => Reducer::All,
    };
    let mut wire = ctx.wire(name, Reduce::new(axes.clone(), reducer), &[x])?;
    if op == ReduceOp::Mean {
        let count: TDim = axes.iter().map(|&a| shape[a].clone()).product();
        let count = match count.to_i64() {
            Ok(count) => ctx.scalar_like(count as f32, wire)?,
            Err(_) => {
                let fact = ctx.model.outlet_fact(wire)?;
                let (rank, datum) = (fact.rank(), fact.datum_type);
                let count = tract::tensor0(count).broadcast_into_rank(rank)?;
                let count = ctx.add_constant(&format!("{name}/count"), count.into_arc_tensor())?;
                ctx.cast(&format!("{name}/count"), count, datum)?
            }
        };
        wire = ctx.wire(&format!("{name}/mean"), math::div(), &[wire, count])?;
    }
    if !keep_dims {
        for &axis in axes.iter().rev() {
            wire = ctx.wire(&format!("{name}/squeeze"), AxisOp::Rm(axis), &[wire])?;
        }
    }
    ctx.finish(node, wire)
}

pub fn read(op: &TfliteOp) -> Result<Option<LiteOp>> {
    Ok(match (op.builtin, &op.options) {
        (BuiltinOperator::ARG_MAX, BuiltinOptions::ArgMax(o)) => {
            Some(LiteOp::ArgMax { element: index_element(o.output_type)? })
        }
        (BuiltinOperator::ARG_MIN, BuiltinOptions::ArgMin(o)) => {
            Some(LiteOp::ArgMin { element: index_element(o.output_type)? })
        }
        (BuiltinOperator::CUMSUM, BuiltinOptions::Cumsum(o)) => {
            Some(LiteOp::CumSum { exclusive: o.exclusive, reverse: o.reverse })
        }
        (BuiltinOperator::TOPK_V2, _) => Some(LiteOp::TopK),
        _ => {
            let keep_dims = matches!(&op.options, BuiltinOptions::Reducer(o) if o.keep_dims);
            let reduce = ReduceOp::ALL.into_iter().find(|r| r.name() == op.builtin.name());
            reduce.map(|op| LiteOp::Reduce { op, keep_dims })
        }
    })
}

fn index_element(code: TensorType) -> Result<ElementType> {
    match code {
        TensorType::Int32 => Ok(ElementType::I32),
        TensorType::Int64 => Ok(ElementType::I64),
        other => bail!("indices of type {}", other.name()),
    }
}

pub fn write(graph: &Subgraph, node: &Node) -> Result<TfliteOp> {
    use ElementType::{Bool, I8, I16};
    let element = input_element(graph, node, 0);
    let (op, keep_dims) = match &node.op {
        LiteOp::Reduce { op, keep_dims } => (op, *keep_dims),
        LiteOp::ArgMax { element: index } => {
            let options = ArgMaxOptions { output_type: tensor_type(*index) };
            let version = version_of(element, &[(Bool, 3), (I8, 2)]);
            let options = BuiltinOptions::ArgMax(options);
            return Ok(TfliteOp::new(BuiltinOperator::ARG_MAX, version, options));
        }
        LiteOp::ArgMin { element: index } => {
            let options = ArgMinOptions { output_type: tensor_type(*index) };
            let version = version_of(element, &[(Bool, 3), (I8, 2)]);
            let options = BuiltinOptions::ArgMin(options);
            return Ok(TfliteOp::new(BuiltinOperator::ARG_MIN, version, options));
        }
        LiteOp::CumSum { exclusive, reverse } => {
            let options = CumsumOptions { exclusive: *exclusive, reverse: *reverse };
            let options = BuiltinOptions::Cumsum(options);
            return Ok(TfliteOp::new(BuiltinOperator::CUMSUM, 1, options));
        }
        LiteOp::TopK => {
            let version = version_of(element, &[(I16, 3), (I8, 2)]);
            return Ok(TfliteOp::new(BuiltinOperator::TOPK_V2, version, BuiltinOptions::TopKV2));
        }
        other => bail!("{} is not a reduction", other.name()),
    };
    let (builtin, version) = match op {
        ReduceOp::Sum => (BuiltinOperator::SUM, version_of(element, &[(I8, 2)])),
        ReduceOp::Mean => (BuiltinOperator::MEAN, version_of(element, &[(I16, 3), (I8, 2)])),
        ReduceOp::Max => (BuiltinOperator::REDUCE_MAX, version_of(element, &[(I16, 3), (I8, 2)])),
        ReduceOp::Min => (BuiltinOperator::REDUCE_MIN, version_of(element, &[(I16, 3), (I8, 2)])),
        ReduceOp::Product => {
            (BuiltinOperator::REDUCE_PROD, version_of(element, &[(I16, 2), (I8, 2)]))
        }
        ReduceOp::Any => (BuiltinOperator::REDUCE_ANY, 1),
        ReduceOp::All => (BuiltinOperator::REDUCE_ALL, 1),
    };
    let options = BuiltinOptions::Reducer(ReducerOptions { keep_dims });
    Ok(TfliteOp::new(builtin, version, options))
}

pub fn permute(graph: &Subgraph, node: &Node, permutation: &[usize]) -> Option<Passage> {
    let rank = permutation.len();
    let axes = match node.op {
        LiteOp::TopK => {
            let last = rank.checked_sub(1)?;
            let stays = permutation[last] == last;
            return stays.then(|| passage(LiteOp::TopK, vec![], node, permutation));
        }
        _ => constant_i32(graph, node, 1)?,
    };
    let axes: Option<Vec<usize>> = axes.into_iter().map(|a| positive_axis(a, rank)).collect();
    let axes = axes?;
    let moved: Vec<i32> = axes.iter().map(|&a| permutation[a] as i32).collect();
    let constant = i32_like(graph, node, 1, &moved)?;
    let keeps = matches!(node.op, LiteOp::CumSum { .. } | LiteOp::Reduce { keep_dims: true, .. });
    let output = match keeps {
        true => permutation.to_vec(),
        false => without_axes(permutation, &axes),
    };
    Some(passage(node.op.clone(), vec![(1, constant)], node, &output))
}
