//! Float16: constants are stored as binary16 and widened by DEQUANTIZE; all computation stays float32.

use crate::format::mmap;
use crate::graph::{ElementType, LiteOp, Metadata, Model, Node, Tensor, TensorId};
use crate::kernels::f16_from_f32;
use bytes::Bytes;
use std::collections::HashSet;

const LARGEST_F16: f32 = 65504.0;
/// Values that are looked at before those of a mapped file are let go.
const PART: usize = 1 << 20;

/// Which constants become float16.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Float16Plan {
    /// By subgraph: the constants to narrow.
    narrowed: Vec<Vec<TensorId>>,
    /// The names of constants that stay float32 because a value is beyond ±65504.
    pub out_of_range: Vec<String>,
}

impl Float16Plan {
    /// Every float32 constant of more than one element that float16 can hold and no custom op reads.
    pub fn new(model: &Model) -> Float16Plan {
        let mut plan = Float16Plan::default();
        for graph in &model.subgraphs {
            let custom = graph.nodes.iter().filter(|n| matches!(n.op, LiteOp::Custom { .. }));
            let kept: HashSet<TensorId> =
                custom.flat_map(|node| node.inputs.iter().flatten().copied()).collect();
            let mut narrowed = vec![];
            for (id, tensor) in graph.tensors.iter().enumerate() {
                let Some(values) = float32_words(tensor).filter(|v| v.len() > 1) else { continue };
                if kept.contains(&id) {
                    continue;
                }
                if all_fit(values) {
                    narrowed.push(id);
                } else {
                    plan.out_of_range.push(tensor.name.clone());
                }
            }
            plan.narrowed.push(narrowed);
        }
        plan
    }

    /// Narrows the planned constants; nodes read them through DEQUANTIZE.
    pub fn apply(&self, model: &mut Model) {
        for (graph, narrowed) in model.subgraphs.iter_mut().zip(&self.narrowed) {
            let mut widening = vec![];
            for &id in narrowed {
                let Some(narrow) = float16_copy(&graph.tensors[id]) else { continue };
                graph.tensors[id].data = None;
                let narrow = graph.add_tensor(narrow);
                widening.push(Node {
                    op: LiteOp::Dequantize,
                    inputs: vec![Some(narrow)],
                    outputs: vec![id],
                });
            }
            graph.nodes.splice(0..0, widening);
        }
        model.metadata.push(Metadata {
            name: "reduced_precision_support".into(),
            content: Bytes::from_static(b"fp16accfp32"),
        });
    }
}

/// Float16 constants that are read through DEQUANTIZE become float32 again.
pub fn widen_constants(model: &mut Model) {
    for graph in &mut model.subgraphs {
        let mut kept = vec![];
        for node in std::mem::take(&mut graph.nodes) {
            let narrow = node.inputs.first().copied().flatten().map(|t| &graph.tensors[t]);
            let halves =
                narrow.filter(|t| node.op == LiteOp::Dequantize && t.element == ElementType::F16);
            let (Some(data), &[output]) = (halves.and_then(|t| t.data.as_ref()), &*node.outputs)
            else {
                kept.push(node);
                continue;
            };
            let (halves, _) = data.as_chunks::<2>();
            let wide = halves.iter().map(|half| half::f16::from_le_bytes(*half).to_f32());
            let wide: Vec<u8> = wide.flat_map(f32::to_le_bytes).collect();
            graph.tensors[output].data = Some(Bytes::from(wide));
        }
        graph.nodes = kept;
    }
    model.metadata.retain(|m| m.name != "reduced_precision_support");
}

/// Whether float16 can hold a float32 constant.
pub fn fits_float16(tensor: &Tensor) -> bool {
    float32_words(tensor).is_some_and(all_fit)
}

fn all_fit(words: &[[u8; 4]]) -> bool {
    let fits = |word: &[u8; 4]| {
        let value = f32::from_le_bytes(*word);
        !value.is_finite() || value.abs() <= LARGEST_F16
    };
    words.chunks(PART).all(|part| {
        let all_fit = part.iter().all(fits);
        mmap::release(part.as_flattened());
        all_fit
    })
}

/// A float32 constant as float16; `None` of anything else.
pub fn float16_copy(tensor: &Tensor) -> Option<Tensor> {
    let bytes = narrowed_bytes(float32_words(tensor)?);
    Some(Tensor {
        name: format!("{}/float16", tensor.name),
        origin: tensor.origin.clone(),
        element: ElementType::F16,
        shape: tensor.shape.clone(),
        quantization: None,
        data: Some(Bytes::from(bytes)),
    })
}

fn float32_words(tensor: &Tensor) -> Option<&[[u8; 4]]> {
    let data = tensor.data.as_ref().filter(|_| tensor.element == ElementType::F32)?;
    Some(data.as_chunks::<4>().0)
}

fn narrowed_bytes(words: &[[u8; 4]]) -> Vec<u8> {
    const BLOCK: usize = 1024;
    let (mut wide, mut halves) = ([0.0; BLOCK], [0; BLOCK]);
    let mut bytes = Vec::with_capacity(2 * words.len());
    for part in words.chunks(PART) {
        for words in part.chunks(BLOCK) {
            let (wide, halves) = (&mut wide[..words.len()], &mut halves[..words.len()]);
            wide.iter_mut().zip(words).for_each(|(value, word)| *value = f32::from_le_bytes(*word));
            f16_from_f32(wide, halves);
            bytes.extend(halves.iter().flat_map(|half: &u16| half.to_le_bytes()));
        }
        mmap::release(part.as_flattened());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Subgraph;

    fn model(constants: &[&[f32]]) -> Model {
        let mut graph = Subgraph::default();
        for (i, values) in constants.iter().enumerate() {
            let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            let name = format!("c{i}");
            graph.add_tensor(Tensor::constant(
                name,
                ElementType::F32,
                &[values.len()],
                data.into(),
            ));
        }
        Model { subgraphs: vec![graph], ..Model::default() }
    }

    #[test]
    fn constants_are_narrowed_unless_float16_cannot_hold_them() {
        let mut model = model(&[&[1.0, -0.333_333_34], &[1e-6], &[1.0, 70000.0], &[65504.0, 2.0]]);
        let plan = Float16Plan::new(&model);
        assert_eq!(plan.out_of_range, ["c2"]);
        plan.apply(&mut model);
        let graph = model.main();
        let elements: Vec<ElementType> = graph.tensors.iter().map(|t| t.element).collect();
        use ElementType::{F16, F32};
        assert_eq!(elements, [F32, F32, F32, F32, F16, F16]);
        // 1 = 0x3c00; −1/3 rounds to 0xb555 (IEEE 754 binary16)
        assert_eq!(graph.tensors[4].data.as_deref(), Some(&[0x00, 0x3c, 0x55, 0xb5][..]));
        assert_eq!(graph.nodes.len(), 2);
        assert_eq!(graph.nodes[0].outputs, [0]);
        model.validate().unwrap();
    }
}
