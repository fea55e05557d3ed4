//! The scaler against tables, and against a simulated pool in virtual time.
