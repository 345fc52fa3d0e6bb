//! millstream-taskmanager
