//! The parameter and MAC counts of the published networks and of their cuts, exactly.

use secateur::analysis::{Cost, cost, infer_all};
use secateur::ir::Model;
use secateur::onnx::proto::tensor_shape_proto::dimension::Value::DimValue;
use secateur::onnx::proto::{ModelProto, TensorProto, type_proto};
use secateur::onnx::text::{parse, parse_fixture};
use secateur::passes::{Context, Pipeline};
use secateur::plan::Plan;
use std::collections::{BTreeMap, BTreeSet};

const DCASE: &str = include_str!("../fixtures/models/dcase21.onnxtxt");
const CNN14: &str = include_str!("../fixtures/models/cnn14.onnxtxt");

fn cost_of(model: &Model) -> Cost {
    cost(model, &infer_all(model, &BTreeMap::new())[0])
}

fn pruned(model: &Model, options: &str) -> (Model, Plan) {
    let mut model = model.clone();
    let pipeline = Pipeline::parse(&format!("prune({options})")).unwrap();
    let outcome = pipeline.run(&mut model, &Context::default(), &mut |_| ()).unwrap().swap_remove(0).1;
    (model, outcome.plan.unwrap())
}

/// In units of `unit`, with two decimals, as the table prints it.
fn rounded(macs: u64, unit: f64) -> String {
    format!("{:.2}", macs as f64 / unit)
}

/// How much went, in percent with two decimals.
fn saved(before: u64, after: u64) -> String {
    format!("{:.2}", 100.0 * (before as f64 - after as f64) / before as f64)
}

#[test]
fn dcase21_net() {
    let model = Model::import(parse_fixture(DCASE).unwrap()).unwrap();
    // The published numbers of this network count the running means and variances of its batch normalisations.
    let params = |c: Cost| c.params + c.statistics;
    let whole = cost_of(&model);
    assert_eq!((params(whole), rounded(whole.macs, 1e6).as_str()), (46_246, "286.64"));

    let rows = [
        ("ratio=0.25, exclude=conv3", [12, 12, 32], 34_250, "167.94"),
        ("ratio=0.5, exclude=conv3", [8, 8, 32], 23_822, "80.60"),
        ("ratio=0.75, exclude=conv3", [4, 4, 32], 14_962, "24.62"),
        ("ratio=0.25", [12, 12, 24], 27_906, "164.18"),
        ("ratio=0.5", [8, 8, 16], 14_270, "75.58"),
        ("ratio=0.75", [4, 4, 8], 5_338, "20.86"),
        // The same by naming what is cut in place of what is not.
        (r#"ratio=0, layer="conv[12]=0.5""#, [8, 8, 32], 23_822, "80.60"),
    ];
    for (options, kept, parameters, macs) in rows {
        let (small, plan) = pruned(&model, options);
        let left: Vec<usize> = plan.groups.iter().take(3).map(|g| g.channels - g.removed.len()).collect();
        assert_eq!(left, kept, "{options}");
        let found = cost_of(&small);
        assert_eq!((params(found), rounded(found.macs, 1e6).as_str()), (parameters, macs), "{options}");
        assert_eq!(plan.cost.params, [whole.params, found.params], "{options}");
        assert_eq!(plan.cost.macs, [whole.macs, found.macs], "{options}");
    }
    let quarter = cost_of(&pruned(&model, "ratio=0.25, exclude=conv3").0);
    assert_eq!(saved(whole.macs, quarter.macs), "41.41");
    let half = cost_of(&pruned(&model, "ratio=0.5, exclude=conv3").0);
    assert_eq!(
        (saved(params(whole), params(half)).as_str(), saved(whole.macs, half.macs).as_str()),
        ("48.49", "71.88")
    );
}

#[test]
fn cnn14() {
    let model = Model::import(zeroed(parse(CNN14).unwrap())).unwrap();
    // The published number of this network leaves the running statistics out.
    let whole = cost_of(&model);
    assert_eq!((whole.params, rounded(whole.macs, 1e9).as_str()), (80_753_615, "20.04"));

    let rows = [(0.25, 47_408_591, "15.64"), (0.5, 23_205_839, "12.41"), (0.75, 8_145_359, "10.36")];
    for (ratio, parameters, macs) in rows {
        // The counts do not depend on which filters go, so the cheapest choice will do.
        let (small, _) = pruned(&model, &format!(r#"ratio=0, layer="block[456]_conv?={ratio}", by=random"#));
        let found = cost_of(&small);
        assert_eq!((found.params, rounded(found.macs, 1e9).as_str()), (parameters, macs), "{ratio}");
        match ratio {
            0.25 => {
                let less = (saved(whole.params, found.params), saved(whole.macs, found.macs));
                assert_eq!((less.0.as_str(), less.1.as_str()), ("41.29", "21.95"));
            }
            0.5 => assert_eq!(saved(whole.params, found.params), "71.26"),
            _ => {}
        }
    }
}

/// Gives every weight that is declared without content zeros: to draw 80 million numbers would take too long.
fn zeroed(mut model: ModelProto) -> ModelProto {
    let graph = model.graph.as_mut().unwrap();
    let made: BTreeSet<String> = graph.node.iter().flat_map(|n| n.output.iter().cloned()).collect();
    for value in graph.value_info.drain(..).filter(|v| !made.contains(v.name())) {
        let Some(type_proto::Value::TensorType(of)) = value.r#type.and_then(|t| t.value) else { continue };
        let extents = of.shape.iter().flat_map(|s| &s.dim).map(|d| match d.value {
            Some(DimValue(extent)) => extent,
            _ => panic!("a weight without a shape"),
        });
        let dims: Vec<i64> = extents.collect();
        let bytes = 4 * dims.iter().product::<i64>() as usize;
        graph.initializer.push(TensorProto {
            name: value.name,
            dims,
            data_type: of.elem_type,
            raw_data: Some(vec![0; bytes].into()),
            ..Default::default()
        });
    }
    model
}
