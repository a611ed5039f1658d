//! Losses over class labels, with their gradient: the end of a training graph.

use super::*;
use crate::kernels::softmax_cross_entropy;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LossFunction {
    /// On logits: −ln softmax(z)[label], in the stable form (the row's maximum is taken out first).
    SoftmaxCrossEntropy,
    /// Against the one-hot label, the mean over the classes.
    MeanSquaredError,
}

/// inputs `[outputs (rows × classes), labels (rows, i32)]` → the loss summed over the rows `[1]`, how
/// many rows have their largest value (the first of equals) at the label `[1]`, and the gradient of
/// the summed loss by the outputs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LossWithGradient(pub LossFunction);

impl LossWithGradient {
    pub const LOSS: usize = 0;
    pub const CORRECT: usize = 1;
    pub const GRADIENT: usize = 2;
}

impl Op for LossWithGradient {
    fn name(&self) -> StaticName {
        format!("{:?}", self.0).into()
    }

    tract_core::op_as_typed_op!();
}

impl EvalOp for LossWithGradient {
    tract_core::op_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let (outputs, labels) = tract_core::args_2!(inputs);
        let &[rows, classes] = outputs.shape() else { bail!("loss of {outputs:?}") };
        ensure!(labels.len() == rows && classes > 0, "{labels:?} for {outputs:?}");
        let labels = labels.try_as_plain_ram()?.as_slice::<i32>()?;
        let labels: Vec<u32> = labels.iter().map(|&l| l as u32).collect();
        ensure!(labels.iter().all(|&l| (l as usize) < classes), "a label is not below {classes}");
        let mut losses = vec![0f32; rows];
        let mut correct = 0;
        let gradient = filled(&[rows, classes], |gradient| {
            let outputs = values(&outputs)?;
            correct = match self.0 {
                LossFunction::SoftmaxCrossEntropy => {
                    softmax_cross_entropy(outputs, &labels, 1.0, &mut losses, gradient)
                }
                LossFunction::MeanSquaredError => {
                    mean_squared_error(outputs, &labels, &mut losses, gradient)
                }
            };
            Ok(())
        })?;
        let loss = losses.iter().sum();
        let scalar = |value: f32| tensor1(&[value]).into_tvalue();
        Ok(tvec!(scalar(loss), scalar(correct as f32), gradient))
    }
}

/// As [`softmax_cross_entropy`], with the other loss.
fn mean_squared_error(
    outputs: &[f32],
    labels: &[u32],
    losses: &mut [f32],
    gradients: &mut [f32],
) -> usize {
    let classes = outputs.len() / labels.len().max(1);
    let rows = outputs.chunks_exact(classes).zip(gradients.chunks_exact_mut(classes));
    let mut correct = 0;
    for (((row, gradient), &label), loss) in rows.zip(labels).zip(losses) {
        let largest = (1..classes).fold(0, |best, i| if row[i] > row[best] { i } else { best });
        correct += (largest == label as usize) as usize;
        for (class, (value, gradient)) in row.iter().zip(gradient).enumerate() {
            let difference = value - if class == label as usize { 1.0 } else { 0.0 };
            *loss += difference * difference / classes as f32;
            *gradient = 2.0 * difference / classes as f32;
        }
    }
    correct
}

impl TypedOp for LossWithGradient {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let scalar = f32::fact([1]);
        Ok(tvec!(scalar.clone(), scalar, inputs[0].without_value()))
    }

    tract_core::as_op!();
}
