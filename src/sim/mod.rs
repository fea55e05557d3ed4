//! The simulated provider: a real HTTP server on loopback whose model names choose its behaviour.
