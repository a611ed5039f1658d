//! Files → LiteGraph: the walks. What one operator means is known in `ops/`.

mod keras;
mod tflite;

pub use keras::{TfjsKind, keras_model, layers_model, tfjs_files, tfjs_kind};
pub use tflite::{description, lite_graph, parse_tflite};
