//! The dialect of the Hugging Face Hub, so that its clients read from a node unmodified (docs/hub.md).
//!
//! Requests, headers and shapes are those that `huggingface_hub`, `hf-hub` and llama.cpp were seen to send and
//! to need. A model is a repository; what is made of one is, too.

pub(crate) mod class;
pub(crate) mod commit;
pub(crate) mod files;
mod info;
mod page;
mod refs;
pub(crate) mod repo;
mod resolve;
mod tree;
mod whoami;
mod write;
mod xet;

use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};

use crate::{
    answer::Response,
    body::Body,
    reader::Read,
    route::{Route, Unscoped},
};

/// All routes of the Hub's dialect.
pub(crate) fn routes() -> Vec<Route> {
    const MODELS: &str = "/api/models";
    const MODEL: &str = "/api/models/{publisher}/{model}";
    const REVISION: &str = "/api/models/{publisher}/{model}/revision/{rev}";
    const TREE: &str = "/api/models/{publisher}/{model}/tree/{rev}";
    const FOLDER: &str = "/api/models/{publisher}/{model}/tree/{rev}/{path..}";
    const PATHS: &str = "/api/models/{publisher}/{model}/paths-info/{rev}";
    const REFS: &str = "/api/models/{publisher}/{model}/refs";
    const COMMITS: &str = "/api/models/{publisher}/{model}/commits/{rev}";
    const COMPARE: &str = "/api/models/{publisher}/{model}/compare/{revs}";
    const XET_TOKEN: &str = "/api/models/{publisher}/{model}/xet-read-token/{rev}";
    const RESOLVE: &str = "/{publisher}/{model}/resolve/{rev}/{path..}";
    let read = Unscoped::scope::<Read>;
    let mut routes = vec![
        read(Route::get(
            "/api/whoami-v2",
            "Says whose token a request carries",
        ))
        .to(whoami::whoami),
        read(Route::get(MODELS, "Lists models")).to(info::list),
        read(Route::get(MODEL, "Describes a repository")).to(info::model),
        read(Route::get(REVISION, "Describes a revision of a repository")).to(info::revision),
        read(Route::get(TREE, "Lists files and folders")).to(tree::root),
        read(Route::get(FOLDER, "Lists what is in a folder")).to(tree::folder),
        read(Route::post(PATHS, "Describes some files and folders")).to(tree::paths),
        read(Route::get(REFS, "Lists branches and tags")).to(refs::list),
        read(Route::get(COMMITS, "Lists commits")).to(refs::commits),
        read(Route::get(
            COMPARE,
            "Says which files two revisions differ in",
        ))
        .to(refs::compare),
        read(Route::get(XET_TOKEN, "Says where files are read by Xet")).to(xet::read_token),
        read(Route::get(RESOLVE, "Sends a file, or ranges of it")).to(resolve::content),
    ];
    routes.extend(write::routes());
    routes
}

/// A JSON text of any length that is made while it is sent: `head`, `rows` with commas between them, `tail`.
fn json_rows(
    head: String,
    rows: impl Iterator<Item = String> + Send + Unpin + 'static,
    tail: &'static str,
) -> Response {
    let mut response = hyper::Response::new(Body::of_rows(head, rows, tail));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// A time in seconds since 1970 as the Hub writes it: `2026-11-22T23:47:04.000Z`.
pub(crate) fn date(seconds: u64) -> String {
    // Years of four digits, as clients parse them.
    const LAST: u64 = 253_402_300_799;
    let seconds = seconds.min(LAST);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Days from 1 March of year 0, in eras of 400 years (Hinnant, "chrono-Compatible Low-Level Date Algorithms").
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.000Z")
}

#[cfg(test)]
mod tests {
    use super::date;

    #[test]
    fn dates_are_those_of_the_calendar() {
        // `date -u -d @SECONDS +%FT%T`
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399, "2000-02-28T23:59:59.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (1_795_391_224, "2026-11-22T23:47:04.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
            (u64::MAX, "9999-12-31T23:59:59.000Z"),
        ] {
            assert_eq!(date(seconds), text);
        }
    }
}
