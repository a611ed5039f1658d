//! Every gradient rule against finite differences of the forward graph, whose loss is computed here in float64.

use super::*;
use crate::runtime::{Plan, f32_values};
use crate::tract::{IntoTValue, SimplePlan, Tensor, ToDim};

/// How the loss reads the graph's output.
#[derive(Clone, Copy, PartialEq)]
enum End {
    SquaredError,
    CrossEntropyOfLogits,
    CrossEntropyOfProbabilities,
}
use End::*;

/// A graph over parameters of these shapes, with values between the bounds.
struct Case {
    name: &'static str,
    shapes: &'static [&'static [usize]],
    bounds: (f32, f32),
    end: End,
    build: fn(&mut Graph, &[OutletId]) -> Result<OutletId>,
}

const fn case(
    name: &'static str,
    shapes: &'static [&'static [usize]],
    build: fn(&mut Graph, &[OutletId]) -> Result<OutletId>,
) -> Case {
    Case { name, shapes, bounds: (-1.0, 1.0), end: SquaredError, build }
}

impl Case {
    const fn between(self, low: f32, high: f32) -> Case {
        Case { bounds: (low, high), ..self }
    }

    const fn ending(self, end: End) -> Case {
        Case { end, ..self }
    }
}

const A: &[usize] = &[3, 4];
const B: &[usize] = &[3, 5];
const ROW: &[usize] = &[1, 4];
const COLUMN: &[usize] = &[3, 1];
const CUBE: &[usize] = &[2, 3, 4];

#[rustfmt::skip]
const CASES: &[Case] = &[
    case("add", &[A, A], |g, p| g.op(math::add(), p)),
    case("add a row", &[A, ROW], |g, p| g.op(math::add(), p)),
    case("add a column to a row", &[COLUMN, ROW], |g, p| g.op(math::add(), p)),
    case("add one number", &[A, &[1, 1]], |g, p| g.op(math::add(), p)),
    case("sub", &[A, A], |g, p| g.op(math::sub(), p)),
    case("sub a matrix from a row", &[ROW, A], |g, p| g.op(math::sub(), p)),
    case("mul", &[A, A], |g, p| g.op(math::mul(), p)),
    case("mul by a column", &[COLUMN, A], |g, p| g.op(math::mul(), p)),
    case("mul by a constant row", &[A], |g, p| { let c = g.varied(ROW)?; g.op(math::mul(), &[p[0], c]) }),
    case("mul by ones", &[A], |g, p| { let ones = g.full(A, 1.0)?; g.op(math::mul(), &[ones, p[0]]) }),
    case("mul a row by a matrix of ones", &[ROW], |g, p| { let ones = g.full(A, 1.0)?; g.op(math::mul(), &[ones, p[0]]) }),
    case("mul by ones, then tanh", &[A], |g, p| {
        let one = g.full(&[1, 1], 1.0)?;
        let y = g.op(math::mul(), &[p[0], one])?;
        g.op(math::tanh(), &[y])
    }),
    case("div", &[A, A], |g, p| g.op(math::div(), p)).between(0.5, 2.0),
    case("div by a row", &[A, ROW], |g, p| g.op(math::div(), p)).between(0.5, 2.0),
    case("div a column by a row", &[COLUMN, ROW], |g, p| g.op(math::div(), p)).between(-2.0, -0.5),
    case("div by a constant", &[A], |g, p| { let c = g.full(&[1, 1], -3.0)?; g.op(math::div(), &[p[0], c]) }),
    case("div a constant", &[A], |g, p| { let c = g.varied(A)?; g.op(math::div(), &[c, p[0]]) }).between(0.5, 2.0),

    case("max(x, 0)", &[A], |g, p| { let c = g.full(&[1, 1], 0.0)?; g.op(math::max(), &[p[0], c]) }),
    case("max(0, x)", &[A], |g, p| { let c = g.full(&[1, 1], 0.0)?; g.op(math::max(), &[c, p[0]]) }),
    case("max(row, matrix of zeros)", &[ROW], |g, p| { let c = g.full(A, 0.0)?; g.op(math::max(), &[p[0], c]) }),
    case("max(x, 0.5)", &[A], |g, p| { let c = g.full(&[1, 1], 0.5)?; g.op(math::max(), &[p[0], c]) }),
    case("max(-0.5, x)", &[A], |g, p| { let c = g.full(&[1, 1], -0.5)?; g.op(math::max(), &[c, p[0]]) }),
    case("min(x, 0)", &[A], |g, p| { let c = g.full(&[1, 1], 0.0)?; g.op(math::min(), &[p[0], c]) }),
    case("min(0, x)", &[A], |g, p| { let c = g.full(&[1, 1], 0.0)?; g.op(math::min(), &[c, p[0]]) }),
    case("min(x, 0.5)", &[A], |g, p| { let c = g.full(&[1, 1], 0.5)?; g.op(math::min(), &[p[0], c]) }),
    case("min(-0.5, x)", &[A], |g, p| { let c = g.full(&[1, 1], -0.5)?; g.op(math::min(), &[c, p[0]]) }),
    case("relu6", &[A], |g, p| {
        let (low, high) = (g.full(&[1, 1], 0.0)?, g.full(&[1, 1], 6.0)?);
        let y = g.op(math::max(), &[p[0], low])?;
        g.op(math::min(), &[y, high])
    }).between(-3.0, 9.0),
    case("max of two", &[A, A], |g, p| g.op(math::max(), p)),
    case("max of a matrix and a row", &[A, ROW], |g, p| g.op(math::max(), p)),
    case("min of two", &[A, A], |g, p| g.op(math::min(), p)),
    case("min of a column and a row", &[COLUMN, ROW], |g, p| g.op(math::min(), p)),

    case("sigmoid", &[A], |g, p| g.op(nn::sigmoid(), p)).between(-3.0, 3.0),
    case("tanh", &[A], |g, p| g.op(math::tanh(), p)).between(-2.0, 2.0),
    case("exp", &[A], |g, p| g.op(math::exp(), p)),
    case("ln", &[A], |g, p| g.op(math::ln(), p)).between(0.5, 3.0),
    case("neg", &[A], |g, p| g.op(math::neg(), p)),
    case("abs", &[A], |g, p| g.op(math::abs(), p)),
    case("square", &[A], |g, p| g.op(math::square(), p)),
    case("square of rank 3", &[CUBE], |g, p| g.op(math::square(), p)),
    case("sqrt", &[A], |g, p| g.op(math::sqrt(), p)).between(0.5, 3.0),
    case("recip", &[A], |g, p| g.op(math::recip(), p)).between(-3.0, -0.5),
    case("rsqrt", &[A], |g, p| g.op(math::rsqrt(), p)).between(0.5, 3.0),

    case("mk,kn->mn", &[A, &[4, 5]], |g, p| g.einsum("mk,kn->mn", p)),
    case("km,kn->mn", &[A, B], |g, p| g.einsum("km,kn->mn", p)),
    case("mk,nk->mn", &[A, &[5, 4]], |g, p| g.einsum("mk,nk->mn", p)),
    case("km,nk->mn", &[A, &[5, 3]], |g, p| g.einsum("km,nk->mn", p)),
    case("mk,kn->nm", &[A, &[4, 5]], |g, p| g.einsum("mk,kn->nm", p)),
    case("constant · x", &[&[4, 5]], |g, p| { let c = g.varied(A)?; g.einsum("mk,kn->mn", &[c, p[0]]) }),
    case("x · constant", &[A], |g, p| { let c = g.varied(&[4, 5])?; g.einsum("mk,kn->mn", &[p[0], c]) }),
    case("x · column", &[A, &[4]], |g, p| g.einsum("mk,k->m", p)),
    case("batched product", &[CUBE, &[2, 4, 2]], |g, p| g.einsum("bmk,bkn->bmn", p)),
    case("batched, right transposed", &[CUBE, &[2, 2, 4]], |g, p| g.einsum("bmk,bnk->bmn", p)),
    case("batched, left transposed", &[CUBE, &[2, 3, 2]], |g, p| g.einsum("bkm,bkn->bmn", p)),
    case("one right side for a batch", &[CUBE, &[1, 4, 2]], |g, p| g.einsum("bmk,bkn->bmn", p)),
    case("one left side for a batch", &[&[1, 3, 4], &[2, 4, 2]], |g, p| g.einsum("bmk,bkn->bmn", p)),
    case("two inner axes", &[CUBE, &[3, 4, 5]], |g, p| g.einsum("mkl,kln->mn", p)),
    case("outer product", &[&[3], &[4]], |g, p| g.einsum("m,n->mn", p)),

    case("new axis", &[A], |g, p| { let y = g.op(AxisOp::Add(1), p)?; g.op(math::square(), &[y]) }),
    case("axis of one taken out", &[&[3, 1, 4]], |g, p| { let y = g.op(AxisOp::Rm(1), p)?; g.op(math::square(), &[y]) }),
    case("axis moved on", &[CUBE], |g, p| { let y = g.op(AxisOp::Move(0, 2), p)?; g.weighted(y) }),
    case("axis moved back", &[CUBE], |g, p| { let y = g.op(AxisOp::Move(2, 0), p)?; g.weighted(y) }),
    case("matrix transposed", &[A], |g, p| { let y = g.op(AxisOp::Move(0, 1), p)?; g.weighted(y) }),
    case("reshape", &[CUBE], |g, p| {
        let dims = |dims: &[usize]| dims.iter().map(|d| d.to_dim()).collect();
        let y = g.op(AxisOp::Reshape(1, dims(&[3, 4]), dims(&[2, 6])), p)?;
        g.weighted(y)
    }),

    case("sum over rows", &[A], |g, p| { let y = g.sum(&[0], p)?; g.weighted(y) }),
    case("sum over columns", &[A], |g, p| { let y = g.sum(&[1], p)?; g.weighted(y) }),
    case("sum over two axes", &[CUBE], |g, p| { let y = g.sum(&[0, 2], p)?; g.weighted(y) }),
    case("broadcast of a row", &[ROW], |g, p| { let y = g.broadcast(A, p)?; g.weighted(y) }),
    case("broadcast of a middle axis", &[&[2, 1, 4]], |g, p| { let y = g.broadcast(CUBE, p)?; g.weighted(y) }),
    case("broadcast to a higher rank", &[&[4]], |g, p| { let y = g.broadcast(A, p)?; g.weighted(y) }),
    case("broadcast of a column to a higher rank", &[COLUMN], |g, p| { let y = g.broadcast(CUBE, p)?; g.weighted(y) }),

    case("softmax, then weights", &[A], |g, p| { let y = g.softmax(SoftmaxKind::Softmax, &[1], p)?; g.weighted(y) }),
    case("softmax over rows", &[A], |g, p| { let y = g.softmax(SoftmaxKind::Softmax, &[0], p)?; g.weighted(y) }),
    case("softmax over two axes", &[CUBE], |g, p| { let y = g.softmax(SoftmaxKind::Softmax, &[1, 2], p)?; g.weighted(y) }),
    case("log-softmax, then weights", &[A], |g, p| { let y = g.softmax(SoftmaxKind::LogSoftmax, &[1], p)?; g.weighted(y) }),
    case("log-softmax over rows", &[A], |g, p| { let y = g.softmax(SoftmaxKind::LogSoftmax, &[0], p)?; g.weighted(y) }),
    case("attention", &[A, &[5, 4], &[5, 2]], |g, p| {
        let scores = g.einsum("mk,nk->mn", &p[..2])?;
        let shares = g.softmax(SoftmaxKind::Softmax, &[1], &[scores])?;
        g.einsum("mk,kn->mn", &[shares, p[2]])
    }),

    case("squared error of the parameter itself", &[A], |_, p| Ok(p[0])),
    case("squared error below a softmax", &[A], |g, p| g.softmax(SoftmaxKind::Softmax, &[1], p)),
    case("cross-entropy of logits", &[A], |_, p| Ok(p[0])).ending(CrossEntropyOfLogits),
    case("cross-entropy of large logits", &[A], |_, p| Ok(p[0])).between(-30.0, 30.0).ending(CrossEntropyOfLogits),
    case("cross-entropy below a softmax", &[B], |g, p| g.softmax(SoftmaxKind::Softmax, &[1], p))
        .ending(CrossEntropyOfProbabilities),
    case("cross-entropy of a softmax below a softmax", &[B], |g, p| {
        let y = g.softmax(SoftmaxKind::Softmax, &[1], p)?;
        g.softmax(SoftmaxKind::Softmax, &[1], &[y])
    }).ending(CrossEntropyOfProbabilities),

    case("x · x", &[A], |g, p| g.op(math::mul(), &[p[0], p[0]])),
    case("x - x·x", &[A], |g, p| { let y = g.op(math::mul(), &[p[0], p[0]])?; g.op(math::sub(), &[p[0], y]) }),
    case("exp(x) / x", &[A], |g, p| { let y = g.op(math::exp(), p)?; g.op(math::div(), &[y, p[0]]) }).between(0.5, 2.0),
    case("x · xᵀ", &[A], |g, p| g.einsum("mk,nk->mn", &[p[0], p[0]])),
    case("one matrix in two layers", &[&[4, 4]], |g, p| {
        let x = g.varied(A)?;
        let y = g.einsum("mk,kn->mn", &[x, p[0]])?;
        let y = g.op(math::tanh(), &[y])?;
        g.einsum("mk,kn->mn", &[y, p[0]])
    }),
    case("one value into three readers", &[A], |g, p| {
        let y = g.op(math::tanh(), p)?;
        let [a, b] = [g.op(math::square(), &[y])?, g.op(math::exp(), &[y])?];
        let sum = g.op(math::add(), &[a, b])?;
        g.op(math::mul(), &[sum, y])
    }),
    case("two dense layers", &[&[4, 5], &[1, 5], &[5, 3], &[1, 3]], |g, p| {
        let x = g.varied(&[7, 4])?;
        let y = g.einsum("mk,kn->mn", &[x, p[0]])?;
        let y = g.op(math::add(), &[y, p[1]])?;
        let zero = g.full(&[1, 1], 0.0)?;
        let y = g.op(math::max(), &[y, zero])?;
        let y = g.einsum("mk,kn->mn", &[y, p[2]])?;
        let y = g.op(math::add(), &[y, p[3]])?;
        g.softmax(SoftmaxKind::Softmax, &[1], &[y])
    }).ending(CrossEntropyOfProbabilities),
];

/// A forward graph in the making.
struct Graph(TypedModel);

impl Graph {
    fn op(&mut self, op: impl Into<Box<dyn TypedOp>>, inputs: &[OutletId]) -> Result<OutletId> {
        let op = op.into();
        let name = format!("{}{}", op.name().to_lowercase(), self.0.nodes.len());
        Ok(self.0.wire_node(name, op, inputs)?[0])
    }

    fn einsum(&mut self, axes: &str, inputs: &[OutletId]) -> Result<OutletId> {
        self.op(EinSum::new(axes.parse()?, DatumType::F32), inputs)
    }

    fn sum(&mut self, axes: &[usize], inputs: &[OutletId]) -> Result<OutletId> {
        self.op(Reduce::new(axes.into(), Reducer::Sum), inputs)
    }

    fn softmax(
        &mut self,
        kind: SoftmaxKind,
        axes: &[usize],
        inputs: &[OutletId],
    ) -> Result<OutletId> {
        self.op(Softmax { axes: axes.into(), quant_output_dt: None, kind }, inputs)
    }

    fn broadcast(&mut self, shape: &[usize], inputs: &[OutletId]) -> Result<OutletId> {
        self.op(MultiBroadcastTo { shape: dims(shape).into() }, inputs)
    }

    fn constant(&mut self, shape: &[usize], values: &[f32]) -> Result<OutletId> {
        let name = format!("constant{}", self.0.nodes.len());
        Ok(self.0.add_const(name, Tensor::from_shape(shape, values)?.into_arc_tensor())?)
    }

    fn full(&mut self, shape: &[usize], value: f32) -> Result<OutletId> {
        self.constant(shape, &vec![value; shape.iter().product()])
    }

    /// Some constant without two equal neighbours.
    fn varied(&mut self, shape: &[usize]) -> Result<OutletId> {
        self.constant(shape, &values(shape, (-1.0, 1.0), 7))
    }

    /// `x` times another number for each element.
    fn weighted(&mut self, x: OutletId) -> Result<OutletId> {
        let shape: Option<Vec<usize>> =
            self.0.outlet_fact(x)?.shape.as_concrete().map(|s| s.to_vec());
        let weights = self.varied(&shape.context("a known shape")?)?;
        self.op(math::mul(), &[x, weights])
    }
}

fn dims(shape: &[usize]) -> TVec<TDim> {
    shape.iter().map(|d| d.to_dim()).collect()
}

/// How far apart the finite differences look, at most twice this from the point.
const STEP: f64 = 0.02;

/// Values on a lattice of 1/4, which each `salt` below 3 moves by less: no value comes nearer than 2·STEP
/// to 0, to ±0.5, or to a value made with another salt.
fn values(shape: &[usize], (low, high): (f32, f32), salt: usize) -> Vec<f32> {
    let places = ((high - low) * 4.0) as usize;
    let count = shape.iter().product();
    let place = |i: usize| (i * 7 + salt * 5 + i * i / 3) % places;
    (0..count).map(|i| low + place(i) as f32 / 4.0 + 0.125 - 0.08 * (salt % 3) as f32).collect()
}

/// A case's forward graph with its parameters' first values.
struct Built {
    forward: TypedModel,
    names: Vec<String>,
    parameters: Vec<Tensor>,
    rows: usize,
    classes: usize,
    end: End,
}

impl Built {
    fn new(case: &Case) -> Result<Built> {
        let mut graph = Graph(TypedModel::default());
        let mut built = Built {
            forward: TypedModel::default(),
            names: vec![],
            parameters: vec![],
            rows: 0,
            classes: 0,
            end: case.end,
        };
        let mut sources = vec![];
        for (i, shape) in case.shapes.iter().enumerate() {
            let name = format!("p{i}");
            let fact = TypedFact::dt_shape(DatumType::F32, dims(shape));
            sources.push(graph.0.add_source(&name, fact)?);
            built.names.push(name);
            built.parameters.push(Tensor::from_shape(shape, &values(shape, case.bounds, i))?);
        }
        let mut output = (case.build)(&mut graph, &sources)?;
        let shape: Vec<usize> =
            graph.0.outlet_fact(output)?.shape.as_concrete().context("a known shape")?.to_vec();
        if shape.len() != 2 {
            let to = [shape[0], shape[1..].iter().product()];
            output = graph.op(AxisOp::Reshape(0, dims(&shape), dims(&to)), &[output])?;
        }
        (built.rows, built.classes) = (shape[0], shape[1..].iter().product());
        graph.0.select_output_outlets(&[output])?;
        built.forward = graph.0;
        Ok(built)
    }

    fn loss(&self) -> LossFunction {
        match self.end {
            SquaredError => LossFunction::MeanSquaredError,
            CrossEntropyOfLogits | CrossEntropyOfProbabilities => LossFunction::SoftmaxCrossEntropy,
        }
    }

    fn labels(&self) -> Vec<i32> {
        (0..self.rows).map(|i| ((i * 5 + 1) % self.classes) as i32).collect()
    }

    /// The graph under test and what it takes.
    fn backward(&self) -> Result<(TypedModel, Vec<Tensor>)> {
        let graph = add_loss_and_gradients(&self.forward, &self.names, self.loss())?;
        let mut inputs = self.parameters.clone();
        inputs.push(Tensor::from_shape(&[self.rows], &self.labels())?);
        Ok((graph, inputs))
    }

    /// The summed loss and the count of right rows, in float64 from the forward graph's output.
    fn loss_at(&self, parameters: Vec<Tensor>) -> Result<(f64, usize)> {
        let output = run(&self.forward, parameters)?.remove(0);
        let (mut loss, mut correct) = (0.0, 0);
        for (row, label) in output.chunks_exact(self.classes).zip(self.labels()) {
            let row: Vec<f64> = row.iter().map(|&v| v as f64).collect();
            let label = label as usize;
            loss += match self.end {
                SquaredError => {
                    let target = |i| if i == label { 1.0 } else { 0.0 };
                    let squares = row.iter().enumerate().map(|(i, v)| (v - target(i)).powi(2));
                    squares.sum::<f64>() / self.classes as f64
                }
                CrossEntropyOfLogits => {
                    row.iter().map(|v| (v - row[label]).exp()).sum::<f64>().ln()
                }
                CrossEntropyOfProbabilities => -row[label].ln(),
            };
            let first_largest = (0..row.len()).rev().max_by(|&a, &b| row[a].total_cmp(&row[b]));
            correct += (first_largest == Some(label)) as usize;
        }
        Ok((loss, correct))
    }

    /// The five-point difference quotient by element `at` of parameter `which`.
    fn difference(&self, which: usize, at: usize) -> Result<f64> {
        let moved = |by: f64| -> Result<(f64, f64)> {
            let mut parameters = self.parameters.clone();
            let mut plain = parameters[which].try_as_plain_ram_mut()?;
            let value = &mut plain.as_slice_mut::<f32>()?[at];
            let before = *value as f64;
            *value = (before + by) as f32;
            let moved_by = *value as f64 - before;
            Ok((self.loss_at(parameters)?.0, moved_by))
        };
        let slope = |by: f64| -> Result<f64> {
            let ((high, up), (low, down)) = (moved(by)?, moved(-by)?);
            Ok((high - low) / (up - down))
        };
        Ok((4.0 * slope(STEP)? - slope(2.0 * STEP)?) / 3.0)
    }

    /// Errs where a gradient is not the finite difference.
    fn compare(&self, gradients: &[Vec<f32>]) -> Result<()> {
        for (which, gradient) in gradients.iter().enumerate() {
            ensure!(gradient.len() == self.parameters[which].len(), "p{which}: another size");
            for (at, &got) in gradient.iter().enumerate() {
                let expected = self.difference(which, at)?;
                let error = (got as f64 - expected).abs() / expected.abs().max(0.1);
                ensure!(error < 3e-4, "p{which}[{at}]: {got} instead of {expected} ({error:.1e})");
            }
        }
        Ok(())
    }
}

/// Runs a graph in tract's own plan, as it is.
fn run(graph: &TypedModel, inputs: Vec<Tensor>) -> Result<Vec<Vec<f32>>> {
    let inputs = inputs.into_iter().map(IntoTValue::into_tvalue).collect();
    let outputs = SimplePlan::new(graph.clone())?.run(inputs)?;
    outputs.iter().map(|o| Ok(f32_values(o)?.to_vec())).collect()
}

/// Runs a graph as training does.
fn run_fused(graph: &TypedModel, inputs: Vec<Tensor>) -> Result<Vec<Vec<f32>>> {
    let names = |count: usize| (0..count).map(|i| i.to_string()).collect::<Vec<_>>();
    let (ins, outs) = (graph.input_outlets()?.len(), graph.output_outlets()?.len());
    let outputs = Plan::new(graph.clone(), &names(ins), &names(outs))?.session()?.run(inputs)?;
    outputs.iter().map(|o| Ok(f32_values(o)?.to_vec())).collect()
}

fn check(case: &Case) -> Result<()> {
    let built = Built::new(case)?;
    let (graph, inputs) = built.backward()?;
    let shapes = graph.output_outlets()?[2..]
        .iter()
        .map(|&o| Ok(graph.outlet_fact(o)?.shape.as_concrete().map(|s| s.to_vec())))
        .collect::<Result<Vec<_>>>()?;
    for (shape, parameter) in shapes.iter().zip(&built.parameters) {
        ensure!(shape.as_deref() == Some(parameter.shape()), "gradient of shape {shape:?}");
    }
    let (loss, correct) = built.loss_at(built.parameters.clone())?;
    for outputs in [run(&graph, inputs.clone())?, run_fused(&graph, inputs)?] {
        let got = outputs[0][0] as f64;
        ensure!((got - loss).abs() <= 1e-5 * loss.abs(), "loss {got} instead of {loss}");
        ensure!(outputs[1][0] as usize == correct, "{} right, not {correct}", outputs[1][0]);
        built.compare(&outputs[2..])?;
    }
    Ok(())
}

#[test]
fn each_rule_is_the_finite_difference() {
    let failures: Vec<String> = CASES
        .iter()
        .filter_map(|case| Some(format!("{}: {:#}", case.name, check(case).err()?)))
        .collect();
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

#[test]
fn a_wrong_gradient_is_not_taken_for_right() {
    for case in CASES {
        let built = Built::new(case).unwrap();
        let (graph, inputs) = built.backward().unwrap();
        let right = run(&graph, inputs).unwrap().split_off(2);
        let wrong = |change: fn(&mut f32)| {
            let mut gradients = right.clone();
            let largest = gradients.iter_mut().flatten().max_by(|a, b| a.abs().total_cmp(&b.abs()));
            change(largest.unwrap());
            assert!(built.compare(&gradients).is_err(), "{}", case.name);
        };
        assert!(built.compare(&right).is_ok(), "{}", case.name);
        wrong(|g| *g = -*g);
        wrong(|g| *g *= 1.02);
        wrong(|g| *g = 0.0);
        wrong(|g| *g = f32::NAN);
    }
}

#[test]
fn a_step_of_gradient_descent_is_the_parameter_moved_against_its_gradient() {
    const ALPHA: f32 = -0.125;
    for case in CASES {
        let built = Built::new(case).unwrap();
        let (graph, inputs) = built.backward().unwrap();
        let stepped = add_sgd_update(&graph, &built.names, ALPHA).unwrap();
        let expected = run(&graph, inputs.clone()).unwrap();
        for got in [run(&stepped, inputs.clone()).unwrap(), run_fused(&stepped, inputs).unwrap()] {
            assert_eq!(got[1], expected[1], "{}", case.name);
            let losses = (got[0][0] - expected[0][0]).abs();
            assert!(losses <= 1e-5 * expected[0][0].abs(), "{}", case.name);
            for (i, parameter) in built.parameters.iter().enumerate() {
                let old = f32_values(parameter).unwrap();
                for ((old, gradient), new) in old.iter().zip(&expected[2 + i]).zip(&got[2 + i]) {
                    let right = (*old as f64 + ALPHA as f64 * *gradient as f64) as f32;
                    let error = (new - right).abs() / right.abs().max(1.0);
                    assert!(error < 1e-5, "{}: p{i} {new} instead of {right}", case.name);
                }
            }
        }
    }
}

/// The graph's error, with the ways to it.
fn error_of(case: Case, loss: LossFunction, parameters: &[&str]) -> String {
    let built = Built::new(&case).unwrap();
    let parameters: Vec<String> = parameters.iter().map(|p| p.to_string()).collect();
    let error = add_loss_and_gradients(&built.forward, &parameters, loss).unwrap_err();
    format!("{error:#}")
}

#[test]
fn what_has_no_gradient_is_refused_with_node_and_op() {
    use LossFunction::{MeanSquaredError, SoftmaxCrossEntropy};
    let check = |case: Case, parameters: &[&str], expected: &str| {
        assert_eq!(error_of(case, MeanSquaredError, parameters), expected);
    };
    check(
        case("", &[A], |g, p| g.op(math::cos(), p)),
        &["p0"],
        "the gradient of 'cos1' (Cos): no gradient rule for Cos",
    );
    check(
        case("", &[A, A], |g, p| g.op(math::pow(), p)),
        &["p0"],
        "the gradient of 'pow2' (Pow): no gradient rule for Pow",
    );
    check(
        case("", &[A], |g, p| g.op(Reduce::new([1].into_iter().collect(), Reducer::Max), p)),
        &["p0"],
        "the gradient of 'reduce<max>1' (Reduce<Max>): no gradient rule for Max",
    );
    check(
        case("", &[A, &[5, 2]], |g, p| g.einsum("mk,no->mn", p)),
        &["p0"],
        "the gradient of 'einsum2' (EinSum): einsum mk,no->mn sums an axis of one operand",
    );
    check(
        case("", &[A, A], |g, p| {
            g.op(math::exp(), &p[1..])?;
            Ok(p[0])
        }),
        &["p0", "p1"],
        "'p1' does not reach the loss",
    );
    let over_rows = case("", &[A], |g, p| g.softmax(SoftmaxKind::Softmax, &[0], p));
    assert_eq!(
        error_of(over_rows, SoftmaxCrossEntropy, &["p0"]),
        "the last softmax must be over the classes"
    );
    let missing = error_of(case("", &[A], |_, p| Ok(p[0])), MeanSquaredError, &["p9"]);
    assert!(missing.contains("p9"), "{missing}");
}

#[test]
fn only_a_graph_with_one_output_of_rows_by_classes_is_trained() {
    let mut graph = Graph(TypedModel::default());
    let fact = TypedFact::dt_shape(DatumType::F32, dims(CUBE));
    let x = graph.0.add_source("x", fact).unwrap();
    let error = |graph: &Graph| {
        let loss = LossFunction::MeanSquaredError;
        add_loss_and_gradients(&graph.0, &["x".into()], loss).unwrap_err().to_string()
    };
    graph.0.select_output_outlets(&[x]).unwrap();
    assert!(error(&graph).starts_with("the model's output must be [rows, classes], not"));
    let y = graph.op(math::exp(), &[x]).unwrap();
    graph.0.select_output_outlets(&[x, y]).unwrap();
    assert_eq!(error(&graph), "a model with one output can be trained");
}
