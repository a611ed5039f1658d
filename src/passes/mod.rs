//! Rewrites of a lite graph that keep its meaning and make it smaller or faster.

mod activations;
mod blocks;
mod earlier;
mod ends;
mod fuse;
mod hoist;
mod later;
mod layout;
mod prune;
mod share;

pub use ends::{MovedEnd, channels_last, move_channels_last, transpose_count};
pub use prune::{remove_unused_and_number, renumber_signatures};

use crate::graph::{Model, Subgraph};

type Pass = fn(&mut Subgraph);

/// In this order:
const PASSES: [Pass; 21] = [
    // first: what is read once is easier to rewrite
    share::share_equal_nodes,
    // before transposes: an axis that goes and comes back is not in their way
    fuse::merge_reshapes,
    // before transposes: they come between the ops that move a block
    blocks::moved_blocks_into_one_op,
    // before activations that are several ops: their clamps are one op
    fuse::clamp_into_activation,
    // before transposes: they come between the ops of one activation
    activations::several_ops_into_activation,
    // early: transposes hide producers from the fusing passes
    layout::sink_transposes,
    hoist::hoist_transposes,
    ends::drop_idle_transposes,
    // after transposes sank as far as they could
    layout::flatten_untransposed,
    layout::transposes_to_reshapes,
    hoist::transposes_into_products,
    // after transposes, which are gone from between; before constants go into weights
    earlier::constants_before_reshapes,
    // before activations: an activation follows the bias, not the product
    fuse::bias_into_product,
    // after biases: nothing stands between a product and what moves its result
    earlier::scales_to_weights,
    fuse::scale_into_weights,
    // after what can go into the weights before it
    later::reshapes_into_readers,
    later::constants_into_readers,
    fuse::mean_of_sum,
    // RELU6 is one op by now
    fuse::activation_into_producer,
    fuse::merge_reshapes,
    // after all that leaves tensors or nodes without a reader
    prune::remove_unused,
];

/// Runs all passes over every subgraph, for a `.tflite` file.
pub fn run(model: &mut Model) {
    run_for_tensorflow(model);
    // XNNPACK takes FULLY_CONNECTED only with a bias; last, so that a real one found its place
    model.subgraphs.iter_mut().for_each(fuse::zero_bias_for_products);
}

/// Runs all passes that are not for LiteRT alone.
pub fn run_for_tensorflow(model: &mut Model) {
    for graph in &mut model.subgraphs {
        for pass in PASSES {
            pass(graph);
        }
    }
    prune::renumber_signatures(model);
}
