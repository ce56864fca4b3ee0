//! Element types of eight bits and fewer: how they are packed, and which numbers the floating-point ones stand for.
//!
//! Elements below eight bits lie one after the other from the low bits of each byte upwards, without a gap between
//! rows; the last byte is filled with zeros.

use super::tensor::DataType;

/// One byte for each of so many packed elements.
pub(super) fn unpack(data: &[u8], bits: usize, elements: usize) -> Vec<u8> {
    let per = 8 / bits;
    let mask = (1u16 << bits) as u8 - 1;
    (0..elements).map(|i| (data[i / per] >> (i % per * bits)) & mask).collect()
}

/// The inverse of [`unpack`].
pub(super) fn pack(elements: &[u8], bits: usize) -> Vec<u8> {
    let shifted = |(i, e): (usize, &u8)| e << (i * bits);
    elements.chunks(8 / bits).map(|c| c.iter().enumerate().map(shifted).fold(0, |byte, e| byte | e)).collect()
}

/// The integer that an unpacked element stands for. `None` for types that hold none.
pub(super) fn integer(dtype: DataType, element: u8) -> Option<i64> {
    let signed = |bits: u32| i64::from((element << (8 - bits)) as i8 >> (8 - bits));
    match dtype {
        DataType::Uint4 | DataType::Uint2 => Some(i64::from(element)),
        DataType::Int4 => Some(signed(4)),
        DataType::Int2 => Some(signed(2)),
        _ => None,
    }
}

/// The number that an element of a small floating-point type stands for. `None` for other types.
pub(super) fn real(dtype: DataType, element: u8) -> Option<f64> {
    use DataType::*;
    let magnitude = element & 0x7f;
    match dtype {
        Float8e8m0 => Some(if element == 0xff { f64::NAN } else { 2f64.powi(i32::from(element) - 127) }),
        Float4e2m1 => Some(float(element, 2, 1, 1)),
        Float8e4m3fn => Some(if magnitude == 0x7f { f64::NAN } else { float(element, 4, 3, 7) }),
        Float8e5m2 => Some(match magnitude {
            0x7c => f64::INFINITY.copysign(if element == magnitude { 1.0 } else { -1.0 }),
            m if m > 0x7c => f64::NAN,
            _ => float(element, 5, 2, 15),
        }),
        // The negative zero of these is their only NaN.
        Float8e4m3fnuz => Some(if element == 0x80 { f64::NAN } else { float(element, 4, 3, 8) }),
        Float8e5m2fnuz => Some(if element == 0x80 { f64::NAN } else { float(element, 5, 2, 16) }),
        _ => None,
    }
}

/// Sign, exponent and mantissa, the exponent shifted by `bias`; a zero exponent is a subnormal number.
fn float(element: u8, exponent: u32, mantissa: u32, bias: i32) -> f64 {
    let sign = if element >> (exponent + mantissa) & 1 == 1 { -1.0 } else { 1.0 };
    let field = i32::from((element >> mantissa) & ((1 << exponent) - 1));
    let fraction = f64::from(element & ((1 << mantissa) - 1)) / f64::from(1 << mantissa);
    let magnitude =
        if field == 0 { fraction * 2f64.powi(1 - bias) } else { (1.0 + fraction) * 2f64.powi(field - bias) };
    sign * magnitude
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packing_is_undone_by_unpacking() {
        for bits in [2, 4] {
            let elements: Vec<u8> = (0..11).map(|i| (i * 7) % (1 << bits)).collect();
            let packed = pack(&elements, bits);
            assert_eq!(packed.len(), (11 * bits).div_ceil(8));
            assert_eq!(unpack(&packed, bits, 11), elements);
        }
        assert_eq!(pack(&[1, 2, 3], 4), [0x21, 0x03]);
    }

    /// Extremes as the ONNX specification lists them.
    #[test]
    fn small_floats_are_those_of_the_specification() {
        use DataType::*;
        let value = |t, e| real(t, e).unwrap();
        assert_eq!(value(Float8e4m3fn, 0x7e), 448.0);
        assert_eq!(value(Float8e4m3fn, 0x01), 2f64.powi(-9));
        assert_eq!(value(Float8e4m3fnuz, 0x7f), 240.0);
        assert_eq!(value(Float8e5m2, 0x7b), 57344.0);
        assert_eq!(value(Float8e5m2, 0xfc), f64::NEG_INFINITY);
        assert_eq!(value(Float8e5m2fnuz, 0x7f), 57344.0);
        assert!(value(Float8e4m3fn, 0xff).is_nan() && value(Float8e5m2fnuz, 0x80).is_nan());
        assert_eq!(value(Float8e8m0, 127), 1.0);
        let fours: Vec<f64> = (0..16).map(|e| value(Float4e2m1, e)).collect();
        assert_eq!(fours[..8], [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]);
        assert_eq!(fours[15], -6.0);
        assert_eq!((integer(Int4, 0xf), integer(Int2, 2), integer(Uint2, 3)), (Some(-1), Some(-2), Some(3)));
    }
}
