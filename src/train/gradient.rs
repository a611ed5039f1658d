//! The training graph: a forward graph, its loss, and the gradients of the loss by every parameter,
//! all as ops of one `TypedModel`. One rule table says how each op passes a gradient back.

use crate::kernels::Activation;
use crate::tract::ops::array::MultiBroadcastTo;
use crate::tract::ops::binary::TypedBinOp;
use crate::tract::ops::cast::cast;
use crate::tract::ops::einsum::EinSum;
use crate::tract::ops::element_wise::{ElementWiseMiniOp, ElementWiseOp};
use crate::tract::ops::konst::Const;
use crate::tract::ops::nn::{self, Reduce, Reducer, Softmax, SoftmaxKind};
use crate::tract::ops::source::TypedSource;
use crate::tract::ops::{logic, math};
use crate::tract::typed_ops::{ActivationGradient, LossFunction, LossWithGradient, SgdUpdate};
use crate::tract::{
    AxisOp, DatumType, IntoArcTensor, OutletId, SpecialOps, TDim, TVec, TypedFact, TypedModel,
    TypedNode, TypedOp, tensor0,
};
use anyhow::{Context, Result, bail, ensure};
use std::collections::HashMap;

/// Adds to a forward graph of one output `[rows, classes]` its loss and gradients.
///
/// The result's inputs are those of `forward`, then the labels (`i32 [rows]`); its outputs are the
/// loss summed over the rows `[1]`, the count of right rows `[1]`, and the gradient of the summed loss
/// by each input that `parameters` names, in that order and of that input's shape.
///
/// # Errors
/// An op without a gradient rule, a parameter that does not reach the loss, an output of the wrong rank.
pub fn add_loss_and_gradients(
    forward: &TypedModel,
    parameters: &[String],
    loss: LossFunction,
) -> Result<TypedModel> {
    let mut backward = Backward { model: TypedModel::default(), gradients: HashMap::new() };
    let mut copies: HashMap<OutletId, OutletId> = HashMap::new();
    let order = forward.eval_order()?;
    for outlet in forward.input_outlets()? {
        let node = forward.node(outlet.node);
        let copy = backward.model.add_source(&node.name, node.outputs[0].fact.clone())?;
        copies.insert(*outlet, copy);
    }
    let mut nodes = vec![];
    for id in order {
        let node = forward.node(id);
        if node.op_is::<TypedSource>() {
            continue;
        }
        if let Some(kept) = neutral_product(forward, node)? {
            copies.insert(id.into(), copies[&kept]);
            continue;
        }
        let inputs: TVec<OutletId> = node.inputs.iter().map(|i| copies[i]).collect();
        let outputs = backward.model.wire_node(&node.name, node.op.clone(), &inputs)?;
        for (slot, outlet) in outputs.iter().enumerate() {
            copies.insert(OutletId::new(id, slot), *outlet);
        }
        nodes.push(outputs[0].node);
    }
    let &[output] = forward.output_outlets()? else {
        bail!("a model with one output can be trained")
    };
    let scores = scores_of_loss(&backward.model, copies[&output], loss)?;
    let fact = backward.model.outlet_fact(scores)?;
    ensure!(fact.rank() == 2, "the model's output must be [rows, classes], not {:?}", fact.shape);
    let labels = TypedFact::dt_shape(DatumType::I32, [fact.shape[0].clone()]);
    let labels = backward.model.add_source("labels", labels)?;
    let ends = backward.model.wire_node("loss", LossWithGradient(loss), &[scores, labels])?;
    backward.gradients.insert(scores, ends[LossWithGradient::GRADIENT]);

    for &id in nodes.iter().rev() {
        let node = backward.model.node(id).clone();
        if let Some(&gradient) = backward.gradients.get(&OutletId::new(id, 0)) {
            backward
                .pass_back(&node, gradient)
                .with_context(|| format!("the gradient of '{}' ({})", node.name, node.op.name()))?;
        }
    }
    let mut outputs = vec![ends[LossWithGradient::LOSS], ends[LossWithGradient::CORRECT]];
    for parameter in parameters {
        let source = backward.model.node_by_name(parameter)?.id.into();
        let gradient = backward.gradients.get(&source);
        outputs.push(*gradient.with_context(|| format!("'{parameter}' does not reach the loss"))?);
    }
    backward.model.select_output_outlets(&outputs)?;
    Ok(backward.model)
}

/// What the loss looks at: the logits below a final softmax, or the output itself.
fn scores_of_loss(model: &TypedModel, output: OutletId, loss: LossFunction) -> Result<OutletId> {
    let node = model.node(output.node);
    let softmax = node.op_as::<Softmax>().filter(|s| s.kind == SoftmaxKind::Softmax);
    match (loss, softmax) {
        (LossFunction::SoftmaxCrossEntropy, Some(softmax)) => {
            ensure!(softmax.axes.as_slice() == [1], "the last softmax must be over the classes");
            Ok(node.inputs[0])
        }
        _ => Ok(output),
    }
}

/// The operand that a product with ones leaves as it is (Gemm's alpha and beta).
fn neutral_product(model: &TypedModel, node: &TypedNode) -> Result<Option<OutletId>> {
    if !node.op_as::<TypedBinOp>().is_some_and(|op| op.0.is::<math::Mul>()) {
        return Ok(None);
    }
    for (one, kept) in [(0, 1), (1, 0)] {
        let fact = model.outlet_fact(node.inputs[one])?;
        let ones = fact
            .konst
            .as_ref()
            .and_then(|k| k.as_uniform())
            .is_some_and(|u| u.cast_to_scalar::<f32>().is_ok_and(|v| v == 1.0));
        if ones && model.outlet_fact(node.inputs[kept])?.shape == node.outputs[0].fact.shape {
            return Ok(Some(node.inputs[kept]));
        }
    }
    Ok(None)
}

struct Backward {
    model: TypedModel,
    gradients: HashMap<OutletId, OutletId>,
}

impl Backward {
    fn wire(&mut self, op: impl Into<Box<dyn TypedOp>>, inputs: &[OutletId]) -> Result<OutletId> {
        let name = format!("gradient.{}", self.model.nodes.len());
        Ok(self.model.wire_node(name, op.into(), inputs)?[0])
    }

    fn shape(&self, outlet: OutletId) -> Result<TVec<TDim>> {
        Ok(self.model.outlet_fact(outlet)?.shape.to_tvec())
    }

    fn scalar(&mut self, value: f32, like: OutletId) -> Result<OutletId> {
        let rank = self.model.outlet_fact(like)?.rank();
        let name = format!("gradient.{}", self.model.nodes.len());
        let value = tensor0(value).broadcast_into_rank(rank)?.into_arc_tensor();
        Ok(self.model.add_const(name, value)?)
    }

    fn is_constant(&self, outlet: OutletId) -> bool {
        self.model.node(outlet.node).op_is::<Const>()
    }

    fn mul(&mut self, a: OutletId, b: OutletId) -> Result<OutletId> {
        self.wire(math::mul(), &[a, b])
    }

    fn neg(&mut self, a: OutletId) -> Result<OutletId> {
        self.wire(math::neg(), &[a])
    }

    /// Adds `gradient` to what `outlet` has received, summed over the axes along which it was broadcast.
    fn give(&mut self, outlet: OutletId, gradient: OutletId) -> Result<()> {
        if self.is_constant(outlet) {
            return Ok(());
        }
        let (to, from) = (self.shape(outlet)?, self.shape(gradient)?);
        let axes: TVec<usize> = (0..to.len()).filter(|&i| to[i] != from[i]).collect();
        let gradient = match axes.is_empty() {
            true => gradient,
            false => self.wire(Reduce::new(axes, Reducer::Sum), &[gradient])?,
        };
        let total = match self.gradients.get(&outlet) {
            Some(&sum) => self.wire(math::add(), &[sum, gradient])?,
            None => gradient,
        };
        self.gradients.insert(outlet, total);
        Ok(())
    }

    /// The rule table: `gradient` is that of the loss by `node`'s result.
    fn pass_back(&mut self, node: &TypedNode, gradient: OutletId) -> Result<()> {
        let y = OutletId::new(node.id, 0);
        let op = &node.op;
        if node.op_is::<Const>() {
            Ok(())
        } else if let Some(TypedBinOp(op, None)) = op.downcast_ref::<TypedBinOp>() {
            let (a, b) = (node.inputs[0], node.inputs[1]);
            if op.is::<math::Add>() {
                self.give(a, gradient)?;
                self.give(b, gradient)
            } else if op.is::<math::Sub>() {
                self.give(a, gradient)?;
                let negative = self.neg(gradient)?;
                self.give(b, negative)
            } else if op.is::<math::Mul>() {
                let by_a = self.mul(gradient, b)?;
                self.give(a, by_a)?;
                let by_b = self.mul(gradient, a)?;
                self.give(b, by_b)
            } else if op.is::<math::Div>() {
                let by_a = self.wire(math::div(), &[gradient, b])?;
                self.give(a, by_a)?;
                let by_b = self.mul(by_a, y)?;
                let by_b = self.neg(by_b)?;
                self.give(b, by_b)
            } else if op.is::<math::Max>() || op.is::<math::Min>() {
                self.pass_back_extremum(a, b, y, gradient, op.is::<math::Max>())
            } else {
                bail!("no gradient rule for {}", op.name())
            }
        } else if let Some(ElementWiseOp(op, None)) = op.downcast_ref::<ElementWiseOp>() {
            let x = node.inputs[0];
            let by_x = self.elementwise(op.as_ref(), x, y, gradient)?;
            self.give(x, by_x)
        } else if let Some(op) = op.downcast_ref::<EinSum>() {
            self.pass_back_einsum(op, node, gradient)
        } else if let Some(op) = op.downcast_ref::<AxisOp>() {
            let by_x = self.wire(op.recip(), &[gradient])?;
            self.give(node.inputs[0], by_x)
        } else if let Some(op) = op.downcast_ref::<Reduce>() {
            ensure!(op.reducer == Reducer::Sum, "no gradient rule for {:?}", op.reducer);
            let shape = self.shape(node.inputs[0])?;
            let by_x = self.wire(MultiBroadcastTo { shape: shape.into() }, &[gradient])?;
            self.give(node.inputs[0], by_x)
        } else if node.op_is::<MultiBroadcastTo>() {
            let rank = self.shape(node.inputs[0])?.len();
            let new_axes: TVec<usize> = (0..self.shape(gradient)?.len() - rank).collect();
            let mut by_x = gradient;
            if !new_axes.is_empty() {
                by_x = self.wire(Reduce::new(new_axes.clone(), Reducer::Sum), &[by_x])?;
            }
            for _ in new_axes {
                by_x = self.wire(AxisOp::Rm(0), &[by_x])?;
            }
            self.give(node.inputs[0], by_x)
        } else if let Some(op) = op.downcast_ref::<Softmax>() {
            let weighted = match op.kind {
                SoftmaxKind::Softmax => self.mul(gradient, y)?,
                SoftmaxKind::LogSoftmax => gradient,
            };
            let sum = self.wire(Reduce::new(op.axes.clone(), Reducer::Sum), &[weighted])?;
            let by_x = match op.kind {
                SoftmaxKind::Softmax => {
                    let centred = self.wire(math::sub(), &[gradient, sum])?;
                    self.mul(y, centred)?
                }
                SoftmaxKind::LogSoftmax => {
                    let probability = self.wire(math::exp(), &[y])?;
                    let share = self.mul(probability, sum)?;
                    self.wire(math::sub(), &[gradient, share])?
                }
            };
            self.give(node.inputs[0], by_x)
        } else {
            bail!("no gradient rule for {}", op.name())
        }
    }

    fn pass_back_extremum(
        &mut self,
        a: OutletId,
        b: OutletId,
        y: OutletId,
        gradient: OutletId,
        is_max: bool,
    ) -> Result<()> {
        for (x, bound) in [(a, b), (b, a)] {
            let zero = self.model.outlet_fact(bound)?.konst.as_ref();
            let zero = zero.is_some_and(|k| k.is_all_zero().unwrap_or(false));
            if is_max && zero && self.shape(x)? == self.shape(y)? {
                let relu = ActivationGradient(Activation::Relu);
                let by_x = self.wire(relu, &[gradient, y])?;
                return self.give(x, by_x);
            }
        }
        for (x, other) in [(a, b), (b, a)] {
            if self.is_constant(x) {
                continue;
            }
            let [greater, less] = if is_max { [x, other] } else { [other, x] };
            let wins = TypedBinOp(logic::comp_gt(), None);
            let wins = self.wire(wins, &[greater, less])?;
            let wins = self.wire(cast(DatumType::F32), &[wins])?;
            let by_x = self.mul(gradient, wins)?;
            self.give(x, by_x)?;
        }
        Ok(())
    }

    fn elementwise(
        &mut self,
        op: &dyn ElementWiseMiniOp,
        x: OutletId,
        y: OutletId,
        gradient: OutletId,
    ) -> Result<OutletId> {
        if op.is::<nn::Sigmoid>() {
            self.wire(ActivationGradient(Activation::Sigmoid), &[gradient, y])
        } else if op.is::<math::Tanh>() {
            self.wire(ActivationGradient(Activation::Tanh), &[gradient, y])
        } else if op.is::<math::Exp>() {
            self.mul(gradient, y)
        } else if op.is::<math::Ln>() {
            self.wire(math::div(), &[gradient, x])
        } else if op.is::<math::Neg>() {
            self.neg(gradient)
        } else if op.is::<math::Abs>() {
            let sign = self.wire(math::sign(), &[x])?;
            self.mul(gradient, sign)
        } else if op.is::<math::Square>() {
            let two = self.scalar(2.0, x)?;
            let twice = self.mul(x, two)?;
            self.mul(gradient, twice)
        } else if op.is::<math::Sqrt>() {
            let half = self.scalar(0.5, y)?;
            let half = self.mul(gradient, half)?;
            self.wire(math::div(), &[half, y])
        } else if op.is::<math::Recip>() {
            let square = self.mul(y, y)?;
            let product = self.mul(gradient, square)?;
            self.neg(product)
        } else if op.is::<math::Rsqrt>() {
            let cube = self.mul(y, y)?;
            let cube = self.mul(cube, y)?;
            let minus_half = self.scalar(-0.5, y)?;
            let product = self.mul(gradient, cube)?;
            self.mul(product, minus_half)
        } else {
            bail!("no gradient rule for {}", op.name())
        }
    }

    /// For `a,b->y`: by a it is `y,b->a`, by b `y,a->b`.
    fn pass_back_einsum(
        &mut self,
        op: &EinSum,
        node: &TypedNode,
        gradient: OutletId,
    ) -> Result<()> {
        let text = op.axes.to_string();
        let parts = text.split_once("->").and_then(|(ins, out)| Some((ins.split_once(',')?, out)));
        let ((left, right), out) = parts.with_context(|| format!("einsum {text}"))?;
        ensure!(node.inputs.len() == 2 && op.q_params.is_none(), "einsum {text}");
        let alone =
            |own: &str, other: &str| own.chars().any(|c| !other.contains(c) && !out.contains(c));
        ensure!(
            !alone(left, right) && !alone(right, left),
            "einsum {text} sums an axis of one operand"
        );
        for (own, other, axes) in [(0, 1, [right, left]), (1, 0, [left, right])] {
            if self.is_constant(node.inputs[own]) {
                continue;
            }
            let expression = format!("{out},{}->{}", axes[0], axes[1]);
            let einsum = EinSum::new(expression.parse()?, DatumType::F32);
            let by_own = self.wire(einsum, &[gradient, node.inputs[other]])?;
            self.give(node.inputs[own], by_own)?;
        }
        Ok(())
    }
}

/// Turns the gradients of [`add_loss_and_gradients`] into one step of plain gradient descent:
/// instead of each gradient `g` the graph gives `parameter + alpha · g`, computed in place where the
/// caller shares the parameter with nobody.
pub fn add_sgd_update(graph: &TypedModel, parameters: &[String], alpha: f32) -> Result<TypedModel> {
    let mut stepped = Backward { model: graph.clone(), gradients: HashMap::new() };
    let mut outputs = graph.output_outlets()?.to_vec();
    ensure!(outputs.len() == parameters.len() + 2, "a gradient for each parameter is needed");
    for (name, output) in parameters.iter().zip(&mut outputs[2..]) {
        let parameter: OutletId = graph.node_by_name(name)?.id.into();
        let node = graph.node(output.node);
        *output = match node.op_as::<EinSum>().map(|op| op.axes.to_string()) {
            Some(axes) if axes_are_outer_products(&axes) => {
                let [gradient, input] = [node.inputs[0], node.inputs[1]];
                stepped.wire(SgdUpdate { alpha }, &[parameter, input, gradient])?
            }
            _ => {
                let alpha = stepped.scalar(alpha, *output)?;
                let scaled = stepped.mul(*output, alpha)?;
                stepped.wire(math::add(), &[parameter, scaled])?
            }
        };
    }
    stepped.model.select_output_outlets(&outputs)?;
    Ok(stepped.model)
}

/// `rn,rm->mn`: for each row of a batch the product of an input with a gradient, summed.
fn axes_are_outer_products(axes: &str) -> bool {
    let axes: Vec<char> = axes.chars().collect();
    let &[r, n, ',', r2, m, '-', '>', m2, n2] = axes.as_slice() else { return false };
    (r, n, m) == (r2, n2, m2) && r != n && n != m && r != m
}

#[cfg(test)]
mod tests;
