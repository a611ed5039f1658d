//! Edits a lite graph into the integers that a plan decided on.

use super::constants::{self, IntegerWeights};
use super::plan::{CarriedPlan, Grid, IntegerNode, Place};
use crate::graph::{ElementType, LiteOp, Model, Node, Quantization, Subgraph, Tensor, TensorId};
use crate::ops::QuantRule;
use crate::passes;
use crate::quantize::plan::is_float_variable;
use anyhow::{Context, Result};
use std::collections::{HashMap, HashSet};

/// Float32 weights of fewer numbers stay as they are.
const LEAST_NUMBERS: usize = 512;

impl CarriedPlan<'_> {
    pub fn apply(self, model: &mut Model) -> Result<()> {
        let graph = model.subgraphs.first_mut().context("a model without a graph")?;
        let count = graph.tensors.len();
        let old_nodes = std::mem::take(&mut graph.nodes);
        let mut readers: Vec<Vec<LiteOp>> = vec![vec![]; count];
        for node in &old_nodes {
            for &tensor in node.inputs.iter().flatten() {
                readers[tensor].push(node.op.clone());
            }
        }
        let mut edit = Edit {
            plan: &self,
            forms: vec![vec![]; count],
            floats: vec![false; count],
            constants: HashMap::new(),
            names: graph.tensors.iter().map(|t| t.name.clone()).collect(),
            readers,
            graph,
        };
        for input in edit.graph.inputs.clone() {
            edit.floats[input] = true;
        }
        for (node, place) in old_nodes.into_iter().zip(&self.nodes) {
            match place {
                Place::Conversion => edit.conversion(node)?,
                Place::Integer(how) => edit.integer_node(node, how)?,
                Place::Hybrid { weights, axis } => edit.hybrid_node(node, weights, *axis)?,
                Place::Float(_) => edit.float_node(node, true)?,
                Place::Untouched => edit.float_node(node, false)?,
            }
        }
        for place in 0..edit.graph.outputs.len() {
            let output = edit.graph.outputs[place];
            edit.real(output)?;
        }
        passes::remove_unused_and_number(&mut model.subgraphs[0]);
        passes::renumber_signatures(model);
        Ok(())
    }
}

/// A tensor that holds a value as integers: of `grid`, stored as its type or as uint8.
#[derive(Debug, Clone, Copy)]
struct Form {
    grid: Grid,
    element: ElementType,
    tensor: TensorId,
}

struct Edit<'a, 'p> {
    plan: &'a CarriedPlan<'p>,
    graph: &'a mut Subgraph,
    /// By old float32 tensor: where its integers are.
    forms: Vec<Vec<Form>>,
    /// Whether an old float32 tensor holds its reals.
    floats: Vec<bool>,
    /// Integer constants, by old tensor, scale bits, zero point and type.
    constants: HashMap<(TensorId, u32, i64, ElementType), TensorId>,
    names: HashSet<String>,
    /// The ops that read an old tensor.
    readers: Vec<Vec<LiteOp>>,
}

fn quantization(grid: Grid, element: ElementType) -> Quantization {
    let shift = if element == ElementType::U8 { 128 } else { 0 };
    Quantization::PerTensor { scale: grid.scale, zero_point: grid.zero_point + shift }
}

impl Edit<'_, '_> {
    fn variable(&mut self, of: TensorId, grid: Grid, element: ElementType) -> TensorId {
        let old = &self.graph.tensors[of];
        let base = format!("{}/{}", old.name, element.name());
        let mut name = base.clone();
        let mut number = 0;
        while !self.names.insert(name.clone()) {
            number += 1;
            name = format!("{base}_{number}");
        }
        let mut tensor = Tensor::variable(name, element, old.shape.clone());
        tensor.origin = old.origin.clone();
        tensor.quantization = Some(quantization(grid, element));
        self.graph.add_tensor(tensor)
    }

    fn add(&mut self, op: LiteOp, input: TensorId, output: TensorId) {
        self.graph.nodes.push(Node { op, inputs: vec![Some(input)], outputs: vec![output] });
    }

    /// The integers of old tensor `tensor` on `grid`, stored as `element`.
    fn integers(&mut self, tensor: TensorId, grid: Grid, element: ElementType) -> Result<TensorId> {
        let found = self.forms[tensor].iter().find(|f| f.grid == grid && f.element == element);
        if let Some(form) = found {
            return Ok(form.tensor);
        }
        let same = self.forms[tensor].iter().find(|f| f.grid == grid);
        let source = match same.or(self.forms[tensor].first()) {
            Some(form) => form.tensor,
            None => tensor,
        };
        let new = self.variable(tensor, grid, element);
        self.add(LiteOp::Quantize, source, new);
        self.forms[tensor].push(Form { grid, element, tensor: new });
        Ok(new)
    }

    /// Makes old tensor `tensor` hold its reals.
    fn real(&mut self, tensor: TensorId) -> Result<()> {
        if self.plan.grids.get(tensor).is_none_or(|grid| grid.is_none()) || self.floats[tensor] {
            return Ok(());
        }
        let form = self.forms[tensor].first().copied();
        let form = form
            .with_context(|| format!("'{}' is not there yet", self.graph.tensors[tensor].name))?;
        self.add(LiteOp::Dequantize, form.tensor, tensor);
        self.floats[tensor] = true;
        Ok(())
    }

    fn conversion(&mut self, node: Node) -> Result<()> {
        let (&[Some(from)], &[to]) = (node.inputs.as_slice(), node.outputs.as_slice()) else {
            return self.float_node(node, false);
        };
        if node.op == LiteOp::Dequantize {
            let grid = Grid::of(&self.graph.tensors[from]).context("integers without a scale")?;
            let element = self.graph.tensors[from].element;
            // what QUANTIZE made may be there in another type by now
            let known = self.forms[from].clone();
            let forms =
                if known.is_empty() { vec![Form { grid, element, tensor: from }] } else { known };
            self.forms[to] = forms;
            return Ok(());
        }
        let grid = Grid::of(&self.graph.tensors[to]).context("integers without a scale")?;
        let only_reals = self.readers[to].iter().all(|op| *op == LiteOp::Dequantize);
        let stays = self.graph.outputs.contains(&to) || !only_reals;
        let same: Vec<Form> =
            self.forms[from].iter().filter(|f| f.grid == grid && !stays).copied().collect();
        if !same.is_empty() {
            self.forms[to] = same;
            return Ok(());
        }
        let form = if self.plan.grids[from].is_some() && !stays {
            let tensor = self.integers(from, grid, grid.element)?;
            Form { grid, element: grid.element, tensor }
        } else {
            if !stays {
                let tensor = &mut self.graph.tensors[to];
                tensor.element = grid.element;
                tensor.quantization = Some(quantization(grid, grid.element));
            }
            let source = self.forms[from].iter().find(|f| f.grid == grid);
            let source = source.or(self.forms[from].first()).map_or(from, |form| form.tensor);
            self.add(LiteOp::Quantize, source, to);
            Form { grid, element: self.graph.tensors[to].element, tensor: to }
        };
        self.forms[to] = vec![form];
        Ok(())
    }

    fn float_node(&mut self, mut node: Node, has_floats: bool) -> Result<()> {
        for input in node.inputs.iter().flatten() {
            self.real(*input)?;
        }
        if has_floats && is_weighted(&node.op) {
            for input in node.inputs.iter_mut().flatten() {
                if let Some(widened) = self.stored_constant(*input) {
                    *input = widened;
                }
            }
        }
        for &output in &node.outputs {
            self.floats[output] = true;
        }
        self.graph.nodes.push(node);
        Ok(())
    }

    fn hybrid_node(&mut self, mut node: Node, weights: &IntegerWeights, axis: usize) -> Result<()> {
        let tensor = node.inputs.get(1).copied().flatten().context("its weights are missing")?;
        let key = (tensor, u32::MAX, axis as i64, ElementType::I8);
        let integers = match self.constants.get(&key) {
            Some(&there) => there,
            None => {
                let channels = self.graph.tensors[tensor].known_shape().context("an open shape")?;
                let mut weights = weights.clone();
                let is_conv = !matches!(node.op, LiteOp::FullyConnected { .. });
                if let (true, &[scale]) = (is_conv, weights.scales.as_slice()) {
                    // LiteRT's hybrid kernels of these look for a scale a channel where there is but one
                    weights.scales = vec![scale; channels[axis]];
                }
                let quantization = weights.along(axis, is_conv);
                let data = weights.data;
                let new = self.integer_constant(tensor, ElementType::I8, data, quantization);
                self.constants.insert(key, new);
                new
            }
        };
        node.inputs[1] = Some(integers);
        if let LiteOp::FullyConnected { asymmetric_quantize_inputs, .. } = &mut node.op {
            *asymmetric_quantize_inputs = true;
        }
        self.float_node(node, false)
    }

    /// Large weights of a float32 node as the model stores them, behind a DEQUANTIZE.
    fn stored_constant(&mut self, tensor: TensorId) -> Option<TensorId> {
        let key = (tensor, 0, 0, ElementType::F32);
        if let Some(&there) = self.constants.get(&key) {
            return Some(there);
        }
        let old = &self.graph.tensors[tensor];
        if old.known_shape()?.iter().product::<usize>() < LEAST_NUMBERS {
            return None;
        }
        let (weights, axis) = constants::along_any_axis(old, self.plan.stored.get(&tensor)?)?;
        let quantization = weights.quantization(axis);
        let (name, origin) = (old.name.clone(), old.origin.clone());
        let real = Tensor { data: None, name: format!("{name}/float32"), ..old.clone() };
        let integers = Tensor {
            name,
            origin,
            element: weights.element,
            quantization: Some(quantization),
            data: Some(weights.data.into()),
            ..old.clone()
        };
        let integers = self.graph.add_tensor(integers);
        let real = self.graph.add_tensor(real);
        self.add(LiteOp::Dequantize, integers, real);
        self.constants.insert(key, real);
        Some(real)
    }

    fn integer_node(&mut self, mut node: Node, how: &IntegerNode) -> Result<()> {
        let results: Vec<TensorId> =
            node.outputs.iter().copied().filter(|&t| is_float_variable(self.graph, t)).collect();
        let one = results.first().and_then(|&t| self.plan.grids[t]);
        let one = one.filter(|_| how.rule == QuantRule::OneScale);
        let bytes = how.weights.as_ref().is_some_and(|w| w.element == ElementType::U8);
        let stored = |grid: Grid| if bytes { ElementType::U8 } else { grid.element };
        let (weighted, input_grid) = match how.rule {
            QuantRule::Weighted { input, weights, bias, .. } => {
                let input = node.inputs.get(input).copied().flatten();
                ([weights, bias], input.and_then(|t| self.plan.grids[t]))
            }
            _ => ([usize::MAX; 2], None),
        };
        let mut like = None;
        for (place, input) in node.inputs.iter_mut().enumerate() {
            let Some(tensor) = input.filter(|_| !weighted.contains(&place)) else { continue };
            if let Some(own) = self.plan.grids.get(tensor).copied().flatten() {
                let grid = one.unwrap_or(own);
                like = Some(grid);
                *input = Some(self.integers(tensor, grid, stored(grid))?);
            }
        }
        for input in node.inputs.iter_mut().enumerate() {
            let (place, &mut Some(tensor)) = input else { continue };
            let old = &self.graph.tensors[tensor];
            let constant = old.element == ElementType::F32 && old.data.is_some();
            if constant && !weighted.contains(&place) {
                let like = like.context("no operand has a scale")?;
                *input.1 = Some(self.constant(tensor, one, like)?);
            }
        }
        if let (QuantRule::Weighted { weights, bias, axis, .. }, Some(found)) =
            (how.rule, &how.weights)
        {
            let input = input_grid.context("the input has no scale")?;
            let tensor = node.inputs[weights].context("its weights are missing")?;
            let quantization = found.quantization(axis);
            let data = found.data.clone();
            let scales: Vec<f32> = found.scales.iter().map(|s| s * input.scale).collect();
            let key = (tensor, found.scales.len() as u32, axis as i64, found.element);
            let integers = match self.constants.get(&key) {
                Some(&there) => there,
                None => {
                    let new = self.integer_constant(tensor, found.element, data, quantization);
                    self.constants.insert(key, new);
                    new
                }
            };
            node.inputs[weights] = Some(integers);
            if let Some(tensor) = node.inputs.get(bias).copied().flatten() {
                let wide = input.element == ElementType::I16;
                let data = constants::bias(&self.graph.tensors[tensor], &scales, wide)?;
                let element = if wide { ElementType::I64 } else { ElementType::I32 };
                let quantization = match scales.as_slice() {
                    &[scale] => Quantization::PerTensor { scale, zero_point: 0 },
                    _ => Quantization::PerChannel {
                        zero_points: vec![0; scales.len()],
                        scales,
                        axis: 0,
                    },
                };
                let new = self.integer_constant(tensor, element, data, quantization);
                node.inputs[bias] = Some(new);
            }
        }
        for output in node.outputs.iter_mut().filter(|t| results.contains(t)) {
            let tensor = *output;
            let grid = self.plan.grids[tensor].context("a result without a scale")?;
            let element = stored(grid);
            let new = self.variable(tensor, grid, element);
            if !self.graph.outputs.contains(&tensor) {
                // what computes the value has its name
                let name = self.graph.tensors[tensor].name.clone();
                self.graph.tensors[tensor].name = format!("{name}/float32");
                self.graph.tensors[new].name = name;
            }
            self.forms[tensor] = vec![Form { grid, element, tensor: new }];
            *output = new;
        }
        self.graph.nodes.push(node);
        Ok(())
    }

    /// A constant operand that is neither weights nor bias.
    fn constant(&mut self, tensor: TensorId, one: Option<Grid>, like: Grid) -> Result<TensorId> {
        let old = &self.graph.tensors[tensor];
        let own = || constants::grid_of(old, self.plan.stored.get(&tensor).copied(), like);
        let grid = one.or_else(own).context("a constant that is not finite")?;
        let key = (tensor, grid.scale.to_bits(), grid.zero_point, grid.element);
        if let Some(&there) = self.constants.get(&key) {
            return Ok(there);
        }
        let data = constants::on_grid(old, grid).context("not a constant")?;
        let quantization = quantization(grid, grid.element);
        let new = self.integer_constant(tensor, grid.element, data, quantization);
        self.constants.insert(key, new);
        Ok(new)
    }

    fn integer_constant(
        &mut self,
        of: TensorId,
        element: ElementType,
        data: Vec<u8>,
        quantization: Quantization,
    ) -> TensorId {
        let old = &self.graph.tensors[of];
        let tensor = Tensor {
            name: format!("{}/{}", old.name, element.name()),
            origin: old.origin.clone(),
            element,
            shape: old.shape.clone(),
            quantization: Some(quantization),
            data: Some(data.into()),
        };
        self.graph.add_tensor(tensor)
    }
}

/// Whether an op has operands that are large in most models.
fn is_weighted(op: &LiteOp) -> bool {
    matches!(
        op,
        LiteOp::FullyConnected { .. }
            | LiteOp::Conv2D { .. }
            | LiteOp::DepthwiseConv2D { .. }
            | LiteOp::TransposeConv { .. }
            | LiteOp::Conv3D { .. }
            | LiteOp::BatchMatMul { .. }
            | LiteOp::Gather { .. }
    )
}
