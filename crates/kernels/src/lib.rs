//! Numbers: block formats, matrix products, attention, norms, rope, thread pool.
