//! Every workspace-wide test, in one binary: each further one would link the whole engine once more.

mod cluster;
mod compile_fail;
mod crash;
mod decoders;
mod engine;
mod explain;
mod power_cut;
mod queries;
mod refusals;
mod tidy;
mod world;
