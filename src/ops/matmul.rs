//! Products: FULLY_CONNECTED and BATCH_MATMUL, from any two-operand einsum that is a matrix product.

use super::*;
use crate::format::tflite::{
    BatchMatMulOptions, FullyConnectedOptions, FullyConnectedWeightsFormat,
};
use crate::graph::Activation;
use crate::tract::ops::einsum::EinSum;
use crate::tract::ops::math;
use anyhow::bail;

/// The axes of a two-operand einsum by role, as positions in each operand (`None` where absent).
struct Roles {
    batch: Vec<Axis>,
    /// In the left operand and the result only.
    rows: Vec<Axis>,
    /// In the right operand and the result only.
    columns: Vec<Axis>,
    /// In both operands, summed.
    inner: Vec<Axis>,
    /// In one operand only, summed.
    summed: Vec<Axis>,
}

#[derive(Clone, Copy)]
struct Axis {
    left: Option<usize>,
    right: Option<usize>,
    result: Option<usize>,
}

fn roles(op: &EinSum) -> Result<Roles> {
    let mut roles =
        Roles { batch: vec![], rows: vec![], columns: vec![], inner: vec![], summed: vec![] };
    for axis in op.axes.iter_all_axes() {
        let single = |positions: &[usize]| match positions {
            [] => Ok(None),
            [one] => Ok(Some(*one)),
            _ => bail!("einsum {} takes a diagonal; take it with GatherElements before", op.axes),
        };
        let axis = Axis {
            left: single(&axis.inputs[0])?,
            right: single(&axis.inputs[1])?,
            result: single(&axis.outputs[0])?,
        };
        match (axis.left, axis.right, axis.result) {
            (Some(_), Some(_), Some(_)) => roles.batch.push(axis),
            (Some(_), None, Some(_)) => roles.rows.push(axis),
            (None, Some(_), Some(_)) => roles.columns.push(axis),
            (Some(_), Some(_), None) => roles.inner.push(axis),
            (Some(_), None, None) | (None, Some(_), None) => roles.summed.push(axis),
            (None, None, _) => {
                bail!("einsum {} makes an axis of its own; Unsqueeze after it", op.axes)
            }
        }
    }
    roles.batch.sort_by_key(|a| a.result);
    roles.rows.sort_by_key(|a| a.result);
    roles.columns.sort_by_key(|a| a.result);
    roles.inner.sort_by_key(|a| a.left);
    Ok(roles)
}

pub fn lower(ctx: &mut LowerContext, node: &TypedNode) -> Result<Option<()>> {
    let Some(op) = node.op_as::<EinSum>() else { return Ok(None) };
    ensure!(op.q_params.is_none(), refusal::quantized(format!("a product ({})", op.axes)));
    ensure!(
        matches!(op.operating_dt, DatumType::F32 | DatumType::F16),
        refusal::of_type("a product", format!("{:?}", op.operating_dt))
    );
    let &[left, right] = node.inputs.as_slice() else {
        bail!("einsum {} of {} operands; write it as products of two", op.axes, node.inputs.len());
    };
    let roles = roles(op)?;
    if ctx.constant(left).is_some() && ctx.constant(right).is_none() {
        return product(ctx, node, [right, left], roles.swapped()).map(Some);
    }
    let place = |axes: &[Axis]| axes.last().and_then(|a| a.result);
    if ctx.constant(right).is_none() && place(&roles.rows) > place(&roles.columns) {
        return product(ctx, node, [right, left], roles.swapped()).map(Some);
    }
    product(ctx, node, [left, right], roles).map(Some)
}

impl Roles {
    fn swapped(self) -> Roles {
        let flip = |axes: Vec<Axis>| -> Vec<Axis> {
            axes.into_iter().map(|a| Axis { left: a.right, right: a.left, ..a }).collect()
        };
        Roles {
            batch: flip(self.batch),
            rows: flip(self.columns),
            columns: flip(self.rows),
            inner: flip(self.inner),
            summed: flip(self.summed),
        }
    }

    /// Batch axes of which the right operand has one only are rows of the left.
    fn batch_of_one_to_rows(&mut self, right_shape: &[TDim]) {
        let is_one = |a: &Axis| a.right.is_some_and(|i| right_shape[i] == TDim::from(1));
        let (of_one, batch): (Vec<Axis>, Vec<Axis>) = self.batch.iter().partition(|a| is_one(a));
        self.batch = batch;
        self.rows.extend(of_one.iter().map(|a| Axis { right: None, ..*a }));
        self.rows.sort_by_key(|a| a.result);
        self.summed.extend(of_one.iter().map(|a| Axis {
            left: None,
            right: a.right,
            result: None,
        }));
    }
}

fn product(
    ctx: &mut LowerContext,
    node: &TypedNode,
    [left, right]: [OutletId; 2],
    mut roles: Roles,
) -> Result<()> {
    let left_shape = ctx.shape(left)?;
    let right_shape = ctx.shape(right)?;
    let one = TDim::from(1);
    if ctx.constant(right).is_some() {
        roles.batch_of_one_to_rows(&right_shape);
    }
    let is_one = |axis: &Axis| {
        axis.left.is_none_or(|i| left_shape[i] == one)
            && axis.right.is_none_or(|i| right_shape[i] == one)
    };
    ensure!(
        roles.summed.iter().all(is_one),
        "einsum that sums an axis of one operand alone; put ReduceSum before it"
    );

    let of_left = |a: &Axis| left_shape[a.left.unwrap_or(0)].clone();
    let of_right = |a: &Axis| right_shape[a.right.unwrap_or(0)].clone();
    let volume =
        |axes: &[Axis], dim: &dyn Fn(&Axis) -> TDim| -> TDim { axes.iter().map(dim).product() };
    let batch_dims: Vec<TDim> = roles
        .batch
        .iter()
        .map(|a| if of_left(a) == one { of_right(a) } else { of_left(a) })
        .collect();
    let rows = volume(&roles.rows, &of_left);
    let columns = volume(&roles.columns, &of_right);
    let inner = volume(&roles.inner, &of_left);

    let to = ctx.element(OutletId::new(node.id, 0))?;
    ensure!(matches!(to, ElementType::F32 | ElementType::F16), refusal::of_type("a product", to));
    let element = ElementType::F32;
    let constant = ctx.constant(right).cloned().filter(|_| roles.batch.is_empty());
    let order = |parts: [&[Axis]; 3], place: fn(&Axis) -> Option<usize>| -> Vec<usize> {
        parts.into_iter().flatten().chain(&roles.summed).filter_map(place).collect()
    };
    // the axis that lies together in memory is not moved: the product reads either order
    let oriented = |outer: &[Axis], place: fn(&Axis) -> Option<usize>, rank: usize| {
        let rows = order([&roles.batch, outer, &roles.inner], place);
        let turned = order([&roles.batch, &roles.inner, outer], place);
        let lies_last = |order: &[usize]| order.last().is_none_or(|&axis| axis + 1 == rank);
        match lies_last(&turned) && !lies_last(&rows) {
            true => (turned, true),
            false => (rows, false),
        }
    };
    let (left_order, transpose_x) = match constant {
        Some(_) => (order([&roles.batch, &roles.rows, &roles.inner], |a| a.left), false),
        None => oriented(&roles.rows, |a| a.left, left_shape.len()),
    };

    let x = ctx.tensor_as(left, ElementType::F32)?;
    let x = ctx.transpose(&format!("{}/left", node.name), x, &left_shape, &left_order);
    let x_shape: Vec<TDim> = left_order.iter().map(|&i| left_shape[i].clone()).collect();
    let mut flat: Vec<TDim> = roles.batch.iter().map(of_left).collect();
    flat.extend(match transpose_x {
        true => [inner.clone(), rows.clone()],
        false => [rows.clone(), inner.clone()],
    });

    let mut result_shape = batch_dims.clone();
    result_shape.extend([rows.clone(), columns.clone()]);
    let product = match constant {
        Some(weights) => {
            let mut kept: Vec<TDim> = roles.rows.iter().map(of_left).collect();
            let keep_num_dims = kept.len() > 1;
            kept.push(inner.clone());
            let flat = if keep_num_dims { kept } else { flat };
            let x = ctx.reshape(&format!("{}/input", node.name), x, &x_shape, &flat)?;
            let shape = [columns.to_i64()?, inner.to_i64()?].map(|n| n as usize);
            let weights = match weights.datum_type() {
                DatumType::F32 => weights,
                _ => weights.cast_to_dt(DatumType::F32)?.into_owned().into_arc_tensor(),
            };
            let name = ctx.model.node(right.node).name.clone();
            let right_order = order([&[], &roles.columns, &roles.inner], |a| a.right);
            let weights = ctx.add_reordered(&name, &weights, &right_order, &shape)?;
            let op = LiteOp::FullyConnected {
                activation: Activation::None,
                keep_num_dims,
                asymmetric_quantize_inputs: false,
            };
            if keep_num_dims {
                result_shape = roles.rows.iter().map(of_left).chain([columns.clone()]).collect();
            }
            ctx.emit(&node.name, op, &[x, weights], element, &result_shape)
        }
        None => {
            let x = ctx.reshape(&format!("{}/input", node.name), x, &x_shape, &flat)?;
            let y = ctx.tensor_as(right, ElementType::F32)?;
            let (right_order, turned) = oriented(&roles.columns, |a| a.right, right_shape.len());
            let y = ctx.transpose(&format!("{}/right", node.name), y, &right_shape, &right_order);
            let y_shape: Vec<TDim> = right_order.iter().map(|&i| right_shape[i].clone()).collect();
            let mut flat: Vec<TDim> = roles.batch.iter().map(of_right).collect();
            flat.extend(if turned { [inner, columns] } else { [columns, inner] });
            let y = ctx.reshape(&format!("{}/weights", node.name), y, &y_shape, &flat)?;
            let op = LiteOp::BatchMatMul { transpose_x, transpose_y: !turned };
            ctx.emit(&node.name, op, &[x, y], element, &result_shape)
        }
    };

    let mut unflat = batch_dims;
    unflat.extend(roles.rows.iter().map(of_left));
    unflat.extend(roles.columns.iter().map(of_right));
    let product = ctx.reshape(&format!("{}/unflat", node.name), product, &result_shape, &unflat)?;
    let made = roles.batch.iter().chain(&roles.rows).chain(&roles.columns);
    let made: Vec<usize> = made.filter_map(|a| a.result).collect();
    let back: Vec<usize> =
        (0..made.len()).map(|i| made.iter().position(|&m| m == i).unwrap_or(i)).collect();
    let product = ctx.transpose(&format!("{}/result", node.name), product, &unflat, &back);
    let product = ctx.cast(&node.name, product, to);
    ctx.bind(node, product);
    Ok(())
}

pub fn raise(ctx: &mut RaiseContext, node: &Node) -> Result<()> {
    let name = ctx.output_name(node);
    let x = ctx.input(node, 0)?;
    let y = ctx.input(node, 1)?;
    match &node.op {
        LiteOp::FullyConnected { activation, keep_num_dims, .. } => {
            let weights = ctx.shape(y)?;
            ensure!(weights.len() == 2, "'{name}': weights of rank {}", weights.len());
            let x_shape = ctx.shape(x)?;
            ensure!(!x_shape.is_empty(), "'{name}': the input is a scalar");
            let flat = [TDim::from(-1), weights[1].clone()];
            let x = super::shape::wire_reshape(ctx, name, x, &flat)?;
            let op = EinSum::new("mk,nk->mn".parse()?, DatumType::F32);
            let mut wire = ctx.wire(&format!("{name}/product"), op, &[x, y])?;
            if ctx.has_input(node, 2) {
                let bias = ctx.input(node, 2)?;
                let [a, b] = ctx.equalize_ranks(name, wire, bias)?;
                wire = ctx.wire(&format!("{name}/bias"), math::add(), &[a, b])?;
            }
            wire = super::activation::wire_fused(ctx, name, *activation, wire)?;
            if *keep_num_dims && x_shape.len() != 2 {
                let mut shape = x_shape;
                shape.pop();
                shape.push(weights[0].clone());
                wire = super::shape::wire_reshape(ctx, name, wire, &shape)?;
            }
            ctx.finish(node, wire)
        }
        LiteOp::BatchMatMul { transpose_x, transpose_y } => {
            let [x, y] = ctx.equalize_ranks(name, x, y)?;
            let rank = ctx.shape(x)?.len();
            ensure!(rank >= 2, "'{name}': operands of rank {rank}");
            let batch: String = ('a'..).take(rank - 2).collect();
            let left = if *transpose_x { "zm" } else { "mz" };
            let right = if *transpose_y { "nz" } else { "zn" };
            ensure!(rank <= 10, "'{name}': operands of rank {rank}");
            let axes = format!("{batch}{left},{batch}{right}->{batch}mn").parse()?;
            let wire = ctx.wire(name, EinSum::new(axes, DatumType::F32), &[x, y])?;
            ctx.finish(node, wire)
        }
        _ => bail!("{} is not a product", node.op.name()),
    }
}

pub fn read(op: &TfliteOp) -> Result<Option<LiteOp>> {
    Ok(Some(match &op.options {
        BuiltinOptions::FullyConnected(o) if op.builtin == BuiltinOperator::FULLY_CONNECTED => {
            ensure!(
                o.weights_format == FullyConnectedWeightsFormat::Default,
                "FULLY_CONNECTED with shuffled weights"
            );
            LiteOp::FullyConnected {
                activation: super::activation::read_fused(o.fused_activation_function),
                keep_num_dims: o.keep_num_dims,
                asymmetric_quantize_inputs: o.asymmetric_quantize_inputs,
            }
        }
        BuiltinOptions::BatchMatMul(o) => {
            LiteOp::BatchMatMul { transpose_x: o.adj_x, transpose_y: o.adj_y }
        }
        _ => return Ok(None),
    }))
}

pub fn write(graph: &Subgraph, node: &Node) -> Result<TfliteOp> {
    Ok(match &node.op {
        LiteOp::FullyConnected { activation, keep_num_dims, asymmetric_quantize_inputs } => {
            use ElementType::{F32, I4, I8, I16};
            let has_bias = node.inputs.get(2).copied().flatten().is_some();
            let version = match (input_element(graph, node, 0), input_element(graph, node, 1)) {
                (Some(I16), Some(I4)) => 13,
                (Some(F32), Some(I8 | I4)) => 12,
                (Some(I16), _) => 11,
                (Some(I8), Some(I4)) => 10,
                _ if !has_bias => 6,
                _ if *keep_num_dims => 5,
                (Some(I8), _) => 4,
                _ => 1,
            };
            let options = FullyConnectedOptions {
                fused_activation_function: super::activation::write_fused(*activation),
                keep_num_dims: *keep_num_dims,
                asymmetric_quantize_inputs: *asymmetric_quantize_inputs,
                ..Default::default()
            };
            TfliteOp::new(
                BuiltinOperator::FULLY_CONNECTED,
                version,
                BuiltinOptions::FullyConnected(options),
            )
        }
        LiteOp::BatchMatMul { transpose_x, transpose_y } => TfliteOp::new(
            BuiltinOperator::BATCH_MATMUL,
            version_of(
                input_element(graph, node, 0),
                &[(ElementType::I16, 3), (ElementType::I8, 2)],
            ),
            BuiltinOptions::BatchMatMul(BatchMatMulOptions {
                adj_x: *transpose_x,
                adj_y: *transpose_y,
                ..Default::default()
            }),
        ),
        other => bail!("{} is not a product", other.name()),
    })
}

pub fn permute(_graph: &Subgraph, _node: &Node, _permutation: &[usize]) -> Option<Passage> {
    None
}
