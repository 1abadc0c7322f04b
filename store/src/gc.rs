//! Collection of garbage: what no kept version needs leaves the disk.

/// Local keys that hold versions: `keep/VERSION` and `pin/VERSION`.
pub const ROOT_PREFIXES: [&str; 2] = ["keep/", "pin/"];
