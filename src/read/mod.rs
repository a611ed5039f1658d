//! Files → LiteGraph: the walks. What one operator means is known in `ops/`.

mod keras;
mod tflite;

pub use keras::{keras_model, tfjs_model};
pub use tflite::{description, lite_graph, parse_tflite};
