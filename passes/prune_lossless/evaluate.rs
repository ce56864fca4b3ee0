//! What a node makes of constants: the node itself is run on small tensors, by the operator table where it can, else by
//! the interpreter, so that no operator's arithmetic is written a second time.

use super::flow::Numbering;
use super::number::each;
use crate::ir::NodeId;
use crate::onnx::tensor::{DataType, Tensor};
use crate::ops::{self, Call, Fact, Row};
use crate::run::Runner;

/// Elements beyond which a node is not run.
const MOST_ELEMENTS: usize = 1 << 24;

/// How far the elements of a slice may lie apart, relative to the largest: rounding of sums over windows.
const UNIFORM: f64 = 1e-6;

impl Numbering<'_> {
    /// Runs a node on operands given by input, shape and elements; other inputs are the constants that they are. For
    /// every slice of the output over `axes` the number that it holds everywhere, if it does.
    pub(super) fn evaluate(
        &mut self,
        n: NodeId,
        row: &Row,
        operands: Vec<(usize, Vec<usize>, Vec<f64>)>,
        axes: &[usize],
    ) -> Option<Vec<Option<f64>>> {
        let node = self.model.node(n);
        let mut inputs: Vec<Option<Tensor>> = Vec::with_capacity(node.inputs().len());
        for (i, v) in node.inputs().iter().enumerate() {
            let Some(v) = *v else {
                inputs.push(None);
                continue;
            };
            inputs.push(Some(match operands.iter().find(|o| o.0 == i) {
                Some((_, shape, values)) => {
                    (values.len() <= MOST_ELEMENTS).then_some(())?;
                    let dtype = self.world.shapes.fact(v)?.dtype?;
                    Tensor::from_f64(computed_in(dtype), shape, values)?
                }
                None => self.content(v)?,
            }));
        }
        let fact = |t: &Tensor| Fact { value: Some(t.clone()), ..Fact::new(Some(t.dtype()), t.shape().to_vec()) };
        let facts: Vec<Option<Fact>> = inputs.iter().map(|t| t.as_ref().map(fact)).collect();
        let facts: Vec<Option<&Fact>> = facts.iter().map(Option::as_ref).collect();
        let version = self.model.opset(row.domain)?;
        let call = Call { node, version, inputs: &facts };
        let effect = (row.rule)(&call).ok()?;
        let expected: Vec<(Option<DataType>, Vec<usize>)> =
            effect.outputs.iter().map(|f| Some((f.dtype, f.shape.clone()?))).collect::<Option<_>>()?;
        if expected.iter().any(|(_, s)| s.iter().fold(1, |n: usize, &d| n.saturating_mul(d)) > MOST_ELEMENTS) {
            return None;
        }
        let tensors: Vec<Option<&Tensor>> = inputs.iter().map(Option::as_ref).collect();
        let outputs = ops::evaluate(row, &call, &effect, &tensors).or_else(|| {
            let proto = self.model.export_alone(n, &inputs, &expected);
            Runner::load(&proto, &[]).and_then(|r| r.run(&[])).ok()
        })?;
        let output = outputs.first().filter(|t| t.shape() == expected[0].1)?;
        let values = output.to_f64()?;
        let count = axes.iter().map(|&a| output.shape()[a]).product();
        let mut range: Vec<Option<(f64, f64)>> = vec![None; count];
        each(output.shape(), axes, |slot, i| {
            let x = values[i];
            // A NaN would not take part in minima: it makes the range empty instead.
            let (low, high) = range[slot].unwrap_or((x, x));
            range[slot] = Some(if x.is_finite() { (low.min(x), high.max(x)) } else { (f64::NAN, f64::NAN) });
        });
        let one = |r: Option<(f64, f64)>| {
            let (low, high) = r?;
            let uniform = high - low <= UNIFORM * low.abs().max(high.abs());
            uniform.then_some(if low == high { low } else { (low + high) / 2.0 })
        };
        Some(range.into_iter().map(one).collect())
    }
}

/// Half precision is computed in single: what is folded is rounded once.
fn computed_in(dtype: DataType) -> DataType {
    match dtype {
        DataType::Float16 | DataType::Bfloat16 => DataType::Float,
        other => other,
    }
}
