//! Decides which nodes between DEQUANTIZE and QUANTIZE work on integers.
//!
//! Invariant: looks at the graph and edits nothing; `apply` does.

use super::constants::{self, IntegerWeights};
use crate::graph::{
    Activation, ElementType, LiteOp, Node, PoolKind, Quantization, Subgraph, Tensor, TensorId,
};
use crate::lower::{Contents, StoredConstant};
use crate::ops::{ActivationType, QuantRule, quant_rule};
use crate::quantize::plan::{float_operands, float_results};
use std::collections::HashMap;

/// The reals that integers of a tensor stand for. What a model stores as uint8 is here int8, its zero point 128 less.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Grid {
    /// int8 or int16.
    pub element: ElementType,
    pub scale: f32,
    pub zero_point: i64,
}

impl Grid {
    pub fn new(element: ElementType, scale: f32, zero_point: i64) -> Option<Grid> {
        let (element, zero_point) = match element {
            ElementType::U8 => (ElementType::I8, zero_point - 128),
            ElementType::I8 => (element, zero_point),
            ElementType::I16 if zero_point == 0 => (element, zero_point),
            _ => return None,
        };
        let usable = scale.is_finite() && scale > 0.0 && (-128..=127).contains(&zero_point);
        usable.then_some(Grid { element, scale, zero_point })
    }

    pub fn of(tensor: &Tensor) -> Option<Grid> {
        match tensor.quantization {
            Some(Quantization::PerTensor { scale, zero_point }) => {
                Grid::new(tensor.element, scale, zero_point)
            }
            _ => None,
        }
    }

    pub fn activations(self) -> ActivationType {
        match self.element {
            ElementType::I16 => ActivationType::Int16,
            _ => ActivationType::Int8,
        }
    }

    pub fn bounds(self) -> [i64; 2] {
        match self.element {
            ElementType::I16 => [-32768, 32767],
            _ => [-128, 127],
        }
    }
}

/// What becomes of one node.
#[derive(Debug, Clone, PartialEq)]
pub enum Place {
    /// QUANTIZE and DEQUANTIZE of whole tensors: they stand where reals are read or integers of another scale.
    Conversion,
    Integer(IntegerNode),
    /// Takes and gives float32, and works on integers in between: int8 weights, the other operand as it comes.
    Hybrid {
        weights: IntegerWeights,
        axis: usize,
    },
    /// Stays float32; why.
    Float(String),
    /// Has no floats.
    Untouched,
}

#[derive(Debug, Clone, PartialEq)]
pub struct IntegerNode {
    pub rule: QuantRule,
    pub weights: Option<IntegerWeights>,
}

#[derive(Debug)]
pub struct CarriedPlan<'a> {
    pub nodes: Vec<Place>,
    /// By tensor: of float32 values that are there as integers.
    pub grids: Vec<Option<Grid>>,
    /// By tensor: how the model stores a constant.
    pub stored: HashMap<TensorId, &'a StoredConstant>,
}

/// An average on steps so much coarser than the result's stays float32.
const COARSEST_AVERAGE: f32 = 2.0;
/// The same of LOGISTIC and TANH, to which TFLite gives a scale.
const COARSEST_FIXED: f32 = 2.0;
/// And of probabilities: most of a thousand classes are below a step, and float32 costs next to nothing there.
const COARSEST_PROBABILITY: f32 = 1.01;

impl<'a> CarriedPlan<'a> {
    pub fn new(graph: &Subgraph, stored: &'a [StoredConstant]) -> CarriedPlan<'a> {
        let by_contents: HashMap<Contents, &StoredConstant> =
            stored.iter().map(|constant| (constant.contents, constant)).collect();
        let constants = graph.tensors.iter().enumerate().filter_map(|(id, tensor)| {
            let data = tensor.data.as_ref().filter(|_| tensor.element == ElementType::F32)?;
            Some((id, *by_contents.get(&Contents::of_words(data))?))
        });
        let stored = constants.collect();
        let grids = vec![None; graph.tensors.len()];
        let wanted = wanted(graph);
        let mut plan = CarriedPlan { nodes: vec![], grids, stored };
        for node in &graph.nodes {
            let place = plan.place(graph, node, &wanted);
            plan.nodes.push(place);
        }
        plan
    }

    fn place(&mut self, graph: &Subgraph, node: &Node, wanted: &[Option<Grid>]) -> Place {
        if matches!(node.op, LiteOp::Quantize | LiteOp::Dequantize) {
            return self.conversion(graph, node);
        }
        let tensors = || node.inputs.iter().flatten().chain(&node.outputs);
        let has = |element| tensors().any(|&t| graph.tensors[t].element == element);
        if !has(ElementType::F32) {
            return Place::Untouched;
        }
        match self.integer(graph, node, wanted, has(ElementType::F16)) {
            Ok((place, grid)) => {
                float_results(graph, node).for_each(|result| self.grids[result] = grid);
                place
            }
            Err(why) => self.hybrid(graph, node).unwrap_or(Place::Float(why)),
        }
    }

    /// Of a product that the model quantizes as it runs, where LiteRT has a kernel for that.
    fn hybrid(&self, graph: &Subgraph, node: &Node) -> Option<Place> {
        use Activation::{SignBit, Tanh};
        let axis = match node.op {
            LiteOp::Conv2D { .. } | LiteOp::FullyConnected { .. } => 0,
            LiteOp::DepthwiseConv2D { .. } => 3,
            _ => return None,
        };
        if node.op.clone().activation_mut().is_some_and(|a| matches!(*a, Tanh | SignBit)) {
            return None;
        }
        let tensor = node.inputs.get(1).copied().flatten()?;
        let stored = self.stored.get(&tensor).filter(|stored| stored.dynamic)?;
        let weights = constants::weights(&graph.tensors[tensor], stored, axis).ok()?;
        let symmetric = weights.element == ElementType::I8;
        symmetric.then_some(Place::Hybrid { weights, axis })
    }

    fn conversion(&mut self, graph: &Subgraph, node: &Node) -> Place {
        let (&[Some(from)], &[to]) = (node.inputs.as_slice(), node.outputs.as_slice()) else {
            return Place::Untouched;
        };
        if node.op == LiteOp::Quantize {
            let of_reals = graph.tensors[from].element == ElementType::F32;
            let known = of_reals && Grid::of(&graph.tensors[to]).is_some();
            return if known { Place::Conversion } else { Place::Untouched };
        }
        let constant = graph.tensors[from].data.is_some();
        match Grid::of(&graph.tensors[from]).filter(|_| !constant) {
            Some(grid) => {
                self.grids[to] = Some(grid);
                Place::Conversion
            }
            None => Place::Untouched,
        }
    }

    /// How the node works on integers, and the grid of its results.
    fn integer(
        &self,
        graph: &Subgraph,
        node: &Node,
        wanted: &[Option<Grid>],
        has_halves: bool,
    ) -> Result<(Place, Option<Grid>), String> {
        if matches!(node.op, LiteOp::Shape { .. }) {
            return Err("only the shape of its operand counts".into());
        }
        let mut grids = vec![];
        for operand in float_operands(graph, node) {
            let name = &graph.tensors[operand].name;
            grids.push(
                self.grids[operand].ok_or_else(|| format!("'{name}' has no scale in the model"))?,
            );
        }
        let Some(&first) = grids.first() else { return Err("its operands are constant".into()) };
        if has_halves || grids.iter().any(|grid| grid.element != first.element) {
            return Err("its operands are of several types".into());
        }
        use Activation::{SignBit, Tanh};
        if node.op.clone().activation_mut().is_some_and(|a| matches!(*a, Tanh | SignBit)) {
            return Err("its fused activation has no integer form".into());
        }
        let rule = quant_rule(&node.op, first.activations());
        let results: Vec<Option<Grid>> = float_results(graph, node).map(|t| wanted[t]).collect();
        let one = |grids: &[Option<Grid>]| {
            let first = grids.first().copied().flatten();
            first.filter(|first| grids.iter().all(|grid| grid.as_ref() == Some(first)))
        };
        let asked = one(&results).filter(|grid| grid.element == first.element);
        let no_scale = || "its result has no scale in the model".to_string();
        let integer = |weights| Place::Integer(IntegerNode { rule, weights });
        match rule {
            QuantRule::FloatOnly(why) => Err(why.into()),
            QuantRule::OneScale => {
                let constants = node.inputs.iter().flatten().any(|&t| {
                    graph.tensors[t].element == ElementType::F32 && graph.tensors[t].data.is_some()
                });
                let same = grids.iter().all(|grid| *grid == first);
                if same && !constants && moves(&node.op) {
                    return Ok((integer(None), Some(first)));
                }
                let asked = asked.ok_or_else(no_scale)?;
                if moves(&node.op) {
                    return Ok((integer(None), Some(asked)));
                }
                if !same || constants || first.scale > COARSEST_AVERAGE * asked.scale {
                    return Err("its operand's steps are too coarse for its result".into());
                }
                Ok((integer(None), Some(first)))
            }
            QuantRule::OwnScales if results.is_empty() => Ok((integer(None), None)),
            QuantRule::OwnScales => Ok((integer(None), Some(asked.ok_or_else(no_scale)?))),
            QuantRule::Fixed(range) => {
                let (scale, zero_point) = match first.activations() {
                    ActivationType::Int8 => range.int8(),
                    ActivationType::Int16 => range.int16(),
                };
                let asked = asked.ok_or_else(no_scale)?;
                let coarsest = match node.op {
                    LiteOp::Unary(_) => COARSEST_FIXED,
                    _ => COARSEST_PROBABILITY,
                };
                if scale > coarsest * asked.scale {
                    return Err(format!("its steps are {scale} in TFLite, {} here", asked.scale));
                }
                Ok((integer(None), Some(Grid { scale, zero_point, ..first })))
            }
            QuantRule::Weighted { weights, bias, axis, .. } => {
                let asked = asked.ok_or_else(no_scale)?;
                let weights = self.weights(graph, node, [weights, bias, axis], first)?;
                Ok((integer(Some(weights)), Some(asked)))
            }
        }
    }

    fn weights(
        &self,
        graph: &Subgraph,
        node: &Node,
        [weights, bias, axis]: [usize; 3],
        input: Grid,
    ) -> Result<IntegerWeights, String> {
        let of = |place: usize| node.inputs.get(place).copied().flatten();
        let tensor = of(weights).ok_or("its weights are missing")?;
        if graph.tensors[tensor].data.is_none() {
            return Err("its weights are computed".into());
        }
        let stored = self.stored.get(&tensor).ok_or("its weights have no scales in the model")?;
        let found = constants::weights(&graph.tensors[tensor], stored, axis);
        let found = found.map_err(|why| why.to_string())?;
        let wide = input.activations() == ActivationType::Int16;
        if wide && found.element == ElementType::U8 {
            return Err("its weights have a zero point".into());
        }
        if let Some(bias) = of(bias) {
            let scales: Vec<f32> = found.scales.iter().map(|s| s * input.scale).collect();
            let fits = constants::bias(&graph.tensors[bias], &scales, wide);
            fits.map_err(|why| why.to_string())?;
        }
        Ok(found)
    }
}

/// Whether an op of one scale only moves and picks numbers: what it makes of quantized ones is quantized as they are.
fn moves(op: &LiteOp) -> bool {
    let clamps = op.clone().activation_mut().is_some_and(|a| *a != Activation::None);
    let averages = matches!(
        op,
        LiteOp::Pool2D { kind: PoolKind::Average, .. } | LiteOp::ResizeBilinear { .. }
    );
    !clamps && !averages
}

/// By tensor: the grid on which all of a float32 value's readers quantize it, be it after moving it.
fn wanted(graph: &Subgraph) -> Vec<Option<Grid>> {
    let count = graph.tensors.len();
    let mut readers: Vec<Vec<usize>> = vec![vec![]; count];
    for (number, node) in graph.nodes.iter().enumerate() {
        node.inputs.iter().flatten().for_each(|&tensor| readers[tensor].push(number));
    }
    let mut wanted: Vec<Option<Grid>> = vec![None; count];
    for node in graph.nodes.iter().rev() {
        for result in float_results(graph, node) {
            if graph.outputs.contains(&result) {
                continue;
            }
            let of_reader = |reader: &usize| {
                let reader = &graph.nodes[*reader];
                if reader.op == LiteOp::Quantize {
                    return reader.outputs.first().and_then(|&q| Grid::of(&graph.tensors[q]));
                }
                let mut asked = float_results(graph, reader).map(|t| wanted[t]);
                let first = asked.next().flatten().filter(|first| {
                    let rule = quant_rule(&reader.op, first.activations());
                    rule == QuantRule::OneScale && moves(&reader.op)
                })?;
                asked.all(|other| other == Some(first)).then_some(first)
            };
            let mut grids = readers[result].iter().map(of_reader);
            let first = grids.next().flatten();
            wanted[result] = first.filter(|first| grids.all(|grid| grid.as_ref() == Some(first)));
        }
    }
    wanted
}
