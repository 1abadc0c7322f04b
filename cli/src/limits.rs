//! The bounds of what the command line reads from outside.

/// Longest line of an answer, bytes: a listing of 200,000 files is about a third of it.
pub(crate) const ANSWER_LINE_BYTES_MAX: usize = 192 << 20;

/// Longest body of an answer that is not an answer (an HTTP error), bytes; the rest is not shown.
pub(crate) const REFUSAL_BYTES_MAX: usize = 4 << 10;

/// Bytes of the JSON of a query's vector: what fits into a command.
pub(crate) const QUERY_BYTES_MAX: u64 = 960 << 10;
