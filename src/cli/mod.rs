//! The command line: one thin file a subcommand: flags → options → command → render.

mod bench;
mod compare;
mod completions;
mod convert;
mod export;
mod inspect;
mod pictures;
mod predict;
mod render;
mod save;
mod serve;
mod serve_environment;
mod train;

use crate::commands::Outcome;
use crate::progress::Progress;
use anyhow::Result;
use clap::{Args, CommandFactory, Parser, Subcommand};
use render::{Bars, print_document, shortened_lines};
use serde::Serialize;
use serve::elsewhere::{self, Elsewhere};
use std::ffi::OsString;
use std::sync::atomic::{AtomicBool, Ordering};

/// Trains, saves, converts, quantizes and runs machine-learning models: one binary, no Python
#[derive(Debug, Parser)]
#[command(name = "mlctl", version, propagate_version = true, max_term_width = 100)]
#[command(after_help = "Exit codes: 0 done, 1 error, 2 usage, 3 a check did not hold.\n\
    Start with 'mlctl train', then 'mlctl convert --quantize f16'.")]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Clone, Args)]
struct Global {
    /// Print one JSON document on stdout, nothing else
    #[arg(long, global = true, help_heading = "Global options")]
    json: bool,
    /// Print results and errors only
    #[arg(short, long, global = true, help_heading = "Global options")]
    quiet: bool,
    /// Tell more
    #[arg(short, long, global = true, help_heading = "Global options", conflicts_with = "quiet")]
    verbose: bool,
    /// Threads to use [default: all cores]
    #[arg(long, global = true, value_name = "N", help_heading = "Global options",
          value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Train(train::TrainArgs),
    Save(save::SaveArgs),
    Convert(convert::ConvertArgs),
    Quantize(convert::QuantizeArgs),
    Predict(predict::PredictArgs),
    Inspect(inspect::InspectArgs),
    Compare(compare::CompareArgs),
    Bench(bench::BenchArgs),
    // as to TensorFlow Serving, whose image gives flags of its own before the user's
    #[command(args_override_self = true)]
    Serve(serve::ServeArgs),
    Completions(completions::CompletionsArgs),
}

/// Says what is wrong with flags that each by itself are right, as clap does; gives the exit code.
fn usage_error(message: &str) -> u8 {
    let error = clap::Error::raw(clap::error::ErrorKind::ArgumentConflict, message);
    let error = error.with_cmd(&command());
    let _ = error.print();
    error.exit_code() as u8
}

/// The command line as clap describes it, for completions and tests.
pub fn command() -> clap::Command {
    Cli::command()
}

fn parse(arguments: Vec<OsString>) -> Result<Cli, clap::Error> {
    let (own, elsewhere) = elsewhere::take(arguments.clone());
    let mut cli = Cli::try_parse_from(own)?;
    match &mut cli.command {
        Command::Serve(args) => args.elsewhere = elsewhere,
        _ if elsewhere != Elsewhere::default() => return Cli::try_parse_from(arguments),
        _ => {}
    }
    Ok(cli)
}

/// Runs the program with the process' arguments and gives its exit code.
pub fn main() -> u8 {
    let cli = match parse(std::env::args_os().collect()) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return error.exit_code() as u8;
        }
    };
    // a server has its own
    if !matches!(cli.command, Command::Serve(_)) {
        handle_signals(matches!(cli.command, Command::Train(_)));
    }
    let run = || cli.run();
    match crate::tract::guard::catch_panic("internal error", run) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {}", shortened_lines(&format!("{error:#}")));
            1
        }
    }
}

static CANCELLED: AtomicBool = AtomicBool::new(false);

/// Whether the user asked to stop.
fn cancelled() -> bool {
    CANCELLED.load(Ordering::Relaxed)
}

/// The first signal lets training end after its step; otherwise, and the second time, the program ends
/// at once, without leaving unfinished files.
fn handle_signals(ends_by_itself: bool) {
    const INTERRUPTED: i32 = 130;
    let _ = ctrlc::set_handler(move || {
        if !ends_by_itself || CANCELLED.swap(true, Ordering::Relaxed) {
            crate::format::atomic::remove_unfinished();
            std::process::exit(INTERRUPTED);
        }
    });
}

impl Cli {
    fn run(&self) -> Result<u8> {
        let global = &self.global;
        match &self.command {
            Command::Train(args) => args.run(global),
            Command::Save(args) => args.run(global),
            Command::Convert(args) => args.run(global),
            Command::Quantize(args) => args.run(global),
            Command::Predict(args) => args.run(global),
            Command::Inspect(args) => args.run(global),
            Command::Compare(args) => args.run(global),
            Command::Bench(args) => args.run(global),
            Command::Serve(args) => args.run(global),
            Command::Completions(args) => args.run(),
        }
    }
}

impl Global {
    fn threads(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        self.threads.map_or_else(cores, usize::from)
    }

    fn progress(&self) -> impl Progress {
        Bars::new(!self.quiet && !self.json)
    }

    /// Prints an outcome, as JSON or as `text` shows it, and gives the exit code.
    fn finish<T: Serialize>(&self, outcome: Outcome<T>, text: impl Fn(&T) -> String) -> Result<u8> {
        let (report, code) = match outcome {
            Outcome::Done(report) => (report, 0),
            Outcome::CheckFailed(report) => (report, 3),
            Outcome::Cancelled(message) => {
                eprintln!("{message}");
                return Ok(130);
            }
        };
        let document = match self.json {
            true => serde_json::to_string_pretty(&report)? + "\n",
            false => text(&report),
        };
        print_document(&document)?;
        Ok(code)
    }
}
