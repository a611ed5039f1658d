//! What to train: layers in Keras' vocabulary, and how. Read from TOML or the built-in default.

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The most units of one layer, and the most weights of a whole recipe.
const MAX_UNITS: usize = 1 << 20;
pub const MAX_PARAMETERS: usize = 1 << 27;

/// A model to train. Left-out fields have the book's values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Recipe {
    pub name: String,
    pub layers: Vec<Layer>,
    pub training: Training,
}

/// How the weights are found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Training {
    pub epochs: usize,
    pub batch_size: usize,
    pub optimizer: OptimizerKind,
    pub learning_rate: f32,
    pub momentum: f32,
    pub nesterov: bool,
    pub loss: Loss,
    pub seed: u64,
    /// A share of the training samples below 1, or a number of samples.
    pub validation: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerKind {
    Sgd,
}

/// What training makes small. Labels are class numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// −ln of the probability of the true class; the last layer is softmax, or linear (logits).
    SparseCategoricalCrossentropy,
    /// Against the one-hot label, the mean over classes; any last activation.
    MeanSquaredError,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub enum Layer {
    Flatten {},
    Dense {
        units: usize,
        #[serde(default)]
        activation: LayerActivation,
        #[serde(default = "yes")]
        use_bias: bool,
    },
}

fn yes() -> bool {
    true
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LayerActivation {
    #[default]
    Linear,
    Relu,
    Sigmoid,
    Tanh,
    Softmax,
}

fn is_name_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_-.".contains(c)
}

impl LayerActivation {
    pub fn name(self) -> &'static str {
        match self {
            LayerActivation::Linear => "linear",
            LayerActivation::Relu => "relu",
            LayerActivation::Sigmoid => "sigmoid",
            LayerActivation::Tanh => "tanh",
            LayerActivation::Softmax => "softmax",
        }
    }
}

impl Default for Training {
    fn default() -> Training {
        Training {
            epochs: 3,
            batch_size: 32,
            optimizer: OptimizerKind::Sgd,
            learning_rate: 0.01,
            momentum: 0.0,
            nesterov: false,
            loss: Loss::SparseCategoricalCrossentropy,
            seed: 42,
            validation: 5000.0,
        }
    }
}

impl Default for Recipe {
    /// The book's MNIST classifier.
    fn default() -> Recipe {
        let dense = |units, activation| Layer::Dense { units, activation, use_bias: true };
        Recipe {
            name: "my_mnist_model".into(),
            layers: vec![
                Layer::Flatten {},
                dense(100, LayerActivation::Relu),
                dense(10, LayerActivation::Softmax),
            ],
            training: Training::default(),
        }
    }
}

/// Where in `text` an error is, and what it is.
fn one_line(text: &str, error: &toml::de::Error) -> anyhow::Error {
    let message = error.message().lines().collect::<Vec<_>>().join(" ");
    let before = error.span().and_then(|span| text.get(..span.start));
    match before.map(|b| (b.lines().count().max(1), b.ends_with('\n'))) {
        Some((line, ends)) => anyhow!("line {}: {message}", line + usize::from(ends)),
        None => anyhow!(message),
    }
}

impl Recipe {
    /// Reads a TOML recipe and checks it.
    pub fn read(path: &Path) -> Result<Recipe> {
        let at = || format!("recipe {}", path.display());
        let text = crate::format::mmap::read_text(path).with_context(at)?;
        let mut recipe: Recipe =
            toml::from_str(&text).map_err(|e| one_line(&text, &e)).with_context(at)?;
        if !text.lines().any(|l| l.trim_start().starts_with("name")) {
            let stem = path.file_stem().and_then(|s| s.to_str()).unwrap_or("model");
            recipe.name = stem
                .trim_start_matches('.')
                .chars()
                .map(|c| if is_name_character(c) { c } else { '_' })
                .collect();
        }
        recipe.check().with_context(at)?;
        Ok(recipe)
    }

    /// # Errors
    /// The first value that cannot be trained with, and what would do.
    pub fn check(&self) -> Result<()> {
        let t = &self.training;
        ensure!(
            !self.name.is_empty()
                && self.name.chars().all(is_name_character)
                && !self.name.starts_with('.'),
            "name '{}' must be letters, digits, '_', '-' or '.'",
            self.name
        );
        ensure!(t.epochs >= 1, "epochs must be at least 1");
        ensure!(t.batch_size >= 1, "batch_size must be at least 1");
        ensure!(
            t.learning_rate.is_finite() && t.learning_rate > 0.0,
            "learning_rate {:?} must be above 0",
            t.learning_rate
        );
        ensure!(
            (0.0..1.0).contains(&t.momentum),
            "momentum {} must be at least 0 and below 1",
            t.momentum
        );
        ensure!(!t.nesterov || t.momentum > 0.0, "nesterov needs a momentum above 0");
        ensure!(
            t.validation.is_finite() && t.validation >= 0.0,
            "validation {} must be a share below 1 or a number of samples",
            t.validation
        );
        for (i, layer) in self.layers.iter().enumerate() {
            if let Layer::Dense { units, activation, .. } = layer {
                ensure!(
                    (1..=MAX_UNITS).contains(units),
                    "layer {i}: units {units} must be 1 to {MAX_UNITS}"
                );
                ensure!(
                    *activation != LayerActivation::Softmax || i + 1 == self.layers.len(),
                    "layer {i}: softmax is only supported in the last layer"
                );
            }
        }
        match (self.layers.last(), t.loss) {
            (Some(Layer::Dense { activation, .. }), Loss::SparseCategoricalCrossentropy) => {
                ensure!(
                    matches!(activation, LayerActivation::Softmax | LayerActivation::Linear),
                    "loss sparse_categorical_crossentropy needs softmax (or linear: logits) in the last \
                 layer, not {}; or set loss = \"mean_squared_error\"",
                    activation.name()
                )
            }
            (Some(Layer::Dense { .. }), Loss::MeanSquaredError) => {}
            _ => bail!("the last layer must be dense, with one unit a class"),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(toml: &str, expected: &str) {
        let result = toml::from_str::<Recipe>(toml)
            .map_err(anyhow::Error::from)
            .and_then(|r| r.check().map(|()| r));
        match result {
            Ok(recipe) => assert_eq!(expected, "ok", "{recipe:?}"),
            Err(e) => assert!(format!("{e:#}").contains(expected), "{e:#}\nexpected: {expected}"),
        }
    }

    #[test]
    fn recipes_are_checked() {
        check("", "ok");
        check("[[layers]]\ntype = \"dense\"\nunits = 10", "ok");
        check("[[layers]]\ntype = \"dense\"\nunits = 0", "units 0 must be");
        check("[[layers]]\ntype = \"dense\"\nunits = 5\nactivation = \"swish\"", "unknown variant");
        check("[[layers]]\ntype = \"conv9d\"", "unknown variant");
        check("[[layers]]\ntype = \"flatten\"", "last layer must be dense");
        check("layers = []", "last layer must be dense");
        check("[training]\nepochs = 0", "epochs must be");
        check("[training]\nlearning_rate = -1", "learning_rate -1");
        check("[training]\nnesterov = true", "nesterov needs");
        check("[training]\nspeed = 3", "unknown field");
        check(
            "[[layers]]\ntype = \"dense\"\nunits = 10\nactivation = \"sigmoid\"",
            "mean_squared_error",
        );
        check(
            "[[layers]]\ntype=\"dense\"\nunits=3\nactivation=\"softmax\"\n[[layers]]\ntype=\"dense\"\nunits=3",
            "softmax is only",
        );
    }
}
