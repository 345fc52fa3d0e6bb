//! millstream-connectors
