//! Trained quantized nets, read and run: classes of digits, and integers that LiteRT 2.3's reference kernels gave
//! (`tests/interop/check_quantized_nets.py` asks them for every output integer of more inputs).

use mlctl::graph::Dim;
use mlctl::model::plan_lite;
use mlctl::read;
use mlctl::runtime::{Plan, Tensor};
use std::io::Read;
use std::path::{Path, PathBuf};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

fn plan(name: &str) -> Plan {
    let bytes = std::fs::read(fixture(&format!("models/{name}.tflite"))).unwrap();
    let file = read::parse_tflite(bytes.into()).unwrap();
    plan_lite(&read::lite_graph(&file).unwrap()).unwrap()
}

fn unzipped(name: &str) -> Vec<u8> {
    let mut bytes = vec![];
    let file = std::fs::File::open(fixture(name)).unwrap();
    flate2::read::GzDecoder::new(file).read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn nets_of_digits_know_most_digits() {
    const DIGITS: usize = 200;
    let pixels = unzipped("mnist/t10k-images-idx3-ubyte.gz");
    let labels = unzipped("mnist/t10k-labels-idx1-ubyte.gz");
    for (name, least) in [("MNISTnet_uint8_quant", 196), ("MNISTnet_v2_uint8_quant", 195)] {
        let mut session = plan(name).session().unwrap();
        let right = (0..DIGITS).filter(|&i| {
            let digit = &pixels[16 + i * 784..][..784];
            let input = Tensor::from_shape(&[1, 28, 28, 1], digit).unwrap();
            let scores = session.run(vec![input]).unwrap()[0].as_bytes().to_vec();
            let best = (0..10).max_by_key(|&c| scores[c]).unwrap();
            best == usize::from(labels[8 + i])
        });
        let right = right.count();
        assert!(right >= least, "{name}: {right} of {DIGITS}");
    }
}

#[test]
fn a_net_of_pictures_gives_the_reference_kernels_integers() {
    let plan = plan("cifar10_resnet_int8");
    assert_eq!(plan.inputs()[0].shape[0], Dim::Symbol("N".into()));
    let pixels: Vec<i8> =
        (0..2 * 32 * 32 * 3).map(|i: i32| ((i * 37 + i / 96 * 11) % 256 - 128) as i8).collect();
    let input = Tensor::from_shape(&[2, 32, 32, 3], &pixels).unwrap();
    let found = plan.session().unwrap().run(vec![input]).unwrap();
    let found: Vec<i8> = found[0].as_bytes().iter().map(|&b| b as i8).collect();
    assert_eq!(found, EXPECTED);
}

/// LiteRT 2.3.0, `OpResolverType.BUILTIN_REF`.
const EXPECTED: [i8; 20] = [
    -128, -128, -126, 125, -128, -128, -127, -128, -128, -128, -128, -128, -126, 126, -128, -128,
    -128, -128, -128, -128,
];
