//! The dialects of one port: which one an address belongs to, and how each says that something failed.
//!
//! A failure may arise before a handler is reached, so its shape follows from the path alone. Each shape is
//! what that dialect's clients read: the Hub's an error code in a header, OCI's a list of codes, Qdrant's a
//! status.

use hyper::{
    StatusCode,
    header::{HeaderName, HeaderValue},
};
use lode_node::command::{Failure, FailureKind};
use serde_json::json;

use crate::{
    answer::{self, ErrorBody, Response},
    limits::ERROR_HEADER_BYTES_MAX,
};

/// What an address speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Lode's own: `/lode/v1`, and what every port answers.
    Native,
    /// The Hugging Face Hub's: `/api`, and all that starts with a publisher.
    Hub,
    /// OCI distribution: `/v2`.
    Registry,
    /// Qdrant's REST interface: `/collections` and its neighbours.
    Qdrant,
    /// The content-addressed storage of Xet: `/xet`.
    Xet,
}

/// The Hub's code of a failure, which its clients turn into exceptions.
pub(crate) const X_ERROR_CODE: HeaderName = HeaderName::from_static("x-error-code");
/// The commit that an answer is about.
pub(crate) const X_REPO_COMMIT: HeaderName = HeaderName::from_static("x-repo-commit");
/// The message again, since an answer to `HEAD` has no body.
pub(crate) const X_ERROR_MESSAGE: HeaderName = HeaderName::from_static("x-error-message");

/// The Hub's codes of what is not there.
pub(crate) const REPO_NOT_FOUND: &str = "RepoNotFound";
pub(crate) const REVISION_NOT_FOUND: &str = "RevisionNotFound";
pub(crate) const ENTRY_NOT_FOUND: &str = "EntryNotFound";

impl Dialect {
    /// The dialect of a path, encoded or not: its first segment decides.
    pub fn of(path: &str) -> Self {
        let path = path.strip_prefix('/').unwrap_or(path);
        let (first, more) = match path.split_once('/') {
            Some((first, _)) => (first, true),
            None => (path, false),
        };
        match first {
            "v2" => Self::Registry,
            "xet" => Self::Xet,
            "collections" | "aliases" | "snapshots" | "cluster" | "telemetry" | "issues" => {
                Self::Qdrant
            }
            "api" | "datasets" | "spaces" | "kernels" => Self::Hub,
            "lode" | "v1" | "metrics" | "healthz" | "readyz" | "livez" | "ui" | "docs" => {
                Self::Native
            }
            // A publisher; nothing else has a second segment.
            _ if more => Self::Hub,
            _ => Self::Native,
        }
    }

    /// A failure as this dialect's clients read it. `code` is the dialect's own word for it; without one,
    /// the usual word for the status stands.
    pub(crate) fn failure(
        self,
        status: StatusCode,
        failure: Failure,
        code: Option<&'static str>,
    ) -> Response {
        match self {
            Self::Native => answer::json(status, &ErrorBody { error: failure }),
            Self::Hub | Self::Xet => {
                let mut response = answer::json(status, &json!({ "error": failure.message }));
                let absent = failure.kind == FailureKind::NotFound && self == Self::Hub;
                let headers = response.headers_mut();
                if let Some(code) = code.or(absent.then_some(REPO_NOT_FOUND)) {
                    headers.insert(X_ERROR_CODE, HeaderValue::from_static(code));
                }
                headers.insert(X_ERROR_MESSAGE, header_text(&failure.message));
                response
            }
            Self::Registry => {
                let code = match (status, code) {
                    (StatusCode::UNAUTHORIZED, _) => "UNAUTHORIZED",
                    (_, Some(REPO_NOT_FOUND)) => "NAME_UNKNOWN",
                    (_, Some(REVISION_NOT_FOUND)) => "MANIFEST_UNKNOWN",
                    (_, Some(ENTRY_NOT_FOUND)) => "BLOB_UNKNOWN",
                    (_, Some(code)) => code,
                    (StatusCode::FORBIDDEN, _) => "DENIED",
                    (StatusCode::NOT_FOUND, _) => "NAME_UNKNOWN",
                    (StatusCode::TOO_MANY_REQUESTS, _) => "TOOMANYREQUESTS",
                    (StatusCode::METHOD_NOT_ALLOWED, _) => "UNSUPPORTED",
                    (StatusCode::RANGE_NOT_SATISFIABLE, _) => "RANGE_INVALID",
                    (status, _) if status.is_server_error() => "UNAVAILABLE",
                    _ => "NAME_INVALID",
                };
                let (message, detail) = (failure.message, failure.advice);
                let error = json!({ "code": code, "message": message, "detail": detail });
                answer::json(status, &json!({ "errors": [error] }))
            }
            Self::Qdrant => {
                let status_shown = json!({ "error": failure.message });
                let shown = json!({ "result": null, "status": status_shown, "time": 0.0 });
                answer::json(status, &shown)
            }
        }
    }
}

/// A message as a header's value: one line of visible ASCII, cut where it is long.
fn header_text(message: &str) -> HeaderValue {
    let shown = |c: char| if matches!(c, ' '..='~') { c } else { '?' };
    let text: String = message
        .chars()
        .take(ERROR_HEADER_BYTES_MAX)
        .map(shown)
        .collect();
    HeaderValue::try_from(text).expect("made of visible ASCII characters and spaces")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::answer::Problem;
    use http_body_util::BodyExt;
    use hyper::HeaderMap;
    use lode_store::name::RESERVED_ALIASES;

    async fn shown(path: &str, problem: Problem) -> (u16, HeaderMap, serde_json::Value) {
        let (head, body) = problem.into_response(Dialect::of(path)).into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let value = serde_json::from_slice(&bytes).unwrap();
        (head.status.as_u16(), head.headers, value)
    }

    #[tokio::test]
    async fn each_dialect_says_in_its_own_words_that_something_is_not_there() {
        let absent = || Problem::not_found("there is no modèle");
        let (status, _, body) = shown("/lode/v1/models/a/b", absent()).await;
        assert_eq!((status, &body["error"]["kind"]), (404, &json!("not_found")));
        for path in ["/api/models/a/b", "/a/b/resolve/main/c", "/datasets/a/b"] {
            let (status, headers, body) = shown(path, absent()).await;
            assert_eq!(
                (status, &body["error"]),
                (404, &json!("there is no modèle"))
            );
            assert_eq!(headers[X_ERROR_CODE], REPO_NOT_FOUND);
            assert_eq!(headers[X_ERROR_MESSAGE], "there is no mod?le");
        }
        let coded = absent().code(ENTRY_NOT_FOUND);
        let (_, headers, _) = shown("/a/b/resolve/main/c", coded).await;
        assert_eq!(headers[X_ERROR_CODE], ENTRY_NOT_FOUND);
        let (_, _, body) = shown("/v2/a/b/manifests/c", absent().code("MANIFEST_UNKNOWN")).await;
        assert_eq!(body["errors"][0]["code"], "MANIFEST_UNKNOWN");
        let (_, _, body) = shown("/v2/a/b/tags/list", absent()).await;
        assert_eq!(body["errors"][0]["code"], "NAME_UNKNOWN");
        let (_, _, body) = shown("/collections/a", absent()).await;
        assert_eq!(body["status"]["error"], "there is no modèle");
        assert_eq!(body["time"], 0.0);
        let (_, headers, body) = shown("/xet/1/v1/chunks", absent()).await;
        assert_eq!(body["error"], "there is no modèle");
        assert!(!headers.contains_key(X_ERROR_CODE));
    }

    #[tokio::test]
    async fn a_message_of_any_length_is_cut_to_a_header() {
        for length in [ERROR_HEADER_BYTES_MAX, ERROR_HEADER_BYTES_MAX + 1] {
            let message = "a".repeat(length);
            let (_, headers, body) = shown("/api/x", Problem::usage(message.clone())).await;
            assert_eq!(body["error"], message);
            assert_eq!(headers[X_ERROR_MESSAGE].len(), ERROR_HEADER_BYTES_MAX);
        }
        assert_eq!(header_text("a\r\nb\u{7f}"), "a??b?");
    }

    #[test]
    fn no_reserved_name_is_taken_for_a_publisher() {
        for name in RESERVED_ALIASES {
            let hub = matches!(name, "api" | "datasets" | "spaces" | "kernels");
            let dialect = Dialect::of(&format!("/{name}/tiny/resolve/main/a"));
            assert_eq!(dialect == Dialect::Hub, hub, "{name}");
        }
        assert_eq!(Dialect::of("/favicon.ico"), Dialect::Native);
        assert_eq!(Dialect::of("/"), Dialect::Native);
    }
}
