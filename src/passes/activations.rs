//! Several ops that together are one activation become that one.

use crate::graph::*;

/// Longest chain of ops that is looked at.
const DEPTH: usize = 8;

/// A graph, who computes each tensor and who reads it.
struct View<'a> {
    graph: &'a Subgraph,
    producers: &'a [Option<usize>],
    readers: &'a [Vec<usize>],
}

/// SELECT of x and a multiple of it by x's sign becomes PRELU or LEAKY_RELU; products of x with a clamp or a
/// TANH of it become HARD_SWISH or GELU.
pub fn several_ops_into_activation(graph: &mut Subgraph) {
    let mut producers = vec![None; graph.tensors.len()];
    let mut readers = vec![vec![]; graph.tensors.len()];
    for (i, node) in graph.nodes.iter().enumerate() {
        node.outputs.iter().for_each(|&t| producers[t] = Some(i));
        node.inputs.iter().flatten().for_each(|&t| readers[t].push(i));
    }
    for node in 0..graph.nodes.len() {
        let view = View { graph, producers: &producers, readers: &readers };
        let found = match graph.nodes[node].op {
            LiteOp::Select => slope_below_zero(&view, node),
            LiteOp::Unary(UnaryOp::Tanh | UnaryOp::Relu6 | UnaryOp::Relu0To1) => gated(&view, node),
            _ => None,
        };
        if let Some((last, op, inputs)) = found {
            graph.nodes[last].op = op;
            graph.nodes[last].inputs = inputs.into_iter().map(Some).collect();
        }
    }
}

/// A node, and what it computes in one.
type Found = (usize, LiteOp, Vec<TensorId>);

fn slope_below_zero(view: &View, select: usize) -> Option<Found> {
    let graph = view.graph;
    let &[Some(condition), Some(yes), Some(no)] = graph.nodes[select].inputs.as_slice() else {
        return None;
    };
    let test = &graph.nodes[view.producers[condition]?];
    let LiteOp::Binary { op, .. } = test.op else { return None };
    let &[Some(left), Some(right)] = test.inputs.as_slice() else { return None };
    let greater = match op {
        BinaryOp::Greater | BinaryOp::GreaterEqual => true,
        BinaryOp::Less | BinaryOp::LessEqual => false,
        _ => return None,
    };
    let (x, when_positive) = match [number(graph, left), number(graph, right)] {
        [None, Some(0.0)] => (left, greater),
        [Some(0.0), None] => (right, !greater),
        _ => return None,
    };
    let (yes, no) = if when_positive { (yes, no) } else { (no, yes) };
    let product = &graph.nodes[view.producers[no]?];
    let LiteOp::Binary { op: BinaryOp::Mul, activation: Activation::None } = product.op else {
        return None;
    };
    let &[Some(a), Some(b)] = product.inputs.as_slice() else { return None };
    let slope = if a == x { b } else { a };
    let result = *graph.nodes[select].outputs.first()?;
    let (shape, element) = (&graph.tensors[x].shape, graph.tensors[x].element);
    let slope_rank = graph.tensors[slope].known_shape()?.len();
    if yes != x
        || (a != x && b != x)
        || element != ElementType::F32
        || graph.tensors[slope].f32_values()?.iter().any(|v| !v.is_finite())
        || slope_rank > shape.len()
        || graph.tensors[result].shape != *shape
    {
        return None;
    }
    Some(match number(graph, slope) {
        Some(alpha) => (select, LiteOp::LeakyRelu { alpha }, vec![x]),
        None => (select, LiteOp::PRelu, vec![x, slope]),
    })
}

/// A gate g(x) whose product with x is an activation.
fn gated(view: &View, gate: usize) -> Option<Found> {
    let graph = view.graph;
    let argument = graph.nodes[gate].inputs.first().copied().flatten()?;
    let gate_result = *graph.nodes[gate].outputs.first()?;
    let hard = |scale: f64| Some((LiteOp::Unary(UnaryOp::HardSwish), vec![term(1, 1, scale)]));
    for x in sources(view, argument) {
        let Some(inside) = polynomial(view, argument, x, None, DEPTH) else { continue };
        let found = match graph.nodes[gate].op {
            LiteOp::Unary(UnaryOp::Relu6) if is(&inside, &[term(1, 0, 1.0), term(0, 0, 3.0)]) => {
                hard(1.0 / 6.0)
            }
            LiteOp::Unary(UnaryOp::Relu0To1)
                if is(&inside, &[term(1, 0, 1.0 / 6.0), term(0, 0, 0.5)]) =>
            {
                hard(1.0)
            }
            LiteOp::Unary(UnaryOp::Tanh) => {
                // Hendrycks and Gimpel, arXiv 1606.08415, section 2
                let slope = (2.0 / std::f64::consts::PI).sqrt();
                let wanted = [term(1, 0, slope), term(3, 0, slope * 0.044715)];
                let op = LiteOp::Gelu { approximate: true };
                is(&inside, &wanted).then(|| (op, vec![term(1, 0, 0.5), term(1, 1, 0.5)]))
            }
            _ => None,
        };
        let Some((op, wanted)) = found else { continue };
        let last = product_of(view, x, gate_result, &wanted)?;
        return Some((last, op, vec![x]));
    }
    None
}

/// The node, among those that read the gate and what comes of it, that computes `wanted` of x and the gate.
fn product_of(view: &View, x: TensorId, gate: TensorId, wanted: &[Term]) -> Option<usize> {
    let mut tensors = vec![gate];
    for _ in 0..4 {
        let mut next = vec![];
        for &reader in tensors.iter().flat_map(|&t| &view.readers[t]) {
            let result = *view.graph.nodes[reader].outputs.first()?;
            let whole = polynomial(view, result, x, Some(gate), DEPTH);
            if view.graph.tensors[result].shape == view.graph.tensors[x].shape
                && whole.is_some_and(|whole| is(&whole, wanted))
            {
                return Some(reader);
            }
            next.push(result);
        }
        next.truncate(DEPTH);
        tensors = next;
    }
    None
}

/// What `tensor` is computed from, nearest first, itself left out.
fn sources(view: &View, tensor: TensorId) -> Vec<TensorId> {
    let mut found = vec![tensor];
    let mut at = 0;
    while at < found.len() && found.len() < 2 * DEPTH {
        if let Some(producer) = view.producers[found[at]] {
            for &input in view.graph.nodes[producer].inputs.iter().flatten() {
                if view.graph.tensors[input].data.is_none() && !found.contains(&input) {
                    found.push(input);
                }
            }
        }
        at += 1;
    }
    found.remove(0);
    found.retain(|&t| view.graph.tensors[t].element == ElementType::F32);
    found
}

/// A coefficient by the powers of x and of the gate.
type Term = ((u8, u8), f64);

fn term(x: u8, gate: u8, coefficient: f64) -> Term {
    ((x, gate), coefficient)
}

/// `tensor` as a polynomial of `x` and `gate`.
fn polynomial(
    view: &View,
    tensor: TensorId,
    x: TensorId,
    gate: Option<TensorId>,
    depth: usize,
) -> Option<Vec<Term>> {
    if tensor == x {
        return Some(vec![term(1, 0, 1.0)]);
    }
    if Some(tensor) == gate {
        return Some(vec![term(0, 1, 1.0)]);
    }
    if let Some(number) = number(view.graph, tensor) {
        return Some(vec![term(0, 0, number.into())]);
    }
    let node = &view.graph.nodes[view.producers[tensor]?];
    let depth = depth.checked_sub(1)?;
    let of =
        |place: usize| polynomial(view, node.inputs.get(place).copied().flatten()?, x, gate, depth);
    let constant = |p: &[Term]| match p {
        [((0, 0), value)] => Some(*value),
        _ => None,
    };
    match node.op {
        LiteOp::Unary(UnaryOp::Square) => times(&of(0)?, &of(0)?),
        LiteOp::Unary(UnaryOp::Neg) => times(&of(0)?, &[term(0, 0, -1.0)]),
        LiteOp::Binary { op, activation: Activation::None } => {
            let (a, b) = (of(0)?, of(1)?);
            match op {
                BinaryOp::Add => Some(plus(a, &b, 1.0)),
                BinaryOp::Sub => Some(plus(a, &b, -1.0)),
                BinaryOp::Mul => times(&a, &b),
                BinaryOp::Div => times(&a, &[term(0, 0, 1.0 / constant(&b)?)]),
                BinaryOp::Pow if constant(&b)? == 2.0 => times(&a, &a),
                BinaryOp::Pow if constant(&b)? == 3.0 => times(&times(&a, &a)?, &a),
                _ => None,
            }
        }
        _ => None,
    }
}

fn plus(mut a: Vec<Term>, b: &[Term], sign: f64) -> Vec<Term> {
    for &(powers, value) in b {
        match a.iter_mut().find(|(p, _)| *p == powers) {
            Some((_, sum)) => *sum += sign * value,
            None => a.push((powers, sign * value)),
        }
    }
    a
}

fn times(a: &[Term], b: &[Term]) -> Option<Vec<Term>> {
    let mut product = vec![];
    for &((x1, g1), v1) in a {
        for &((x2, g2), v2) in b {
            if x1 + x2 > 4 || g1 + g2 > 2 {
                return None;
            }
            product = plus(product, &[term(x1 + x2, g1 + g2, v1 * v2)], 1.0);
        }
    }
    Some(product)
}

/// Equal but for the rounding of constants to float32.
fn is(found: &[Term], wanted: &[Term]) -> bool {
    let of = |terms: &[Term], powers| {
        terms.iter().find(|(p, _)| *p == powers).map_or(0.0, |&(_, value)| value)
    };
    let close = |&(powers, value): &Term| {
        (of(found, powers) - of(wanted, powers)).abs() <= 1e-6 * value.abs().max(1e-3)
    };
    found.iter().chain(wanted).all(close)
}

/// The value of a float32 constant of one element.
fn number(graph: &Subgraph, tensor: TensorId) -> Option<f32> {
    match graph.tensors[tensor].f32_values()?.as_slice() {
        &[one] => Some(one),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Build(Subgraph);

    impl Build {
        fn new() -> Build {
            let mut graph = Subgraph::default();
            let shape = vec![Dim::Known(2), Dim::Known(3)];
            let x = graph.add_tensor(Tensor::variable("x", ElementType::F32, shape));
            graph.inputs.push(x);
            Build(graph)
        }

        fn constant(&mut self, shape: &[usize], values: &[f32]) -> TensorId {
            let name = format!("c{}", self.0.tensors.len());
            let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            self.0.add_tensor(Tensor::constant(name, ElementType::F32, shape, data.into()))
        }

        fn node(&mut self, op: LiteOp, inputs: &[TensorId]) -> TensorId {
            let name = format!("t{}", self.0.tensors.len());
            let shape = self.0.tensors[0].shape.clone();
            let result = self.0.add_tensor(Tensor::variable(name, ElementType::F32, shape));
            let inputs = inputs.iter().map(|&t| Some(t)).collect();
            self.0.nodes.push(Node { op, inputs, outputs: vec![result] });
            result
        }

        fn binary(&mut self, op: BinaryOp, a: TensorId, b: TensorId) -> TensorId {
            self.node(LiteOp::Binary { op, activation: Activation::None }, &[a, b])
        }

        fn by(&mut self, op: BinaryOp, a: TensorId, number: f32) -> TensorId {
            let b = self.constant(&[], &[number]);
            self.binary(op, a, b)
        }

        fn unary(&mut self, op: UnaryOp, x: TensorId) -> TensorId {
            self.node(LiteOp::Unary(op), &[x])
        }

        /// The ops that are left for `result`.
        fn passed(mut self, result: TensorId) -> Vec<String> {
            self.0.outputs.push(result);
            several_ops_into_activation(&mut self.0);
            crate::passes::prune::remove_unused(&mut self.0);
            self.0.nodes.iter().map(|n| n.op.name().to_string()).collect()
        }
    }

    #[test]
    fn hard_swish_in_its_two_spellings() {
        let mut b = Build::new();
        let slope = b.by(BinaryOp::Mul, 0, 1.0 / 6.0);
        let sum = b.by(BinaryOp::Add, slope, 0.5);
        let gate = b.unary(UnaryOp::Relu0To1, sum);
        let result = b.binary(BinaryOp::Mul, 0, gate);
        assert_eq!(b.passed(result), ["HARD_SWISH"]);

        let mut b = Build::new();
        let sum = b.by(BinaryOp::Add, 0, 3.0);
        let gate = b.unary(UnaryOp::Relu6, sum);
        let part = b.by(BinaryOp::Div, gate, 6.0);
        let result = b.binary(BinaryOp::Mul, part, 0);
        assert_eq!(b.passed(result), ["HARD_SWISH"]);
    }

    #[test]
    fn another_slope_is_no_hard_swish() {
        let mut b = Build::new();
        let slope = b.by(BinaryOp::Mul, 0, 0.2);
        let sum = b.by(BinaryOp::Add, slope, 0.5);
        let gate = b.unary(UnaryOp::Relu0To1, sum);
        let result = b.binary(BinaryOp::Mul, 0, gate);
        assert_eq!(b.passed(result), ["MUL", "ADD", "RELU_0_TO_1", "MUL"]);
    }

    #[test]
    fn gelu_by_tanh_however_it_is_multiplied_out() {
        let slope = (2.0 / std::f32::consts::PI).sqrt();
        for cube_by_pow in [true, false] {
            let mut b = Build::new();
            let inside = if cube_by_pow {
                let cube = b.by(BinaryOp::Pow, 0, 3.0);
                let cube = b.by(BinaryOp::Mul, cube, 0.044715);
                b.binary(BinaryOp::Add, 0, cube)
            } else {
                let square = b.unary(UnaryOp::Square, 0);
                let square = b.by(BinaryOp::Mul, square, 0.044715);
                let sum = b.by(BinaryOp::Add, square, 1.0);
                b.binary(BinaryOp::Mul, 0, sum)
            };
            let inside = b.by(BinaryOp::Mul, inside, slope);
            let gate = b.unary(UnaryOp::Tanh, inside);
            let sum = b.by(BinaryOp::Add, gate, 1.0);
            let result = if cube_by_pow {
                let half = b.by(BinaryOp::Mul, 0, 0.5);
                b.binary(BinaryOp::Mul, half, sum)
            } else {
                let product = b.binary(BinaryOp::Mul, 0, sum);
                b.by(BinaryOp::Mul, product, 0.5)
            };
            assert_eq!(b.passed(result), ["GELU"]);
        }
    }

    #[test]
    fn slopes_below_zero() {
        for (slopes, op) in [(&[0.1f32, 0.2, 0.3][..], "PRELU"), (&[0.1], "LEAKY_RELU")] {
            let mut b = Build::new();
            let slope = b.constant(&[slopes.len()], slopes);
            let positive = b.by(BinaryOp::Greater, 0, 0.0);
            let product = b.binary(BinaryOp::Mul, 0, slope);
            let result = b.node(LiteOp::Select, &[positive, 0, product]);
            assert_eq!(b.passed(result), [op]);

            let mut b = Build::new();
            let (zero, slope) = (b.constant(&[], &[0.0]), b.constant(&[slopes.len()], slopes));
            let negative = b.binary(BinaryOp::Greater, zero, 0);
            let product = b.binary(BinaryOp::Mul, slope, 0);
            let result = b.node(LiteOp::Select, &[negative, product, 0]);
            assert_eq!(b.passed(result), [op]);
        }
    }

    #[test]
    fn a_select_of_another_value_stays() {
        let mut b = Build::new();
        let slope = b.constant(&[3], &[0.1, 0.2, 0.3]);
        let positive = b.by(BinaryOp::Greater, 0, 1.0);
        let product = b.binary(BinaryOp::Mul, 0, slope);
        let result = b.node(LiteOp::Select, &[positive, 0, product]);
        assert_eq!(b.passed(result), ["GREATER", "MUL", "SELECT_V2"]);
    }
}
