//! Which samples make a batch, and their pixels as the model's input.

use crate::data::LabelledImages;
use crate::kernels::{f32_from_u8_divided, prefetch};
use crate::runtime::Tensor;
use anyhow::{Context, Result};
use rand_pcg::Pcg64;
use rand_pcg::rand_core::{Rng, SeedableRng};
use std::sync::Arc;

/// The order of `samples` in one epoch: a Fisher–Yates shuffle that depends on seed and epoch alone.
pub fn shuffled(samples: &[u32], seed: u64, epoch: usize) -> Vec<u32> {
    const EPOCH_STRIDE: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut random = Pcg64::seed_from_u64(seed ^ (epoch as u64 + 1).wrapping_mul(EPOCH_STRIDE));
    let mut order = samples.to_vec();
    for i in (1..order.len()).rev() {
        let bound = i as u64 + 1;
        let pick = ((random.next_u64() as u128 * bound as u128) >> 64) as usize;
        order.swap(i, pick);
    }
    order
}

/// Input and label tensors that are filled again for each batch.
#[derive(Debug)]
pub struct BatchBuffers {
    pub inputs: Arc<Tensor>,
    pub labels: Arc<Tensor>,
}

impl BatchBuffers {
    /// For `rows` samples of `sample_shape`.
    pub fn new(rows: usize, sample_shape: &[usize]) -> Result<BatchBuffers> {
        let shape: Vec<usize> = std::iter::once(rows).chain(sample_shape.iter().copied()).collect();
        Ok(BatchBuffers {
            inputs: Arc::new(Tensor::zero::<f32>(&shape)?),
            labels: Arc::new(Tensor::zero::<i32>(&[rows])?),
        })
    }

    /// Fills the tensors with the samples' pixels, in 0..1, and labels.
    pub fn fill(&mut self, data: &LabelledImages, samples: &[u32]) -> Result<()> {
        let inputs = exclusive(&mut self.inputs)?;
        let mut plain = inputs.try_as_plain_ram_mut()?;
        let size = data.rows() * data.cols();
        let rows = plain.as_slice_mut::<f32>()?.chunks_exact_mut(size);
        for (i, (row, &sample)) in rows.zip(samples).enumerate() {
            // shuffled samples are anywhere in memory: the one after next is on its way meanwhile
            if let Some(&coming) = samples.get(i + 2) {
                prefetch(data.image(coming as usize));
            }
            f32_from_u8_divided(data.image(sample as usize), 255.0, row);
        }
        let labels = exclusive(&mut self.labels)?;
        let mut plain = labels.try_as_plain_ram_mut()?;
        for (label, &sample) in plain.as_slice_mut::<i32>()?.iter_mut().zip(samples) {
            *label = data.labels()[sample as usize].into();
        }
        Ok(())
    }
}

/// The tensor, which nobody else holds between two steps.
pub fn exclusive(tensor: &mut Arc<Tensor>) -> Result<&mut Tensor> {
    Arc::get_mut(tensor).context("a tensor of the last step is still held")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shuffle_is_a_permutation_that_seed_and_epoch_decide() {
        let samples: Vec<u32> = (100..1100).collect();
        let order = shuffled(&samples, 7, 0);
        let mut sorted = order.clone();
        sorted.sort();
        assert_eq!(sorted, samples);
        assert_eq!(order, shuffled(&samples, 7, 0));
        assert_ne!(order, shuffled(&samples, 7, 1));
        assert_ne!(order, shuffled(&samples, 8, 0));
        let stayed = order.iter().zip(&samples).filter(|(a, b)| a == b).count();
        assert!(stayed < 10, "{stayed} of 1000 stayed in place; 1 is expected");
    }
}
