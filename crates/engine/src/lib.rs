//! Requests, scheduler, paged KV pool, sampler. Token ids in, token ids out.
