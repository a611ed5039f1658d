//! Rewrites of a lite graph that keep its meaning and make it smaller or faster.

mod activations;
mod ends;
mod fuse;
mod layout;
mod prune;

pub use ends::{MovedEnd, channels_last, move_channels_last, transpose_count};

use crate::graph::{Model, Subgraph};

type Pass = fn(&mut Subgraph);

/// In this order:
const PASSES: [Pass; 15] = [
    // before transposes: an axis that goes and comes back is not in their way
    fuse::merge_reshapes,
    // before activations that are several ops: their clamps are one op
    fuse::clamp_into_activation,
    // before transposes: they come between the ops of one activation
    activations::several_ops_into_activation,
    // early: transposes hide producers from the fusing passes
    layout::sink_transposes,
    layout::hoist_transposes,
    ends::drop_idle_transposes,
    // after transposes sank as far as they could
    layout::flatten_untransposed,
    layout::transposes_to_reshapes,
    // before activations: an activation follows the bias, not the product
    fuse::bias_into_product,
    fuse::scale_into_weights,
    fuse::mean_of_sum,
    // RELU6 is one op by now
    fuse::activation_into_producer,
    fuse::merge_reshapes,
    // XNNPACK takes FULLY_CONNECTED only with a bias; last, so that a real one found its place
    fuse::zero_bias_for_products,
    // after all that leaves tensors or nodes without a reader
    prune::remove_unused,
];

/// Runs all passes over every subgraph.
pub fn run(model: &mut Model) {
    for graph in &mut model.subgraphs {
        for pass in PASSES {
            pass(graph);
        }
    }
    prune::renumber_signatures(model);
}
