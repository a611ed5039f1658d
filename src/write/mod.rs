//! LiteGraph → files: the walks. How one op is written is known in `ops/`.

mod tflite;

pub use tflite::{Description, LAYOUT_METADATA, PREPROCESSING_METADATA, write_tflite};
