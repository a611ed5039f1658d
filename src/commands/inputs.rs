//! What the user gave → the model's input tensors.

use crate::compare::{Inputs, digits, example_inputs, rows_of_runs};
use crate::data::classes::RowClasses;
use crate::data::idx_folder::{images_of, labels_beside};
use crate::data::image;
use crate::data::picture_folders::list_pictures;
use crate::data::preprocessing::{Layout, Preprocessing};
use crate::format::{idx, mmap, npy};
use crate::graph::{Dim, ElementType, shape_text};
use crate::model::{check_record_fits, guessed_record, scale_as_bytes};
use crate::runtime::{Plan, Port, Tensor, from_array};
use anyhow::{Context, Result, bail, ensure};
use std::io::Read;
use std::path::{Path, PathBuf};

/// What the user gave, and what they said of it.
#[derive(Debug, Clone, Default)]
pub struct Given<'a> {
    /// Pictures, folders of pictures, `.npy`, `.npz`, IDX, CSV; `-` is JSON on `stdin`.
    pub inputs: &'a [PathBuf],
    pub pictures: PictureFlags,
}

/// What the user said of how pictures become an input; it overrides the model's record.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PictureFlags {
    pub mean: Option<Vec<f32>>,
    pub std: Option<Vec<f32>>,
    pub scale: Option<f32>,
    pub input_layout: Option<Layout>,
}

impl PictureFlags {
    /// The model's record with what was said; `None` where nothing was said.
    ///
    /// # Errors
    /// The model takes no pictures, or none of this kind.
    pub fn record(
        &self,
        recorded: Option<&Preprocessing>,
        ports: &[Port],
        notes: &mut Vec<String>,
    ) -> Result<Option<Preprocessing>> {
        if *self == PictureFlags::default() {
            return Ok(None);
        }
        let given = Given { inputs: &[], pictures: self.clone() };
        let record = only_real_input(ports).and_then(|p| adjusted(&given, recorded, p, notes));
        record.map(Some).context("--scale, --mean, --std, --input-layout")
    }
}

/// The tensors for one prediction, and where their rows come from.
#[derive(Default)]
pub struct Feed {
    pub tensors: Vec<Tensor>,
    pub names: Vec<String>,
    pub inverted: Vec<bool>,
    pub notes: Vec<String>,
    /// The right class of each row, where the data tells it.
    pub classes: Option<RowClasses>,
}

/// The most that is read from standard input.
const MAX_STDIN: u64 = 256 << 20;

impl Feed {
    /// Tensors for a model whose inputs are `ports` and whose pictures become what `record` says.
    ///
    /// # Errors
    /// A file cannot be read, or what it holds does not fit.
    pub fn read(given: &Given, record: Option<&Preprocessing>, ports: &[Port]) -> Result<Feed> {
        match given.inputs {
            [] => bail!(
                "no input given: a picture, a folder of pictures, .npy, .npz, IDX, .csv, or - for JSON"
            ),
            [one] if one.as_os_str() == "-" => from_json(ports),
            [one] => match kind(one) {
                Kind::Npy => from_npy(one, ports),
                Kind::Npz => from_npz(one, ports),
                Kind::Csv => from_csv(one, ports),
                Kind::Idx => from_idx(one, given, record, ports),
                Kind::Pictures => match images_of(one, true) {
                    Some(images) => from_idx(&images, given, record, ports),
                    None => from_pictures(given, record, ports),
                },
            },
            several if several.iter().any(|p| p.as_os_str() == "-") => {
                bail!("- (standard input) cannot be combined with other inputs; give it alone")
            }
            several => match several.iter().find(|p| kind(p) != Kind::Pictures) {
                Some(other) => {
                    bail!("{} cannot be combined with other inputs; give it alone", other.display())
                }
                None => from_pictures(given, record, ports),
            },
        }
    }
}

/// What a model, or two on their common `ports`, are tried on: the files of `--data`, or without them what suits
/// the model. At most `most_rows` rows a run.
pub fn test_inputs(
    data: &[PathBuf],
    plan: &Plan,
    ports: &[Port],
    record: Option<&Preprocessing>,
    most_rows: usize,
) -> Result<Inputs> {
    let model = Classes { labels: &[], count: plan.outputs().first().and_then(class_count) };
    match data_inputs(data, ports, record, &model, most_rows)? {
        Some(inputs) => Ok(inputs),
        None => in_runs(example_inputs(plan, ports, record)?, ports, most_rows),
    }
}

/// What `--data` gives, as [`Feed::read`] takes it (`mnist` is the built-in test digits); `None` where it gives
/// nothing.
///
/// # Errors
/// Name the flag and the file that cannot be read or does not fit the `ports`.
pub fn data_inputs(
    data: &[PathBuf],
    ports: &[Port],
    record: Option<&Preprocessing>,
    model: &Classes,
    most_rows: usize,
) -> Result<Option<Inputs>> {
    let read = || match data {
        [] => Ok(None),
        [one] if is_built_in(one) => {
            let port = only_real_input(ports)?;
            let record = adjusted(&Given::default(), record, port, &mut vec![])?;
            let digits =
                digits(&record, port.shape.first().and_then(Dim::known))?.of_reals(port)?;
            in_runs(digits, ports, most_rows).map(Some)
        }
        _ => {
            let feed = Feed::read(&Given { inputs: data, ..Given::default() }, record, ports)?;
            let names: Vec<String> = data.iter().map(|p| p.display().to_string()).collect();
            let what = match feed.names.len() {
                0 => names.join(", "),
                1 => "1 picture".to_string(),
                several => format!("{several} pictures"),
            };
            let labels = feed.classes.as_ref().and_then(|classes| model.of_rows(classes).ok());
            let inputs = Inputs { runs: vec![feed.tensors], labels, what };
            in_runs(inputs, ports, most_rows).map(Some)
        }
    };
    let built_in = matches!(data, [one] if is_built_in(one));
    read().context(if built_in { "--data mnist" } else { "--data" })
}

/// Whether the files of `--data` are there at all, before a model is loaded.
///
/// # Errors
/// Name the flag and the file.
pub fn check_data(data: &[PathBuf]) -> Result<()> {
    let files = data.iter().filter(|path| path.as_os_str() != "-" && !is_built_in(path));
    for path in files {
        std::fs::metadata(path)
            .with_context(|| format!("--data: cannot read {}", path.display()))?;
    }
    Ok(())
}

fn is_built_in(path: &Path) -> bool {
    path.as_os_str() == "mnist" && !path.exists()
}

/// The classes of a model: their names, and how many there are.
pub struct Classes<'a> {
    pub labels: &'a [String],
    pub count: Option<usize>,
}

impl Classes<'_> {
    /// # Errors
    /// Says why the rows' classes are not the model's.
    pub fn of_rows(&self, rows: &RowClasses) -> Result<Vec<usize>, String> {
        let count = self.count.ok_or("the model's first output is no list of classes")?;
        rows.of_model(self.labels, count)
    }
}

/// How many classes an output tells apart; `None` where it is something else.
pub fn class_count(output: &Port) -> Option<usize> {
    let dims: Option<Vec<usize>> = output.shape.iter().skip(1).map(Dim::known).collect();
    let mut dims = dims?.into_iter().filter(|&n| n != 1);
    let count = dims.next()?;
    (dims.next().is_none() && output.has_reals()).then_some(count)
}

fn in_runs(inputs: Inputs, ports: &[Port], most_rows: usize) -> Result<Inputs> {
    let runs = inputs.runs.into_iter().map(|run| rows_of_runs(ports, run, most_rows));
    let runs: Vec<Vec<Vec<Tensor>>> = runs.collect::<Result<_>>()?;
    Ok(Inputs { runs: runs.into_iter().flatten().collect(), ..inputs })
}

#[derive(PartialEq)]
pub(super) enum Kind {
    Npy,
    Npz,
    Csv,
    Idx,
    Pictures,
}

pub(super) fn kind(path: &Path) -> Kind {
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default().to_ascii_lowercase();
    let plain = name.strip_suffix(".gz").unwrap_or(&name);
    match name.rsplit('.').next() {
        Some("npy") => Kind::Npy,
        Some("npz") => Kind::Npz,
        Some("csv") => Kind::Csv,
        _ if plain.ends_with("ubyte") || plain.contains("-idx") => Kind::Idx,
        _ => Kind::Pictures,
    }
}

pub(super) fn read_file(path: &Path) -> Result<bytes::Bytes> {
    let bytes = mmap::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    ensure!(!bytes.is_empty(), "{} is empty", path.display());
    Ok(bytes)
}

pub(super) fn from_npy(path: &Path, ports: &[Port]) -> Result<Feed> {
    let at = || path.display().to_string();
    let [port] = ports else {
        bail!("{}: the model has {} inputs; give an .npz with them by name", at(), ports.len());
    };
    let array = npy::read_npy(&read_file(path)?).with_context(at)?;
    let tensor = as_port_takes(&array, port).with_context(at)?;
    Ok(Feed { tensors: vec![with_batch_axis(tensor, port).with_context(at)?], ..Feed::default() })
}

/// The arrays of the inputs as the file has them, and one of labels.
pub(super) fn npz_arrays(
    path: &Path,
    ports: &[Port],
) -> Result<(Vec<Tensor>, Option<(String, npy::Array)>)> {
    let at = || path.display().to_string();
    let mut arrays = npy::read_npz(&read_file(path)?).with_context(at)?;
    let wanted: Vec<&str> = ports.iter().map(|p| p.name.as_str()).collect();
    let is_labels = |name: &String| LABELS.contains(&name.as_str());
    let labels = arrays.iter().position(|(n, _)| is_labels(n) && !wanted.contains(&n.as_str()));
    let labels = labels.map(|place| arrays.remove(place));
    if let ([port], [(name, _)]) = (ports, arrays.as_mut_slice()) {
        *name = port.name.clone();
    }
    let mut tensors = vec![];
    for port in ports {
        let array = arrays.iter().find(|(name, _)| *name == port.name);
        let (_, array) = array.with_context(|| {
            let found: Vec<&str> = arrays.iter().map(|(name, _)| name.as_str()).collect();
            format!(
                "{}: no array '{}' (found {found:?}, the inputs are {wanted:?})",
                at(),
                port.name
            )
        })?;
        let tensor = as_port_takes(array, port);
        let tensor = tensor.with_context(|| format!("{}: array '{}'", at(), port.name))?;
        tensors.push(tensor);
    }
    Ok((tensors, labels))
}

pub(super) fn from_npz(path: &Path, ports: &[Port]) -> Result<Feed> {
    let (arrays, labels) = npz_arrays(path, ports)?;
    let mut tensors = vec![];
    for (array, port) in arrays.into_iter().zip(ports) {
        let tensor = with_batch_axis(array, port);
        tensors.push(tensor.with_context(|| path.display().to_string())?);
    }
    let rows = tensors.first().and_then(|t| t.shape().first().copied());
    let classes = classes_of(path, labels, rows)?;
    Ok(Feed { tensors, classes, ..Feed::default() })
}

/// Arrays of an `.npz`, and columns of a CSV file, that hold the rows' classes.
const LABELS: [&str; 3] = ["labels", "label", "class"];

/// What an array of labels says of as many `rows`.
pub(super) fn classes_of(
    path: &Path,
    labels: Option<(String, npy::Array)>,
    rows: Option<usize>,
) -> Result<Option<RowClasses>> {
    let Some((name, array)) = labels else { return Ok(None) };
    let classes = whole_numbers(&array, rows);
    classes.map(Some).with_context(|| format!("{}: array '{name}'", path.display()))
}

fn whole_numbers(array: &npy::Array, rows: Option<usize>) -> Result<RowClasses> {
    let is_list = matches!(array.shape.as_slice(), [_] | [_, 1]);
    let numbers = from_array(array, ElementType::I64)
        .and_then(|t| Ok(t.try_as_plain_ram()?.as_slice::<i64>()?.to_vec()));
    match numbers {
        Ok(numbers) if is_list && Some(numbers.len()) == rows => Ok(RowClasses::Numbers(numbers)),
        _ => bail!(
            "{:?} of shape {:?}: labels are whole numbers, one a row; there are {} rows",
            array.dtype,
            array.shape,
            rows.unwrap_or(0)
        ),
    }
}

/// Reals for integers that stand for such are quantized; other values keep their type.
fn as_port_takes(array: &npy::Array, port: &Port) -> Result<Tensor> {
    let is_real = matches!(array.dtype, npy::Dtype::F16 | npy::Dtype::F32 | npy::Dtype::F64);
    match is_real && port.has_reals() {
        true => port.of_reals(from_array(array, ElementType::F32)?),
        false => from_array(array, port.element),
    }
}

/// A single sample without its batch axis gets one.
fn with_batch_axis(mut tensor: Tensor, port: &Port) -> Result<Tensor> {
    if tensor.rank() + 1 == port.shape.len() {
        tensor.insert_axis(0)?;
    }
    let fits = tensor.rank() == port.shape.len()
        && port
            .shape
            .iter()
            .zip(tensor.shape())
            .skip(1)
            .all(|(d, n)| d.known().is_none_or(|d| d == *n));
    ensure!(
        fits && !tensor.shape().contains(&0),
        "input '{}' takes shape {}, got {:?}",
        port.name,
        shape_text(&port.shape),
        tensor.shape()
    );
    Ok(tensor)
}

pub(super) fn only_real_input(ports: &[Port]) -> Result<&Port> {
    let [port] = ports else {
        bail!("the model has {} inputs; give an .npz with them by name", ports.len());
    };
    ensure!(
        port.has_reals(),
        "the model's input '{}' takes {}; give an .npy or .npz of that type",
        port.name,
        port.element
    );
    Ok(port)
}

/// Rows of numbers as samples of the port's shape.
fn from_rows(rows: Vec<Vec<f32>>, port: &Port) -> Result<Feed> {
    let sample: Option<Vec<usize>> = port.shape.iter().skip(1).map(|d| d.known()).collect();
    let sample = sample.unwrap_or_else(|| vec![rows.first().map_or(0, Vec::len)]);
    let size: usize = sample.iter().product();
    for (i, row) in rows.iter().enumerate() {
        ensure!(row.len() == size, "row {i} has {} numbers, a sample has {size}", row.len());
    }
    let mut shape = vec![rows.len()];
    shape.extend(sample);
    let tensor = port.of_reals(Tensor::from_shape(&shape, &rows.concat())?)?;
    Ok(Feed { tensors: vec![tensor], ..Feed::default() })
}

pub(super) fn from_csv(path: &Path, ports: &[Port]) -> Result<Feed> {
    let bytes = read_file(path)?;
    let at = || path.display().to_string();
    let text = std::str::from_utf8(&bytes).with_context(|| format!("{}: not text", at()))?;
    let mut rows = vec![];
    let mut labels: Option<usize> = None;
    let mut words = vec![];
    for (number, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
        let mut cells: Vec<&str> = line.split([',', ';', '\t']).map(str::trim).collect();
        if let Some(label) = labels.filter(|&place| place < cells.len()) {
            words.push(unquoted(cells.remove(label)).to_string());
        }
        let row: Result<Vec<f32>, _> = cells.iter().map(|v| v.parse()).collect();
        match row {
            Ok(row) => rows.push(row),
            Err(_) if number == 0 => {
                let is_label =
                    |cell: &&str| LABELS.contains(&unquoted(cell).to_lowercase().as_str());
                labels = cells.iter().position(is_label);
            }
            Err(e) => bail!("{} line {}: {e}", at(), number + 1),
        }
    }
    ensure!(!rows.is_empty(), "{} holds no numbers", at());
    let count = rows.len();
    let feed = from_rows(rows, only_real_input(ports)?).with_context(at)?;
    let classes = labels.filter(|_| words.len() == count).map(|_| RowClasses::of_words(&words));
    Ok(Feed { classes, ..feed })
}

fn unquoted(cell: &str) -> &str {
    cell.trim_matches('"').trim()
}

fn from_json(ports: &[Port]) -> Result<Feed> {
    let mut text = String::new();
    std::io::stdin().take(MAX_STDIN + 1).read_to_string(&mut text).context("standard input")?;
    ensure!(text.len() as u64 <= MAX_STDIN, "standard input: more than {MAX_STDIN} bytes");
    let value: serde_json::Value = serde_json::from_str(&text).context("standard input: JSON")?;
    let samples = value.get("instances").or(value.get("inputs")).unwrap_or(&value);
    let samples = samples.as_array().context("standard input: an array of samples is expected")?;
    fn flatten(value: &serde_json::Value, into: &mut Vec<f32>) -> Result<()> {
        match value {
            serde_json::Value::Array(items) => items.iter().try_for_each(|v| flatten(v, into)),
            serde_json::Value::Number(n) => {
                into.push(n.as_f64().context("standard input: a number is too large")? as f32);
                Ok(())
            }
            other => bail!("standard input: numbers are expected, not {other}"),
        }
    }
    let mut rows = vec![];
    for sample in samples {
        let mut row = vec![];
        flatten(sample, &mut row)?;
        rows.push(row);
    }
    ensure!(!rows.is_empty(), "standard input: no samples");
    from_rows(rows, only_real_input(ports)?).context("standard input")
}

fn from_idx(
    path: &Path,
    given: &Given,
    record: Option<&Preprocessing>,
    ports: &[Port],
) -> Result<Feed> {
    let at = || path.display().to_string();
    let file = idx::parse(&read_file(path)?).with_context(at)?;
    let mut notes = vec![];
    let port = only_real_input(ports)?;
    let record = adjusted(given, record, port, &mut notes)?;
    let (&count, size) = file.dims.split_first().with_context(|| format!("{}: no images", at()))?;
    ensure!(
        size == [record.height, record.width] && file.element == idx::IdxType::U8,
        "{}: images of {size:?} bytes; the model takes {}×{} grey pixels",
        at(),
        record.height,
        record.width
    );
    let tensor = Tensor::from_shape(&record.shape(count), &record.normalize(&file.data))?;
    let tensor = port.of_reals(tensor)?;
    let names = (0..count).map(|i| format!("image {i}")).collect();
    let classes = idx_classes(path, count)?;
    Ok(Feed { tensors: vec![tensor], names, notes, classes, ..Feed::default() })
}

/// The labels in the file beside one of `count` images.
pub(super) fn idx_classes(images: &Path, count: usize) -> Result<Option<RowClasses>> {
    let Some(path) = labels_beside(images) else { return Ok(None) };
    let at = || path.display().to_string();
    let file = idx::parse(&read_file(&path)?).with_context(at)?;
    ensure!(
        file.element == idx::IdxType::U8 && file.dims == [count],
        "{}: labels of dimensions {:?}; {} holds {count} images",
        at(),
        file.dims,
        images.display()
    );
    Ok(Some(RowClasses::Numbers(file.data.iter().map(|&label| label.into()).collect())))
}

fn from_pictures(given: &Given, record: Option<&Preprocessing>, ports: &[Port]) -> Result<Feed> {
    let pictures = list_pictures(given.inputs)?;
    let paths = pictures.paths;
    let mut feed = Feed { classes: pictures.classes, ..Feed::default() };
    let port = only_real_input(ports)?;
    let record = adjusted(given, record, port, &mut feed.notes)?;
    let mut values = vec![];
    for path in &paths {
        let tensor = image::to_tensor(&image::load_image(path)?, &record);
        values.extend(tensor.data);
        feed.inverted.push(tensor.inverted);
        feed.names.push(path.display().to_string());
    }
    let tensor = Tensor::from_shape(&record.shape(paths.len()), &values)?;
    feed.tensors.push(port.of_reals(tensor)?);
    Ok(feed)
}

/// The model's preprocessing record, or one guessed from its input; flags override both.
pub(super) fn adjusted(
    given: &Given,
    recorded: Option<&Preprocessing>,
    port: &Port,
    notes: &mut Vec<String>,
) -> Result<Preprocessing> {
    let said = &given.pictures;
    let mut record = match recorded {
        Some(record) => record.clone(),
        None => guessed_record(port, said.input_layout)?,
    };
    let told = said.scale.is_some() || said.mean.is_some() || said.std.is_some();
    let bytes = recorded.is_none() && !told && scale_as_bytes(&mut record, port);
    if recorded.is_none() && said.scale.is_none() {
        let way = match bytes {
            true => "go in as they are, 0 to 255",
            false => "are scaled to 0..1",
        };
        notes.push(format!(
            "the model says nothing of its pixels; they {way} (--scale, --mean and --std change \
             that)"
        ));
    }
    if let Some(scale) = said.scale {
        record.scale = scale;
    }
    if let Some(mean) = &said.mean {
        record.mean = mean.clone();
    }
    if let Some(std) = &said.std {
        record.std = std.clone();
    }
    if let Some(layout) = said.input_layout {
        record.layout = layout;
    }
    record.validate()?;
    check_record_fits(&record, port)?;
    Ok(record)
}

/// Whether an input has the shape of pictures.
pub(super) fn takes_pictures(port: &Port) -> bool {
    [None, Some(Layout::Nhwc)].into_iter().any(|layout| guessed_record(port, layout).is_ok())
}
