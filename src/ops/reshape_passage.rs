//! How a permutation of axes passes a RESHAPE that splits, merges, adds or drops whole axes.

use super::*;
use std::ops::Range;

/// LiteRT's TRANSPOSE goes no further.
const MAX_TRANSPOSED_RANK: usize = 6;

/// Axes of the input that become axes of the output, taken in order.
struct Group {
    from: Range<usize>,
    to: Range<usize>,
}

/// `None` where an unknown size, or axes that are cut across, hide what becomes what.
fn groups(from: &[Dim], to: &[Dim]) -> Option<Vec<Group>> {
    let one = Some(&Dim::Known(1));
    let (mut i, mut j) = (0, 0);
    let mut groups: Vec<Group> = vec![];
    while i < from.len() || j < to.len() {
        let (start, result) = (i, j);
        if i < from.len() && from.get(i) == to.get(j) {
            (i, j) = (i + 1, j + 1);
        } else if from.get(i) == one {
            i += 1;
        } else if to.get(j) == one {
            j += 1;
        } else {
            let (mut a, mut b) = (from.get(i)?.known()?, to.get(j)?.known()?);
            (i, j) = (i + 1, j + 1);
            while a != b {
                if a < b {
                    a = a.checked_mul(from.get(i)?.known()?)?;
                    i += 1;
                } else {
                    b = b.checked_mul(to.get(j)?.known()?)?;
                    j += 1;
                }
            }
        }
        match groups.last_mut() {
            Some(last) if start == i => last.to.end = j,
            _ => groups.push(Group { from: start..i, to: result..j }),
        }
    }
    // axes of size 1 put in front go with what follows
    if groups.len() > 1 && groups[0].from.is_empty() {
        let first = groups.remove(0);
        groups[0].to.start = first.to.start;
    }
    Some(groups)
}

/// For a reshape of `transpose(x, permutation)`, of shape `from`, to `to`: the shape to which x itself is
/// reshaped, and the permutation that makes `to` of it.
pub fn reshape_untransposed(
    from: &[Dim],
    to: &[Dim],
    permutation: &[usize],
) -> Option<(Vec<Dim>, Vec<usize>)> {
    if from.len() != permutation.len() {
        return None;
    }
    let mut groups = groups(from, to)?;
    let whole = |g: &Group| permutation[g.from.clone()].windows(2).all(|w| w[1] == w[0] + 1);
    if !groups.iter().all(whole) {
        return None;
    }
    groups.sort_by_key(|g| permutation.get(g.from.start).copied());
    let order: Vec<usize> = groups.iter().flat_map(|g| g.to.clone()).collect();
    let mut outer = vec![0; to.len()];
    for (place, &axis) in order.iter().enumerate() {
        outer[axis] = place;
    }
    Some((order.iter().map(|&axis| to[axis].clone()).collect(), outer))
}

/// A RESHAPE's second input: −1 for the one size that is not known.
pub fn target_constant(name: String, shape: &[Dim]) -> Option<Tensor> {
    if shape.iter().filter(|d| d.known().is_none()).count() > 1 {
        return None;
    }
    let sizes: Option<Vec<i32>> =
        shape.iter().map(|d| d.known().map_or(Some(-1), |n| i32::try_from(n).ok())).collect();
    let data: Vec<u8> = sizes?.iter().flat_map(|v| v.to_le_bytes()).collect();
    Some(Tensor::constant(name, ElementType::I32, &[shape.len()], data.into()))
}

pub fn permute(graph: &Subgraph, node: &Node, permutation: &[usize]) -> Option<Passage> {
    let input = &graph.tensors[node.inputs.first().copied().flatten()?];
    let output = &graph.tensors[*node.outputs.first()?];
    if output.shape.len() > MAX_TRANSPOSED_RANK {
        return None;
    }
    let (shape, outer) = reshape_untransposed(&input.shape, &output.shape, permutation)?;
    let constant = target_constant(format!("{}/shape", output.name), &shape)?;
    Some(Passage { op: LiteOp::Reshape, constants: vec![(1, constant)], outputs: vec![outer] })
}
