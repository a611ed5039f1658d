//! Operators that look at their inputs before tract does: it takes on trust that there are as many axes as an
//! operator is for, and an element where it reads a number, and else reads outside of shapes and tensors.

use super::*;
use std::ops::Range;
use std::sync::OnceLock;

/// An operator, an input, and how many axes that has at least.
const RANKS: [(&str, usize, usize); 10] = [
    ("AveragePool", 0, 3),
    ("BatchNormalization", 0, 2),
    ("Conv", 0, 3),
    ("ConvInteger", 0, 3),
    ("ConvTranspose", 0, 3),
    ("GatherND", 1, 1),
    ("LpPool", 0, 3),
    ("MaxPool", 0, 3),
    ("QLinearConv", 0, 3),
    ("ScatterND", 1, 1),
];

/// Operators, and the inputs that numbers are read from.
const NUMBERS: [(&str, Range<usize>); 20] = [
    ("BlackmanWindow", 0..1),
    ("Clip", 1..3),
    ("CumProd", 1..2),
    ("CumSum", 1..2),
    ("DFT", 1..3),
    ("DequantizeLinear", 1..3),
    ("Dropout", 1..3),
    ("HammingWindow", 0..1),
    ("HannWindow", 0..1),
    ("If", 0..1),
    ("Loop", 0..2),
    ("MelWeightMatrix", 0..5),
    ("NonMaxSuppression", 2..5),
    ("OneHot", 1..2),
    ("Pad", 2..3),
    ("QuantizeLinear", 1..3),
    ("Range", 0..3),
    ("STFT", 1..4),
    ("TopK", 1..2),
    ("Trilu", 1..2),
];

/// The registry without the checks.
static UNCHECKED: OnceLock<OnnxOpRegister> = OnceLock::new();

/// Has the operators of a registry that is complete look at their inputs.
pub fn check_inputs(registry: &mut OnnxOpRegister) {
    let unchecked = UNCHECKED.get_or_init(|| registry.clone());
    let names = RANKS.iter().map(|(name, ..)| *name).chain(NUMBERS.iter().map(|(name, _)| *name));
    for name in names.filter(|name| unchecked.0.contains_key(*name)) {
        registry.insert(name, parse);
    }
}

fn parse(ctx: &ParsingContext, node: &pb::NodeProto) -> Parsed {
    let unchecked = UNCHECKED.get().context("no registry")?;
    let build = unchecked.0.get(&node.op_type).context("no such operator")?;
    let axes = window_axes(node)?;
    let (op, captured) = build(ctx, node)?;
    let name = node.op_type.as_str();
    let rank = RANKS.iter().find(|(operator, ..)| *operator == name);
    let numbers = NUMBERS.iter().find(|(operator, _)| *operator == name);
    // inputs that are left out are none for tract
    let given = (0..node.input.len()).filter(|&i| !node.input[i].is_empty());
    let is_number = |place: &usize| numbers.is_some_and(|(_, places)| places.contains(place));
    let numbers = given.enumerate().filter(|(_, i)| is_number(i)).map(|(place, _)| place).collect();
    let checked = Checked {
        op,
        operator: node.op_type.clone(),
        rank: rank.map(|&(_, place, least)| (place, least)),
        axes,
        numbers,
    };
    Ok((Box::new(checked), captured))
}

/// Over how many axes the attributes of a window go, where there are any.
fn window_axes(node: &pb::NodeProto) -> TractResult<Option<usize>> {
    let mut axes = None;
    let is_window = RANKS.iter().any(|(name, _, least)| *name == node.op_type && *least == 3);
    for attribute in node.attribute.iter().filter(|a| is_window && !a.ints.is_empty()) {
        let count = match attribute.name.as_str() {
            "kernel_shape" | "strides" | "dilations" | "output_padding" => attribute.ints.len(),
            "pads" => attribute.ints.len() / 2,
            _ => continue,
        };
        let first = *axes.get_or_insert(count);
        ensure!(first == count, "{} for {count} axes, beside others for {first}", attribute.name);
    }
    Ok(axes)
}

#[derive(Debug, Clone)]
struct Checked {
    op: Box<dyn InferenceOp>,
    operator: String,
    /// An input, and how many axes it has at least.
    rank: Option<(usize, usize)>,
    /// Of a window, behind batch and channels.
    axes: Option<usize>,
    /// The inputs that numbers are read from.
    numbers: Vec<usize>,
}

impl Checked {
    fn check_rank(&self, rank: usize) -> TractResult<()> {
        let least = self.rank.map_or(0, |(_, least)| least);
        ensure!(rank >= least, "{} of a value of rank {rank}", self.operator);
        let fits = self.axes.is_none_or(|axes| rank == axes + 2);
        let axes = self.axes.unwrap_or_default();
        ensure!(fits, "{} over {axes} axes of a value of rank {rank}", self.operator);
        Ok(())
    }

    fn check_number(&self, place: usize, has_none: bool) -> TractResult<()> {
        ensure!(
            !has_none || !self.numbers.contains(&place),
            "{} reads a number from input {place}, which may have no elements",
            self.operator
        );
        Ok(())
    }
}

impl PartialEq for Checked {
    fn eq(&self, _: &Self) -> bool {
        false
    }
}

impl Eq for Checked {}

impl Op for Checked {
    fn name(&self) -> StaticName {
        self.op.name()
    }

    tract_core::not_a_typed_op!();
}

impl EvalOp for Checked {
    fn eval(&self, ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        self.op.eval(ctx, inputs)
    }

    fn eval_out_of_plan(&self, inputs: TVec<TValue>) -> TractResult<Option<TVec<TValue>>> {
        self.op.eval_out_of_plan(inputs)
    }
}

impl InferenceOp for Checked {
    fn infer_facts(
        &mut self,
        inputs: TVec<&InferenceFact>,
        outputs: TVec<&InferenceFact>,
        observed: TVec<&InferenceFact>,
    ) -> TractResult<(TVec<InferenceFact>, TVec<InferenceFact>, TVec<InferenceFact>)> {
        let ranked = self.rank.and_then(|(place, _)| inputs.get(place));
        // a window's result has the rank of what it goes over
        let result = outputs.first().filter(|_| self.axes.is_some());
        for fact in ranked.into_iter().chain(result) {
            if let Some(rank) = fact.shape.rank().concretize() {
                self.check_rank(usize::try_from(rank)?)?;
            }
        }
        for (place, fact) in inputs.iter().enumerate() {
            let shape = fact.shape.concretize();
            self.check_number(place, shape.is_some_and(|s| s.contains(&TDim::from(0))))?;
        }
        self.op.infer_facts(inputs, outputs, observed)
    }

    fn observe_outlets(
        &self,
        model: &InferenceModel,
        node: &InferenceNode,
    ) -> TractResult<Vec<OutletId>> {
        self.op.observe_outlets(model, node)
    }

    fn nboutputs(&self) -> TractResult<usize> {
        self.op.nboutputs()
    }

    fn to_typed(
        &self,
        source: &InferenceModel,
        node: &InferenceNode,
        target: &mut TypedModel,
        mapping: &HashMap<OutletId, OutletId>,
    ) -> TractResult<TVec<OutletId>> {
        for (place, input) in node.inputs.iter().enumerate() {
            let fact = target.outlet_fact(*mapping.get(input).context("an input is missing")?)?;
            if self.rank.is_some_and(|(ranked, _)| ranked == place) {
                self.check_rank(fact.rank())?;
            }
            // an unknown size may be 0
            let some = fact.shape.iter().all(|d| d.to_i64().is_ok_and(|n| n > 0));
            self.check_number(place, !some)?;
        }
        self.op.to_typed(source, node, target, mapping)
    }

    as_op!();
}
