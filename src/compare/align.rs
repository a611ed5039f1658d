//! Which input and output of one model is which of the other, and in what order their axes are.

use super::names;
use crate::graph::{Dim, PermutedEnd, shape_text};
use crate::passes::channels_last;
use crate::runtime::{Plan, Port};
use anyhow::{Result, bail, ensure};

/// A model's ends, and those whose axes are in another order than where it comes from.
#[derive(Debug, Clone, Copy)]
pub struct Side<'a> {
    pub inputs: &'a [Port],
    pub outputs: &'a [Port],
    pub permuted: &'a [PermutedEnd],
}

impl<'a> Side<'a> {
    pub fn of(plan: &'a Plan, permuted: &'a [PermutedEnd]) -> Side<'a> {
        Side { inputs: plan.inputs(), outputs: plan.outputs(), permuted }
    }
}

/// What corresponds to an end: the tensor at `place`, and how its axes become the other's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    pub place: usize,
    /// The other model's axis i is the reference's axis `permutation[i]`.
    pub permutation: Vec<usize>,
}

/// How the ends of two models correspond.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alignment {
    /// For each input of the other model its place among the reference's.
    pub inputs: Vec<End>,
    /// For each output of the reference its place among the other's.
    pub outputs: Vec<End>,
}

impl Alignment {
    /// Ends go together by name, or by place where the names differ; the orders of axes are what the files
    /// say, or what the shapes tell: as they are, or with channels moved last or first.
    ///
    /// # Errors
    /// The models differ in the number or in the shapes of their ends.
    pub fn new(reference: Side, other: Side) -> Result<Alignment> {
        let (from, to) = (other.inputs, reference.inputs);
        let places = correspondence("input", &names(to), &names(from))?;
        let inputs = from.iter().zip(places).map(|(port, place)| {
            Ok(End {
                place,
                permutation: permutation("input", reference, other, &to[place], port)?,
            })
        });
        let inputs = inputs.collect::<Result<_>>()?;
        let (from, to) = (reference.outputs, other.outputs);
        let places = correspondence("output", &names(from), &names(to))?;
        let outputs = from.iter().zip(places).map(|(port, place)| {
            Ok(End {
                place,
                permutation: permutation("output", reference, other, port, &to[place])?,
            })
        });
        Ok(Alignment { inputs, outputs: outputs.collect::<Result<_>>()? })
    }

    /// The inputs that both models take, in the reference's order of inputs and axes.
    pub fn common_inputs(&self, reference: &[Port], other: &[Port]) -> Vec<Port> {
        let mut ports = reference.to_vec();
        for (end, theirs) in self.inputs.iter().zip(other) {
            let Some(port) = ports.get_mut(end.place) else { continue };
            for (axis, dim) in theirs.shape.iter().enumerate() {
                let ours = &mut port.shape[end.permutation[axis]];
                if ours.known().is_none() && dim.known().is_some() {
                    *ours = dim.clone();
                }
            }
        }
        ports
    }
}

/// For each of the other's ends, or the reference's outputs, the place in the list that it matches: by
/// name, or by position where no name is shared.
fn correspondence(kind: &str, reference: &[&str], other: &[&str]) -> Result<Vec<usize>> {
    ensure!(
        reference.len() == other.len(),
        "the models differ in their number of {kind}s: {} ({}) and {} ({})",
        reference.len(),
        reference.join(", "),
        other.len(),
        other.join(", ")
    );
    let (from, to) = if kind == "input" { (other, reference) } else { (reference, other) };
    let by_name: Option<Vec<usize>> =
        from.iter().map(|name| to.iter().position(|n| n == name)).collect();
    Ok(by_name.unwrap_or_else(|| (0..from.len()).collect()))
}

fn permutation(
    kind: &str,
    reference: Side,
    other: Side,
    ours: &Port,
    theirs: &Port,
) -> Result<Vec<usize>> {
    let rank = ours.shape.len();
    if rank == theirs.shape.len() {
        let recorded = [(reference, ours), (other, theirs)].map(|(side, port)| {
            let found = side.permuted.iter().find(|end| end.name == port.name);
            found.map(|end| end.permutation.clone()).filter(|p| p.len() == rank)
        });
        let recorded = match recorded {
            [None, None] => None,
            [from, to] => {
                let as_is = || (0..rank).collect::<Vec<_>>();
                let from = inverse(&from.unwrap_or_else(as_is));
                Some(to.unwrap_or_else(as_is).iter().map(|&axis| from[axis]).collect())
            }
        };
        let likely = recorded.into_iter().chain(likely_permutations(rank));
        for permutation in likely {
            if fits(&ours.shape, &theirs.shape, &permutation) {
                return Ok(permutation);
            }
        }
    }
    bail!(
        "{kind} '{}' has shape {}, and '{}' of the other model {}",
        ours.name,
        shape_text(&ours.shape),
        theirs.name,
        shape_text(&theirs.shape)
    )
}

/// Axes as they are, channels moved last, channels moved first.
pub fn likely_permutations(rank: usize) -> Vec<Vec<usize>> {
    let mut likely: Vec<Vec<usize>> = vec![(0..rank).collect()];
    if rank > 2 {
        likely.extend([channels_last(rank), inverse(&channels_last(rank))]);
        likely.dedup();
    }
    likely
}

fn fits(ours: &[Dim], theirs: &[Dim], permutation: &[usize]) -> bool {
    theirs.iter().zip(permutation).all(|(dim, &axis)| match (dim.known(), ours[axis].known()) {
        (Some(theirs), Some(ours)) => theirs == ours,
        _ => true,
    })
}

pub fn inverse(permutation: &[usize]) -> Vec<usize> {
    let mut inverse = vec![0; permutation.len()];
    permutation.iter().enumerate().for_each(|(axis, &p)| inverse[p] = axis);
    inverse
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_matched_by_name_then_by_place() {
        assert_eq!(correspondence("output", &["a", "b"], &["b", "a"]).unwrap(), [1, 0]);
        assert_eq!(correspondence("output", &["a", "b"], &["x", "a"]).unwrap(), [0, 1]);
        assert!(correspondence("input", &["a"], &[]).is_err());
    }

    #[test]
    fn shapes_tell_the_order_of_axes() {
        let known = |dims: [usize; 4]| {
            dims.map(|d| if d == 0 { Dim::Symbol("N".into()) } else { d.into() })
        };
        let find = |a, b| {
            let likely = likely_permutations(4);
            likely.into_iter().find(|p| fits(&known(a), &known(b), p))
        };
        assert_eq!(find([0, 3, 8, 9], [1, 3, 8, 9]), Some(vec![0, 1, 2, 3]));
        assert_eq!(find([0, 3, 8, 9], [0, 8, 9, 3]), Some(vec![0, 2, 3, 1]));
        assert_eq!(find([1, 8, 9, 3], [1, 3, 8, 9]), Some(vec![0, 3, 1, 2]));
        assert_eq!(find([1, 8, 9, 3], [1, 9, 8, 3]), None);
    }
}
