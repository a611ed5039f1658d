//! tract's optimizer, with care for constants that lie in files and for memory.

use super::mapped::MappedConst;
use super::*;
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
pub fn optimize(model: &mut TypedModel) -> TractResult<()> {
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
    optimizer
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
        self.made = 0;
        self.pass.reset()
    }

    fn next(
        &mut self,
        session: &mut OptimizerSession,
        model: &TypedModel,
    ) -> TractResult<Option<TypedModelPatch>> {
        const PART: usize = 8 << 20;
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
