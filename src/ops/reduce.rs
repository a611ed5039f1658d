//! SUM, MEAN, REDUCE_MAX, REDUCE_MIN and REDUCE_PROD.

use super::*;
use crate::format::tflite::ReducerOptions;
use crate::graph::ReduceOp;
use crate::tract::TVec;
use crate::tract::ops::math;
use crate::tract::ops::nn::{Reduce, Reducer};
use anyhow::bail;

pub fn lower(ctx: &mut LowerContext, node: &TypedNode) -> Result<Option<()>> {
    let Some(op) = node.op_as::<Reduce>() else { return Ok(None) };
    let lite = match op.reducer {
        Reducer::Sum => ReduceOp::Sum,
        Reducer::Max => ReduceOp::Max,
        Reducer::Min => ReduceOp::Min,
        Reducer::Prod => ReduceOp::Product,
        Reducer::MeanOfSquares
        | Reducer::ArgMax(_)
        | Reducer::ArgMin(_)
        | Reducer::All
        | Reducer::Any => return Ok(None),
    };
    let element = ctx.element(node.inputs[0])?;
    ensure!(element == ElementType::F32, "{} of {element}", lite.name());
    let input = ctx.tensor(node.inputs[0])?;
    let axes: Vec<i32> = op.axes.iter().map(|&a| a as i32).collect();
    let axes = ctx.add_i32_constant(&format!("{}/axes", node.name), &axes);
    let op = LiteOp::Reduce { op: lite, keep_dims: true };
    ctx.emit_result(node, op, &[input, axes]).map(Some)
}

pub fn raise(ctx: &mut RaiseContext, node: &Node) -> Result<()> {
    let LiteOp::Reduce { op, keep_dims } = &node.op else { bail!("not a reduction") };
    let name = ctx.output_name(node);
    let x = ctx.input(node, 0)?;
    let shape = ctx.shape(x)?;
    let mut axes: TVec<usize> = TVec::new();
    for axis in ctx.i32_input(node, 1)? {
        let positive = if axis < 0 { axis as i64 + shape.len() as i64 } else { axis as i64 };
        let axis = usize::try_from(positive).ok().filter(|&a| a < shape.len());
        let axis =
            axis.with_context(|| format!("'{name}': an axis is outside rank {}", shape.len()))?;
        if !axes.contains(&axis) {
            axes.push(axis);
        }
    }
    axes.sort();
    let reducer = match op {
        ReduceOp::Sum | ReduceOp::Mean => Reducer::Sum,
        ReduceOp::Max => Reducer::Max,
        ReduceOp::Min => Reducer::Min,
        ReduceOp::Product => Reducer::Prod,
        ReduceOp::Any => Reducer::Any,
        ReduceOp::All => Reducer::All,
    };
    let mut wire = ctx.wire(name, Reduce::new(axes.clone(), reducer), &[x])?;
    if *op == ReduceOp::Mean {
        let count: TDim = axes.iter().map(|&a| shape[a].clone()).product();
        let count =
            count.to_i64().with_context(|| format!("'{name}': mean over a dynamic axis"))?;
        let count = ctx.scalar_like(count as f32, wire)?;
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
    let keep_dims = matches!(&op.options, BuiltinOptions::Reducer(o) if o.keep_dims);
    let reduce = ReduceOp::ALL.into_iter().find(|r| r.name() == op.builtin.name());
    Ok(reduce.map(|op| LiteOp::Reduce { op, keep_dims }))
}

pub fn write(_graph: &Subgraph, node: &Node) -> Result<TfliteOp> {
    let LiteOp::Reduce { op, keep_dims } = &node.op else { bail!("not a reduction") };
    let builtin = match op {
        ReduceOp::Sum => BuiltinOperator::SUM,
        ReduceOp::Mean => BuiltinOperator::MEAN,
        ReduceOp::Max => BuiltinOperator::REDUCE_MAX,
        ReduceOp::Min => BuiltinOperator::REDUCE_MIN,
        ReduceOp::Product => BuiltinOperator::REDUCE_PROD,
        ReduceOp::Any => BuiltinOperator::REDUCE_ANY,
        ReduceOp::All => BuiltinOperator::REDUCE_ALL,
    };
    let options = BuiltinOptions::Reducer(ReducerOptions { keep_dims: *keep_dims });
    Ok(TfliteOp::new(builtin, 1, options))
}

pub fn permute(graph: &Subgraph, node: &Node, permutation: &[usize]) -> Option<Passage> {
    let LiteOp::Reduce { keep_dims, .. } = node.op else { return None };
    let rank = permutation.len();
    let axes = graph.tensors[node.inputs.get(1).copied().flatten()?].i32_values()?;
    let positive = |a: i32| usize::try_from(if a < 0 { a + rank as i32 } else { a }).ok();
    let axes: Option<Vec<usize>> =
        axes.into_iter().map(|a| positive(a).filter(|&a| a < rank)).collect();
    let axes = axes?;
    let moved: Vec<i32> = axes.iter().map(|&a| permutation[a] as i32).collect();
    let output = match keep_dims {
        true => permutation.to_vec(),
        false => {
            let kept = (0..rank).filter(|i| !axes.contains(i)).map(|i| permutation[i]);
            let kept: Vec<usize> = kept.collect();
            kept.iter().map(|k| kept.iter().filter(|other| *other < k).count()).collect()
        }
    };
    let data: Vec<u8> = moved.iter().flat_map(|v| v.to_le_bytes()).collect();
    let constant = Tensor::constant("axes", ElementType::I32, &[moved.len()], data.into());
    Some(Passage { op: node.op.clone(), constants: vec![(1, constant)], outputs: vec![output] })
}
