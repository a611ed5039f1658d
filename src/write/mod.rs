//! LiteGraph → files: the walks. How one op is written is known in `ops/`.

mod graphdef;
mod object_graph;
mod saved_model;
mod tfjs;
mod tflite;

pub use graphdef::{GraphDefModel, graphdef};
pub use saved_model::{SavedModelForm, write_saved_model};
pub use tfjs::{
    DEFAULT_SHARD_SIZE, KeptWeight, StorageReport, TfjsOptions, WeightPlan, WeightStorage,
    write_tfjs,
};
pub use tflite::{Description, LAYOUT_METADATA, PREPROCESSING_METADATA, write_tflite};
