//! A walk over the wire format before anything is decoded.
//!
//! Guarantees: bytes that pass decode without losing a field, without recursing deeper than `DEEPEST` and without
//! taking memory out of proportion to their number. Encodings that are odd but lose nothing (packed or not, overlong
//! varints, a message sent in pieces) pass.
//! Refuses, with the place as a path of fields and a byte offset: fields that this build does not know, truncation,
//! wrong wire types, text that is not UTF-8.
//! How: only keys, lengths and text are looked at, never a payload, so a mapped file stays on the disk.

use super::schema::{Field, Kind, MODEL, MOST_FIELDS, Message};

/// Messages within messages; what the decoder allows.
const DEEPEST: usize = 100;

/// What counts as a large payload.
pub(super) const LARGE: usize = 256 << 10;

/// Bytes of decoded structs that any file may take, and how many more it may take for each of its own bytes. An
/// attribute of a dozen bytes decodes to a struct of more than a thousand, so honest files reach a factor of sixty.
const MEMORY_FLOOR: u64 = 64 << 20;
const MEMORY_FACTOR: u64 = 192;

/// Why the bytes are not a model that can be decoded without loss.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{place}: {fault} (at byte {offset})")]
pub struct WireError {
    /// The message, such as `graph.node[3].attribute[1]`.
    pub place: String,
    /// Where the key or length at fault begins.
    pub offset: usize,
    pub fault: Fault,
}

/// What is wrong at the place.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Fault {
    #[error("field {number} is not known to this build, and writing the model would lose it; update secateur")]
    UnknownField { number: u32 },
    #[error("{needed} bytes are announced, {left} are left: the file is truncated or not a protobuf message")]
    Truncated { needed: u64, left: u64 },
    #[error("no number ends here: the file is truncated or not a protobuf message")]
    Varint,
    #[error("{0} is not the key of a field: not a protobuf message")]
    Key(u64),
    #[error("field '{field}' has wire type {found}, which does not fit its type")]
    WireType { field: &'static str, found: u8 },
    #[error("field '{field}' is not UTF-8 text")]
    Utf8 { field: &'static str },
    #[error("messages are nested deeper than {DEEPEST}")]
    Deep,
    #[error("decoding would take far more memory than the file is long")]
    Memory,
}

/// Checks that `bytes` are a `ModelProto` of known fields. Calls `passed` with what lies behind, each time that a large
/// payload comes.
pub(super) fn check(bytes: &[u8], passed: &mut dyn FnMut(&[u8])) -> Result<(), WireError> {
    let budget = MEMORY_FLOOR + MEMORY_FACTOR * bytes.len() as u64;
    Walk { bytes, passed, behind: 0, trail: Vec::new(), budget }.message(&MODEL, 0, bytes.len())
}

struct Walk<'a> {
    bytes: &'a [u8],
    passed: &'a mut dyn FnMut(&[u8]),
    /// Where what has been passed on ends.
    behind: usize,
    /// The field and, for a repeated one, the index that lead to the message at hand.
    trail: Vec<(&'static Field, u32)>,
    /// Memory that may still be taken.
    budget: u64,
}

impl Walk<'_> {
    fn message(&mut self, message: &'static Message, mut at: usize, end: usize) -> Result<(), WireError> {
        if self.trail.len() > DEEPEST {
            return Err(self.error(at, Fault::Deep));
        }
        self.budget = self.budget.checked_sub(message.memory as u64).ok_or_else(|| self.error(at, Fault::Memory))?;
        let mut seen = [0u32; MOST_FIELDS];
        while at < end {
            let key_at = at;
            let key = self.varint(&mut at, end)?;
            let (number, wire) = (key >> 3, (key & 7) as u8);
            if number == 0 || key > u64::from(u32::MAX) || matches!(wire, 6 | 7) {
                return Err(self.error(key_at, Fault::Key(key)));
            }
            let Some(index) = message.fields.iter().position(|f| u64::from(f.number) == number) else {
                return Err(self.error(key_at, Fault::UnknownField { number: number as u32 }));
            };
            let field = &message.fields[index];
            let fits = match field.kind {
                Kind::Varint => wire == 0 || (wire == 2 && field.repeated),
                Kind::Fixed32 => wire == 5 || (wire == 2 && field.repeated),
                Kind::Fixed64 => wire == 1 || (wire == 2 && field.repeated),
                Kind::Bytes | Kind::Text | Kind::Message(_) => wire == 2,
            };
            if !fits {
                return Err(self.error(key_at, Fault::WireType { field: field.name, found: wire }));
            }
            let length = match wire {
                0 => {
                    self.varint(&mut at, end)?;
                    0
                }
                1 => 8,
                5 => 4,
                _ => self.varint(&mut at, end)?,
            };
            let left = (end - at) as u64;
            if length > left {
                return Err(self.error(key_at, Fault::Truncated { needed: length, left }));
            }
            let stop = at + length as usize;
            match field.kind {
                Kind::Message(inner) => {
                    self.trail.push((field, seen[index]));
                    self.message(inner, at, stop)?;
                    self.trail.pop();
                }
                Kind::Text if std::str::from_utf8(&self.bytes[at..stop]).is_err() => {
                    return Err(self.error(key_at, Fault::Utf8 { field: field.name }));
                }
                Kind::Bytes if length as usize >= LARGE => {
                    (self.passed)(&self.bytes[self.behind..at]);
                    self.behind = at;
                }
                _ => {}
            }
            seen[index] += 1;
            at = stop;
        }
        Ok(())
    }

    fn varint(&self, at: &mut usize, end: usize) -> Result<u64, WireError> {
        let start = *at;
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            if *at == end {
                break;
            }
            let byte = self.bytes[*at];
            *at += 1;
            value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            if byte < 0x80 {
                // The tenth byte holds one bit of the 64.
                return if shift == 63 && byte > 1 { Err(self.error(start, Fault::Varint)) } else { Ok(value) };
            }
        }
        Err(self.error(start, Fault::Varint))
    }

    fn error(&self, offset: usize, fault: Fault) -> WireError {
        let step = |(field, index): &(&Field, u32)| match field.repeated {
            true => format!("{}[{index}]", field.name),
            false => field.name.to_owned(),
        };
        let place = match self.trail.is_empty() {
            true => "model".to_owned(),
            false => self.trail.iter().map(step).collect::<Vec<_>>().join("."),
        };
        WireError { place, offset, fault }
    }
}

#[cfg(test)]
mod tests {
    use super::{Fault, WireError};
    use crate::onnx::proto::*;
    use prost::Message as _;

    fn check(bytes: &[u8]) -> Result<(), WireError> {
        super::check(bytes, &mut |_| ())
    }

    fn small() -> ModelProto {
        let attribute = AttributeProto { name: Some("kernel".into()), ints: vec![3, 3], ..Default::default() };
        let node = NodeProto { op_type: Some("Conv".into()), attribute: vec![attribute; 2], ..Default::default() };
        let weight = TensorProto { float_data: vec![1.0, 2.0], dims: vec![2], ..Default::default() };
        let graph = GraphProto { node: vec![node; 4], initializer: vec![weight], ..Default::default() };
        ModelProto { ir_version: Some(8), graph: Some(graph), ..Default::default() }
    }

    #[test]
    fn what_prost_encodes_passes() {
        check(&small().encode_to_vec()).unwrap();
    }

    #[test]
    fn an_unknown_field_is_named_by_its_path() {
        // `pipeline` is found as text and its key replaced by that of field 99, two bytes like the old key and length.
        let mut model = small();
        model.graph.as_mut().unwrap().node[3].attribute[1].doc_string = Some("pipeline".into());
        let mut bytes = model.encode_to_vec();
        let at = bytes.windows(8).position(|w| w == b"pipeline").unwrap() - 2;
        assert_eq!(bytes[at], 13 << 3 | 2);
        // Field 99, varint, value 1, then a field 13 of what is left.
        bytes[at..at + 5].copy_from_slice(&[0x98, 0x06, 0x01, 13 << 3 | 2, 5]);
        let error = check(&bytes).unwrap_err();
        assert_eq!(error.fault, Fault::UnknownField { number: 99 });
        assert_eq!((error.place.as_str(), error.offset), ("graph.node[3].attribute[1]", at));
    }

    #[test]
    fn odd_encodings_that_lose_nothing_pass() {
        let cases: [(&str, &[u8]); 4] = [
            ("overlong varint", &[0x08, 0x88, 0x80, 0x00]),
            ("packed ints where the schema says unpacked", &[0x3a, 6, 0x2a, 4, 0x0a, 2, 3, 3]),
            ("graph in two pieces", &[0x3a, 3, 0x12, 1, b'a', 0x3a, 3, 0x52, 1, b'b']),
            ("unpacked floats where the schema says packed", &[0x3a, 7, 0x2a, 5, 0x25, 0, 0, 0, 0]),
        ];
        for (name, bytes) in cases {
            assert!(check(bytes).is_ok() && ModelProto::decode(bytes).is_ok(), "{name}: {:?}", check(bytes));
        }
    }

    #[test]
    fn faults_are_told_apart() {
        let cases: [(&[u8], Fault); 5] = [
            (&[0x08, 0x80], Fault::Varint),
            (&[0x3a, 9, 0x12], Fault::Truncated { needed: 9, left: 1 }),
            (&[0x3a, 3, 0x12, 1, 0xff], Fault::Utf8 { field: "name" }),
            (&[0x0d, 0, 0, 0, 0], Fault::WireType { field: "ir_version", found: 5 }),
            (&[0x00, 0x00], Fault::Key(0)),
        ];
        for (bytes, fault) in cases {
            assert_eq!(check(bytes).unwrap_err().fault, fault, "{bytes:?}");
        }
    }

    #[test]
    fn depth_and_memory_are_bounded() {
        let mut bytes = Vec::new();
        for _ in 0..60 {
            // graph -> node -> attribute -> graph: each level wraps what there is.
            for key in [0x32, 0x2a, 0x0a] {
                let mut outer = vec![key];
                prost::encoding::encode_varint(bytes.len() as u64, &mut outer);
                outer.append(&mut bytes);
                bytes = outer;
            }
        }
        let mut model = vec![0x3a];
        prost::encoding::encode_varint(bytes.len() as u64, &mut model);
        model.append(&mut bytes);
        assert_eq!(check(&model).unwrap_err().fault, Fault::Deep);

        let attributes = [0x2a, 0].repeat(200_000);
        let mut node = vec![0x0a];
        prost::encoding::encode_varint(attributes.len() as u64, &mut node);
        node.extend(attributes);
        let mut model = vec![0x3a];
        prost::encoding::encode_varint(node.len() as u64, &mut model);
        model.extend(node);
        assert_eq!(check(&model).unwrap_err().fault, Fault::Memory);
    }
}
