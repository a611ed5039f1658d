//! What `benches/serve.sh` measures `mlctl serve` with and beside. `load` makes requests, one at a time on each of a
//! number of connections, as fast as they are answered or at a fixed rate, and tells how it went as JSON; `axum` and
//! `tonic` are servers that read a request and give a fixed reply.

mod body;
mod clients;
mod cpu;
mod load;
mod messages;
mod peers;
mod report;
mod timer;

use clap::Parser;

#[derive(Debug, Parser)]
#[command(about = "A load generator, and servers that give a fixed reply")]
enum Command {
    Load(load::Options),
    Axum(peers::AxumOptions),
    Tonic(peers::TonicOptions),
}

fn main() -> anyhow::Result<()> {
    match Command::parse() {
        Command::Load(options) => load::run(&options),
        Command::Axum(options) => peers::run_axum(options),
        Command::Tonic(options) => peers::run_tonic(options),
    }
}
