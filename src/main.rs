//! Parse, dispatch, turn an outcome into an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(mlctl::cli::main())
}
