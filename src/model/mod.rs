//! What MODEL names: files, version directories, and what is recorded beside a model.

mod load;
mod locate;
mod pictures;
mod record;
mod version;

pub use load::{
    Graph, LoadedModel, LoadedOnnx, WatchedTensors, bytes_of, names_of_ends, plan_lite,
    plan_loaded, ports_of_lite, read_keras, read_labels, read_tensorflow, shapes_of_one_row,
    tfjs_kind_of, watch_tensors,
};
pub use locate::{Format, Located, Place, locate, newest_version};
pub use pictures::{check_record_fits, guessed_record, picture_record, scale_as_bytes};
pub use record::{Metrics, PortRecord, Record, TrainingRecord, holds_record, record_of};
pub use version::{NewVersion, SavedVersion, refuse_saved_file, save_version};
