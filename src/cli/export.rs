//! What `mlctl convert --to` says of a folder it has written.

use super::Global;
use super::convert::{checks, mappings};
use super::render::size;
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
    text
}
