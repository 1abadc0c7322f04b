//! The client of a node's control socket: one command over HTTP/1.1, answered by JSON lines.
//!
//! Every line comes from a process of the same user, yet its length is bounded before it is kept.
//! Dropping a request closes the connection, which is how a node learns that nobody waits any more.

use std::io;
use std::path::Path;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use lode_gateway::control::{self, PROGRAM, PROGRAM_HEADER};
use lode_node::command::{Command, Event, Failure, FailureKind, Outcome, Reply};
use tokio::task::JoinHandle;

use crate::limits::{ANSWER_LINE_BYTES_MAX, REFUSAL_BYTES_MAX};

/// Where commands go.
const COMMANDS: &str = "/lode/v1/commands";

/// A connection to the node that holds a home.
#[derive(Debug)]
pub(crate) struct Client {
    requests: http1::SendRequest<Full<Bytes>>,
    connection: JoinHandle<()>,
}

/// Why there is no connection.
#[derive(Debug)]
pub(crate) enum ConnectError {
    /// No node listens: the socket is absent, left over, or just now closed.
    Nobody,
    /// A node may be there, and cannot be reached.
    Failed(Failure),
}

/// Why there is no outcome.
#[derive(Debug)]
pub(crate) enum SendError {
    /// The node went away before it answered anything: another may take the command.
    Unanswered(Failure),
    /// The command failed, or its answer broke off.
    Failed(Failure),
}

impl Client {
    /// Connects to the node that listens on `socket`.
    ///
    /// # Errors
    /// [`ConnectError::Nobody`] when a node may be started on the home; otherwise what is wrong.
    pub(crate) async fn connect(socket: &Path) -> Result<Self, ConnectError> {
        let stream = control::connect(socket)
            .await
            .map_err(|error| match error.kind() {
                // Reset: the node closed its socket before it took the connection.
                io::ErrorKind::NotFound
                | io::ErrorKind::ConnectionRefused
                | io::ErrorKind::ConnectionReset => ConnectError::Nobody,
                io::ErrorKind::PermissionDenied => ConnectError::Failed(Failure {
                    kind: FailureKind::Refused,
                    message: format!("may not speak to the node at {}", socket.display()),
                    advice: Some(
                        "the home belongs to another user; name your own with --home".to_owned(),
                    ),
                }),
                _ => ConnectError::Failed(broken(&format!(
                    "cannot reach {}: {error}",
                    socket.display()
                ))),
            })?;
        let (requests, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| ConnectError::Failed(broken(&error.to_string())))?;
        let connection = tokio::spawn(async move {
            // An error here also ends the request under way, which reports it.
            let _ = connection.await;
        });
        Ok(Self {
            requests,
            connection,
        })
    }

    /// Sends `command` and returns its outcome; `on_event` gets what happens on the way.
    ///
    /// # Errors
    /// The node's own failure, or that the answer broke off or never began.
    pub(crate) async fn send(
        &mut self,
        command: &Command,
        mut on_event: impl FnMut(Event),
    ) -> Result<Outcome, SendError> {
        let body = serde_json::to_vec(command).expect("a command is plain data");
        let request = Request::post(COMMANDS)
            .header(hyper::header::HOST, "lode")
            .header(hyper::header::CONTENT_TYPE, "application/json")
            .header(PROGRAM_HEADER, PROGRAM)
            .body(Full::new(Bytes::from(body)))
            .expect("the request is made of constants");
        let unanswered = |error: hyper::Error| SendError::Unanswered(broken(&error.to_string()));
        let response = self
            .requests
            .send_request(request)
            .await
            .map_err(unanswered)?;
        let version = other_version(&response);
        let reply = if response.status() == StatusCode::OK {
            answer(response.into_body(), &mut on_event).await
        } else {
            Err(refusal(response).await)
        };
        reply.map_err(|failure| {
            SendError::Failed(match version {
                Some(version) if failure.kind == FailureKind::Failed => {
                    with_version(failure, &version)
                }
                _ => failure,
            })
        })
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// Reads lines up to the reply.
async fn answer(mut body: Incoming, on_event: &mut impl FnMut(Event)) -> Result<Outcome, Failure> {
    let mut kept = BytesMut::new();
    let mut searched = 0;
    loop {
        while let Some(at) = kept[searched..].iter().position(|byte| *byte == b'\n') {
            let line = kept.split_to(searched + at + 1);
            searched = 0;
            if let Some(reply) = one_line(&line, on_event)? {
                return reply;
            }
        }
        searched = kept.len();
        let Some(frame) = body.frame().await else {
            return match one_line(&kept, on_event)? {
                Some(reply) => reply,
                None => Err(broken("the node stopped before it was done")),
            };
        };
        let frame = frame.map_err(|e| broken(&e.to_string()))?;
        if let Some(data) = frame.data_ref() {
            if kept.len() + data.len() > ANSWER_LINE_BYTES_MAX {
                return Err(broken("a line of the answer is longer than any result"));
            }
            kept.extend_from_slice(data);
        }
    }
}

/// Takes one line: an event to pass on (unknown ones are skipped), or the reply.
fn one_line(
    line: &[u8],
    on_event: &mut impl FnMut(Event),
) -> Result<Option<Result<Outcome, Failure>>, Failure> {
    let line = line.trim_ascii();
    if line.is_empty() {
        return Ok(None);
    }
    // Nodes write the tag first, so a reply, which may be large, is parsed once.
    if !line.starts_with(b"{\"reply\"") && is_event(line) {
        // Kinds of events that this version does not know are skipped.
        if let Ok(event) = serde_json::from_slice(line) {
            on_event(event);
        }
        return Ok(None);
    }
    match serde_json::from_slice(line) {
        Ok(Reply::Done { outcome }) => Ok(Some(Ok(outcome))),
        Ok(Reply::Failed { error }) => Ok(Some(Err(error))),
        Err(error) => Err(broken(&format!("the answer is not understood: {error}"))),
    }
}

/// Whether a line has the tag of an event, known or not.
fn is_event(line: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct Tag {
        event: Option<serde::de::IgnoredAny>,
    }
    serde_json::from_slice::<Tag>(line).is_ok_and(|tag| tag.event.is_some())
}

/// What an answer other than 200 says.
async fn refusal(response: Response<Incoming>) -> Failure {
    let status = response.status();
    let mut body = response.into_body();
    let mut kept = BytesMut::new();
    while let Some(Ok(frame)) = body.frame().await {
        if let Some(data) = frame.data_ref() {
            let room = REFUSAL_BYTES_MAX.saturating_sub(kept.len());
            kept.extend_from_slice(&data[..data.len().min(room)]);
            if room == 0 {
                break;
            }
        }
    }
    if let Ok(Reply::Failed { error }) = serde_json::from_slice(&kept) {
        return error;
    }
    let kind = match status.as_u16() {
        401 | 403 => FailureKind::Refused,
        400 => FailureKind::Usage,
        _ => FailureKind::Failed,
    };
    let text = String::from_utf8_lossy(&kept);
    let message = match text.trim() {
        "" => format!("the node answered {status}"),
        text => format!("the node answered {status}: {text}"),
    };
    Failure {
        kind,
        message,
        advice: None,
    }
}

/// The node's version, when it is not ours.
fn other_version(response: &Response<Incoming>) -> Option<String> {
    let version = response.headers().get(PROGRAM_HEADER)?.to_str().ok()?;
    (version != PROGRAM).then(|| version.to_owned())
}

/// Advises to use one version, where two may explain what went wrong.
fn with_version(failure: Failure, version: &str) -> Failure {
    let advice =
        format!("the node runs lode {version} and this is lode {PROGRAM}; restart `lode serve`");
    Failure {
        advice: Some(failure.advice.unwrap_or(advice)),
        ..failure
    }
}

fn broken(message: &str) -> Failure {
    Failure {
        kind: FailureKind::Failed,
        message: format!("lost the node: {message}"),
        advice: Some("see what `lode serve` said, then try again; downloads resume".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_node_that_is_just_closing_is_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("control.sock");
        let done = Arc::new(AtomicBool::new(false));
        let nodes = std::thread::spawn({
            let (socket, done) = (socket.clone(), Arc::clone(&done));
            move || {
                while !done.load(Ordering::Relaxed) {
                    let listener = UnixListener::bind(&socket).unwrap();
                    std::thread::yield_now();
                    drop(listener);
                    std::fs::remove_file(&socket).unwrap();
                }
            }
        });
        let mut failed = None;
        for _ in 0..20_000 {
            if let Err(ConnectError::Failed(failure)) = Client::connect(&socket).await {
                failed = Some(failure);
                break;
            }
        }
        done.store(true, Ordering::Relaxed);
        nodes.join().unwrap();
        assert!(failed.is_none(), "{failed:?}");
    }
}
