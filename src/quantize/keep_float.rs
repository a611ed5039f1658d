//! Layers that the user names, to stay float32.

use crate::graph::{Node, Subgraph};
use anyhow::{Result, ensure};
use regex_lite::Regex;

/// The first of `regexes` that matches the name of one of the node's results.
pub fn keeps<'a>(regexes: &'a [Regex], graph: &Subgraph, node: &Node) -> Option<&'a Regex> {
    let names = || node.outputs.iter().map(|&t| &graph.tensors[t].name);
    regexes.iter().find(|regex| names().any(|name| regex.is_match(name)))
}

/// # Errors
/// One of `regexes` matches no layer of `graphs`.
pub fn check_names(regexes: &[Regex], graphs: &[Subgraph]) -> Result<()> {
    let matches = |regex: &Regex, graph: &Subgraph| {
        graph.nodes.iter().any(|node| keeps(std::slice::from_ref(regex), graph, node).is_some())
    };
    for regex in regexes {
        ensure!(
            graphs.iter().any(|graph| matches(regex, graph)),
            "--keep-float '{}' matches no layer; 'mlctl inspect -v' lists their names",
            regex.as_str()
        );
    }
    Ok(())
}
