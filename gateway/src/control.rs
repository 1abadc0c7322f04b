//! Commands over the Unix socket in the home: how the `lode` binary talks to the node that holds it.
//!
//! `POST /lode/v1/commands` takes one [`Command`] as JSON, and answers lines of JSON: each
//! [`Event`](lode_node::command::Event) as it happens, then one [`Reply`]. A client that leaves cancels its command. Both
//! sides name their program's version in [`PROGRAM_HEADER`]; versions that may not understand each
//! other are refused before the command is read.

use std::{
    io,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::{
    HeaderMap, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue},
};
use lode_node::{
    EventSink, Node,
    collections::Collections,
    command::{Command, Event, Failure, FailureKind, Outcome, Reply},
    fetch::Fetcher,
    origin::Origins,
    read::Reads,
    tokens::Tokens,
    upload::Uploads,
};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::mpsc,
    task::JoinHandle,
};
use tokio_util::sync::DropGuard;

use crate::{
    answer::{Answer, Response},
    body::{Body, BodyError, Frames},
    describe::{Description, schema},
    limits::COMMAND_BYTES_MAX,
    route::Request,
    scope::Bridge,
};

/// Names the version of the program on either side.
pub const PROGRAM_HEADER: HeaderName = HeaderName::from_static("lode-program");

/// The version of this program.
pub const PROGRAM: &str = env!("CARGO_PKG_VERSION");

/// A command under way.
pub type Run<'a> = Pin<Box<dyn Future<Output = Result<Outcome, Failure>> + Send + 'a>>;

/// What a gateway stands before: a node, or its double in tests.
pub trait Backend: Send + Sync + 'static {
    /// Carries out one command. It stops soon after the token of `events` is cancelled.
    fn run(&self, command: Command, events: EventSink) -> Run<'_>;

    /// What the home holds.
    fn reads(&self) -> &Reads;

    /// What fetches from peers what the home does not hold; nothing where there are no peers.
    fn fetcher(&self) -> Option<Fetcher> {
        None
    }

    /// Models of other hubs; nothing where none is asked.
    fn origins(&self) -> Option<Origins> {
        None
    }

    /// The tokens of the home; nothing where there can be none.
    fn tokens(&self) -> Option<&Tokens> {
        None
    }

    /// The home folder; nothing where nothing may be kept in it.
    fn home(&self) -> Option<&Path> {
        None
    }

    /// What takes uploads; nothing where none are taken.
    fn uploads(&self) -> Option<Uploads> {
        None
    }

    /// The collections of the home; nothing where there can be none.
    fn collections(&self) -> Option<Collections> {
        None
    }
}

impl Backend for Node {
    fn run(&self, command: Command, events: EventSink) -> Run<'_> {
        Box::pin(Self::run(self, command, events))
    }

    fn reads(&self) -> &Reads {
        Self::reads(self)
    }

    fn fetcher(&self) -> Option<Fetcher> {
        Some(Self::fetcher(self))
    }

    fn origins(&self) -> Option<Origins> {
        Some(Self::origins(self))
    }

    fn tokens(&self) -> Option<&Tokens> {
        Some(Self::tokens(self))
    }

    fn home(&self) -> Option<&Path> {
        Some(Self::home(self))
    }

    fn uploads(&self) -> Option<Uploads> {
        Some(Self::uploads(self))
    }

    fn collections(&self) -> Option<Collections> {
        Some(Self::collections(self))
    }
}

impl<B: Backend> Backend for Arc<B> {
    fn run(&self, command: Command, events: EventSink) -> Run<'_> {
        self.as_ref().run(command, events)
    }

    fn reads(&self) -> &Reads {
        self.as_ref().reads()
    }

    fn fetcher(&self) -> Option<Fetcher> {
        self.as_ref().fetcher()
    }

    fn origins(&self) -> Option<Origins> {
        self.as_ref().origins()
    }

    fn tokens(&self) -> Option<&Tokens> {
        self.as_ref().tokens()
    }

    fn uploads(&self) -> Option<Uploads> {
        self.as_ref().uploads()
    }

    fn collections(&self) -> Option<Collections> {
        self.as_ref().collections()
    }
}

/// Takes a command and streams what comes of it.
///
/// # Errors
/// None: failures are replies, so that the client reads one kind of answer.
pub async fn commands(bridge: Bridge, request: Request) -> Answer {
    if let Err(failure) = check_program(&request.headers) {
        return Ok(failed(StatusCode::CONFLICT, failure));
    }
    let command = match read_command(request).await {
        Ok(command) => command,
        Err((status, failure)) => return Ok(failed(status, failure)),
    };
    let gateway = Arc::clone(bridge.gateway());
    let cancel = gateway.stopping().child_token();
    let (sender, events) = mpsc::unbounded_channel();
    let sink = EventSink::new(sender, cancel.clone());
    let leave = cancel.drop_guard();
    let backend = Arc::clone(gateway.backend());
    let task = tokio::spawn(async move { backend.run(command, sink).await });
    let lines = Lines {
        events,
        task,
        reply: None,
        done: false,
        _leave: leave,
    };
    Ok(jsonl(StatusCode::OK, Body::of_frames(lines)))
}

pub(crate) fn describe_commands() -> Description {
    let statuses = [
        (200, "Events as they happen, then one reply, a line each."),
        (400, "The reply: this is no command."),
        (
            409,
            "The reply: a program of an incompatible version runs here.",
        ),
        (413, "The reply: a command has at most 1 MiB."),
    ];
    Description::lines(&[schema::<Event>(), schema::<Reply>()], &statuses)
        .takes::<Command>("One command of the program.")
        .asks(
            "Lode-Program",
            "The version of the program that asks. Without it, 409.",
        )
        .sends("Lode-Program", "The version of the program that answers.")
}

/// Whether a client of another version may be served: the same version up to what semantic
/// versioning calls compatible.
fn check_program(headers: &HeaderMap) -> Result<(), Failure> {
    let theirs = headers
        .get(PROGRAM_HEADER)
        .map(|value| value.to_str().unwrap_or("?"));
    match theirs {
        Some(theirs) if compatible(theirs, PROGRAM) => Ok(()),
        Some(theirs) => Err(Failure {
            kind: FailureKind::Refused,
            message: format!(
                "the node on this home runs lode {PROGRAM}, and this is lode {theirs}"
            ),
            advice: Some("stop the running node and start it with this version".to_owned()),
        }),
        None => Err(Failure {
            kind: FailureKind::Usage,
            message: format!(
                "a command names its program's version in the header {PROGRAM_HEADER}"
            ),
            advice: None,
        }),
    }
}

fn compatible(a: &str, b: &str) -> bool {
    let series = |version: &str| -> Option<(String, String)> {
        let mut numbers = version.split('.');
        let (major, minor) = (numbers.next()?, numbers.next()?);
        let minor = if major == "0" { minor } else { "" };
        Some((major.to_owned(), minor.to_owned()))
    };
    matches!((series(a), series(b)), (Some(a), Some(b)) if a == b)
}

async fn read_command(request: Request) -> Result<Command, (StatusCode, Failure)> {
    let usage = |status, message| {
        let kind = FailureKind::Usage;
        (
            status,
            Failure {
                kind,
                message,
                advice: None,
            },
        )
    };
    let body = Limited::new(request.body, COMMAND_BYTES_MAX)
        .collect()
        .await;
    let bytes = body.map_err(|error| match error.downcast_ref::<LengthLimitError>() {
        Some(_) => {
            let message = format!("a command has at most {COMMAND_BYTES_MAX} bytes");
            usage(StatusCode::PAYLOAD_TOO_LARGE, message)
        }
        None => usage(
            StatusCode::BAD_REQUEST,
            format!("the command did not arrive: {error}"),
        ),
    })?;
    serde_json::from_slice(&bytes.to_bytes())
        .map_err(|error| usage(StatusCode::BAD_REQUEST, format!("not a command: {error}")))
}

fn failed(status: StatusCode, error: Failure) -> Response {
    jsonl(status, Body::from(line(&Reply::Failed { error })))
}

fn jsonl(status: StatusCode, body: Body) -> Response {
    let mut response = hyper::Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/jsonl"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(PROGRAM_HEADER, HeaderValue::from_static(PROGRAM));
    response
}

fn line(value: &impl serde::Serialize) -> Bytes {
    let mut line = serde_json::to_vec(value).expect("events and replies are maps with text keys");
    line.push(b'\n');
    line.into()
}

/// Events as they happen, then the reply. Dropping it cancels the command.
struct Lines {
    events: mpsc::UnboundedReceiver<Event>,
    task: JoinHandle<Result<Outcome, Failure>>,
    reply: Option<Reply>,
    done: bool,
    _leave: DropGuard,
}

impl Frames for Lines {
    fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, BodyError>>> {
        if self.done {
            return Poll::Ready(None);
        }
        if self.reply.is_none()
            && let Poll::Ready(result) = Pin::new(&mut self.task).poll(cx)
        {
            self.reply = Some(match result {
                Ok(Ok(outcome)) => Reply::Done { outcome },
                Ok(Err(error)) => Reply::Failed { error },
                Err(error) => Reply::Failed {
                    error: Failure {
                        kind: FailureKind::Failed,
                        message: format!("the command broke off: {error}"),
                        advice: Some("this is a bug; the node's log says more".to_owned()),
                    },
                },
            });
        }
        // The reply exists, so no further event will: those sent before it go first.
        let next = match self.reply.is_some() {
            true => self.events.try_recv().ok(),
            false => match self.events.poll_recv(cx) {
                Poll::Ready(Some(event)) => Some(event),
                // Without a sender left, the task's end is what wakes.
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            },
        };
        Poll::Ready(match (next, self.reply.take()) {
            (Some(event), reply) => {
                self.reply = reply;
                Some(Ok(line(&event)))
            }
            (None, Some(reply)) => {
                self.done = true;
                Some(Ok(line(&reply)))
            }
            (None, None) => None,
        })
    }
}

/// The longest path that the kernel takes for a socket, in bytes.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Listens on `socket`, readable and writable by the owner alone. What a dead process left there is
/// replaced: the home's lock says that no live one has it.
///
/// # Errors
/// The folder cannot be written, or something other than a socket is there.
pub fn listen(socket: &Path) -> io::Result<UnixListener> {
    match std::fs::symlink_metadata(socket) {
        Ok(found) if found.file_type().is_socket() => std::fs::remove_file(socket)?,
        Ok(_) => {
            let message = format!("{} is there and is not a socket", socket.display());
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let short = Short::of(socket)?;
    let listener = UnixListener::bind(short.path())?;
    // The home is the owner's alone, and peers' uids are checked: nobody slips in before this line.
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Connects to the node that listens on `socket`, however long its path is.
///
/// # Errors
/// `NotFound` or `ConnectionRefused` when no node holds the home.
pub async fn connect(socket: &Path) -> io::Result<UnixStream> {
    let short = Short::of(socket)?;
    UnixStream::connect(short.path()).await
}

/// A path to a socket that fits the kernel's limit: through an open folder when the real one does not.
struct Short {
    path: PathBuf,
    _folder: Option<std::fs::File>,
}

impl Short {
    fn of(socket: &Path) -> io::Result<Self> {
        use std::os::{fd::AsRawFd, unix::ffi::OsStrExt};
        if socket.as_os_str().as_bytes().len() <= SOCKET_PATH_BYTES_MAX {
            return Ok(Self {
                path: socket.to_owned(),
                _folder: None,
            });
        }
        let (Some(folder), Some(name)) = (socket.parent(), socket.file_name()) else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "a socket is a file in a folder",
            ));
        };
        let folder = std::fs::File::open(folder)?;
        let path = Path::new("/proc/self/fd")
            .join(folder.as_raw_fd().to_string())
            .join(name);
        Ok(Self {
            path,
            _folder: Some(folder),
        })
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn versions_that_understand_each_other_are_served() {
        assert!(compatible("0.1.0", "0.1.7"));
        assert!(!compatible("0.1.0", "0.2.0"));
        assert!(compatible("1.2.0", "1.9.3"));
        assert!(!compatible("1.2.0", "2.2.0"));
        assert!(!compatible("", "0.1.0"));
        assert!(!compatible("?", "?"));
    }

    #[tokio::test]
    async fn a_socket_at_a_long_path_is_reached_and_is_the_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join("x".repeat(200));
        std::fs::create_dir(&home).unwrap();
        let socket = home.join("control.sock");
        let first = listen(&socket).unwrap();
        drop(first);
        let _second = listen(&socket).expect("a socket left behind is replaced");
        connect(&socket).await.unwrap();
        let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_file_in_the_sockets_place_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("control.sock");
        std::fs::write(&socket, "mine").unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let _enter = runtime.enter();
        assert_eq!(
            listen(&socket).unwrap_err().kind(),
            io::ErrorKind::AlreadyExists
        );
        assert_eq!(std::fs::read(&socket).unwrap(), b"mine");
    }
}
