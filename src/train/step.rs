//! An ONNX model whose float32 initializers are found by training: its graphs and its parameters.

use super::gradient::{add_loss_and_gradients, add_sgd_update};
use super::recipe::Loss;
use crate::runtime::{Plan, Session, Tensor, f32_values};
use crate::tract::onnx::{self, OnnxDim};
use crate::tract::pb;
use crate::tract::typed_ops::LossFunction;
use anyhow::{Context, Result, bail, ensure};
use std::sync::Arc;

/// A model with its trainable initializers lifted to graph inputs.
#[derive(Debug, Clone)]
pub struct TrainableModel {
    /// The model as it will be saved; its initializers are stale while training.
    original: pb::ModelProto,
    lifted: pb::ModelProto,
    /// The parameters' names, in the order of the graphs' inputs.
    pub names: Vec<String>,
    /// Their values, in the same order.
    pub parameters: Vec<Arc<Tensor>>,
    /// Of one sample, without the batch axis.
    pub sample_shape: Vec<usize>,
    pub classes: usize,
    loss: LossFunction,
}

/// What one pass over some rows came to, summed over the rows.
#[derive(Debug, Clone, Copy, Default)]
pub struct RowSums {
    pub loss: f64,
    pub correct: f64,
}

impl TrainableModel {
    /// # Errors
    /// A model without float32 initializers, with several inputs, or without a fixed sample shape.
    pub fn new(original: pb::ModelProto, loss: Loss) -> Result<TrainableModel> {
        let mut lifted = original.clone();
        let graph = lifted.graph.as_mut().context("the model holds no graph")?;
        let (mut names, mut parameters) = (vec![], vec![]);
        let float = pb::tensor_proto::DataType::Float as i32;
        let initializers = std::mem::take(&mut graph.initializer);
        for initializer in initializers {
            if initializer.data_type != float || initializer.dims.is_empty() {
                graph.initializer.push(initializer);
                continue;
            }
            let shape: Vec<usize> =
                initializer.dims.iter().map(|&d| usize::try_from(d)).collect::<Result<_, _>>()?;
            let values: Vec<f32> = match initializer.raw_data.is_empty() {
                true => initializer.float_data.clone(),
                false => {
                    let bytes = initializer.raw_data.as_chunks::<4>().0;
                    bytes.iter().map(|b| f32::from_le_bytes(*b)).collect()
                }
            };
            let parameter = Tensor::from_shape(&shape, &values)
                .with_context(|| format!("initializer '{}'", initializer.name))?;
            graph.input.retain(|i| i.name != initializer.name);
            let dims = initializer.dims.iter().map(|d| OnnxDim::Number(*d));
            graph.input.push(onnx::float_port(&initializer.name, dims));
            names.push(initializer.name);
            parameters.push(Arc::new(parameter));
        }
        ensure!(!names.is_empty(), "the model has no float32 weights to train");
        ensure!(
            graph.input.len() == names.len() + 1,
            "a model with one input can be trained; this has {}",
            graph.input.len() - names.len()
        );
        let sample_shape = fixed_dims(&graph.input[0])?;
        let &[output] = &graph.output.iter().collect::<Vec<_>>()[..] else {
            bail!("a model with one output can be trained");
        };
        let classes = match fixed_dims(output)?.as_slice() {
            &[classes] => classes,
            other => bail!("the output must be [rows, classes], not [rows, {other:?}]"),
        };
        let loss = match loss {
            Loss::SparseCategoricalCrossentropy => LossFunction::SoftmaxCrossEntropy,
            Loss::MeanSquaredError => LossFunction::MeanSquaredError,
        };
        Ok(TrainableModel { original, lifted, names, parameters, sample_shape, classes, loss })
    }

    /// The graphs alone, for threads that are handed the parameters.
    pub fn without_parameters(&self) -> TrainableModel {
        TrainableModel { parameters: vec![], ..self.clone() }
    }

    /// A session that gives the summed loss and the count of right rows of `rows` samples.
    pub fn evaluation(&self, rows: usize) -> Result<Session> {
        self.plan(rows, &[], None)?.session()
    }

    /// A session that also gives the gradients, or, with `sgd_factor`, the parameters after the step
    /// `parameter + factor · gradient`.
    pub fn gradients(&self, rows: usize, sgd_factor: Option<f32>) -> Result<Session> {
        self.plan(rows, &self.names, sgd_factor)?.session()
    }

    fn plan(&self, rows: usize, names: &[String], sgd_factor: Option<f32>) -> Result<Plan> {
        let mut proto = self.lifted.clone();
        set_rows(&mut proto, rows);
        let forward = onnx::parse_typed(&proto)?;
        let mut graph = add_loss_and_gradients(&forward, names, self.loss)?;
        if let Some(alpha) = sgd_factor {
            graph = add_sgd_update(&graph, names, alpha)?;
        }
        let mut inputs = vec!["input".to_string()];
        inputs.extend(self.names.iter().cloned());
        inputs.push("labels".into());
        let mut outputs = vec!["loss".to_string(), "correct".to_string()];
        outputs.extend(names.iter().cloned());
        Plan::new(graph, &inputs, &outputs)
    }

    /// The inputs of [`gradients`](Self::gradients) and [`evaluation`](Self::evaluation).
    pub fn feed(
        inputs: &Arc<Tensor>,
        parameters: impl IntoIterator<Item = Arc<Tensor>>,
        labels: &Arc<Tensor>,
    ) -> Vec<Arc<Tensor>> {
        let mut feed = vec![inputs.clone()];
        feed.extend(parameters);
        feed.push(labels.clone());
        feed
    }

    /// The model with its trained parameters.
    pub fn to_onnx(&self) -> Result<pb::ModelProto> {
        let mut proto = self.original.clone();
        let graph = proto.graph.as_mut().context("the model holds no graph")?;
        for (name, parameter) in self.names.iter().zip(&self.parameters) {
            let initializer = graph.initializer.iter_mut().find(|i| i.name == *name);
            let initializer = initializer.with_context(|| format!("initializer '{name}'"))?;
            initializer.float_data.clear();
            let values = f32_values(parameter)?;
            initializer.raw_data =
                values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>().into();
        }
        Ok(proto)
    }
}

impl RowSums {
    /// From the first two outputs of a session.
    pub fn of(outputs: &[Arc<Tensor>]) -> Result<RowSums> {
        let first = |i: usize| -> Result<f64> {
            let value = outputs.get(i).context("a training graph lacks an output")?;
            Ok(f32_values(value)?.first().copied().unwrap_or(f32::NAN) as f64)
        };
        Ok(RowSums { loss: first(0)?, correct: first(1)? })
    }

    pub fn add(&mut self, other: RowSums) {
        self.loss += other.loss;
        self.correct += other.correct;
    }
}

fn tensor_type(info: &pb::ValueInfoProto) -> Option<&pb::type_proto::Tensor> {
    let pb::type_proto::Value::TensorType(tensor) = info.r#type.as_ref()?.value.as_ref()?;
    Some(tensor)
}

/// The dimensions after the first, which must be numbers.
fn fixed_dims(info: &pb::ValueInfoProto) -> Result<Vec<usize>> {
    use pb::tensor_shape_proto::dimension::Value;
    let shape = tensor_type(info).and_then(|t| t.shape.as_ref());
    let shape = shape.with_context(|| format!("'{}' has no shape", info.name))?;
    let dims = shape.dim.iter().skip(1).map(|dim| match dim.value {
        Some(Value::DimValue(n)) if n > 0 => Ok(n as usize),
        _ => bail!("'{}' has a dynamic dimension besides the batch", info.name),
    });
    dims.collect()
}

fn set_rows(proto: &mut pb::ModelProto, rows: usize) {
    use pb::tensor_shape_proto::dimension::Value;
    let input = proto.graph.as_mut().and_then(|g| g.input.first_mut());
    let Some(pb::type_proto::Value::TensorType(tensor)) =
        input.and_then(|i| i.r#type.as_mut()).and_then(|t| t.value.as_mut())
    else {
        return;
    };
    if let Some(dim) = tensor.shape.as_mut().and_then(|s| s.dim.first_mut()) {
        dim.value = Some(Value::DimValue(rows as i64));
    }
}
