//! Edits a lite graph into the integers that a plan decided on.

use super::bias_correction::mean_errors;
use super::parameters::{Int8Weights, Parameters, Range, finite_values, int8_weights};
use super::plan::{IntegerPlan, Place};
use crate::graph::{ElementType, LiteOp, Model, Node, Quantization, Subgraph, Tensor, TensorId};
use crate::ops::{ActivationType, QuantRule};
use crate::passes;
use anyhow::{Context, Result, ensure};
use std::collections::{HashMap, HashSet};

/// The type of the file's inputs and outputs that were float32.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum EndType {
    /// QUANTIZE at the inputs, DEQUANTIZE at the outputs.
    #[default]
    Float32,
    Int8,
    Uint8,
    Int16,
}

/// The largest bias, of int32, which leaves room for the sum it is added to.
const LARGEST_BIAS: f64 = (1u32 << 30) as f64;
/// The same of int64 in 16×8: LiteRT adds it to sums of 40 bits.
const LARGEST_WIDE_BIAS: f64 = (1u64 << 38) as f64;

/// Where the values of the tensors that a graph had are after the edit; `None` where nowhere.
#[derive(Debug, Clone, Default)]
pub struct Applied {
    pub integers: Vec<Option<TensorId>>,
    pub floats: Vec<Option<TensorId>>,
}

impl IntegerPlan {
    /// Edits the entry graph.
    ///
    /// # Errors
    /// An end cannot have the type asked for.
    pub fn apply(&self, model: &mut Model, ends: EndType) -> Result<Applied> {
        let graph = model.subgraphs.first_mut().context("a model without a graph")?;
        let count = graph.tensors.len();
        let old_nodes = std::mem::take(&mut graph.nodes);
        let mut edit = Edit {
            plan: self,
            names: graph.tensors.iter().map(|t| t.name.clone()).collect(),
            graph,
            integers: vec![None; count],
            floats: vec![None; count],
            rescaled: HashMap::new(),
            weights: HashMap::new(),
        };
        edit.given(ends);
        for (node, place) in old_nodes.into_iter().zip(&self.nodes) {
            match place {
                Place::Integer(rule) => edit.integer_node(node, *rule)?,
                Place::Float(_) | Place::Untouched => edit.float_node(node)?,
            }
        }
        edit.results(ends)?;
        let made = [&mut edit.integers, &mut edit.floats].map(std::mem::take);
        let numbers = passes::remove_unused_and_number(&mut model.subgraphs[0]);
        passes::renumber_signatures(model);
        let kept = |t: TensorId| numbers.get(t).copied().flatten();
        let [integers, floats] =
            made.map(|made| made.into_iter().take(count).map(|t| t.and_then(kept)).collect());
        Ok(Applied { integers, floats })
    }
}

struct Edit<'a> {
    plan: &'a IntegerPlan,
    graph: &'a mut Subgraph,
    names: Vec<String>,
    /// By old tensor: where its integers are, with the plan's parameters.
    integers: Vec<Option<TensorId>>,
    /// By old tensor: where its floats are.
    floats: Vec<Option<TensorId>>,
    /// Integers of other parameters than the plan's, by old tensor, scale bits and zero point.
    rescaled: HashMap<(TensorId, u32, i64), TensorId>,
    /// Integer constants that several nodes may share, by old tensor and scale bits of all channels.
    weights: HashMap<(TensorId, Vec<u32>), TensorId>,
}

impl Edit<'_> {
    fn activation_type(&self) -> ElementType {
        match self.plan.activations {
            ActivationType::Int8 => ElementType::I8,
            ActivationType::Int16 => ElementType::I16,
        }
    }

    fn limits(&self) -> (i64, i64) {
        match self.plan.activations {
            ActivationType::Int8 => (-128, 127),
            ActivationType::Int16 => (-32768, 32767),
        }
    }

    /// A new variable of the shape of old tensor `of`.
    fn variable(&mut self, of: TensorId, suffix: &str, element: ElementType) -> TensorId {
        let old = &self.graph.tensors[of];
        let mut tensor =
            Tensor::variable(format!("{}/{suffix}", self.names[of]), element, old.shape.clone());
        tensor.origin = old.origin.clone();
        self.graph.add_tensor(tensor)
    }

    fn integer_variable(&mut self, of: TensorId, suffix: &str, parameters: Parameters) -> TensorId {
        let id = self.variable(of, suffix, self.activation_type());
        self.graph.tensors[id].quantization = Some(parameters.quantization());
        id
    }

    fn add(&mut self, op: LiteOp, input: TensorId, output: TensorId) {
        self.graph.nodes.push(Node { op, inputs: vec![Some(input)], outputs: vec![output] });
    }

    /// Makes the graph's inputs what `ends` says.
    fn given(&mut self, ends: EndType) {
        for place in 0..self.graph.inputs.len() {
            let input = self.graph.inputs[place];
            if self.graph.tensors[input].element != ElementType::F32 {
                continue;
            }
            let parameters = self.plan.parameters[input];
            let (EndType::Int8 | EndType::Uint8 | EndType::Int16, Some(parameters)) =
                (ends, parameters)
            else {
                self.floats[input] = Some(input);
                continue;
            };
            let element = self.activation_type();
            let tensor = &mut self.graph.tensors[input];
            if ends == EndType::Uint8 {
                tensor.element = ElementType::U8;
                let shifted = Parameters { zero_point: parameters.zero_point + 128, ..parameters };
                tensor.quantization = Some(shifted.quantization());
                let integers = self.integer_variable(input, "int8", parameters);
                self.add(LiteOp::Quantize, input, integers);
                self.integers[input] = Some(integers);
            } else {
                tensor.element = element;
                tensor.quantization = Some(parameters.quantization());
                self.integers[input] = Some(input);
            }
        }
    }

    /// The integers of old tensor `tensor` with these parameters.
    fn integers(&mut self, tensor: TensorId, wanted: Parameters) -> Result<TensorId> {
        let planned = self.plan.parameters[tensor];
        if let Some(there) = self.integers[tensor]
            && planned == Some(wanted)
        {
            return Ok(there);
        }
        let key = (tensor, wanted.scale.to_bits(), wanted.zero_point);
        if let Some(&there) = self.rescaled.get(&key) {
            return Ok(there);
        }
        let is_planned = planned == Some(wanted);
        let source = self.integers[tensor].or(self.floats[tensor]);
        let source =
            source.with_context(|| format!("'{}' is not there yet", self.names[tensor]))?;
        let suffix = match is_planned {
            true => self.activation_type().name().to_string(),
            false => format!("{}_{}", self.activation_type().name(), self.rescaled.len()),
        };
        let integers = self.integer_variable(tensor, &suffix, wanted);
        self.add(LiteOp::Quantize, source, integers);
        match is_planned {
            true => self.integers[tensor] = Some(integers),
            false => {
                self.rescaled.insert(key, integers);
            }
        }
        Ok(integers)
    }

    /// The floats of old tensor `tensor`.
    fn floats(&mut self, tensor: TensorId) -> Result<TensorId> {
        if let Some(there) = self.floats[tensor] {
            return Ok(there);
        }
        let integers = self.integers[tensor];
        let integers =
            integers.with_context(|| format!("'{}' is not there yet", self.names[tensor]))?;
        let floats = self.variable(tensor, "float32", ElementType::F32);
        self.add(LiteOp::Dequantize, integers, floats);
        self.floats[tensor] = Some(floats);
        Ok(floats)
    }

    fn is_float_variable(&self, tensor: TensorId) -> bool {
        let tensor = &self.graph.tensors[tensor];
        tensor.data.is_none() && tensor.element == ElementType::F32
    }

    fn float_node(&mut self, mut node: Node) -> Result<()> {
        for input in node.inputs.iter_mut().flatten() {
            let known = self.integers[*input].is_some() || self.floats[*input].is_some();
            if known {
                *input = self.floats(*input)?;
            }
        }
        for &output in &node.outputs {
            if self.is_float_variable(output) {
                self.floats[output] = Some(output);
            }
        }
        self.graph.nodes.push(node);
        Ok(())
    }

    fn integer_node(&mut self, mut node: Node, rule: QuantRule) -> Result<()> {
        let results: Vec<TensorId> =
            node.outputs.iter().copied().filter(|&t| self.is_float_variable(t)).collect();
        let one = results.first().and_then(|&t| self.plan.parameters[t]);
        let wanted_constant = one.filter(|_| rule == QuantRule::OneScale);
        let weighted = match rule {
            QuantRule::Weighted { weights, bias, .. } => [weights, bias],
            _ => [usize::MAX; 2],
        };
        let old_inputs = node.inputs.clone();
        for (place, input) in node.inputs.iter_mut().enumerate() {
            let Some(tensor) = *input else { continue };
            if weighted.contains(&place) {
                continue;
            }
            let is_known = self.integers[tensor].is_some() || self.floats[tensor].is_some();
            if is_known {
                let wanted = match rule {
                    QuantRule::OneScale => one,
                    _ => self.plan.parameters[tensor],
                };
                let wanted = wanted
                    .with_context(|| format!("no range is known of '{}'", self.names[tensor]))?;
                *input = Some(self.integers(tensor, wanted)?);
            } else if self.graph.tensors[tensor].element == ElementType::F32 {
                *input = Some(self.constant(tensor, &node.op, wanted_constant)?);
            }
        }
        if let QuantRule::Weighted { input, weights, bias, axis } = rule {
            let of = |place: usize| old_inputs.get(place).copied().flatten();
            let means = of(input).and_then(|t| self.plan.channel_means.get(&t));
            let input = of(input).and_then(|t| self.plan.parameters[t]);
            let input = input.context("no range is known of the input")?;
            let tensor = of(weights).context("its weights are missing")?;
            let (new_weights, scales) = self.weights(tensor, of(bias), axis, input.scale)?;
            node.inputs[weights] = Some(new_weights);
            if let Some(bias_tensor) = of(bias) {
                let errors = means
                    .and_then(|means| self.mean_errors(&node.op, tensor, new_weights, axis, means));
                node.inputs[bias] =
                    Some(self.bias(bias_tensor, &scales, input.scale, errors.as_deref())?);
            }
        }
        for result in results {
            let parameters = self.plan.parameters[result];
            let parameters = parameters
                .with_context(|| format!("no range is known of '{}'", self.names[result]))?;
            let element = self.activation_type();
            let tensor = &mut self.graph.tensors[result];
            tensor.element = element;
            tensor.quantization = Some(parameters.quantization());
            self.integers[result] = Some(result);
        }
        self.graph.nodes.push(node);
        Ok(())
    }

    /// A constant operand that is neither weights nor bias, with `wanted` parameters or those of its own range.
    fn constant(
        &mut self,
        tensor: TensorId,
        op: &LiteOp,
        wanted: Option<Parameters>,
    ) -> Result<TensorId> {
        let values = self.graph.tensors[tensor].f32_values().context("not a constant")?;
        let parameters = wanted.unwrap_or_else(|| {
            let range = Range::of(values.iter().copied()).unwrap_or(Range { min: 0.0, max: 0.0 });
            match op {
                LiteOp::BatchMatMul { .. } if self.plan.activations == ActivationType::Int8 => {
                    Parameters::symmetric_int8(range)
                }
                _ => Parameters::of_range(range, self.plan.activations),
            }
        });
        let key = (tensor, vec![parameters.scale.to_bits(), parameters.zero_point as u32]);
        if let Some(&there) = self.weights.get(&key) {
            return Ok(there);
        }
        let (lowest, highest) = self.limits();
        let integers = values.iter().map(|&v| parameters.quantize(v, lowest, highest));
        let data: Vec<u8> = match self.plan.activations {
            ActivationType::Int8 => integers.map(|v| v as i8 as u8).collect(),
            ActivationType::Int16 => integers.flat_map(|v| (v as i16).to_le_bytes()).collect(),
        };
        let element = self.activation_type();
        let id = self.integer_constant(tensor, element, data, parameters.quantization());
        self.weights.insert(key, id);
        Ok(id)
    }

    /// A constant in place of old tensor `of`.
    fn integer_constant(
        &mut self,
        of: TensorId,
        element: ElementType,
        data: Vec<u8>,
        quantization: Quantization,
    ) -> TensorId {
        let old = &self.graph.tensors[of];
        let tensor = Tensor {
            name: format!("{}/{}", self.names[of], element.name()),
            origin: old.origin.clone(),
            element,
            shape: old.shape.clone(),
            quantization: Some(quantization),
            data: Some(data.into()),
        };
        self.graph.add_tensor(tensor)
    }

    /// int8 weights whose scales leave room for the bias, and the scale of each channel of `axis`.
    fn weights(
        &mut self,
        tensor: TensorId,
        bias: Option<TensorId>,
        axis: usize,
        input_scale: f32,
    ) -> Result<(TensorId, Vec<f32>)> {
        let old = &self.graph.tensors[tensor];
        let values = finite_values(old).context("weights that are not finite constants")?;
        let shape = old.known_shape().context("weights of an open shape")?;
        let channels = shape[axis];
        let bias = bias.and_then(|t| self.graph.tensors[t].f32_values()).unwrap_or_default();
        ensure!(
            bias.is_empty() || bias.len() == channels,
            "{} biases for {channels} channels",
            bias.len()
        );
        let largest = match self.plan.activations {
            ActivationType::Int8 => LARGEST_BIAS,
            ActivationType::Int16 => LARGEST_WIDE_BIAS,
        };
        let needed = |b: &f32| (b.abs() as f64 / input_scale as f64 / largest) as f32;
        let per_channel = self.plan.per_channel;
        let least = |channel: usize| match per_channel {
            true => bias.get(channel).map_or(0.0, needed),
            false => bias.iter().map(needed).fold(0.0, f32::max),
        };
        let weights = int8_weights(&values, &shape, per_channel.then_some(axis), least);
        let key = (tensor, weights.scales.iter().map(|s| s.to_bits()).collect());
        let scales = match per_channel {
            true => weights.scales.clone(),
            false => vec![weights.scales[0]; channels],
        };
        if let Some(&there) = self.weights.get(&key) {
            return Ok((there, scales));
        }
        let quantization = match per_channel {
            true => Quantization::PerChannel {
                zero_points: vec![0; weights.scales.len()],
                scales: weights.scales,
                axis,
            },
            false => Quantization::PerTensor { scale: weights.scales[0], zero_point: 0 },
        };
        let data = weights.integers.into_iter().map(|v| v as u8).collect();
        let id = self.integer_constant(tensor, ElementType::I8, data, quantization);
        self.weights.insert(key, id);
        Ok((id, scales))
    }

    fn mean_errors(
        &self,
        op: &LiteOp,
        old: TensorId,
        new: TensorId,
        axis: usize,
        means: &[f32],
    ) -> Option<Vec<f64>> {
        let exact = self.graph.tensors[old].f32_values()?;
        let shape = self.graph.tensors[old].known_shape()?;
        let tensor = &self.graph.tensors[new];
        let (scales, axis) = match tensor.quantization.as_ref()? {
            Quantization::PerChannel { scales, .. } => (scales.clone(), Some(axis)),
            Quantization::PerTensor { scale, .. } => (vec![*scale], None),
            Quantization::Blockwise { .. } => return None,
        };
        let integers = tensor.data.as_ref()?.iter().map(|&v| v as i8).collect();
        let rounded = Int8Weights { integers, scales }.reals(&shape, axis);
        let errors: Vec<f32> = rounded.iter().zip(&exact).map(|(r, e)| r - e).collect();
        mean_errors(op, &errors, &shape, means)
    }

    fn bias(
        &mut self,
        tensor: TensorId,
        scales: &[f32],
        input_scale: f32,
        errors: Option<&[f64]>,
    ) -> Result<TensorId> {
        let values = finite_values(&self.graph.tensors[tensor]);
        let mut values = values.context("a bias that is not a finite constant")?;
        for (value, error) in values.iter_mut().zip(errors.unwrap_or_default()) {
            let corrected = (*value as f64 - error) as f32;
            *value = if corrected.is_finite() { corrected } else { *value };
        }
        let scales: Vec<f32> = scales.iter().map(|scale| scale * input_scale).collect();
        let steps = values.iter().zip(&scales).map(|(&v, &scale)| v as f64 / scale as f64);
        let (element, data): (_, Vec<u8>) = match self.plan.activations {
            ActivationType::Int8 => {
                // the cast saturates: a correction cannot wrap around
                (ElementType::I32, steps.flat_map(|v| (v.round() as i32).to_le_bytes()).collect())
            }
            ActivationType::Int16 => {
                (ElementType::I64, steps.flat_map(|v| (v.round() as i64).to_le_bytes()).collect())
            }
        };
        let quantization = match self.plan.per_channel {
            true => {
                Quantization::PerChannel { zero_points: vec![0; scales.len()], scales, axis: 0 }
            }
            false => Quantization::PerTensor { scale: scales[0], zero_point: 0 },
        };
        Ok(self.integer_constant(tensor, element, data, quantization))
    }

    /// Makes the graph's outputs what `ends` says.
    fn results(&mut self, ends: EndType) -> Result<()> {
        let mut became: HashMap<TensorId, TensorId> = HashMap::new();
        let inputs: HashSet<TensorId> = self.graph.inputs.iter().copied().collect();
        for place in 0..self.graph.outputs.len() {
            let output = self.graph.outputs[place];
            let known = self.integers[output].is_some() || self.floats[output].is_some();
            if !known || became.contains_key(&output) {
                continue;
            }
            let parameters = self.plan.parameters[output];
            let new = match (ends, parameters) {
                (EndType::Int8 | EndType::Int16, Some(parameters)) => {
                    self.integers(output, parameters)?
                }
                (EndType::Uint8, Some(parameters)) => {
                    let integers = self.integers(output, parameters)?;
                    let shifted =
                        Parameters { zero_point: parameters.zero_point + 128, ..parameters };
                    let bytes = self.variable(output, "uint8", ElementType::U8);
                    self.graph.tensors[bytes].quantization = Some(shifted.quantization());
                    self.add(LiteOp::Quantize, integers, bytes);
                    bytes
                }
                (EndType::Float32, _) | (_, None) => self.floats(output)?,
            };
            // the end keeps its name
            if new != output && !inputs.contains(&output) {
                let name = self.names[output].clone();
                let inner = format!("{name}/{}", self.graph.tensors[output].element.name());
                self.graph.tensors[output].name = inner;
                self.graph.tensors[new].name = name;
            }
            became.insert(output, new);
        }
        for output in &mut self.graph.outputs {
            *output = became.get(output).copied().unwrap_or(*output);
        }
        Ok(())
    }
}
