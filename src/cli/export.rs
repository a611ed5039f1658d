//! What `mlctl convert --to` says of a folder it has written.

use super::Global;
use super::convert::{checks, mappings};
use super::render::{size, thousands};
use crate::commands::export::{ExportOptions, ExportReport, export};
use anyhow::{Context, Result};

pub fn run(options: &ExportOptions, global: &Global) -> Result<u8> {
    let outcome = export(options, &global.progress()).context("converting")?;
    global.finish(outcome, |report| text(report, global))
}

fn text(report: &ExportReport, global: &Global) -> String {
    let mut text = String::new();
    let holds = report.verification.as_ref().is_none_or(|v| v.holds);
    if !global.quiet {
        text += &mappings(&report.inputs, &report.outputs, report.transposes);
    }
    if global.verbose || !holds {
        let ops = report.ops.iter().map(|(op, count)| format!("{count} {op}"));
        text += &format!("ops: {}\n", ops.collect::<Vec<_>>().join(", "));
    }
    for (source, name) in &report.renamed {
        text += &format!("note: '{source}' is called '{name}' there\n");
    }
    for kept in &report.kept_float {
        text += &format!("note: '{}' stays float32: {}\n", kept.name, kept.why);
    }
    let all: usize = report.weights.iter().map(|weights| weights.numbers).sum();
    for weights in report.weights.iter().filter(|_| !global.quiet) {
        text += &format!(
            "{} of {} numbers {} {}, in {} constant{}\n",
            thousands(weights.numbers as u64),
            thousands(all as u64),
            if weights.storage == "float32" { "stay" } else { "became" },
            weights.storage,
            weights.constants,
            if weights.constants == 1 { "" } else { "s" }
        );
    }
    if let Some(verification) = &report.verification {
        text += &checks(verification);
    }
    text += &match holds {
        true => format!(
            "wrote {} ({}, {}; the source has {})\n",
            report.out.display(),
            size(report.bytes),
            report.format,
            size(report.source_bytes)
        ),
        false => format!(
            "the difference is over the tolerance: {} was not written; allow more with --tolerance\n",
            report.out.display()
        ),
    };
    if report.demo && holds && !global.quiet {
        text += &format!(
            "to see it: put TensorFlow.js beside the page, then serve the folder\n  (cd {} && {TFJS} && python3 -m http.server)\n",
            report.out.display()
        );
    }
    text
}

/// Fetches TensorFlow.js without what it depends on; the page says the same.
const TFJS: &str = "npm pack @tensorflow/tfjs@4.22.0 && tar -xzf tensorflow-tfjs-4.22.0.tgz \
                    --strip-components=2 package/dist/tf.min.js && rm tensorflow-tfjs-4.22.0.tgz";
