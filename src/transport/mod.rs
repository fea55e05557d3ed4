//! Connections to providers: one blocking request and its answer, every stage bounded in time and cancellable.
