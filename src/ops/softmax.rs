//! SOFTMAX and LOG_SOFTMAX: over the last axis; other axes are moved there and back.

use super::*;
use crate::format::tflite::SoftmaxOptions;
use crate::tract::ops::math;
use crate::tract::ops::nn::{Softmax, SoftmaxKind};
use crate::tract::tvec;
use anyhow::bail;

pub fn lower(ctx: &mut LowerContext, node: &TypedNode) -> Result<Option<()>> {
    let Some(op) = node.op_as::<Softmax>() else { return Ok(None) };
    let to = ctx.element(node.inputs[0])?;
    ensure!(matches!(to, ElementType::F32 | ElementType::F16), refusal::of_type("a softmax", to));
    let element = ElementType::F32;
    let lite = match op.kind {
        SoftmaxKind::Softmax => LiteOp::Softmax { beta: 1.0 },
        SoftmaxKind::LogSoftmax => LiteOp::LogSoftmax,
    };
    let input = ctx.tensor_as(node.inputs[0], element)?;
    let shape = ctx.shape(node.inputs[0])?;
    let first = op.axes.first().copied().unwrap_or(0);
    if op.axes.len() > 1 && op.axes.iter().copied().eq(first..shape.len()) {
        let mut flat = shape[..first].to_vec();
        flat.push(shape[first..].iter().product());
        let rows = ctx.reshape(&format!("{}/rows", node.name), input, &shape, &flat)?;
        let result = ctx.emit(&format!("{}/softmax", node.name), lite, &[rows], element, &flat);
        let result = ctx.reshape(&node.name, result, &flat, &shape)?;
        let result = ctx.cast(&node.name, result, to);
        ctx.bind(node, result);
        return Ok(Some(()));
    }
    let &[axis] = op.axes.as_slice() else {
        bail!("a softmax over the axes {:?}; Reshape them into one before it", op.axes)
    };
    if axis + 1 == shape.len() {
        let result = ctx.emit(&node.name, lite, &[input], element, &shape);
        let result = ctx.cast(&node.name, result, to);
        ctx.bind(node, result);
        return Ok(Some(()));
    }
    let last = shape.len() - 1;
    let mut swap: Vec<usize> = (0..shape.len()).collect();
    swap.swap(axis, last);
    let moved = ctx.transpose(&format!("{}/axis_last", node.name), input, &shape, &swap);
    let moved_shape: Vec<TDim> = swap.iter().map(|&i| shape[i].clone()).collect();
    let name = format!("{}/softmax", node.name);
    let result = ctx.emit(&name, lite, &[moved], element, &moved_shape);
    let result = ctx.transpose(&node.name, result, &moved_shape, &swap);
    let result = ctx.cast(&node.name, result, to);
    ctx.bind(node, result);
    Ok(Some(()))
}

pub fn raise(ctx: &mut RaiseContext, node: &Node) -> Result<()> {
    let name = ctx.output_name(node);
    let mut x = ctx.input(node, 0)?;
    let rank = ctx.shape(x)?.len();
    ensure!(rank > 0, "'{name}': softmax of a scalar");
    let kind = match &node.op {
        LiteOp::Softmax { beta } => {
            if *beta != 1.0 {
                let beta = ctx.scalar_like(*beta, x)?;
                x = ctx.wire(&format!("{name}/beta"), math::mul(), &[x, beta])?;
            }
            SoftmaxKind::Softmax
        }
        LiteOp::LogSoftmax => SoftmaxKind::LogSoftmax,
        other => bail!("{} is not a softmax", other.name()),
    };
    let op = Softmax { axes: tvec!(rank - 1), quant_output_dt: None, kind };
    let wire = ctx.wire(name, op, &[x])?;
    ctx.finish(node, wire)
}

pub fn read(op: &TfliteOp) -> Result<Option<LiteOp>> {
    Ok(match (&op.builtin, &op.options) {
        (&BuiltinOperator::SOFTMAX, BuiltinOptions::Softmax(o)) => {
            Some(LiteOp::Softmax { beta: o.beta })
        }
        (&BuiltinOperator::LOG_SOFTMAX, _) => Some(LiteOp::LogSoftmax),
        _ => None,
    })
}

pub fn write(graph: &Subgraph, node: &Node) -> Result<TfliteOp> {
    use ElementType::{I8, I16};
    let element = input_element(graph, node, 0);
    Ok(match &node.op {
        LiteOp::Softmax { beta } => TfliteOp::new(
            BuiltinOperator::SOFTMAX,
            version_of(element, &[(I16, 3), (I8, 2)]),
            BuiltinOptions::Softmax(SoftmaxOptions { beta: *beta }),
        ),
        LiteOp::LogSoftmax => {
            let version = version_of(element, &[(I8, 2)]);
            TfliteOp::new(BuiltinOperator::LOG_SOFTMAX, version, BuiltinOptions::LogSoftmax)
        }
        other => bail!("{} is not a softmax", other.name()),
    })
}

pub fn permute(_graph: &Subgraph, node: &Node, permutation: &[usize]) -> Option<Passage> {
    let last = permutation.len().checked_sub(1)?;
    let op = node.op.clone();
    let stays = permutation[last] == last;
    stays.then(|| Passage { op, constants: vec![], outputs: vec![permutation.to_vec()] })
}
