//! What rounding the weights adds to a layer's mean result, taken off its bias again (Nagel et al., "Data-free
//! quantization through weight equalization and bias correction", 2019, section 4.2; the means are measured).

use crate::graph::LiteOp;

/// The mean of Σ (rounded − exact) · x for each output of a layer whose input channels have these `means`.
///
/// `errors` are rounded less exact weights, row-major in `shape`. `None` where the op or the shapes do not tell which
/// weight meets which channel.
pub fn mean_errors(
    op: &LiteOp,
    errors: &[f32],
    shape: &[usize],
    means: &[f32],
) -> Option<Vec<f64>> {
    match op {
        LiteOp::FullyConnected { .. } => {
            let &[outputs, inputs] = shape else { return None };
            let fits = !means.is_empty() && inputs.is_multiple_of(means.len());
            (fits && inputs > 0).then(|| {
                let rows = errors.chunks_exact(inputs).take(outputs);
                rows.map(|row| weighted_sum(row, means.iter().cycle())).collect()
            })
        }
        LiteOp::Conv2D { .. } => {
            let &[outputs, height, width, inputs] = shape else { return None };
            if inputs == 0 || outputs == 0 || !means.len().is_multiple_of(inputs) {
                return None;
            }
            let groups = means.len() / inputs;
            if groups == 0 || !outputs.is_multiple_of(groups) {
                return None;
            }
            let sum = |output: usize| {
                let filter = &errors[output * height * width * inputs..][..height * width * inputs];
                let group = output / (outputs / groups);
                weighted_sum(filter, means[group * inputs..][..inputs].iter().cycle())
            };
            Some((0..outputs).map(sum).collect())
        }
        LiteOp::DepthwiseConv2D { multiplier, .. } => {
            let &[1, _, _, channels] = shape else { return None };
            if channels == 0 || means.len().checked_mul(*multiplier) != Some(channels) {
                return None;
            }
            let mut sums = vec![0f64; channels];
            for pixel in errors.chunks_exact(channels) {
                for (channel, error) in pixel.iter().enumerate() {
                    sums[channel] += *error as f64 * means[channel / multiplier] as f64;
                }
            }
            Some(sums)
        }
        // which weights meet a pixel depends on where it is
        _ => None,
    }
}

fn weighted_sum<'a>(errors: &[f32], means: impl Iterator<Item = &'a f32>) -> f64 {
    errors.iter().zip(means).map(|(&error, &mean)| error as f64 * mean as f64).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Activation, Padding};

    #[test]
    fn errors_meet_the_means_of_their_channels() {
        let dense = LiteOp::FullyConnected {
            activation: Activation::None,
            keep_num_dims: false,
            asymmetric_quantize_inputs: false,
        };
        let errors = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
        assert_eq!(mean_errors(&dense, &errors, &[2, 4], &[1.0, 10.0]), Some(vec![64.0, 152.0]));
        assert_eq!(mean_errors(&dense, &errors, &[2, 4], &[1.0; 3]), None);
        let conv = LiteOp::Conv2D {
            padding: Padding::Same,
            strides: [1, 1],
            dilations: [1, 1],
            activation: Activation::None,
        };
        // two groups: output 0 reads channels 0 and 1, output 1 reads 2 and 3
        let means = [1.0, 10.0, 100.0, 1000.0];
        assert_eq!(mean_errors(&conv, &errors, &[2, 1, 2, 2], &means), Some(vec![64.0, 15200.0]));
        assert_eq!(
            mean_errors(&conv, &errors, &[2, 1, 2, 2], &means[..2]),
            Some(vec![64.0, 152.0])
        );
        let depthwise = LiteOp::DepthwiseConv2D {
            padding: Padding::Same,
            strides: [1, 1],
            dilations: [1, 1],
            multiplier: 2,
            activation: Activation::None,
        };
        let sums = mean_errors(&depthwise, &errors, &[1, 1, 2, 4], &[1.0, 10.0]);
        assert_eq!(sums, Some(vec![6.0, 8.0, 100.0, 120.0]));
    }
}
