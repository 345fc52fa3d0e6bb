//! A pure machine: input in, effects out.
//!
//! Everything that decides (scheduling, watermarks, later checkpoints and elections) is a `Machine`: it
//! reads no clock, draws no random number, spawns and awaits nothing. So it can be stepped by a shell, a
//! test or a simulator alike, and its whole history is a text.

/// Decides. See the module's text.
pub trait Machine {
    /// What can happen to it.
    type Input;
    /// What it asks its shell to do.
    type Effect;

    /// Takes one input at time `now_ms` (milliseconds on a clock that only its shell knows) and appends
    /// what is to be done, in the order in which it is to be done.
    fn step(&mut self, now_ms: u64, input: Self::Input, effects: &mut Vec<Self::Effect>);
}
