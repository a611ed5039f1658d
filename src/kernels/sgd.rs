//! Optimizer steps in one pass over the weights.

use super::instruction_set::multiversioned;

multiversioned! {
    /// w -= rate * g.
    pub fn sgd_step(weights: &mut [f32], gradients: &[f32], rate: f32)
        = sgd_step_body, sgd_step_on;
    /// v = momentum * v - rate * g; w += v (Keras' `SGD(momentum=…)`).
    pub fn momentum_step(
        weights: &mut [f32],
        velocities: &mut [f32],
        gradients: &[f32],
        rate: f32,
        momentum: f32,
    ) = momentum_step_body, momentum_step_on;
    /// v = momentum * v - rate * g; w += momentum * v - rate * g (Keras' `nesterov=True`).
    pub fn nesterov_step(
        weights: &mut [f32],
        velocities: &mut [f32],
        gradients: &[f32],
        rate: f32,
        momentum: f32,
    ) = nesterov_step_body, nesterov_step_on;
}

#[inline(always)]
fn sgd_step_body(weights: &mut [f32], gradients: &[f32], rate: f32) {
    assert_eq!(weights.len(), gradients.len(), "weights and gradients");
    for (w, g) in weights.iter_mut().zip(gradients) {
        *w = (-rate).mul_add(*g, *w);
    }
}

#[inline(always)]
fn momentum_step_body(
    weights: &mut [f32],
    velocities: &mut [f32],
    gradients: &[f32],
    rate: f32,
    momentum: f32,
) {
    step(weights, velocities, gradients, |w, v, g| {
        let v = momentum.mul_add(v, -(rate * g));
        (w + v, v)
    });
}

#[inline(always)]
fn nesterov_step_body(
    weights: &mut [f32],
    velocities: &mut [f32],
    gradients: &[f32],
    rate: f32,
    momentum: f32,
) {
    step(weights, velocities, gradients, |w, v, g| {
        let v = momentum.mul_add(v, -(rate * g));
        (w + momentum.mul_add(v, -(rate * g)), v)
    });
}

#[inline(always)]
fn step(
    weights: &mut [f32],
    velocities: &mut [f32],
    gradients: &[f32],
    rule: impl Fn(f32, f32, f32) -> (f32, f32),
) {
    assert_eq!(weights.len(), gradients.len(), "weights and gradients");
    assert_eq!(weights.len(), velocities.len(), "weights and velocities");
    for ((w, v), g) in weights.iter_mut().zip(velocities).zip(gradients) {
        (*w, *v) = rule(*w, *v, *g);
    }
}

#[cfg(test)]
mod tests {
    use super::super::instruction_set::InstructionSet;
    use super::super::test_values::{assert_same_bits, values};
    use super::*;

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        for len in [0, 1, 7, 16, 33, 1000] {
            let g = values(len, 3);
            let run = |set| {
                let (mut w, mut v) = (values(len, 1), values(len, 2));
                sgd_step_on(set, &mut w, &g, 0.1);
                momentum_step_on(set, &mut w, &mut v, &g, 0.1, 0.9);
                nesterov_step_on(set, &mut w, &mut v, &g, 0.01, 0.7);
                w.extend(v);
                w
            };
            for set in InstructionSet::available() {
                let what = format!("{set:?}, {len}");
                assert_same_bits(&run(set), &run(InstructionSet::Portable), &what);
            }
        }
    }

    #[test]
    fn steps_by_hand() {
        let (mut w, mut v, g) = ([1.0], [0.5], [2.0]);
        sgd_step(&mut w, &g, 0.25);
        assert_eq!(w, [0.5]);
        momentum_step(&mut w, &mut v, &g, 0.25, 0.5);
        assert_eq!((w, v), ([0.25], [-0.25]));
        nesterov_step(&mut w, &mut v, &g, 0.25, 0.5);
        assert_eq!((w, v), ([-0.5625], [-0.625]));
    }

    #[test]
    #[should_panic(expected = "weights and velocities")]
    fn too_few_velocities_panic() {
        momentum_step(&mut [0.0; 3], &mut [0.0; 2], &[0.0; 3], 0.1, 0.9);
    }
}
