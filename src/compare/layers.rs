//! Two graphs value by value: what has the same name is compared, in the order of the reference.

use super::align::likely_permutations;
use super::{Alignment, Sums, permuted, their_inputs};
use crate::runtime::{Tensor, Value, Values};
use anyhow::{Context, Result};
use serde::Serialize;
use std::collections::HashMap;

/// Two models' values lined up.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Layers {
    /// In the order of the reference.
    pub layers: Vec<LayerDifference>,
    /// Values of the reference that the other model does not have: fused, folded or renamed.
    pub only_reference: Vec<String>,
    /// Values of the other model that the reference does not have.
    pub only_other: Vec<String>,
    /// Values of one name whose shapes do not correspond.
    pub different_shapes: Vec<String>,
}

/// How far one value of the other model is from the reference's.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LayerDifference {
    /// The name in the reference.
    pub node: String,
    pub reference_op: String,
    pub other_op: String,
    /// The element type in the other model.
    #[serde(rename = "type")]
    pub element: &'static str,
    /// In the other model; its axis i is the reference's axis `permutation[i]`.
    pub shape: Vec<usize>,
    pub permutation: Vec<usize>,
    pub values: usize,
    pub max_difference: f64,
    /// `max_difference` by the reference's largest absolute value.
    pub relative: f64,
    pub mean_difference: f64,
    /// As that of an output; absent where equal.
    pub sqnr_db: Option<f64>,
}

/// What the passes put behind the name of a value whose axes they moved.
const MOVED: &str = "/nhwc";

/// Compares all values of `reference` and `other` that have a name in common, over `runs`.
///
/// Where several orders of axes fit the shapes, or several values the name, the closest counts.
///
/// # Errors
/// A run fails.
pub fn compare_layers(
    reference: &Values,
    other: &Values,
    alignment: &Alignment,
    runs: &[Vec<Tensor>],
) -> Result<Layers> {
    let pairs = pairs(reference.values(), other.values());
    let mut ours: Vec<usize> = pairs.iter().map(|p| p.0).collect();
    let mut theirs: Vec<usize> = pairs.iter().map(|p| p.1).collect();
    for places in [&mut ours, &mut theirs] {
        places.sort_unstable();
        places.dedup();
    }
    let mut trials: Vec<Trial> = vec![];
    if !pairs.is_empty() {
        let plans = (reference.plan(&ours)?, other.plan(&theirs)?);
        let mut sessions = (plans.0.session()?, plans.1.session()?);
        for run in runs {
            let expected = sessions.0.run(run.clone()).context("running the reference")?;
            let inputs = their_inputs(alignment, plans.0.inputs(), plans.1.inputs(), run)?;
            let found = sessions.1.run(inputs);
            let found = found.context("running the other model")?;
            let value = |places: &[usize], place: usize| places.binary_search(&place).unwrap_or(0);
            let at = |pair: (usize, usize)| {
                let (a, b) = (value(&ours, pair.0), value(&theirs, pair.1));
                let reals = plans.0.outputs()[a].reals(&expected[a]);
                anyhow::Ok((reals?, plans.1.outputs()[b].reals(&found[b])?))
            };
            if trials.is_empty() {
                for &pair in &pairs {
                    let (expected, found) = at(pair)?;
                    let orders = orders(expected.shape(), found.shape());
                    let shape = found.shape().to_vec();
                    let port = &plans.1.outputs()[value(&theirs, pair.1)];
                    let element = port.element.name();
                    trials.extend(orders.into_iter().map(|order| Trial {
                        pair,
                        order,
                        element,
                        shape: shape.clone(),
                        sums: Sums::default(),
                    }));
                }
            }
            for trial in &mut trials {
                let (expected, found) = at(trial.pair)?;
                let expected = permuted(expected, &trial.order)?;
                let expected = expected.into_shape(found.shape())?;
                trial.sums.join(Sums::of(&expected, &found)?);
            }
        }
    }
    Ok(layers(reference.values(), other.values(), &pairs, trials))
}

/// One pair of values in one order of axes.
struct Trial {
    pair: (usize, usize),
    order: Vec<usize>,
    element: &'static str,
    shape: Vec<usize>,
    sums: Sums,
}

/// Values with a name in common: places in the reference and in the other model. The value's own name goes
/// before its aliases, which may be a node's that computes only a part of it.
fn pairs(reference: &[Value], other: &[Value]) -> Vec<(usize, usize)> {
    let mut own: HashMap<&str, Vec<usize>> = HashMap::new();
    let mut aliases: HashMap<&str, Vec<usize>> = HashMap::new();
    for (place, value) in reference.iter().enumerate() {
        own.entry(plain(&value.name)).or_default().push(place);
        for alias in &value.aliases {
            aliases.entry(plain(alias)).or_default().push(place);
        }
    }
    let mut pairs = vec![];
    for (place, value) in other.iter().enumerate() {
        let names = || std::iter::once(&value.name).chain(&value.aliases).map(|n| plain(n));
        let found = |map: &HashMap<&str, Vec<usize>>| -> Vec<usize> {
            names().filter_map(|name| map.get(name)).flatten().copied().collect()
        };
        let ours = Some(found(&own)).filter(|ours| !ours.is_empty());
        let ours = ours.unwrap_or_else(|| found(&aliases));
        pairs.extend(ours.into_iter().map(|ours| (ours, place)));
    }
    pairs.sort_unstable();
    pairs.dedup();
    pairs
}

fn plain(name: &str) -> &str {
    name.strip_suffix(MOVED).unwrap_or(name)
}

/// The orders of `from`'s axes that make it `to`.
fn orders(from: &[usize], to: &[usize]) -> Vec<Vec<usize>> {
    let long = |shape: &[usize]| shape.iter().copied().filter(|&d| d != 1).collect::<Vec<_>>();
    if from.len() != to.len() {
        let as_is = (0..from.len()).collect::<Vec<_>>();
        return if long(from) == long(to) { vec![as_is] } else { vec![] };
    }
    let fits = |order: &Vec<usize>| order.iter().zip(to).all(|(&axis, &d)| from[axis] == d);
    likely_permutations(from.len()).into_iter().filter(fits).collect()
}

fn layers(
    reference: &[Value],
    other: &[Value],
    pairs: &[(usize, usize)],
    trials: Vec<Trial>,
) -> Layers {
    let mut best: HashMap<usize, LayerDifference> = HashMap::new();
    for Trial { pair, order, element, shape, sums } in trials {
        let found = sums.finish("");
        let layer = LayerDifference {
            node: reference[pair.0].name.clone(),
            reference_op: reference[pair.0].op.clone(),
            other_op: other[pair.1].op.clone(),
            element,
            shape,
            permutation: order,
            values: found.values,
            max_difference: found.max_difference,
            relative: found.relative,
            mean_difference: found.mean_difference,
            sqnr_db: found.sqnr_db,
        };
        let kept = best.get(&pair.0);
        if kept.is_none_or(|kept| layer.relative < kept.relative || kept.relative.is_nan()) {
            best.insert(pair.0, layer);
        }
    }
    let names = |values: &[Value], paired: &dyn Fn(usize) -> bool| -> Vec<String> {
        let rest = values.iter().enumerate().filter(|(place, _)| !paired(*place));
        rest.map(|(_, value)| value.name.clone()).collect()
    };
    let mut different_shapes: Vec<usize> =
        pairs.iter().map(|p| p.0).filter(|p| !best.contains_key(p)).collect();
    different_shapes.dedup();
    Layers {
        only_reference: names(reference, &|place| pairs.iter().any(|p| p.0 == place)),
        only_other: names(other, &|place| pairs.iter().any(|p| p.1 == place)),
        different_shapes: different_shapes.iter().map(|&p| reference[p].name.clone()).collect(),
        layers: (0..reference.len()).filter_map(|place| best.remove(&place)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(name: &str, aliases: &[&str]) -> Value {
        let aliases = aliases.iter().map(|a| a.to_string()).collect();
        Value { name: name.into(), aliases, op: String::new(), quantization: None }
    }

    #[test]
    fn values_pair_by_any_of_their_names() {
        let reference = [value("y", &["Conv_0", "y"]), value("z", &["Relu_1", "z"])];
        let other = [
            value("Conv_0/nhwc", &["Conv_0/nhwc"]),
            value("fused;z", &["fused", "z"]),
            value("new", &["new"]),
        ];
        assert_eq!(pairs(&reference, &other), [(0, 0), (1, 1)]);
        let node_of_a_part = [value("y0", &["y", "y0"]), value("y", &["Add_1", "y"])];
        assert_eq!(pairs(&node_of_a_part, &[value("y", &["y"])]), [(1, 0)]);
        let layers = layers(&reference, &other, &[(1, 1)], vec![]);
        assert_eq!(layers.only_reference, ["y"]);
        assert_eq!(layers.only_other, ["Conv_0/nhwc", "new"]);
        assert_eq!(layers.different_shapes, ["z"]);
    }

    #[test]
    fn orders_of_axes_are_those_that_fit() {
        let last = vec![0, 2, 3, 1];
        assert_eq!(orders(&[1, 3, 8, 9], &[1, 8, 9, 3]), [last]);
        assert_eq!(orders(&[1, 8, 8, 8], &[1, 8, 8, 8]).len(), 3);
        assert_eq!(orders(&[1, 1000, 1, 1], &[1, 1000]), [[0, 1, 2, 3]]);
        assert!(orders(&[1, 3, 8, 9], &[1, 9, 8, 3]).is_empty());
    }
}
