//! Dilated convolutions as TensorFlow writes them: blocks become batches, are convolved, and become blocks again.

use super::conv::{self, Padded};
use super::read_context::{BlockConvolution, Form};
use super::*;

pub fn read(ctx: &mut GraphDefReader, node: &GraphDefInput) -> Result<Vec<TensorId>> {
    let x = node.input(0)?;
    let block = pair(&ctx.ints(node, 1)?)?;
    let borders = ctx.ints(node, 2)?;
    let [top, bottom, left, right] = borders[..] else {
        bail!("blocks of {} axes", borders.len() / 2);
    };
    let borders = [[top, bottom], [left, right]];
    let borders = borders.map(|side| side.map(|n| usize::try_from(n).unwrap_or(usize::MAX)));
    ensure!(borders.as_flattened().iter().all(|&n| n < 1 << 20), "impossible borders");
    if node.op == "SpaceToBatchND" {
        ensure!(ctx.rank(x) == 4, "blocks of rank {}", ctx.rank(x));
        let (element, shape) = (ctx.element(x), ctx.shape(x).to_vec());
        return Ok(vec![ctx.stand_in(Form::Blocks { x, block, borders }, element, shape)]);
    }
    let Some(Form::BlockConvolution(found)) = ctx.form(x).cloned() else {
        bail!("blocks that no convolution made have no lite form");
    };
    let BlockConvolution { x, weights, bias, multiplier, .. } = *found;
    ensure!(found.block == block, "it puts {block:?} together where {:?} was cut", found.block);
    // what is cut off afterwards need not be put on before
    let mut padding = [[0; 2]; 2];
    for axis in 0..2 {
        for side in 0..2 {
            let left = found.borders[axis][side].checked_sub(borders[axis][side]);
            padding[axis][side] = left.context("more is cut off than was put on")? as i64;
        }
    }
    let padded = Padded { padding, strides: [1, 1], dilations: block };
    let y = conv::convolve(ctx, x, weights, bias, multiplier, padded)?;
    Ok(vec![y])
}

fn pair(values: &[i64]) -> Result<[usize; 2]> {
    let &[a, b] = values else { bail!("blocks of {} axes", values.len()) };
    let size = |n: i64| usize::try_from(n).ok().filter(|n| (1..1 << 16).contains(n));
    Ok([size(a).context("an impossible block")?, size(b).context("an impossible block")?])
}
