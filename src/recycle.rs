//! Object pools: things that cost something to make are used again, reset, bounded and counted.
