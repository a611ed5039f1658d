//! Several values into one.

use super::*;

/// All inputs, in float32 where they are not all of one type.
fn inputs(c: &mut Context) -> Result<Vec<TensorId>> {
    ensure!(!c.inputs.is_empty(), "it has no inputs");
    let inputs = c.inputs.clone();
    inputs.into_iter().map(|x| c.float(x)).collect()
}

pub fn all(c: &mut Context, op: BinaryOp) -> Result<TensorId> {
    let inputs = inputs(c)?;
    let rank = c.builder.rank(inputs[0]);
    ensure!(
        inputs.iter().all(|&x| c.builder.rank(x) == rank),
        "inputs of different ranks; Reshape them before"
    );
    let name = c.named("merged");
    let mut result = inputs[0];
    for &input in &inputs[1..] {
        result = c.builder.binary(&name, op, result, input)?;
    }
    Ok(result)
}

pub fn average(c: &mut Context) -> Result<TensorId> {
    let sum = all(c, BinaryOp::Add)?;
    let name = c.named("average");
    let count = c.inputs.len() as f32;
    c.builder.with_scalar(&name, BinaryOp::Mul, sum, 1.0 / count)
}

pub fn concatenate(c: &mut Context) -> Result<TensorId> {
    let inputs = inputs(c)?;
    let mut shape = c.builder.shape(inputs[0]);
    let rank = shape.len();
    let axis = c.axis(c.value("axis").as_i64().unwrap_or(-1), rank)?;
    let mut total = Some(0usize);
    for &input in &inputs {
        let own = c.builder.shape(input);
        let fits = own.len() == rank
            && own.iter().zip(&shape).enumerate().all(|(i, (a, b))| {
                i == axis || a == b || a.known().is_none() || b.known().is_none()
            });
        ensure!(fits, "{} beside {}", shape_text(&own), shape_text(&shape));
        total = total.zip(own[axis].known()).and_then(|(sum, n)| sum.checked_add(n));
    }
    shape[axis] = total.map_or_else(|| super::super::builder::open(&shape[axis]), Dim::Known);
    let name = c.named("concatenated");
    let op = LiteOp::Concatenation { axis: axis as i32, activation: Activation::None };
    c.builder.op(&name, op, &inputs, shape)
}

/// Of vectors, or of the vectors in matrices.
pub fn dot(c: &mut Context) -> Result<TensorId> {
    let inputs = inputs(c)?;
    let &[a, b] = inputs.as_slice() else { bail!("{} inputs", inputs.len()) };
    let (rank, other) = (c.builder.rank(a), c.builder.rank(b));
    let axes: Vec<i64> = match c.value("axes") {
        Value::Array(list) => list.iter().filter_map(Value::as_i64).collect(),
        one => one.as_i64().map_or(vec![], |axis| vec![axis; 2]),
    };
    let &[of_a, of_b] = axes.as_slice() else { bail!("axes are {}", c.value("axes")) };
    let (of_a, of_b) = (c.axis(of_a, rank)?, c.axis(of_b, other)?);
    let [a, b] = match c.flag("normalize", false) {
        true => [unit(c, a, of_a)?, unit(c, b, of_b)?],
        false => [a, b],
    };
    let name = c.named("product");
    match (rank, other) {
        (2, 2) => {
            let product = c.builder.binary(&name, BinaryOp::Mul, a, b)?;
            let name = c.named("dot");
            c.builder.reduce(&name, ReduceOp::Sum, product, &[1], true)
        }
        (3, 3) if of_a > 0 && of_b > 0 => {
            let (left, right) = (c.builder.shape(a), c.builder.shape(b));
            let shape = vec![left[0].clone(), left[3 - of_a].clone(), right[3 - of_b].clone()];
            let op = LiteOp::BatchMatMul { transpose_x: of_a == 1, transpose_y: of_b == 2 };
            c.builder.op(&name, op, &[a, b], shape)
        }
        _ => bail!("of values of ranks {rank} and {other} along axes {of_a} and {of_b}"),
    }
}

fn unit(c: &mut Context, x: TensorId, axis: usize) -> Result<TensorId> {
    let name = c.named("square");
    let square = c.builder.unary(&name, UnaryOp::Square, x)?;
    let name = c.named("sum");
    let sum = c.builder.reduce(&name, ReduceOp::Sum, square, &[axis], true)?;
    let name = c.named("floor");
    let sum = c.builder.with_scalar(&name, BinaryOp::Maximum, sum, 1e-12)?;
    let name = c.named("reciprocal");
    let root = c.builder.unary(&name, UnaryOp::Rsqrt, sum)?;
    let name = c.named("unit");
    c.builder.binary(&name, BinaryOp::Mul, x, root)
}
