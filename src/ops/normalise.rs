//! Normalisation: statistics over some axes, which channels along them cannot leave without changing them.

use super::call::{Call, Effect, Fact, Operand, Refusal, axis_at};

/// Scale, shift, mean and variance run along the channels.
pub(super) fn batch_norm(call: &Call) -> Result<Effect, Refusal> {
    let x = call.shape_of_rank(0, 2)?;
    if call.int("training_mode", 0) != 0 || (call.version < 7 && call.int("is_test", 0) == 0 && call.output_count() > 1)
    {
        return Err(Refusal::Unknown("batch normalisation in training mode".into()));
    }
    // From version 7 to 13 it is the further outputs that ask for statistics of the batch.
    if (7..14).contains(&call.version) && call.node.outputs().iter().skip(1).flatten().next().is_some() {
        return Err(Refusal::Unknown("batch normalisation in training mode".into()));
    }
    if call.version < 9 && call.int("spatial", 1) == 0 {
        return Err(Refusal::Unknown("batch normalisation with spatial = 0".into()));
    }
    let mut operands = vec![Operand::whole(0, x.len())];
    for i in 1..5 {
        if *call.shape(i)? != [x[1]] {
            return Err(Refusal::Invalid(format!(
                "input {i} has shape {:?}, {} channels are normalised",
                call.shape(i)?,
                x[1]
            )));
        }
        operands.push(Operand::along(i, 1));
    }
    Ok(Effect::map(call, x.to_vec(), operands))
}

/// Statistics over the positions of each channel.
pub(super) fn instance_norm(call: &Call) -> Result<Effect, Refusal> {
    let x = call.shape_of_rank(0, 3)?;
    let operands = vec![Operand::whole(0, x.len()).averaging(|a| a > 1), Operand::along(1, 1), Operand::along(2, 1)];
    Ok(Effect::map(call, x.to_vec(), operands))
}

/// Statistics over the last axes.
pub(super) fn layer_norm(call: &Call) -> Result<Effect, Refusal> {
    let x = call.shape(0)?;
    let first = call.axis("axis", -1, x.len())?;
    let mut operands = vec![Operand::whole(0, x.len()).averaging(|a| a >= first)];
    for i in 1..call.inputs.len() {
        if call.has(i) {
            let rank = call.shape(i)?.len().min(x.len());
            operands.push(Operand::trailing(i, rank, x.len()).averaging(|a| a >= first));
        }
    }
    Ok(Effect::map(call, x.to_vec(), operands))
}

/// Statistics over groups of channels.
pub(super) fn group_norm(call: &Call) -> Result<Effect, Refusal> {
    let x = call.shape_of_rank(0, 2)?;
    let groups = usize::try_from(call.int("num_groups", 1)).ok().filter(|&g| g > 0 && x[1].is_multiple_of(g));
    let groups = groups.ok_or_else(|| {
        Refusal::Invalid(format!("num_groups {} does not divide {} channels", call.int("num_groups", 1), x[1]))
    })?;
    let mut operands = vec![Operand::whole(0, x.len()).averaging(|a| a >= 1).in_blocks(groups)];
    // Before version 21 there was one scale a group, which stays whatever goes of its channels.
    for i in (1..3).filter(|&i| call.fact(i).is_some_and(|f| f.shape.as_deref() == Some(&x[1..2]))) {
        operands.push(Operand::along(i, 1).averaging(|_| true));
    }
    Ok(Effect::map(call, x.to_vec(), operands))
}

/// Normalisation over neighbouring channels.
pub(super) fn across_channels(call: &Call) -> Result<Effect, Refusal> {
    let x = call.shape_of_rank(0, 2)?;
    Ok(Effect::map(call, x.to_vec(), vec![Operand::whole(0, x.len()).mixing(|a| a == 1)]))
}

/// One axis is normalised or accumulated along; before opset 13 softmax took all axes from there on.
pub(super) fn softmax(call: &Call) -> Result<Effect, Refusal> {
    let x = call.shape(0)?;
    let operand = if call.version < 13 {
        let axis = call.axis("axis", 1, x.len().max(1))?;
        Operand::whole(0, x.len()).mixing(|a| a >= axis)
    } else {
        let axis = call.axis("axis", -1, x.len().max(1))?;
        Operand::whole(0, x.len()).mixing(|a| a == axis)
    };
    Ok(Effect::map(call, x.to_vec(), vec![operand]))
}

/// One axis of an attribute is mixed.
pub(super) fn along_axis(call: &Call) -> Result<Effect, Refusal> {
    let x = call.shape(0)?;
    let axis = call.axis("axis", -1, x.len())?;
    Ok(Effect::map(call, x.to_vec(), vec![Operand::whole(0, x.len()).averaging(|a| a == axis)]))
}

pub(super) fn mean_variance_norm(call: &Call) -> Result<Effect, Refusal> {
    let x = call.shape(0)?;
    let axes = call.node.ints("axes").unwrap_or(&[0, 2, 3]);
    let axes = axes.iter().map(|&a| axis_at(a, x.len())).collect::<Result<Vec<_>, _>>()?;
    Ok(Effect::map(call, x.to_vec(), vec![Operand::whole(0, x.len()).mixing(|a| axes.contains(&a))]))
}

/// `SkipLayerNormalization`, `SkipSimplifiedLayerNormalization` of com.microsoft: two addends, statistics over the last
/// axis. The outputs are the result, mean, deviation, and the sum.
pub(super) fn skip_layer_norm(call: &Call) -> Result<Effect, Refusal> {
    let x = call.shape_of_rank(0, 2)?;
    let last = x.len() - 1;
    let mut operands = Vec::new();
    for i in (0..call.inputs.len()).filter(|&i| call.has(i)) {
        let rank = call.shape(i)?.len();
        if rank > x.len() {
            return Err(Refusal::Invalid(format!("input {i} has more axes than the data {x:?}")));
        }
        operands.push(Operand::trailing(i, rank, x.len()).averaging(|a| a == last));
    }
    let mut effect = Effect::map(call, x.to_vec(), operands);
    let whole = effect.outputs[0].clone();
    let statistic = Fact::new(Some(crate::onnx::tensor::DataType::Float), [&x[..last], &[1]].concat());
    let all = [whole.clone(), statistic.clone(), statistic, whole];
    effect.outputs = all.into_iter().take(call.output_count().max(1)).collect();
    Ok(effect)
}
