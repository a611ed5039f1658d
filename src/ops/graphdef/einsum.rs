//! Sums of products by index letters, as one product of matrices.

use super::*;

pub fn read(ctx: &mut GraphDefReader, node: &GraphDefInput) -> Result<Vec<TensorId>> {
    let equation: String = node.text("equation").chars().filter(|c| *c != ' ').collect();
    let no_form = || format!("the sum '{equation}' has no lite form");
    let (given, made) = equation.split_once("->").with_context(no_form)?;
    let (left, right) = given.split_once(',').with_context(no_form)?;
    let plain = |text: &str| {
        let letters: Vec<char> = text.chars().collect();
        let distinct = letters.iter().collect::<HashSet<_>>().len() == letters.len();
        (distinct && letters.iter().all(char::is_ascii_alphabetic)).then_some(letters)
    };
    let [left, right, made] = [left, right, made].map(plain);
    let (left, right) = (left.with_context(no_form)?, right.with_context(no_form)?);
    let made = made.with_context(no_form)?;
    let (x, y) = (node.input(0)?, node.input(1)?);
    ensure!(ctx.rank(x) == left.len() && ctx.rank(y) == right.len(), "'{equation}' of other ranks");
    let known = |letter: &&char| made.contains(letter) || right.contains(letter);
    ensure!(left.iter().all(|c| known(&c)), no_form());
    ensure!(right.iter().all(|c| made.contains(c) || left.contains(c)), no_form());
    ensure!(made.iter().all(|c| left.contains(c) || right.contains(c)), no_form());

    let of = |letters: &[char], wanted: &dyn Fn(char) -> bool| -> Vec<char> {
        letters.iter().copied().filter(|&c| wanted(c)).collect()
    };
    let in_all = |c: char| left.contains(&c) && right.contains(&c) && made.contains(&c);
    let batch = of(&made, &in_all);
    let summed = of(&left, &|c| right.contains(&c) && !made.contains(&c));
    let rows = of(&left, &|c| !right.contains(&c));
    let columns = of(&right, &|c| !left.contains(&c));
    let order = |letters: &[char], parts: [&Vec<char>; 3]| -> Vec<usize> {
        let place = |c: &char| letters.iter().position(|other| other == c);
        parts.into_iter().flatten().filter_map(place).collect()
    };
    let (x_dims, y_dims) = (ctx.shape(x).to_vec(), ctx.shape(y).to_vec());
    let dim = |c: &char| -> Dim {
        let of = |letters: &[char], dims: &[Dim]| {
            letters.iter().position(|other| other == c).map(|place| dims[place].clone())
        };
        of(&left, &x_dims).or_else(|| of(&right, &y_dims)).unwrap_or(Dim::Known(1))
    };
    let dims = |letters: &[char]| -> Vec<Dim> { letters.iter().map(&dim).collect() };
    let x = ctx.transpose(x, &order(&left, [&batch, &rows, &summed]))?;
    let depth = merged(&dims(&summed))?;

    let is_weight = ctx.is_constant(y) && batch.is_empty() && ctx.element(y) == ElementType::F32;
    let product = if is_weight {
        let size = |letters: &[char]| -> Result<usize> {
            merged(&dims(letters))?.known().context("weights of unknown size")
        };
        let weights = ctx.transpose(y, &order(&right, [&columns, &summed, &batch]))?;
        let weights = ctx.reshaped_constant(weights, &[size(&columns)?, size(&summed)?])?;
        let flat = [dims(&rows), vec![depth]].concat();
        let flat = ctx.reshape(x, &flat, x)?;
        super::matmul::with_weights(ctx, flat, weights, rows.len() > 1)?
    } else {
        let y_order = order(&right, [&batch, &summed, &columns]);
        let y_moved = ctx.transpose(y, &y_order)?;
        let shape = |parts: [&[Dim]; 3]| parts.concat();
        let (height, width) = (merged(&dims(&rows))?, merged(&dims(&columns))?);
        let batches = dims(&batch);
        let x_shape =
            shape([&batches, std::slice::from_ref(&height), std::slice::from_ref(&depth)]);
        let y_shape = shape([&batches, std::slice::from_ref(&depth), std::slice::from_ref(&width)]);
        let (from_x, from_y) = (x, y_moved);
        let x = ctx.reshape(x, &x_shape, from_x)?;
        let y = ctx.reshape(y_moved, &y_shape, from_y)?;
        ctx.emit(LiteOp::BatchMatMul { transpose_x: false, transpose_y: false }, &[x, y])?
    };
    let result: Vec<char> = [&batch, &rows, &columns].into_iter().flatten().copied().collect();
    let product = ctx.reshape(product, &dims(&result), x)?;
    let back: Vec<usize> =
        made.iter().filter_map(|c| result.iter().position(|other| other == c)).collect();
    Ok(vec![ctx.transpose(product, &back)?])
}

/// One axis for several; at most one of them may be open, and only by itself.
fn merged(dims: &[Dim]) -> Result<Dim> {
    match dims {
        [one] => Ok(one.clone()),
        several => {
            let known: Option<Vec<usize>> = several.iter().map(Dim::known).collect();
            let known = known.context("open dimensions that would become one")?;
            let count = known.iter().try_fold(1usize, |n, &size| n.checked_mul(size));
            Ok(Dim::Known(count.context("an impossible size")?))
        }
    }
}
