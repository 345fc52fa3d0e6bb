//! The command as scripts see it: its output, its exit codes, against a job manager that says what the test wants.

mod cluster;
mod local;
mod programs;
mod security;
mod snapshots;
mod world;
