//! The edits of a plan: integers in place of float32 constants.

use super::plan::{Change, Form, WeightPlan};
use super::{WeightOptions, WeightScheme, element};
use crate::graph::{ElementType, LiteOp, Model, Node, Quantization, Subgraph, Tensor, TensorId};
use crate::quantize::float16::float16_copy;
use crate::quantize::int4::{int4_blocks, int4_weights, packed};
use crate::quantize::keep_sums::keep_sums;
use crate::quantize::parameters::{Int8Weights, finite_values, int8_weights};
use anyhow::{Context, Result};

impl WeightPlan {
    pub fn apply(&self, model: &mut Model, options: &WeightOptions) -> Result<()> {
        let changes = self.changes.iter().zip(&self.halves);
        for (graph, (changes, halves)) in model.subgraphs.iter_mut().zip(changes) {
            let mut widening = vec![];
            for &tensor in halves {
                let narrow = float16_copy(&graph.tensors[tensor]);
                let narrow = graph.add_tensor(narrow.context("weights that are not float32")?);
                graph.tensors[tensor].data = None;
                widening.push(dequantize(narrow, tensor));
            }
            for change in changes {
                let integers = integers(&graph.tensors[change.tensor], change, graph, options)?;
                match change.form {
                    Form::Hybrid | Form::Blocks(_) => {
                        graph.tensors[change.tensor] = integers;
                        for node in readers(&mut graph.nodes, change.tensor) {
                            if let LiteOp::FullyConnected { asymmetric_quantize_inputs, .. } =
                                &mut node.op
                            {
                                *asymmetric_quantize_inputs = true;
                            }
                        }
                    }
                    Form::Dequantize => {
                        let name = format!("{}/{}", integers.name, integers.element.name());
                        graph.tensors[change.tensor].data = None;
                        let narrow = graph.add_tensor(Tensor { name, ..integers });
                        widening.push(dequantize(narrow, change.tensor));
                    }
                    Form::Rows => {
                        let quantization = integers.quantization.clone();
                        graph.tensors[change.tensor] = integers;
                        widen_picked(graph, change.tensor, &quantization);
                    }
                }
            }
            graph.nodes.splice(0..0, widening);
        }
        Ok(())
    }
}

/// The constant of `change` as integers, under its name.
fn integers(
    old: &Tensor,
    change: &Change,
    graph: &Subgraph,
    options: &WeightOptions,
) -> Result<Tensor> {
    let values = finite_values(old).context("weights that are not finite constants")?;
    let shape = old.known_shape().context("weights of an open shape")?;
    if let Form::Blocks(size) = change.form {
        let Int8Weights { integers, scales } = int4_blocks(&values, size);
        let (zero_points, axis) = (vec![0; scales.len()], shape.len() - 1);
        return Ok(Tensor {
            element: ElementType::I4,
            quantization: Some(Quantization::Blockwise { scales, zero_points, axis, size }),
            data: Some(packed(&integers).into()),
            ..old.clone()
        });
    }
    let (mut weights, most) = match options.scheme {
        WeightScheme::Dynamic | WeightScheme::Int8 => {
            (int8_weights(&values, &shape, change.axis, |_| 0.0), 127)
        }
        WeightScheme::Int4 => (int4_weights(&values, &shape, change.axis), 7),
    };
    if let Some(filters) = change.filters {
        let reads_taps = |node: &Node| match node.op {
            LiteOp::Conv2D { .. } => node.inputs.get(1) == Some(&Some(change.tensor)),
            _ => false,
        };
        let taps = graph.nodes.iter().any(reads_taps).then(|| shape[1] * shape[2]);
        keep_sums(&mut weights, &values, &shape, filters, taps, most);
    }
    let Int8Weights { integers, mut scales } = weights;
    let data: Vec<u8> = match options.scheme {
        WeightScheme::Dynamic | WeightScheme::Int8 => integers.iter().map(|&v| v as u8).collect(),
        WeightScheme::Int4 => packed(&integers),
    };
    let reads = |node: &&Node| node.inputs.contains(&Some(change.tensor));
    let channels = match graph.nodes.iter().find(reads).map(|node| &node.op) {
        // LiteRT's hybrid kernels of these look for a scale a channel where there is but one
        Some(LiteOp::Conv2D { .. }) if change.form == Form::Hybrid => Some(0),
        Some(LiteOp::DepthwiseConv2D { .. }) if change.form == Form::Hybrid => Some(3),
        _ => None,
    };
    if let (None, Some(axis)) = (change.axis, channels) {
        scales = vec![scales[0]; shape[axis]];
    }
    let quantization = match change.axis.or(channels) {
        Some(axis) => Quantization::PerChannel { zero_points: vec![0; scales.len()], scales, axis },
        None => Quantization::PerTensor { scale: scales[0], zero_point: 0 },
    };
    Ok(Tensor {
        name: old.name.clone(),
        origin: old.origin.clone(),
        element: element(options.scheme),
        shape: old.shape.clone(),
        quantization: Some(quantization),
        data: Some(data.into()),
    })
}

fn readers(nodes: &mut [Node], tensor: TensorId) -> impl Iterator<Item = &mut Node> {
    nodes.iter_mut().filter(move |node| node.inputs.contains(&Some(tensor)))
}

fn dequantize(from: TensorId, to: TensorId) -> Node {
    Node { op: LiteOp::Dequantize, inputs: vec![Some(from)], outputs: vec![to] }
}

/// DEQUANTIZE behind each GATHER of `table`.
fn widen_picked(graph: &mut Subgraph, table: TensorId, quantization: &Option<Quantization>) {
    let mut nodes = vec![];
    for mut node in std::mem::take(&mut graph.nodes) {
        let picks = node.inputs.first() == Some(&Some(table));
        let (true, &[picked]) = (picks, node.outputs.as_slice()) else {
            nodes.push(node);
            continue;
        };
        let old = &graph.tensors[picked];
        let name = format!("{}/int8", old.name);
        let mut narrow = Tensor::variable(name, ElementType::I8, old.shape.clone());
        narrow.origin = old.origin.clone();
        narrow.quantization = quantization.clone();
        let narrow = graph.add_tensor(narrow);
        node.outputs = vec![narrow];
        nodes.push(node);
        nodes.push(dequantize(narrow, picked));
    }
    graph.nodes = nodes;
}
