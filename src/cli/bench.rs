//! `mlctl bench`.

use super::Global;
use super::render::{Align, microseconds, table, thousands};
use crate::commands::bench::{BenchOptions, BenchReport, bench};
use anyhow::{Context, Result};
use clap::Args;
use std::path::PathBuf;

/// Measure how fast a model runs
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// .onnx, .tflite, .keras, .h5, SavedModel, model.json, version or model directory [default: the one model directory here]
    model: Option<PathBuf>,
    /// Counted runs of each thread [default: about a second's worth]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    runs: Option<u32>,
    /// Rows of one run
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    batch: u32,
    /// Show the time of each node
    #[arg(long)]
    profile: bool,
}

impl BenchArgs {
    pub fn run(&self, global: &Global) -> Result<u8> {
        let options = BenchOptions {
            model: self.model.clone(),
            threads: global.threads.map_or(1, usize::from),
            runs: self.runs.map(|n| n as usize),
            batch: self.batch as usize,
            profile: self.profile,
        };
        global.finish(bench(&options, &global.progress()).context("measuring")?, text)
    }
}

fn text(report: &BenchReport) -> String {
    let l = &report.latency_us;
    let times = [l.min, l.median, l.mean, l.p90, l.p99, l.max].map(microseconds).to_vec();
    let plural = if report.threads == 1 { "" } else { "s" };
    let mut text = format!(
        "{}, {} thread{plural}, batch {}, {} runs, {}\n{}",
        report.model.display(),
        report.threads,
        report.batch,
        thousands(report.runs as u64),
        report.instruction_set,
        table(&["min", "median", "mean", "p90", "p99", "max"], &[Align::Right; 6], &[times])
    );
    text += &format!(
        "{} rows a second; loaded in {:.1} ms, first run {:.2} ms\n",
        thousands(report.rows_per_second as u64),
        report.load_ms,
        report.first_run_ms
    );
    if !report.profile.is_empty() {
        let rows: Vec<Vec<String>> = report
            .profile
            .iter()
            .map(|n| {
                let share = format!("{:.1} %", n.share * 100.0);
                vec![microseconds(n.microseconds), share, n.op.clone(), n.node.clone()]
            })
            .collect();
        let align = [Align::Right, Align::Right, Align::Left, Align::Left];
        text += &format!("\n{}", table(&["time", "share", "op", "node"], &align, &rows));
    }
    text
}
