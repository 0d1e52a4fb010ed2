//! What the platform allows, wherever its limits are kept: by a function, a caller, or a stand-in for Lambda.

/// Lambda's limit on a synchronous request and on its answer, in bytes (AWS Lambda quotas).
pub const MAX_PAYLOAD_BYTES: usize = 6 * 1024 * 1024;
