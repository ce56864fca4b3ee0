//! Files in, the same files out: nothing of a model is lost, and nothing half-written stays.

use bytes::Bytes;
use prost::Message;
use secateur::onnx::proto::tensor_proto::DataLocation;
use secateur::onnx::proto::*;
use secateur::onnx::tensor::Tensor;
use secateur::onnx::{ReadError, WriteError, read, read_bytes, write, write_to};
use std::fs;
use std::path::{Path, PathBuf};

fn text(value: &str) -> Option<String> {
    Some(value.to_owned())
}

fn entry(key: &str, value: &str) -> StringStringEntryProto {
    StringStringEntryProto { key: text(key), value: text(value) }
}

/// A model that uses every corner of the format that is easily lost: a domain that nobody knows, a function with a
/// default attribute, a subgraph, sparse and quantized tensors, metadata at each level, training and devices.
fn corners() -> ModelProto {
    let weight = Tensor::from_f32(&[64, 32], &vec![0.5; 2048]).to_proto("w");
    let typed = TensorProto { data_type: Some(1), dims: vec![2], float_data: vec![1.0, -0.0], ..Default::default() };
    let body = GraphProto { name: text("body"), initializer: vec![weight.clone()], ..Default::default() };
    let branch = AttributeProto { name: text("then_branch"), r#type: Some(5), g: Some(body), ..Default::default() };
    let sparse = SparseTensorProto { values: Some(typed.clone()), indices: Some(typed.clone()), dims: vec![9] };
    let constant =
        AttributeProto { name: text("value"), r#type: Some(4), t: Some(typed.clone()), ..Default::default() };
    let rank = ShardedDimProto { axis: Some(-1), simple_sharding: vec![SimpleShardedDimProto::default()] };
    let sharding =
        ShardingSpecProto { tensor_name: text("w"), device: vec![0, 1], sharded_dim: vec![rank], ..Default::default() };
    let device =
        NodeDeviceConfigurationProto { sharding_spec: vec![sharding], pipeline_stage: Some(-2), ..Default::default() };
    let node = NodeProto {
        op_type: text("Mystery"),
        domain: text("com.example"),
        overload: text("b"),
        input: vec!["x".into(), String::new(), "w".into()],
        output: vec!["y".into()],
        attribute: vec![branch, constant],
        doc_string: text("naïve ✂"),
        metadata_props: vec![entry("k", "")],
        device_configurations: vec![device],
        ..Default::default()
    };
    let annotation =
        TensorAnnotation { tensor_name: text("w"), quant_parameter_tensor_names: vec![entry("SCALE_TENSOR", "s")] };
    let graph = GraphProto {
        node: vec![node.clone()],
        initializer: vec![weight],
        sparse_initializer: vec![sparse],
        quantization_annotation: vec![annotation],
        metadata_props: vec![entry("graph", "level")],
        ..Default::default()
    };
    let default = AttributeProto { name: text("alpha"), f: Some(f32::NAN), r#type: Some(1), ..Default::default() };
    let function =
        FunctionProto { name: text("F"), node: vec![node], attribute_proto: vec![default], ..Default::default() };
    ModelProto {
        ir_version: Some(10),
        opset_import: vec![OperatorSetIdProto { domain: text(""), version: Some(21) }],
        graph: Some(graph.clone()),
        functions: vec![function],
        training_info: vec![TrainingInfoProto { algorithm: Some(graph), ..Default::default() }],
        configuration: vec![DeviceConfigurationProto { device: vec!["gpu".into()], ..Default::default() }],
        metadata_props: vec![entry("author", "someone")],
        model_version: Some(-1),
        ..Default::default()
    }
}

/// The smallest model that is read: `opset_import` is its last field, so each shorter piece lacks something.
fn small() -> ModelProto {
    let node = NodeProto { op_type: text("Relu"), input: vec!["x".into()], ..Default::default() };
    let graph = GraphProto { node: vec![node], name: text("g"), ..Default::default() };
    let opset = OperatorSetIdProto { domain: None, version: Some(17) };
    ModelProto { ir_version: Some(8), graph: Some(graph), opset_import: vec![opset], ..Default::default() }
}

fn external(name: &str, bytes: Vec<u8>) -> TensorProto {
    TensorProto {
        name: text(name),
        data_type: Some(2),
        dims: vec![bytes.len() as i64],
        raw_data: Some(bytes.into()),
        data_location: Some(DataLocation::External as i32),
        external_data: vec![entry("location", "old"), entry("checksum", "stale"), entry("vendor", "kept")],
        ..Default::default()
    }
}

fn payload(seed: u8, length: usize) -> Vec<u8> {
    (0..length).map(|i| (i as u8).wrapping_mul(31) ^ seed).collect()
}

fn with_external(sizes: &[usize]) -> ModelProto {
    let mut model = small();
    let tensors = sizes.iter().enumerate().map(|(i, &size)| external(&format!("t{i}"), payload(i as u8, size)));
    let mut tensors: Vec<_> = tensors.collect();
    // One of them as the attribute of a node within a graph within a node.
    let constant = AttributeProto { name: text("value"), t: tensors.pop(), ..Default::default() };
    let inner = NodeProto { output: vec!["c".into()], attribute: vec![constant], ..Default::default() };
    let body = GraphProto { node: vec![inner], ..Default::default() };
    let branch = AttributeProto { name: text("body"), g: Some(body), ..Default::default() };
    let graph = model.graph.as_mut().unwrap();
    graph.initializer = tensors;
    graph.node[0].attribute.push(branch);
    model
}

fn inner_tensor(model: &ModelProto) -> &TensorProto {
    let body = model.graph.as_ref().unwrap().node[0].attribute[0].g.as_ref().unwrap();
    body.node[0].attribute[0].t.as_ref().unwrap()
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn every_corner_survives() {
    let model = corners();
    let expected = model.encode_to_vec();
    let mut streamed = Vec::new();
    assert_eq!(write_to(&model, &mut streamed).unwrap(), expected.len() as u64);
    assert!(streamed == expected, "the stream differs from what prost encodes");

    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("a.onnx"), folder.path().join("b.onnx"));
    assert_eq!(write(&model, &first).unwrap(), expected.len() as u64);
    let loaded = read(&first).unwrap();
    write(&loaded.model, &second).unwrap();
    assert!(fs::read(&first).unwrap() == expected && fs::read(&second).unwrap() == expected);
    assert_eq!(names_in(folder.path()), ["a.onnx", "b.onnx"]);
}

#[test]
fn a_model_can_be_written_over_itself() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.onnx");
    write(&corners(), &path).unwrap();
    let loaded = read(&path).unwrap();
    for _ in 0..2 {
        write(&loaded.model, &path).unwrap();
        loaded.map.release();
    }
    assert!(fs::read(&path).unwrap() == corners().encode_to_vec());
}

#[test]
fn the_deepest_nesting_that_is_allowed_is_read_and_written() {
    // Each graph within a graph takes three levels of messages, of which the format allows a hundred.
    let nested = |depth: usize| {
        let mut model = small();
        for _ in 0..depth {
            let branch = AttributeProto { name: text("body"), g: model.graph.take(), ..Default::default() };
            let node = NodeProto { op_type: text("If"), attribute: vec![branch], ..Default::default() };
            model.graph = Some(GraphProto { node: vec![node], ..Default::default() });
        }
        model.encode_to_vec()
    };
    let bytes = nested(32);
    let mut out = Vec::new();
    write_to(&read_bytes(bytes.clone().into(), None).unwrap(), &mut out).unwrap();
    assert!(out == bytes);
    let error = read_bytes(nested(40).into(), None).unwrap_err().to_string();
    assert!(error.contains("nested deeper"), "{error}");
}

#[test]
fn every_truncation_is_an_error() {
    let bytes = Bytes::from(small().encode_to_vec());
    read_bytes(bytes.clone(), None).unwrap();
    for end in 0..bytes.len() {
        assert!(read_bytes(bytes.slice(..end), None).is_err(), "{end} of {} bytes", bytes.len());
    }
    let bytes = Bytes::from(corners().encode_to_vec());
    for end in 0..bytes.len() {
        let _ = read_bytes(bytes.slice(..end), None);
    }
}

#[test]
fn every_flipped_byte_is_read_whole_or_refused() {
    let bytes = corners().encode_to_vec();
    for at in (0..bytes.len()).filter(|at| at % 7 == 0 || *at < 200) {
        for flip in [0x01, 0x80, 0xff] {
            let mut bad = bytes.clone();
            bad[at] ^= flip;
            // Whatever is accepted must come out as it came in, up to odd encodings, which are of another length.
            if let Ok(model) = read_bytes(bad.clone().into(), None) {
                assert!(model.encode_to_vec().len() <= bad.len(), "byte {at}");
            }
        }
    }
}

#[test]
fn what_is_no_model_is_said_to_be_none() {
    let graphless = ModelProto { graph: None, ..small() };
    let versionless = ModelProto { ir_version: None, ..small() };
    let opsetless = ModelProto { opset_import: vec![], ..small() };
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (vec![], "the file is empty"),
        (graphless.encode_to_vec(), "has no graph"),
        (versionless.encode_to_vec(), "no ir_version"),
        (opsetless.encode_to_vec(), "no operator set"),
        (b"version https://git-lfs.github.com/spec/v1\n".to_vec(), "Git LFS"),
        (b"PK\x03\x04abc".to_vec(), "zip archive"),
        (b"<ir_version: 8>".to_vec(), "text"),
        (b"hello, world".to_vec(), "at byte 0"),
        (vec![0; 64], "0 is not the key of a field"),
        (vec![0xff; 64], "at byte 0"),
    ];
    for (bytes, expected) in cases {
        let error = read_bytes(bytes.into(), None).unwrap_err().to_string();
        assert!(error.contains(expected), "expected {expected}, found {error}");
    }
    // IR versions before 3 did not know operator sets.
    let old = ModelProto { ir_version: Some(2), opset_import: vec![], ..small() };
    read_bytes(old.encode_to_vec().into(), None).unwrap();
}

#[test]
fn paths_that_hold_no_model_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing.onnx");
    assert!(matches!(read(&missing), Err(ReadError::NotFound { .. })));
    assert!(matches!(read(folder.path()), Err(ReadError::Directory { .. })));
    let empty = folder.path().join("empty.onnx");
    fs::write(&empty, b"").unwrap();
    assert!(matches!(read(&empty), Err(ReadError::Empty)));
}

#[test]
fn external_tensors_go_to_a_file_beside_the_model() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.onnx");
    let sizes = [100, 1 << 20, 0, 5000, 7];
    let model = with_external(&sizes);
    let written = write(&model, &path).unwrap();
    assert_eq!(names_in(folder.path()), ["m.onnx", "m.onnx.data"]);
    let lengths = [&path, &folder.path().join("m.onnx.data")].map(|path| fs::metadata(path).unwrap().len());
    assert_eq!(written, lengths.iter().sum::<u64>());
    assert!(lengths[0] < 2000, "payloads are not in the model: {lengths:?}");

    // On disk: where the bytes are. In memory: the bytes as well.
    let raw = ModelProto::decode(fs::read(&path).unwrap().as_slice()).unwrap();
    let entries = &raw.graph.as_ref().unwrap().initializer[1].external_data;
    let expected = [("location", "m.onnx.data"), ("offset", "4096"), ("length", "1048576"), ("vendor", "kept")];
    assert_eq!(entries, &expected.map(|(key, value)| entry(key, value)));
    let mut loaded = read(&path).unwrap();
    let graph = loaded.model.graph.as_ref().unwrap();
    for (i, tensor) in graph.initializer.iter().enumerate() {
        assert!(tensor.raw_data() == payload(i as u8, sizes[i]), "tensor {i}");
    }
    assert!(inner_tensor(&loaded.model).raw_data() == payload(4, 7));

    // Over itself, with a tensor that grew, while the old data is mapped still.
    loaded.model.graph.as_mut().unwrap().initializer[0] = external("t0", payload(9, 3 << 20));
    write(&loaded.model, &path).unwrap();
    let again = read(&path).unwrap();
    let graph = again.model.graph.as_ref().unwrap();
    assert!(graph.initializer[0].raw_data() == payload(9, 3 << 20));
    assert!(graph.initializer[1].raw_data() == payload(1, 1 << 20));
    assert_eq!(names_in(folder.path()), ["m.onnx", "m.onnx.data"]);

    // As a stream there is no second file: the model holds everything itself.
    let mut stream = Vec::new();
    write_to(&again.model, &mut stream).unwrap();
    let whole = read_bytes(stream.into(), None).unwrap();
    assert!(inner_tensor(&whole).raw_data() == payload(4, 7));
    assert!(inner_tensor(&whole).external_data.is_empty());
}

#[test]
fn external_files_out_of_reach_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("w.bin"), [1; 16]).unwrap();
    fs::create_dir(folder.path().join("sub")).unwrap();
    let absolute = folder.path().join("w.bin").to_str().unwrap().to_owned();
    let tensor = |entries: &[(&str, &str)]| TensorProto {
        raw_data: None,
        external_data: entries.iter().map(|(key, value)| entry(key, value)).collect(),
        ..external("w", vec![0; 4])
    };
    let model = |entries: &[(&str, &str)]| {
        let mut model = small();
        model.graph.as_mut().unwrap().initializer = vec![tensor(entries)];
        Bytes::from(model.encode_to_vec())
    };
    let cases: [(&[(&str, &str)], &str); 10] = [
        (&[("location", "../w.bin")], "must be a path within"),
        (&[("location", "sub/../../w.bin")], "must be a path within"),
        (&[("location", &absolute)], "must be a path within"),
        (&[], "must be a path within"),
        (&[("location", "missing.bin")], "cannot be read"),
        (&[("location", "sub")], "not a regular file"),
        (&[("location", "w.bin"), ("offset", "13")], "beyond the end"),
        (&[("location", "w.bin"), ("length", "17")], "beyond the end"),
        (&[("location", "w.bin"), ("offset", "18446744073709551615"), ("length", "2")], "beyond the end"),
        (&[("location", "w.bin"), ("offset", "-1")], "not a number"),
    ];
    for (entries, expected) in cases {
        let error = read_bytes(model(entries), Some(folder.path())).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("'w'"), "{entries:?}: {error}");
    }
    let good = model(&[("location", "./w.bin"), ("offset", "12")]);
    let read = read_bytes(good.clone(), Some(folder.path())).unwrap();
    assert_eq!(read.graph.unwrap().initializer[0].raw_data().len(), 4, "as many as the shape says");
    let error = read_bytes(good, None).unwrap_err().to_string();
    assert!(error.contains("from a stream"), "{error}");
}

#[test]
fn a_refused_output_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(write(&small(), folder.path()), Err(WriteError::Directory { .. })));
    assert!(matches!(write(&small(), &folder.path().join("no/m.onnx")), Err(WriteError::Create { .. })));
    let mut unloaded = with_external(&[8, 8]);
    unloaded.graph.as_mut().unwrap().initializer[0].raw_data = None;
    assert!(matches!(write(&unloaded, &folder.path().join("m.onnx")), Err(WriteError::External(_))));
    // The data file cannot be made, so the model is not either.
    fs::create_dir(folder.path().join("n.onnx.data")).unwrap();
    assert!(matches!(write(&with_external(&[8]), &folder.path().join("n.onnx")), Err(WriteError::Directory { .. })));
    assert_eq!(names_in(folder.path()), ["n.onnx.data"]);
}

#[test]
fn errors_of_a_stream_are_passed_on() {
    struct Full;
    impl std::io::Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    assert!(matches!(write_to(&corners(), &mut Full), Err(WriteError::Stream(_))));
}

#[cfg(unix)]
#[test]
fn permissions_and_links_are_kept() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let mode = |name: &str| fs::metadata(at(name)).unwrap().mode() & 0o777;
    fs::write(at("plain"), b"").unwrap();
    write(&small(), &at("new.onnx")).unwrap();
    assert_eq!(mode("new.onnx"), mode("plain"));

    fs::set_permissions(at("new.onnx"), fs::Permissions::from_mode(0o640)).unwrap();
    symlink("new.onnx", at("link.onnx")).unwrap();
    write(&small(), &at("link.onnx")).unwrap();
    assert_eq!(mode("new.onnx"), 0o640);
    assert!(fs::symlink_metadata(at("link.onnx")).unwrap().is_symlink());

    fs::set_permissions(at("new.onnx"), fs::Permissions::from_mode(0o444)).unwrap();
    assert!(matches!(write(&small(), &at("new.onnx")), Err(WriteError::ReadOnly { .. })));
    // A device is written to, not replaced.
    write(&small(), Path::new("/dev/null")).unwrap();
    assert!(!fs::metadata("/dev/null").unwrap().is_file());
}

/// The models that are shared between checkouts: `SECATEUR_SHARED`, or a folder `shared` next to this one.
fn shared_models() -> Vec<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
    let folder = std::env::var_os("SECATEUR_SHARED").map_or(beside, PathBuf::from).join("models");
    let entries = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    let mut models: Vec<_> = entries.filter(|path| path.extension().is_some_and(|e| e == "onnx")).collect();
    models.sort();
    models
}

#[test]
fn shared_models_come_out_as_they_went_in() {
    let models = shared_models();
    if models.is_empty() {
        eprintln!("SKIPPED: no shared models; set SECATEUR_SHARED to the folder that holds 'models'");
    }
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.onnx");
    for path in models {
        let loaded = read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        write(&loaded.model, &out).unwrap();
        assert!(fs::read(&path).unwrap() == fs::read(&out).unwrap(), "{} differs", path.display());
    }
}
