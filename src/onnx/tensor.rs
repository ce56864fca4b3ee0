//! Dense tensors: element type, shape and little-endian bytes.
//!
//! Guarantees: a [`Tensor`] always holds exactly the bytes that its type and shape call for, so no reader of one has
//! to check again; cloning is cheap and a tensor read from `raw_data` borrows the mapped file.
//! Refuses: strings, segments, external data that was not resolved when the file was read, and payloads whose length
//! contradicts the shape.
//! How: `raw_data` is taken as it is; the typed fields of `TensorProto` are packed into the same layout.

use super::narrow_types;
use super::proto::{TensorProto, tensor_proto};
use bytes::Bytes;
use rayon::prelude::*;
use std::borrow::Cow;

pub use tensor_proto::DataType;

/// Why the content of a tensor cannot be had. Names the tensor.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TensorError {
    /// The element type is a string, undefined, or newer than this build.
    #[error("tensor '{name}': element type {dtype} is not one of numbers")]
    Type { name: String, dtype: i32 },
    /// A dimension is negative or the number of elements overflows.
    #[error("tensor '{name}': shape {dims:?} is impossible")]
    Shape { name: String, dims: Vec<i64> },
    /// The payload is shorter or longer than the shape says.
    #[error("tensor '{name}': shape {dims:?} of {dtype:?} needs {expected} bytes, the file holds {found}")]
    Payload { name: String, dims: Vec<i64>, dtype: DataType, expected: u64, found: u64 },
    /// The payload lies in another file that was not read.
    #[error("tensor '{name}': its external data was not loaded")]
    External { name: String },
}

/// Bits that one element takes; `None` for types without a fixed size.
pub fn bits_per_element(dtype: DataType) -> Option<usize> {
    use DataType::*;
    Some(match dtype {
        Complex128 => 128,
        Double | Int64 | Uint64 | Complex64 => 64,
        Float | Int32 | Uint32 => 32,
        Float16 | Bfloat16 | Int16 | Uint16 => 16,
        Uint8 | Int8 | Bool | Float8e4m3fn | Float8e4m3fnuz | Float8e5m2 | Float8e5m2fnuz | Float8e8m0 => 8,
        Uint4 | Int4 | Float4e2m1 => 4,
        Uint2 | Int2 => 2,
        Undefined | String | Float6e2m3 | Float6e3m2 => return None,
    })
}

/// A dense tensor of numbers, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    dtype: DataType,
    shape: Vec<usize>,
    data: Bytes,
}

impl Tensor {
    /// A tensor over bytes that are already in ONNX's raw layout. `None` if their number does not fit.
    pub fn new(dtype: DataType, shape: Vec<usize>, data: Bytes) -> Option<Self> {
        let elements = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
        let bytes = elements.checked_mul(bits_per_element(dtype)?)?.div_ceil(8);
        (data.len() == bytes).then_some(Self { dtype, shape, data })
    }

    /// A 32-bit float tensor. Panics if `values` does not fill `shape`, which is a bug of the caller.
    pub fn from_f32(shape: &[usize], values: &[f32]) -> Self {
        Self::new(DataType::Float, shape.to_vec(), Bytes::copy_from_slice(bytemuck::cast_slice(values)))
            .expect("values fill the shape")
    }

    /// A 64-bit integer tensor. Panics if `values` does not fill `shape`, which is a bug of the caller.
    pub fn from_i64(shape: &[usize], values: &[i64]) -> Self {
        Self::new(DataType::Int64, shape.to_vec(), Bytes::copy_from_slice(bytemuck::cast_slice(values)))
            .expect("values fill the shape")
    }

    /// The content of a `TensorProto`; borrows `raw_data`.
    pub fn from_proto(proto: &TensorProto) -> Result<Self, TensorError> {
        let name = || proto.name().to_owned();
        let dtype = DataType::try_from(proto.data_type.unwrap_or(0)).unwrap_or(DataType::Undefined);
        let bad_type = || TensorError::Type { name: name(), dtype: proto.data_type.unwrap_or(0) };
        let bits = bits_per_element(dtype).ok_or_else(bad_type)?;
        let bad_shape = || TensorError::Shape { name: name(), dims: proto.dims.clone() };
        let shape =
            proto.dims.iter().map(|&d| usize::try_from(d)).collect::<Result<Vec<_>, _>>().map_err(|_| bad_shape())?;
        let elements = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).ok_or_else(bad_shape)?;
        let expected = elements.checked_mul(bits).ok_or_else(bad_shape)?.div_ceil(8);
        if proto.segment.is_some()
            || (proto.raw_data.is_none() && proto.data_location() == tensor_proto::DataLocation::External)
        {
            return Err(TensorError::External { name: name() });
        }
        let data = match &proto.raw_data {
            Some(raw) => raw.clone(),
            None => pack(proto, dtype),
        };
        if data.len() != expected {
            let (expected, found) = (expected as u64, data.len() as u64);
            return Err(TensorError::Payload { name: name(), dims: proto.dims.clone(), dtype, expected, found });
        }
        Ok(Self { dtype, shape, data })
    }

    /// A `TensorProto` that holds this content as `raw_data`.
    pub fn to_proto(&self, name: &str) -> TensorProto {
        TensorProto {
            name: Some(name.to_owned()),
            data_type: Some(self.dtype as i32),
            dims: self.shape.iter().map(|&d| d as i64).collect(),
            raw_data: Some(self.data.clone()),
            ..Default::default()
        }
    }

    pub fn dtype(&self) -> DataType {
        self.dtype
    }

    /// Extent of every axis; empty for a scalar.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// The raw little-endian payload, row-major, sub-byte types packed from the low bits.
    pub fn data(&self) -> &Bytes {
        &self.data
    }

    /// The same content under another shape. `None` if the number of elements differs.
    pub fn reshaped(&self, shape: Vec<usize>) -> Option<Self> {
        (shape.iter().product::<usize>() == self.elements()).then(|| Self { shape, ..self.clone() })
    }

    /// Content as 32-bit floats, converted from any real or integer type; borrowed where it already is.
    pub fn to_f32(&self) -> Option<Cow<'_, [f32]>> {
        if self.dtype == DataType::Float {
            return Some(match bytemuck::try_cast_slice(&self.data) {
                Ok(slice) => Cow::Borrowed(slice),
                Err(_) => Cow::Owned(self.copied_f32(Vec::new(), &|_| ())),
            });
        }
        self.to_f64().map(|v| Cow::Owned(v.into_iter().map(|x| x as f32).collect()))
    }

    /// Like [`Tensor::to_f32`]; tells of each part of the payload that it has copied and looks at no more. Copies into
    /// `scratch` where that is long enough.
    pub fn to_f32_passing(&self, scratch: Vec<f32>, passed: &(dyn Fn(&[u8]) + Sync)) -> Option<Cow<'_, [f32]>> {
        if self.dtype == DataType::Float && bytemuck::try_cast_slice::<u8, f32>(&self.data).is_err() {
            return Some(Cow::Owned(self.copied_f32(scratch, passed)));
        }
        let values = self.to_f32()?;
        if let Cow::Owned(_) = values {
            passed(&self.data);
        }
        Some(values)
    }

    /// 32-bit floats that do not lie at an address for them: files align nothing.
    fn copied_f32(&self, mut out: Vec<f32>, passed: &(dyn Fn(&[u8]) + Sync)) -> Vec<f32> {
        const PART: usize = 4 << 20;
        let elements = self.data.len() / 4;
        if out.len() < elements {
            out = vec![0.0; elements];
        }
        out.truncate(elements);
        out.par_chunks_mut(PART).zip(self.data.par_chunks(4 * PART)).for_each(|(out, part)| {
            out.iter_mut().zip(part.as_chunks::<4>().0).for_each(|(o, word)| *o = f32::from_le_bytes(*word));
            passed(part);
        });
        out
    }

    /// One byte for each element of a type of eight bits and fewer; `None` for others.
    fn unpacked(&self) -> Option<Cow<'_, [u8]>> {
        match bits_per_element(self.dtype)? {
            8 => Some(Cow::Borrowed(&self.data)),
            bits if bits < 8 => Some(Cow::Owned(narrow_types::unpack(&self.data, bits, self.elements()))),
            _ => None,
        }
    }

    /// The same tensor made of one byte for each element, worked on and packed again.
    fn repacked(&self, work: impl FnOnce(&Self) -> Option<Self>) -> Option<Self> {
        let (bits, data) = (bits_per_element(self.dtype)?, self.unpacked()?.into_owned().into());
        let done = work(&Self { dtype: DataType::Uint8, shape: self.shape.clone(), data })?;
        Self::new(self.dtype, done.shape, narrow_types::pack(&done.data, bits).into())
    }

    /// Content as 64-bit floats, converted from any real or integer type.
    pub fn to_f64(&self) -> Option<Vec<f64>> {
        use DataType::*;
        let d = &self.data;
        Some(match self.dtype {
            Float => words(d, f32::from_le_bytes).map(f64::from).collect(),
            Double => words(d, f64::from_le_bytes).collect(),
            Float16 => words(d, half::f16::from_le_bytes).map(f64::from).collect(),
            Bfloat16 => words(d, half::bf16::from_le_bytes).map(f64::from).collect(),
            Float4e2m1 | Float8e4m3fn | Float8e4m3fnuz | Float8e5m2 | Float8e5m2fnuz | Float8e8m0 => {
                self.unpacked()?.iter().map(|&e| narrow_types::real(self.dtype, e)).collect::<Option<_>>()?
            }
            _ => return self.to_i64().map(|v| v.into_iter().map(|x| x as f64).collect()),
        })
    }

    /// Content as 64-bit integers, converted from any integer or boolean type.
    pub fn to_i64(&self) -> Option<Vec<i64>> {
        use DataType::*;
        let d = &self.data;
        Some(match self.dtype {
            Int64 => words(d, i64::from_le_bytes).collect(),
            Uint64 => words(d, u64::from_le_bytes).map(|x| x as i64).collect(),
            Int32 => words(d, i32::from_le_bytes).map(i64::from).collect(),
            Uint32 => words(d, u32::from_le_bytes).map(i64::from).collect(),
            Int16 => words(d, i16::from_le_bytes).map(i64::from).collect(),
            Uint16 => words(d, u16::from_le_bytes).map(i64::from).collect(),
            Int8 => d.iter().map(|&x| x as i8 as i64).collect(),
            Uint8 | Bool => d.iter().map(|&x| i64::from(x)).collect(),
            _ => self.unpacked()?.iter().map(|&e| narrow_types::integer(self.dtype, e)).collect::<Option<_>>()?,
        })
    }

    /// The inverse of [`Tensor::to_f64`]: rounds to `dtype`. `None` where that type cannot hold reals or integers.
    pub fn from_f64(dtype: DataType, shape: &[usize], values: &[f64]) -> Option<Self> {
        use DataType::*;
        let data: Vec<u8> = match dtype {
            Float => values.iter().flat_map(|&x| (x as f32).to_le_bytes()).collect(),
            Double => values.iter().flat_map(|&x| x.to_le_bytes()).collect(),
            Float16 => values.iter().flat_map(|&x| half::f16::from_f64(x).to_le_bytes()).collect(),
            Bfloat16 => values.iter().flat_map(|&x| half::bf16::from_f64(x).to_le_bytes()).collect(),
            Int64 => values.iter().flat_map(|&x| (x as i64).to_le_bytes()).collect(),
            Int32 => values.iter().flat_map(|&x| (x as i32).to_le_bytes()).collect(),
            Uint8 => values.iter().map(|&x| x as u8).collect(),
            Int8 => values.iter().map(|&x| x as i8 as u8).collect(),
            Bool => values.iter().map(|&x| u8::from(x != 0.0)).collect(),
            _ => return None,
        };
        Self::new(dtype, shape.to_vec(), data.into())
    }

    /// The same tensor with the slices at `positions` along `axis` set to zero, within a half-open range of rows (axis 0)
    /// where one is given. `None` for a position outside the axis, and for a type without a zero.
    pub fn zeroed(&self, axis: usize, positions: &[usize], rows: Option<[usize; 2]>) -> Option<Self> {
        let bits = bits_per_element(self.dtype)?;
        let (extent, first) = (*self.shape.get(axis)?, *self.shape.first()?);
        let [low, high] = rows.unwrap_or([0, first]);
        let outside = positions.iter().any(|&p| p >= extent) || low > high || high > first;
        if self.dtype == DataType::Float8e8m0 || outside {
            return None;
        }
        if bits < 8 {
            return self.repacked(|bytes| bytes.zeroed(axis, positions, rows));
        }
        let run = self.shape[axis + 1..].iter().product::<usize>() * bits / 8;
        let mut data = self.data.to_vec();
        let row = data.len() / first.max(1);
        // Along axis 0 itself the positions are the rows.
        let part = if axis == 0 { &mut data[..] } else { &mut data[low * row..high * row] };
        for block in part.chunks_mut((extent * run).max(1)) {
            for &p in positions {
                block[p * run..(p + 1) * run].fill(0);
            }
        }
        Some(Self { data: data.into(), ..self.clone() })
    }

    /// The tensor with each run of so many elements multiplied by a factor of its own (by the number of the run), in
    /// double precision. `None` for types that hold no reals, and for a run that does not divide the tensor.
    pub fn scaled(&self, run: usize, factor: impl Fn(usize) -> f64 + Sync) -> Option<Self> {
        use DataType::*;
        if run == 0 || !self.elements().is_multiple_of(run) {
            return None;
        }
        let data = match self.dtype {
            Float => self
                .scaled_words::<4>(run, &factor, |w, f| ((f64::from(f32::from_le_bytes(w)) * f) as f32).to_le_bytes()),
            Double => self.scaled_words::<8>(run, &factor, |w, f| (f64::from_le_bytes(w) * f).to_le_bytes()),
            Float16 => self.scaled_words::<2>(run, &factor, |w, f| {
                half::f16::from_f64(half::f16::from_le_bytes(w).to_f64() * f).to_le_bytes()
            }),
            Bfloat16 => self.scaled_words::<2>(run, &factor, |w, f| {
                half::bf16::from_f64(half::bf16::from_le_bytes(w).to_f64() * f).to_le_bytes()
            }),
            _ => return None,
        };
        Some(Self { data: data.into(), ..self.clone() })
    }

    fn scaled_words<const N: usize>(
        &self,
        run: usize,
        factor: &(impl Fn(usize) -> f64 + Sync),
        product: impl Fn([u8; N], f64) -> [u8; N] + Sync,
    ) -> Vec<u8> {
        let mut data = vec![0; self.data.len()];
        let parts = data.par_chunks_mut(run * N).zip(self.data.par_chunks(run * N)).enumerate();
        parts.with_min_len((1usize << 14).div_ceil(run)).for_each(|(i, (to, from))| {
            let f = factor(i);
            let words = to.as_chunks_mut::<N>().0.iter_mut().zip(from.as_chunks::<N>().0);
            words.for_each(|(to, from)| *to = product(*from, f));
        });
        data
    }

    /// Whether all elements are the same, bit for bit. A tensor without any is not.
    pub fn is_uniform(&self) -> bool {
        match bits_per_element(self.dtype) {
            Some(bits) if bits >= 8 && !self.data.is_empty() => {
                let first = &self.data[..bits / 8];
                self.data.chunks(bits / 8).all(|element| element == first)
            }
            _ => false,
        }
    }

    /// Whether every element is a finite real.
    pub fn is_finite(&self) -> bool {
        match self.dtype {
            DataType::Float => self.data.as_chunks::<4>().0.iter().all(|w| f32::from_le_bytes(*w).is_finite()),
            _ => self.to_f64().is_some_and(|v| v.iter().all(|x| x.is_finite())),
        }
    }

    /// The slices at `kept` along `axis`, in that order (increasing for a cut, any order for a gather).
    /// `None` for an index outside the axis.
    pub fn take(&self, axis: usize, kept: &[usize]) -> Option<Self> {
        self.take_all(&[(axis, kept)])
    }

    /// [`Tensor::take`] along several axes (ascending) at once, without the tensors between.
    pub fn take_all(&self, axes: &[(usize, &[usize])]) -> Option<Self> {
        let bits = bits_per_element(self.dtype)?;
        let outside =
            |&(axis, kept): &(usize, &[usize])| self.shape.get(axis).is_none_or(|&d| kept.iter().any(|&k| k >= d));
        if axes.iter().any(outside) || !axes.is_sorted_by(|a, b| a.0 < b.0) {
            return None;
        }
        if bits < 8 {
            return self.repacked(|bytes| bytes.take_all(axes));
        }
        let mut shape = self.shape.clone();
        axes.iter().for_each(|&(axis, kept)| shape[axis] = kept.len());
        let elements = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
        let mut data = Vec::with_capacity(elements.checked_mul(bits / 8)?);
        gather(&self.data, &self.shape, 0, bits / 8, axes, &mut data);
        Self::new(self.dtype, shape, data.into())
    }

    /// Each of equal blocks along axis 0 keeps positions of its own along another axis, equally many. `None` where the
    /// blocks do not come out even.
    pub fn take_by_block(&self, axis: usize, kept: &[Vec<usize>]) -> Option<Self> {
        let (blocks, count) = (kept.len(), kept.first()?.len());
        let rows = *self.shape.first()?;
        if axis == 0 || !rows.is_multiple_of(blocks) || kept.iter().any(|k| k.len() != count) {
            return None;
        }
        let mut shape = self.shape.clone();
        *shape.get_mut(axis)? = count;
        let mut data = Vec::new();
        for (block, kept) in kept.iter().enumerate() {
            let own: Vec<usize> = (block * rows / blocks..(block + 1) * rows / blocks).collect();
            data.extend_from_slice(self.take_all(&[(0, &own), (axis, kept)])?.data());
        }
        Self::new(self.dtype, shape, data.into())
    }
}

/// Appends what is kept of a block of `data` that spans `shape`, whose first axis is number `first` of the tensor.
fn gather(data: &[u8], shape: &[usize], first: usize, bytes: usize, axes: &[(usize, &[usize])], out: &mut Vec<u8>) {
    let Some((&(axis, kept), rest)) = axes.split_first() else { return out.extend_from_slice(data) };
    let at = axis - first;
    let run = shape[at + 1..].iter().product::<usize>() * bytes;
    let block = run * shape[at];
    if run == 0 || block == 0 {
        return;
    }
    for block in data.chunks_exact(block) {
        for &k in kept {
            gather(&block[k * run..(k + 1) * run], &shape[at + 1..], axis + 1, bytes, rest, out);
        }
    }
}

fn words<const N: usize, T>(data: &[u8], read: fn([u8; N]) -> T) -> impl Iterator<Item = T> {
    data.chunks_exact(N).map(move |c| read(c.try_into().expect("chunks of N bytes")))
}

/// The typed fields as raw bytes. Types of 32 bits and fewer share `int32_data`, one element (or one packed byte of
/// elements below eight bits) an entry.
fn pack(proto: &TensorProto, dtype: DataType) -> Bytes {
    use DataType::*;
    let low = |bytes: usize| {
        proto.int32_data.iter().flat_map(move |x| x.to_le_bytes().into_iter().take(bytes)).collect::<Vec<u8>>()
    };
    let data: Vec<u8> = match dtype {
        Float | Complex64 => proto.float_data.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Double | Complex128 => proto.double_data.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Int64 => proto.int64_data.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Uint64 => proto.uint64_data.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Uint32 => proto.uint64_data.iter().flat_map(|&x| (x as u32).to_le_bytes()).collect(),
        Int32 => low(4),
        Int16 | Uint16 | Float16 | Bfloat16 => low(2),
        _ => low(1),
    };
    data.into()
}
