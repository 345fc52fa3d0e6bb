//! The tree of a draft: what its nodes are, and what is asked of it as a whole between runs.

use super::{Draft, NodeId};
use crate::schema::shape::{Field, Shape, Variant};

/// A named thing inside of a struct or an enum.
pub(super) struct Member {
    pub(super) names: Vec<&'static str>,
    pub(super) node: NodeId,
    /// What the type takes the name for, as far as one can tell from outside; equal for aliases.
    pub(super) meaning: Option<u64>,
    /// Of a variant: whether it has been seen to its end.
    pub(super) seen: bool,
    /// Of a field: whether it may be missing.
    pub(super) optional: Option<bool>,
}

pub(super) enum Form {
    Unknown,
    Leaf(Shape),
    Option(NodeId),
    List(NodeId),
    Map(NodeId, NodeId),
    Tuple(Vec<NodeId>),
    Struct { name: &'static str, fields: Vec<Member> },
    Enum { name: &'static str, variants: Vec<Member> },
    Recursive { name: String, target: NodeId },
}

pub(super) struct Node {
    pub(super) parent: Option<NodeId>,
    /// 1 for the root.
    pub(super) level: usize,
    pub(super) form: Form,
    /// The visitors that came for it: more than one if newtypes wrap it.
    pub(super) visitors: Vec<&'static str>,
    /// Of a leaf: which sample value it gets. Of an enum: which variant it gets when closing.
    pub(super) choice: usize,
    /// How many choices there are.
    pub(super) n_choices: usize,
}

impl Node {
    pub(super) fn new(parent: Option<NodeId>, level: usize) -> Self {
        Node { parent, level, form: Form::Unknown, visitors: Vec::new(), choice: 0, n_choices: 1 }
    }
}

impl Draft {
    fn inner(&self, node: NodeId) -> Vec<NodeId> {
        match &self.nodes[node].form {
            Form::Unknown | Form::Leaf(_) | Form::Recursive { .. } => Vec::new(),
            Form::Option(item) | Form::List(item) => vec![*item],
            Form::Map(key, value) => vec![*key, *value],
            Form::Tuple(items) => items.clone(),
            Form::Struct { fields: members, .. } | Form::Enum { variants: members, .. } => {
                members.iter().map(|member| member.node).collect()
            }
        }
    }

    pub(super) fn is_complete(&self, node: NodeId) -> bool {
        let is_seen = match &self.nodes[node].form {
            Form::Unknown => false,
            Form::Enum { variants, .. } => variants.iter().all(|variant| variant.seen),
            _ => true,
        };
        is_seen && self.inner(node).into_iter().all(|inner| self.is_complete(inner))
    }

    /// Whether `node` is `wanted` or has it inside.
    pub(super) fn holds(&self, node: NodeId, wanted: NodeId) -> bool {
        let mut at = Some(wanted);
        while let Some(a) = at {
            if a == node {
                return true;
            }
            at = self.nodes[a].parent;
        }
        false
    }

    /// A field of which it is not known whether it may be missing.
    pub(super) fn unprobed(&self, node: NodeId) -> Option<(NodeId, usize)> {
        if let Form::Struct { fields, .. } = &self.nodes[node].form
            && let Some(field) = fields.iter().position(|field| field.optional.is_none())
        {
            return Some((node, field));
        }
        self.inner(node).into_iter().find_map(|inner| self.unprobed(inner))
    }

    pub(super) fn finish(&self, node: NodeId, outer: &mut Vec<NodeId>) -> Shape {
        outer.push(node);
        let mut boxed = |item: &NodeId| Box::new(self.finish(*item, outer));
        let shape = match &self.nodes[node].form {
            Form::Unknown => unreachable!("a complete draft has no unknown node"),
            Form::Leaf(shape) => shape.clone(),
            Form::Option(item) => Shape::Option(boxed(item)),
            Form::List(item) => Shape::List(boxed(item)),
            Form::Map(key, value) => Shape::Map(boxed(key), boxed(value)),
            Form::Tuple(items) => {
                Shape::Tuple(items.iter().map(|item| self.finish(*item, outer)).collect())
            }
            Form::Struct { name, fields } => Shape::Struct {
                name: (*name).into(),
                fields: fields
                    .iter()
                    .map(|field| Field {
                        name: field.names[0].into(),
                        aliases: field.names[1..].iter().map(|name| (*name).into()).collect(),
                        optional: field.optional == Some(true),
                        shape: self.finish(field.node, outer),
                    })
                    .collect(),
            },
            Form::Enum { name, variants } => Shape::Enum {
                name: (*name).into(),
                variants: variants
                    .iter()
                    .map(|variant| Variant {
                        name: variant.names[0].into(),
                        aliases: variant.names[1..].iter().map(|name| (*name).into()).collect(),
                        shape: self.finish(variant.node, outer),
                    })
                    .collect(),
            },
            Form::Recursive { name, target } => {
                let up = outer.iter().rev().position(|at| at == target);
                Shape::Recursive {
                    name: name.clone(),
                    up: up.expect("a recursive node was found below its target"),
                }
            }
        };
        outer.pop();
        shape
    }

    /// Where a node stands, for people: `Order.lines[].price`.
    pub(super) fn path(&self, node: NodeId) -> String {
        let Some(parent) = self.nodes[node].parent else {
            return match &self.nodes[node].form {
                Form::Struct { name, .. } | Form::Enum { name, .. } => (*name).into(),
                _ => "it".into(),
            };
        };
        let step = match &self.nodes[parent].form {
            Form::Tuple(items) => {
                format!(".{}", items.iter().position(|item| *item == node).unwrap_or(0))
            }
            Form::Struct { fields: members, .. } | Form::Enum { variants: members, .. } => {
                let member = members.iter().find(|member| member.node == node);
                member.map_or(String::new(), |member| format!(".{}", member.names[0]))
            }
            Form::List(_) => "[]".into(),
            Form::Map(key, _) => if *key == node { "[key]" } else { "[value]" }.into(),
            _ => String::new(),
        };
        self.path(parent) + &step
    }
}
