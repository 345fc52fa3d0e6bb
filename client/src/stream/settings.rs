//! Settings of the last operator of a stream.
//!
//! A setting speaks of one operator. A union has none and a side output shares its operator with the main
//! stream, so there a setting is a mistake of the program, reported by `execute` with the line it is on.

use crate::environment::Environment;
use crate::graph::{Chaining, Node, NodeId, Tag};
use std::panic::Location;

/// The operator that is being set.
#[doc(hidden)]
pub struct Operator<'a>(pub(crate) &'a mut Node);

/// `.uid/.name/.parallelism/…`: each speaks of the operator that made the stream (or of the sink that ends
/// it), and gives the stream back.
///
/// ```
/// use millstream::prelude::*;
///
/// # fn main() -> Result<()> {
/// let env = Environment::builder().parallelism(2).build()?;
/// env.from_collection(vec!["to", "be"].into_iter().map(Text::from).collect())
///     .key_by_ref(|word| word.as_str())
///     .count().name("count words").uid("counts").parallelism(4).max_parallelism(64)
///     .discard().name("nowhere").slot_sharing_group("sinks");
/// let plan = env.explain("words", ExplainFormat::Text)?;
/// assert!(plan.contains("count words (count), uid `counts`"));
/// # Ok(())
/// # }
/// ```
pub trait OperatorSettings: Sized {
    #[doc(hidden)]
    #[track_caller]
    fn configure(self, setting: &'static str, set: impl Fn(Operator<'_>)) -> Self;

    /// The operator's display name, in plans, metrics and errors.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// let parsed = env.from_collection(vec!["x".to_string()])
    ///     .try_map(|s| s.parse::<u32>().map_err(|e| Error::user(e.to_string())))
    ///     .name("parse numbers");
    /// let error = parsed.execute_and_collect("parse").unwrap_err();
    /// assert_eq!(error.place().unwrap().operator, "parse numbers");
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    fn name(self, name: impl Into<String>) -> Self {
        let name = name.into();
        self.configure("name", |n| n.0.name.clone_from(&name))
    }

    /// The operator's stable identity: its state is found by it after the program was edited. Unique in a
    /// job.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::builder().set("strict-uids", "true").build()?;
    /// let sums = env.from_collection(vec![1, 2]).key_by(|_| ()).sum(|n| *n).uid("sums");
    /// assert_eq!(sums.execute_and_collect("sums")?.last(), Some(&((), 3)));
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    fn uid(self, uid: impl Into<String>) -> Self {
        let uid = uid.into();
        self.configure("uid", |n| n.0.uid = Some(uid.clone()))
    }

    /// Number of subtasks of this operator; otherwise the option `parallelism`.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// env.generate(9, |i| i).parallelism(3).discard().parallelism(3);
    /// assert!(env.explain("nine", ExplainFormat::Text)?.contains("1 vertices, 3 tasks"));
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    fn parallelism(self, parallelism: usize) -> Self {
        self.configure("parallelism", |n| n.0.parallelism = Some(parallelism))
    }

    /// Number of key groups of this operator: the most subtasks it can ever have. To be chosen before the
    /// job has state that matters; otherwise the option `max-parallelism`.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// let env = Environment::local();
    /// env.generate(9, |i| i).discard().max_parallelism(2).parallelism(3);
    /// let error = env.execute("nine").unwrap_err().to_string();
    /// assert!(error.contains("has parallelism 3 above its max parallelism 2"));
    /// ```
    #[track_caller]
    fn max_parallelism(self, max_parallelism: u32) -> Self {
        self.configure("max_parallelism", |n| n.0.max_parallelism = Some(max_parallelism))
    }

    /// Does not fuse this operator with the one before it: they run in tasks of their own, with a queue in
    /// between.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// env.generate(9, |i| i).map(|i| i + 1).start_new_chain().discard();
    /// let plan = env.explain("nine", ExplainFormat::Text)?;
    /// assert!(plan.contains("map, not fused: it starts a new chain"));
    /// assert!(plan.contains("discard (sink), fused"));
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    fn start_new_chain(self) -> Self {
        self.configure("start_new_chain", |n| n.0.chaining = Chaining::StartNew)
    }

    /// Does not fuse this operator with any other.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// env.generate(9, |i| i).map(|i| i + 1).disable_chaining().discard();
    /// let plan = env.explain("nine", ExplainFormat::Text)?;
    /// assert!(plan.contains("discard (sink), not fused: `map` disables chaining"));
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    fn disable_chaining(self) -> Self {
        self.configure("disable_chaining", |n| n.0.chaining = Chaining::Never)
    }

    /// Operators of different groups do not share a slot, and are not fused. Operators behind this one are
    /// in its group unless they name another.
    ///
    /// ```
    /// # use millstream::prelude::*;
    /// # fn main() -> Result<()> {
    /// let env = Environment::local();
    /// env.generate(9, |i| i).map(|i| i + 1).slot_sharing_group("heavy").discard();
    /// let plan = env.explain("nine", ExplainFormat::Text)?;
    /// assert!(plan.contains("map, not fused: it is in slot-sharing group `heavy`"));
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    fn slot_sharing_group(self, group: impl Into<String>) -> Self {
        let group = group.into();
        self.configure("slot_sharing_group", |n| n.0.slot_sharing_group = Some(group.clone()))
    }
}

/// Changes the one operator that `origins` names.
#[track_caller]
pub(crate) fn configure(
    env: &Environment,
    origins: &[(NodeId, Tag)],
    setting: &str,
    set: impl Fn(Operator<'_>),
) {
    let mut graph = env.graph_mut();
    let what = match *origins {
        [(node, None)] => {
            set(Operator(&mut graph.nodes[node]));
            return graph.settle_enumerator(node);
        }
        [(node, Some(tag))] => format!(
            "the side output `{tag}`, which shares {} with the main stream: call it there",
            graph.nodes[node].describe()
        ),
        _ => "a union, which is no operator: call it on the streams before, or after the next operator"
            .to_string(),
    };
    let place = Location::caller();
    graph.mistakes.push(format!(
        "`.{setting}(…)` ({}:{}) was called on {what}",
        place.file(),
        place.line()
    ));
}
