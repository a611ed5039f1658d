//! Decides which nodes work on integers, and what each tensor's integers mean.
//!
//! Invariant: looks at the graph and edits nothing; `apply` does.

use super::apply::EndType;
use super::parameters::{Parameters, Range};
use crate::graph::{ElementType, LiteOp, Model, Node, Subgraph, TensorId};
use crate::ops::{ActivationType, QuantRule, quant_rule};
use std::collections::{HashMap, HashSet};

/// What becomes of one node.
#[derive(Debug, Clone, PartialEq)]
pub enum Place {
    /// Works on integers by its rule.
    Integer(QuantRule),
    /// Stays float32; why.
    Float(String),
    /// Has no floats.
    Untouched,
}

/// Of the entry graph; the subgraphs of loops and branches stay float32.
#[derive(Debug, Clone, PartialEq)]
pub struct IntegerPlan {
    pub activations: ActivationType,
    pub per_channel: bool,
    pub nodes: Vec<Place>,
    /// By tensor: of what is computed or given and has a range.
    pub parameters: Vec<Option<Parameters>>,
    /// The means of the channels of what weights meet: biases make up for what rounding the weights adds to them.
    pub channel_means: HashMap<TensorId, Vec<f32>>,
}

/// An operand of CONCATENATION and its like shares the result's scale unless that makes its own steps this
/// much coarser and others read it too.
const MOST_WIDENING: f32 = 1.5;
/// Padding beyond this stands for infinity and does not widen a range.
const INFINITE_PADDING: f32 = 1e30;

impl IntegerPlan {
    /// `ranges` by tensor of the entry graph; those of what is only moved follow from them. `float_nodes` says of a
    /// node why it is to stay float32.
    pub fn new(
        model: &Model,
        ranges: &[Option<Range>],
        activations: ActivationType,
        per_channel: bool,
        ends: EndType,
        float_nodes: &dyn Fn(usize) -> Option<String>,
    ) -> IntegerPlan {
        let graph = model.main();
        let ranges = &moved_ranges(graph, ranges, activations);
        let mut nodes: Vec<Place> = graph
            .nodes
            .iter()
            .enumerate()
            .map(|(i, node)| match float_nodes(i) {
                Some(why) if has_floats(graph, node) => Place::Float(why),
                _ => place(graph, node, ranges, activations),
            })
            .collect();
        keep_indices_float(graph, &mut nodes);
        if ends == EndType::Float32 {
            keep_last_fixed_float(graph, &mut nodes);
        }
        spread_float(graph, &mut nodes);
        let parameters = parameters(graph, &nodes, ranges, activations);
        IntegerPlan { activations, per_channel, nodes, parameters, channel_means: HashMap::new() }
    }
}

pub fn is_float_variable(graph: &Subgraph, tensor: TensorId) -> bool {
    let tensor = &graph.tensors[tensor];
    tensor.element == ElementType::F32 && tensor.data.is_none()
}

/// The computed or given float32 operands of a node.
pub fn float_operands<'a>(
    graph: &'a Subgraph,
    node: &'a Node,
) -> impl Iterator<Item = TensorId> + 'a {
    node.inputs.iter().flatten().copied().filter(|&t| is_float_variable(graph, t))
}

pub fn float_results<'a>(
    graph: &'a Subgraph,
    node: &'a Node,
) -> impl Iterator<Item = TensorId> + 'a {
    node.outputs.iter().copied().filter(|&t| is_float_variable(graph, t))
}

fn has_floats(graph: &Subgraph, node: &Node) -> bool {
    node.inputs
        .iter()
        .flatten()
        .chain(&node.outputs)
        .any(|&t| matches!(graph.tensors[t].element, ElementType::F32 | ElementType::F16))
}

fn place(
    graph: &Subgraph,
    node: &Node,
    ranges: &[Option<Range>],
    activations: ActivationType,
) -> Place {
    if !has_floats(graph, node) {
        return Place::Untouched;
    }
    let float = |why: &str| Place::Float(why.to_string());
    let tensors = || node.inputs.iter().flatten().chain(&node.outputs);
    if tensors().any(|&t| graph.tensors[t].element == ElementType::F16) {
        return float("it works on float16");
    }
    if matches!(node.op, LiteOp::Shape { .. }) {
        return float("only the shape of its operand counts");
    }
    let rule = quant_rule(&node.op, activations);
    if let QuantRule::FloatOnly(why) = rule {
        return float(why);
    }
    if float_operands(graph, node).next().is_none() {
        return float("its operands are constant");
    }
    use crate::graph::Activation::{SignBit, Tanh};
    if node.op.clone().activation_mut().is_some_and(|a| matches!(*a, Tanh | SignBit)) {
        return float("its fused activation has no integer form");
    }
    let values = float_operands(graph, node).chain(float_results(graph, node));
    let fixed = matches!(rule, QuantRule::Fixed(_));
    for tensor in values {
        let calibrated = ranges.get(tensor).copied().flatten().is_some_and(Range::is_finite);
        if !calibrated && !(fixed && node.outputs.contains(&tensor)) {
            let name = &graph.tensors[tensor].name;
            return Place::Float(format!("'{name}' has no finite range"));
        }
    }
    if let QuantRule::Weighted { weights, bias, axis, .. } = rule {
        let operand = |i: usize| node.inputs.get(i).copied().flatten().map(|t| &graph.tensors[t]);
        let Some(weights) = operand(weights) else { return float("its weights are missing") };
        let is_finite = |t: &crate::graph::Tensor| super::parameters::finite_values(t).is_some();
        if weights.data.is_none() {
            return float("its weights are computed");
        }
        let fits = weights.known_shape().is_some_and(|shape| axis < shape.len());
        if !fits || !is_finite(weights) || operand(bias).is_some_and(|bias| !is_finite(bias)) {
            return float("its weights or bias are not all finite constants");
        }
    } else {
        let mut constants = node.inputs.iter().flatten().map(|&t| &graph.tensors[t]);
        let infinite = |values: &[f32]| values.iter().any(|v| !v.is_finite());
        let pads = matches!(node.op, LiteOp::Pad);
        if !pads && constants.any(|t| t.f32_values().is_some_and(|v| infinite(&v))) {
            return float("a constant operand is not finite");
        }
    }
    Place::Integer(rule)
}

/// What ops of one scale make is made of what they take: the ranges of their results.
fn moved_ranges(
    graph: &Subgraph,
    ranges: &[Option<Range>],
    activations: ActivationType,
) -> Vec<Option<Range>> {
    let mut ranges = ranges.to_vec();
    ranges.resize(graph.tensors.len(), None);
    for node in &graph.nodes {
        if quant_rule(&node.op, activations) != QuantRule::OneScale {
            continue;
        }
        let operands = float_operands(graph, node).map(|t| ranges[t]).collect::<Option<Vec<_>>>();
        let moved = operands.and_then(|ranges| ranges.into_iter().reduce(Range::union));
        let moved = match (moved, constant_range(graph, node)) {
            (Some(moved), Some(constant)) => Some(moved.union(constant)),
            (moved, _) => moved,
        };
        float_results(graph, node).for_each(|result| ranges[result] = moved.or(ranges[result]));
    }
    ranges
}

/// Of the constant operands, without what stands for infinity.
fn constant_range(graph: &Subgraph, node: &Node) -> Option<Range> {
    let constants = node.inputs.iter().flatten().filter_map(|&t| graph.tensors[t].f32_values());
    let held = |v: &f32| v.is_finite() && v.abs() < INFINITE_PADDING;
    Range::of(constants.flatten().filter(held))
}

/// What indices and boxes are computed from stays float32, and so does what is computed of nothing else: a step of an
/// integer coordinate is many pixels. Layers with weights are left as they are.
fn keep_indices_float(graph: &Subgraph, nodes: &mut [Place]) {
    let stays = |place: &Place| match place {
        Place::Integer(QuantRule::Weighted { .. }) => false,
        Place::Integer(_) => true,
        Place::Float(_) | Place::Untouched => false,
    };
    let is_computed = |&&tensor: &&TensorId| graph.tensors[tensor].data.is_none();
    // conditions and indices on the way too
    let mut exact: HashSet<TensorId> = HashSet::new();
    for (node, place) in graph.nodes.iter().zip(nodes.iter_mut()).rev() {
        let makes_exact = node.outputs.iter().any(|tensor| exact.contains(tensor));
        if makes_exact && stays(place) {
            *place = Place::Float("indices or boxes are computed from it".into());
        }
        let passes_on = makes_exact && !matches!(place, Place::Integer(_));
        if passes_on || chooses_by_value(graph, node) {
            exact.extend(node.inputs.iter().flatten().filter(is_computed));
        }
    }
    let mut kept: HashSet<TensorId> = HashSet::new();
    for (node, place) in graph.nodes.iter().zip(nodes.iter_mut()) {
        let mut operands = float_operands(graph, node).peekable();
        let of_kept_alone = operands.peek().is_some() && operands.all(|t| kept.contains(&t));
        if of_kept_alone && stays(place) {
            *place = Place::Float("it is computed from indices or boxes alone".into());
        }
        let is_kept = matches!(place, Place::Float(_))
            && (of_kept_alone || node.outputs.iter().any(|tensor| exact.contains(tensor)));
        if is_kept {
            kept.extend(float_results(graph, node));
        }
    }
}

/// Whether integers that pick something out come from the floats of a node.
fn chooses_by_value(graph: &Subgraph, node: &Node) -> bool {
    let is_integer = |&tensor: &TensorId| {
        !matches!(
            graph.tensors[tensor].element,
            ElementType::F32 | ElementType::F16 | ElementType::Bool | ElementType::String
        )
    };
    let makes_integers = node.outputs.iter().any(is_integer);
    matches!(node.op, LiteOp::NonMaxSuppression)
        || matches!(node.op, LiteOp::Cast) && makes_integers
}

/// A probability that leaves the file as float32 is computed in float32: in int8 its steps are 1/256, which is more
/// than most probabilities of a thousand classes, and the op costs next to nothing.
fn keep_last_fixed_float(graph: &Subgraph, nodes: &mut [Place]) {
    let mut inner: HashSet<TensorId> = HashSet::new();
    for (node, place) in graph.nodes.iter().zip(nodes.iter_mut()).rev() {
        let is_last = !node.outputs.iter().any(|t| inner.contains(t));
        match place {
            Place::Integer(QuantRule::Fixed(_)) if is_last => {
                *place = Place::Float("its result leaves the file as float32".into());
            }
            Place::Integer(QuantRule::OneScale) if is_last => continue,
            _ => {}
        }
        inner.extend(node.inputs.iter().flatten());
    }
}

/// What only moves numbers between float nodes stays float with them.
fn spread_float(graph: &Subgraph, nodes: &mut [Place]) {
    let mut from_integers: HashSet<TensorId> = HashSet::new();
    let given: HashSet<TensorId> = graph.inputs.iter().copied().collect();
    for (node, place) in graph.nodes.iter().zip(nodes.iter_mut()) {
        if *place == Place::Integer(QuantRule::OneScale) {
            let mut operands = float_operands(graph, node);
            if !operands.any(|t| from_integers.contains(&t) || given.contains(&t)) {
                *place = Place::Float("its operands are float32".into());
            }
        }
        if matches!(place, Place::Integer(_)) {
            from_integers.extend(float_results(graph, node));
        }
    }
    // and what moves the graph's inputs to float nodes alone
    let mut read_by_integers: HashSet<TensorId> = graph.outputs.iter().copied().collect();
    for (node, place) in graph.nodes.iter().zip(nodes.iter_mut()).rev() {
        if *place == Place::Integer(QuantRule::OneScale) {
            let to_floats = !node.outputs.iter().any(|t| read_by_integers.contains(t));
            let computed = float_operands(graph, node).any(|t| from_integers.contains(&t));
            if to_floats && !computed {
                *place = Place::Float("it moves an input to nodes that stay float32".into());
            }
        }
        if matches!(place, Place::Integer(_)) {
            read_by_integers.extend(float_operands(graph, node));
        }
    }
}

/// Tensors that share their parameters.
struct Groups {
    parent: Vec<TensorId>,
    /// Of the group, at its root: the range of all, the width of the narrowest member.
    range: Vec<Option<Range>>,
    narrowest: Vec<f32>,
    fixed: Vec<Option<Parameters>>,
}

impl Groups {
    fn root(&mut self, tensor: TensorId) -> TensorId {
        let mut root = tensor;
        while self.parent[root] != root {
            self.parent[root] = self.parent[self.parent[root]];
            root = self.parent[root];
        }
        root
    }

    fn can_join(&mut self, a: TensorId, b: TensorId) -> bool {
        let (a, b) = (self.root(a), self.root(b));
        match (self.fixed[a], self.fixed[b]) {
            (None, None) => true,
            (a, b) => a == b,
        }
    }

    /// How much coarser the steps of the narrowest member would become.
    fn widening(&mut self, a: TensorId, b: TensorId) -> f32 {
        let (a, b) = (self.root(a), self.root(b));
        let narrowest = self.narrowest[a].min(self.narrowest[b]);
        match (self.range[a], self.range[b]) {
            (Some(x), Some(y)) if narrowest > 0.0 => x.union(y).width() / narrowest,
            (Some(_), Some(_)) => f32::INFINITY,
            _ => 1.0,
        }
    }

    fn join(&mut self, a: TensorId, b: TensorId) {
        let (a, b) = (self.root(a), self.root(b));
        if a == b {
            return;
        }
        self.parent[b] = a;
        self.range[a] = match (self.range[a], self.range[b]) {
            (Some(x), Some(y)) => Some(x.union(y)),
            (x, y) => x.or(y),
        };
        self.narrowest[a] = self.narrowest[a].min(self.narrowest[b]);
        self.fixed[a] = self.fixed[a].or(self.fixed[b]);
    }
}

fn parameters(
    graph: &Subgraph,
    nodes: &[Place],
    ranges: &[Option<Range>],
    activations: ActivationType,
) -> Vec<Option<Parameters>> {
    let count = graph.tensors.len();
    let range = |t: TensorId| ranges.get(t).copied().flatten().map(Range::with_zero);
    let mut groups = Groups {
        parent: (0..count).collect(),
        range: (0..count).map(range).collect(),
        narrowest: (0..count).map(|t| range(t).map_or(f32::INFINITY, Range::width)).collect(),
        fixed: vec![None; count],
    };
    let mut readers = vec![0usize; count];
    let mut by_own_scale = vec![false; count];
    for (node, place) in graph.nodes.iter().zip(nodes) {
        let Place::Integer(rule) = place else { continue };
        let mut operands: Vec<TensorId> = float_operands(graph, node).collect();
        operands.sort_unstable();
        operands.dedup();
        operands.into_iter().for_each(|t| readers[t] += 1);
        for result in float_results(graph, node) {
            by_own_scale[result] = *rule != QuantRule::OneScale;
            if let QuantRule::Fixed(fixed) = rule {
                let (scale, zero_point) = match activations {
                    ActivationType::Int8 => fixed.int8(),
                    ActivationType::Int16 => fixed.int16(),
                };
                groups.fixed[result] = Some(Parameters { scale, zero_point });
            }
        }
    }
    for (node, place) in graph.nodes.iter().zip(nodes) {
        if *place != Place::Integer(QuantRule::OneScale) {
            continue;
        }
        let results: Vec<TensorId> = float_results(graph, node).collect();
        let Some((&first, others)) = results.split_first() else { continue };
        others.iter().for_each(|&other| groups.join(first, other));
        let operands: Vec<TensorId> = float_operands(graph, node).collect();
        for &operand in &operands {
            let alone = readers[operand] == 1 && by_own_scale[operand];
            let joins =
                operands.len() == 1 || alone || groups.widening(first, operand) <= MOST_WIDENING;
            if joins && groups.can_join(first, operand) {
                groups.join(first, operand);
            }
        }
        if let Some(range) = constant_range(graph, node) {
            let root = groups.root(first);
            groups.range[root] = Some(groups.range[root].map_or(range, |r| r.union(range)));
        }
    }
    (0..count)
        .map(|tensor| {
            let root = groups.root(tensor);
            let of_range = |range: Range| Parameters::of_range(range, activations);
            let range = groups.range[root].filter(|range| range.is_finite());
            let wanted = is_float_variable(graph, tensor);
            groups.fixed[root].or(range.map(of_range)).filter(|_| wanted)
        })
        .collect()
}
