//! Branches and loops: nodes that run functions.

use super::*;

pub fn write(ctx: &mut GraphDefContext, node: &Node) -> Result<()> {
    let inputs = ctx.inputs(node)?;
    let element = |&tensor: &TensorId| ctx.graph.tensors[tensor].element;
    let given: Vec<ElementType> = node.inputs.iter().flatten().map(element).collect();
    let made: Vec<ElementType> = node.outputs.iter().map(element).collect();
    let value = match &node.op {
        LiteOp::While { condition, body } => ctx.add(
            "StatelessWhile",
            &inputs,
            &[
                ("T", Attribute::Types(given)),
                ("cond", Attribute::Function(*condition)),
                ("body", Attribute::Function(*body)),
            ],
        ),
        LiteOp::If { then_branch, else_branch } => {
            let (&condition, rest) = inputs.split_first().context("a branch on nothing")?;
            // a condition of rank 1 asks whether it has elements
            let condition = ctx.reshape(condition, ElementType::Bool, &[]);
            let inputs: Vec<GraphDefValue> =
                std::iter::once(condition).chain(rest.iter().copied()).collect();
            ctx.add(
                "StatelessIf",
                &inputs,
                &[
                    ("Tcond", Attribute::Type(ElementType::Bool)),
                    ("Tin", Attribute::Types(given[1..].to_vec())),
                    ("Tout", Attribute::Types(made)),
                    ("then_branch", Attribute::Function(*then_branch)),
                    ("else_branch", Attribute::Function(*else_branch)),
                ],
            )
        }
        other => bail!("{} runs no subgraph", other.name()),
    };
    ctx.bind_all(node, value)
}
