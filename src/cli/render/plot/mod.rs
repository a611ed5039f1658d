//! What quantization cost, as a picture: each layer's signal-to-noise ratio, the worst first, and what the values of the
//! worst are like beside where they are clipped.

mod canvas;

use crate::quantize::{LayerHistogram, LayerLoss};
use anyhow::Result;
use canvas::{Anchor, Canvas, Colour, Pixels, Svg, TextSize};
use std::path::Path;

/// What is drawn.
pub struct LossPlot<'a> {
    pub title: String,
    pub subtitle: String,
    /// The worst first.
    pub layers: &'a [LayerLoss],
    /// Names of those that stay float32 after all.
    pub kept_float: &'a [String],
    pub histograms: &'a [LayerHistogram],
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum PlotFormat {
    Svg,
    Png,
}

impl PlotFormat {
    /// By the extension of a file's name.
    pub fn of(path: &Path) -> Option<PlotFormat> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "svg" => Some(PlotFormat::Svg),
            "png" => Some(PlotFormat::Png),
            _ => None,
        }
    }
}

const INK: Colour = [32, 38, 46];
const GREY: Colour = [110, 118, 128];
const LINE: Colour = [226, 230, 235];
const BAD: Colour = [200, 62, 50];
const FAIR: Colour = [226, 148, 28];
const GOOD: Colour = [46, 134, 171];
const KEPT: Colour = [176, 182, 190];
const CLIP: Colour = [200, 62, 50];

/// Decibels below which a layer's result is mostly wrong, and from which it is as good as eight bits make it.
const BAD_BELOW: f64 = 20.0;
const GOOD_FROM: f64 = 30.0;

const WIDTH: f32 = 1200.0;
const MARGIN: f32 = 30.0;
/// Where the bars begin and end.
const BARS: (f32, f32) = (410.0, WIDTH - 110.0);
const NAMES_END: f32 = 262.0;
const LONGEST_NAME: usize = 36;
const ROW: f32 = 21.0;
/// Layers that have a line with their name.
const MOST_NAMED: usize = 30;
const STRIP: f32 = 130.0;
const HISTOGRAMS: usize = 6;
const HISTOGRAMS_A_ROW: usize = 3;
const HISTOGRAM: (f32, f32) = (360.0, 150.0);
const COLUMNS: usize = 90;

impl LossPlot<'_> {
    /// # Errors
    /// The picture cannot be encoded.
    pub fn draw(&self, format: PlotFormat) -> Result<Vec<u8>> {
        let height = self.height();
        match format {
            PlotFormat::Svg => {
                let mut svg = Svg::new(WIDTH, height);
                self.draw_on(&mut svg);
                Ok(svg.finish())
            }
            PlotFormat::Png => {
                let mut pixels = Pixels::new(WIDTH, height)?;
                self.draw_on(&mut pixels);
                pixels.finish()
            }
        }
    }

    fn named(&self) -> &[LayerLoss] {
        &self.layers[..self.layers.len().min(MOST_NAMED)]
    }

    fn has_strip(&self) -> bool {
        self.layers.len() > MOST_NAMED
    }

    fn shown_histograms(&self) -> &[LayerHistogram] {
        &self.histograms[..self.histograms.len().min(HISTOGRAMS)]
    }

    fn height(&self) -> f32 {
        let strip = if self.has_strip() { STRIP + 90.0 } else { 0.0 };
        let rows = self.shown_histograms().len().div_ceil(HISTOGRAMS_A_ROW);
        let histograms = if rows > 0 { 44.0 + rows as f32 * (HISTOGRAM.1 + 86.0) } else { 0.0 };
        152.0 + self.named().len() as f32 * ROW + 50.0 + strip + histograms
    }

    fn draw_on(&self, canvas: &mut dyn Canvas) {
        canvas.text(MARGIN, 42.0, TextSize::Title, Anchor::Start, INK, &self.title);
        canvas.text(MARGIN, 66.0, TextSize::Normal, Anchor::Start, GREY, &self.subtitle);
        let scale = Decibels::of(self.layers);
        self.legend(canvas, 100.0);
        let mut y = self.bars(canvas, 152.0, &scale);
        if self.has_strip() {
            y = self.strip(canvas, y + 46.0, &scale);
        }
        let histograms = self.shown_histograms();
        if !histograms.is_empty() {
            let text = "Values of the worst layers' results in float32: how many, and where the integers end (red)";
            canvas.text(MARGIN, y + 36.0, TextSize::Normal, Anchor::Start, INK, text);
        }
        let alike = Alike::of(self.layers);
        for (place, histogram) in histograms.iter().enumerate() {
            let (row, column) = (place / HISTOGRAMS_A_ROW, place % HISTOGRAMS_A_ROW);
            let left = MARGIN + column as f32 * (HISTOGRAM.0 + MARGIN);
            let top = y + 64.0 + row as f32 * (HISTOGRAM.1 + 86.0);
            let name = shortened(&alike.without(&histogram.name), 30);
            draw_histogram(canvas, histogram, &name, left, top);
        }
    }

    fn legend(&self, canvas: &mut dyn Canvas, y: f32) {
        let mut x = MARGIN;
        let mut entry = |canvas: &mut dyn Canvas, colour: Colour, width: f32, text: &str| {
            canvas.rectangle(x + (14.0 - width) / 2.0, y - 11.0, width, 14.0, colour);
            canvas.text(x + 20.0, y, TextSize::Normal, Anchor::Start, INK, text);
            x += 40.0 + 7.9 * text.chars().count() as f32;
        };
        entry(canvas, BAD, 14.0, "below 20 dB");
        entry(canvas, FAIR, 14.0, "20 to 30 dB");
        entry(canvas, GOOD, 14.0, "30 dB or more, on integers by itself");
        entry(canvas, INK, 3.0, "with all layers before it on integers");
        if !self.kept_float.is_empty() {
            entry(canvas, KEPT, 14.0, "kept in float32");
        }
    }

    /// A line a layer; returns where they end.
    fn bars(&self, canvas: &mut dyn Canvas, top: f32, scale: &Decibels) -> f32 {
        let layers = self.named();
        let alike = Alike::of(self.layers);
        let bottom = top + layers.len() as f32 * ROW;
        let place = |db: f64| BARS.0 + scale.share(db) * (BARS.1 - BARS.0);
        for tick in scale.ticks() {
            let x = place(tick);
            canvas.rectangle(x - 0.5, top - 4.0, 1.0, bottom - top + 4.0, LINE);
            let text = signed(tick);
            canvas.text(x, top - 10.0, TextSize::Small, Anchor::Middle, GREY, &text);
        }
        let axis = "SQNR of the layer's result, dB: higher is better";
        canvas.text(BARS.0, top - 26.0, TextSize::Small, Anchor::Start, GREY, axis);
        if layers.is_empty() {
            let text = "no layer was measured";
            canvas.text(BARS.0, top + 15.0, TextSize::Normal, Anchor::Start, GREY, text);
        }
        for (row, layer) in layers.iter().enumerate() {
            let y = top + row as f32 * ROW;
            let baseline = y + 14.5;
            let name = shortened(&alike.without(&layer.name), LONGEST_NAME);
            canvas.text(NAMES_END, baseline, TextSize::Small, Anchor::End, INK, &name);
            let op = shortened(&layer.op, 18);
            canvas.text(NAMES_END + 8.0, baseline, TextSize::Small, Anchor::Start, GREY, &op);
            let end = layer.own_sqnr_db.map_or(BARS.1, place);
            let start = place(scale.low.max(0.0).min(layer.own_sqnr_db.unwrap_or(0.0)));
            let start = start.min(place(0.0f64.max(scale.low)));
            let from = start.min(end);
            let to = place(0.0f64.max(scale.low)).max(end);
            canvas.rectangle(from, y + 4.0, (to - from).max(1.0), ROW - 8.0, self.colour(layer));
            if let Some(here) = layer.sqnr_db {
                canvas.rectangle(place(here) - 1.5, y + 1.5, 3.0, ROW - 3.0, INK);
            }
            let said = match layer.own_sqnr_db {
                Some(db) => format!("{} dB", tenths(db)),
                None => "exact".to_string(),
            };
            let beyond = layer.sqnr_db.map_or(to, |here| to.max(place(here)));
            canvas.text(beyond + 8.0, baseline, TextSize::Small, Anchor::Start, INK, &said);
        }
        bottom
    }

    fn colour(&self, layer: &LayerLoss) -> Colour {
        match layer.own_sqnr_db {
            _ if self.kept_float.contains(&layer.name) => KEPT,
            Some(db) if db < BAD_BELOW => BAD,
            Some(db) if db < GOOD_FROM => FAIR,
            Some(_) | None => GOOD,
        }
    }

    /// All layers as thin columns; returns where they end.
    fn strip(&self, canvas: &mut dyn Canvas, top: f32, scale: &Decibels) -> f32 {
        let count = self.layers.len();
        let text = format!("SQNR of all {count} layers in dB, the worst first");
        canvas.text(MARGIN, top - 14.0, TextSize::Normal, Anchor::Start, INK, &text);
        let (left, right) = (MARGIN + 30.0, WIDTH - MARGIN);
        let bottom = top + STRIP;
        let place = |db: f64| bottom - scale.share(db) * STRIP;
        for tick in scale.ticks() {
            canvas.rectangle(left, place(tick) - 0.5, right - left, 1.0, LINE);
            let text = signed(tick);
            let y = place(tick) + 4.0;
            canvas.text(left - 6.0, y, TextSize::Small, Anchor::End, GREY, &text);
        }
        let step = (right - left) / count.max(1) as f32;
        let zero = place(0.0f64.max(scale.low));
        for (number, layer) in self.layers.iter().enumerate() {
            let x = left + number as f32 * step;
            let width = (step * 0.8).max(0.5);
            let end = layer.own_sqnr_db.map_or(top, place);
            let (high, low) = (end.min(zero), end.max(zero));
            canvas.rectangle(x, high, width, (low - high).max(1.0), self.colour(layer));
            if let Some(here) = layer.sqnr_db {
                canvas.rectangle(x, place(here) - 1.0, width, 2.0, INK);
            }
        }
        let first = format!("layers 1 to {} have their names above", MOST_NAMED);
        canvas.text(left, bottom + 18.0, TextSize::Small, Anchor::Start, GREY, &first);
        bottom + 22.0
    }
}

/// What all names begin and end with, in whole parts between slashes.
struct Alike {
    beginning: usize,
    end: usize,
}

impl Alike {
    fn of(layers: &[LayerLoss]) -> Alike {
        let parts = |layer: &LayerLoss| layer.name.split('/').map(str::to_string).collect();
        let names: Vec<Vec<String>> = layers.iter().map(parts).collect();
        let Some((first, others)) = names.split_first().filter(|(_, others)| !others.is_empty())
        else {
            return Alike { beginning: 0, end: 0 };
        };
        let shortest = names.iter().map(Vec::len).min().unwrap_or(0);
        let same = |place: usize| others.iter().all(|name| name[place] == first[place]);
        let beginning = (0..shortest.saturating_sub(1)).take_while(|&place| same(place)).count();
        let same_end = |back: usize| {
            let part = |name: &[String]| name[name.len() - 1 - back].clone();
            others.iter().all(|name| part(name) == part(first))
        };
        let most = shortest.saturating_sub(beginning + 1);
        let end = (0..most).take_while(|&back| same_end(back)).count();
        Alike { beginning, end }
    }

    fn without(&self, name: &str) -> String {
        let parts: Vec<&str> = name.split('/').collect();
        let last = parts.len().saturating_sub(self.end);
        parts.get(self.beginning..last).map_or(name.to_string(), |parts| parts.join("/"))
    }
}

/// The axis of all decibels of a plot.
struct Decibels {
    low: f64,
    high: f64,
}

impl Decibels {
    fn of(layers: &[LayerLoss]) -> Decibels {
        let values = layers.iter().flat_map(|l| [l.own_sqnr_db, l.sqnr_db]).flatten();
        let (low, high) = values.fold((0.0f64, 40.0f64), |(a, b), v| (a.min(v), b.max(v)));
        Decibels {
            low: ((low / 10.0).floor() * 10.0).max(-40.0),
            high: ((high / 10.0).ceil() * 10.0).min(120.0),
        }
    }

    fn share(&self, db: f64) -> f32 {
        ((db.clamp(self.low, self.high) - self.low) / (self.high - self.low)) as f32
    }

    fn ticks(&self) -> Vec<f64> {
        let step = if self.high - self.low > 90.0 { 20.0 } else { 10.0 };
        let first = (self.low / step).ceil() as i32;
        let last = (self.high / step).floor() as i32;
        (first..=last).map(|tick| tick as f64 * step).collect()
    }
}

fn draw_histogram(
    canvas: &mut dyn Canvas,
    histogram: &LayerHistogram,
    name: &str,
    left: f32,
    top: f32,
) {
    let (width, height) = HISTOGRAM;
    let title = format!("{name}  {}", histogram.op);
    canvas.text(left, top - 8.0, TextSize::Small, Anchor::Start, INK, &title);
    let bottom = top + height;
    let (low, high) = histogram.axis();
    let counts = histogram.columns(low, high, COLUMNS);
    let most = counts.iter().copied().fold(1.0, f64::max);
    let decades = most.log10().ceil().max(1.0);
    // a number alone is a bar of some height, too
    let level = |count: f64| ((count.max(1.0).log10() + 0.15) / (decades + 0.15)) as f32;
    let step = decades / 6.0;
    for decade in (0..=decades as i32).step_by((step.ceil() as usize).max(1)) {
        let y = bottom - level(10f64.powi(decade)) * height;
        canvas.rectangle(left + 34.0, y - 0.5, width - 34.0, 1.0, LINE);
        let text = power_of_ten(decade);
        canvas.text(left + 29.0, y + 4.0, TextSize::Small, Anchor::End, GREY, &text);
    }
    let place = |value: f32| {
        let share = (value as f64 - low as f64) / (high as f64 - low as f64);
        left + 34.0 + share.clamp(0.0, 1.0) as f32 * (width - 34.0)
    };
    let column = (width - 34.0) / COLUMNS as f32;
    for (number, &count) in counts.iter().enumerate().filter(|(_, count)| **count > 0.0) {
        let (x, tall) = (left + 34.0 + number as f32 * column, level(count) * height);
        canvas.rectangle(x, bottom - tall, column, tall, GOOD);
    }
    canvas.rectangle(left + 34.0, bottom, width - 34.0, 1.0, GREY);
    for edge in [histogram.range.min, histogram.range.max] {
        let mut y = top;
        while y < bottom {
            canvas.rectangle(place(edge) - 0.75, y, 1.5, 5.0, CLIP);
            y += 8.0;
        }
    }
    let (first, last) = (place(histogram.range.min), place(histogram.range.max));
    let (from, to) = (short(histogram.range.min), short(histogram.range.max));
    let apart = last - first > 7.0 * (from.chars().count() + to.chars().count()) as f32;
    if apart {
        canvas.text(first, bottom + 15.0, TextSize::Small, Anchor::Middle, CLIP, &from);
        canvas.text(last, bottom + 15.0, TextSize::Small, Anchor::Middle, CLIP, &to);
    } else {
        let both = format!("{from} to {to}");
        let middle = ((first + last) / 2.0).clamp(left + 60.0, left + width - 60.0);
        canvas.text(middle, bottom + 15.0, TextSize::Small, Anchor::Middle, CLIP, &both);
    }
    let own = histogram.own_sqnr_db.map_or("exact".into(), |db| format!("{} dB", tenths(db)));
    let weights = histogram.weights_sqnr_db.map(|db| format!(" · weights {} dB", tenths(db)));
    let seen = format!("seen {} to {}", short(histogram.seen.min), short(histogram.seen.max));
    let clipped = format!("{:.2} % clipped", histogram.clipped * 100.0);
    let said = format!("{own}{} · {clipped} · {seen}", weights.unwrap_or_default());
    canvas.text(left, bottom + 32.0, TextSize::Small, Anchor::Start, GREY, &said);
}

fn power_of_ten(power: i32) -> String {
    match power {
        0..=3 => format!("{}", 10i32.pow(power as u32)),
        4..=5 => format!("{} k", 10i32.pow(power as u32 - 3)),
        6..=8 => format!("{} M", 10i32.pow(power as u32 - 6)),
        _ => format!("1e{power}"),
    }
}

fn tenths(db: f64) -> String {
    format!("{db:.1}").replace('-', "−")
}

fn signed(db: f64) -> String {
    format!("{db:.0}").replace('-', "−")
}

/// Three digits that tell something.
fn short(value: f32) -> String {
    let size = value.abs();
    let text = match size {
        0.0 => "0".to_string(),
        _ if !(1e-3..1e5).contains(&size) => format!("{value:.1e}"),
        _ if size >= 100.0 => format!("{value:.0}"),
        _ if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    };
    text.replace('-', "−")
}

/// A name without its middle, where it is longer than `most` characters.
fn shortened(name: &str, most: usize) -> String {
    let count = name.chars().count();
    if count <= most {
        return name.to_string();
    }
    let end = most / 2;
    let beginning: String = name.chars().take(most - end - 1).collect();
    let rest: String = name.chars().skip(count - end).collect();
    format!("{beginning}…{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantize::Range;

    fn layer(name: &str, own: Option<f64>, here: Option<f64>) -> LayerLoss {
        LayerLoss {
            name: name.into(),
            op: "CONV_2D".into(),
            weights_sqnr_db: Some(47.5),
            own_sqnr_db: own,
            sqnr_db: here,
            clipped: 0.0,
            range: Range { min: 0.0, max: 1.0 },
            scale: 1.0,
            zero_point: 0,
            node: 0,
        }
    }

    fn svg(layers: &[LayerLoss], kept: &[String]) -> String {
        let (title, subtitle) = ("net: int8".to_string(), "64 samples".to_string());
        let plot = LossPlot { title, subtitle, layers, kept_float: kept, histograms: &[] };
        let png = plot.draw(PlotFormat::Png).unwrap();
        let picture = image::load_from_memory(&png).unwrap();
        assert_eq!(picture.width(), 2 * WIDTH as u32);
        String::from_utf8(plot.draw(PlotFormat::Svg).unwrap()).unwrap()
    }

    /// Every rectangle is within the picture.
    fn check_bounds(svg: &str, height: f32) {
        for line in svg.lines().filter(|l| l.starts_with("<rect")) {
            let numbers: Vec<f32> =
                line.split('"').skip(1).step_by(2).take(4).map(|n| n.parse().unwrap()).collect();
            let [x, y, w, h] = numbers[..] else { panic!("{line}") };
            let fits = x >= 0.0 && y >= 0.0 && x + w <= WIDTH + 0.1 && y + h <= height + 0.1;
            assert!(fits && w > 0.0 && h > 0.0, "{line}");
        }
    }

    #[test]
    fn a_net_of_any_size_fits_its_picture() {
        let sizes = [0, 1, 5, MOST_NAMED, MOST_NAMED + 1, 150, 2_000];
        for count in sizes {
            let layers: Vec<LayerLoss> = (0..count)
                .map(|i| layer(&format!("net {i}"), Some(i as f64 / 3.0 - 5.0), Some(12.5)))
                .collect();
            let text = svg(&layers, &[]);
            let plot = LossPlot {
                title: String::new(),
                subtitle: String::new(),
                layers: &layers,
                kept_float: &[],
                histograms: &[],
            };
            check_bounds(&text, plot.height());
            let named = text.matches(">net ").count();
            assert_eq!(named, count.min(MOST_NAMED));
            assert_eq!(text.contains("all 150 layers"), count == 150);
        }
    }

    #[test]
    fn colours_say_how_bad_a_layer_is() {
        let layers = [
            layer("nan", Some(-300.0), Some(-300.0)),
            layer("bad", Some(2.9), Some(2.0)),
            layer("kept", Some(3.1), None),
            layer("fair", Some(25.0), Some(24.0)),
            layer("good", Some(45.0), Some(30.0)),
            layer("exact", None, None),
        ];
        let text = svg(&layers, &["kept".to_string()]);
        let bars = text.lines().filter(|l| l.contains(&format!("height=\"{}\"", ROW - 8.0)));
        let fills: Vec<&str> = bars.map(|l| l.split('"').nth(9).unwrap()).collect();
        let colour = |[r, g, b]: Colour| format!("#{r:02x}{g:02x}{b:02x}");
        let expected = [BAD, BAD, KEPT, FAIR, GOOD, GOOD].map(colour);
        assert_eq!(fills, expected);
        assert!(text.contains(">−300.0 dB<") && text.contains(">exact<"));
        assert!(text.contains("kept in float32"));
    }

    #[test]
    fn what_all_names_have_in_common_is_left_out() {
        let check = |names: &[&str], expected: &[&str]| {
            let layers: Vec<LayerLoss> = names.iter().map(|n| layer(n, None, None)).collect();
            let alike = Alike::of(&layers);
            let found: Vec<String> = names.iter().map(|name| alike.without(name)).collect();
            assert_eq!(found, expected);
        };
        check(&["net/a/1/nhwc", "net/a/2/nhwc", "net/b/nhwc"], &["a/1", "a/2", "b"]);
        check(&["net/a", "net/a/b"], &["a", "a/b"]);
        check(&["same/same", "same/same"], &["same", "same"]);
        check(&["net/only"], &["net/only"]);
        check(&["/", "a", ""], &["/", "a", ""]);
    }

    #[test]
    fn numbers_and_names_are_short() {
        assert_eq!(
            [0.0, 1.0, -1.5, 123.4, 0.0123].map(short),
            ["0", "1.00", "−1.50", "123", "0.012"]
        );
        assert_eq!([1e-9, 1.5e30].map(short), ["1.0e−9", "1.5e30"]);
        assert_eq!(
            [0, 3, 4, 6, 8, 9].map(power_of_ten),
            ["1", "1000", "10 k", "1 M", "100 M", "1e9"]
        );
        assert_eq!(shortened("features/3/squeeze", 9), "feat…eeze");
        assert_eq!(shortened("conv", 9), "conv");
    }
}
