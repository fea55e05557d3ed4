//! Admission by permits, and the lanes that jobs wait in.
