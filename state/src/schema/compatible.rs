//! Whether what was written in one shape can be read as another, told before anything is read.
//!
//! The rules are those of [`decode_as`](super::decode_as), which follows the same two shapes value by value:
//! by name where there are names, by position where there are none, and never with a loss. Names of types
//! are no part of it: a type may be renamed.

use super::shape::{Field, Place, Shape, Variant, same_name};
use std::collections::HashSet;

/// What became of a type since it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compatibility {
    /// Its bytes are read as they are, with the codec alone.
    Same,
    /// Its bytes are read by name, with [`decode_as`](super::decode_as).
    Migrates,
    /// They cannot be read, for this reason.
    Refused(String),
}

/// Whether values `written` in one shape can be read in the `current` one.
pub fn compatible(written: &Shape, current: &Shape) -> Compatibility {
    let mut comparison = Comparison { met: HashSet::new(), path: Vec::new(), is_same: true };
    let (from, to) = match (Place::root(written), Place::root(current)) {
        (Ok(from), Ok(to)) => (from, to),
        (Err(e), _) | (_, Err(e)) => return Compatibility::Refused(e.to_string()),
    };
    match comparison.compare(from, to) {
        Err(reason) => Compatibility::Refused(reason),
        Ok(()) if comparison.is_same => Compatibility::Same,
        Ok(()) if written.has_opaque() => Compatibility::Refused(
            "a part of it is opaque: such bytes can be read as long as nothing around them changes"
                .into(),
        ),
        Ok(()) => Compatibility::Migrates,
    }
}

struct Comparison {
    /// Pairs that are being compared already, or were: those in recursive types would never end.
    met: HashSet<(*const Shape, *const Shape)>,
    path: Vec<String>,
    is_same: bool,
}

type Verdict = Result<(), String>;

impl Comparison {
    fn compare(&mut self, from: Place<'_>, to: Place<'_>) -> Verdict {
        if let (false, Shape::Option(item)) = (matches!(from.shape, Shape::Option(_)), to.shape) {
            // Not among the pairs met: options without end, which only nest in each other, must not pass.
            self.is_same = false;
            let to = to.enter(item).map_err(|e| e.to_string())?;
            return self.compare(from, to);
        }
        if !self.met.insert((from.shape, to.shape)) {
            return Ok(());
        }
        match (from.shape, to.shape) {
            (Shape::Int { bits: b, signed: s }, Shape::Int { bits: new_b, signed: new_s })
                if (b, s) != (new_b, new_s) =>
            {
                let fits = if s == new_s { b < new_b } else { !s && b < new_b };
                self.convert(fits, from.shape, to.shape)
            }
            (Shape::Float { bits }, Shape::Float { bits: new_bits }) if bits != new_bits => {
                self.convert(bits < new_bits, from.shape, to.shape)
            }
            (Shape::Option(a), Shape::Option(b)) => self.inside("", (from, a), (to, b)),
            (Shape::List(a), Shape::List(b)) => self.inside("[]", (from, a), (to, b)),
            (Shape::Map(a, x), Shape::Map(b, y)) => {
                self.inside("[key]", (from, a), (to, b))?;
                self.inside("[value]", (from, x), (to, y))
            }
            (Shape::Tuple(a), Shape::Tuple(b)) => {
                if a.len() != b.len() {
                    return self.refuse(format!(
                        "{} values without names were written, {} are wanted",
                        a.len(),
                        b.len()
                    ));
                }
                for (i, (a, b)) in a.iter().zip(b).enumerate() {
                    self.inside(&format!(".{i}"), (from, a), (to, b))?;
                }
                Ok(())
            }
            (Shape::Struct { fields: a, .. }, Shape::Struct { fields: b, .. }) => {
                self.compare_fields((from, a), (to, b))
            }
            (Shape::Enum { variants: a, .. }, Shape::Enum { variants: b, .. }) => {
                self.compare_variants((from, a), (to, b))
            }
            (a, b) if a == b => Ok(()),
            (a, b) => self.convert(false, a, b),
        }
    }

    fn compare_fields(
        &mut self,
        (from, written): (Place<'_>, &[Field]),
        (to, current): (Place<'_>, &[Field]),
    ) -> Verdict {
        for (i, new) in current.iter().enumerate() {
            let is_new =
                |old: &Field| same_name((&old.name, &old.aliases), (&new.name, &new.aliases));
            match written.iter().position(is_new) {
                Some(was) => {
                    self.is_same &= was == i;
                    self.inside(
                        &format!(".{}", new.name),
                        (from, &written[was].shape),
                        (to, &new.shape),
                    )?;
                }
                None if new.optional => self.is_same = false,
                None => {
                    return self.refuse(format!(
                        "field `{}` is new, and nothing stands in for it; give it `#[serde(default)]`, make \
                         it an `Option`",
                        new.name
                    ));
                }
            }
        }
        self.is_same &= written.len() == current.len();
        Ok(())
    }

    fn compare_variants(
        &mut self,
        (from, written): (Place<'_>, &[Variant]),
        (to, current): (Place<'_>, &[Variant]),
    ) -> Verdict {
        let mut n_found = 0;
        for (i, old) in written.iter().enumerate() {
            let is_old =
                |new: &Variant| same_name((&old.name, &old.aliases), (&new.name, &new.aliases));
            match current.iter().position(is_old) {
                Some(is) => {
                    n_found += 1;
                    self.is_same &= is == i;
                    self.inside(
                        &format!(".{}", old.name),
                        (from, &old.shape),
                        (to, &current[is].shape),
                    )?;
                }
                // An error only if a value of it is met, or what `#[serde(other)]` is for.
                None => self.is_same = false,
            }
        }
        if n_found == 0 && !written.is_empty() {
            return self.refuse("none of the variants that were written are there".into());
        }
        Ok(())
    }

    fn inside(
        &mut self,
        step: &str,
        (from, a): (Place<'_>, &Shape),
        (to, b): (Place<'_>, &Shape),
    ) -> Verdict {
        let from = from.enter(a).map_err(|e| e.to_string())?;
        let to = to.enter(b).map_err(|e| e.to_string())?;
        self.path.push(step.into());
        self.compare(from, to)?;
        self.path.pop();
        Ok(())
    }

    fn convert(&mut self, fits: bool, from: &Shape, to: &Shape) -> Verdict {
        self.is_same = false;
        if fits { Ok(()) } else { self.refuse(format!("`{from}` was written, `{to}` is wanted")) }
    }

    fn refuse(&self, reason: String) -> Verdict {
        let path = self.path.concat();
        Err(if path.is_empty() { reason } else { format!("at `{path}`, {reason}") })
    }
}
