//! Sizes for symbolic dimensions.
//!
//! There is no symbolic algebra here. Every symbol is given a concrete size, all shapes and shape values are then
//! concrete, and the analysis is run for two different assignments; what holds under both is what is used.

use crate::ir::{Def, Model, ValueId};
use crate::onnx::proto::{TypeProto, tensor_shape_proto::dimension, type_proto};
use crate::onnx::tensor::DataType;
use std::collections::BTreeMap;

/// A concrete size for every symbol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sizes {
    /// Given by the user, by symbol or by `input.axis`.
    pub fixed: BTreeMap<String, usize>,
    /// First axes of inputs: usually the batch.
    pub batch: usize,
    /// All other symbols.
    pub other: usize,
}

/// (batch, other) pairs to try, in this order. Small first: labels of flattened maps grow with the extent. The later
/// ones are for networks whose strides need more room or whose reshapes fix the batch.
const CANDIDATES: [(usize, usize); 12] =
    [(2, 64), (3, 96), (2, 128), (3, 224), (2, 32), (3, 48), (2, 256), (2, 640), (1, 64), (1, 96), (1, 224), (1, 1)];

impl Sizes {
    /// The assignments to try.
    pub fn candidates(fixed: &BTreeMap<String, usize>) -> impl Iterator<Item = Sizes> + '_ {
        CANDIDATES.iter().map(|&(batch, other)| Sizes { fixed: fixed.clone(), batch, other })
    }

    /// The concrete shape of a declared tensor type. `place` names dimensions without a symbol of their own;
    /// `None` without a shape, or for dimensions that cannot be given a size.
    pub fn shape(&self, place: Option<&str>, ty: &TypeProto) -> Option<(Option<DataType>, Option<Vec<usize>>)> {
        let Some(type_proto::Value::TensorType(t)) = &ty.value else { return None };
        let dtype = t.elem_type.and_then(|e| DataType::try_from(e).ok());
        let shape = t.shape.as_ref().and_then(|s| {
            s.dim.iter().enumerate().map(|(axis, d)| self.extent(place, axis, d.value.as_ref())).collect()
        });
        Some((dtype, shape))
    }

    fn extent(&self, place: Option<&str>, axis: usize, dim: Option<&dimension::Value>) -> Option<usize> {
        let symbol = match dim {
            Some(dimension::Value::DimValue(d)) if *d > 0 => return usize::try_from(*d).ok(),
            Some(dimension::Value::DimParam(name)) if !name.is_empty() => name.clone(),
            _ => format!("{}.{axis}", place?),
        };
        let default = if axis == 0 && place.is_some() { self.batch } else { self.other };
        Some(self.fixed.get(&symbol).copied().unwrap_or(default))
    }
}

/// Inputs of the main graph that a caller has to feed, with their declared types.
pub fn fed_inputs(model: &Model) -> Vec<(ValueId, Option<&TypeProto>)> {
    let ports = model.graph(model.main()).inputs().iter();
    let fed = ports.filter(|p| model.value(p.value).def() == Def::Input);
    fed.map(|p| (p.value, p.info.r#type.as_ref())).collect()
}

/// Whether any input has a dimension without a fixed extent.
pub fn is_symbolic(model: &Model) -> bool {
    fed_inputs(model).iter().any(|(_, ty)| {
        let Some(type_proto::Value::TensorType(t)) = ty.and_then(|t| t.value.as_ref()) else { return true };
        t.shape
            .as_ref()
            .is_none_or(|s| s.dim.iter().any(|d| !matches!(d.value, Some(dimension::Value::DimValue(d)) if d > 0)))
    })
}
