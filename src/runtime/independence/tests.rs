//! What is said to work on each row alone does; what puts rows together is never said to.

use super::*;
use crate::kernels::test_values::values;
use crate::runtime::test_graph::{Build, Graph, N};
use crate::runtime::{Plan, Tensor};
use crate::tract::ops::array::Gather;
use crate::tract::ops::math;
use crate::tract::ops::nn::{Reduce, Reducer};
use crate::tract::random::{Dist, Random};
use crate::tract::{DatumExt, IntoArcTensor, SpecialOps, ToDim, tensor0, tensor1, tvec};

const X: &[usize] = &[N, 4];

#[rustfmt::skip]
const APART: &[(&str, &[&[usize]], Build)] = &[
    ("a dense layer and a softmax", &[X], |g, x| {
        let y = g.dense(x[0], 4, 3)?;
        let y = g.op(math::tanh(), &[y])?;
        Ok(vec![g.op(SoftmaxRows { axis: 1 }, &[y])?])
    }),
    ("two inputs", &[X, X], |g, x| Ok(vec![g.op(math::mul(), &[x[0], x[1]])?])),
    ("two outputs", &[X], |g, x| Ok(vec![g.op(math::exp(), &[x[0]])?, g.dense(x[0], 4, 2)?])),
    ("products of each row's own matrices", &[&[N, 2, 3], &[N, 3, 5]], |g, x| {
        Ok(vec![g.einsum("bik,bkj->bij", &[x[0], x[1]])?])
    }),
    ("other axes moved, cut, filled, joined", &[&[N, 4, 6]], |g, x| {
        let y = g.op(AxisOp::Move(1, 2), &[x[0]])?;
        let y = g.op(AxisOp::Reshape(1, tvec![6.to_dim()], tvec![2.to_dim(), 3.to_dim()]), &[y])?;
        let y = g.op(Slice::new(2, 1, 3), &[y])?;
        let y = g.op(Pad { pads: vec![(0, 0), (1, 0), (0, 0), (0, 2)], ..Pad::default() }, &[y])?;
        Ok(vec![g.op(TypedConcat::new(3), &[y, y])?])
    }),
];

#[rustfmt::skip]
const TOGETHER: &[(&str, &[&[usize]], Build)] = &[
    ("shares of the batch's sum", &[X], |g, x| {
        let sum = g.sum(&[0], x[0])?;
        Ok(vec![g.op(math::div(), &[x[0], sum])?])
    }),
    ("a softmax over the batch", &[X], |g, x| {
        Ok(vec![g.op(SoftmaxRows { axis: 0 }, &[x[0]])?])
    }),
    ("a sum that a row's place in memory rounds", &[X], |g, x| Ok(vec![g.sum(&[1], x[0])?])),
    ("a largest that a row's place in memory tells", &[&[N, 4, 5]], |g, x| {
        Ok(vec![g.op(Reduce::new(tvec![1], Reducer::Max), &[x[0]])?])
    }),
    ("a column by the number of rows", &[X], |g, x| {
        let n = g.n();
        Ok(vec![g.op(Slice::new(1, n.clone(), n + 1), &[x[0]])?])
    }),
    ("other numbers in each run", &[X], |g, x| {
        let (low, high) = (tensor0(0f32).into_arc_tensor(), tensor0(1f32).into_arc_tensor());
        let dist = Dist::Uniform { low, high };
        let op = Random { fact: f32::fact([1, 4]), dist, seed: Some(1) };
        let noise = g.op(op, &[])?;
        Ok(vec![g.op(math::add(), &[x[0], noise])?])
    }),
    ("how like each other row", &[X], |g, x| {
        Ok(vec![g.einsum("ik,jk->ij", &[x[0], x[0]])?])
    }),
    ("a sum for the batch beside rows", &[X], |g, x| {
        Ok(vec![g.op(math::exp(), &[x[0]])?, g.sum(&[0], x[0])?])
    }),
    ("the batch and back", &[X], |g, x| {
        let (n, four) = (g.n(), 4.to_dim());
        let flat = AxisOp::Reshape(0, tvec![n.clone(), four.clone()], tvec![n.clone() * 4]);
        let y = g.op(flat, &[x[0]])?;
        let y = g.op(AxisOp::Reshape(0, tvec![n.clone() * 4], tvec![four.clone(), n.clone()]), &[y])?;
        Ok(vec![g.op(AxisOp::Move(0, 1), &[y])?])
    }),
    ("rows moved on by one", &[X], |g, x| {
        let n = g.n();
        let y = g.op(Pad { pads: vec![(1, 0), (0, 0)], ..Pad::default() }, &[x[0]])?;
        Ok(vec![g.op(Slice::new(0, 0, n), &[y])?])
    }),
    ("one row for all", &[X], |g, x| {
        let first = g.op(Slice::new(0, 0, 1), &[x[0]])?;
        Ok(vec![g.op(math::add(), &[x[0], first])?])
    }),
    ("rows joined to rows", &[X], |g, x| {
        let n = g.n();
        let y = g.op(TypedConcat::new(0), &[x[0], x[0]])?;
        Ok(vec![g.op(Slice::new(0, n.clone(), n * 2), &[y])?])
    }),
    ("an op that is not known to", &[X], |g, x| {
        let places = g.0.add_const("places", tensor1(&[2i64, 0]))?;
        Ok(vec![g.op(Gather::new(1), &[x[0], places])?])
    }),
    ("a known batch", &[&[3, 4]], |g, x| Ok(vec![g.op(math::exp(), &[x[0]])?])),
    ("another input that all rows share", &[X, &[1, 4]], |g, x| {
        Ok(vec![g.op(math::add(), &[x[0], x[1]])?])
    }),
    ("an open axis beside the batch", &[&[N, N]], |g, x| Ok(vec![g.op(math::exp(), &[x[0]])?])),
    ("a constant", &[X], |g, _| Ok(vec![g.weights(&[1, 4])?])),
];

#[test]
fn by_hand() {
    for (name, inputs, build) in APART {
        let model = Graph::built(inputs, *build).unwrap();
        assert!(rows_are_independent(&model).unwrap(), "{name}");
        let ends = |count: usize| -> Vec<String> { (0..count).map(|i| i.to_string()).collect() };
        let outputs = ends(model.outputs.len());
        let plan = Plan::new(model, &ends(inputs.len()), &outputs).unwrap();
        assert!(plan.rows_are_independent(), "{name}");
        check(name, inputs, &plan);
    }
    for (name, inputs, build) in TOGETHER {
        let model = Graph::built(inputs, *build).unwrap();
        assert!(!rows_are_independent(&model).unwrap(), "{name}");
    }
}

/// Runs the model on rows together and on each alone.
fn check(name: &str, inputs: &[&[usize]], plan: &Plan) {
    const ROWS: usize = 4;
    let tensor = |(i, shape): (usize, &&[usize])| {
        let shape: Vec<usize> = shape.iter().map(|&d| if d == N { ROWS } else { d }).collect();
        Tensor::from_shape(&shape, &values(shape.iter().product(), i as u64)).unwrap()
    };
    let inputs: Vec<Tensor> = inputs.iter().enumerate().map(tensor).collect();
    let run = |inputs| plan.session().unwrap().run(inputs).unwrap();
    let together = run(inputs.clone());
    for row in 0..ROWS {
        let cut = |tensors: &[Tensor]| -> Vec<Tensor> {
            tensors.iter().map(|t| t.slice(0, row, row + 1).unwrap()).collect()
        };
        assert_eq!(run(cut(&inputs)), cut(&together), "{name}, row {row}");
    }
}
