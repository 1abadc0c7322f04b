//! What handlers answer: a response, or a failure from which status and body follow in one place.

use bytes::Bytes;
use hyper::{
    StatusCode,
    header::{
        ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION,
        RETRY_AFTER, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
    },
};
use lode_node::command::{Failure, FailureKind};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{body::Body, dialect::Dialect, limits::RETRY_AFTER_SECONDS};

/// A response of the gateway.
pub type Response = hyper::Response<Body>;

/// What a handler returns.
pub type Answer = Result<Response, Problem>;

/// The body of a failure in the native dialect.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ErrorBody {
    pub(crate) error: Failure,
}

/// A failure on its way to a client.
///
/// Its shape is its dialect's; the native one is `{"error":{"kind","message","advice"}}`, with the kinds of
/// [`FailureKind`].
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    failure: Failure,
    /// What the dialect calls it, where the status alone does not say.
    code: Option<&'static str>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    /// A failure with a status other than its kind's own.
    pub fn new(status: StatusCode, kind: FailureKind, message: impl Into<String>) -> Self {
        Self {
            status,
            failure: Failure {
                kind,
                message: message.into(),
                advice: None,
            },
            code: None,
            headers: Vec::new(),
        }
    }

    /// 400: the request makes no sense.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, FailureKind::Usage, message)
    }

    /// 404: it does not exist, or may not be seen.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, FailureKind::NotFound, message)
    }

    /// 403: policy forbids it.
    pub fn refused(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, FailureKind::Refused, message)
    }

    /// 401: a token, or another one, would help.
    pub fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, FailureKind::Refused, message)
            .advise("send a token of this node: `Authorization: Bearer hf_..`")
    }

    /// 408: the client stopped sending the body.
    pub fn slow_body() -> Self {
        let status = StatusCode::REQUEST_TIMEOUT;
        Self::new(status, FailureKind::Usage, "the body does not arrive")
    }

    /// 503: the node is stopping.
    pub fn stopping() -> Self {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self::new(status, FailureKind::Failed, "the node is stopping")
    }

    /// 307: the same request is answered at another path, given as it stands in an address.
    pub fn moved(location: &str) -> Self {
        let status = StatusCode::TEMPORARY_REDIRECT;
        let message = format!("this is at {location}");
        let location = HeaderValue::from_str(location).expect("an encoded path is ASCII");
        Self::new(status, FailureKind::Usage, message).with(LOCATION, location)
    }

    /// 405, with what is allowed.
    pub fn method(allowed: &str) -> Self {
        let status = StatusCode::METHOD_NOT_ALLOWED;
        let message = format!("this path answers {allowed} alone");
        let allowed = HeaderValue::from_str(allowed).expect("methods are tokens");
        Self::new(status, FailureKind::Usage, message).with(ALLOW, allowed)
    }

    /// Adds what the client can do about it.
    pub fn advise(mut self, advice: impl Into<String>) -> Self {
        self.failure.advice = Some(advice.into());
        self
    }

    /// Adds what the dialect calls it: `EntryNotFound`, `BLOB_UNKNOWN`.
    pub fn code(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }

    /// Adds a header.
    pub fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Its status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// What kind of failure it is.
    pub fn kind(&self) -> FailureKind {
        self.failure.kind
    }

    /// The response, in the shape of a dialect.
    pub fn into_response(self, dialect: Dialect) -> Response {
        if self.status.is_server_error() && self.status != StatusCode::SERVICE_UNAVAILABLE {
            tracing::warn!(status = %self.status, message = %self.failure.message, "request failed");
        }
        let mut response = dialect.failure(self.status, self.failure, self.code);
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            let after = HeaderValue::from(RETRY_AFTER_SECONDS);
            response.headers_mut().insert(RETRY_AFTER, after);
        }
        if self.status == StatusCode::UNAUTHORIZED {
            // Clients of registries know how to send a token as a password alone.
            let scheme = HeaderValue::from_static(match dialect {
                Dialect::Registry => "Basic realm=\"lode\"",
                _ => "Bearer",
            });
            response.headers_mut().insert(WWW_AUTHENTICATE, scheme);
        }
        response.headers_mut().extend(self.headers);
        response
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        let status = StatusCode::from_u16(failure.kind.http_status())
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self {
            status,
            failure,
            code: None,
            headers: Vec::new(),
        }
    }
}

/// A response of JSON that is never cached.
pub fn json(status: StatusCode, value: &impl Serialize) -> Response {
    let mut bytes =
        serde_json::to_vec(value).expect("answers are maps with text keys and finite numbers");
    bytes.push(b'\n');
    plain(status, "application/json", bytes.into())
}

/// A response of bytes made for this request, never cached.
pub fn plain(status: StatusCode, content_type: &'static str, bytes: Bytes) -> Response {
    let length = HeaderValue::from(bytes.len());
    let mut response = hyper::Response::new(Body::from(bytes));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_LENGTH, length);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_no_peer_has_are_asked_for_again_later() {
        let failure = Failure {
            kind: FailureKind::NoPeer,
            message: "not held".to_owned(),
            advice: None,
        };
        let response = Problem::from(failure).into_response(Dialect::Native);
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(
            response.headers()[RETRY_AFTER],
            RETRY_AFTER_SECONDS.to_string()
        );
    }
}
