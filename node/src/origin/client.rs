//! Requests to another hub: bounded, policed, and tried again where that helps.
//!
//! Redirections are followed by hand, each checked ([`address`](super::address)); the token goes to the hub
//! alone. A request that fails on the way, or is asked to come back (429, 503 with `Retry-After`), is tried
//! again a bounded number of times. Nothing that a hub sends is read beyond a bound.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use reqwest::{
    Method, Response, StatusCode, Url,
    header::{
        AUTHORIZATION, ETAG, HeaderMap, HeaderValue, IF_RANGE, LINK, LOCATION, RANGE, RETRY_AFTER,
    },
    redirect,
};
use rustls_platform_verifier::BuilderVerifierExt;
use serde::{Deserialize, Serialize};
use tokio_rustls::rustls;

use super::{
    address::{self, PublicOnly},
    error::OriginError,
    limits::{
        CONNECT_TIMEOUT, INFO_BYTES_MAX, PAGE_BYTES_MAX, PAGES_MAX, PAUSE, REDIRECTS_MAX,
        RETRY_AFTER_MAX, STALL, TOKEN_BYTES_MAX, TRIES_MAX,
    },
    listing::{self, CommitId, FileAt, Info, Listing},
};

/// Another hub, as a person names it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upstream {
    /// Its address.
    pub url: String,
    /// A file with the token to show it.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    /// Whether it, and where it redirects to, may be at an address that is not public.
    #[serde(default)]
    pub private: bool,
}

/// A client of one hub.
#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: Url,
    token: Option<HeaderValue>,
    private: bool,
    counts: Arc<Counts>,
}

/// What was asked of other hubs since start.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) requests: AtomicU64,
    pub(crate) bytes: AtomicU64,
}

/// The response to a request for a file's bytes.
pub(crate) struct Opened {
    response: Response,
    counts: Arc<Counts>,
    /// Where its first byte lies in the file.
    pub(crate) start: u64,
    /// Its strong tag.
    pub(crate) etag: Option<HeaderValue>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Client({})", self.base)
    }
}

impl Client {
    /// A client of `upstream`. Reads its token.
    ///
    /// # Errors
    /// An address that is none, or is private and may not be, or a token that cannot be read.
    pub(crate) fn new(upstream: &Upstream, counts: Arc<Counts>) -> Result<Self, OriginError> {
        let base = address::parse(&upstream.url)?;
        address::check(&base, upstream.private)?;
        let token = upstream
            .token_file
            .as_ref()
            .map(|path| token(path))
            .transpose()?;
        let failed = |error: &dyn std::error::Error| OriginError::Away {
            hub: host(&base),
            why: format!("TLS cannot be set up: {error}"),
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(BuilderVerifierExt::with_platform_verifier)
            .map_err(|error| failed(&error))?
            .with_no_client_auth();
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .dns_resolver(Arc::new(PublicOnly {
                private: upstream.private,
            }))
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(STALL)
            .user_agent(crate::network::AGENT)
            .build()
            .map_err(|error| failed(&error))?;
        Ok(Self {
            http,
            base,
            token,
            private: upstream.private,
            counts,
        })
    }

    /// What people call the hub.
    pub(crate) fn host(&self) -> String {
        host(&self.base)
    }

    /// The name of the hub in names of versions: its host, its port where that is not the usual one, and its path.
    pub(crate) fn namespace(&self) -> String {
        let mut name = self.base.host_str().unwrap_or_default().to_owned();
        if let Some(number) = name
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            name = format!("{}.ipv6-literal.net", number.replace(':', "-"));
        }
        if let Some(port) = self.base.port() {
            name.push_str(&format!("_{port}"));
        }
        let path = self.base.path().trim_matches('/');
        if !path.is_empty() {
            name.push('/');
            name.push_str(path);
        }
        name
    }

    /// What the hub says of a repository at a revision.
    ///
    /// # Errors
    /// There is none for us, or the hub fails.
    pub(crate) async fn info(
        &self,
        organisation: &str,
        name: &str,
        rev: &str,
    ) -> Result<Info, OriginError> {
        let what = format!("{organisation}/{name}@{rev}");
        let url = self.at(&["api", "models", organisation, name, "revision", rev]);
        let (bytes, _) = self.document(url, &what, INFO_BYTES_MAX).await?;
        let info = listing::info(&bytes).map_err(|why| self.impossible(&what, why))?;
        if CommitId::parse(rev).is_some_and(|asked| asked != info.commit) {
            return Err(self.impossible(&what, format!("it is at {}", info.commit)));
        }
        Ok(info)
    }

    /// The files of a commit, and when it was made.
    ///
    /// # Errors
    /// There is none for us, or the hub fails or lies.
    pub(crate) async fn listing(&self, info: &Info) -> Result<Listing, OriginError> {
        let (organisation, name) = (info.organisation.as_str(), info.name.as_str());
        let commit = info.commit.to_string();
        let what = format!("{organisation}/{name}@{commit}");
        let mut url = self.at(&["api", "models", organisation, name, "tree", &commit]);
        url.set_query(Some("recursive=true&expand=false"));
        let (mut files, mut next, mut pages): (Vec<FileAt>, _, _) = (Vec::new(), Some(url), 0);
        while let Some(url) = next {
            pages += 1;
            if pages > PAGES_MAX || files.len() > lode_store::limits::TREE_FILES_MAX {
                return Err(self.impossible(&what, "its list of files does not end".to_owned()));
            }
            let (bytes, headers) = self.document(url, &what, PAGE_BYTES_MAX).await?;
            files.extend(listing::page(&bytes).map_err(|why| self.impossible(&what, why))?);
            next = self.next_page(&headers)?;
        }
        let time = self.time(info, &what).await?;
        Listing::new(info.commit, time, files).map_err(|why| self.impossible(&what, why))
    }

    /// When a commit was made; 0 where the hub has no list of commits.
    async fn time(&self, info: &Info, what: &str) -> Result<u64, OriginError> {
        let commit = info.commit.to_string();
        let mut url = self.at(&[
            "api",
            "models",
            &info.organisation,
            &info.name,
            "commits",
            &commit,
        ]);
        url.set_query(Some("limit=1"));
        match self.document(url, what, PAGE_BYTES_MAX).await {
            Ok((bytes, _)) => {
                listing::time(&bytes, info.commit).map_err(|why| self.impossible(what, why))
            }
            Err(OriginError::Absent { .. }) => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Begins to receive a file from `start` on, up to `end` if that is given.
    ///
    /// # Errors
    /// There is none for us, or the hub fails, or sends another part.
    pub(crate) async fn open(
        &self,
        info: &Info,
        file: &FileAt,
        (start, end): (u64, Option<u64>),
        etag: Option<&HeaderValue>,
    ) -> Result<Opened, OriginError> {
        let commit = info.commit.to_string();
        let mut segments = vec![info.organisation.as_str(), &info.name, "resolve", &commit];
        segments.extend(file.path.split('/'));
        let url = self.at(&segments);
        let mut headers = HeaderMap::new();
        let partial = start > 0 || end.is_some();
        if partial {
            let range = match end {
                Some(end) => format!("bytes={start}-{}", end.saturating_sub(1)),
                None => format!("bytes={start}-"),
            };
            headers.insert(
                RANGE,
                HeaderValue::try_from(range).expect("digits are visible ASCII"),
            );
            if let Some(etag) = etag {
                headers.insert(IF_RANGE, etag.clone());
            }
        }
        let response = self.ask(url, &file.path, &headers).await?;
        let wrong = |why: String| OriginError::Wrong {
            hub: self.host(),
            path: file.path.clone(),
            why,
        };
        // What a server calls the file may be weak, or missing; then a later request goes without it.
        let tag = response.headers().get(ETAG).cloned();
        let etag = tag.filter(|tag| tag.as_bytes().starts_with(b"\""));
        let begins = match response.status() {
            StatusCode::OK => 0,
            StatusCode::PARTIAL_CONTENT => {
                let text = response.headers().get("content-range");
                let text = text.and_then(|text| text.to_str().ok()).unwrap_or_default();
                let (first, total) = content_range(text)
                    .ok_or_else(|| wrong(format!("the part {text:?} was sent")))?;
                if total != file.size {
                    return Err(wrong(format!(
                        "it has {total} bytes, and not {}",
                        file.size
                    )));
                }
                if first != start {
                    return Err(wrong(format!(
                        "the part {text:?} was sent, not that from {start} on"
                    )));
                }
                first
            }
            status => return Err(self.failure(&file.path, status)),
        };
        let most = end
            .filter(|_| begins == start && partial)
            .unwrap_or(file.size);
        if begins == 0
            && response.status() == StatusCode::OK
            && let Some(length) = response.content_length()
            && length != file.size
        {
            return Err(wrong(format!(
                "it has {length} bytes, and not {}",
                file.size
            )));
        }
        debug_assert!(most <= file.size, "a range ends within its file");
        Ok(Opened {
            response,
            counts: Arc::clone(&self.counts),
            start: begins,
            etag,
        })
    }

    /// An address of the hub.
    fn at(&self, segments: &[&str]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url
    }

    /// The page after this one, which must be the hub's own.
    fn next_page(&self, headers: &HeaderMap) -> Result<Option<Url>, OriginError> {
        let links = headers
            .get_all(LINK)
            .iter()
            .filter_map(|link| link.to_str().ok());
        let next = links.flat_map(|links| links.split(',')).find_map(|link| {
            let (url, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
            parameters.contains("rel=\"next\"").then_some(url)
        });
        let Some(next) = next else {
            return Ok(None);
        };
        let url = address::follow(&self.base, next)?;
        match url.origin() == self.base.origin() {
            true => Ok(Some(url)),
            false => Err(OriginError::Redirect {
                from: self.host(),
                why: format!("the next page is elsewhere, at {}", address::shown(&url)),
            }),
        }
    }

    /// A short document in full, and the head that came with it.
    async fn document(
        &self,
        url: Url,
        what: &str,
        bytes_max: usize,
    ) -> Result<(Bytes, HeaderMap), OriginError> {
        let mut tries = 0;
        loop {
            tries += 1;
            let mut response = self.ask(url.clone(), what, &HeaderMap::new()).await?;
            if response.status() != StatusCode::OK {
                return Err(self.failure(what, response.status()));
            }
            let headers = response.headers().clone();
            let mut bytes = BytesMut::new();
            let cut = loop {
                match response.chunk().await {
                    Ok(Some(part)) => {
                        self.counts
                            .bytes
                            .fetch_add(part.len() as u64, Ordering::Relaxed);
                        if bytes.len() + part.len() > bytes_max {
                            let why = format!("the answer has more than {bytes_max} bytes");
                            return Err(self.impossible(what, why));
                        }
                        bytes.extend_from_slice(&part);
                    }
                    Ok(None) => return Ok((bytes.freeze(), headers)),
                    Err(error) => break error,
                }
            };
            if tries == TRIES_MAX {
                return Err(self.away(&cut));
            }
            tokio::time::sleep(pause(tries)).await;
        }
    }

    /// Sends a request, along redirections, and again where that helps. Gives what is 2xx, or a failure that stays.
    async fn ask(
        &self,
        url: Url,
        what: &str,
        headers: &HeaderMap,
    ) -> Result<Response, OriginError> {
        let mut tries = 0;
        loop {
            tries += 1;
            let wait = match self.along(url.clone(), headers).await {
                Ok(response) if response.status().is_success() => return Ok(response),
                Ok(response) => {
                    let status = response.status();
                    let asked = retry_after(response.headers());
                    let again = matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504);
                    match asked {
                        _ if !again => return Err(self.failure(what, status)),
                        Some(after) if after > RETRY_AFTER_MAX => {
                            return Err(OriginError::Busy {
                                hub: self.host(),
                                after,
                            });
                        }
                        _ if tries == TRIES_MAX => return Err(self.failure(what, status)),
                        asked => asked.unwrap_or_else(|| pause(tries)),
                    }
                }
                Err(error @ OriginError::Away { .. }) if tries == TRIES_MAX => return Err(error),
                Err(OriginError::Away { .. }) => pause(tries),
                Err(error) => return Err(error),
            };
            tracing::debug!(hub = %self.base, what, tries, ?wait, "a request is sent again");
            tokio::time::sleep(wait).await;
        }
    }

    /// Sends a request once, along redirections.
    async fn along(&self, mut url: Url, headers: &HeaderMap) -> Result<Response, OriginError> {
        for _ in 0..=REDIRECTS_MAX {
            address::check(&url, self.private)?;
            let mut request = self
                .http
                .request(Method::GET, url.clone())
                .headers(headers.clone());
            if let Some(token) = self
                .token
                .as_ref()
                .filter(|_| url.origin() == self.base.origin())
            {
                request = request.header(AUTHORIZATION, token.clone());
            }
            self.counts.requests.fetch_add(1, Ordering::Relaxed);
            let response = request.send().await.map_err(|error| self.unsent(&error))?;
            let status = response.status().as_u16();
            if !matches!(status, 301 | 302 | 303 | 307 | 308) {
                return Ok(response);
            }
            let location = response.headers().get(LOCATION);
            let location = location.and_then(|location| location.to_str().ok());
            let location = location.ok_or_else(|| OriginError::Redirect {
                from: address::shown(&url),
                why: "it does not say where to".to_owned(),
            })?;
            url = address::follow(&url, location)?;
        }
        Err(OriginError::Redirect {
            from: self.host(),
            why: format!("more than {REDIRECTS_MAX} in a row"),
        })
    }

    /// Why a request was not answered. That its host is private is no accident, and stays so.
    fn unsent(&self, error: &reqwest::Error) -> OriginError {
        let mut cause: Option<&dyn std::error::Error> = Some(error);
        while let Some(inner) = cause {
            if let Some(OriginError::Private { host }) = inner.downcast_ref::<OriginError>() {
                return OriginError::Private { host: host.clone() };
            }
            cause = inner.source();
        }
        self.away(error)
    }

    fn away(&self, error: &dyn std::error::Error) -> OriginError {
        OriginError::Away {
            hub: self.host(),
            why: crate::failure::chain(error),
        }
    }

    fn impossible(&self, what: &str, why: String) -> OriginError {
        OriginError::Answer {
            hub: self.host(),
            what: what.to_owned(),
            why,
        }
    }

    fn failure(&self, what: &str, status: StatusCode) -> OriginError {
        let (hub, what) = (self.host(), what.to_owned());
        match status.as_u16() {
            404 | 410 => OriginError::Absent { hub, what },
            401 | 403 | 451 => OriginError::Denied {
                hub,
                what,
                status: status.as_u16(),
            },
            _ => OriginError::Away {
                hub,
                why: format!("it answers {status} for {what}"),
            },
        }
    }
}

impl Opened {
    /// The next bytes; nothing at the end.
    ///
    /// # Errors
    /// The connection was cut.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, reqwest::Error> {
        let part = self.response.chunk().await?;
        if let Some(part) = &part {
            self.counts
                .bytes
                .fetch_add(part.len() as u64, Ordering::Relaxed);
        }
        Ok(part)
    }
}

/// What people call a hub.
fn host(base: &Url) -> String {
    let host = base.host_str().unwrap_or_default();
    match base.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// The header that shows the token of a file.
fn token(path: &std::path::Path) -> Result<HeaderValue, OriginError> {
    let bad = |why: String| OriginError::Address {
        url: path.display().to_string(),
        why: format!("the token cannot be read from it: {why}"),
    };
    let length = std::fs::metadata(path)
        .map_err(|error| bad(error.to_string()))?
        .len();
    if length > TOKEN_BYTES_MAX as u64 {
        return Err(bad(format!("it has more than {TOKEN_BYTES_MAX} bytes")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| bad(error.to_string()))?;
    let text = text.trim();
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(bad("it must hold one token and nothing more".to_owned()));
    }
    let mut value =
        HeaderValue::try_from(format!("Bearer {text}")).map_err(|error| bad(error.to_string()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// How long a hub asks to stay away, in seconds (`Retry-After`) or by its rate (`RateLimit: "api";r=0;t=55`).
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let seconds = text(RETRY_AFTER.as_str()).and_then(|text| text.trim().parse::<u32>().ok());
    let seconds = seconds.or_else(|| {
        let mut parts = text("ratelimit")?.split(';');
        parts.find_map(|part| part.trim().strip_prefix("t=")?.parse().ok())
    });
    seconds.map(|seconds| Duration::from_secs(seconds.into()))
}

/// The first byte and the total of `bytes 5-9/10`.
fn content_range(text: &str) -> Option<(u64, u64)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last, total) = (
        first.parse().ok()?,
        last.parse::<u64>().ok()?,
        total.parse().ok()?,
    );
    (first <= last && last < total).then_some((first, total))
}

/// The pause before another try.
pub(super) fn pause(tries: u32) -> Duration {
    PAUSE * 2_u32.pow(tries.saturating_sub(1).min(6))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn client(url: &str) -> Result<Client, OriginError> {
        let upstream = Upstream {
            url: url.to_owned(),
            token_file: None,
            private: true,
        };
        Client::new(&upstream, Arc::default())
    }

    #[test]
    fn a_hub_has_one_name_in_versions() {
        for (url, name) in [
            ("https://huggingface.co", "huggingface.co"),
            ("https://HuggingFace.co:443/", "huggingface.co"),
            ("http://127.0.0.1:7070", "127.0.0.1_7070"),
            ("http://[::1]:7070", "--1.ipv6-literal.net_7070"),
            ("https://example.org/hf/", "example.org/hf"),
        ] {
            assert_eq!(client(url).unwrap().namespace(), name);
        }
    }

    #[test]
    fn addresses_of_requests_keep_their_segments() {
        let client = client("https://example.org/hf").unwrap();
        let url = client.at(&["api", "models", "a", "b", "revision", "refs/pr/1"]);
        assert_eq!(
            url.as_str(),
            "https://example.org/hf/api/models/a/b/revision/refs%2Fpr%2F1"
        );
        let url = client.at(&["a", "b", "resolve", "c", "x y?.txt"]);
        assert_eq!(url.path(), "/hf/a/b/resolve/c/x%20y%3F.txt");
    }

    #[test]
    fn a_hub_says_when_to_come_back_in_two_ways() {
        let after = |name: &'static str, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::try_from(value).unwrap());
            retry_after(&headers).map(|after| after.as_secs())
        };
        assert_eq!(after("retry-after", "7"), Some(7));
        assert_eq!(after("ratelimit", "\"api\";r=0;t=55"), Some(55));
        assert_eq!(after("retry-after", "Wed, 21 Oct 2026 07:28:00 GMT"), None);
        assert_eq!(after("x", "7"), None);
    }

    #[test]
    fn parts_are_read_as_servers_write_them() {
        assert_eq!(content_range("bytes 5-9/10"), Some((5, 10)));
        for text in [
            "",
            "bytes */10",
            "bytes 5-10/10",
            "bytes 9-5/10",
            "bytes 5-9/*",
            "5-9/10",
            "bytes a-b/c",
        ] {
            assert_eq!(content_range(text), None, "{text}");
        }
    }

    #[test]
    fn the_next_page_is_the_hubs_own() {
        let client = client("https://example.org").unwrap();
        let next = |link: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(LINK, HeaderValue::try_from(link).unwrap());
            client.next_page(&headers)
        };
        let url = next("<https://example.org/api?cursor=a>; rel=\"next\"")
            .unwrap()
            .unwrap();
        assert_eq!(url.query(), Some("cursor=a"));
        assert!(next("</api?cursor=b>; rel=\"next\"").unwrap().is_some());
        assert!(next("</api>; rel=\"prev\"").unwrap().is_none());
        assert!(next("<https://other.org/api>; rel=\"next\"").is_err());
        assert!(next("<http://example.org/api>; rel=\"next\"").is_err());
    }

    #[test]
    fn a_token_is_one_word_of_bounded_length() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            token(&path)
        };
        assert_eq!(read("hf_abc\n").unwrap(), "Bearer hf_abc");
        for text in ["", " \n", "two words", "a\nb", "\u{fc}"] {
            assert!(read(text).is_err(), "{text:?}");
        }
        assert!(read(&"a".repeat(TOKEN_BYTES_MAX)).is_ok());
        assert!(read(&"a".repeat(TOKEN_BYTES_MAX + 1)).is_err());
    }
}
