//! What is known so far of a type that is being recorded.
//!
//! A run of `T::deserialize` sees one way through the type: one variant of every enum. What it has seen is
//! kept here from run to run, as a tree of nodes that refer to each other by index, and each run goes where
//! something is still unknown. When all is seen, every field is left out once, to learn whether it may be
//! missing.
//!
//! A type that contains itself is known by its visitor, which is a type of its own for every type that is
//! read (serde's names are not: `Pair<Pair<u8>>` holds a `Pair`). From there on the run is *closing*: it only
//! wants to come to an end, so it takes `None`, empty lists, and of an enum a variant that does not come back.

mod tree;

use super::fault::Fault;
use super::shape::Shape;
use tree::{Form, Member, Node};

pub(super) type NodeId = usize;

/// More than any type that a person wrote.
const MAX_NODES: usize = 50_000;
/// Deepest nesting of shapes: as JSON each takes up to four levels, of which readers allow 128.
const MAX_LEVELS: usize = 28;
/// Most values that a run may be inside of, newtypes and those of recursive types included.
const MAX_OPEN: usize = 128;
/// How many of the last sample values are varied together when a type refuses them.
const MAX_VARIED: usize = 3;

#[derive(Clone, Copy)]
enum Goal {
    Explore,
    Omit { node: NodeId, field: usize },
}

/// See the module's text.
pub(super) struct Draft {
    nodes: Vec<Node>,
    goal: Goal,
    // The rest is of the current run.
    open: Vec<(NodeId, &'static str)>,
    closing: Vec<(NodeId, &'static str)>,
    closing_enums: Vec<NodeId>,
    touched: Vec<NodeId>,
    has_learnt: bool,
    again: bool,
    fatal: Option<String>,
}

impl Draft {
    pub(super) fn new() -> Self {
        let mut draft = Draft {
            nodes: Vec::new(),
            goal: Goal::Explore,
            open: Vec::new(),
            closing: Vec::new(),
            closing_enums: Vec::new(),
            touched: Vec::new(),
            has_learnt: false,
            again: false,
            fatal: None,
        };
        draft.nodes.push(Node::new(None, 1));
        draft
    }

    /// Takes note of how a run ended; the shape, if nothing is left to learn.
    pub(super) fn end_run(&mut self, outcome: Result<(), Fault>) -> Result<Option<Shape>, String> {
        if let Some(reason) = self.fatal.take() {
            return Err(reason);
        }
        self.open.clear();
        self.closing.clear();
        self.closing_enums.clear();
        let touched = std::mem::take(&mut self.touched);
        let has_learnt = std::mem::take(&mut self.has_learnt);
        if std::mem::take(&mut self.again) {
            return Ok(None);
        }
        match (self.goal, outcome) {
            (Goal::Omit { node, field }, outcome) => {
                if let Form::Struct { fields, .. } = &mut self.nodes[node].form {
                    fields[field].optional = Some(outcome.is_ok());
                }
            }
            (Goal::Explore, Err(fault)) => {
                let last = touched.last().copied();
                if !self.vary(&touched) {
                    let at = self.path(last.unwrap_or(0));
                    return Err(format!("no sample value pleased {at} ({fault})"));
                }
                return Ok(None);
            }
            (Goal::Explore, Ok(())) => {
                if !self.is_complete(0) {
                    let stuck = "it does not read all that it asks for";
                    return if has_learnt { Ok(None) } else { Err(stuck.into()) };
                }
            }
        }
        match self.unprobed(0) {
            Some((node, field)) => {
                self.goal = Goal::Omit { node, field };
                Ok(None)
            }
            None => Ok(Some(self.finish(0, &mut Vec::new()))),
        }
    }

    /// Stops the recording for good.
    pub(super) fn refuse(&mut self, node: NodeId, reason: &str) -> Fault {
        let reason = format!("{} {reason}", self.path(node));
        self.fatal.get_or_insert(reason.clone());
        Fault::Other(reason)
    }

    /// Ends this run, which has learnt something.
    fn restart(&mut self) -> Fault {
        self.again = true;
        Fault::new("another run is needed")
    }

    /// Comes to a value that may hold others, with the visitor of its type; where to go on, and whether
    /// closing. Call [`leave`](Draft::leave) afterwards.
    pub(super) fn enter(
        &mut self,
        node: NodeId,
        visitor: &'static str,
        name: &str,
        is_closing: bool,
    ) -> Result<(NodeId, bool), Fault> {
        if self.open.len() + self.closing.len() >= MAX_OPEN {
            return Err(self.refuse(node, "is nested too deep"));
        }
        let mut ancestor = self.nodes[node].parent;
        while let Some(a) = ancestor {
            if self.nodes[a].visitors.contains(&visitor) {
                self.set(node, Form::Recursive { name: name.into(), target: a })?;
                return self.enter_closing(a, visitor);
            }
            ancestor = self.nodes[a].parent;
        }
        if is_closing {
            return self.enter_closing(node, visitor);
        }
        if self.open.contains(&(node, visitor)) {
            return Err(self.refuse(node, "holds nothing but itself"));
        }
        self.open.push((node, visitor));
        self.note_visitor(node, visitor);
        Ok((node, false))
    }

    fn enter_closing(
        &mut self,
        node: NodeId,
        visitor: &'static str,
    ) -> Result<(NodeId, bool), Fault> {
        if self.closing.contains(&(node, visitor)) {
            // It came back: one of the enums on the way must take another variant, the innermost first.
            while let Some(choosing) = self.closing_enums.pop() {
                if self.advance(choosing) {
                    return Err(self.restart());
                }
            }
            return Err(self.refuse(node, "contains itself without an end"));
        }
        self.closing.push((node, visitor));
        self.note_visitor(node, visitor);
        Ok((node, true))
    }

    fn note_visitor(&mut self, node: NodeId, visitor: &'static str) {
        if !self.nodes[node].visitors.contains(&visitor) {
            self.nodes[node].visitors.push(visitor);
        }
    }

    /// Is done with what was entered last.
    pub(super) fn leave(&mut self, is_closing: bool) {
        if is_closing {
            self.closing.pop()
        } else {
            self.open.pop()
        };
    }

    /// A value without parts; which of `n_samples` to give.
    pub(super) fn leaf(
        &mut self,
        node: NodeId,
        shape: Shape,
        n_samples: usize,
    ) -> Result<usize, Fault> {
        self.set(node, Form::Leaf(shape))?;
        if n_samples > 1 {
            self.nodes[node].n_choices = n_samples;
            self.touched.push(node);
        }
        Ok(self.nodes[node].choice)
    }

    /// An option; the node of its value.
    pub(super) fn option(&mut self, node: NodeId) -> Result<NodeId, Fault> {
        let [child] = self.children(node)?;
        self.set(node, Form::Option(child))?;
        self.child(node, 0)
    }

    /// A list; the node of its values.
    pub(super) fn list(&mut self, node: NodeId) -> Result<NodeId, Fault> {
        let [child] = self.children(node)?;
        self.set(node, Form::List(child))?;
        self.child(node, 0)
    }

    /// A map; the nodes of its keys and values.
    pub(super) fn map(&mut self, node: NodeId) -> Result<(NodeId, NodeId), Fault> {
        let [key, value] = self.children(node)?;
        self.set(node, Form::Map(key, value))?;
        Ok((self.child(node, 0)?, self.child(node, 1)?))
    }

    /// A tuple; the nodes of its values.
    pub(super) fn tuple(&mut self, node: NodeId, len: usize) -> Result<Vec<NodeId>, Fault> {
        if matches!(self.nodes[node].form, Form::Unknown) {
            let children = (0..len).map(|_| self.grow(node)).collect::<Result<_, _>>()?;
            self.set(node, Form::Tuple(children))?;
        }
        match &self.nodes[node].form {
            Form::Tuple(children) if children.len() == len => Ok(children.clone()),
            _ => Err(self.refuse(node, DIFFERS)),
        }
    }

    /// A struct; the fields are asked for one by one.
    pub(super) fn structure(
        &mut self,
        node: NodeId,
        name: &'static str,
        names: &'static [&'static str],
    ) -> Result<(), Fault> {
        if matches!(self.nodes[node].form, Form::Unknown) {
            let fields = self.members(node, names)?;
            return self.set(node, Form::Struct { name, fields });
        }
        match &self.nodes[node].form {
            Form::Struct { name: known, .. } if *known == name => Ok(()),
            _ => Err(self.refuse(node, DIFFERS)),
        }
    }

    /// The `field`-th field of a struct from the `from`-th on that this run does not leave out.
    pub(super) fn field(
        &self,
        node: NodeId,
        from: usize,
        is_closing: bool,
    ) -> Option<(usize, &'static str)> {
        let Form::Struct { fields, .. } = &self.nodes[node].form else { return None };
        let is_left_out = |i: usize| {
            !is_closing
                && matches!(self.goal, Goal::Omit { node: n, field } if (n, field) == (node, i))
        };
        let index = (from..fields.len()).find(|i| !is_left_out(*i))?;
        Some((index, fields[index].names[0]))
    }

    /// Begins an enum; which variant to show.
    pub(super) fn variant(
        &mut self,
        node: NodeId,
        name: &'static str,
        names: &'static [&'static str],
        is_closing: bool,
    ) -> Result<(usize, &'static str), Fault> {
        if names.is_empty() {
            return Err(self.refuse(node, "is an enum without variants"));
        }
        if matches!(self.nodes[node].form, Form::Unknown) {
            let variants = self.members(node, names)?;
            self.set(node, Form::Enum { name, variants })?;
        }
        let Form::Enum { name: known, variants } = &self.nodes[node].form else {
            return Err(self.refuse(node, DIFFERS));
        };
        if *known != name {
            return Err(self.refuse(node, DIFFERS));
        }
        let wanted = variants.iter().position(|variant| match self.goal {
            Goal::Explore => !(variant.seen && self.is_complete(variant.node)),
            Goal::Omit { node, .. } => self.holds(variant.node, node),
        });
        let index = match wanted {
            Some(wanted) if !is_closing => wanted,
            // Aliases found since may have made them fewer.
            _ => self.nodes[node].choice.min(variants.len() - 1),
        };
        let (n_variants, shown) = (variants.len(), variants[index].names[0]);
        self.nodes[node].n_choices = n_variants;
        if is_closing {
            self.closing_enums.push(node);
        }
        Ok((index, shown))
    }

    /// Is done with an enum; its `index`-th variant has been seen to the end.
    pub(super) fn end_variant(&mut self, node: NodeId, index: usize, is_closing: bool) {
        if is_closing {
            self.closing_enums.pop();
        }
        let member = self.member(node, index);
        if !member.seen {
            member.seen = true;
            self.has_learnt = true;
        }
    }

    /// What the type takes the name of a member for; the member's node. A name that means the same as the
    /// one before it is an alias.
    pub(super) fn meaning(
        &mut self,
        node: NodeId,
        index: usize,
        meaning: Option<u64>,
    ) -> Result<NodeId, Fault> {
        self.member(node, index).meaning = meaning;
        if meaning.is_some() && index > 0 && self.member(node, index - 1).meaning == meaning {
            if let Form::Struct { fields: members, .. } | Form::Enum { variants: members, .. } =
                &mut self.nodes[node].form
            {
                let alias = members.remove(index);
                members[index - 1].names.extend(alias.names);
            }
            return Err(self.restart());
        }
        Ok(self.member(node, index).node)
    }

    fn member(&mut self, node: NodeId, index: usize) -> &mut Member {
        match &mut self.nodes[node].form {
            Form::Struct { fields: members, .. } | Form::Enum { variants: members, .. } => {
                &mut members[index]
            }
            _ => {
                unreachable!("only structs and enums have members, and their form does not change")
            }
        }
    }

    fn members(
        &mut self,
        node: NodeId,
        names: &'static [&'static str],
    ) -> Result<Vec<Member>, Fault> {
        let member = |name: &&'static str| {
            Ok(Member {
                names: vec![*name],
                node: self.grow(node)?,
                meaning: None,
                seen: false,
                optional: None,
            })
        };
        names.iter().map(member).collect()
    }

    /// New nodes under one whose form is not known yet; else the node itself, which will not be used.
    fn children<const N: usize>(&mut self, node: NodeId) -> Result<[NodeId; N], Fault> {
        let mut children = [node; N];
        if matches!(self.nodes[node].form, Form::Unknown) {
            for child in &mut children {
                *child = self.grow(node)?;
            }
        }
        Ok(children)
    }

    fn child(&mut self, node: NodeId, index: usize) -> Result<NodeId, Fault> {
        match (&self.nodes[node].form, index) {
            (Form::Option(child) | Form::List(child) | Form::Map(child, _), 0)
            | (Form::Map(_, child), 1) => Ok(*child),
            _ => Err(self.refuse(node, DIFFERS)),
        }
    }

    fn grow(&mut self, parent: NodeId) -> Result<NodeId, Fault> {
        if self.nodes.len() >= MAX_NODES {
            return Err(self.refuse(0, "is too large"));
        }
        let level = self.nodes[parent].level + 1;
        if level > MAX_LEVELS {
            return Err(self.refuse(parent, "is nested too deep"));
        }
        self.nodes.push(Node::new(Some(parent), level));
        Ok(self.nodes.len() - 1)
    }

    /// Fixes the form of a node; it must be the same in every run.
    fn set(&mut self, node: NodeId, form: Form) -> Result<(), Fault> {
        let is_same = match (&self.nodes[node].form, &form) {
            (Form::Unknown, _) => {
                self.nodes[node].form = form;
                self.has_learnt = true;
                return Ok(());
            }
            (Form::Leaf(known), Form::Leaf(shape)) => known == shape,
            (Form::Recursive { target: known, .. }, Form::Recursive { target, .. }) => {
                known == target
            }
            (known, form) => std::mem::discriminant(known) == std::mem::discriminant(form),
        };
        if is_same { Ok(()) } else { Err(self.refuse(node, DIFFERS)) }
    }

    /// Takes the next combination of the last sample values that were given; whether there is one.
    fn vary(&mut self, touched: &[NodeId]) -> bool {
        touched.iter().rev().take(MAX_VARIED).any(|node| self.advance(*node))
    }

    /// Takes a node's next choice, or the first one again, and then false.
    fn advance(&mut self, node: NodeId) -> bool {
        let node = &mut self.nodes[node];
        node.choice += 1;
        let has_more = node.choice < node.n_choices;
        if !has_more {
            node.choice = 0;
        }
        has_more
    }
}

const DIFFERS: &str = "is read in a way that depends on other values";
