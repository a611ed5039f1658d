//! Optimizers: gradients → new parameters, in place and in one pass.

use super::batches::exclusive;
use super::recipe::{OptimizerKind, Training};
use crate::kernels;
use crate::runtime::{Tensor, f32_values};
use anyhow::Result;
use std::sync::Arc;

/// Stochastic gradient descent as Keras defines it, with the velocities of its momentum.
#[derive(Debug)]
pub struct Optimizer {
    learning_rate: f32,
    momentum: f32,
    nesterov: bool,
    velocities: Vec<Vec<f32>>,
}

impl Optimizer {
    pub fn new(training: &Training, parameters: &[Arc<Tensor>]) -> Optimizer {
        let OptimizerKind::Sgd = training.optimizer;
        let velocities = match training.momentum > 0.0 {
            true => parameters.iter().map(|p| vec![0.0; p.len()]).collect(),
            false => vec![],
        };
        Optimizer {
            learning_rate: training.learning_rate,
            momentum: training.momentum,
            nesterov: training.nesterov,
            velocities,
        }
    }

    /// The factor of the gradient if a step is no more than `parameter + factor · gradient`.
    pub fn plain_factor(&self, rows: usize) -> Option<f32> {
        (self.momentum == 0.0).then(|| -self.learning_rate / rows as f32)
    }

    /// One step with the gradients of a loss summed over `rows` samples.
    pub fn step(
        &mut self,
        parameters: &mut [Arc<Tensor>],
        gradients: &[Arc<Tensor>],
        rows: usize,
    ) -> Result<()> {
        let rate = self.learning_rate / rows as f32;
        for (i, (parameter, gradient)) in parameters.iter_mut().zip(gradients).enumerate() {
            let gradient = f32_values(gradient)?;
            let mut plain = exclusive(parameter)?.try_as_plain_ram_mut()?;
            let weights = plain.as_slice_mut::<f32>()?;
            match self.velocities.get_mut(i) {
                None => kernels::sgd_step(weights, gradient, rate),
                Some(v) if self.nesterov => {
                    kernels::nesterov_step(weights, v, gradient, rate, self.momentum)
                }
                Some(v) => kernels::momentum_step(weights, v, gradient, rate, self.momentum),
            }
        }
        Ok(())
    }
}
