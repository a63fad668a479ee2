//! Plain loops in f32, never optimised: the specification and the oracle.
