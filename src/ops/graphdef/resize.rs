//! Pictures of another size.

use super::*;

pub fn write(ctx: &mut GraphDefContext, node: &Node) -> Result<()> {
    let inputs = ctx.inputs(node)?;
    let element = ctx.input_tensor(node, 0)?.element;
    let resize = |align_corners, half_pixel_centers| {
        [
            ("T", Attribute::Type(element)),
            ("align_corners", Attribute::Bool(align_corners)),
            ("half_pixel_centers", Attribute::Bool(half_pixel_centers)),
        ]
    };
    let blocks = |block: usize| {
        let block = Attribute::Int(block as i64);
        let layout = Attribute::Text("NHWC");
        [("T", Attribute::Type(element)), ("block_size", block), ("data_format", layout)]
    };
    let value = match &node.op {
        &LiteOp::ResizeBilinear { align_corners, half_pixel_centers } => {
            ensure!(element == ElementType::F32, "TensorFlow makes float32 of {element} pixels");
            ctx.add("ResizeBilinear", &inputs, &resize(align_corners, half_pixel_centers))
        }
        &LiteOp::ResizeNearest { align_corners, half_pixel_centers } => {
            ctx.add("ResizeNearestNeighbor", &inputs, &resize(align_corners, half_pixel_centers))
        }
        LiteOp::DepthToSpace { block } => ctx.add("DepthToSpace", &inputs, &blocks(*block)),
        LiteOp::SpaceToDepth { block } if ctx.is_js() => {
            space_to_depth(ctx, node, inputs[0], element, *block)?
        }
        LiteOp::SpaceToDepth { block } => ctx.add("SpaceToDepth", &inputs, &blocks(*block)),
        other => bail!("{} resizes nothing", other.name()),
    };
    ctx.bind(node, value)
}

/// For a target that has no such op.
fn space_to_depth(
    ctx: &mut GraphDefContext,
    node: &Node,
    x: GraphDefValue,
    element: ElementType,
    block: usize,
) -> Result<GraphDefValue> {
    let shape = &ctx.output_tensor(node)?.shape;
    let known: Option<Vec<usize>> = shape.iter().skip(1).map(Dim::known).collect();
    let known = known.filter(|known| known.len() == 3);
    let known = known.context("TensorFlow.js has no SpaceToDepth, and the size is open")?;
    let [height, width, channels] = [known[0], known[1], known[2] / (block * block)];
    let sizes = |sizes: &[usize]| -> Result<Vec<i32>> {
        let sizes = sizes.iter().map(|&n| Ok(i32::try_from(n)?));
        std::iter::once(Ok(-1)).chain(sizes).collect()
    };
    let apart = sizes(&[height, block, width, block, channels])?;
    let x = ctx.reshape(x, element, &apart);
    let x = super::shape::transpose(ctx, x, element, &[0, 1, 3, 2, 4, 5]);
    let together = sizes(&known)?;
    Ok(ctx.reshape(x, element, &together))
}

pub fn read(ctx: &mut GraphDefReader, node: &GraphDefInput) -> Result<Vec<TensorId>> {
    let mut x = node.input(0)?;
    ensure!(ctx.rank(x) == 4, "a picture of rank {}", ctx.rank(x));
    let y = match node.op {
        "ResizeBilinear" | "ResizeNearestNeighbor" => {
            let size = ctx.as_i32(node.input(1)?)?;
            let (align_corners, half_pixel_centers) =
                (node.flag("align_corners"), node.flag("half_pixel_centers"));
            match node.op {
                "ResizeBilinear" => {
                    // TensorFlow makes float32 of all pixels
                    x = ctx.cast(x, ElementType::F32)?;
                    ctx.emit(
                        LiteOp::ResizeBilinear { align_corners, half_pixel_centers },
                        &[x, size],
                    )?
                }
                _ => ctx.emit(
                    LiteOp::ResizeNearest { align_corners, half_pixel_centers },
                    &[x, size],
                )?,
            }
        }
        _ => {
            ensure!(node.text("data_format") != "NCHW_VECT_C", "channels in groups of four");
            let block = usize::try_from(node.int("block_size").context("it has no block_size")?)?;
            x = ctx.to_channels_last(node, x)?;
            let y = match node.op {
                "DepthToSpace" => ctx.emit(LiteOp::DepthToSpace { block }, &[x])?,
                _ => ctx.emit(LiteOp::SpaceToDepth { block }, &[x])?,
            };
            ctx.from_channels_last(node, y)?
        }
    };
    Ok(vec![y])
}
