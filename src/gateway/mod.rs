//! The gateway itself: routes a request, runs its attempts, and ends in an orderly way.
