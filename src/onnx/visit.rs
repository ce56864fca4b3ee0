//! Every tensor of a model, wherever it hides: initializers, sparse ones, attributes, the graphs in attributes,
//! functions and training graphs.
//!
//! How: one walk, written once and expanded for shared and for exclusive references.

use super::proto::*;

macro_rules! walk {
    ($model:ident, $graph:ident, $attribute:ident, $tensor:ident, $iter:ident, $deref:ident, $($exclusive:tt)?) => {
        /// Calls `visit` with each tensor and the name that a person knows it by: its own, or that of the node output
        /// whose attribute it is. Stops at the first error.
        pub(super) fn $model<E>(
            model: & $($exclusive)? ModelProto,
            visit: &mut dyn FnMut(& $($exclusive)? TensorProto, &str) -> Result<(), E>,
        ) -> Result<(), E> {
            for graph in model.graph.$iter() {
                $graph(graph, visit)?;
            }
            for training in model.training_info.$iter() {
                for graph in training.initialization.$iter().chain(training.algorithm.$iter()) {
                    $graph(graph, visit)?;
                }
            }
            for function in model.functions.$iter() {
                for attribute in function.attribute_proto.$iter() {
                    $attribute(attribute, "", visit)?;
                }
                for node in function.node.$iter() {
                    let owner = node.output.first().or(node.name.as_ref()).map_or("", String::as_str);
                    for attribute in node.attribute.$iter() {
                        $attribute(attribute, owner, visit)?;
                    }
                }
            }
            Ok(())
        }

        fn $graph<E>(
            graph: & $($exclusive)? GraphProto,
            visit: &mut dyn FnMut(& $($exclusive)? TensorProto, &str) -> Result<(), E>,
        ) -> Result<(), E> {
            for tensor in graph.initializer.$iter() {
                $tensor(tensor, "", visit)?;
            }
            for sparse in graph.sparse_initializer.$iter() {
                for tensor in sparse.values.$iter().chain(sparse.indices.$iter()) {
                    $tensor(tensor, "", visit)?;
                }
            }
            for node in graph.node.$iter() {
                let owner = node.output.first().or(node.name.as_ref()).map_or("", String::as_str);
                for attribute in node.attribute.$iter() {
                    $attribute(attribute, owner, visit)?;
                }
            }
            Ok(())
        }

        fn $attribute<E>(
            attribute: & $($exclusive)? AttributeProto,
            owner: &str,
            visit: &mut dyn FnMut(& $($exclusive)? TensorProto, &str) -> Result<(), E>,
        ) -> Result<(), E> {
            for tensor in attribute.t.$iter().chain(attribute.tensors.$iter()) {
                $tensor(tensor, owner, visit)?;
            }
            for sparse in attribute.sparse_tensor.$deref().into_iter().chain(attribute.sparse_tensors.$iter()) {
                for tensor in sparse.values.$iter().chain(sparse.indices.$iter()) {
                    $tensor(tensor, owner, visit)?;
                }
            }
            for graph in attribute.g.$iter().chain(attribute.graphs.$iter()) {
                $graph(graph, visit)?;
            }
            Ok(())
        }

        fn $tensor<E>(
            tensor: & $($exclusive)? TensorProto,
            owner: &str,
            visit: &mut dyn FnMut(& $($exclusive)? TensorProto, &str) -> Result<(), E>,
        ) -> Result<(), E> {
            let name = match tensor.name() {
                "" => owner.to_owned(),
                own => own.to_owned(),
            };
            visit(tensor, &name)
        }
    };
}

walk!(tensors, in_graph, in_attribute, one, iter, as_deref,);
walk!(tensors_mut, in_graph_mut, in_attribute_mut, one_mut, iter_mut, as_deref_mut, mut);
