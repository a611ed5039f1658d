//! Ops on quantized values, alone in a graph: written as `.tflite`, read back, raised and run, against formulas in
//! float64 (within one integer) or against the same op on plain integers. LiteRT's reference kernels judge the same
//! files in `tests/interop/check_quantized_ops.py`.

mod quantized_cases;

use bytes::Bytes;
use mlctl::format::npy::{Array, Dtype, write_npz};
use mlctl::format::tflite;
use mlctl::graph::{
    Dim, ElementType, LiteOp, Model, Node, Quantization, Signature, Subgraph, Tensor,
};
use mlctl::runtime::{Plan, from_array};
use mlctl::{raise, read, write};
use quantized_cases::{Case, Expected, Operand, Values, cases, of_reals};
use std::path::Path;

fn bytes_of(values: &[i64], element: ElementType) -> Vec<u8> {
    match element {
        ElementType::I4 => {
            let nibble = |v: &i64| (*v as u8) & 15;
            let pairs = values.chunks(2);
            pairs.map(|p| nibble(&p[0]) | p.get(1).map_or(0, nibble) << 4).collect()
        }
        ElementType::I8 | ElementType::U8 | ElementType::Bool => {
            values.iter().map(|&v| v as u8).collect()
        }
        ElementType::I16 => values.iter().flat_map(|&v| (v as i16).to_le_bytes()).collect(),
        ElementType::I32 => values.iter().flat_map(|&v| (v as i32).to_le_bytes()).collect(),
        ElementType::I64 => values.iter().flat_map(|&v| v.to_le_bytes()).collect(),
        other => panic!("no integers: {other}"),
    }
}

fn dtype(element: ElementType) -> Dtype {
    match element {
        ElementType::I8 => Dtype::I8,
        ElementType::U8 => Dtype::U8,
        ElementType::I16 => Dtype::I16,
        ElementType::I32 => Dtype::I32,
        ElementType::I64 => Dtype::I64,
        ElementType::Bool => Dtype::Bool,
        ElementType::F32 => Dtype::F32,
        other => panic!("no array of {other}"),
    }
}

/// The graph of the case's op alone and its inputs' values; `plain` has int32 in place of quantized values.
fn model(case: &Case, plain: bool) -> (Model, Vec<(String, Array)>) {
    let mut graph = Subgraph { name: "main".into(), ..Subgraph::default() };
    let mut node = Node { op: case.op.clone(), inputs: vec![], outputs: vec![] };
    let mut given = vec![];
    let dims = |shape: &[usize]| shape.iter().map(|&d| Dim::Known(d)).collect::<Vec<_>>();
    let form = |values: &Values| match plain && values.quantization.is_some() {
        true => (ElementType::I32, None),
        false => (values.element, values.quantization.clone()),
    };
    for (i, operand) in case.operands.iter().enumerate() {
        let name = format!("operand{i}");
        let id = match operand {
            Operand::Absent => None,
            Operand::Given(values) => {
                let (element, quantization) = form(values);
                let data = bytes_of(&values.integers, element);
                let array = Array::new(dtype(element), values.shape.clone(), data).unwrap();
                given.push((name.clone(), array));
                let tensor = Tensor::variable(name, element, dims(&values.shape));
                let id = graph.add_tensor(Tensor { quantization, ..tensor });
                graph.inputs.push(id);
                Some(id)
            }
            Operand::Reals(shape, reals) => {
                let data: Vec<u8> = reals.iter().flat_map(|v| (*v as f32).to_le_bytes()).collect();
                given.push((name.clone(), Array::new(Dtype::F32, shape.clone(), data).unwrap()));
                let id = graph.add_tensor(Tensor::variable(name, ElementType::F32, dims(shape)));
                graph.inputs.push(id);
                Some(id)
            }
            Operand::Constant(values) => {
                let (element, quantization) = form(values);
                let data = bytes_of(&values.integers, element);
                let tensor = Tensor::constant(name, element, &values.shape, data.into());
                Some(graph.add_tensor(Tensor { quantization, ..tensor }))
            }
        };
        node.inputs.push(id);
    }
    for (i, result) in case.results.iter().enumerate() {
        let (element, quantization) = match plain && result.quantization.is_some() {
            true => (ElementType::I32, None),
            false => (result.element, result.quantization.clone()),
        };
        let tensor = Tensor::variable(format!("result{i}"), element, dims(&result.shape));
        let id = graph.add_tensor(Tensor { quantization, ..tensor });
        node.outputs.push(id);
        graph.outputs.push(id);
    }
    graph.nodes.push(node);
    for tensor in &mut graph.tensors {
        tensor.origin = Some(tensor.name.clone());
    }
    let named = |ids: &[usize]| -> Vec<(String, usize)> {
        ids.iter().map(|&i| (graph.tensors[i].name.clone(), i)).collect()
    };
    let signature = Signature {
        key: "serving_default".into(),
        subgraph: 0,
        inputs: named(&graph.inputs),
        outputs: named(&graph.outputs),
    };
    let model = Model {
        description: case.name.clone(),
        subgraphs: vec![graph],
        signatures: vec![signature],
        metadata: vec![],
    };
    (model, given)
}

fn written(model: &Model) -> Bytes {
    let mut bytes = vec![];
    write::write_tflite(model, &write::Description::default(), &mut bytes).unwrap();
    bytes.into()
}

/// What the model's outputs are, whatever their type.
fn run(model: &Model, given: &[(String, Array)]) -> Result<Vec<Vec<f64>>, String> {
    let raised = raise::raise(model).map_err(|e| format!("raising: {e:#}"))?;
    let names = |ids: &[usize]| -> Vec<String> {
        ids.iter().map(|&i| model.main().tensors[i].name.clone()).collect()
    };
    let (inputs, outputs) = (names(&model.main().inputs), names(&model.main().outputs));
    let plan = Plan::new(raised.model, &inputs, &outputs).map_err(|e| format!("plan: {e:#}"))?;
    for (port, &output) in plan.outputs().iter().zip(&model.main().outputs) {
        let declared = &model.main().tensors[output];
        if (port.element, &port.shape) != (declared.element, &declared.shape) {
            return Err(format!("a result of {} {:?}", port.element, port.shape));
        }
    }
    let tensors = given.iter().zip(&model.main().inputs).map(|((_, array), &input)| {
        from_array(array, model.main().tensors[input].element).unwrap()
    });
    let found = plan.session().unwrap().run(tensors.collect()).map_err(|e| format!("{e:#}"))?;
    let numbers = found.iter().map(|tensor| {
        let wide = tensor.cast_to::<f64>().unwrap();
        let wide = wide.try_as_plain_ram().unwrap().as_slice::<f64>().unwrap().to_vec();
        wide
    });
    Ok(numbers.collect())
}

fn check_values(case: &Case) -> Result<(), String> {
    let (model, given) = model(case, false);
    let file = tflite::Model::parse(written(&model)).map_err(|e| format!("parsing: {e}"))?;
    let back = read::lite_graph(&file).map_err(|e| format!("reading: {e:#}"))?;
    if back.subgraphs != model.subgraphs {
        return Err(format!("read back as {:#?}, not {:#?}", back.subgraphs, model.subgraphs));
    }
    let found = run(&back, &given)?;
    let expected: Vec<(Vec<f64>, f64)> = match &case.expected {
        Expected::Reals(reals) => {
            let result = &case.results[0];
            let integers = of_reals(reals, result);
            // functions of 16 bits are lines through 513 of their places, also where they leave the type
            let lines = result.element == ElementType::I16
                && matches!(case.op, LiteOp::Unary(_) | LiteOp::Softmax { .. });
            // places in 1024ths of a pixel
            let coarse = result.element == ElementType::I16
                && matches!(case.op, LiteOp::ResizeBilinear { .. });
            vec![(
                integers,
                match result.quantization {
                    Some(_) if lines => 100.0,
                    Some(_) if coarse => 120.0,
                    Some(_) => 1.0,
                    None => 1e-6,
                },
            )]
        }
        Expected::Exactly(integers) => {
            vec![(integers.iter().map(|&i| i as f64).collect(), 0.0)]
        }
        Expected::AsPlain => {
            let (plain, given) = self::model(case, true);
            run(&plain, &given)?.into_iter().map(|values| (values, 0.0)).collect()
        }
    };
    for (found, (expected, tolerance)) in found.iter().zip(&expected) {
        if found.len() != expected.len() {
            return Err(format!("{} values instead of {}", found.len(), expected.len()));
        }
        let far = |(a, b): (&f64, &f64)| (a - b).abs() > *tolerance;
        if let Some(at) = found.iter().zip(expected).position(far) {
            return Err(format!("{} at {at}, not {}", found[at], expected[at]));
        }
    }
    Ok(())
}

#[test]
fn a_quantized_op_computes_what_it_should() {
    let failures: Vec<String> = cases()
        .iter()
        .filter_map(|case| check_values(case).err().map(|e| format!("{}: {e}", case.name)))
        .collect();
    assert!(failures.is_empty(), "\n{}\n", failures.join("\n"));
}

#[test]
fn scales_that_cannot_be_meant_are_refused() {
    let cases = cases();
    let case = cases.iter().find(|case| case.name == "dense int8").unwrap();
    let (good, _) = model(case, false);
    let check = |change: &dyn Fn(&mut Subgraph), wanted: &str| {
        let mut model = good.clone();
        change(&mut model.subgraphs[0]);
        let error = raise::raise(&model).unwrap_err();
        assert!(format!("{error:#}").contains(wanted), "{error:#}");
    };
    let per_channel = |scales: Vec<f32>, axis| {
        let zero_points = vec![0; scales.len()];
        Some(Quantization::PerChannel { scales, zero_points, axis })
    };
    check(&|g| g.tensors[1].quantization = per_channel(vec![1.0; 9], 0), "9 scales");
    check(&|g| g.tensors[1].quantization = per_channel(vec![1.0; 9], 7), "9 scales");
    for scale in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        let broken = Some(Quantization::PerTensor { scale, zero_point: 0 });
        check(&|g| g.tensors[0].quantization = broken.clone(), "a scale is not above 0");
    }
    let far = Some(Quantization::PerTensor { scale: 1.0, zero_point: 1 << 40 });
    check(&|g| g.tensors[0].quantization = far.clone(), "out of range");
}

fn file_name(case: &str) -> String {
    case.chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' })
        .collect()
}

#[test]
fn names_of_cases_differ() {
    let mut names: Vec<String> = cases().iter().map(|case| file_name(&case.name)).collect();
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count);
}

/// Writes each case as NAME.tflite and NAME.npz (its inputs) for `check_quantized_ops.py`.
#[test]
fn write_quantized_op_fixtures() {
    let Some(folder) = std::env::var_os("OPS_FIXTURES_DIR") else { return };
    for case in cases() {
        let (model, arrays) = model(&case, false);
        let path = Path::new(&folder).join(file_name(&case.name));
        std::fs::write(path.with_extension("tflite"), written(&model)).unwrap();
        std::fs::write(path.with_extension("npz"), write_npz(&arrays).unwrap()).unwrap();
    }
}
