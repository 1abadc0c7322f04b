//! Pages of lists: which rows a request asks for, and where the next ones are.

use hyper::header::HeaderValue;

use crate::{answer::Problem, file::ascii, route::Request, target::Target};

/// The rows that a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Page {
    start: usize,
    rows: usize,
}

impl Page {
    /// Reads `cursor` (a number that an answer named) and `limit`, which never is more than `rows_max`.
    ///
    /// # Errors
    /// One of them is no number.
    pub(super) fn asked(target: &Target, rows_max: usize) -> Result<Self, Problem> {
        let number = |key: &str, absent: usize| match target.query(key) {
            None | Some("") => Ok(absent),
            Some(text) => text
                .parse::<usize>()
                .map_err(|_| Problem::usage(format!("{key} is a number, not {text:?}"))),
        };
        Ok(Self {
            start: number("cursor", 0)?,
            rows: number("limit", rows_max)?.clamp(1, rows_max),
        })
    }

    /// The rows of this page, of so many.
    pub(super) fn of(self, count: usize) -> (usize, usize) {
        let start = self.start.min(count);
        (start, start.saturating_add(self.rows).min(count))
    }

    /// The value of `Link` that leads to the rows from `start` on: the same query at `path`. Clients follow
    /// nothing but a whole address.
    pub(super) fn next(self, request: &Request, path: &str, start: usize) -> HeaderValue {
        let base = request.base();
        let query = request.target.query_with("cursor", &start.to_string());
        ascii(format!("<{base}{path}{query}>; rel=\"next\""))
    }
}
