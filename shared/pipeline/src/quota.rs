//! The platform's limits, for all code that must respect them: a function, a caller, or a local stand-in for Lambda.

/// Lambda's limit on a synchronous request and on its answer, in bytes (AWS Lambda quotas).
pub const MAX_PAYLOAD_BYTES: usize = 6 * 1024 * 1024;
