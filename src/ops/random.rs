//! Random operators. One sequence of numbers is drawn over all elements: with a channel gone, every later element would
//! have another one, so no channel passes.

use super::call::{Action, Call, Effect, Fact, Refusal};
use crate::onnx::tensor::DataType;

const DRAWN: &str = "one sequence of random numbers is drawn over all its elements";

/// The element type that an attribute states.
fn stated(call: &Call) -> Option<DataType> {
    call.node.int("dtype").and_then(|t| DataType::try_from(i32::try_from(t).ok()?).ok())
}

/// `RandomNormal`, `RandomUniform`: an attribute states the shape.
pub(super) fn shaped(call: &Call) -> Result<Effect, Refusal> {
    let shape = call.node.ints("shape").ok_or_else(|| Refusal::Invalid("no shape".into()))?;
    let shape = shape.iter().map(|&d| usize::try_from(d)).collect::<Result<Vec<_>, _>>();
    let shape = shape.map_err(|_| Refusal::Invalid("a negative extent".into()))?;
    Ok(Effect::one(Fact::new(stated(call).or(Some(DataType::Float)), shape), Action::ShapeOnly))
}

/// `RandomNormalLike`, `RandomUniformLike`, `Bernoulli`: the shape is that of the input, the type too unless stated.
pub(super) fn like(call: &Call) -> Result<Effect, Refusal> {
    let fact = Fact::new(stated(call).or(call.dtype(0)), call.shape(0)?.to_vec());
    Ok(Effect::one(fact, Action::Opaque(DRAWN.into())))
}

/// `Multinomial`: `sample_size` draws for each row of the batch.
pub(super) fn multinomial(call: &Call) -> Result<Effect, Refusal> {
    let x = call.shape_of_rank(0, 2)?;
    let count = usize::try_from(call.int("sample_size", 1));
    let count = count.map_err(|_| Refusal::Invalid("a negative sample_size".into()))?;
    let fact = Fact::new(stated(call).or(Some(DataType::Int32)), vec![x[0], count]);
    Ok(Effect::one(fact, Action::Opaque(DRAWN.into())))
}
