//! The benchmark workloads, the hand-written loops beside them, and the harness that runs both.
//!
//! Figures on a shared machine drift, so a claim is always a ratio from one run on one machine:
//! [`harness`] runs each row (but w6, which has no loop) by turns as a loop of [`loops`] and as a job of [`jobs`], and
//! [`flink`] does the same against Apache Flink. Both sides read the same events ([`prng`],
//! [`nexmark`], [`text`]) and end in the same sink, whose checksum must be right for a figure to
//! count. [`cluster`] runs rows over task managers, beside the same in one process. What the rows are, and how often they are asked for, is in [`rows`].

pub mod checkpoints;
pub mod cluster;
pub mod engine;
pub mod flink;
pub mod harness;
pub mod jobs;
pub mod loops;
pub mod measure;
pub mod nexmark;
pub mod pace;
pub mod prng;
pub mod report;
pub mod rows;
pub mod text;
pub mod workload;
