//! Training: a recipe, digits, and the loop that finds the weights.

mod batches;
pub mod gradient;
pub mod initial_model;
mod optimizer;
pub mod recipe;
mod run;
mod step;

pub use recipe::Recipe;
pub use run::{TrainError, Trained, Trainer, train};
pub use step::{RowSums, TrainableModel};
