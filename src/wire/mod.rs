//! The shapes that providers speak, as pure functions between bytes and the neutral model.
