//! One array in NumPy's `.npy` format (versions 1 to 3).
//!
//! Guarantees: nothing is allocated on the word of a header alone. The header is bounded, and the payload grows with
//! the bytes that really arrive; a payload shorter or longer than the declared shape is an error.
//! Refuses: big-endian numbers, strings, objects, dates, complex numbers and records, each with the way out.
//! How: the header is a Python literal of three known keys, read by a scanner of its own. Fortran order is transposed.

use crate::onnx::tensor::{DataType, Tensor};
use std::io::Read;

pub(super) const MAGIC: &[u8] = b"\x93NUMPY";

/// NumPy itself refuses headers over 10,000 bytes unless told otherwise.
const MAX_HEADER: usize = 1 << 16;
/// Arrays up to this size are allocated at once, larger ones as their bytes arrive.
const TRUSTED_BYTES: usize = 1 << 20;

/// Why an array was refused: the second half of a sentence that begins with its name.
#[derive(Debug)]
pub(super) enum Refusal {
    /// Its elements are not numbers that a tensor can hold. Harmless in an array that nobody asked for.
    Type(String),
    /// It is damaged.
    Damaged(String),
}

fn damaged(reason: impl Into<String>) -> Refusal {
    Refusal::Damaged(reason.into())
}

/// Reads one array up to the end of `source`.
pub(super) fn read(source: &mut impl Read) -> Result<Tensor, Refusal> {
    let Header { dtype, fortran, shape } = read_header(source)?;
    let size = crate::onnx::tensor::bits_per_element(dtype).expect("numbers have a size") / 8;
    let expected = shape
        .iter()
        .try_fold(size, |n, &d| n.checked_mul(d))
        .ok_or_else(|| damaged(format!("its shape {shape:?} is larger than any memory")))?;
    let mut data = Vec::with_capacity(expected.min(TRUSTED_BYTES));
    // One byte more than expected: a longer payload is noticed, a bomb is not unpacked.
    source.take(expected as u64 + 1).read_to_end(&mut data).map_err(|e| damaged(format!("cannot be unpacked: {e}")))?;
    if data.len() != expected {
        let found = if data.len() > expected { "more".to_owned() } else { format!("only {}", data.len()) };
        return Err(damaged(format!("shape {shape:?} needs {expected} bytes, the file holds {found}")));
    }
    if dtype == DataType::Bool {
        data.iter_mut().for_each(|b| *b = u8::from(*b != 0));
    }
    if fortran && shape.len() > 1 {
        data = from_fortran(&data, &shape, size);
    }
    data.shrink_to_fit();
    Tensor::new(dtype, shape, data.into()).ok_or_else(|| damaged("its size overflows"))
}

struct Header {
    dtype: DataType,
    fortran: bool,
    shape: Vec<usize>,
}

fn read_header(source: &mut impl Read) -> Result<Header, Refusal> {
    let mut bytes = |n: usize| {
        let mut buffer = vec![0u8; n];
        source.read_exact(&mut buffer).map_err(|e| damaged(format!("its header ends early: {e}")))?;
        Ok::<_, Refusal>(buffer)
    };
    let start = bytes(8)?;
    if !start.starts_with(MAGIC) {
        return Err(damaged("does not begin as an .npy array does"));
    }
    let length = match start[6] {
        1 => u16::from_le_bytes(bytes(2)?.try_into().expect("two bytes")) as usize,
        2 | 3 => u32::from_le_bytes(bytes(4)?.try_into().expect("four bytes")) as usize,
        v => return Err(damaged(format!("is of .npy version {v}; versions 1 to 3 are known"))),
    };
    if length > MAX_HEADER {
        return Err(damaged(format!("has a header of {length} bytes; at most {MAX_HEADER} are read")));
    }
    let text = bytes(length)?;
    let unreadable = || damaged(format!("has an unreadable header: {}", String::from_utf8_lossy(&text).trim_end()));

    let mut scanner = Scanner(&text);
    let (mut descr, mut fortran, mut shape) = (None, None, None);
    scanner.expect(b'{').ok_or_else(unreadable)?;
    while !scanner.accept(b'}') {
        let key = scanner.string().ok_or_else(unreadable)?;
        scanner.expect(b':').ok_or_else(unreadable)?;
        match key {
            b"descr" if scanner.peek() == Some(b'[') => {
                return Err(Refusal::Type("is an array of records; save each field as an array of its own".into()));
            }
            b"descr" => descr = Some(scanner.string().ok_or_else(unreadable)?),
            b"fortran_order" => fortran = Some(scanner.boolean().ok_or_else(unreadable)?),
            b"shape" => shape = Some(scanner.tuple().ok_or_else(unreadable)?),
            _ => return Err(unreadable()),
        }
        if !scanner.accept(b',') && scanner.peek() != Some(b'}') {
            return Err(unreadable());
        }
    }
    let (Some(descr), Some(fortran), Some(shape)) = (descr, fortran, shape) else { return Err(unreadable()) };
    Ok(Header { dtype: element_type(descr)?, fortran, shape })
}

fn element_type(descr: &[u8]) -> Result<DataType, Refusal> {
    let text = String::from_utf8_lossy(descr);
    let refuse = |why: &str| Refusal::Type(format!("has elements of type '{text}': {why}"));
    use DataType::{Bool, Double, Float, Float16, Int8, Int16, Int32, Int64, Uint8, Uint16, Uint32, Uint64};
    let (order, kind) = match descr {
        [order @ (b'<' | b'>' | b'|' | b'='), kind @ ..] => (*order, kind),
        kind => (b'=', kind),
    };
    let dtype = match kind {
        b"f2" => Float16,
        b"f4" => Float,
        b"f8" => Double,
        b"i1" => Int8,
        b"i2" => Int16,
        b"i4" => Int32,
        b"i8" => Int64,
        b"u1" => Uint8,
        b"u2" => Uint16,
        b"u4" => Uint32,
        b"u8" => Uint64,
        b"b1" | b"?" => Bool,
        [b'O', ..] => return Err(refuse("Python objects are not read; save numbers")),
        [b'U' | b'S' | b'a', ..] => return Err(refuse("text is not read; save numbers")),
        _ => return Err(refuse("only floats, integers and booleans are read; convert it with .astype('<f4')")),
    };
    // One byte has no order, and "=" means the writer's machine, which is little-endian wherever this runs.
    if order == b'>' && !kind.ends_with(b"1") {
        return Err(refuse("big-endian numbers are not read; convert it with .astype('<f4') or the like"));
    }
    Ok(dtype)
}

/// Column-major to row-major.
fn from_fortran(data: &[u8], shape: &[usize], size: usize) -> Vec<u8> {
    let mut strides = vec![size; shape.len()];
    for axis in 1..shape.len() {
        strides[axis] = strides[axis - 1] * shape[axis - 1];
    }
    let mut out = Vec::with_capacity(data.len());
    let (mut index, mut at) = (vec![0usize; shape.len()], 0);
    while out.len() < data.len() {
        out.extend_from_slice(&data[at..at + size]);
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            at += strides[axis];
            if index[axis] < shape[axis] {
                break;
            }
            at -= index[axis] * strides[axis];
            index[axis] = 0;
        }
    }
    out
}

/// Reads the few Python literals that a header is made of. `None` where the text is something else.
struct Scanner<'a>(&'a [u8]);

impl<'a> Scanner<'a> {
    fn peek(&mut self) -> Option<u8> {
        self.0 = self.0.trim_ascii_start();
        self.0.first().copied()
    }

    fn accept(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        if found {
            self.0 = &self.0[1..];
        }
        found
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        self.accept(byte).then_some(())
    }

    fn string(&mut self) -> Option<&'a [u8]> {
        let quote = self.peek().filter(|q| matches!(q, b'\'' | b'"'))?;
        let body = &self.0[1..];
        let end = body.iter().position(|&b| b == quote)?;
        self.0 = &body[end + 1..];
        Some(&body[..end])
    }

    fn boolean(&mut self) -> Option<bool> {
        self.peek();
        let (value, rest) = match self.0 {
            [b'T', b'r', b'u', b'e', rest @ ..] => (true, rest),
            [b'F', b'a', b'l', b's', b'e', rest @ ..] => (false, rest),
            _ => return None,
        };
        self.0 = rest;
        Some(value)
    }

    fn tuple(&mut self) -> Option<Vec<usize>> {
        self.expect(b'(')?;
        let mut values = Vec::new();
        while !self.accept(b')') {
            self.peek()?;
            let digits = self.0.iter().take_while(|b| b.is_ascii_digit()).count();
            values.push(std::str::from_utf8(&self.0[..digits]).ok()?.parse().ok()?);
            self.0 = &self.0[digits..];
            self.accept(b'L'); // Python 2 wrote long integers so
            if !self.accept(b',') && self.peek() != Some(b')') {
                return None;
            }
        }
        Some(values)
    }
}
