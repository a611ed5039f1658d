//! tract's optimizer, with care for constants that lie in files and for memory.

use super::mapped::MappedConst;
use super::ops::einsum::EinSum;
use super::typed_ops::SameSizes;
use super::*;
use crate::format::mmap;
use std::collections::BTreeMap;
use tract_core::optim::{Optimizer, OptimizerSession, TypedPass};

/// Brings a graph to its few plain operators, as tract's own `declutter`.
pub fn declutter(model: &mut TypedModel) -> TractResult<()> {
    with_mapped_constants(Optimizer::declutter()).optimize(model)
}

/// [`declutter`] that leaves operators as the file has them, where tract would split products of a
/// concatenation and move axes for its own kernels.
pub fn declutter_to_lower(model: &mut TypedModel) -> TractResult<()> {
    let mut optimizer = Optimizer::declutter();
    optimizer.passes.retain(|pass| {
        let name = format!("{pass:?}");
        !name.starts_with("ConcatThenEinsum") && !name.starts_with("ChangeAxes")
    });
    with_mapped_constants(optimizer).optimize(model)
}

/// Chooses kernels and packs constants for them, as tract's own `optimize`, but a part at a time.
///
/// # Errors
/// The operands of a product do not fit each other.
pub fn optimize(model: &mut TypedModel) -> TractResult<()> {
    check_products(model)?;
    let mut optimizer = Optimizer::codegen();
    for pass in &mut optimizer.passes {
        if format!("{pass:?}").starts_with("PropConst") {
            *pass = Box::new(InParts { pass: pass.clone(), made: 0 });
        }
    }
    optimizer.optimize(model)
}

fn with_mapped_constants(mut optimizer: Optimizer) -> Optimizer {
    optimizer.passes.insert(0, Box::new(ReshapeMappedConstants));
    for pass in &mut optimizer.passes {
        if format!("{pass:?}").starts_with("PushSplitDown") {
            *pass = Box::new(MergeTwins);
        }
    }
    optimizer
}

/// Nodes that do the same with the same become one, but for two outputs of the graph.
///
/// tract's own pass merges a third twin into a second that it has just taken out, where the first and the third are
/// outputs: what is left reads a node without results.
#[derive(Debug, Clone)]
struct MergeTwins;

impl TypedPass for MergeTwins {
    fn reset(&mut self) -> TractResult<()> {
        Ok(())
    }

    fn next(
        &mut self,
        _session: &mut OptimizerSession,
        model: &TypedModel,
    ) -> TractResult<Option<TypedModelPatch>> {
        let mut patch = TypedModelPatch::default();
        for node in model.eval_order()? {
            for output in &model.node(node).outputs {
                let readers: Vec<usize> = output.successors.iter().map(|s| s.node).collect();
                for (place, &kept) in readers.iter().enumerate() {
                    for &twin in &readers[place + 1..] {
                        let is_output = |id: usize| model.outputs.contains(&id.into());
                        if kept == twin
                            || patch.obliterate.contains(&kept)
                            || patch.obliterate.contains(&twin)
                            || is_output(kept) && is_output(twin)
                            || !model.node(kept).same_as(model.node(twin))
                        {
                            continue;
                        }
                        for slot in 0..model.node(twin).outputs.len() {
                            let wire = patch.tap_model(model, OutletId::new(kept, slot))?;
                            patch.shunt_outside(model, OutletId::new(twin, slot), wire)?;
                            patch.obliterate(twin)?;
                        }
                    }
                }
            }
        }
        Ok(Some(patch).filter(|patch| !patch.is_empty()))
    }
}

/// New axes of a mapped constant are another shape for the same bytes: it stays in its file.
#[derive(Debug, Clone)]
struct ReshapeMappedConstants;

impl TypedPass for ReshapeMappedConstants {
    fn reset(&mut self) -> TractResult<()> {
        Ok(())
    }

    fn next(
        &mut self,
        _session: &mut OptimizerSession,
        model: &TypedModel,
    ) -> TractResult<Option<TypedModelPatch>> {
        for node in &model.nodes {
            let Some(op) = node.op_as::<AxisOp>().filter(|op| !matches!(op, AxisOp::Move(..)))
            else {
                continue;
            };
            let Some(constant) = model.node(node.inputs[0].node).op_as::<MappedConst>() else {
                continue;
            };
            let mut tensor = Tensor::clone(&constant.0);
            op.change_tensor(&mut tensor, false)?;
            let mut patch = TypedModelPatch::default();
            let constant = MappedConst(tensor.into_arc_tensor());
            let wire = patch.wire_node(&node.name, constant, &[])?[0];
            patch.shunt_outside(model, node.id.into(), wire)?;
            return Ok(Some(patch));
        }
        Ok(None)
    }
}

/// Bytes of constants.
const PART: usize = 8 << 20;

/// What tract's products do not look at: whether their operands have the same size along an axis that they share.
/// Where it is not known yet, every run looks.
fn check_products(model: &mut TypedModel) -> TractResult<()> {
    for id in 0..model.nodes.len() {
        let node = &model.nodes[id];
        let Some(product) = node.op_as::<EinSum>() else { continue };
        let facts = model.node_input_facts(id)?;
        let mut unknown: BTreeMap<(usize, usize), TVec<(usize, usize)>> = BTreeMap::new();
        for axis in product.axes.iter_all_axes() {
            let sizes = axis.inputs.iter().enumerate();
            let sizes = sizes.flat_map(|(input, axes)| axes.iter().map(move |&a| (input, a)));
            let sizes = sizes.map(|(input, a)| (input, a, &facts[input].shape[a]));
            let mut sizes = sizes.filter(|(.., size)| !size.is_one());
            let Some((first, a, size)) = sizes.next() else { continue };
            for (other, b, found) in sizes.filter(|(.., found)| *found != size) {
                ensure!(
                    size.as_i64().is_none() || found.as_i64().is_none(),
                    "'{}' multiplies {:?} by {:?}",
                    node.name,
                    facts[first].shape,
                    facts[other].shape
                );
                unknown.entry((first, other)).or_default().push((a, b));
            }
        }
        drop(facts);
        if unknown.is_empty() {
            continue;
        }
        let mut patch = TypedModelPatch::default();
        let taps = node.inputs.iter().map(|i| patch.tap_model(model, *i));
        let mut inputs = taps.collect::<TractResult<TVec<OutletId>>>()?;
        for (i, ((first, other), pairs)) in unknown.into_iter().enumerate() {
            let name = format!("{}/sizes{i}", node.name);
            let operands = [inputs[first], inputs[other]];
            inputs[first] = patch.wire_node(name, SameSizes(pairs), &operands)?[0];
        }
        let wire = patch.wire_node(&node.name, product.clone(), &inputs)?[0];
        patch.shunt_outside(model, id.into(), wire)?;
        patch.apply(model)?;
    }
    Ok(())
}

/// Ends a turn of a pass once it has made some constants, so that those they replace are dropped before
/// it goes on.
#[derive(Debug, Clone)]
struct InParts {
    pass: Box<dyn TypedPass>,
    /// Bytes of constants in this turn.
    made: usize,
}

impl TypedPass for InParts {
    fn reset(&mut self) -> TractResult<()> {
        if self.made >= PART {
            mmap::return_freed_memory();
        }
        self.made = 0;
        self.pass.reset()
    }

    fn next(
        &mut self,
        session: &mut OptimizerSession,
        model: &TypedModel,
    ) -> TractResult<Option<TypedModelPatch>> {
        if self.made >= PART {
            return Ok(None);
        }
        let patch = self.pass.next(session, model)?;
        for node in patch.iter().flat_map(|patch| &patch.model.nodes) {
            let Some(constant) = node.op_as::<ops::konst::Const>().map(|c| c.val()) else {
                continue;
            };
            self.made += match constant.is_plain() {
                true => constant.volume() * constant.datum_type().size_of(),
                // packed for a kernel: it does not tell its size
                false => PART / 8,
            };
        }
        Ok(patch)
    }

    fn run_direct(&mut self, model: &mut TypedModel) -> TractResult<bool> {
        self.pass.run_direct(model)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// x → −x three times; of the first and the third, which are outputs, only another twin may go.
    #[test]
    fn twins_of_which_two_are_outputs() -> TractResult<()> {
        let mut model = TypedModel::default();
        let x = model.add_source("x", f32::fact([2]))?;
        let negate = |model: &mut TypedModel, name: &str, of: OutletId| {
            Ok::<_, TractError>(model.wire_node(name, ops::math::neg(), &[of])?[0])
        };
        let first = negate(&mut model, "first", x)?;
        let second = negate(&mut model, "second", x)?;
        let third = negate(&mut model, "third", x)?;
        let read = model.wire_node("read", ops::math::abs(), &[second])?[0];
        let also = model.wire_node("also", ops::math::add(), &[third, read])?[0];
        model.select_output_outlets(&[first, also, third])?;
        declutter(&mut model)?;
        let found = model.into_runnable()?.run(tvec!(tensor1(&[1f32, -2.0]).into()))?;
        let expected = [[-1f32, 2.0], [0.0, 4.0], [-1.0, 2.0]];
        for (found, expected) in found.iter().zip(expected) {
            assert_eq!(found.try_as_plain_ram()?.as_slice::<f32>()?, expected);
        }
        Ok(())
    }
}
