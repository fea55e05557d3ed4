//! The snapshot of everything, taken once a second.
