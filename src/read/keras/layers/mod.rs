//! One table: a layer's class → the lite ops it is. Families in files of their own.

mod activation;
mod arithmetic;
mod conv;
mod dense;
mod mask;
mod merge;
mod normalization;
mod pool;
mod reshape;
mod scale;

use super::builder::Builder;
use super::config::{Argument, Layer, LayerCall};
use super::weights::Variable;
use crate::graph::*;
use anyhow::{Context as _, Result, bail, ensure};
pub use mask::{Mask, OPERATIONS as MASK_OPERATIONS, pass_on, take_mask};
pub use reshape::HALF_PIXEL_CENTERS;
use serde_json::Value;
use std::collections::HashMap;

/// Builds one use of a layer and gives its result.
pub type Build = fn(&mut Context) -> Result<TensorId>;

/// What builds a layer.
///
/// # Errors
/// Why there is nothing, and what would help.
pub fn find(layer: &Layer) -> Result<Build, String> {
    if let Some(found) = arithmetic::find(layer) {
        return found;
    }
    Ok(match layer.class.as_str() {
        "InputLayer" => |c| c.input(),
        "Dense" => dense::dense,
        "Embedding" => dense::embedding,
        "Masking" => mask::masking,
        "TimeDistributed" => {
            if let Some(wrapped) = &layer.wrapped {
                find(wrapped)?;
            }
            dense::time_distributed
        }

        "Conv1D" | "Convolution1D" => |c| conv::conv(c, 1),
        "Conv2D" | "Convolution2D" => |c| conv::conv(c, 2),
        "Conv3D" => |c| conv::conv(c, 3),
        "DepthwiseConv1D" => |c| conv::depthwise(c, 1),
        "DepthwiseConv2D" => |c| conv::depthwise(c, 2),
        "SeparableConv1D" => |c| conv::separable(c, 1),
        "SeparableConv2D" => |c| conv::separable(c, 2),
        "Conv1DTranspose" => |c| conv::transpose(c, 1),
        "Conv2DTranspose" => |c| conv::transpose(c, 2),

        "MaxPooling1D" | "MaxPool1D" => |c| pool::window(c, PoolKind::Max, 1),
        "MaxPooling2D" | "MaxPool2D" => |c| pool::window(c, PoolKind::Max, 2),
        "AveragePooling1D" | "AvgPool1D" => |c| pool::window(c, PoolKind::Average, 1),
        "AveragePooling2D" | "AvgPool2D" => |c| pool::window(c, PoolKind::Average, 2),
        "GlobalMaxPooling1D" | "GlobalMaxPool1D" | "GlobalMaxPooling2D" | "GlobalMaxPool2D"
        | "GlobalMaxPooling3D" | "GlobalMaxPool3D" => |c| pool::global(c, ReduceOp::Max),
        "GlobalAveragePooling1D" | "GlobalAvgPool1D" => mask::global_average,
        "GlobalAveragePooling2D"
        | "GlobalAvgPool2D"
        | "GlobalAveragePooling3D"
        | "GlobalAvgPool3D" => |c| pool::global(c, ReduceOp::Mean),

        "BatchNormalization" => normalization::batch,
        "LayerNormalization" => normalization::layer,
        "RMSNormalization" => normalization::root_mean_square,
        "GroupNormalization" => normalization::group,
        "UnitNormalization" => normalization::unit,

        "Activation" => activation::activation,
        "ReLU" => activation::relu,
        "LeakyReLU" => activation::leaky_relu,
        "PReLU" => activation::p_relu,
        "ELU" => activation::elu,
        "Softmax" => activation::softmax,
        "ThresholdedReLU" => activation::thresholded_relu,

        "Add" => |c| merge::all(c, BinaryOp::Add),
        "Subtract" => |c| merge::all(c, BinaryOp::Sub),
        "Multiply" => |c| merge::all(c, BinaryOp::Mul),
        "Maximum" => |c| merge::all(c, BinaryOp::Maximum),
        "Minimum" => |c| merge::all(c, BinaryOp::Minimum),
        "Average" => merge::average,
        "Concatenate" => merge::concatenate,
        "Dot" => merge::dot,

        "Flatten" => reshape::flatten,
        "Reshape" => reshape::reshape,
        "Permute" => reshape::permute,
        "RepeatVector" => reshape::repeat_vector,
        "ZeroPadding1D" => |c| reshape::zero_padding(c, 1),
        "ZeroPadding2D" => |c| reshape::zero_padding(c, 2),
        "ZeroPadding3D" => |c| reshape::zero_padding(c, 3),
        "Cropping1D" => |c| reshape::cropping(c, 1),
        "Cropping2D" => |c| reshape::cropping(c, 2),
        "Cropping3D" => |c| reshape::cropping(c, 3),
        "UpSampling1D" => |c| reshape::up_sampling(c, 1),
        "UpSampling2D" => |c| reshape::up_sampling(c, 2),

        "Rescaling" => scale::rescaling,
        "Normalization" => scale::normalization,
        "Resizing" => scale::resizing,
        "CenterCrop" => scale::center_crop,

        // these do nothing once a model is trained
        "Dropout"
        | "SpatialDropout1D"
        | "SpatialDropout2D"
        | "SpatialDropout3D"
        | "GaussianNoise"
        | "GaussianDropout"
        | "AlphaDropout"
        | "ActivityRegularization"
        | "Identity"
        | "RandomFlip"
        | "RandomRotation"
        | "RandomZoom"
        | "RandomTranslation"
        | "RandomContrast"
        | "RandomBrightness"
        | "RandomColorDegeneration"
        | "RandomColorJitter"
        | "RandomErasing"
        | "RandomGaussianBlur"
        | "RandomGrayscale"
        | "RandomHue"
        | "RandomInvert"
        | "RandomPerspective"
        | "RandomPosterization"
        | "RandomSaturation"
        | "RandomSharpness"
        | "RandomShear"
        | "RandomElasticTransform" => |c| c.input(),

        "LSTM" | "GRU" | "SimpleRNN" | "RNN" | "Bidirectional" | "ConvLSTM1D" | "ConvLSTM2D"
        | "ConvLSTM3D" | "CuDNNLSTM" | "CuDNNGRU" => {
            return Err(format!("recurrent layers are not read from Keras' files; {EXPORT}"));
        }
        "Lambda" => {
            return Err(format!(
                "Python code, which mlctl does not run; write it as layers, or {EXPORT}"
            ));
        }
        class if class.contains('>') || is_custom(layer) => {
            return Err(format!(
                "a class of the model's author, whose code is not in the file; write it as Keras' layers, or {EXPORT}"
            ));
        }
        _ => return Err(format!("no form here; {EXPORT}")),
    })
}

/// The way out that Keras 3 offers.
const EXPORT: &str =
    "model.export('model.onnx', format='onnx') in Keras 3 makes a file that mlctl may read";

fn is_custom(layer: &Layer) -> bool {
    !layer.module.is_empty()
        && !["keras", "tf_keras"].contains(&layer.module.split('.').next().unwrap_or_default())
}

/// One use of a layer in the making.
pub struct Context<'a> {
    pub builder: &'a mut Builder,
    pub layer: &'a Layer,
    pub call: &'a LayerCall,
    /// The layer's name after those of the models it is in.
    pub name: String,
    pub inputs: Vec<TensorId>,
    pub is_keras_2: bool,
    /// Which steps of a value count.
    pub masks: &'a mut HashMap<TensorId, Mask>,
}

impl<'a> Context<'a> {
    /// The only input.
    pub fn input(&mut self) -> Result<TensorId> {
        match self.inputs.as_slice() {
            [one] => Ok(*one),
            several => bail!("{} inputs, where one was expected", several.len()),
        }
    }

    /// The only input, in float32.
    pub fn float_input(&mut self) -> Result<TensorId> {
        let x = self.input()?;
        self.float(x)
    }

    pub fn float(&mut self, x: TensorId) -> Result<TensorId> {
        let name = self.named("float");
        self.builder.cast(&name, x, ElementType::F32)
    }

    pub fn named(&self, part: &str) -> String {
        format!("{}/{part}", self.name)
    }

    /// Layers that were called with `training=True` compute something random in Keras 2; in Keras 3 `predict` decides.
    pub fn refuse_training(&self) -> Result<()> {
        let training = self.call.named.iter().find(|(name, _)| name == "training");
        let training = training.is_some_and(|(_, value)| *value == Argument::Constant(true.into()));
        let matters = self.layer.class.contains("Dropout")
            || self.layer.class.contains("Noise")
            || self.layer.class.starts_with("Random")
            || self.layer.class == "BatchNormalization";
        ensure!(
            !(training && matters && self.is_keras_2),
            "it is called with training=True; build the model without that"
        );
        Ok(())
    }

    pub fn value(&self, key: &str) -> &'a Value {
        self.layer.config.get(key).unwrap_or(&Value::Null)
    }

    pub fn flag(&self, key: &str, default: bool) -> bool {
        self.value(key).as_bool().unwrap_or(default)
    }

    pub fn text(&self, key: &str) -> Option<&str> {
        self.value(key).as_str()
    }

    /// A number; Keras writes some in a list or as `{"class_name": "__numpy__", …}`.
    pub fn number(&self, key: &str, default: f64) -> f64 {
        let value = self.value(key);
        let value = if value.is_object() { &value["config"]["value"] } else { value };
        value.as_f64().unwrap_or(default)
    }

    pub fn size(&self, key: &str) -> Result<usize> {
        let size = self.value(key).as_u64().and_then(|n| usize::try_from(n).ok());
        size.with_context(|| format!("{key} is {}", self.value(key)))
    }

    /// One size for all axes, or one for each.
    pub fn sizes(&self, key: &str, count: usize, default: usize) -> Result<Vec<usize>> {
        let value = self.value(key);
        let wrong = || format!("{key} is {value}");
        let size = |v: &Value| v.as_u64().and_then(|n| usize::try_from(n).ok());
        let sizes = match value {
            Value::Null => vec![default; count],
            Value::Array(list) => {
                list.iter().map(size).collect::<Option<Vec<_>>>().with_context(wrong)?
            }
            one => vec![size(one).with_context(wrong)?; count],
        };
        let fits = sizes.len() == count && sizes.iter().all(|n| (1..1 << 31).contains(n));
        ensure!(fits, wrong());
        Ok(sizes)
    }

    /// An axis of a value of some rank; negative ones count from the end.
    pub fn axis(&self, axis: i64, rank: usize) -> Result<usize> {
        let counted = if axis < 0 { axis + rank as i64 } else { axis };
        let counted = usize::try_from(counted).ok().filter(|&axis| axis < rank);
        counted.with_context(|| format!("axis {axis} of a value of rank {rank}"))
    }

    /// One axis, or several.
    pub fn axes(&self, key: &str, rank: usize, default: i64) -> Result<Vec<usize>> {
        let listed = match self.value(key) {
            Value::Array(list) => list.iter().map(Value::as_i64).collect(),
            Value::Null => Some(vec![default]),
            one => one.as_i64().map(|axis| vec![axis]),
        };
        let listed = listed.with_context(|| format!("{key} is {}", self.value(key)))?;
        let mut axes: Vec<usize> =
            listed.into_iter().map(|axis| self.axis(axis, rank)).collect::<Result<_>>()?;
        axes.sort();
        axes.dedup();
        Ok(axes)
    }

    /// The `index`-th array that the layer learned, which must have this shape.
    pub fn variable(&self, index: usize, shape: &[usize]) -> Result<&'a Variable> {
        let variable = self.any_variable(index)?;
        ensure!(
            variable.shape == shape,
            "its weights {index} have the shape {:?} where {shape:?} was expected",
            variable.shape
        );
        Ok(variable)
    }

    pub fn any_variable(&self, index: usize) -> Result<&'a Variable> {
        let missing = || format!("its weights {index} are not in the file");
        self.layer.variables.get(index).with_context(missing)
    }

    /// A bias of `channels` values: variable `index`, or zeros where the layer has none.
    pub fn bias(&mut self, index: usize, channels: usize) -> Result<TensorId> {
        let name = self.named("bias");
        match self.flag("use_bias", true) {
            true => {
                let data = self.variable(index, &[channels])?.f32_bytes()?;
                self.builder.constant(&name, ElementType::F32, &[channels], || Ok(data))
            }
            false => self.builder.f32s(&name, &[channels], &vec![0.0; channels]),
        }
    }

    pub fn known(&self, x: TensorId, axis: usize) -> Result<usize> {
        let shape = self.builder.shape(x);
        let size = shape.get(axis).and_then(Dim::known);
        size.with_context(|| {
            format!(
                "axis {axis} of its input {} is open; give keras.Input its size",
                shape_text(&shape)
            )
        })
    }

    /// Whether channels come right after the batch.
    pub fn channels_first(&self) -> bool {
        self.text("data_format") == Some("channels_first")
    }

    /// `x` with its channels last.
    pub fn to_channels_last(&mut self, x: TensorId) -> Result<TensorId> {
        let rank = self.builder.rank(x);
        if !self.channels_first() || rank < 3 {
            return Ok(x);
        }
        let order: Vec<usize> = [0].into_iter().chain(2..rank).chain([1]).collect();
        let name = self.named("channels_last");
        self.builder.transpose(&name, x, &order)
    }

    /// The other way, for results.
    pub fn from_channels_last(&mut self, x: TensorId) -> Result<TensorId> {
        let rank = self.builder.rank(x);
        if !self.channels_first() || rank < 3 {
            return Ok(x);
        }
        let order: Vec<usize> = [0, rank - 1].into_iter().chain(1..rank - 1).collect();
        let name = self.named("channels_first");
        self.builder.transpose(&name, x, &order)
    }

    pub fn ensure_rank(&self, x: TensorId, rank: usize) -> Result<()> {
        let shape = self.builder.shape(x);
        ensure!(
            shape.len() == rank,
            "an input of shape {}, where {rank} axes were expected",
            shape_text(&shape)
        );
        Ok(())
    }

    /// A value of three axes with a fourth of size 1 before its second, and back: ops that have rows as well do
    /// for those that have none.
    pub fn with_rows(&mut self, x: TensorId) -> Result<TensorId> {
        let mut shape = self.builder.shape(x);
        shape.insert(1, Dim::Known(1));
        let name = self.named("rows");
        if shape.iter().filter(|dim| dim.known().is_none()).count() <= 1 {
            return self.builder.reshape(&name, x, shape);
        }
        let axis = self.builder.i32s("axis", &[], &[1])?;
        self.builder.op(&name, LiteOp::ExpandDims, &[x, axis], shape)
    }

    pub fn without_rows(&mut self, x: TensorId) -> Result<TensorId> {
        let mut shape = self.builder.shape(x);
        shape.remove(1);
        let name = self.named("row");
        if shape.iter().filter(|dim| dim.known().is_none()).count() <= 1 {
            return self.builder.reshape(&name, x, shape);
        }
        self.builder.op(&name, LiteOp::Squeeze { axes: vec![1] }, &[x], shape)
    }
}
