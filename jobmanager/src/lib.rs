//! millstream-jobmanager
