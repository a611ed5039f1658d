//! How permutations of axes pass ops.

use super::*;

/// How an op lets a permutation of its inputs' axes through.
///
/// For `permutation` p, every computed input of the node is `transpose(x, p)`. Then the node is as well
/// `op` on the x themselves, with the `constants` in place of its own, and each old output is
/// `transpose(new output, q)` for its q in `outputs`.
#[derive(Debug, Clone, PartialEq)]
pub struct Passage {
    pub op: LiteOp,
    /// Inputs, by place, that become other constants.
    pub constants: Vec<(usize, Tensor)>,
    pub outputs: Vec<Vec<usize>>,
}

/// The passage through ops that treat all elements alike: constants of full rank are moved along.
pub fn permute_elementwise(
    graph: &Subgraph,
    node: &Node,
    permutation: &[usize],
) -> Option<Passage> {
    let rank = permutation.len();
    let mut constants = vec![];
    for (i, &input) in node.inputs.iter().enumerate() {
        let tensor = &graph.tensors[input?];
        match &tensor.data {
            None if tensor.shape.len() == rank => {}
            None => return None,
            Some(_) => {
                if let Some(moved) = permute_constant(tensor, permutation)? {
                    constants.push((i, moved));
                }
            }
        }
    }
    let outputs = vec![permutation.to_vec(); node.outputs.len()];
    Some(Passage { op: node.op.clone(), constants, outputs })
}

/// The constant `c` with `transpose(c, p)` = `tensor`, once `tensor` has got leading 1s up to p's rank;
/// `Some(None)` if it may stay as it is.
pub fn permute_constant(tensor: &Tensor, permutation: &[usize]) -> Option<Option<Tensor>> {
    let rank = permutation.len();
    let shape = tensor.known_shape()?;
    if shape.iter().product::<usize>() == 1 {
        return Some(None);
    }
    let missing = rank.checked_sub(shape.len())?;
    let shape: Vec<usize> = std::iter::repeat_n(1, missing).chain(shape).collect();
    let width = tensor.element.bits().filter(|b| b % 8 == 0)? / 8;
    let data = tensor.data.as_ref()?;
    let mut inverse = vec![0; rank];
    for (axis, &p) in permutation.iter().enumerate() {
        *inverse.get_mut(p)? = axis;
    }
    let moved = crate::kernels::reorder(data, width, &shape, &inverse).ok()?;
    Some(Some(Tensor {
        shape: inverse.iter().map(|&axis| Dim::Known(shape[axis])).collect(),
        data: Some(moved.map_or_else(|| data.clone(), Into::into)),
        ..tensor.clone()
    }))
}
