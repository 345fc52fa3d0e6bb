//! A job, from its submission to its end: what carries out what its machines decide.

pub mod link;
