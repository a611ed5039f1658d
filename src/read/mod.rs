//! Files → LiteGraph: the walks. What one operator means is known in `ops/`.

mod keras;
mod tensorflow;
mod tflite;

pub use keras::{TfjsKind, keras_model, layers_model, tfjs_kind};
pub use tensorflow::{graph_model, graph_model_files, saved_model, saved_model_files};
pub use tflite::{description, lite_graph, parse_tflite};
