//! One provider: its pool of workers, its queue, and a single attempt at its upstream.
