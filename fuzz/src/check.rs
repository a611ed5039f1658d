//! What must hold of any bytes that are given as a model; what does not panics here, and is a finding.

use anyhow::{Context, Result};
use bytes::Bytes;
use mlctl::commands::Outcome;
use mlctl::commands::convert::{ConvertOptions, convert};
use mlctl::commands::inspect::inspect;
use mlctl::compare::example_inputs;
use mlctl::graph::{Dim, Model};
use mlctl::model::plan_lite;
use mlctl::ops::ActivationType;
use mlctl::progress::Silent;
use mlctl::quantize::{
    IntegerOptions, RangeMethod, Samples, Scheme, quantize_to_integers, widen_constants,
};
use mlctl::runtime::Tensor;
use mlctl::tract::guard;
use mlctl::write::{Description, write_tflite};
use mlctl::{ops, raise, read};
use std::fmt::Debug;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// How far an input came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reached {
    Refused,
    /// Read as a graph, and then refused.
    Read,
    Converted,
    /// Converted, and the written file computes what the input does.
    Checked,
    /// Converted, but mlctl's check of the written file did not hold: the user gets no file.
    NotHeld,
}

/// Values of a graph that is run; a larger one is converted without its check.
const SMALL: usize = 1 << 18;

/// For the loops of a graph in all that is done with one input: that they end at a limit is what is to be seen.
const TIME_OF_LOOPS: Duration = Duration::from_secs(1);

/// `mlctl inspect` and `mlctl convert` of an ONNX file, with its check where the graph is small.
pub fn check_onnx(folder: &Path, bytes: &[u8]) -> Reached {
    guard::with_loop_limit(TIME_OF_LOOPS, || onnx(folder, bytes))
}

/// Reading, raising, running, inspecting and writing a `.tflite`, and `mlctl convert` of it.
pub fn check_tflite(folder: &Path, bytes: &[u8]) -> Reached {
    guard::with_loop_limit(TIME_OF_LOOPS, || tflite(folder, bytes))
}

fn onnx(folder: &Path, bytes: &[u8]) -> Reached {
    let (source, out) = (folder.join("input.onnx"), folder.join("output.tflite"));
    fs::write(&source, bytes).unwrap();
    let _ = fs::remove_file(&out);
    let abandoned = guard::abandoned();
    let _ = inspect(Some(&source));
    if guard::abandoned() > abandoned {
        return Reached::Refused;
    }
    check_conversion(&source, &out, scheme_for(bytes))
}

/// The input decides, so that a finding is found again.
fn scheme_for(bytes: &[u8]) -> Option<Scheme> {
    match bytes.len() % 8 {
        1 => Some(Scheme::Dynamic),
        3 => Some(Scheme::Float16),
        5 => Some(if bytes.len() % 16 == 5 { Scheme::Weights8 } else { Scheme::Weights4 }),
        _ => None,
    }
}

fn tflite(folder: &Path, bytes: &[u8]) -> Reached {
    let (source, out) = (folder.join("input.tflite"), folder.join("output.tflite"));
    fs::write(&source, bytes).unwrap();
    let _ = fs::remove_file(&out);
    let abandoned = guard::abandoned();
    let _ = inspect(Some(&source));
    let Ok(file) = read::parse_tflite(Bytes::copy_from_slice(bytes)) else {
        return Reached::Refused;
    };
    let mut again = vec![];
    if file.write(&mut again).is_ok() {
        let reread = read::parse_tflite(again.into()).expect("what was written can be read");
        assert_same(&reread, &file, "the tables");
    }
    let Ok(graph) = read::lite_graph(&file) else { return Reached::Refused };
    check_read_of_written(&graph, &read::description(&file, bytes));
    let _ = graph.subgraphs.iter().map(ToString::to_string).collect::<String>();
    if guard::abandoned() > abandoned {
        return Reached::Read;
    }
    if is_small(&graph)
        && let Ok(plan) = plan_lite(&graph)
        && let Ok(inputs) = example_inputs(&plan, plan.inputs(), None)
        && let Ok(mut session) = plan.session()
    {
        for run in inputs.runs {
            let _ = session.run(run);
        }
    }
    check_conversion(&source, &out, scheme_for(bytes)).max(Reached::Read)
}

fn check_conversion(source: &Path, out: &Path, scheme: Option<Scheme>) -> Reached {
    let mut options = ConvertOptions {
        model: Some(source.to_path_buf()),
        out: Some(out.to_path_buf()),
        scheme,
        no_verify: true,
        ..Default::default()
    };
    if convert(&options, &Silent).is_err() {
        assert!(!out.exists(), "a refused conversion left a file");
        return Reached::Refused;
    }
    let written =
        Bytes::from(fs::read(out).expect("a conversion that is done has written its file"));
    let file = read::parse_tflite(written.clone()).expect("a written file can be read");
    let graph = read::lite_graph(&file).expect("a written file holds a graph");
    check_read_of_written(&graph, &read::description(&file, &written));
    if !is_small(&graph) {
        return Reached::Converted;
    }
    let activations = match written.len() % 16 < 12 {
        true => ActivationType::Int8,
        false => ActivationType::Int16,
    };
    let _ = check_integers(graph, activations);
    options.no_verify = false;
    match convert(&options, &Silent) {
        Ok(Outcome::Done(_)) => Reached::Checked,
        Ok(Outcome::CheckFailed(_)) => Reached::NotHeld,
        Ok(Outcome::Cancelled(_)) | Err(_) => Reached::Converted,
    }
}

struct Runs(Vec<Vec<Tensor>>);

impl Samples for Runs {
    fn runs(&self) -> usize {
        self.0.len()
    }

    fn run(&self, index: usize) -> Result<Vec<Tensor>> {
        self.0.get(index).cloned().context("no such run")
    }
}

/// A graph of integers is valid, is read back as it is, and does not panic when it runs.
fn check_integers(mut graph: Model, activations: ActivationType) -> Result<()> {
    widen_constants(&mut graph);
    let plan = plan_lite(&graph)?;
    let runs = Runs(example_inputs(&plan, plan.inputs(), None)?.runs);
    let options = IntegerOptions {
        activations,
        per_tensor: false,
        ends: Default::default(),
        method: RangeMethod::default(),
        equalization: true,
        bias_correction: true,
        keep_float: vec![],
        max_drop: None,
        histograms: false,
        ranges: None,
        report_runs: 1,
        report_threads: 1,
        threads: 1,
    };
    quantize_to_integers(&mut graph, Some(&runs), &options, &Silent)?;
    graph.validate().expect("a quantized graph is valid");
    let mut written = vec![];
    write_tflite(&graph, &Description::default(), &mut written)?;
    let file = read::parse_tflite(written.into()).expect("a quantized file can be read");
    let graph = read::lite_graph(&file).expect("a quantized file holds a graph");
    check_read_of_written(&graph, &Description::default());
    let plan = plan_lite(&graph)?;
    let mut session = plan.session()?;
    for run in runs.0 {
        session.run(run)?;
    }
    Ok(())
}

/// read(write(graph)) is the graph; what can be read and not be written is refused with its reason.
fn check_read_of_written(graph: &Model, description: &Description) {
    let mut written = vec![];
    if write_tflite(graph, description, &mut written).is_err() {
        return;
    }
    let file = read::parse_tflite(written.into()).expect("a written graph can be read");
    let reread = read::lite_graph(&file).expect("a written graph is a graph");
    assert_same(&reread.subgraphs, &graph.subgraphs, "the graph");
    assert_same(&reread.signatures, &graph.signatures, "the signatures");
}

/// Equal, or different in nothing but NaN.
fn assert_same<T: PartialEq + Debug>(found: &T, expected: &T, what: &str) {
    assert!(
        found == expected || format!("{found:?}") == format!("{expected:?}"),
        "{what} read back from what was written: {found:?}\ninstead of {expected:?}"
    );
}

/// Whether all values of a run, constants included, are few, both as declared and as computed.
fn is_small(graph: &Model) -> bool {
    let computed = guard::catch_panic("raising", || {
        let model = raise::raise(graph)?.model;
        let facts = model.nodes.iter().flat_map(|n| &n.outputs).map(|o| &o.fact.shape);
        Ok(facts.map(|shape| ops::dims(shape)).collect::<Vec<_>>())
    });
    let Ok(computed) = computed else { return false };
    let elements = |shape: &[Dim]| {
        shape.iter().try_fold(1usize, |n, d| n.checked_mul(d.known().unwrap_or(48)))
    };
    let declared = graph.subgraphs.iter().flat_map(|g| &g.tensors).map(|t| &t.shape);
    let counts: Option<Vec<usize>> =
        declared.chain(&computed).map(|shape| elements(shape)).collect();
    counts.is_some_and(|counts| {
        counts.iter().fold(0, |sum: usize, &n| sum.saturating_add(n)) <= SMALL
    })
}
