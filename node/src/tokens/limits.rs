//! Bounds on tokens.

/// Most tokens of a home.
pub const TOKENS_MAX: usize = 1024;

/// Longest name of a token, in bytes.
pub const TOKEN_NAME_BYTES_MAX: usize = 64;

/// Most globs of models in one token.
pub const TOKEN_MODELS_MAX: usize = 32;
