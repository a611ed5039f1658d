//! Ops that tell which elements or boxes: WHERE, NON_MAX_SUPPRESSION_V4. How many is known at run time only.

use super::compose::Chain;
use super::*;
use crate::graph::{Activation, BinaryOp, ReduceOp, UnaryOp};
use crate::tract::typed_ops::BestBoxes;
use crate::tract::{NonMaxSuppression, NonZero, non_max_suppression::BoxRepr};
use anyhow::bail;

pub fn lower(ctx: &mut LowerContext, node: &TypedNode) -> Result<Option<()>> {
    if node.op_is::<NonZero>() {
        lower_non_zero(ctx, node).map(Some)
    } else if let Some(op) = node.op_as::<NonMaxSuppression>() {
        lower_non_max_suppression(ctx, node, op).map(Some)
    } else {
        Ok(None)
    }
}

/// WHERE lists coordinates by rows, NonZero by columns.
fn lower_non_zero(ctx: &mut LowerContext, node: &TypedNode) -> Result<()> {
    let shape = ctx.shape(node.inputs[0])?;
    ensure!(!shape.is_empty(), "the places in a scalar; Unsqueeze it first");
    let element = match ctx.element(node.inputs[0])? {
        ElementType::Bool => ElementType::Bool,
        ElementType::F32 | ElementType::F16 => ElementType::F32,
        ElementType::I64 => ElementType::I64,
        ElementType::I8 | ElementType::U8 | ElementType::I16 | ElementType::I32 => ElementType::I32,
        element => return Err(refusal::of_type("NonZero", element)),
    };
    let mut condition = ctx.tensor_as(node.inputs[0], element)?;
    if element != ElementType::Bool {
        let mut chain = Chain::new(ctx, &format!("{}/condition", node.name), element, &shape);
        let zero = chain.scalar(0.0)?;
        condition = chain.compare(BinaryOp::NotEqual, condition, zero);
    }
    let result = ctx.shape(OutletId::new(node.id, 0))?;
    let rows = [result[1].clone(), result[0].clone()];
    let name = format!("{}/rows", node.name);
    let places = ctx.emit(&name, LiteOp::Where, &[condition], ElementType::I64, &rows);
    let places = ctx.transpose(&node.name, places, &rows, &[1, 0]);
    ctx.bind(node, places);
    Ok(())
}

/// Of how many (batch, class) pairs a suppression is spelled out.
const MAX_PAIRS: usize = 256;

/// LiteRT selects among the boxes of one class, leaves the order of equal scores open, and drops a box whose
/// overlap equals the threshold. So boxes come sorted, with their ranks for scores, and the threshold is the
/// next larger number. A selected box is coded as `(batch · classes + class) · boxes + box`.
fn lower_non_max_suppression(
    ctx: &mut LowerContext,
    node: &TypedNode,
    op: &NonMaxSuppression,
) -> Result<()> {
    let &[batches, classes, count] = ctx.known_shape(node.inputs[1])?.as_slice() else {
        bail!("scores of another rank than 3")
    };
    ensure!(
        batches * classes <= MAX_PAIRS,
        refusal::too_large(format!("{batches} batches of {classes} classes"))
    );
    ensure!(
        batches * classes > 0 && count > 0,
        "no boxes to select from; leave the op out of the graph"
    );
    let fits = batches.checked_mul(classes).and_then(|n| n.checked_mul(count));
    let fits = fits.is_some_and(|n| n <= 1 << 24) && count <= 1 << 20;
    ensure!(fits, refusal::too_large(format!("{count} boxes of {classes} classes")));
    let overlap = ctx.constant(node.inputs[3]);
    let overlap = overlap.ok_or_else(|| refusal::computed("an overlap threshold"))?;
    let overlap = overlap.cast_to_scalar::<f32>()?;
    ensure!(
        (0.0..1.0).contains(&overlap),
        "an overlap threshold of {overlap}; 0 to below 1 can be"
    );
    let above = f32::from_bits(overlap.to_bits() + 1).max(f32::MIN_POSITIVE);

    let name = node.name.as_str();
    let most = match ctx.constant(node.inputs[2]).cloned() {
        Some(most) => {
            let most = most.cast_to_scalar::<i64>()?;
            ensure!(
                most > 0,
                "at most {most} boxes of a class, which selects none; leave the op out of the graph"
            );
            let most = i32::try_from(most.min(count as i64))?;
            ctx.add_i32_tensor(&format!("{name}/most"), &[], &[most])
        }
        None => {
            let given = ctx.tensor_as(node.inputs[2], ElementType::I32)?;
            let from = ctx.shape(node.inputs[2])?;
            let given = ctx.reshape(&format!("{name}/most"), given, &from, &[])?;
            let all = ctx.add_i32_tensor(&format!("{name}/all"), &[], &[count as i32]);
            let mut chain = Chain::new(ctx, &format!("{name}/most"), ElementType::I32, &[]);
            chain.binary(BinaryOp::Minimum, given, all)
        }
    };
    let threshold = match op.has_score_threshold {
        true => Some(ctx.tensor_as(node.inputs[4], ElementType::F32)?),
        false => None,
    };
    let corners = corners(ctx, node, op.center_point_box, batches, count)?;
    let scores = ctx.tensor_as(node.inputs[1], ElementType::F32)?;
    let ranks: Vec<f32> = (1..=count).rev().map(|rank| rank as f32).collect();
    let shared = Shared {
        count,
        most,
        threshold,
        above: ctx.add_scalar(&format!("{name}/overlap"), above, ElementType::F32)?,
        ranks: ctx.add_constant(&format!("{name}/ranks"), &tract::tensor1(&ranks))?,
    };
    let mut codes = vec![];
    for batch in 0..batches {
        let boxes = part(ctx, name, corners, [batch, 0, 0], &[1, count, 4], &[count, 4])?;
        for class in 0..classes {
            let scores = part(ctx, name, scores, [batch, class, 0], &[1, 1, count], &[count])?;
            let first = (batch * classes + class) * count;
            codes.push(select_boxes(ctx, name, &shared, boxes, scores, first)?);
        }
    }
    let selected = ctx.shape(OutletId::new(node.id, 0))?;
    let all = selected[..1].to_vec();
    let codes = match codes.as_slice() {
        &[only] => only,
        several => {
            let op = LiteOp::Concatenation { axis: 0, activation: Activation::None };
            ctx.emit(&format!("{name}/codes"), op, several, ElementType::I32, &all)
        }
    };
    let mut chain = Chain::new(ctx, &format!("{name}/place"), ElementType::I32, &all);
    let count = chain.ctx.add_i32_tensor(name, &[], &[i32::try_from(count)?]);
    let classes = chain.ctx.add_i32_tensor(name, &[], &[i32::try_from(classes)?]);
    let index = chain.binary(BinaryOp::FloorMod, codes, count);
    let pair = chain.binary(BinaryOp::FloorDiv, codes, count);
    let class = chain.binary(BinaryOp::FloorMod, pair, classes);
    let batch = chain.binary(BinaryOp::FloorDiv, pair, classes);
    let rows = [batch, class, index];
    let op = LiteOp::Pack { axis: 1 };
    let rows = ctx.emit(&format!("{name}/rows"), op, &rows, ElementType::I32, &selected);
    let result = ctx.cast(name, rows, ElementType::I64);
    ctx.bind(node, result);
    Ok(())
}

/// What the suppressions of all classes share.
struct Shared {
    count: usize,
    most: TensorId,
    threshold: Option<TensorId>,
    above: TensorId,
    ranks: TensorId,
}

/// The codes, from `first` on, of the boxes (n × 4) that are selected by their `scores` (n).
fn select_boxes(
    ctx: &mut LowerContext,
    name: &str,
    shared: &Shared,
    boxes: TensorId,
    scores: TensorId,
    first: usize,
) -> Result<TensorId> {
    let n = [TDim::from(shared.count)];
    let k = ctx.add_i32_tensor(&format!("{name}/k"), &[], &[i32::try_from(shared.count)?]);
    let results = [
        (format!("{name}/sorted"), ElementType::F32, n.to_vec()),
        (format!("{name}/order"), ElementType::I32, n.to_vec()),
    ];
    let sorted = ctx.emit_several(LiteOp::TopK, &[scores, k], &results);
    let gather = LiteOp::Gather { axis: 0, batch_dims: 0 };
    let inputs = [boxes, sorted[1]];
    let shape = [n[0].clone(), TDim::from(4)];
    let boxes =
        ctx.emit(&format!("{name}/boxes"), gather.clone(), &inputs, ElementType::F32, &shape);
    let mut chain = Chain::new(ctx, &format!("{name}/rank"), ElementType::F32, &n);
    let ranks = match shared.threshold {
        None => shared.ranks,
        Some(threshold) => {
            let counts = chain.compare(BinaryOp::Greater, sorted[0], threshold);
            let none = chain.scalar(-1.0)?;
            chain.select(counts, shared.ranks, none)
        }
    };
    let zero = chain.scalar(0.0)?;
    let most = ctx.graph.tensors[shared.most].i32_values();
    let most = match most.as_deref() {
        Some(&[most]) => TDim::from(most),
        _ => ctx.model.symbols.new_with_prefix("most").into(),
    };
    let results = [
        (format!("{name}/padded"), ElementType::I32, vec![most]),
        (format!("{name}/count"), ElementType::I32, vec![]),
    ];
    let inputs = [boxes, ranks, shared.most, shared.above, zero];
    let best = ctx.emit_several(LiteOp::NonMaxSuppression, &inputs, &results);
    let size = ctx.reshape(&format!("{name}/count"), best[1], &[], &[TDim::from(1)])?;
    let begin = ctx.add_i32_constant(&format!("{name}/begin"), &[0]);
    let selected = [ctx.model.symbols.new_with_prefix("selected").into()];
    let inputs = [best[0], begin, size];
    let best =
        ctx.emit(&format!("{name}/best"), LiteOp::Slice, &inputs, ElementType::I32, &selected);
    let inputs = [sorted[1], best];
    let index = ctx.emit(&format!("{name}/index"), gather, &inputs, ElementType::I32, &selected);
    let first = ctx.add_i32_tensor(&format!("{name}/first"), &[], &[i32::try_from(first)?]);
    let mut chain = Chain::new(ctx, &format!("{name}/code"), ElementType::I32, &selected);
    Ok(chain.binary(BinaryOp::Add, index, first))
}

/// The boxes as two opposite corners.
fn corners(
    ctx: &mut LowerContext,
    node: &TypedNode,
    form: BoxRepr,
    batches: usize,
    count: usize,
) -> Result<TensorId> {
    let boxes = ctx.tensor_as(node.inputs[0], ElementType::F32)?;
    let name = format!("{}/corners", node.name);
    let pair = [batches, count, 2];
    let dims = [batches, count, 4].map(TDim::from);
    let first = part(ctx, &name, boxes, [0, 0, 0], &pair, &pair)?;
    let second = part(ctx, &name, boxes, [0, 0, 2], &pair, &pair)?;
    let mut chain = Chain::new(ctx, &name, ElementType::F32, &pair.map(TDim::from));
    if form == BoxRepr::TwoPoints {
        let sides = chain.binary(BinaryOp::Sub, second, first);
        return apart_without_area(ctx, &name, boxes, sides, &dims);
    }
    // a box of negative size overlaps with none
    let size = chain.unary(UnaryOp::Relu, second);
    let half = chain.scalar(0.5)?;
    let half = chain.binary(BinaryOp::Mul, size, half);
    let low = chain.binary(BinaryOp::Sub, first, half);
    let high = chain.binary(BinaryOp::Add, first, half);
    let sides = chain.binary(BinaryOp::Sub, high, low);
    let op = LiteOp::Concatenation { axis: 2, activation: Activation::None };
    let boxes = ctx.emit(&name, op, &[low, high], ElementType::F32, &dims);
    apart_without_area(ctx, &name, boxes, sides, &dims)
}

/// From where on boxes lie that stand for those without an area, in both directions.
const FAR: f32 = (1 << 22) as f32;

/// LiteRT selects a box that does not overlap with itself again and again, so each box without a finite area
/// (which overlaps with none) becomes one by itself, far away.
fn apart_without_area(
    ctx: &mut LowerContext,
    name: &str,
    boxes: TensorId,
    sides: TensorId,
    dims: &[TDim; 3],
) -> Result<TensorId> {
    let [batches, count, _] = dims;
    let one = [batches.clone(), count.clone(), TDim::from(1)];
    let axis = ctx.add_i32_constant(&format!("{name}/axis"), &[2]);
    let product = LiteOp::Reduce { op: ReduceOp::Product, keep_dims: true };
    let area = ctx.emit(&format!("{name}/area"), product, &[sides, axis], ElementType::F32, &one);
    let mut chain = Chain::new(ctx, &format!("{name}/area"), ElementType::F32, &one);
    let area = chain.unary(UnaryOp::Abs, area);
    let (zero, largest) = (chain.scalar(0.0)?, chain.scalar(f32::MAX)?);
    let some = chain.compare(BinaryOp::Greater, area, zero);
    let finite = chain.compare(BinaryOp::LessEqual, area, largest);
    let has_area = chain.compare(BinaryOp::LogicalAnd, some, finite);
    let count = count.to_usize()?;
    let corners = |i: usize| [FAR + 2.0 * i as f32, FAR, FAR + 2.0 * i as f32 + 1.0, FAR + 1.0];
    let far: Vec<f32> = (0..count).flat_map(corners).collect();
    let far = tract::tensor1(&far).into_shape(&[1, count, 4])?;
    let far = ctx.add_constant(&format!("{name}/far"), &far)?;
    let mut chain = Chain::new(ctx, &format!("{name}/apart"), ElementType::F32, dims);
    Ok(chain.select(has_area, boxes, far))
}

/// `size` elements of a float32 `tensor` from `begin` on, as `shape`.
fn part(
    ctx: &mut LowerContext,
    name: &str,
    tensor: TensorId,
    begin: [usize; 3],
    size: &[usize],
    shape: &[usize],
) -> Result<TensorId> {
    let dims = |shape: &[usize]| shape.iter().map(|&n| TDim::from(n)).collect::<Vec<_>>();
    let name = format!("{name}/part");
    let numbers = |values: &[usize]| values.iter().map(|&v| v as i32).collect::<Vec<_>>();
    let begin = ctx.add_i32_constant(&format!("{name}/begin"), &numbers(&begin));
    let extent = ctx.add_i32_constant(&format!("{name}/size"), &numbers(size));
    let inputs = [tensor, begin, extent];
    let cut = ctx.emit(&name, LiteOp::Slice, &inputs, ElementType::F32, &dims(size));
    ctx.reshape(&name, cut, &dims(size), &dims(shape))
}

pub fn raise(ctx: &mut RaiseContext, node: &Node) -> Result<()> {
    let name = ctx.output_name(node);
    match &node.op {
        LiteOp::Where => {
            let condition = ctx.input(node, 0)?;
            let count = ctx.model.symbols.new_with_prefix("places");
            let columns = ctx.wire(name, NonZero { count }, &[condition])?;
            let rows = ctx.wire(&format!("{name}/rows"), AxisOp::Move(1, 0), &[columns])?;
            ctx.finish(node, rows)
        }
        LiteOp::NonMaxSuppression => {
            let inputs: Vec<OutletId> =
                (0..5).map(|i| ctx.input(node, i)).collect::<Result<_>>()?;
            let most = match ctx.i32_input(node, 2).ok().as_deref() {
                Some(&[most]) => TDim::from(most),
                _ => ctx.model.symbols.new_with_prefix("most").into(),
            };
            let found = ctx.wire_all(name, BestBoxes { most }, &inputs)?;
            ctx.finish_all(node, &found)
        }
        other => bail!("{} does not select", other.name()),
    }
}

pub fn read(op: &TfliteOp) -> Result<Option<LiteOp>> {
    Ok(match op.builtin {
        BuiltinOperator::WHERE => Some(LiteOp::Where),
        BuiltinOperator::NON_MAX_SUPPRESSION_V4 => Some(LiteOp::NonMaxSuppression),
        _ => None,
    })
}

pub fn write(_graph: &Subgraph, node: &Node) -> Result<TfliteOp> {
    Ok(match &node.op {
        LiteOp::Where => TfliteOp::new(BuiltinOperator::WHERE, 1, BuiltinOptions::Where),
        LiteOp::NonMaxSuppression => {
            let options = BuiltinOptions::NonMaxSuppressionV4;
            TfliteOp::new(BuiltinOperator::NON_MAX_SUPPRESSION_V4, 1, options)
        }
        other => bail!("{} does not select", other.name()),
    })
}
