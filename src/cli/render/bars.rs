//! Progress on stderr: bars on a terminal, a line an epoch everywhere.

use super::table::{Align, table};
use super::thousands;
use crate::progress::{EpochReport, LayerSummary, Progress};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Shows progress unless made silent; always tells when the user asked to stop.
pub struct Bars {
    speaks: bool,
    draws: bool,
    bar: Mutex<Option<(ProgressBar, Instant)>>,
}

/// A step of training takes microseconds: the bar is told of it this often.
const REDRAW: Duration = Duration::from_millis(50);

impl Bars {
    pub fn new(speaks: bool) -> Bars {
        Bars { speaks, draws: speaks && std::io::stderr().is_terminal(), bar: Mutex::new(None) }
    }
}

impl Progress for Bars {
    fn model(&self, layers: &[LayerSummary]) {
        if !self.speaks {
            return;
        }
        let rows: Vec<Vec<String>> = layers
            .iter()
            .map(|layer| {
                let dims: Vec<String> = layer.output_shape.iter().map(usize::to_string).collect();
                let shape = format!("[N, {}]", dims.join(", "));
                vec![
                    layer.name.clone(),
                    layer.layer.clone(),
                    shape,
                    thousands(layer.parameters as u64),
                ]
            })
            .collect();
        let align = [Align::Left, Align::Left, Align::Left, Align::Right];
        eprint!("{}", table(&["layer", "type", "output", "parameters"], &align, &rows));
        let total: usize = layers.iter().map(|l| l.parameters).sum();
        eprintln!("  {} parameters", thousands(total as u64));
    }

    fn begin(&self, task: &str, total: u64) {
        if !self.draws {
            return;
        }
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
        let style = if total == 0 { "{msg} {pos}" } else { "{prefix} {bar:30} {pos}/{len}  {msg}" };
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style);
        }
        bar.set_prefix(task.to_string());
        if let Ok(mut slot) = self.bar.lock() {
            *slot = Some((bar, Instant::now()));
        }
    }

    fn advance(&self, done: u64, detail: &dyn Fn() -> String) {
        if !self.draws {
            return;
        }
        if let Ok(mut slot) = self.bar.lock()
            && let Some((bar, last)) = slot.as_mut()
            && last.elapsed() >= REDRAW
        {
            *last = Instant::now();
            bar.set_message(detail());
            bar.set_position(done);
        }
    }

    fn end(&self) {
        if let Ok(mut slot) = self.bar.lock()
            && let Some((bar, _)) = slot.take()
        {
            bar.finish_and_clear();
        }
    }

    fn epoch(&self, report: &EpochReport) {
        if !self.speaks {
            return;
        }
        let width = report.epochs.to_string().len();
        let mut line = format!(
            "epoch {:>width$}/{}  loss {:.4}  accuracy {:.4}",
            report.epoch, report.epochs, report.loss, report.accuracy
        );
        if let Some(validation) = report.validation {
            line += &format!(
                "  validation loss {:.4}  accuracy {:.4}",
                validation.loss, validation.accuracy
            );
        }
        eprintln!("{line}  {:.2} s", report.seconds);
    }

    fn note(&self, text: &str) {
        if self.speaks {
            eprintln!("{text}");
        }
    }

    fn cancelled(&self) -> bool {
        crate::cli::cancelled()
    }
}
