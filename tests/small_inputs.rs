//! Inputs that are too small for a model's windows are an error, for the ONNX file and its conversion.

use mlctl::model::{LoadedModel, locate};
use mlctl::runtime::f32_tensor;
use std::path::Path;

#[test]
fn a_picture_smaller_than_the_windows_is_refused() {
    let net = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/models/pnet.onnx");
    let model = LoadedModel::load(&locate(Some(&net)).unwrap()).unwrap();
    let lite = mlctl::model::plan_lite(&model.lite_graph().unwrap().0).unwrap();
    for plan in [model.plan().unwrap(), lite] {
        let run = |side: usize| {
            let picture = f32_tensor(&[1, side, side, 3], &vec![0.5; side * side * 3]).unwrap();
            plan.session().unwrap().run(vec![picture])
        };
        // three convolutions of 3 and a pool of 2 leave one place of 12 pixels
        assert_eq!(run(12).unwrap()[0].shape()[1..3], [1, 1]);
        let error = run(4).unwrap_err().to_string();
        assert!(error.starts_with("the input is too small: "), "{error}");
    }
}
