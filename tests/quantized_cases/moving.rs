//! Ops that move or pick integers and do not look at what they stand for; and those of one scale.

use super::*;
use mlctl::graph::{Activation, BinaryOp, MirrorMode, ReduceOp};

pub fn add(cases: &mut Vec<Case>) {
    for element in [ElementType::I8, ElementType::U8, ElementType::I16] {
        add_moves(cases, element);
        add_picks(cases, element);
    }
    add_concatenation_of_scales(cases);
}

fn add_moves(cases: &mut Vec<Case>, element: ElementType) {
    let x = super::activation(&[2, 4, 6, 4], element);
    let sixteen = element == ElementType::I16;
    let mut add = |name: &str, op: LiteOp, rest: Vec<Operand>, shapes: &[&[usize]]| {
        let mut operands = vec![Operand::Given(x.clone())];
        operands.extend(rest);
        let results =
            shapes.iter().map(|s| Ending { shape: s.to_vec(), ..x.as_ending() }).collect();
        let (name, expected) = (format!("{name} {element}"), Expected::AsPlain);
        cases.push(Case { name, op, operands, results, expected });
    };
    add("reshape", LiteOp::Reshape, vec![indices(&[8, 24])], &[&[8, 24]]);
    add("transpose", LiteOp::Transpose, vec![indices(&[0, 3, 1, 2])], &[&[2, 4, 4, 6]]);
    add("expand dims", LiteOp::ExpandDims, vec![index(1)], &[&[2, 1, 4, 6, 4]]);
    add(
        "slice",
        LiteOp::Slice,
        vec![indices(&[0, 1, 2, 0]), indices(&[2, 2, -1, 3])],
        &[&[2, 2, 4, 3]],
    );
    let strided = LiteOp::StridedSlice {
        begin_mask: 0,
        end_mask: 0,
        shrink_axis_mask: 0,
        new_axis_mask: 0,
        ellipsis_mask: 0,
    };
    let bounds = vec![indices(&[0, 0, 1, 0]), indices(&[2, 4, 6, 4]), indices(&[1, 2, 2, 1])];
    add("strided slice", strided, bounds, &[&[2, 2, 3, 4]]);
    add("unpack", LiteOp::Unpack { axis: 1 }, vec![], &[&[2, 6, 4][..]; 4]);
    let sizes = vec![indices(&[1, 3, 2]), index(2)];
    if !sixteen {
        add("split v", LiteOp::SplitV, sizes, &[&[2, 4, 1, 4], &[2, 4, 3, 4], &[2, 4, 2, 4]]);
        add("depth to space", LiteOp::DepthToSpace { block: 2 }, vec![], &[&[2, 8, 12, 1]]);
        add("space to depth", LiteOp::SpaceToDepth { block: 2 }, vec![], &[&[2, 2, 3, 16]]);
        add("tile", LiteOp::Tile, vec![indices(&[1, 2, 1, 3])], &[&[2, 8, 6, 12]]);
        add("reverse", LiteOp::Reverse, vec![indices(&[1])], &[&[2, 4, 6, 4]]);
        add(
            "mirror pad",
            LiteOp::MirrorPad { mode: MirrorMode::Reflect },
            vec![paddings()],
            &[&[2, 7, 8, 4]],
        );
        add("top k", LiteOp::Reshape, vec![indices(&[8, 24])], &[&[8, 24]]);
    }
    add(
        "gather",
        LiteOp::Gather { axis: 2, batch_dims: 0 },
        vec![indices(&[5, 0, 0])],
        &[&[2, 4, 3, 4]],
    );
    let half_pixel_centers = true;
    let nearest = LiteOp::ResizeNearest { align_corners: false, half_pixel_centers };
    add("nearest", nearest, vec![indices(&[8, 9])], &[&[2, 8, 9, 4]]);

    // PAD fills with the zero point
    let zero = usual(element).1;
    let padded = Ending { shape: vec![2, 7, 8, 4], ..x.as_ending() };
    let mut expected = vec![];
    for (b, i) in (0..2).flat_map(|b| (0..7).map(move |i| (b, i))) {
        for (j, c) in (0..8).flat_map(|j| (0..4).map(move |c| (j, c))) {
            let inside = (2..6).contains(&i) && (1..7).contains(&j);
            expected.push(if inside {
                x.integers[((b * 4 + i - 2) * 6 + j - 1) * 4 + c]
            } else {
                zero
            });
        }
    }
    let operands = vec![Operand::Given(x.clone()), paddings()];
    let expected = Expected::Exactly(expected);
    let results = vec![padded];
    cases.push(Case {
        name: format!("pad {element}"),
        op: LiteOp::Pad,
        operands,
        results,
        expected,
    });
}

fn paddings() -> Operand {
    let integers = vec![0, 0, 2, 1, 1, 1, 0, 0];
    let (shape, element) = (vec![4, 2], ElementType::I32);
    Operand::Constant(Values { shape, element, quantization: None, integers })
}

fn add_picks(cases: &mut Vec<Case>, element: ElementType) {
    let (step, zero_point) = usual(element);
    let x = varied(&[3, 8], element, step, zero_point);
    let y = Values { integers: integers(24, range(element).0, range(element).1, 77), ..x.clone() };
    let mut add = |name: &str, op: LiteOp, operands: Vec<Operand>, results: Vec<Ending>| {
        let (name, expected) = (format!("{name} {element}"), Expected::AsPlain);
        cases.push(Case { name, op, operands, results, expected });
    };
    let ending = |shape: &[usize]| Ending { shape: shape.to_vec(), ..x.as_ending() };
    for op in [BinaryOp::Maximum, BinaryOp::Minimum] {
        let operands = vec![Operand::Given(x.clone()), Operand::Given(y.clone())];
        let node = LiteOp::Binary { op, activation: Activation::None };
        add(op.name(), node, operands, vec![ending(&[3, 8])]);
    }
    for op in [ReduceOp::Max, ReduceOp::Min] {
        let operands = vec![Operand::Given(x.clone()), indices(&[1])];
        let node = LiteOp::Reduce { op, keep_dims: false };
        add(op.name(), node, operands, vec![ending(&[3])]);
    }
    let pair = || vec![Operand::Given(x.clone()), Operand::Given(y.clone())];
    let activation = Activation::None;
    add(
        "concatenation",
        LiteOp::Concatenation { axis: 1, activation },
        pair(),
        vec![ending(&[3, 16])],
    );
    add("pack", LiteOp::Pack { axis: 1 }, pair(), vec![ending(&[3, 2, 8])]);
    let condition = Values {
        shape: vec![3, 8],
        element: ElementType::Bool,
        quantization: None,
        integers: integers(24, 0, 1, 4),
    };
    let mut operands = vec![Operand::Given(condition)];
    operands.extend(pair());
    add("select", LiteOp::Select, operands, vec![ending(&[3, 8])]);
    let places = Values {
        shape: vec![2, 2],
        element: ElementType::I32,
        quantization: None,
        integers: vec![2, 7, 0, 1],
    };
    let operands = vec![Operand::Given(x.clone()), Operand::Constant(places)];
    add("gather nd", LiteOp::GatherNd, operands, vec![ending(&[2])]);
    if element != ElementType::I16 {
        let element = ElementType::I32;
        let found = Ending { shape: vec![3], element, quantization: None };
        for op in [LiteOp::ArgMax { element }, LiteOp::ArgMin { element }] {
            let name = op.name().to_string();
            add(&name, op, vec![Operand::Given(x.clone()), index(1)], vec![found.clone()]);
        }
        let places = Ending { shape: vec![3, 2], element, quantization: None };
        let operands = vec![Operand::Given(x.clone()), index(2)];
        add("top 2", LiteOp::TopK, operands, vec![ending(&[3, 2]), places]);
        let operands = vec![index(1), Operand::Given(x.clone())];
        add("split", LiteOp::Split, operands, vec![ending(&[3, 4]); 2]);
    }
}

/// Only uint8's kernel brings parts to the scale of the result.
fn add_concatenation_of_scales(cases: &mut Vec<Case>) {
    let x = varied(&[3, 8], ElementType::U8, 0.05, 121);
    let y = varied(&[3, 8], ElementType::U8, 0.02, 30);
    let (a, b) = (x.reals(), y.reals());
    let rows = a.chunks(8).zip(b.chunks(8));
    let reals: Vec<f64> = rows.flat_map(|(a, b)| [a, b].concat()).collect();
    let result =
        Ending { shape: vec![3, 16], element: ElementType::U8, quantization: scale(0.05, 121) };
    let op = LiteOp::Concatenation { axis: 1, activation: Activation::None };
    let operands = vec![Operand::Given(x), Operand::Given(y)];
    add_case(cases, "concatenation of scales", op, operands, result, reals);
}
