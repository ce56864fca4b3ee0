use super::*;
use crate::onnx::tensor::DataType;
use std::io::Write;
use zip::CompressionMethod::{Deflated, Stored};

/// An array as NumPy writes it.
fn npy(version: u8, descr: &str, order: &str, shape: &str, payload: &[u8]) -> Vec<u8> {
    let mut text = format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}");
    while (text.len() + 13) % 64 != 0 {
        text.push(' ');
    }
    text.push('\n');
    let mut out = b"\x93NUMPY".to_vec();
    out.extend([version, 0]);
    match version {
        1 => out.extend((text.len() as u16).to_le_bytes()),
        _ => out.extend((text.len() as u32).to_le_bytes()),
    }
    out.extend(text.as_bytes());
    out.extend(payload);
    out
}

fn archive(method: zip::CompressionMethod, entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, content) in entries {
        let options = zip::write::SimpleFileOptions::default().compression_method(method);
        writer.start_file(*name, options).unwrap();
        writer.write_all(content).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn file(bytes: &[u8]) -> tempfile::TempPath {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file.into_temp_path()
}

fn f32s(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn refused(bytes: &[u8], name: &str) -> String {
    read_named(file(bytes), name).unwrap_err().to_string()
}

#[test]
fn archives_stored_and_deflated_of_every_version() {
    let x = f32s(&[1., 2., 3., 4., 5., 6.]);
    for method in [Stored, Deflated] {
        for version in 1..=3 {
            let entries = [
                ("x.npy", npy(version, "<f4", "False", "(2, 3)", &x)),
                ("y.npy", npy(version, "|u1", "False", "(4,)", &[3, 1, 4, 1])),
                ("scalar.npy", npy(version, "<i8", "False", "()", &7i64.to_le_bytes())),
                ("none.npy", npy(version, "<f8", "False", "(0, 9)", &[])),
                ("readme.txt", b"not an array".to_vec()),
            ];
            let path = file(&archive(method, &entries));
            let found = read(&path).unwrap();
            let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
            assert_eq!(names, ["x", "y", "scalar", "none"]);
            assert_eq!(found[0].1, Tensor::from_f32(&[2, 3], &[1., 2., 3., 4., 5., 6.]));
            assert_eq!((found[1].1.dtype(), found[1].1.to_i64().unwrap()), (DataType::Uint8, vec![3, 1, 4, 1]));
            assert_eq!((found[2].1.shape(), found[2].1.to_i64().unwrap()), (&[][..], vec![7]));
            assert_eq!(found[3].1.shape(), [0, 9]);
            assert_eq!(read_named(&path, "scalar").unwrap().to_i64().unwrap(), [7]);
        }
    }
}

#[test]
fn element_types() {
    let cases: [(&str, DataType, &[u8], f64); 12] = [
        ("<f2", DataType::Float16, &[0, 0xc0], -2.),
        ("<f4", DataType::Float, &[0, 0, 0, 0xc0], -2.),
        ("<f8", DataType::Double, &[0, 0, 0, 0, 0, 0, 0, 0xc0], -2.),
        ("|i1", DataType::Int8, &[0xfe], -2.),
        ("<i2", DataType::Int16, &[0xfe, 0xff], -2.),
        ("<i4", DataType::Int32, &[0xfe, 0xff, 0xff, 0xff], -2.),
        ("<i8", DataType::Int64, &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], -2.),
        ("|u1", DataType::Uint8, &[0xfe], 254.),
        ("<u2", DataType::Uint16, &[0xfe, 1], 510.),
        ("<u4", DataType::Uint32, &[0xfe, 1, 0, 0], 510.),
        ("|b1", DataType::Bool, &[2], 1.),
        (">i1", DataType::Int8, &[3], 3.),
    ];
    for (descr, dtype, payload, value) in cases {
        let path = file(&npy(1, descr, "False", "(1,)", payload));
        let (name, tensor) = read(&path).unwrap().remove(0);
        assert_eq!(name, path.file_stem().unwrap().to_str().unwrap());
        assert_eq!((tensor.dtype(), tensor.to_f64().unwrap()), (dtype, vec![value]), "{descr}");
    }
}

#[test]
fn fortran_order_is_transposed() {
    let column_major: Vec<u8> = [0, 12, 4, 16, 8, 20, 1, 13, 5, 17, 9, 21].into();
    let tensor = read(file(&npy(1, "|u1", "True", "(2, 3, 2)", &column_major))).unwrap().remove(0).1;
    assert_eq!(tensor.to_i64().unwrap(), [0, 1, 4, 5, 8, 9, 12, 13, 16, 17, 20, 21]);
}

#[test]
fn other_types_are_left_out_unless_asked_for() {
    let entries = [
        ("speaker.npy", npy(1, "<U8", "False", "(1,)", &[0; 32])),
        ("object.npy", npy(1, "|O", "False", "(1,)", &[0; 32])),
        ("big.npy", npy(1, ">f4", "False", "(1,)", &[0; 4])),
        ("complex.npy", npy(1, "<c8", "False", "(1,)", &[0; 8])),
        ("y.npy", npy(1, "|i1", "False", "(1,)", &[1])),
    ];
    let bytes = archive(Deflated, &entries);
    assert_eq!(read(file(&bytes)).unwrap().len(), 1);
    assert!(refused(&bytes, "speaker").contains("array 'speaker' has elements of type '<U8': text is not read"));
    assert!(refused(&bytes, "object").contains("Python objects"));
    assert!(refused(&bytes, "big").contains(".astype('<f4')"));
    assert!(refused(&bytes, "complex").contains("only floats"));
    let missing = refused(&bytes, "x");
    assert!(missing.contains("no array 'x' in it; there are 'speaker', 'object', 'big', 'complex', 'y'"), "{missing}");
    let records = npy(1, "', 'descr': [('a', '<f4')], 'x': '", "False", "(1,)", &[0; 4]);
    assert!(refused(&archive(Stored, &[("r.npy", records)]), "r").contains("array of records"));
}

#[test]
fn any_truncation_is_an_error() {
    let payload: Vec<u8> = (0..200).collect();
    let array = npy(1, "|u1", "False", "(10, 20)", &payload);
    for end in 0..array.len() {
        assert!(read(file(&array[..end])).is_err(), "an .npy cut at {end}");
    }
    for method in [Stored, Deflated] {
        let whole = archive(method, &[("x.npy", array.clone())]);
        for end in 0..whole.len() {
            assert!(read(file(&whole[..end])).is_err(), "an .npz cut at {end}");
        }
    }
}

#[test]
fn any_flipped_byte_is_an_error_or_the_same_shape() {
    let array = npy(1, "<f4", "False", "(2, 3)", &f32s(&[1., 2., 3., 4., 5., 6.]));
    let whole = archive(Deflated, &[("x.npy", array)]);
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x55;
        for (name, tensor) in read(file(&bytes)).unwrap_or_default() {
            assert_eq!(tensor.shape(), [2, 3], "'{name}' after a flip at {at}");
        }
    }
}

#[test]
fn declared_sizes_are_not_believed() {
    let huge = npy(1, "<f4", "False", "(1000000, 1000000)", &[0; 8]);
    assert!(refused(&archive(Deflated, &[("x.npy", huge)]), "x").contains("the file holds only 8"));
    let overflow = npy(1, "<f8", "False", "(4294967296, 4294967296)", &[0; 8]);
    assert!(refused(&archive(Deflated, &[("x.npy", overflow)]), "x").contains("larger than any memory"));
    let digits = npy(1, "<f8", "False", "(99999999999999999999999,)", &[0; 8]);
    assert!(refused(&archive(Deflated, &[("x.npy", digits)]), "x").contains("unreadable header"));
    let bomb = npy(1, "|u1", "False", "(2,)", &vec![0; 50_000_000]);
    assert!(refused(&archive(Deflated, &[("x.npy", bomb)]), "x").contains("needs 2 bytes, the file holds more"));
    let mut header = npy(2, "|u1", "False", "(2,)", &[0, 0]);
    header[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(refused(&archive(Stored, &[("x.npy", header)]), "x").contains("header of 4294967295 bytes"));
}

#[test]
fn other_files_are_refused_by_name() {
    let path = file(b"\x08\x07an onnx model");
    let text = read(&path).unwrap_err().to_string();
    assert!(text.starts_with(&path.display().to_string()) && text.contains("not a NumPy file"), "{text}");
    assert!(matches!(read("no/such/file.npz").unwrap_err(), DataError::Io { .. }));
}
