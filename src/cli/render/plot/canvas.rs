//! What a plot is drawn on: an SVG document, or the pixels of a PNG file. Rectangles and lines of text are all there is.

use anyhow::{Context, Result};
use image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};
use std::fmt::Write;

pub type Colour = [u8; 3];

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Anchor {
    Start,
    Middle,
    End,
}

/// Heights of letters, in units of the drawing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum TextSize {
    Small,
    Normal,
    Title,
}

/// Units are pixels of the screen; y grows downwards.
pub trait Canvas {
    fn rectangle(&mut self, x: f32, y: f32, width: f32, height: f32, colour: Colour);
    /// A line of text whose baseline is at `y`.
    fn text(&mut self, x: f32, y: f32, size: TextSize, anchor: Anchor, colour: Colour, text: &str);
}

/// An SVG 1.1 document.
pub struct Svg(String);

impl Svg {
    pub fn new(width: f32, height: f32) -> Svg {
        let mut svg = Svg(format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" font-family=\"DejaVu Sans, Verdana, Arial, sans-serif\">\n"
        ));
        svg.rectangle(0.0, 0.0, width, height, [255; 3]);
        svg
    }

    pub fn finish(self) -> Vec<u8> {
        (self.0 + "</svg>\n").into_bytes()
    }
}

fn hex([r, g, b]: Colour) -> String {
    format!("#{r:02x}{g:02x}{b:02x}")
}

/// Hundredths, without zeros at the end.
fn number(value: f32) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

impl Canvas for Svg {
    fn rectangle(&mut self, x: f32, y: f32, width: f32, height: f32, colour: Colour) {
        let [x, y, width, height] = [x, y, width, height].map(number);
        let fill = hex(colour);
        let _ = writeln!(
            self.0,
            "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" fill=\"{fill}\"/>"
        );
    }

    fn text(&mut self, x: f32, y: f32, size: TextSize, anchor: Anchor, colour: Colour, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let mut escaped = String::new();
        for character in text.chars() {
            match character {
                '&' => escaped += "&amp;",
                '<' => escaped += "&lt;",
                '>' => escaped += "&gt;",
                c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => escaped += "□",
                c => escaped.push(c),
            }
        }
        let [x, y] = [x, y].map(number);
        let (size, fill) = (size.units(), hex(colour));
        let _ = writeln!(
            self.0,
            "<text x=\"{x}\" y=\"{y}\" font-size=\"{size}\" text-anchor=\"{anchor}\" fill=\"{fill}\">{escaped}</text>"
        );
    }
}

/// Pixels, [`Pixels::SCALE`] a unit each way.
pub struct Pixels {
    width: usize,
    height: usize,
    rgb: Vec<u8>,
    font: Font,
}

/// What `make_font.py` drew.
struct Font {
    width: usize,
    grey: Vec<u8>,
}

/// A block of `font.png`: a line a size, as `make_font.py` says them.
struct Block {
    width: usize,
    height: usize,
    ascent: usize,
    /// Where it begins.
    top: usize,
}

const GLYPHS: &str = " !\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmnopqrstuvwxyz{|}~µ×·°–…−→□";
const COLUMNS: usize = 16;
const PAD: usize = 2;
const ROWS: usize = 7;

impl TextSize {
    fn units(self) -> usize {
        match self {
            TextSize::Small => 11,
            TextSize::Normal => 13,
            TextSize::Title => 20,
        }
    }

    fn block(self) -> Block {
        match self {
            TextSize::Small => Block { width: 28, height: 28, ascent: 22, top: 0 },
            TextSize::Normal => Block { width: 32, height: 33, ascent: 26, top: 28 * ROWS },
            TextSize::Title => Block { width: 46, height: 49, ascent: 39, top: (28 + 33) * ROWS },
        }
    }
}

impl Pixels {
    pub const SCALE: f32 = 2.0;

    /// # Errors
    /// The program's own font cannot be read.
    pub fn new(width: f32, height: f32) -> Result<Pixels> {
        let font = image::load_from_memory(include_bytes!("font.png")).context("font.png")?;
        let font = font.into_luma8();
        let font = Font { width: font.width() as usize, grey: font.into_raw() };
        let [width, height] = [width, height].map(|side| (side * Self::SCALE).ceil() as usize);
        Ok(Pixels { width, height, rgb: vec![255; width * height * 3], font })
    }

    /// # Errors
    /// The pixels cannot be encoded.
    pub fn finish(self) -> Result<Vec<u8>> {
        let mut bytes = vec![];
        let (width, height) = (self.width as u32, self.height as u32);
        let encoder = PngEncoder::new(&mut bytes);
        encoder.write_image(&self.rgb, width, height, ExtendedColorType::Rgb8)?;
        Ok(bytes)
    }

    /// Lays `colour` over a pixel, `share` of it.
    fn blend(&mut self, x: usize, y: usize, colour: Colour, share: f32) {
        if x >= self.width || y >= self.height {
            return;
        }
        for (channel, new) in colour.into_iter().enumerate() {
            let old = &mut self.rgb[(y * self.width + x) * 3 + channel];
            *old = (*old as f32 + (new as f32 - *old as f32) * share).round() as u8;
        }
    }
}

impl Font {
    fn at(&self, x: usize, y: usize) -> u8 {
        self.grey.get(y * self.width + x).copied().unwrap_or(0)
    }

    /// The corner of a character's cell.
    fn cell(&self, block: &Block, character: char) -> (usize, usize) {
        let place = GLYPHS.chars().position(|glyph| glyph == character);
        let place = place.unwrap_or(GLYPHS.chars().count() - 1);
        (place % COLUMNS * block.width, block.top + place / COLUMNS * block.height)
    }

    /// In pixels.
    fn advance(&self, block: &Block, character: char) -> f32 {
        let (x, y) = self.cell(block, character);
        (0..block.width).map(|column| self.at(x + column, y) as f32 / 255.0).sum()
    }
}

impl Canvas for Pixels {
    fn rectangle(&mut self, x: f32, y: f32, width: f32, height: f32, colour: Colour) {
        let [left, top, right, bottom] =
            [x, y, x + width, y + height].map(|v| (v * Self::SCALE).max(0.0));
        let cover = |from: f32, to: f32, pixel: usize| {
            (to.min(pixel as f32 + 1.0) - from.max(pixel as f32)).clamp(0.0, 1.0)
        };
        let end = |edge: f32, most: usize| (edge.ceil() as usize).min(most);
        for row in top as usize..end(bottom, self.height) {
            for column in left as usize..end(right, self.width) {
                let share = cover(top, bottom, row) * cover(left, right, column);
                self.blend(column, row, colour, share);
            }
        }
    }

    fn text(&mut self, x: f32, y: f32, size: TextSize, anchor: Anchor, colour: Colour, text: &str) {
        let block = size.block();
        let length: f32 = text.chars().map(|c| self.font.advance(&block, c)).sum();
        let mut pen = x * Self::SCALE
            - match anchor {
                Anchor::Start => 0.0,
                Anchor::Middle => length / 2.0,
                Anchor::End => length,
            };
        let top = (y * Self::SCALE).round() as isize - block.ascent as isize;
        for character in text.chars() {
            let (cell_x, cell_y) = self.font.cell(&block, character);
            let left = pen.round() as isize - PAD as isize;
            for row in 1..block.height {
                for column in 0..block.width {
                    let grey = self.font.at(cell_x + column, cell_y + row);
                    let (x, y) = (left + column as isize, top + row as isize);
                    if let (true, Ok(x), Ok(y)) = (grey > 0, x.try_into(), y.try_into()) {
                        self.blend(x, y, colour, grey as f32 / 255.0);
                    }
                }
            }
            pen += self.font.advance(&block, character);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_break_out_of_an_svg() {
        let mut svg = Svg::new(10.0, 10.0);
        svg.text(1.0, 2.5, TextSize::Small, Anchor::End, [1, 2, 255], "a<b>&\u{1}\"é");
        let text = String::from_utf8(svg.finish()).unwrap();
        assert!(text.contains(">a&lt;b&gt;&amp;□\"é</text>"), "{text}");
        assert!(
            text.contains(r##"x="1" y="2.5" font-size="11" text-anchor="end" fill="#0102ff""##)
        );
    }

    #[test]
    fn edges_of_rectangles_cover_their_share_of_a_pixel() {
        let mut pixels = Pixels::new(2.0, 1.0).unwrap();
        pixels.rectangle(0.25, 0.0, 1.0, 0.5, [0; 3]);
        // half, whole, half of the second unit's first pixel, none; the second line is untouched
        let line: Vec<u8> = pixels.rgb.chunks(3).map(|p| p[0]).collect();
        assert_eq!(line, [128, 0, 128, 255, 255, 255, 255, 255]);
        pixels.rectangle(-5.0, -5.0, 100.0, 100.0, [9; 3]);
        assert!(pixels.rgb.iter().all(|&v| v == 9));
        assert!(pixels.finish().unwrap().starts_with(b"\x89PNG"));
    }

    #[test]
    fn text_is_drawn_where_it_is_anchored() {
        let ink = |anchor| {
            let mut pixels = Pixels::new(100.0, 30.0).unwrap();
            pixels.text(50.0, 20.0, TextSize::Normal, anchor, [0; 3], "mmmm□\u{4e2d}");
            let dark = |x: &usize| (0..60).any(|y| pixels.rgb[(y * 200 + x) * 3] < 128);
            let columns: Vec<usize> = (0..200).filter(dark).collect();
            (columns[0], columns[columns.len() - 1])
        };
        let (start, middle, end) = (ink(Anchor::Start), ink(Anchor::Middle), ink(Anchor::End));
        assert!((100..106).contains(&start.0) && start.1 > 180, "{start:?}");
        assert!((94..=101).contains(&end.1) && end.0 < 20, "{end:?}");
        let centre = (middle.0 + middle.1) / 2;
        assert!((97..=103).contains(&centre), "{middle:?}");
    }
}
