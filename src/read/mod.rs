//! Files → LiteGraph: the walks. What one operator means is known in `ops/`.

mod tflite;

pub use tflite::{description, lite_graph, parse_tflite};
