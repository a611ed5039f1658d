//! TensorFlow.js graph-models.

use crate::graph::Model;
use anyhow::{Result, bail};
use std::path::{Path, PathBuf};

pub fn graph_model_files(path: &Path) -> Vec<PathBuf> {
    vec![path.to_path_buf()]
}

pub fn graph_model(_path: &Path) -> Result<Model> {
    bail!("TensorFlow.js models cannot be read yet")
}
