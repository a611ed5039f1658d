//! Flags of how pictures become a model's input.

use crate::commands::inputs::PictureFlags;
use crate::data::preprocessing::Layout;
use clap::Args;

#[derive(Debug, Args)]
#[command(next_help_heading = "How pictures become inputs")]
pub struct PictureArgs {
    /// Multiplies the pixel (0 to 255) [default: the model's record, or 1/255]
    #[arg(long, value_name = "F", allow_hyphen_values = true)]
    scale: Option<f32>,
    /// Subtracted from the scaled pixel, one number or one a channel: 0.485,0.456,0.406
    #[arg(long, value_name = "F,…", value_delimiter = ',', allow_hyphen_values = true)]
    mean: Option<Vec<f32>>,
    /// Divides after the mean was subtracted
    #[arg(long, value_name = "F,…", value_delimiter = ',')]
    std: Option<Vec<f32>>,
    /// Order of the model's input axes
    #[arg(long, value_name = "nchw|nhwc")]
    input_layout: Option<LayoutName>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum LayoutName {
    Nchw,
    Nhwc,
}

impl PictureArgs {
    pub fn flags(&self) -> PictureFlags {
        PictureFlags {
            mean: self.mean.clone(),
            std: self.std.clone(),
            scale: self.scale,
            input_layout: self.input_layout.map(|layout| match layout {
                LayoutName::Nchw => Layout::Nchw,
                LayoutName::Nhwc => Layout::Nhwc,
            }),
        }
    }
}
