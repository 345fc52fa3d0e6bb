//! What a task tells all operators of its chain, and asks them.

use crate::chain::{ChainVisitor, Notice, Site, Stateful};
use millstream_model::{Barrier, Result};

/// Lets a barrier overtake that waits behind an operator.
pub(super) struct Turn(pub(super) Barrier);

impl ChainVisitor for Turn {
    fn operator(&mut self, _: &Site, operator: &mut dyn Stateful) -> Result<()> {
        operator.turn(self.0);
        Ok(())
    }
}

/// Whether all operators have ended.
pub(super) struct HasEnded(pub(super) bool);

impl ChainVisitor for HasEnded {
    fn operator(&mut self, _: &Site, operator: &mut dyn Stateful) -> Result<()> {
        self.0 &= operator.has_ended();
        Ok(())
    }
}

/// Passes a notice to every operator.
pub(super) struct Tell(pub(super) Notice);

impl ChainVisitor for Tell {
    fn operator(&mut self, site: &Site, operator: &mut dyn Stateful) -> Result<()> {
        site.enter();
        site.locate(operator.notify(self.0))
    }
}
