//! Fused graphs give what tract's own plan of the graph gives, and are as short as they should be.

use super::*;
use crate::kernels::test_values::values;
use crate::runtime::test_graph::{Build, Graph, N};
use crate::runtime::{Plan, Tensor, f32_values};
use crate::tract::ops::array::MultiBroadcastTo;
use crate::tract::ops::nn::{Softmax, SoftmaxKind};
use crate::tract::{AxisOp, IntoTValue, SimplePlan, TDim, ToDim};

/// A graph over inputs of these shapes, and the ops that are left of it, constants and inputs aside.
struct Case {
    name: &'static str,
    inputs: &'static [&'static [usize]],
    build: Build,
    fused: &'static str,
}

const fn case(
    name: &'static str,
    inputs: &'static [&'static [usize]],
    fused: &'static str,
    build: Build,
) -> Case {
    Case { name, inputs, build, fused }
}

const X: &[usize] = &[N, 20];

#[rustfmt::skip]
const CASES: &[Case] = &[
    case("weights [k, n]", &[X], "Gemm", |g, x| {
        let w = g.weights(&[20, 33])?;
        Ok(vec![g.einsum("mk,kn->mn", &[x[0], w])?])
    }),
    case("weights [n, k]", &[X], "Gemm", |g, x| {
        let w = g.weights(&[33, 20])?;
        Ok(vec![g.einsum("mk,nk->mn", &[x[0], w])?])
    }),
    case("weights on the left", &[X], "Gemm", |g, x| {
        let w = g.weights(&[20, 33])?;
        Ok(vec![g.einsum("kn,mk->mn", &[w, x[0]])?])
    }),
    case("one column", &[X], "Gemm", |g, x| {
        let (w, b) = (g.weights(&[20, 1])?, g.weights(&[1, 1])?);
        let y = g.einsum("mk,kn->mn", &[x[0], w])?;
        Ok(vec![g.op(math::add(), &[y, b])?])
    }),
    case("bias", &[X], "Gemm", |g, x| Ok(vec![g.dense(x[0], 20, 33)?])),
    case("bias first", &[X], "Gemm", |g, x| {
        let (w, b) = (g.weights(&[20, 33])?, g.weights(&[1, 33])?);
        let y = g.einsum("mk,kn->mn", &[x[0], w])?;
        Ok(vec![g.op(math::add(), &[b, y])?])
    }),
    case("bias that is an input", &[X, &[1, 33]], "Gemm", |g, x| {
        let w = g.weights(&[20, 33])?;
        let y = g.einsum("mk,kn->mn", &[x[0], w])?;
        Ok(vec![g.op(math::add(), &[y, x[1]])?])
    }),
    case("bias that is computed after the product", &[X, &[1, 33]], "Exp Gemm", |g, x| {
        let w = g.weights(&[20, 33])?;
        let y = g.einsum("mk,kn->mn", &[x[0], w])?;
        let b = g.op(math::exp(), &[x[1]])?;
        Ok(vec![g.op(math::add(), &[y, b])?])
    }),
    case("relu", &[X], "Gemm", |g, x| {
        let (y, zero) = (g.dense(x[0], 20, 33)?, g.number(0.0)?);
        Ok(vec![g.op(math::max(), &[y, zero])?])
    }),
    case("relu, zero first", &[X], "Gemm", |g, x| {
        let (y, zero) = (g.dense(x[0], 20, 33)?, g.number(0.0)?);
        Ok(vec![g.op(math::max(), &[zero, y])?])
    }),
    case("sigmoid", &[X], "Gemm", |g, x| { let y = g.dense(x[0], 20, 33)?; Ok(vec![g.op(nn::sigmoid(), &[y])?]) }),
    case("tanh", &[X], "Gemm", |g, x| { let y = g.dense(x[0], 20, 33)?; Ok(vec![g.op(math::tanh(), &[y])?]) }),
    case("activation without bias", &[X], "Gemm", |g, x| {
        let w = g.weights(&[20, 33])?;
        let y = g.einsum("mk,kn->mn", &[x[0], w])?;
        Ok(vec![g.op(math::tanh(), &[y])?])
    }),
    case("bias after the activation stays", &[X], "Gemm Add", |g, x| {
        let (w, b) = (g.weights(&[20, 33])?, g.weights(&[1, 33])?);
        let y = g.einsum("mk,kn->mn", &[x[0], w])?;
        let y = g.op(math::tanh(), &[y])?;
        Ok(vec![g.op(math::add(), &[y, b])?])
    }),
    case("second activation stays", &[X], "Gemm Tanh", |g, x| {
        let y = g.dense(x[0], 20, 33)?;
        let y = g.op(nn::sigmoid(), &[y])?;
        Ok(vec![g.op(math::tanh(), &[y])?])
    }),
    case("max with another bound", &[X], "Gemm Max", |g, x| {
        let (y, bound) = (g.dense(x[0], 20, 33)?, g.number(0.25)?);
        Ok(vec![g.op(math::max(), &[y, bound])?])
    }),
    case("min with zero", &[X], "Gemm Min", |g, x| {
        let (y, zero) = (g.dense(x[0], 20, 33)?, g.number(0.0)?);
        Ok(vec![g.op(math::min(), &[y, zero])?])
    }),
    case("a difference is no bias", &[X], "Gemm Sub", |g, x| {
        let (w, b) = (g.weights(&[20, 33])?, g.weights(&[1, 33])?);
        let y = g.einsum("mk,kn->mn", &[x[0], w])?;
        Ok(vec![g.op(math::sub(), &[b, y])?])
    }),
    case("one number for all columns", &[X], "Gemm Add", |g, x| {
        let (w, b) = (g.weights(&[20, 33])?, g.number(0.5)?);
        let y = g.einsum("mk,kn->mn", &[x[0], w])?;
        Ok(vec![g.op(math::add(), &[y, b])?])
    }),
    case("a bias for each row", &[X, &[N, 33]], "Gemm Add", |g, x| {
        let w = g.weights(&[20, 33])?;
        let y = g.einsum("mk,kn->mn", &[x[0], w])?;
        Ok(vec![g.op(math::add(), &[y, x[1]])?])
    }),
    case("product added to itself", &[X], "Gemm Add", |g, x| {
        let w = g.weights(&[20, 33])?;
        let y = g.einsum("mk,kn->mn", &[x[0], w])?;
        Ok(vec![g.op(math::add(), &[y, y])?])
    }),
    case("two products of many rows added", &[X, X], "Gemm Gemm Add", |g, x| {
        let (v, w) = (g.weights(&[20, 33])?, g.weights(&[20, 33])?);
        let [a, b] = [g.einsum("mk,kn->mn", &[x[0], v])?, g.einsum("mk,kn->mn", &[x[1], w])?];
        Ok(vec![g.op(math::add(), &[a, b])?])
    }),
    case("two products of one row added", &[&[1, 20], &[1, 20]], "Gemm Gemm", |g, x| {
        let (v, w) = (g.weights(&[20, 33])?, g.weights(&[20, 33])?);
        let [a, b] = [g.einsum("mk,kn->mn", &[x[0], v])?, g.einsum("mk,kn->mn", &[x[1], w])?];
        let y = g.op(math::add(), &[a, b])?;
        Ok(vec![g.op(nn::sigmoid(), &[y])?])
    }),
    case("a product as the bias of one row", &[X, &[1, 20]], "Gemm Gemm", |g, x| {
        let (v, w) = (g.weights(&[20, 33])?, g.weights(&[20, 33])?);
        let [a, b] = [g.einsum("mk,kn->mn", &[x[0], v])?, g.einsum("mk,kn->mn", &[x[1], w])?];
        Ok(vec![g.op(math::add(), &[a, b])?])
    }),

    case("two layers and a softmax", &[X], "Gemm Gemm Softmax", |g, x| {
        let (y, zero) = (g.dense(x[0], 20, 33)?, g.number(0.0)?);
        let y = g.op(math::max(), &[y, zero])?;
        let y = g.dense(y, 33, 10)?;
        let softmax = Softmax { axes: [1].as_slice().into(), quant_output_dt: None, kind: SoftmaxKind::Softmax };
        Ok(vec![g.op(softmax, &[y])?])
    }),
    case("one matrix in two products", &[X, X], "Gemm Gemm", |g, x| {
        let w = g.weights(&[20, 33])?;
        Ok(vec![g.einsum("mk,kn->mn", &[x[0], w])?, g.einsum("mk,kn->mn", &[x[1], w])?])
    }),
    case("product with two readers", &[X], "Gemm Add Exp", |g, x| {
        let (w, b) = (g.weights(&[20, 33])?, g.weights(&[1, 33])?);
        let y = g.einsum("mk,kn->mn", &[x[0], w])?;
        Ok(vec![g.op(math::add(), &[y, b])?, g.op(math::exp(), &[y])?])
    }),
    case("sum with two readers", &[X], "Gemm Tanh Sigmoid", |g, x| {
        let y = g.dense(x[0], 20, 33)?;
        Ok(vec![g.op(math::tanh(), &[y])?, g.op(nn::sigmoid(), &[y])?])
    }),
    case("product that is an output", &[X], "Gemm Add", |g, x| {
        let (w, b) = (g.weights(&[20, 33])?, g.weights(&[1, 33])?);
        let y = g.einsum("mk,kn->mn", &[x[0], w])?;
        let z = g.op(math::add(), &[y, b])?;
        Ok(vec![z, y])
    }),
    case("sum that is an output", &[X], "Gemm Tanh", |g, x| {
        let y = g.dense(x[0], 20, 33)?;
        let z = g.op(math::tanh(), &[y])?;
        Ok(vec![y, z])
    }),
    case("result that is an output and is read", &[X], "Gemm Exp", |g, x| {
        let y = g.dense(x[0], 20, 33)?;
        let y = g.op(math::tanh(), &[y])?;
        let z = g.op(math::exp(), &[y])?;
        Ok(vec![y, z])
    }),

    case("four axes in, three summed", &[&[N, 5, 4, 3]], "Gemm", |g, x| {
        let w = g.weights(&[5, 4, 3, 17])?;
        Ok(vec![g.einsum("mabc,abcn->mn", &[x[0], w])?])
    }),
    case("four axes in, weights [n, …]", &[&[N, 5, 4, 3]], "Gemm", |g, x| {
        let (w, b) = (g.weights(&[17, 5, 4, 3])?, g.weights(&[1, 17])?);
        let y = g.einsum("mabc,nabc->mn", &[x[0], w])?;
        let y = g.op(math::add(), &[y, b])?;
        let zero = g.number(0.0)?;
        Ok(vec![g.op(math::max(), &[y, zero])?])
    }),
    case("four axes in, weights in another order", &[&[N, 5, 4, 3]], "Gemm", |g, x| {
        let w = g.weights(&[3, 5, 17, 4])?;
        Ok(vec![g.einsum("mabc,canb->mn", &[x[0], w])?])
    }),
    case("an axis of one goes", &[&[N, 5, 4, 1]], "Gemm", |g, x| {
        let w = g.weights(&[5, 4, 17])?;
        Ok(vec![g.einsum("mabc,abn->mn", &[x[0], w])?])
    }),
    case("flattened, then dense", &[&[N, 5, 4, 1]], "Gemm", |g, x| {
        let n = g.n();
        let [from, to] = [vec![n.clone(), 5.to_dim(), 4.to_dim(), 1.to_dim()], vec![n, 20.to_dim()]];
        let y = g.op(AxisOp::Reshape(0, from.into(), to.into()), x)?;
        Ok(vec![g.dense(y, 20, 33)?])
    }),
    case("two row axes", &[&[N, 6, 20]], "Gemm", |g, x| {
        let (w, b) = (g.weights(&[20, 33])?, g.weights(&[1, 1, 33])?);
        let y = g.einsum("abk,kn->abn", &[x[0], w])?;
        let y = g.op(math::add(), &[y, b])?;
        Ok(vec![g.op(nn::sigmoid(), &[y])?])
    }),
    case("rows last", &[&[20, N]], "Gemm", |g, x| {
        let w = g.weights(&[20, 33])?;
        Ok(vec![g.einsum("km,kn->mn", &[x[0], w])?])
    }),
    case("inner axes before the rows", &[&[5, N, 4]], "EinSum", |g, x| {
        let w = g.weights(&[5, 4, 17])?;
        Ok(vec![g.einsum("amb,abn->mn", &[x[0], w])?])
    }),

    case("both are inputs", &[X, &[20, 33]], "Gemm", |g, x| Ok(vec![g.einsum("mk,kn->mn", x)?])),
    case("both are inputs, right transposed", &[X, &[33, 20]], "Gemm", |g, x| Ok(vec![g.einsum("mk,nk->mn", x)?])),
    case("both are inputs, left transposed", &[&[20, N], &[20, 33]], "Gemm", |g, x| Ok(vec![g.einsum("km,kn->mn", x)?])),
    case("both are inputs, both transposed", &[&[20, N], &[33, 20]], "Gemm", |g, x| Ok(vec![g.einsum("km,nk->mn", x)?])),
    case("both are inputs, result transposed", &[X, &[20, 33]], "Gemm", |g, x| Ok(vec![g.einsum("mk,kn->nm", x)?])),
    case("a gradient of weights", &[X, &[N, 33]], "Gemm", |g, x| Ok(vec![g.einsum("mk,mn->kn", x)?])),
    case("a square", &[X], "Gemm", |g, x| Ok(vec![g.einsum("mk,nk->mn", &[x[0], x[0]])?])),
    case("matrix by vector", &[X, &[20]], "EinSum", |g, x| Ok(vec![g.einsum("mk,k->m", x)?])),
    case("a batch of products", &[&[N, 6, 20], &[N, 20, 7]], "EinSum", |g, x| Ok(vec![g.einsum("bmk,bkn->bmn", x)?])),

    case("sum of rows", &[X], "SumRows", |g, x| Ok(vec![g.sum(&[0], x[0])?])),
    case("sum of columns", &[X], "Reduce<Sum>", |g, x| Ok(vec![g.sum(&[1], x[0])?])),
    case("sum of the first of three axes", &[&[N, 3, 2]], "Reduce<Sum>", |g, x| Ok(vec![g.sum(&[0], x[0])?])),
    case("nothing to fuse", &[&[1, 20]], "MultiBroadcastTo Exp", |g, x| {
        let shape: TVec<TDim> = [7.to_dim(), 20.to_dim()].as_slice().into();
        let y = g.op(MultiBroadcastTo { shape: shape.into() }, x)?;
        Ok(vec![g.op(math::exp(), &[y])?])
    }),
];

fn built(case: &Case) -> Result<TypedModel> {
    Graph::built(case.inputs, case.build)
}

fn inputs(case: &Case, rows: usize) -> Result<Vec<Tensor>> {
    let tensor = |(i, shape): (usize, &&[usize])| {
        let shape: Vec<usize> = shape.iter().map(|&d| if d == N { rows } else { d }).collect();
        let values = values(shape.iter().product(), 1000 + i as u64);
        Ok(Tensor::from_shape(&shape, &values)?)
    };
    case.inputs.iter().enumerate().map(tensor).collect()
}

fn ops_of(model: &TypedModel) -> Result<String> {
    let nodes = model.eval_order()?.into_iter().map(|id| model.node(id));
    let kept = nodes.filter(|n| !n.op_is::<Const>() && !n.op_is::<TypedSource>());
    Ok(kept.map(|n| n.op.name().to_string()).collect::<Vec<_>>().join(" "))
}

fn check(case: &Case) -> Result<()> {
    let model = built(case)?;
    let ops = ops_of(&fuse(&model)?)?;
    anyhow::ensure!(ops == case.fused, "fused to '{ops}' instead of '{}'", case.fused);
    let names = |count: usize| (0..count).map(|i| i.to_string()).collect::<Vec<_>>();
    let outputs = names(model.output_outlets()?.len());
    let plan = Plan::new(model.clone(), &names(case.inputs.len()), &outputs)?;
    let mut session = plan.session()?;
    let own = SimplePlan::new(model)?;
    for rows in [1, 7, 1000, 0, 7] {
        let inputs = inputs(case, rows)?;
        let expected = own.run(inputs.iter().cloned().map(|t| t.into_tvalue()).collect())?;
        let got = session.run(inputs)?;
        anyhow::ensure!(got.len() == expected.len(), "{} outputs", got.len());
        for (got, expected) in got.iter().zip(&expected) {
            let (shape, wanted) = (got.shape(), expected.shape());
            anyhow::ensure!(shape == wanted, "{rows} rows: {shape:?} instead of {wanted:?}");
            let pairs = f32_values(got)?.iter().zip(f32_values(expected)?);
            let largest = f32_values(expected)?.iter().fold(1f32, |m, v| m.max(v.abs()));
            for (at, (got, expected)) in pairs.enumerate() {
                let close = (got - expected).abs() <= 1e-5 * largest;
                anyhow::ensure!(close, "{rows} rows, value {at}: {got} instead of {expected}");
            }
        }
    }
    Ok(())
}

#[test]
fn a_fused_graph_gives_what_the_graph_gives() {
    let failures: Vec<String> = CASES
        .iter()
        .filter_map(|case| Some(format!("{}: {:#}", case.name, check(case).err()?)))
        .collect();
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}
