use super::*;
use prost::Message;

fn fixture() -> (ModelProto, Tensor, Vec<i64>) {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/models/");
    let bytes = std::fs::read(format!("{folder}dcase21_fsdd.onnx")).unwrap();
    let file = format!("{folder}dcase21_fsdd_eval.npz");
    let x = crate::data::read_named(&file, "x").unwrap();
    let y = crate::data::read_named(&file, "y").unwrap().to_i64().unwrap();
    (ModelProto::decode(&bytes[..]).unwrap(), x, y)
}

fn first_dimension(model: &mut ModelProto) -> &mut Option<Value> {
    let info = &mut model.graph.as_mut().unwrap().input[0];
    let Some(type_proto::Value::TensorType(t)) = &mut info.r#type.as_mut().unwrap().value else { panic!("a tensor") };
    &mut t.shape.as_mut().unwrap().dim[0].value
}

/// The count is onnxruntime's, stated in `fixtures/models/README.md`.
#[test]
fn as_many_clips_as_onnxruntime_gets_right() {
    let (mut model, x, y) = fixture();
    let expected = Accuracy { correct: 177, total: 200 };
    assert_eq!(top1(&model, &x, &y, &Options::default()).unwrap(), expected);
    *first_dimension(&mut model) = Some(Value::DimValue(48));
    assert_eq!(top1(&model, &x, &y, &Options::default()).unwrap(), expected, "a fixed batch, the last one filled up");
}

#[test]
fn misfits_name_file_array_and_shapes() {
    let (model, x, y) = fixture();
    let options = Options { file: "clips.npz".to_owned(), ..Options::default() };
    let error = |x: &Tensor, y: &[i64]| top1(&model, x, y, &options).unwrap_err().to_string();
    assert_eq!(
        error(&x.reshaped(vec![200, 40, 62, 1]).unwrap(), &y),
        "clips.npz: array 'x' is Float16 of [200, 40, 62, 1], but input 'logmel' of the model reads Float of \
         [any, 1, 40, 62]"
    );
    assert_eq!(error(&x, &y[1..]), "clips.npz: array 'y' has 199 labels for the 200 rows of 'x'");
    let mut wrong = y.clone();
    wrong[3] = 10;
    assert_eq!(error(&x, &wrong), "clips.npz: array 'y' holds label 10, but the model knows classes 0 to 9");
    let scalar = Tensor::from_f32(&[], &[1.0]);
    assert!(error(&scalar, &[1]).contains("is Float of []"));
}

#[test]
fn ties_and_numbers_that_are_none() {
    assert_eq!(highest(&[1.0, 3.0, 3.0]), Some(1));
    assert_eq!(highest(&[f64::NAN, -1.0]), Some(1));
    assert_eq!(highest(&[f64::NAN]), None);
}
