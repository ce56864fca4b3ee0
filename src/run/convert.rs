//! Tensors to tract and back.
//!
//! Guarantees: the same bytes under the same type and shape, or a reason. A symbolic integer, which is how tract
//! counts extents, comes back as the 64-bit integer that ONNX calls for.
//! Refuses: types of less than eight bits, bfloat16, eight-bit floats, complex numbers and strings.

use crate::onnx::tensor::{DataType, Tensor};
use tract_onnx::prelude::{DatumType, IntoTensor, TValue, TractResult};
use tract_onnx::tract_hir::internal::bail;

type Theirs = tract_onnx::prelude::Tensor;

/// tract's name of an element type; `None` where it has none.
pub(super) fn datum_type(dtype: DataType) -> Option<DatumType> {
    use DataType::*;
    Some(match dtype {
        Float => DatumType::F32,
        Double => DatumType::F64,
        Float16 => DatumType::F16,
        Int64 => DatumType::I64,
        Int32 => DatumType::I32,
        Int16 => DatumType::I16,
        Int8 => DatumType::I8,
        Uint64 => DatumType::U64,
        Uint32 => DatumType::U32,
        Uint16 => DatumType::U16,
        Uint8 => DatumType::U8,
        Bool => DatumType::Bool,
        _ => return None,
    })
}

fn data_type(datum: DatumType) -> Option<DataType> {
    use DataType::*;
    let all = [Float, Double, Float16, Int64, Int32, Int16, Int8, Uint64, Uint32, Uint16, Uint8, Bool];
    all.into_iter().find(|&dtype| datum_type(dtype) == Some(datum))
}

pub(super) fn to_tract(tensor: &Tensor) -> TractResult<Theirs> {
    let Some(datum) = datum_type(tensor.dtype()) else { bail!("{:?} has no counterpart", tensor.dtype()) };
    let bytes: std::borrow::Cow<[u8]> = match datum {
        // Any byte but 0 and 1 would be an invalid boolean.
        DatumType::Bool => tensor.data().iter().map(|&b| u8::from(b != 0)).collect(),
        _ => (&tensor.data()[..]).into(),
    };
    // SAFETY: a `Tensor` holds exactly the bytes of its shape, and every bit pattern is a value of these types.
    unsafe { Theirs::from_raw_dt(datum, tensor.shape(), &bytes) }
}

/// `declared` is the element type that the graph states for this value.
pub(super) fn from_tract(value: TValue, declared: Option<DataType>) -> Result<Tensor, String> {
    let mut value = value.into_tensor();
    let mut datum = value.datum_type().unquantized();
    if datum == DatumType::TDim {
        value = value.cast_to::<i64>().map_err(|e| format!("an extent is not a number: {e}"))?.into_owned();
        datum = DatumType::I64;
    }
    let found = data_type(datum).ok_or_else(|| format!("an output is of type {datum:?}"))?;
    if let Some(declared) = declared.filter(|&d| d != found) {
        return Err(format!("an output is declared as {declared:?} but computed as {found:?}"));
    }
    let plain = value.as_plain_ram().ok_or("an output has no plain layout")?;
    let bytes = bytes::Bytes::copy_from_slice(plain.as_bytes());
    Tensor::new(found, value.shape().to_vec(), bytes).ok_or_else(|| "an output's size contradicts its shape".into())
}
