//! TensorFlow's models → LiteGraph: SavedModel folders and TensorFlow.js graph-models. What one op means is known in
//! `ops/graphdef`.

mod flatten;
mod saved_model;
mod tfjs;
mod variables;
mod walk;

pub use saved_model::{saved_model, saved_model_files};
pub use tfjs::{graph_model, graph_model_files};
