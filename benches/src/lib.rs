//! millstream-benches
