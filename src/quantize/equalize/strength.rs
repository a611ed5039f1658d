//! How far channels are made alike: what rounding a tensor adds to the layers that read it, against what rounding their
//! weights adds.
//!
//! Some strengths are tried, and the one of the least estimated noise is taken, as in "AWQ: Activation-aware Weight
//! Quantization" (Lin et al., 2023).

use super::channels::Channels;

/// The share of a channel's size that goes into the weights; one is taken where it makes the noise this much less than
/// those before it.
pub const STRENGTHS: [f32; 7] = [0.5, 0.625, 0.75, 0.875, 1.0, 0.375, 0.25];
pub const WORTH_WHILE: f64 = 0.8;

/// The weights of a layer that reads the channels.
pub struct Reader {
    /// Of each result the first of the channels that it is made of; they follow each other.
    pub firsts: Vec<usize>,
    /// The largest weight of each result on each of its channels, row-major.
    pub largest: Vec<f32>,
    /// By channel: the sum of the squares of all weights on it.
    pub squares: Vec<f64>,
    /// Weights of one result on one channel.
    pub taps: f64,
}

impl Reader {
    /// The noise of the layer's results by their power, where each channel is divided by its factor and the weights on it
    /// are multiplied.
    ///
    /// A uniform error of one step has the variance step² / 12. What rounding weights adds to the mean is corrected
    /// in the bias, so that a channel's variance counts.
    pub fn noise(&self, channels: &Channels, factors: &[f64]) -> f64 {
        let variances = channels.variances();
        let scaled = |ends: &[f32], pick: fn(f64, f64) -> f64| {
            ends.iter().zip(factors).map(|(&end, factor)| end as f64 / factor).fold(0.0, pick)
        };
        let width = scaled(&channels.max, f64::max) - scaled(&channels.min, f64::min);
        let step = width / 255.0;
        let weights = self.squares.iter().zip(factors);
        let of_values: f64 = weights.map(|(square, factor)| square * factor * factor).sum();
        let scaled = variances.iter().zip(factors);
        let scaled: Vec<f64> = scaled.map(|(x, factor)| x / (factor * factor)).collect();
        let inner = self.largest.len().checked_div(self.firsts.len()).unwrap_or(0).max(1);
        let mut of_weights = 0.0;
        for (&first, weights) in self.firsts.iter().zip(self.largest.chunks_exact(inner)) {
            let own = first..first + inner;
            let (Some(factors), Some(scaled)) = (factors.get(own.clone()), scaled.get(own)) else {
                continue;
            };
            let sizes = weights.iter().zip(factors).map(|(&weight, f)| weight as f64 * f);
            let largest = sizes.fold(0.0, |a: f64, b| if b > a { b } else { a });
            of_weights += (largest / 127.0).powi(2) * scaled.iter().sum::<f64>() * self.taps;
        }
        let power: f64 = self.squares.iter().zip(&variances).map(|(w, x)| w * x).sum();
        match power > 0.0 {
            true => (step * step * of_values + of_weights) / 12.0 / power,
            false => 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_that_of_a_hand_calculation() {
        let mut channels = Channels::default();
        // variances 1 and 4, width 255
        channels.add(&[100.0, -153.0, 102.0, -157.0], 2);
        let reader = Reader {
            firsts: vec![0],
            largest: vec![3.0, 127.0],
            squares: vec![9.0, 127.0 * 127.0],
            taps: 1.0,
        };
        let power = 9.0 + 4.0 * 127.0 * 127.0;
        let width: f64 = 102.0 + 157.0;
        let values = (width / 255.0).powi(2) * (9.0 + 127.0 * 127.0);
        let expected = (values + 5.0) / 12.0 / power;
        assert!((reader.noise(&channels, &[1.0, 1.0]) / expected - 1.0).abs() < 1e-9);
        // twice the second channel: its weights' steps halve, its values' do not
        let width: f64 = 102.0 + 157.0 * 2.0;
        let values = (width / 255.0).powi(2) * (9.0 + 127.0 * 127.0 / 4.0);
        let expected = (values + (1.0 + 16.0) / 4.0) / 12.0 / power;
        assert!((reader.noise(&channels, &[1.0, 0.5]) / expected - 1.0).abs() < 1e-9);
    }
}
