//! The data plane: API routes on the HTTP server.
