//! What a model is calibrated on: pictures, digits or arrays, one run's worth at a time.

use super::inputs::{
    Classes, Feed, Given, Kind, adjusted, classes_of, from_csv, from_npy, from_npz, idx_classes,
    kind, npz_arrays, only_real_input, takes_pictures,
};
use crate::compare::Samples;
use crate::data::classes::RowClasses;
use crate::data::idx_folder::images_of;
use crate::data::picture_folders::list_pictures;
use crate::data::preprocessing::Preprocessing;
use crate::data::{image, mnist};
use crate::format::{idx, mmap};
use crate::graph::{Dim, ElementType, shape_text};
use crate::runtime::{Port, Tensor, f32_values};
use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};

/// Samples in the model's form, made when they are asked for.
#[derive(Debug)]
pub struct SampleSet {
    source: Source,
    /// Rows of the source, one list a run.
    runs: Vec<Vec<usize>>,
    /// The class of each row of the source.
    labels: Option<Vec<usize>>,
    /// `100 pictures of photos`.
    pub what: String,
    /// What the user should know.
    pub notes: Vec<String>,
}

#[derive(Debug)]
enum Source {
    /// 8-bit pixels of the record's size, one after another.
    Pixels {
        record: Preprocessing,
        pixels: Vec<u8>,
    },
    Pictures {
        record: Preprocessing,
        paths: Vec<PathBuf>,
    },
    /// One tensor an input; the first axis is rows.
    Arrays(Vec<Tensor>),
    /// One tensor an input; those that have an axis more than the input have samples along it, the others are every
    /// sample's.
    Singles {
        tensors: Vec<Tensor>,
        ranks: Vec<usize>,
    },
}

/// So few say little about the values there will be.
const FEW: usize = 10;
/// Values that float32 pictures have when nobody scaled them.
const PIXEL_RANGE: f32 = 255.0;
/// Values that spread by so much less than the model's pictures were scaled in another way.
const MUCH_NARROWER: f32 = 50.0;

impl SampleSet {
    /// At most `most` samples of `data`, spread evenly over it, `per_run` in one run where the model takes any number.
    /// Without data a model of digits has the built-in ones.
    ///
    /// # Errors
    /// The data cannot be read, does not fit the inputs, or holds what is not finite.
    pub fn open(
        data: &[PathBuf],
        most: usize,
        per_run: usize,
        ports: &[Port],
        record: Option<&Preprocessing>,
        model: &Classes,
    ) -> Result<SampleSet> {
        ensure!(most > 0, "--samples 0: at least one is needed");
        let mut notes = vec![];
        let mut labels = None;
        let (source, rows, what) = match data {
            [] if record.is_some_and(|r| {
                r == &Preprocessing { layout: r.layout, ..Preprocessing::mnist() }
            }) =>
            {
                built_in_digits(most, ports, record, &mut labels, &mut notes)?
            }
            [] => bail!(
                "calibrating needs samples like those the model will see: give --calibrate a folder of pictures, an \
                 .npz of inputs by name, .npy, IDX, .csv, or mnist"
            ),
            [one] if one.as_os_str() == "mnist" && !one.exists() => {
                built_in_digits(most, ports, record, &mut labels, &mut notes)?
            }
            [one] => match kind(one) {
                Kind::Npy => arrays(from_npy(one, ports)?, one, &mut labels)?,
                Kind::Npz => match singles(one, ports, &mut labels)? {
                    Some(singles) => singles,
                    None => arrays(from_npz(one, ports)?, one, &mut labels)?,
                },
                Kind::Csv => arrays(from_csv(one, ports)?, one, &mut labels)?,
                Kind::Idx => idx_pixels(one, ports, record, &mut labels, &mut notes)?,
                Kind::Pictures => match images_of(one, false) {
                    Some(images) => idx_pixels(&images, ports, record, &mut labels, &mut notes)?,
                    None => pictures(data, ports, record, &mut labels, &mut notes)?,
                },
            },
            several => match several.iter().find(|p| kind(p) != Kind::Pictures) {
                Some(other) => {
                    bail!("{} cannot be combined with other data; give it alone", other.display())
                }
                None => pictures(data, ports, record, &mut labels, &mut notes)?,
            },
        };
        let labels = labels.and_then(|rows| match model.of_rows(&rows) {
            Ok(labels) => Some(labels),
            Err(why) => {
                notes.push(format!("the samples' classes are not counted: {why}"));
                None
            }
        });
        let taken = most.min(rows);
        let chosen: Vec<usize> = (0..taken).map(|k| k * rows / taken).collect();
        let fixed = ports.iter().find_map(|p| p.shape.first().and_then(Dim::known));
        let is_single = matches!(source, Source::Singles { .. });
        let fixed = if is_single { Some(1) } else { fixed };
        let per_run = fixed.unwrap_or(per_run).max(1);
        let runs: Vec<Vec<usize>> = match fixed {
            Some(_) => chosen.chunks_exact(per_run).map(<[usize]>::to_vec).collect(),
            None => chosen.chunks(per_run).map(<[usize]>::to_vec).collect(),
        };
        ensure!(
            !runs.is_empty(),
            "the model takes {per_run} samples at a time; {what}: there are only {taken}"
        );
        let used: usize = runs.iter().map(Vec::len).sum();
        if used < FEW {
            notes.push(format!(
                "calibrating on {used} {}: ranges of values never seen will be cut off; give some \
                 hundred",
                if used == 1 { "sample" } else { "samples" }
            ));
        }
        if let (Source::Arrays(tensors) | Source::Singles { tensors, .. }, [file]) = (&source, data)
        {
            check_arrays(tensors, ports, record, &mut notes)
                .with_context(|| file.display().to_string())?;
        }
        Ok(SampleSet { source, labels, runs, what: format!("{used} of {what}"), notes })
    }
}

impl SampleSet {
    /// Those that a file is checked on: all that have labels, of others the first `most` runs.
    pub fn for_check(mut self, most: usize) -> SampleSet {
        if self.labels.is_none() {
            self.runs.truncate(most);
        }
        self.what = "calibration samples".into();
        self
    }
}

impl Samples for SampleSet {
    fn runs(&self) -> usize {
        self.runs.len()
    }

    fn run(&self, index: usize) -> Result<Vec<Tensor>> {
        let rows = self.runs.get(index).context("no such run")?;
        match &self.source {
            Source::Pixels { record, pixels } => {
                let size: usize = record.shape(1).iter().product();
                let mut values = Vec::with_capacity(rows.len() * size);
                for &row in rows {
                    values.extend(record.normalize(&pixels[row * size..][..size]));
                }
                Ok(vec![Tensor::from_shape(&record.shape(rows.len()), &values)?])
            }
            Source::Pictures { record, paths } => {
                let mut values = vec![];
                for &row in rows {
                    values.extend(image::to_tensor(&image::load_image(&paths[row])?, record).data);
                }
                Ok(vec![Tensor::from_shape(&record.shape(rows.len()), &values)?])
            }
            Source::Arrays(tensors) => tensors.iter().map(|t| rows_of(t, rows)).collect(),
            Source::Singles { tensors, ranks } => {
                let row = *rows.first().context("no such sample")?;
                let single = |(tensor, rank): (&Tensor, &usize)| match tensor.rank() == *rank {
                    true => Ok(tensor.clone()),
                    false => {
                        let mut one = tensor.slice(0, row, row + 1)?;
                        one.remove_axis(0)?;
                        Ok(one)
                    }
                };
                tensors.iter().zip(ranks).map(single).collect()
            }
        }
    }

    fn labels(&self, index: usize) -> Option<Vec<usize>> {
        self.runs.get(index)?.iter().map(|&row| self.labels.as_ref()?.get(row).copied()).collect()
    }
}

fn rows_of(tensor: &Tensor, rows: &[usize]) -> Result<Tensor> {
    let parts: Vec<Tensor> =
        rows.iter().map(|&row| tensor.slice(0, row, row + 1)).collect::<Result<_>>()?;
    Tensor::stack_tensors(0, &parts)
}

type Opened = (Source, usize, String);

fn built_in_digits(
    most: usize,
    ports: &[Port],
    record: Option<&Preprocessing>,
    labels: &mut Option<RowClasses>,
    notes: &mut Vec<String>,
) -> Result<Opened> {
    let record = adjusted(&Given::default(), record, only_real_input(ports)?, notes)?;
    let size = [record.height, record.width];
    ensure!(
        size == [mnist::ROWS, mnist::COLS] && record.channels.count() == 1,
        "the digits are 28×28 grey pixels; the model takes {}×{}×{}",
        record.height,
        record.width,
        record.channels.count()
    );
    let digits = mnist::first_train_images(most.min(mnist::TRAIN_IMAGES))?;
    let pixels = digits.images().to_vec();
    let numbers = digits.labels().iter().map(|&label| label.into());
    *labels = Some(RowClasses::Numbers(numbers.collect()));
    Ok((Source::Pixels { record, pixels }, digits.len(), "MNIST's training digits".into()))
}

fn idx_pixels(
    path: &Path,
    ports: &[Port],
    record: Option<&Preprocessing>,
    labels: &mut Option<RowClasses>,
    notes: &mut Vec<String>,
) -> Result<Opened> {
    let at = || path.display().to_string();
    let bytes = mmap::open(path).with_context(|| format!("cannot read {}", at()))?;
    let file = idx::parse(&bytes).with_context(at)?;
    let record = adjusted(&Given::default(), record, only_real_input(ports)?, notes)?;
    let (&count, size) = file.dims.split_first().with_context(|| format!("{}: no images", at()))?;
    ensure!(
        size == [record.height, record.width] && file.element == idx::IdxType::U8,
        "{}: images of {size:?} bytes; the model takes {}×{} grey pixels",
        at(),
        record.height,
        record.width
    );
    ensure!(count > 0, "{} holds no images", at());
    *labels = idx_classes(path, count)?;
    Ok((Source::Pixels { record, pixels: file.data.to_vec() }, count, at()))
}

fn pictures(
    data: &[PathBuf],
    ports: &[Port],
    record: Option<&Preprocessing>,
    labels: &mut Option<RowClasses>,
    notes: &mut Vec<String>,
) -> Result<Opened> {
    let found = list_pictures(data)?;
    let paths = found.paths;
    *labels = found.classes;
    let record = adjusted(&Given::default(), record, only_real_input(ports)?, notes)?;
    let names: Vec<String> = data.iter().map(|p| p.display().to_string()).collect();
    let rows = paths.len();
    Ok((
        Source::Pictures { record, paths },
        rows,
        format!("{rows} pictures ({})", names.join(", ")),
    ))
}

fn arrays(feed: Feed, path: &Path, labels: &mut Option<RowClasses>) -> Result<Opened> {
    *labels = feed.classes;
    let at = || path.display().to_string();
    let rows: Vec<usize> =
        feed.tensors.iter().map(|t| t.shape().first().copied().unwrap_or(0)).collect();
    let first = rows.first().copied().with_context(|| format!("{}: no arrays", at()))?;
    ensure!(rows.iter().all(|&n| n == first), "{}: the arrays have {rows:?} rows", at());
    ensure!(first > 0, "{} holds no samples", at());
    Ok((Source::Arrays(feed.tensors), first, format!("{first} samples ({})", at())))
}

/// Arrays of a model whose inputs do not have their rows in common, or that are given with an axis of samples before
/// their own; `None` where they are rows.
fn singles(path: &Path, ports: &[Port], labels: &mut Option<RowClasses>) -> Result<Option<Opened>> {
    let at = || path.display().to_string();
    let (tensors, classes) = npz_arrays(path, ports)?;
    let named = || tensors.iter().zip(ports);
    let has_samples = |(tensor, port): &(&Tensor, &Port)| tensor.rank() == port.shape.len() + 1;
    let first = |tensor: &Tensor| tensor.shape().first().copied();
    let known = || ports.iter().filter_map(|port| port.shape.first().and_then(Dim::known));
    let share_rows = ports.iter().all(|port| !port.shape.is_empty())
        && known().all(|n| Some(n) == known().next())
        && (ports.len() == 1
            || tensors.iter().all(|t| first(t) == tensors.first().and_then(first)));
    if share_rows && !named().any(|pair| has_samples(&pair)) {
        return Ok(None);
    }
    for pair in named() {
        let (tensor, port) = pair;
        let own = &tensor.shape()[usize::from(has_samples(&pair))..];
        let fits = port.shape.iter().zip(own).all(|(d, n)| d.known().is_none_or(|d| d == *n));
        ensure!(
            fits && own.len() == port.shape.len() && !tensor.shape().contains(&0),
            "{}: array '{}' has the shape {:?}; give {} for one sample or for all, or an axis of samples before that: \
             the inputs have no rows in common, and each sample runs by itself",
            at(),
            port.name,
            tensor.shape(),
            shape_text(&port.shape)
        );
    }
    let mut counts = named().filter(has_samples).filter_map(|(tensor, _)| first(tensor));
    let count = counts.next().unwrap_or(1);
    ensure!(
        counts.all(|n| n == count),
        "{}: the arrays have different numbers of samples: {:?}",
        at(),
        named().filter(has_samples).filter_map(|(t, _)| first(t)).collect::<Vec<_>>()
    );
    *labels = classes_of(path, classes, Some(count))?;
    let ranks = ports.iter().map(|port| port.shape.len()).collect();
    let what = format!("{count} sample{} ({})", if count == 1 { "" } else { "s" }, at());
    Ok(Some((Source::Singles { tensors, ranks }, count, what)))
}

fn check_arrays(
    tensors: &[Tensor],
    ports: &[Port],
    record: Option<&Preprocessing>,
    notes: &mut Vec<String>,
) -> Result<()> {
    for (tensor, port) in tensors.iter().zip(ports) {
        if port.element != ElementType::F32 {
            continue;
        }
        let range = |(low, high): (f32, f32), v: &f32| (low.min(*v), high.max(*v));
        let (mut low, mut high, mut whole) = (f32::INFINITY, f32::NEG_INFINITY, true);
        for row in 0..tensor.shape().first().copied().unwrap_or(0) {
            // by itself: a large array stays in its file
            let row_values = tensor.slice(0, row, row + 1)?;
            let values = f32_values(&row_values)?;
            if let Some(odd) = values.iter().find(|v| !v.is_finite()) {
                bail!(
                    "array '{}', row {row}: {odd} is not a finite number; clean the calibration data",
                    port.name
                );
            }
            (low, high) = values.iter().fold((low, high), range);
            whole = whole && values.iter().all(|v| v.fract() == 0.0);
        }
        if low == high {
            notes
                .push(format!("input '{}' is {low} everywhere in the calibration data", port.name));
        }
        let expected = record.map(|r| {
            let mut ends = r.normalize(&vec![0; r.shape(1).iter().product()]);
            ends.extend(r.normalize(&vec![255; r.shape(1).iter().product()]));
            ends.iter().fold((f32::INFINITY, f32::NEG_INFINITY), range)
        });
        match expected {
            Some((least, most)) => {
                let width = most - least;
                let beyond = low < least - 0.5 * width || high > most + 0.5 * width;
                if beyond || high - low < width / MUCH_NARROWER {
                    notes.push(format!(
                        "input '{}' reaches from {low} to {high} in the calibration data; the model's pictures are \
                         {least} to {most}: was the same preprocessing used? Pictures in place of arrays get it \
                         (--scale, --mean and --std change it)",
                        port.name
                    ));
                }
            }
            None => {
                let in_range = low >= 0.0 && high > PIXEL_RANGE / 2.0 && high <= PIXEL_RANGE;
                if in_range && (takes_pictures(port) || whole) {
                    notes.push(format!(
                        "input '{}' reaches from {low} to {high}, like pixels nobody scaled; if the model was \
                         trained on 0..1, scale the array, or give the pictures with --scale, --mean and --std",
                        port.name
                    ));
                }
            }
        }
    }
    Ok(())
}
