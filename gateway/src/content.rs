//! Answers made of stored bytes: the one place where validators, `Range` and the headers of a body
//! meet, for files, tensors and chunks alike.

use std::{fmt, sync::Arc};

use hyper::{
    HeaderMap, Method, StatusCode,
    header::{
        ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_SECURITY_POLICY,
        CONTENT_TYPE, ETAG, HeaderValue, RANGE, X_CONTENT_TYPE_OPTIONS,
    },
};
use lode_node::command::{Failure, FailureKind};
use lode_tensors::ByteRange;

use crate::{
    answer::{Answer, Problem, Response},
    body::{Body, Part, Source},
    condition::{Etag, Verdict},
    limits::{AT_HAND_BYTES_MAX, RANGES_MAX},
    multipart,
    range::{Selection, select},
};

/// Headers of an answer beside those of its content, at most: so many need not grow their map.
const HEADERS_USUAL: usize = 16;

/// Stored bytes as a client sees them.
pub struct Content {
    /// Length in bytes.
    pub len: u64,
    /// Its tag.
    pub etag: Etag,
    /// Its media type.
    pub content_type: &'static str,
    /// Whether the address names these bytes for ever.
    pub immutable: bool,
    /// Headers of its own.
    pub headers: HeaderMap,
    /// Where its bytes come from; offsets count from 0 to `len`.
    pub source: Arc<dyn Source>,
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Content({:?}, {} bytes)", self.etag, self.len)
    }
}

impl Content {
    /// Answers `GET` and `HEAD`. `HEAD` says what `GET` without ranges would, and reads nothing.
    ///
    /// # Errors
    /// 412 and 416, and failures to read the first bytes; 503 when bytes in range are not held.
    pub async fn answer(&self, method: &Method, request: &HeaderMap) -> Answer {
        let ranges = match self.etag.weigh(request) {
            Verdict::NotModified => return Ok(self.head(StatusCode::NOT_MODIFIED, None)),
            Verdict::Failed => {
                let status = StatusCode::PRECONDITION_FAILED;
                let message = "these are not the bytes that If-Match names";
                return Err(Problem::new(status, FailureKind::Refused, message));
            }
            Verdict::Send { ranges } => ranges && method == Method::GET,
        };
        match self.selection(request, ranges) {
            Selection::Unsatisfiable => Err(self.unsatisfiable()),
            Selection::Whole => {
                let whole = ByteRange {
                    start: 0,
                    end: self.len,
                };
                let response = self.head(StatusCode::OK, Some(self.len));
                self.send(method, response, vec![Part::Range(whole)]).await
            }
            Selection::Parts(parts) => match parts[..] {
                [range] => {
                    let status = StatusCode::PARTIAL_CONTENT;
                    let mut response = self.head(status, Some(range.len()));
                    let value = text(multipart::content_range(range, self.len));
                    response.headers_mut().insert(CONTENT_RANGE, value);
                    self.send(method, response, vec![Part::Range(range)]).await
                }
                _ => {
                    let laid_out = multipart::lay_out(&parts, self.len, self.content_type);
                    let status = StatusCode::PARTIAL_CONTENT;
                    let mut response = self.head(status, Some(laid_out.length));
                    let value = text(laid_out.content_type);
                    response.headers_mut().insert(CONTENT_TYPE, value);
                    self.send(method, response, laid_out.parts).await
                }
            },
        }
    }

    fn selection(&self, request: &HeaderMap, ranges: bool) -> Selection {
        let mut values = request.get_all(RANGE).iter();
        match (ranges, values.next(), values.next()) {
            (true, Some(value), None) => select(value.as_bytes(), self.len),
            _ => Selection::Whole,
        }
    }

    fn unsatisfiable(&self) -> Problem {
        let message = format!(
            "no range asked for lies in these {} bytes, or there are more than {RANGES_MAX}",
            self.len
        );
        let status = StatusCode::RANGE_NOT_SATISFIABLE;
        Problem::new(status, FailureKind::Usage, message)
            .with(CONTENT_RANGE, text(format!("bytes */{}", self.len)))
            .with(ETAG, self.etag.header())
    }

    fn head(&self, status: StatusCode, length: Option<u64>) -> Response {
        let mut response = hyper::Response::new(Body::empty());
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.reserve(HEADERS_USUAL + self.headers.len());
        headers.insert(ETAG, self.etag.header());
        let caching = match self.immutable {
            true => "private, max-age=31536000, immutable",
            false => "private, no-cache",
        };
        headers.insert(CACHE_CONTROL, HeaderValue::from_static(caching));
        if let Some(length) = length {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
            headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
            headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
            // A model's files are not ours: a browser that shows one must not run it as this origin.
            let policy = HeaderValue::from_static("sandbox; default-src 'none'");
            headers.insert(CONTENT_SECURITY_POLICY, policy);
        }
        for (name, value) in &self.headers {
            headers.insert(name, value.clone());
        }
        response
    }

    async fn send(&self, method: &Method, mut response: Response, parts: Vec<Part>) -> Answer {
        if let (&Method::GET, [Part::Range(range)]) = (method, &parts[..])
            && (1..=AT_HAND_BYTES_MAX).contains(&range.len())
            && let Some(bytes) = self.source.read_at_hand(*range)
            && bytes.len() as u64 == range.len()
        {
            *response.body_mut() = bytes.into();
            return Ok(response);
        }
        if method == Method::GET {
            // Each reader keeps for itself where it reads.
            let source = self.source.again();
            let source = source.unwrap_or_else(|| Arc::clone(&self.source));
            let ranges: Vec<ByteRange> = parts
                .iter()
                .filter_map(|part| match part {
                    Part::Range(range) if !range.is_empty() => Some(*range),
                    _ => None,
                })
                .collect();
            let (asked, wanted) = (Arc::clone(&source), ranges.clone());
            let held = tokio::task::spawn_blocking(move || {
                wanted.iter().try_for_each(|range| asked.check_held(*range))
            })
            .await
            .map_err(|error| Failure {
                kind: FailureKind::Failed,
                message: format!("reading stopped: {error}"),
                advice: None,
            })?;
            *response.body_mut() = match held {
                Ok(()) => Body::of_parts(source, parts).await?,
                Err(failure) if failure.kind == FailureKind::NoPeer => {
                    let reach = Arc::clone(&source).reach(ranges);
                    reach.ok_or(failure)?.await?;
                    Body::of_distant(source, parts)
                }
                Err(failure) => return Err(failure.into()),
            };
        }
        Ok(response)
    }
}

/// A header's value made of visible ASCII characters and spaces.
fn text(value: String) -> HeaderValue {
    HeaderValue::try_from(value).expect("made of visible ASCII characters")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::cast_possible_truncation)]
    use super::*;
    use crate::dialect::Dialect;
    use bytes::Bytes;
    use http_body_util::BodyExt;
    use hyper::header::{HeaderName, IF_MATCH, IF_NONE_MATCH, IF_RANGE};
    use std::sync::Mutex;

    struct Letters {
        held: u64,
    }

    const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyz";

    impl Source for Letters {
        fn read(&self, range: ByteRange) -> Result<Bytes, Failure> {
            Ok(Bytes::from_static(
                &LETTERS[range.start as usize..range.end as usize],
            ))
        }

        fn check_held(&self, range: ByteRange) -> Result<(), Failure> {
            if range.end <= self.held {
                return Ok(());
            }
            Err(Failure {
                kind: FailureKind::NoPeer,
                message: "not held".to_owned(),
                advice: None,
            })
        }
    }

    async fn ask(
        method: Method,
        held: u64,
        headers: &[(HeaderName, &str)],
    ) -> (StatusCode, HeaderMap, Vec<u8>) {
        let content = Content {
            len: LETTERS.len() as u64,
            etag: Etag::new("t"),
            content_type: "text/plain",
            immutable: false,
            headers: HeaderMap::new(),
            source: Arc::new(Letters { held }),
        };
        let mut request = HeaderMap::new();
        for (name, value) in headers {
            request.append(name, HeaderValue::from_str(value).unwrap());
        }
        let response = content.answer(&method, &request).await;
        let response = response.unwrap_or_else(|problem| problem.into_response(Dialect::Native));
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes().to_vec();
        (parts.status, parts.headers, bytes)
    }

    #[tokio::test]
    async fn one_range_comes_bare_and_several_in_parts() {
        let (status, headers, bytes) = ask(Method::GET, 26, &[(RANGE, "bytes=3-5")]).await;
        assert_eq!((status.as_u16(), bytes.as_slice()), (206, &b"def"[..]));
        assert_eq!(headers[CONTENT_RANGE], "bytes 3-5/26");
        assert_eq!(headers[CONTENT_LENGTH], "3");
        let (status, headers, bytes) = ask(Method::GET, 26, &[(RANGE, "bytes=25-,0-1")]).await;
        assert_eq!(status.as_u16(), 206);
        assert_eq!(headers[CONTENT_LENGTH], bytes.len().to_string());
        assert!(headers.get(CONTENT_RANGE).is_none());
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.contains("bytes 25-25/26\r\n\r\nz\r\n"));
        assert!(text.contains("bytes 0-1/26\r\n\r\nab\r\n"));
        let (status, headers, bytes) = ask(Method::GET, 26, &[(RANGE, "bytes=3-5,4-8")]).await;
        assert_eq!((status.as_u16(), bytes.as_slice()), (206, &b"defghi"[..]));
        assert_eq!(headers[CONTENT_RANGE], "bytes 3-8/26");
    }

    #[tokio::test]
    async fn a_range_outside_is_416_with_the_length() {
        let (status, headers, _) = ask(Method::GET, 26, &[(RANGE, "bytes=26-")]).await;
        assert_eq!(status.as_u16(), 416);
        assert_eq!(headers[CONTENT_RANGE], "bytes */26");
    }

    #[tokio::test]
    async fn two_range_headers_are_none() {
        let two = [(RANGE, "bytes=0-1"), (RANGE, "bytes=2-3")];
        let (status, _, bytes) = ask(Method::GET, 26, &two).await;
        assert_eq!((status.as_u16(), bytes.as_slice()), (200, LETTERS));
    }

    /// Says which ranges it was asked for without waiting.
    struct AtHand(Mutex<Vec<ByteRange>>);

    impl Source for AtHand {
        fn read(&self, range: ByteRange) -> Result<Bytes, Failure> {
            Ok(vec![1; range.len() as usize].into())
        }

        fn read_at_hand(&self, range: ByteRange) -> Option<Bytes> {
            self.0.lock().unwrap().push(range);
            (range.start > 0).then(|| vec![2; range.len() as usize].into())
        }

        fn check_held(&self, _: ByteRange) -> Result<(), Failure> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn short_ranges_alone_are_read_without_waiting_and_others_as_ever() {
        for (start, len, asked, from) in [
            (1, AT_HAND_BYTES_MAX, true, 2),
            (1, AT_HAND_BYTES_MAX + 1, false, 1),
            (0, AT_HAND_BYTES_MAX, true, 1),
        ] {
            let source = Arc::new(AtHand(Mutex::default()));
            let content = Content {
                len: AT_HAND_BYTES_MAX * 3,
                etag: Etag::new("t"),
                content_type: "text/plain",
                immutable: false,
                headers: HeaderMap::new(),
                source: Arc::clone(&source) as Arc<dyn Source>,
            };
            let range = format!("bytes={start}-{}", start + len - 1);
            let mut request = HeaderMap::new();
            request.insert(RANGE, HeaderValue::try_from(range).unwrap());
            let answer = content.answer(&Method::GET, &request).await.unwrap();
            let bytes = answer.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(bytes, vec![from; len as usize]);
            let end = start + len;
            let expected: Vec<ByteRange> = asked
                .then_some(ByteRange { start, end })
                .into_iter()
                .collect();
            assert_eq!(*source.0.lock().unwrap(), expected);
        }
    }

    #[tokio::test]
    async fn head_says_what_get_would_and_reads_nothing() {
        let (status, headers, bytes) = ask(Method::HEAD, 0, &[(RANGE, "bytes=3-5")]).await;
        assert_eq!((status.as_u16(), bytes.len()), (200, 0));
        assert_eq!(headers[CONTENT_LENGTH], "26");
        assert_eq!(headers[ACCEPT_RANGES], "bytes");
        assert_eq!(headers[ETAG], "\"t\"");
    }

    #[tokio::test]
    async fn conditions_come_before_ranges() {
        let range = (RANGE, "bytes=0-0");
        let (status, headers, bytes) =
            ask(Method::GET, 26, &[(IF_NONE_MATCH, "\"t\""), range.clone()]).await;
        assert_eq!((status.as_u16(), bytes.len()), (304, 0));
        assert_eq!(headers[ETAG], "\"t\"");
        assert!(headers.get(CONTENT_LENGTH).is_none());
        let (status, ..) = ask(Method::GET, 26, &[(IF_MATCH, "\"u\""), range.clone()]).await;
        assert_eq!(status.as_u16(), 412);
        let (status, _, bytes) = ask(Method::GET, 26, &[(IF_RANGE, "\"u\""), range.clone()]).await;
        assert_eq!((status.as_u16(), bytes.as_slice()), (200, LETTERS));
        let (status, _, bytes) = ask(Method::GET, 26, &[(IF_RANGE, "\"t\""), range]).await;
        assert_eq!((status.as_u16(), bytes.as_slice()), (206, &b"a"[..]));
    }

    #[tokio::test]
    async fn bytes_that_are_not_held_are_503_and_the_others_are_served() {
        let (status, headers, _) = ask(Method::GET, 10, &[(RANGE, "bytes=5-10")]).await;
        assert_eq!(status.as_u16(), 503);
        assert!(headers.contains_key("retry-after"));
        let (status, ..) = ask(Method::GET, 10, &[(RANGE, "bytes=5-9")]).await;
        assert_eq!(status.as_u16(), 206);
    }
}
