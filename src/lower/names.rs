//! Constants and values under the names they have in the ONNX file. tract renames what it reshapes and
//! permutes; the values of constants tell which is which.

use crate::format::mmap;
use crate::graph::{ElementType, Model, Subgraph};
use std::collections::{HashMap, HashSet};

/// Gives each computed tensor the name that its value has in the ONNX file, where that is still free: tract
/// names what it takes an operator apart into after the node.
pub fn restore_value_names(graph: &mut Subgraph) {
    let mut taken: HashSet<String> = graph.tensors.iter().map(|t| t.name.clone()).collect();
    for tensor in graph.tensors.iter_mut().filter(|t| t.data.is_none()) {
        if let Some(origin) = &tensor.origin
            && taken.insert(origin.clone())
        {
            tensor.name = origin.clone();
        }
    }
}

/// The values of a constant, in any order: their number and an order-free hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Contents {
    count: usize,
    hash: u64,
}

impl Contents {
    /// Of little-endian 32-bit elements.
    pub fn of_words(data: &[u8]) -> Contents {
        let words = data.as_chunks::<4>().0;
        let hash = words.iter().fold(0u64, |sum, word| {
            let word = u32::from_le_bytes(*word);
            // products of 32-bit numbers: what vector units have
            let mixed =
                u64::from(word ^ 0x9e37_79b9) * u64::from(word.rotate_left(15) ^ 0xbf58_476d);
            sum.wrapping_add(mixed ^ (mixed >> 29))
        });
        Contents { count: words.len(), hash }
    }
}

/// Gives float32 constants the name of the one `original` (name, contents) with the same values; where
/// several have them, or none, a constant keeps its name.
pub fn restore_constant_names(model: &mut Model, original: &[(String, Contents)]) {
    let mut names: HashMap<Contents, Option<&String>> = HashMap::new();
    for (name, contents) in original {
        names.entry(*contents).and_modify(|n| *n = None).or_insert(Some(name));
    }
    for graph in &mut model.subgraphs {
        for i in 0..graph.tensors.len() {
            let tensor = &graph.tensors[i];
            let Some(data) = tensor.data.as_ref().filter(|_| tensor.element == ElementType::F32)
            else {
                continue;
            };
            let contents = Contents::of_words(data);
            mmap::release(data);
            let Some(Some(name)) = names.get(&contents) else { continue };
            if graph.tensors.iter().all(|t| t.name != **name) {
                graph.tensors[i].name = name.to_string();
                graph.tensors[i].origin = Some(name.to_string());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Tensor;

    fn bytes(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|v| v.to_le_bytes()).collect()
    }

    #[test]
    fn the_values_tell_the_name_in_whatever_order() {
        let mut graph = Subgraph::default();
        let mut add = |name: &str, values: &[f32]| {
            let shape = [values.len()];
            let data = bytes(values).into();
            graph.add_tensor(Tensor::constant(name, ElementType::F32, &shape, data));
        };
        add("mangled", &[3.0, 1.0, 2.0]);
        add("other", &[3.0, 1.0, 2.5]);
        add("zeros", &[0.0, 0.0]);
        let mut model = Model { subgraphs: vec![graph], ..Model::default() };
        let original = [("kernel", &[1.0, 2.0, 3.0][..]), ("b1", &[0.0, 0.0]), ("b2", &[0.0, 0.0])];
        let original = original.map(|(n, v)| (n.to_string(), Contents::of_words(&bytes(v))));
        restore_constant_names(&mut model, &original);
        let names: Vec<&str> = model.main().tensors.iter().map(|t| t.name.as_str()).collect();
        assert_eq!(names, ["kernel", "other", "zeros"]);
    }

    #[test]
    fn values_take_their_names_in_the_file_unless_taken() {
        let mut graph = Subgraph::default();
        for (name, origin) in [("Relu_1.low", "y"), ("Conv_0", "x"), ("x", "x2"), ("z", "z")] {
            let tensor = Tensor::variable(name, ElementType::F32, vec![]);
            graph.add_tensor(Tensor { origin: Some(origin.into()), ..tensor });
        }
        restore_value_names(&mut graph);
        let names: Vec<&str> = graph.tensors.iter().map(|t| t.name.as_str()).collect();
        assert_eq!(names, ["y", "Conv_0", "x2", "z"]);
    }
}
