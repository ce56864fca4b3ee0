//! Constants that are made for the time of a cut.
//!
//! A constant that holds one number only says nothing of the channels of its readers, so readers that have nothing
//! else in common may each have a copy. What the cut leaves alike is one constant again afterwards.

use super::model::{Def, Model, Unnamed};
use super::{NodeId, ValueId};
use crate::onnx::tensor::Tensor;
use std::collections::{BTreeMap, BTreeSet};

impl Model {
    /// Gives one reader of a constant a copy of its own, under a new name.
    pub fn give_copy(&mut self, reader: NodeId, input: usize, tensor: &Tensor) -> Option<ValueId> {
        let of = self.node(reader).input(input)?;
        let (graph, hint) = (self.node(reader).graph(), self.value(of).name().to_owned());
        let copy = self.add_initializer(graph, &hint, tensor);
        self.set_input(reader, input, Some(copy));
        self.unnamed.insert(copy, Unnamed::Copy { of });
        Some(copy)
    }

    /// Says of constants that the file does not hold them as a tensor of their name.
    pub fn set_unnamed(&mut self, constants: impl IntoIterator<Item = (ValueId, Unnamed)>) {
        self.unnamed.extend(constants);
    }

    /// A `Constant` node that states plain numbers states them as a tensor from now on.
    pub fn state_as_tensor(&mut self, value: ValueId, tensor: &Tensor) {
        let Def::Node(n, _) = self.value(value).def else { return };
        let attribute = crate::onnx::proto::AttributeProto {
            name: Some("value".to_owned()),
            r#type: Some(crate::onnx::proto::attribute_proto::AttributeType::Tensor as i32),
            t: Some(tensor.to_proto("")),
            ..Default::default()
        };
        self.nodes[n.index()].proto.attribute = vec![attribute];
    }

    /// Copies that are still alike become one constant again, the original where it is like them; and nothing is
    /// unnamed any more: from now on the model stands for itself.
    pub fn rejoin_copies(&mut self) {
        let unnamed = std::mem::take(&mut self.unnamed);
        let mut alike: BTreeMap<(ValueId, Vec<i64>), ValueId> = BTreeMap::new();
        let mut instead: BTreeMap<ValueId, ValueId> = BTreeMap::new();
        for (copy, kind) in unnamed {
            let Unnamed::Copy { of } = kind else { continue };
            let shape = |v| self.constant(v).map(|t| t.dims.clone());
            let Some(own) = shape(copy) else { continue };
            // A copy in a body may be nobody else's.
            let everywhere = self.value(copy).graph == self.main();
            if shape(of).as_ref() == Some(&own) {
                instead.insert(copy, of);
            } else if let Some(&first) = alike.get(&(of, own.clone())) {
                instead.insert(copy, first);
            } else if everywhere {
                alike.insert((of, own), copy);
            }
        }
        self.replace_all_reads(|v| instead.get(&v).copied().unwrap_or(v));
        self.remove_initializers(&instead.into_keys().collect::<BTreeSet<_>>());
    }
}
