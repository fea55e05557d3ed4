//! The ledger: whatever the provider does and whenever callers leave, each request is answered once and every sum balances.
