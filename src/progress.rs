//! How long work reports and is stopped. Work below `cli/` takes a `&dyn Progress` and never prints.

/// What one training epoch came to; `validation` is absent without a validation split.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct EpochReport {
    pub epoch: usize,
    pub epochs: usize,
    pub loss: f64,
    pub accuracy: f64,
    pub validation: Option<Score>,
    pub seconds: f64,
    /// Of these, the optimizer's steps alone.
    pub training_seconds: f64,
}

/// One line of a model's summary.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct LayerSummary {
    pub name: String,
    /// `Dense (relu)`.
    pub layer: String,
    /// Without the batch axis.
    pub output_shape: Vec<usize>,
    pub parameters: usize,
}

/// Mean loss and share of right answers over a set of samples.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Score {
    pub loss: f64,
    pub accuracy: f64,
}

/// Receives what long work has to tell; every method may be called from the working thread only.
pub trait Progress: Sync {
    /// A model of these layers is about to be trained.
    fn model(&self, _layers: &[LayerSummary]) {}
    /// A task of `total` steps begins; `total` 0 means unknown.
    fn begin(&self, _task: &str, _total: u64) {}
    /// `done` steps of the task begun last are behind us; `detail` is a short state, such as the loss.
    fn advance(&self, _done: u64, _detail: &dyn Fn() -> String) {}
    /// The task begun last ended.
    fn end(&self) {}
    /// An epoch ended.
    fn epoch(&self, _report: &EpochReport) {}
    /// Something the user should know that is not an error.
    fn note(&self, _text: &str) {}
    /// True once the user asked to stop; work ends after its current step.
    fn cancelled(&self) -> bool {
        false
    }
}

/// Reports nothing and is never cancelled.
pub struct Silent;

impl Progress for Silent {}
