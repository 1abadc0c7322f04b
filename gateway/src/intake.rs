//! Uploads on their way in: long bodies, read where waiting is fine, and the addresses that take them.
//!
//! Some clients send bytes to an address without their token, so that address itself says what may be sent to
//! it: it carries a [`Grant`], sealed with a key of this process. A grant is for one file of one model, or for
//! the xorbs of one model, and runs out. One for reading says on whose behalf it was handed out, who must still
//! be allowed to read when it is shown.

use std::{
    io::{self, Read},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::{Buf, Bytes};
use data_encoding::BASE64URL_NOPAD;
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};
use hyper::{HeaderMap, StatusCode, header::AUTHORIZATION};
use lode_node::{
    command::FailureKind,
    upload::{Inbox, UploadError, Uploads},
};
use lode_store::{PublisherId, VersionId};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::{
    answer::Problem,
    gateway::Gateway,
    kept::Whose,
    limits::{
        BODY_FRAMES_WAITING, BODY_IDLE_TIMEOUT, BODY_UNREAD_BYTES_MAX, GRANT_AGE_MAX,
        GRANT_BYTES_MAX, XET_READ_AGE_MAX,
    },
    reader::{self, OpenVersion},
    scope::Scope,
    visitor::Visitor,
    writer::Writer,
    xet::read::XetReads,
};

/// What a sealed address allows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Grant {
    /// Whose model.
    publisher: String,
    model: String,
    pub(crate) what: What,
    /// Seconds since 1970.
    expires: u64,
}

/// What may be sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum What {
    /// All of a file.
    File { sha256: String, size: u64 },
    /// A part of a file.
    Part {
        sha256: String,
        size: u64,
        offset: u64,
        len: u64,
    },
    /// That all parts of a file were sent.
    Complete {
        sha256: String,
        parts: u64,
        /// Bytes of each but the last.
        part: u64,
    },
    /// Xorbs, and shards that name them.
    Xet,
    /// That files of a version are read by Xet.
    Files { version: VersionId, whose: Whose },
    /// That one xorb of a file is read.
    Xorb {
        version: VersionId,
        whose: Whose,
        sha256: [u8; 32],
        xorb: u32,
    },
}

impl Grant {
    /// One for a model from now on.
    pub(crate) fn new(inbox: &Inbox, what: What) -> Self {
        let age = match what {
            What::Files { .. } | What::Xorb { .. } => XET_READ_AGE_MAX,
            _ => GRANT_AGE_MAX,
        };
        Self {
            publisher: inbox.publisher().to_hex(),
            model: inbox.model().to_owned(),
            what,
            expires: now() + age.as_secs(),
        }
    }

    /// When it runs out, in seconds since 1970.
    pub(crate) fn expires(&self) -> u64 {
        self.expires
    }

    /// The model that it is for.
    pub(crate) fn inbox(&self) -> Result<Inbox, Problem> {
        let publisher: PublisherId = self.publisher.parse().map_err(|_| forged())?;
        Ok(Inbox::new(publisher, &self.model))
    }
}

/// Seals grants, and opens them again. Each process has its own key: what was granted ends with it.
#[derive(Debug, Clone)]
pub(crate) struct Seal([u8; 32]);

impl Default for Seal {
    fn default() -> Self {
        let mut key = [0; 32];
        getrandom::fill(&mut key).expect("the system has random numbers");
        Self(key)
    }
}

impl Seal {
    /// A text that stands for the grant, and can stand in an address.
    pub(crate) fn seal(&self, grant: &Grant) -> String {
        let body = serde_json::to_vec(grant).expect("texts and numbers");
        let seal = blake3::keyed_hash(&self.0, &body);
        let parts = [seal.as_bytes(), &body[..]].concat();
        BASE64URL_NOPAD.encode(&parts)
    }

    /// The grant that a text stands for.
    ///
    /// # Errors
    /// 403 for one that was not sealed here, or has run out.
    pub(crate) fn open(&self, text: &str) -> Result<Grant, Problem> {
        self.open_at(text, now())
    }

    /// Whether a request shows a grant: in its address, or where Xet's clients show theirs.
    pub(crate) fn admits(&self, path: &str, headers: &HeaderMap) -> bool {
        let mut prefixes = [UPLOADS, XORBS].into_iter();
        let text = match prefixes.find_map(|prefix| path.strip_prefix(prefix)) {
            Some(text) => Some(text),
            None if path.starts_with("/xet/") => bearer(headers),
            None => None,
        };
        text.is_some_and(|text| self.open(text).is_ok())
    }

    fn open_at(&self, text: &str, now: u64) -> Result<Grant, Problem> {
        if text.len() > GRANT_BYTES_MAX {
            return Err(forged());
        }
        let bytes = BASE64URL_NOPAD
            .decode(text.as_bytes())
            .map_err(|_| forged())?;
        let (seal, body) = bytes.split_first_chunk::<32>().ok_or_else(forged)?;
        // The comparison of hashes takes the same time for all.
        if blake3::keyed_hash(&self.0, body) != blake3::Hash::from_bytes(*seal) {
            return Err(forged());
        }
        let grant: Grant = serde_json::from_slice(body).map_err(|_| forged())?;
        if grant.expires < now {
            return Err(Problem::refused(
                "this address has expired: ask for another one",
            ));
        }
        Ok(grant)
    }
}

/// Where addresses that take uploads start.
pub(crate) const UPLOADS: &str = "/lode/v1/uploads/";

/// Where addresses of xorbs start.
pub(crate) const XORBS: &str = "/xet/xorbs/";

/// What a client shows as its token.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let shown = headers.get(AUTHORIZATION)?.to_str().ok()?;
    shown.strip_prefix("Bearer ")
}

fn forged() -> Problem {
    Problem::refused("this address, or token, was not given out by this node since it was started")
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// Whoever has a grant: the address or the token is what proves it.
#[derive(Debug)]
pub(crate) struct Granted;

/// The means of [`Granted`]: nothing but opening grants.
#[derive(Debug)]
pub(crate) struct Intake {
    gateway: Arc<Gateway>,
    visitor: Visitor,
}

impl Scope for Granted {
    type Means = Intake;
    const NAME: &'static str = "granted";

    fn admit(gateway: &Arc<Gateway>, visitor: &Visitor) -> Result<Intake, Problem> {
        Ok(Intake {
            gateway: Arc::clone(gateway),
            visitor: visitor.clone(),
        })
    }
}

impl Intake {
    /// What a grant allows, and what takes it.
    pub(crate) fn open(&self, text: &str) -> Result<(Grant, Inbox, Uploads), Problem> {
        let grant = self.gateway.seal().open(text)?;
        let inbox = grant.inbox()?;
        Ok((grant, inbox, uploads(&self.gateway)?))
    }

    /// The version that a grant for reading is about, as far as whoever it was handed out to may still read it; and
    /// what the grant allows.
    pub(crate) async fn open_version(&self, text: &str) -> Result<(OpenVersion, What), Problem> {
        let grant = self.gateway.seal().open(text)?;
        let (What::Files { version, whose } | What::Xorb { version, whose, .. }) = &grant.what
        else {
            return Err(Problem::refused("this token is for something else"));
        };
        let (policy, tokens) = (self.gateway.policy(), self.gateway.backend().tokens());
        let visitor = self.visitor.on_behalf(*whose, policy, tokens)?;
        let reader = reader::Read::admit(&self.gateway, &visitor)?;
        let revs = [&*version.to_hex()];
        let opened = reader.first_version(&grant.publisher, &grant.model, &revs);
        Ok((opened.await?, grant.what))
    }

    /// What hands out files by Xet.
    ///
    /// # Errors
    /// 404 where that is switched off.
    pub(crate) fn xet(&self) -> Result<&XetReads, Problem> {
        self.gateway
            .xet()
            .ok_or_else(|| Problem::not_found("nothing is read by Xet here"))
    }
}

impl Writer {
    /// What takes uploads.
    pub(crate) fn uploads(&self) -> Result<Uploads, Problem> {
        uploads(self.gateway())
    }

    /// A text for a grant.
    pub(crate) fn seal(&self, grant: &Grant) -> String {
        self.gateway().seal().seal(grant)
    }
}

fn uploads(gateway: &Gateway) -> Result<Uploads, Problem> {
    let status = StatusCode::NOT_IMPLEMENTED;
    let none = || Problem::new(status, FailureKind::Refused, "this node takes no uploads");
    gateway.backend().uploads().ok_or_else(none)
}

impl From<UploadError> for Problem {
    fn from(error: UploadError) -> Self {
        let status = match &error {
            UploadError::NoRoom { .. } => StatusCode::INSUFFICIENT_STORAGE,
            UploadError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            UploadError::Stale { .. } => StatusCode::PRECONDITION_FAILED,
            UploadError::Exists { .. } | UploadError::Busy { .. } => StatusCode::CONFLICT,
            UploadError::Other(failure) => return Self::from(failure.clone()),
            error => StatusCode::from_u16(error.kind().http_status())
                .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
        };
        let code = matches!(error, UploadError::NoRev { .. }).then_some("RevisionNotFound");
        let problem = Self::new(status, error.kind(), error.to_string());
        match code {
            Some(code) => problem.code(code),
            None => problem,
        }
    }
}

/// The body of a request, for a thread that may wait for it.
#[derive(Debug)]
pub(crate) struct BodyReader {
    frames: mpsc::Receiver<io::Result<Option<Bytes>>>,
    current: Bytes,
    ended: bool,
}

impl Read for BodyReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() && !self.ended {
            match self.frames.blocking_recv() {
                Some(Ok(Some(bytes))) => self.current = bytes,
                Some(Ok(None)) => self.ended = true,
                Some(Err(error)) => return Err(error),
                // The end is said: without, the client is gone.
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        let len = buffer.len().min(self.current.len());
        self.current.copy_to_slice(&mut buffer[..len]);
        Ok(len)
    }
}

/// Hands a body to `work`, which runs where it may block. Memory: a few frames of the body.
///
/// # Errors
/// Those of `work`. What it left of the body is read up to [`BODY_UNREAD_BYTES_MAX`], so that clients which send
/// before they listen hear of it.
pub(crate) async fn with_body<T: Send + 'static>(
    mut body: UnsyncBoxBody<Bytes, hyper::Error>,
    work: impl FnOnce(&mut BodyReader) -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let (sender, frames) = mpsc::channel(BODY_FRAMES_WAITING);
    let worker = tokio::task::spawn_blocking(move || {
        work(&mut BodyReader {
            frames,
            current: Bytes::new(),
            ended: false,
        })
    });
    let pump = async move {
        let mut unread = 0;
        loop {
            let frame = match tokio::time::timeout(BODY_IDLE_TIMEOUT, body.frame()).await {
                Ok(None) => Ok(None),
                Ok(Some(Ok(frame))) => match frame.into_data() {
                    Ok(bytes) => Ok(Some(bytes)),
                    Err(_) => continue,
                },
                Ok(Some(Err(error))) => Err(io::Error::other(error)),
                Err(_) => Err(io::ErrorKind::TimedOut.into()),
            };
            let more = matches!(frame, Ok(Some(_)));
            let len = match &frame {
                Ok(Some(bytes)) => bytes.len(),
                _ => 0,
            };
            if sender.send(frame).await.is_err() {
                unread += len;
            }
            if !more || unread > BODY_UNREAD_BYTES_MAX {
                return;
            }
        }
    };
    let (done, ()) = tokio::join!(worker, pump);
    done.unwrap_or_else(|error| {
        let message = format!("receiving stopped: {error}");
        Err(Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            FailureKind::Failed,
            message,
        ))
    })
}

/// Does what blocks on a thread where that is fine.
pub(crate) async fn carry_out<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, UploadError> + Send + 'static,
) -> Result<T, Problem> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Ok(done?),
        Err(error) => Err(Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            FailureKind::Failed,
            format!("receiving stopped: {error}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use http_body_util::{Full, StreamBody};
    use hyper::body::Frame;

    fn grant() -> Grant {
        let publisher = PublisherId::from_bytes([3; 32]);
        Grant::new(&Inbox::new(publisher, "tiny"), What::Xet)
    }

    #[test]
    fn a_grant_is_opened_by_who_sealed_it_and_until_it_runs_out() {
        let (seal, grant) = (Seal::default(), grant());
        let text = seal.seal(&grant);
        assert_eq!(seal.open(&text).unwrap(), grant);
        assert_eq!(seal.open_at(&text, grant.expires).unwrap(), grant);
        let status = |opened: Result<Grant, Problem>| opened.unwrap_err().status().as_u16();
        assert_eq!(status(seal.open_at(&text, grant.expires + 1)), 403);
        assert_eq!(status(Seal::default().open(&text)), 403);
        for at in 0..text.len() {
            let mut other = text.clone().into_bytes();
            other[at] = if other[at] == b'A' { b'B' } else { b'A' };
            let other = String::from_utf8(other).unwrap();
            assert_eq!(status(seal.open(&other)), 403, "character {at}");
            assert_eq!(status(seal.open(&text[..at])), 403, "{at} characters");
        }
        let long = "A".repeat(GRANT_BYTES_MAX + 1);
        assert_eq!(status(seal.open(&long)), 403);
    }

    #[test]
    fn a_grant_is_shown_in_the_address_or_to_the_storage_of_xorbs_alone() {
        let seal = Seal::default();
        let text = seal.seal(&grant());
        let mut headers = HeaderMap::new();
        let none = HeaderMap::new();
        headers.insert(AUTHORIZATION, format!("Bearer {text}").parse().unwrap());
        assert!(seal.admits(&format!("{UPLOADS}{text}"), &none));
        assert!(seal.admits("/xet/1/v1/shards", &headers));
        assert!(!seal.admits("/xet/1/v1/shards", &none));
        assert!(!seal.admits("/lode/v1/models", &headers));
        assert!(!Seal::default().admits("/xet/1/v1/shards", &headers));
    }

    async fn read_all(body: UnsyncBoxBody<Bytes, hyper::Error>) -> Result<Vec<u8>, Problem> {
        with_body(body, |body| {
            let mut all = Vec::new();
            body.read_to_end(&mut all)
                .map_err(|error| Problem::usage(error.to_string()))?;
            Ok(all)
        })
        .await
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_no_end() {
        let whole = Full::new(Bytes::from_static(b"all of it"));
        let whole = whole.map_err(|never| match never {}).boxed_unsync();
        assert_eq!(read_all(whole).await.unwrap(), b"all of it");
        // A connection that ends takes the sender with it before the end was said.
        let (sender, frames) = mpsc::channel(2);
        sender
            .send(Ok(Some(Bytes::from_static(b"half"))))
            .await
            .unwrap();
        drop(sender);
        let mut reader = BodyReader {
            frames,
            current: Bytes::new(),
            ended: false,
        };
        let read = tokio::task::spawn_blocking(move || reader.read_to_end(&mut Vec::new()));
        let error = read.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn a_refused_body_is_read_up_to_a_limit() {
        let frame = || Ok(Frame::data(Bytes::from(vec![0; 64 << 10])));
        let stream = futures_lite::stream::repeat_with(frame);
        let endless = StreamBody::new(stream).boxed_unsync();
        let refused = with_body(endless, |_| Err::<(), _>(Problem::refused("no"))).await;
        assert_eq!(refused.unwrap_err().status().as_u16(), 403);
    }
}
