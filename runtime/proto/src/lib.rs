//! What the processes of a cluster say to each other.
//!
//! Everything that crosses a process boundary, but for the records themselves and the pieces of programs, is one of the enums in
//! [`message`]. So a message can stand in a simulated network, a log or a golden file, and machines take and
//! give them without knowing how they travel. The wire knows one form only, the [`envelope`]: a version, the
//! leader's epoch, and the message's bytes; what is read from it is checked against a limit first.

pub mod envelope;
pub mod executable;
pub mod message;
pub mod security;
#[cfg(feature = "wire")]
pub mod wire;
