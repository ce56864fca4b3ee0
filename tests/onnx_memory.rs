//! A large model is read, visited and written in little memory. Alone in its file, since it measures its process.

#![cfg(target_os = "linux")]

use bytes::Bytes;
use secateur::onnx::proto::{GraphProto, ModelProto, OperatorSetIdProto, TensorProto};
use secateur::onnx::{read, write, write_releasing};

const TENSORS: usize = 32;
// No multiple of a page, so that payloads share their first and last pages with their neighbours.
const BYTES: usize = 6_000_001;

/// The largest memory this process ever had resident, in MiB.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() >> 10
}

#[test]
fn weights_never_all_reside() {
    let payload = Bytes::from(vec![7; BYTES]);
    let tensor = |i| TensorProto { name: Some(format!("t{i}")), raw_data: Some(payload.clone()), ..Default::default() };
    let graph = GraphProto { initializer: (0..TENSORS).map(tensor).collect(), ..Default::default() };
    let opset_import = vec![OperatorSetIdProto::default()];
    let model = ModelProto { ir_version: Some(8), opset_import, graph: Some(graph), ..Default::default() };
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("in.onnx"), folder.path().join("out.onnx"));
    let start = std::time::Instant::now();
    write(&model, &input).unwrap();
    let wrote = (start.elapsed(), peak());

    let start = std::time::Instant::now();
    let loaded = read(&input).unwrap();
    let opened = (start.elapsed(), peak());
    assert!(opened.1 <= wrote.1 + 8, "reading took memory: {wrote:?}, {opened:?}");

    for tensor in &loaded.model.graph.as_ref().unwrap().initializer {
        let bytes = tensor.raw_data.as_ref().unwrap();
        assert_eq!(bytes.iter().map(|&b| usize::from(b)).sum::<usize>(), 7 * BYTES);
        loaded.map.release_bytes(bytes);
    }
    let visited = peak();
    let start = std::time::Instant::now();
    write_releasing(&loaded.model, &output, &loaded.map).unwrap();
    let copied = (start.elapsed(), peak());
    println!("wrote {wrote:?}, read {opened:?}, visited {visited}, copied {copied:?} (time, peak MiB)");
    assert!(visited <= opened.1 + 16, "visiting all tensors took memory: {opened:?}, {visited}");
    assert!(copied.1 <= visited + 16, "copying took memory: {visited}, {copied:?}");
}
