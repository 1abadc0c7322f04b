//! HTTP dialects over a node.
