//! Products of matrices, and the bias and activation behind every product.

use super::*;

pub fn write(ctx: &mut GraphDefContext, node: &Node) -> Result<()> {
    match &node.op {
        LiteOp::FullyConnected { activation, keep_num_dims, .. } => {
            fully_connected(ctx, node, *keep_num_dims, *activation)
        }
        LiteOp::BatchMatMul { transpose_x, transpose_y } => {
            let mut operands = [ctx.input_or_weight(node, 0)?, ctx.input_or_weight(node, 1)?];
            if ctx.is_js() {
                stretch_batches(ctx, node, &mut operands)?;
            }
            let attributes = [
                ("T", ctx.type_of(node, 0)?),
                ("adj_x", Attribute::Bool(*transpose_x)),
                ("adj_y", Attribute::Bool(*transpose_y)),
            ];
            let value = ctx.add("BatchMatMulV2", &operands, &attributes);
            ctx.bind(node, value)
        }
        other => bail!("{} is no product", other.name()),
    }
}

/// TensorFlow.js repeats the smaller operand's matrices in turn: right where its axes are the last of the other's, and
/// nowhere else. Other operands get the size of the result first.
fn stretch_batches(
    ctx: &mut GraphDefContext,
    node: &Node,
    operands: &mut [GraphDefValue; 2],
) -> Result<()> {
    let tensors = [ctx.input_tensor(node, 0)?, ctx.input_tensor(node, 1)?];
    let made = &ctx.output_tensor(node)?.shape;
    let batch = made.get(..made.len().saturating_sub(2)).unwrap_or_default();
    let own = |tensor: &'_ Tensor| -> Vec<Dim> {
        let own = tensor.shape.get(..tensor.shape.len().saturating_sub(2)).unwrap_or_default();
        own.iter().skip_while(|dim| **dim == Dim::Known(1)).cloned().collect()
    };
    let batches = tensors.map(own);
    let whole: Vec<Dim> = batch.iter().skip_while(|dim| **dim == Dim::Known(1)).cloned().collect();
    let fits = |own: &Vec<Dim>| batch.ends_with(own);
    if batches.iter().all(fits) && batches.contains(&whole) {
        return Ok(());
    }
    for (tensor, (operand, own)) in tensors.into_iter().zip(operands.iter_mut().zip(&batches)) {
        if *own == whole {
            continue;
        }
        let matrix = tensor.shape.iter().skip(tensor.shape.len().saturating_sub(2));
        let sizes: Option<Vec<i32>> = batch
            .iter()
            .chain(matrix)
            .map(|dim| dim.known().and_then(|size| i32::try_from(size).ok()))
            .collect();
        let sizes = sizes.context(
            "TensorFlow.js cannot repeat its matrices where sizes are open; fix them with --set",
        )?;
        let sizes = ctx.i32_vector(&sizes);
        let attributes =
            [("T", Attribute::Type(tensor.element)), ("Tidx", Attribute::Type(ElementType::I32))];
        *operand = ctx.add("BroadcastTo", &[*operand, sizes], &attributes);
    }
    Ok(())
}

fn fully_connected(
    ctx: &mut GraphDefContext,
    node: &Node,
    keep_num_dims: bool,
    activation: Activation,
) -> Result<()> {
    let mut x = ctx.input(node, 0)?;
    let rank = ctx.input_tensor(node, 0)?.shape.len();
    let weights = ctx.input_tensor(node, 1)?.known_shape().context("weights of unknown size")?;
    ensure!(weights.len() == 2, "weights of rank {}", weights.len());
    let [out, depth] = [weights[0], weights[1]];
    let (weights, transposed) = match ctx.weight(node, 1, &[1, 0], &[depth, out])? {
        Some(weights) => (weights, false),
        None => (ctx.input(node, 1)?, true),
    };
    let element = ("T", Attribute::Type(ElementType::F32));
    if keep_num_dims && rank > 2 {
        let attributes =
            [element, ("adj_x", Attribute::Bool(false)), ("adj_y", Attribute::Bool(transposed))];
        let value = ctx.add("BatchMatMulV2", &[x, weights], &attributes);
        let value = biased(ctx, node, 2, value)?;
        return ctx.bind_activated(node, activation, value);
    }
    if rank != 2 {
        x = ctx.reshape(x, ElementType::F32, &[-1, i32::try_from(depth)?]);
    }
    let attributes = [
        element,
        ("transpose_a", Attribute::Bool(false)),
        ("transpose_b", Attribute::Bool(transposed)),
    ];
    if keep_num_dims && rank == 1 {
        let value = ctx.add("MatMul", &[x, weights], &attributes);
        let value = biased(ctx, node, 2, value)?;
        let value = ctx.reshape(value, ElementType::F32, &[i32::try_from(out)?]);
        return ctx.bind_activated(node, activation, value);
    }
    fused_or_biased(ctx, node, ["MatMul", "_FusedMatMul"], [x, weights], &attributes, activation)
}

/// `value` and the bias that is `node`'s input `index`, where there is one.
pub fn biased(
    ctx: &mut GraphDefContext,
    node: &Node,
    index: usize,
    value: GraphDefValue,
) -> Result<GraphDefValue> {
    let Some(bias) = bias(ctx, node, index)? else { return Ok(value) };
    let attributes =
        [("T", Attribute::Type(ElementType::F32)), ("data_format", Attribute::Text("NHWC"))];
    Ok(ctx.add("BiasAdd", &[value, bias], &attributes))
}

fn bias(ctx: &mut GraphDefContext, node: &Node, index: usize) -> Result<Option<GraphDefValue>> {
    if !ctx.has_input(node, index) {
        return Ok(None);
    }
    let shape = ctx.input_tensor(node, index)?.known_shape().context("a bias of unknown size")?;
    let order: Vec<usize> = (0..shape.len()).collect();
    let length = shape.iter().product();
    Ok(Some(match ctx.weight(node, index, &order, &[length])? {
        Some(bias) => bias,
        None => ctx.input(node, index)?,
    }))
}

/// Binds the product of two operands, its bias (input 2) and activation: one node where the target has
/// such, the second of `ops`.
pub fn fused_or_biased(
    ctx: &mut GraphDefContext,
    node: &Node,
    ops: [&'static str; 2],
    operands: [GraphDefValue; 2],
    attributes: &[(&'static str, Attribute)],
    activation: Activation,
) -> Result<()> {
    let fused = match activation {
        Activation::None => Some(vec!["BiasAdd"]),
        Activation::Relu => Some(vec!["BiasAdd", "Relu"]),
        Activation::Relu6 => Some(vec!["BiasAdd", "Relu6"]),
        Activation::ReluN1To1 | Activation::Tanh | Activation::SignBit => None,
    };
    if let (true, Some(fused), true) = (ctx.is_js(), fused, ctx.has_input(node, 2)) {
        let bias = bias(ctx, node, 2)?.context("a bias")?;
        let mut attributes = attributes.to_vec();
        attributes.push(("num_args", Attribute::Int(1)));
        attributes.push(("epsilon", Attribute::Float(0.0)));
        attributes.push(("fused_ops", Attribute::Texts(fused)));
        let value = ctx.add(ops[1], &[operands[0], operands[1], bias], &attributes);
        return ctx.bind(node, value);
    }
    let value = ctx.add(ops[0], &operands, attributes);
    let value = biased(ctx, node, 2, value)?;
    ctx.bind_activated(node, activation, value)
}

pub fn read(ctx: &mut GraphDefReader, node: &GraphDefInput) -> Result<Vec<TensorId>> {
    let (mut x, y) = (node.input(0)?, node.input(1)?);
    let is_batch = node.op.starts_with("Batch");
    let (swap_x, swap_y) = match is_batch {
        true => (node.flag("adj_x"), node.flag("adj_y")),
        false => (node.flag("transpose_a"), node.flag("transpose_b")),
    };
    ensure!(ctx.rank(x) >= 2 && ctx.rank(y) >= 2, "a product of what are not matrices");
    let is_weight = ctx.is_constant(y) && ctx.rank(y) == 2 && ctx.element(y) == ElementType::F32;
    let product = if is_weight {
        if swap_x {
            let rank = ctx.rank(x);
            let mut order: Vec<usize> = (0..rank).collect();
            order.swap(rank - 2, rank - 1);
            x = ctx.transpose(x, &order)?;
        }
        let weights = if swap_y { y } else { ctx.transpose(y, &[1, 0])? };
        let keep_num_dims = ctx.rank(x) > 2;
        with_weights(ctx, x, weights, keep_num_dims)?
    } else {
        let op = LiteOp::BatchMatMul { transpose_x: swap_x, transpose_y: swap_y };
        ctx.emit(op, &[x, y])?
    };
    Ok(vec![super::activation::read_fused(ctx, node, product)?])
}

/// `x` times constant weights (out × in).
pub fn with_weights(
    ctx: &mut GraphDefReader,
    x: TensorId,
    weights: TensorId,
    keep_num_dims: bool,
) -> Result<TensorId> {
    let (depth, outputs) = (ctx.known_dim(weights, 1)?, ctx.known_dim(weights, 0)?);
    let mut shape = ctx.shape(x).to_vec();
    let last = shape.last_mut().context("a product of a number")?;
    ensure!(last.known().is_none_or(|n| n == depth), "weights for {depth} values, not {last}");
    *last = Dim::Known(outputs);
    let op = LiteOp::FullyConnected {
        activation: Activation::None,
        keep_num_dims,
        asymmetric_quantize_inputs: false,
    };
    ctx.emit_shaped(op, &[x, weights], ElementType::F32, shape)
}
